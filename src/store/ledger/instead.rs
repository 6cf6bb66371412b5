//! What a payment is worth instead of what it was credited with: by a price that somebody gives by hand, or by the
//! rules of another epoch.
//!
//! The prices that nobody changes are those that it was credited by, or were accepted at its block. Nothing is written
//! here, and nothing is known of the account.

use crate::domain::conversion::{Leg, needed};
use crate::domain::correction::{by_hand_hash, value_again};
use crate::domain::deposit::IgnoreReason;
use crate::domain::journal::Valued;
use crate::domain::money::{Nanocredits, Rate, RawAmount};
use crate::domain::oracle::Oracle;
use crate::domain::pricing::Epoch;
use crate::domain::terms::NoPrice;
use crate::planted::{Fault, planted};
use crate::store::acts::compared::policy_of;
use crate::store::db::Tx;
use crate::store::errors::StoreError;
use crate::store::ledger::RecordPlace;
use crate::store::ledger::corrections::{CreditedAs, epoch_of};
use crate::store::prices::market::price_at;

/// What somebody wants to have corrected.
#[derive(Debug, Clone, Copy)]
pub struct NewCorrection<'a> {
    /// The record whose credit is wrong.
    pub place: RecordPlace,
    /// A pair, and its price by hand.
    pub price: Option<(&'a str, Rate)>,
    /// The epoch whose rule counts; that of the credit where none is named.
    pub epoch: Option<&'a str>,
    /// What shows that it is wrong.
    pub evidence: &'a str,
}

/// Nothing is done, for this reason.
pub(in crate::store) fn refused<T>(why: String) -> Result<T, StoreError> {
    Err(StoreError::Refused(format!("{why}; nothing was written")))
}

/// What people call the record of a credit.
pub(in crate::store) fn name(credit: &CreditedAs) -> String {
    format!("{}/{}", credit.namespace, credit.place.seq)
}

/// What the payment is worth instead, by what is asked.
pub(in crate::store) async fn instead(
    tx: &mut Tx,
    oracle: &Oracle,
    credit: &CreditedAs,
    new: &NewCorrection<'_>,
) -> Result<Valued, StoreError> {
    let before = &credit.valued;
    let id = new.epoch.unwrap_or(&before.epoch);
    let Some((epoch, hash)) = epoch_of(tx, id).await? else {
        return refused(format!("there is no epoch {id}"));
    };
    let needed = pairs(oracle, before, &epoch);
    if let Some((pair, _)) = new.price
        && !needed.iter().any(|needed| needed == pair)
    {
        let needs = match needed.as_slice() {
            [] => "no price".to_owned(),
            all => format!("the price of {}", all.join(" and of ")),
        };
        return refused(format!("by epoch {id}, the payment needs {needs}, and none of {pair}"));
    }
    let mut legs = Vec::with_capacity(needed.len());
    for pair in &needed {
        legs.push(leg(tx, oracle, credit, new, pair).await?);
    }
    let again = value_again(before, (&epoch, hash), &legs).or_else(|none| {
        refused(format!(
            "by epoch {id}{}, the payment is not credited: {}",
            if legs.is_empty() { "" } else { " and these prices" },
            none_because(none)
        ))
    })?;
    if given_by(&again) == given_by(before) {
        return refused(format!("that is what record {} gave already", name(credit)));
    }
    Ok(again)
}

/// What somebody gets by a value: of two with the same, the second corrects nothing.
fn given_by(valued: &Valued) -> (&str, Nanocredits, Option<RawAmount>) {
    let into = valued.conversion.as_ref().and_then(|conversion| conversion.into.as_ref());
    (&valued.epoch, valued.credits_nano, into.map(|into| into.tokens))
}

const fn none_because(none: NoPrice) -> &'static str {
    match none {
        NoPrice::Hold(_) => "the credits would not fit",
        NoPrice::Ignore(IgnoreReason::NotAccepted) => "that epoch does not accept its token",
        NoPrice::Ignore(_) => "it is worth less than the smallest amount that is credited",
    }
}

/// The pairs whose prices the payment needs: by the same epoch the same as before.
fn pairs(oracle: &Oracle, before: &Valued, epoch: &Epoch) -> Vec<String> {
    if epoch.id == before.epoch {
        return before.legs().iter().map(|leg| leg.pair.clone()).collect();
    }
    let configured = |pair: &str| oracle.pair(pair).is_some();
    epoch
        .accept
        .get(&before.asset)
        .map_or_else(Vec::new, |terms| needed(&before.asset, terms, &epoch.accept, configured))
}

/// A price of the payment: by hand, as it was credited, or as it was accepted at its block.
async fn leg(
    tx: &mut Tx,
    oracle: &Oracle,
    credit: &CreditedAs,
    new: &NewCorrection<'_>,
    pair: &str,
) -> Result<Leg, StoreError> {
    if let Some((_, price)) = new.price.filter(|(by_hand, _)| *by_hand == pair) {
        let hash = by_hand_hash(credit.record_id, pair, price);
        return Ok(policy_of(oracle, pair)?.leg(price, hash));
    }
    let before = credit.valued.legs().iter().find(|leg| leg.pair == pair);
    if let Some(leg) = before.filter(|_| !planted(Fault::HandForgotten)) {
        return Ok(leg.clone());
    }
    let accepted = price_at(&mut *tx, pair, credit.at.chain.0, credit.at.block.hash).await?;
    match accepted {
        Some(found) => Ok(policy_of(oracle, pair)?.leg(found.accepted.price, found.accepted.hash)),
        None => refused(format!(
            "no price of {pair} was accepted at the payment's block: name it by --price {pair}=PRICE"
        )),
    }
}
