//! Lots: parcels of credits, and what was paid for them.

use serde::{Deserialize, Serialize};

use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

/// What sort of credits a lot holds. Never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LotKind {
    /// Somebody paid for them.
    Paid,
    /// Given for a cause.
    Bonus,
    /// Without worth.
    Test,
}

impl LotKind {
    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Bonus => "bonus",
            Self::Test => "test",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Paid, Self::Bonus, Self::Test].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What was paid for a lot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consideration {
    /// Asset.
    pub asset: String,
    /// How much, base units.
    pub raw: RawAmount,
    /// Its decimals.
    pub decimals: u8,
    /// In dollars, rounded down; none where no rule says what the asset is in dollars.
    pub usd: Option<Nanodollars>,
}

/// A parcel of credits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lot {
    /// Its id: the place of the record that made it.
    pub seq: i64,
    /// What sort of credits.
    pub kind: LotKind,
    /// Lower is used first.
    pub priority: i64,
    /// What it may be used for; none is everything.
    pub scope: Option<String>,
    /// How many there were.
    pub amount: Nanocredits,
    /// How many are left: the amount and all moves of it.
    pub remaining: Nanocredits,
    /// Usable from this instant.
    pub effective_at_ms: i64,
    /// Until this instant; none is for ever.
    pub expires_at_ms: Option<i64>,
    /// What was paid for it, of a paid one.
    pub consideration: Option<Consideration>,
}
