//! What a price was decided on, as it is stored and hashed.
//!
//! Everything that [`super::policy::decide`] looked at and found is in a [`Body`], so that it can be
//! decided again. Nothing is computed here.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::domain::money::Rate;

/// The first formula, which differs from the next one in one thing: prices by hand counted as prices of
/// the past.
pub const FORMULA_WITH_HANDS: &str = "topupd/market/v1";
/// The one after that, which differs in one thing: the mean of a pool whose price of the moment was off
/// never counted.
pub const FORMULA_WITHOUT_AFTER: &str = "topupd/market/v2";

/// An accepted price, as something that later ones are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Its place among all accepted prices.
    pub seq: i64,
    /// Its hash.
    pub hash: B256,
    /// Its instant.
    pub instant_ms: i64,
    /// The price.
    pub price: Rate,
}

/// A price that an operator let pass though it tripped the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Instant of the price.
    pub instant_ms: i64,
    /// The price.
    pub price: Rate,
}

/// A source's part in a price. Stored; the price can be computed from it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Source.
    pub source: String,
    /// Venue.
    pub venue: String,
    /// It is a guard: it makes no price.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guard: bool,
    /// The stored answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_id: Option<B256>,
    /// What it says, in the pair's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Rate>,
    /// The time it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of_ms: Option<i64>,
    /// When the source was updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_ms: Option<i64>,
    /// Round, tick, second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its price of the moment was off, and it counts all the same: the stored answer that shows how it
    /// went on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_id: Option<B256>,
    /// Why it does not count; a survivor has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
}

/// What was decided of a pair at an instant, with everything it was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// [`super::policy::FORMULA`].
    pub formula: String,
    /// Pair.
    pub pair: String,
    /// Hash of the policy's text.
    pub policy_hash: B256,
    /// Chain of the block that is priced: a payment's, or one of the schedule.
    pub chain_id: u64,
    /// That block.
    pub block_hash: B256,
    /// That block's time.
    pub instant_ms: i64,
    /// Accepted prices of other pairs that answers were multiplied by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Via>,
    /// Each source's part.
    pub parts: Vec<Part>,
    /// The accepted price before it that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Accepted>,
    /// The median of the day before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_median: Option<Rate>,
    /// Accepted prices up to this one were looked at for the two.
    pub after_seq: i64,
    /// The price that an operator let pass, where it was compared with that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Passed>,
    /// The median of what survived, whether or not it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<Rate>,
    /// How far survivors are from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion_bps: Option<u64>,
    /// The act by which an operator accepted a stablecoin's price below its floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived_by: Option<i64>,
    /// Written by people instead of sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// The price; none while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Rate>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// A price by hand: proposed by one operator, approved by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manual {
    /// The act that proposed it, and the one that approved it.
    pub acts: [i64; 2],
    /// Who.
    pub proposed_by: String,
    /// Who else.
    pub approved_by: String,
}

impl Manual {
    /// The act that proposed it.
    pub const fn proposal(&self) -> i64 {
        let [proposal, _] = self.acts;
        proposal
    }
}

/// A price of another pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Via {
    /// Pair.
    pub pair: String,
    /// Its price.
    pub price: Rate,
    /// Hash of the accepted price.
    pub price_hash: B256,
}

impl Body {
    /// The text that is stored and hashed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The stored answers that it rests on.
    pub fn quote_ids(&self) -> impl Iterator<Item = B256> {
        self.parts.iter().flat_map(|p| [p.quote_id, p.after_id]).flatten()
    }

    /// Sources that survived, and make the price.
    pub fn survivors(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|p| p.rejected.is_none() && !p.guard)
    }

    /// The same, to reject some of them.
    pub(super) fn survivors_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        self.parts.iter_mut().filter(|p| p.rejected.is_none() && !p.guard)
    }
}
