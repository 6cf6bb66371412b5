//! What one epoch says of one asset: how it is valued, from which amount on, and why it may have no price.

use serde::{Deserialize, Serialize};

use crate::domain::deposit::{HoldReason, IgnoreReason};
use crate::domain::money::{Rate, RawAmount};

/// How an asset turns into credits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "valuation", rename_all = "snake_case")]
pub enum Valuation {
    /// One whole token is one dollar.
    Par {
        /// Credits for a dollar.
        credits_per_usd: Rate,
    },
    /// One whole token gives a fixed number of credits.
    Fixed {
        /// Credits for a whole token.
        credits_per_token: Rate,
    },
    /// Worth its market price in dollars.
    Market {
        /// Credits for a dollar.
        credits_per_usd: Rate,
    },
    /// Converted at market price into an asset that the epoch accepts too, and worth what that is.
    Convert {
        /// The asset.
        into: String,
        /// Decimals of its tokens.
        into_decimals: u8,
    },
}

impl Valuation {
    /// The word stored with a price.
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Par { .. } => Rule::Par,
            Self::Fixed { .. } => Rule::Fixed,
            Self::Market { .. } => Rule::Market,
            Self::Convert { .. } => Rule::Convert,
        }
    }

    /// The rate that the rule itself has; a conversion takes that of what it converts into.
    pub const fn rate(&self) -> Option<Rate> {
        match self {
            Self::Par { credits_per_usd: rate }
            | Self::Market { credits_per_usd: rate }
            | Self::Fixed { credits_per_token: rate } => Some(*rate),
            Self::Convert { .. } => None,
        }
    }
}

/// The rule by which a payment was priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// [`Valuation::Par`].
    Par,
    /// [`Valuation::Fixed`].
    Fixed,
    /// [`Valuation::Market`].
    Market,
    /// [`Valuation::Convert`].
    Convert,
}

impl Rule {
    const ALL: [Self; 4] = [Self::Par, Self::Fixed, Self::Market, Self::Convert];

    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Par => "par",
            Self::Fixed => "fixed",
            Self::Market => "market",
            Self::Convert => "convert",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }

    /// True for rules that need market prices.
    pub const fn is_market(self) -> bool {
        matches!(self, Self::Market | Self::Convert)
    }
}

/// What happens to payments below the minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dust {
    /// Recorded, never credited.
    #[default]
    Ignore,
    /// Held until, with others of the same namespace, chain and token, it reaches the minimum.
    Accumulate,
}

impl Dust {
    /// The word used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Accumulate => "accumulate",
        }
    }
}

/// The terms for one asset in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How it turns into credits.
    #[serde(flatten)]
    pub valuation: Valuation,
    /// Smallest payment credited, in whole tokens.
    pub minimum: Option<Rate>,
    /// What happens below it.
    pub dust: Dust,
}

impl Terms {
    /// The smallest payment credited, in base units.
    pub fn minimum_raw(&self, decimals: u8) -> RawAmount {
        // The configuration made sure that the minimum is exact in every token's unit.
        self.minimum.and_then(|min| min.to_raw(decimals).ok()).unwrap_or_default()
    }

    /// True when `raw` is below the minimum.
    pub fn is_dust(&self, raw: RawAmount, decimals: u8) -> bool {
        raw < self.minimum_raw(decimals)
    }
}

/// Why there is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPrice {
    /// A rule stops it.
    Hold(HoldReason),
    /// It is worth nothing.
    Ignore(IgnoreReason),
}
