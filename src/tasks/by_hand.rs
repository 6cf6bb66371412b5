//! What a decision about a deposit on hold comes to, for the two people who make it: the quotes of
//! its block, how far a price by hand is from them, and the credits that follow.
//!
//! Reads only, and computes by the functions that will price the deposit.

use alloy::primitives::B256;

use super::ChainRules;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::conversion::Leg;
use crate::domain::money::Rate;
use crate::domain::oracle::policy::{Body, PairPolicy, median};
use crate::domain::pricing::{NoPrice, Price, price};
use crate::store::{DepositRow, Store, StoreError};

/// What a decision comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The price by hand beside those of the market; none where no price is given.
    pub by_hand: Option<ByHand>,
    /// The prices that the credits rest on.
    pub legs: Vec<(Leg, From)>,
    /// Pairs that it needs and that have no price yet.
    pub missing: Vec<String>,
    /// What the deposit is worth; none while a price is missing, or its token is not configured.
    pub priced: Option<Result<Price, NoPrice>>,
}

/// Where a price is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// It is the one that is decided.
    This,
    /// Two operators gave it, by these acts.
    Approved([i64; 2]),
    /// It was accepted at the deposit's block.
    Market,
    /// This act proposes it, and it is not approved yet.
    Proposed(i64),
}

/// A price by hand beside those of the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// Pair.
    pub pair: String,
    /// The price by hand.
    pub price: Rate,
    /// What was decided of the pair at the deposit's block, with each source, and when.
    pub quotes: Option<(Body, i64)>,
    /// An operator rejected what sources said there.
    pub rejected: bool,
    /// What it is compared with; none where the pair never had a price.
    pub base: Option<Base>,
    /// Farthest that a price may be from the one before it, in basis points.
    pub bound_bps: u32,
}

/// What a price by hand is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The price that was accepted at its block.
    Accepted(Rate),
    /// The median of the quotes at its block.
    Median(Rate),
    /// There are no quotes at its block: the last price of the market before it, and its instant.
    Last(Rate, i64),
}

impl Base {
    /// The price.
    #[must_use]
    pub const fn price(self) -> Rate {
        match self {
            Self::Accepted(price) | Self::Median(price) | Self::Last(price, _) => price,
        }
    }
}

impl ByHand {
    /// How far it is from what it is compared with, in basis points.
    #[must_use]
    pub fn apart_bps(&self) -> Option<u64> {
        self.base.map(|base| self.price.distance_bps(base.price()))
    }

    /// True when whoever decides must repeat the number: it is farther off than prices may jump, or
    /// there is nothing that it could be compared with.
    #[must_use]
    pub fn is_beyond_the_bound(&self) -> bool {
        self.apart_bps().is_none_or(|apart| apart > u64::from(self.bound_bps))
    }
}

/// What it comes to when this price of a pair is approved for a deposit, or, without one, what the
/// deposit is worth by what is known.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn preview(
    store: &Store,
    rules: &ChainRules,
    deposit: &DepositRow,
    given: Option<(&str, Rate)>,
) -> Result<Preview, StoreError> {
    let by_hand = match given.and_then(|(pair, price)| Some((rules.oracle.pair(pair)?, price))) {
        Some((policy, price)) => Some(compared(store, policy, deposit, price).await?),
        None => None,
    };
    let time_ms = deposit.block_time_ms;
    let mut this = Preview { by_hand, legs: Vec::new(), missing: Vec::new(), priced: None };
    let Some(token) = rules.token(&deposit.token) else { return Ok(this) };
    for pair in rules.needed(&deposit.token, time_ms) {
        let leg = match (&this.by_hand, rules.oracle.pair(&pair)) {
            (Some(given), Some(policy)) if given.pair == pair => {
                Some((policy.leg(given.price, B256::ZERO), From::This))
            }
            (_, Some(policy)) => known(store, policy, deposit).await?,
            (_, None) => None,
        };
        match leg {
            Some(leg) => this.legs.push(leg),
            None => this.missing.push(pair),
        }
    }
    if this.missing.is_empty() {
        let legs: Vec<Leg> = this.legs.iter().map(|(leg, _)| leg.clone()).collect();
        this.priced = Some(price(deposit.raw, token, &rules.epochs, time_ms, &legs));
    }
    Ok(this)
}

/// A price by hand beside what the market said.
async fn compared(
    store: &Store,
    policy: &PairPolicy,
    deposit: &DepositRow,
    price: Rate,
) -> Result<ByHand, StoreError> {
    let (pair, chain, block) = (&policy.pair, deposit.chain, deposit.block_hash);
    let quotes = match store.market_price_at(pair, chain, block).await? {
        Some(accepted) => Some((accepted.body()?, accepted.accepted_at_ms)),
        None => {
            let tries = store.price_tries(chain, block).await?;
            tries.into_iter().find(|(body, _)| body.pair == *pair)
        }
    };
    let rejected = store.is_vetoed(pair, chain, block).await?;
    let of_block = quotes.as_ref().filter(|_| !rejected).and_then(|(body, _)| said(body));
    let base = match of_block {
        Some(base) => Some(base),
        None => last(store, pair, deposit.block_time_ms).await?,
    };
    let bound_bps = policy.jump_max_bps;
    Ok(ByHand { pair: pair.clone(), price, quotes, rejected, base, bound_bps })
}

/// What sources said together: those that count, or, where none does, all that said a price.
fn said(body: &Body) -> Option<Base> {
    let counting = || median(body.survivors().filter_map(|p| p.price).collect());
    let any = || median(body.parts.iter().filter_map(|p| p.price).collect());
    match body.price {
        Some(price) => Some(Base::Accepted(price)),
        None => body.median.or_else(counting).or_else(any).map(Base::Median),
    }
}

/// The newest price of the market, accepted or let pass, whatever its age.
async fn last(store: &Store, pair: &str, at_ms: i64) -> Result<Option<Base>, StoreError> {
    let accepted = store.last_market_price(pair, at_ms).await?.map(|p| p.accepted);
    let passed = store.passed(pair, at_ms).await?.map(|p| (p.instant_ms, p.price));
    let newest = accepted.map(|a| (a.instant_ms, a.price)).into_iter().chain(passed);
    Ok(newest
        .max_by_key(|(instant, _)| *instant)
        .map(|(instant, price)| Base::Last(price, instant)))
}

/// The price of a pair that a deposit has, or may get: by hand, of the market, or proposed.
async fn known(
    store: &Store,
    policy: &PairPolicy,
    deposit: &DepositRow,
) -> Result<Option<(Leg, From)>, StoreError> {
    let (pair, block) = (&policy.pair, deposit.block_hash);
    let by_hand = store.manual_prices(deposit.id, block).await?;
    if let Some(given) = by_hand.into_iter().find(|given| given.pair == *pair) {
        let leg = policy.leg(given.price, B256::ZERO);
        return Ok(Some((leg, From::Approved(given.manual.acts))));
    }
    let stands = store.market_price_at(pair, deposit.chain, block).await?;
    if let Some(stands) = stands.filter(|p| p.accepted.instant_ms == deposit.block_time_ms) {
        let of_its_day = store.policy(stands.body()?.policy_hash).await?;
        let leg = of_its_day.map(|p| p.leg(stands.accepted.price, stands.accepted.hash));
        return Ok(leg.map(|leg| (leg, From::Market)));
    }
    let acts = store.acts_of(deposit.id).await?;
    let waits = |act: &&ActRow| {
        act.pair.as_deref() == Some(pair)
            && act.block_hash == block
            && act.standing(&acts) == Some(Standing::Waits)
    };
    Ok(acts.iter().find(waits).and_then(|act| {
        let price = act.price.as_deref()?.parse().ok()?;
        Some((policy.leg(price, B256::ZERO), From::Proposed(act.id)))
    }))
}
