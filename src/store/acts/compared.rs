//! Prices that people let pass, beside what is stored of the market. Whoever decides is shown this
//! before, and it is looked at again in the transaction that writes the act.

use crate::domain::compared::{Base, Compared, Passes};
use crate::domain::ids::BlockRef;
use crate::domain::money::Rate;
use crate::domain::oracle::Oracle;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::policy::{Body, Past};
use crate::domain::oracle::reading::PriceInstant;
use crate::planted::{Fault, planted};
use crate::store::acts::breakers::Breaker;
use crate::store::acts::rows::vetoed;
use crate::store::db::Tx;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::prices::market::{day_before, last_price, passed, price_at};
use crate::store::prices::tries::tries;

impl Store {
    /// A price by hand for a deposit of this block, beside what the market said.
    pub async fn compared_by_hand(
        &self,
        policy: &PairPolicy,
        at: &PriceInstant,
        price: Rate,
    ) -> Result<Compared, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let compared = by_hand(&mut tx, policy, at, price).await?;
        Self::abandon(tx).await?;
        Ok(compared)
    }

    /// The price that sources say together at this block and that is held, beside the one before it;
    /// none where they say none.
    pub async fn compared_market(
        &self,
        policy: &PairPolicy,
        at: &PriceInstant,
    ) -> Result<Option<Compared>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let compared = of_market(&mut tx, policy, at).await?;
        Self::abandon(tx).await?;
        Ok(compared)
    }

    /// The price that opened a breaker, beside those before it.
    pub async fn compared_breaker(
        &self,
        policy: &PairPolicy,
        breaker: &Breaker,
    ) -> Result<Compared, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let compared = of_breaker(&mut tx, policy, breaker).await?;
        Self::abandon(tx).await?;
        Ok(compared)
    }
}

/// Refuses a number that was not said often enough.
pub(in crate::store) fn must_be_said(
    compared: Compared,
    repeated: Option<Rate>,
) -> Result<(), StoreError> {
    if compared.is_said(repeated) || planted(Fault::SaidOnce) {
        return Ok(());
    }
    Err(StoreError::NotSaidTwice { compared: Box::new(compared), repeated })
}

/// How a pair is priced; one that is not configured cannot be compared with anything.
pub(in crate::store) fn policy_of<'o>(
    oracle: &'o Oracle,
    pair: &str,
) -> Result<&'o PairPolicy, StoreError> {
    oracle.pair(pair).ok_or_else(|| {
        StoreError::Refused(format!(
            "{pair} is not configured: what its price comes to cannot be shown; nothing was written"
        ))
    })
}

/// A price by hand.
pub(in crate::store) async fn by_hand(
    tx: &mut Tx,
    policy: &PairPolicy,
    at: &PriceInstant,
    price: Rate,
) -> Result<Compared, StoreError> {
    let pair = &policy.pair;
    let quotes = match price_at(&mut *tx, pair, at.chain.0, at.block.hash).await? {
        Some(accepted) => Some((accepted.body()?, accepted.accepted_at_ms)),
        None => tried(tx, pair, at).await?,
    };
    let rejected = vetoed(&mut *tx, pair, at.chain.0, at.block.hash).await?;
    let of_block = quotes.as_ref().filter(|_| !rejected).and_then(|(body, _)| Base::said(body));
    let base = match of_block {
        Some(base) => Some(base),
        None => last(tx, pair, at.time_ms).await?,
    };
    let (passes, bound_bps) = (Passes::ByHand, policy.jump_max_bps);
    Ok(Compared { passes, pair: pair.clone(), price, quotes, rejected, base, bound_bps })
}

/// The market's price that is held.
pub(in crate::store) async fn of_market(
    tx: &mut Tx,
    policy: &PairPolicy,
    at: &PriceInstant,
) -> Result<Option<Compared>, StoreError> {
    let pair = &policy.pair;
    let Some(tried) = tried(tx, pair, at).await? else { return Ok(None) };
    let Some(price) = tried.0.median else { return Ok(None) };
    Ok(Some(Compared {
        passes: Passes::Market,
        pair: pair.clone(),
        price,
        quotes: Some(tried),
        rejected: false,
        base: last(tx, pair, at.time_ms).await?,
        bound_bps: policy.jump_max_bps,
    }))
}

/// The price that opened a breaker, and the bound that it is beyond.
pub(in crate::store) async fn of_breaker(
    tx: &mut Tx,
    policy: &PairPolicy,
    breaker: &Breaker,
) -> Result<Compared, StoreError> {
    let (pair, price) = (&policy.pair, breaker.price);
    let block = BlockRef { number: 0, hash: breaker.block_hash };
    let at = PriceInstant { chain: breaker.chain, block, time_ms: breaker.instant_ms };
    let quotes = tried(tx, pair, &at).await?;
    let last = last(tx, pair, at.time_ms).await?;
    let jump = u64::from(policy.jump_max_bps);
    let jumps = last.is_some_and(|last| price.distance_bps(last.price()) > jump);
    let day = day_median(tx, pair, at.time_ms).await?.map(Base::Day);
    let (base, bound_bps) = match day {
        Some(day) if !jumps => (Some(day), policy.day_max_bps),
        _ => (last, policy.jump_max_bps),
    };
    let (passes, rejected) = (Passes::Breaker, false);
    Ok(Compared { passes, pair: pair.clone(), price, quotes, rejected, base, bound_bps })
}

/// Why a pair has no price at a block, and when that was found.
async fn tried(
    tx: &mut Tx,
    pair: &str,
    at: &PriceInstant,
) -> Result<Option<(Body, i64)>, StoreError> {
    let all = tries(tx, at.chain, at.block.hash).await?;
    Ok(all.into_iter().find(|(body, _)| body.pair == pair))
}

/// The median of the prices of the day before, since one was let pass, as the breaker sees them.
async fn day_median(tx: &mut Tx, pair: &str, at_ms: i64) -> Result<Option<Rate>, StoreError> {
    let passed = passed(&mut *tx, pair, at_ms).await?;
    let day = day_before(&mut *tx, pair, at_ms, i64::MAX, false).await?;
    let (.., median) = Past { day, passed, ..Past::default() }.base(at_ms);
    Ok(median)
}

/// The newest price of the market, accepted or let pass, whatever its age.
async fn last(tx: &mut Tx, pair: &str, at_ms: i64) -> Result<Option<Base>, StoreError> {
    let accepted = last_price(&mut *tx, pair, at_ms).await?.map(|p| p.accepted);
    let passed = passed(&mut *tx, pair, at_ms).await?.map(|p| (p.instant_ms, p.price));
    let newest = accepted.map(|a| (a.instant_ms, a.price)).into_iter().chain(passed);
    Ok(newest
        .max_by_key(|(instant, _)| *instant)
        .map(|(instant, price)| Base::Last(price, instant)))
}
