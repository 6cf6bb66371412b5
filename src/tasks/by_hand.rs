//! What a decision about a deposit on hold comes to, for the two people who make it: the quotes of
//! its block, how far the price that passes is from them, and the credits that follow.
//!
//! Reads only, and computes by the functions that will price the deposit.

use alloy::primitives::B256;

use crate::domain::acts::{ActRow, Standing};
use crate::domain::chain_rules::ChainRules;
use crate::domain::compared::Compared;
use crate::domain::conversion::Leg;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::pricing::{Price, price};
use crate::domain::terms::NoPrice;
use crate::store::{DepositRow, Screening, Store, StoreError};

/// What a decision comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The price that passes beside those of the market; none where it is not about a price.
    pub given: Option<Compared>,
    /// The prices that the credits rest on.
    pub legs: Vec<(Leg, From)>,
    /// Pairs that it needs and that have no price yet.
    pub missing: Vec<String>,
    /// What the deposit is worth; none while a price is missing, or its token is not configured.
    pub priced: Option<Result<Price, NoPrice>>,
    /// What each check said last of the payment where it stands.
    pub said: Vec<Screening>,
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

/// What it comes to when this price of a pair passes for a deposit, or, without one, what the
/// deposit is worth by what is known.
pub async fn preview(
    store: &Store,
    rules: &ChainRules,
    deposit: &DepositRow,
    given: Option<Compared>,
) -> Result<Preview, StoreError> {
    let time_ms = deposit.block_time_ms;
    let said = said_last(store, deposit).await?;
    let mut this = Preview { given, legs: Vec::new(), missing: Vec::new(), priced: None, said };
    let Some(token) = rules.token(&deposit.token) else { return Ok(this) };
    for pair in rules.needed(&deposit.token, time_ms) {
        let leg = match (&this.given, rules.oracle.pair(&pair)) {
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

/// What each check said last of a deposit where it stands.
pub async fn said_last(store: &Store, deposit: &DepositRow) -> Result<Vec<Screening>, StoreError> {
    let mut last: Vec<Screening> = Vec::new();
    for said in store.screenings_of(deposit.id).await? {
        if said.block == deposit.block_hash {
            last.retain(|before| (&before.by, before.sender) != (&said.by, said.sender));
            last.push(said);
        }
    }
    Ok(last)
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
        act.proposed().is_some_and(|(proposed, _)| proposed == pair)
            && act.block_hash == block
            && act.standing(&acts) == Some(Standing::Waits)
    };
    Ok(acts.iter().find(waits).and_then(|act| {
        let (_, price) = act.proposed()?;
        Some((policy.leg(price, B256::ZERO), From::Proposed(act.id)))
    }))
}
