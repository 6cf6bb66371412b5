//! How a pair is priced, and what the answers of its sources have in common: median, spread, outliers.

use std::collections::BTreeSet;

use alloy::primitives::{B256, U512};
use serde::{Deserialize, Serialize};

use crate::domain::conversion::Leg;
use crate::domain::deposit::HoldReason;
use crate::domain::money::Rate;
use crate::domain::oracle::body::{Body, Part};
use crate::domain::oracle::reading::{Reading, Reject};
use crate::domain::oracle::source::SourceSpec;

/// 3 × 1.4826, which makes a deviation of the MAD, in ten-thousandths.
pub(super) const MAD_FACTOR: u64 = 44_478;

pub(super) const TEN_THOUSAND: u64 = 10_000;

/// How a pair, such as `USDC/USD`, is priced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPolicy {
    /// `BASE/QUOTE`.
    pub pair: String,
    /// The base is a stablecoin: worth at most one, and held below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_below: Option<Rate>,
    /// Least number of sources that survive.
    pub quorum: u32,
    /// No answer this close to the median is an outlier, in basis points.
    pub outlier_floor_bps: u32,
    /// Farthest that survivors may be from each other, in basis points of the median.
    pub dispersion_max_bps: u32,
    /// Farthest that the times of survivors may be from each other.
    pub spread_max_s: u32,
    /// Farthest from the last accepted price, in basis points, ...
    pub jump_max_bps: u32,
    /// ... when that is at most this old.
    pub jump_window_s: u32,
    /// Farthest from the median of the day before.
    pub day_max_bps: u32,
    /// Who is asked, in this order.
    pub sources: Vec<SourceSpec>,
}

impl PairPolicy {
    /// The text that is stored and hashed.
    pub fn body(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The pairs whose prices are needed before this one.
    pub fn needs(&self) -> BTreeSet<&str> {
        self.sources.iter().filter_map(|s| s.via.as_deref()).collect()
    }

    /// What an accepted price counts for in a conversion: a stablecoin is worth one at most.
    pub fn applied(&self, price: Rate) -> Rate {
        if self.hold_below.is_some() { price.min(Rate::ONE) } else { price }
    }

    /// An accepted price as a conversion uses it.
    pub fn leg(&self, price: Rate, price_hash: B256) -> Leg {
        Leg { pair: self.pair.clone(), price, applied: self.applied(price), price_hash }
    }
}

/// What is known of a source for an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// It says something; with the id of the stored answer, for those that have one.
    Read(Option<B256>, Result<Reading, Reject>),
    /// It was rejected, and says something all the same ([`Reject::mean`]); with what is known of how it
    /// went on.
    Doubted(Option<B256>, Reject, Box<Self>),
    /// It may still say something.
    NotYet(String),
    /// It says nothing, and nothing is expected of it.
    Missing(String),
}

/// What follows from the readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This price, by this body.
    Accepted(Rate),
    /// A source may still answer.
    Wait(String),
    /// It depends on how a source goes on, which is not known yet.
    Later(String),
    /// There is none.
    Hold(HoldReason, String),
}

/// Why the time that an answer stands for is too far from the instant, if it is.
pub(super) fn spread(policy: &PairPolicy, part: &Part, instant_ms: i64) -> Option<String> {
    let off = part.as_of_ms.unwrap_or(0).saturating_sub(instant_ms).saturating_abs();
    let seconds = off.checked_div(1_000).unwrap_or(0);
    (off > i64::from(policy.spread_max_s).saturating_mul(1_000))
        .then(|| format!("spread: {seconds} s from the payment"))
}

pub(super) fn is_dated(policy: &PairPolicy, part: &Part) -> bool {
    policy.sources.iter().find(|s| s.name == part.source).is_some_and(SourceSpec::is_dated)
}

pub(super) fn survivors(body: &Body) -> Vec<Rate> {
    body.survivors().filter_map(|p| p.price).collect()
}

/// Why too few are left, with what each of the others lacks.
pub(super) fn short(policy: &PairPolicy, body: &Body) -> Outcome {
    let lacking: Vec<String> = body
        .parts
        .iter()
        .filter_map(|p| Some(format!("{}: {}", p.source, p.rejected.as_ref()?)))
        .collect();
    let why = format!(
        "{} of {} wanted sources answer for {}; {}",
        body.survivors().count(),
        policy.quorum,
        policy.pair,
        lacking.join("; ")
    );
    Outcome::Hold(HoldReason::NoPrice, why)
}

/// The median; of an even number, halfway between the two in the middle, rounded down.
pub fn median(mut prices: Vec<Rate>) -> Option<Rate> {
    prices.sort_unstable();
    let middle = prices.len().checked_div(2)?;
    let upper = *prices.get(middle)?;
    if prices.len() % 2 == 1 {
        return Some(upper);
    }
    upper.midpoint_rounded_down(*prices.get(middle.checked_sub(1)?)?)
}

pub(super) fn difference(a: Rate, b: Rate) -> Rate {
    a.minus(b).or_else(|| b.minus(a)).unwrap_or(Rate::FAR)
}

/// A difference in basis points of a price, rounded up.
pub(super) fn bps_of(difference: Rate, price: Rate) -> u64 {
    price.plus(difference).map_or(u64::MAX, |sum| sum.distance_bps(price))
}

/// Further from the median than three deviations, and than the floor.
pub(super) fn is_outlier(price: Rate, median: Rate, mad: Rate, floor_bps: u32) -> bool {
    let off = difference(price, median);
    let exceeds = |base: Rate, factor: u64| match off.aligned(base) {
        Some((off, base)) => {
            off.checked_mul(U512::from(TEN_THOUSAND)) > base.checked_mul(U512::from(factor))
        }
        None => true,
    };
    exceeds(mad, MAD_FACTOR) && exceeds(median, u64::from(floor_bps))
}
