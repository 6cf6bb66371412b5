//! One price of several readings, or why there is none.
//!
//! Median, with outliers rejected by the median absolute deviation and an absolute floor: filters by
//! standard deviation cannot reject anything with three sources, because no point of n is further
//! than √(n−1) of them away. What counts is how many *survive*. It fails closed: every doubt is a
//! hold.

mod doubted;
pub mod pair;
mod past;
mod warnings;

use std::collections::BTreeSet;

use alloy::primitives::B256;

use crate::domain::deposit::HoldReason;
use crate::domain::money::Rate;
use crate::domain::oracle::policy::pair::{
    Input, Outcome, PairPolicy, bps_of, difference, is_dated, is_outlier, median, short, spread,
    survivors,
};
use crate::domain::oracle::reading::{AHEAD_MAX_MS, PriceInstant, Reading, Reject};
use crate::domain::oracle::source::SourceSpec;
use crate::domain::seal::Canonical;

pub use super::body::{
    Accepted, Body, FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER, Manual, Part, Passed, Via,
};
pub use past::Past;

/// Which rules a price was decided by; part of every price.
pub const FORMULA: &str = "topupd/market/v3";

/// How far back the day's median goes.
pub const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What sources say together, before it is compared with what was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighed {
    /// What was found so far.
    pub body: Body,
    /// Their price, or what follows from there being none.
    price: Result<Rate, Outcome>,
}

/// One price of a pair at an instant.
///
/// `inputs` are in the order of the policy's sources.
pub fn decide(
    policy: &PairPolicy,
    at: &PriceInstant,
    inputs: &[Input],
    via: &[Via],
    past: &Past,
) -> (Body, Outcome) {
    weigh(policy, at, inputs, via).compared(policy, past)
}

/// The first half of [`decide`], which knows nothing of the past.
pub fn weigh(policy: &PairPolicy, at: &PriceInstant, inputs: &[Input], via: &[Via]) -> Weighed {
    let mut body = Body {
        formula: FORMULA.to_owned(),
        pair: policy.pair.clone(),
        policy_hash: crate::domain::oracle::policy::policy_hash(&policy.body()),
        chain_id: at.chain.0,
        block_hash: at.block.hash,
        instant_ms: at.time_ms,
        via: via.to_vec(),
        parts: policy
            .sources
            .iter()
            .zip(inputs)
            .map(|(source, input)| part(source, input, via, at))
            .collect(),
        last: None,
        day_median: None,
        after_seq: 0,
        passed: None,
        median: None,
        dispersion_bps: None,
        waived_by: None,
        manual: None,
        price: None,
        held: None,
    };
    let waits = policy.sources.iter().zip(inputs).find_map(|(source, input)| match input {
        Input::NotYet(why) => Some(format!("{}: {why}", source.name)),
        _ => None,
    });
    let price = match waits {
        Some(why) => Err(Outcome::Wait(why)),
        None => agreed(policy, &mut body, inputs),
    };
    Weighed { body, price }
}

impl Weighed {
    /// True when there is a price to compare; without one, the past changes nothing.
    pub const fn has_price(&self) -> bool {
        self.price.is_ok()
    }

    /// True when it depends on how a source went on.
    pub const fn is_later(&self) -> bool {
        matches!(self.price, Err(Outcome::Later(_)))
    }

    /// The second half of [`decide`].
    pub fn compared(self, policy: &PairPolicy, past: &Past) -> (Body, Outcome) {
        let mut body = self.body;
        let outcome = self
            .price
            .map_or_else(|without| without, |price| compare(policy, &mut body, price, past));
        match &outcome {
            Outcome::Accepted(price) => body.price = Some(*price),
            Outcome::Hold(_, why) | Outcome::Wait(why) | Outcome::Later(why) => {
                body.held = Some(why.clone());
            }
        }
        (body, outcome)
    }
}

/// A source's answer in the pair's unit.
fn part(source: &SourceSpec, input: &Input, via: &[Via], at: &PriceInstant) -> Part {
    let (quote_id, reading, doubt) = match input {
        Input::Read(id, reading) => (*id, reading.clone(), None),
        Input::Doubted(id, doubt, _) => {
            let mean = doubt.mean.as_deref().cloned();
            (*id, mean.ok_or_else(|| doubt.clone()), Some(doubt.to_string()))
        }
        Input::NotYet(why) => (None, Err(Reject::new("not_yet", why.clone())), None),
        Input::Missing(why) => (None, Err(Reject::new("missing", why.clone())), None),
    };
    let reading = reading.and_then(|reading| {
        if reading.updated_ms > at.time_ms.max(reading.as_of_ms).saturating_add(AHEAD_MAX_MS) {
            return Err(Reject::new("future", "it is updated later than it was asked"));
        }
        let Some(pair) = &source.via else { return Ok(reading) };
        let other = via.iter().find(|v| v.pair == *pair);
        let other = other.ok_or_else(|| Reject::new("missing", format!("no price of {pair}")))?;
        let price = reading.price.times_rounded_down(other.price).filter(|p| !p.is_zero());
        let price = price.ok_or_else(|| Reject::new("unreadable", "the price is out of range"))?;
        Ok(Reading { price, ..reading })
    });
    let (source, venue, guard) = (source.name.clone(), source.venue.clone(), source.guard);
    match reading {
        Ok(reading) => Part {
            source,
            venue,
            guard,
            quote_id,
            price: Some(reading.price),
            as_of_ms: Some(reading.as_of_ms),
            updated_ms: Some(reading.updated_ms),
            detail: Some(reading.detail),
            after_id: None,
            rejected: doubt,
        },
        Err(reject) => Part {
            source,
            venue,
            guard,
            quote_id,
            price: None,
            as_of_ms: None,
            updated_ms: None,
            detail: None,
            after_id: None,
            rejected: Some(reject.to_string()),
        },
    }
}

/// The median of what survives.
fn agreed(policy: &PairPolicy, body: &mut Body, inputs: &[Input]) -> Result<Rate, Outcome> {
    let mut venues = BTreeSet::new();
    for part in body.survivors_mut() {
        if !venues.insert(part.venue.clone()) {
            part.rejected = Some(format!("same_venue: {} counts once", part.venue));
        }
    }
    // From the instant, and not from each other: one that comes late must not evict the others.
    let instant_ms = body.instant_ms;
    for part in body.parts.iter_mut().filter(|p| p.rejected.is_none()) {
        if let Some(why) = spread(policy, part, instant_ms) {
            part.rejected = Some(why);
        }
    }
    undated_count_once(policy, body);
    let median = median(survivors(body)).ok_or_else(|| short(policy, body))?;
    let deviations = survivors(body).iter().map(|p| difference(*p, median)).collect();
    // Without one nothing is an outlier, and the dispersion below holds what is that far apart.
    let mad = crate::domain::oracle::policy::pair::median(deviations).unwrap_or(Rate::FAR);
    for part in body.survivors_mut() {
        let Some(price) = part.price else { continue };
        if is_outlier(price, median, mad, policy.outlier_floor_bps) {
            let apart = price.distance_bps(median);
            part.rejected = Some(format!("outlier: {apart} bp from the median {median}"));
        }
    }
    if survivors(body).len() < usize::try_from(policy.quorum).unwrap_or(usize::MAX) {
        doubted::make_up(policy, body, inputs)?;
    }
    let left = survivors(body);
    let price = crate::domain::oracle::policy::pair::median(left.clone())
        .ok_or_else(|| short(policy, body))?;
    body.median = Some(price);
    let lowest = left.iter().min().copied().unwrap_or(price);
    let highest = left.iter().max().copied().unwrap_or(price);
    let dispersion = difference(highest, lowest);
    let dispersion_bps = bps_of(dispersion, price);
    body.dispersion_bps = Some(dispersion_bps);
    if dispersion_bps > u64::from(policy.dispersion_max_bps) {
        let why = format!(
            "sources are {dispersion_bps} bp apart, from {lowest} to {highest}; at most {} are allowed",
            policy.dispersion_max_bps
        );
        return Err(Outcome::Hold(HoldReason::PricesDisagree, why));
    }
    guarded(policy, body, inputs, price)?;
    Ok(price)
}

/// Guards see to a price without making it: each that answers must be near it, and one of them must
/// answer, because a guard that can be silenced guards nothing.
fn guarded(
    policy: &PairPolicy,
    body: &mut Body,
    inputs: &[Input],
    price: Rate,
) -> Result<(), Outcome> {
    let guards = || body.parts.iter().filter(|p| p.guard);
    let most = policy.dispersion_max_bps;
    let mut saw = false;
    for (part, says) in
        guards().filter(|p| p.rejected.is_none()).filter_map(|p| Some((p, p.price?)))
    {
        saw = true;
        let apart = says.distance_bps(price);
        if apart > u64::from(most) {
            let why = format!(
                "the guard {} says {says}, {apart} bp from {price}; at most {most} are allowed",
                part.source
            );
            return Err(Outcome::Hold(HoldReason::PricesDisagree, why));
        }
    }
    if saw || guards().next().is_none() || doubted::guards(policy, body, inputs, price)? {
        return Ok(());
    }
    let guards = body.parts.iter().filter(|p| p.guard);
    let lacking: Vec<String> =
        guards.filter_map(|p| Some(format!("{}: {}", p.source, p.rejected.as_ref()?))).collect();
    let why = format!("no guard of {} answers; {}", policy.pair, lacking.join("; "));
    Err(Outcome::Hold(HoldReason::NoPrice, why))
}

/// A ticker that does not say of when its price is may be frozen, and two of them may agree on what
/// was: all of those count once, and not without one that says.
fn undated_count_once(policy: &PairPolicy, body: &mut Body) {
    let mut room = usize::from(body.survivors().any(|part| is_dated(policy, part)));
    for part in body.survivors_mut() {
        if is_dated(policy, part) {
            continue;
        }
        match room.checked_sub(1) {
            Some(left) => room = left,
            None => {
                let why =
                    "undated: it does not say of when it is, and others do not make up for it";
                part.rejected = Some(why.to_owned());
            }
        }
    }
}

/// The breaker, and the stablecoin's floor.
fn compare(policy: &PairPolicy, body: &mut Body, price: Rate, past: &Past) -> Outcome {
    body.after_seq = past.newest_seq;
    // Before the breaker: a stablecoin that falls must not stop everything that is priced by it.
    if let Some(floor) = policy.hold_below.filter(|floor| price < *floor) {
        if past.waived_by.is_none() {
            let why = format!("{} is at {price}, below {floor}", policy.pair);
            return Outcome::Hold(HoldReason::Depegged, why);
        }
        body.waived_by = past.waived_by;
        return Outcome::Accepted(price);
    }
    if let Some(why) = &past.latched {
        return Outcome::Hold(HoldReason::Breaker, format!("the breaker is open: {why}"));
    }
    let at_ms = body.instant_ms;
    let (passed, day, day_median) = past.base(at_ms);
    (body.passed, body.last, body.day_median) = (passed, day.last().copied(), day_median);
    let window_ms = i64::from(policy.jump_window_s).saturating_mul(1_000);
    let last = body
        .last
        .map(|a| (a.instant_ms, a.price))
        .or(passed.map(|p| (p.instant_ms, p.price)))
        .filter(|(instant, _)| at_ms.saturating_sub(*instant) <= window_ms);
    for (base, most, what) in [
        (last.map(|(_, price)| price), policy.jump_max_bps, "the last accepted price"),
        (body.day_median, policy.day_max_bps, "the median of the day before"),
    ] {
        let Some(base) = base else { continue };
        let apart = price.distance_bps(base);
        if apart > u64::from(most) {
            let why =
                format!("{price} is {apart} bp from {what}, {base}; at most {most} are allowed");
            return Outcome::Hold(HoldReason::Breaker, why);
        }
    }
    Outcome::Accepted(price)
}

/// The hash under which a price names its policy.
pub fn policy_hash(body: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/price-policy/v1");
    bytes.text(body);
    bytes.finish()
}

#[cfg(test)]
mod tests;
