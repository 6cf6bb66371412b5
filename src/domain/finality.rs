//! When a payment is deep enough: a policy per chain, tiered by the payment's value.
//!
//! It decides on heights only. That the block is still canonical, and that the receipt agrees, are
//! separate facts, checked by whoever asks.

use alloy::primitives::U256;
use serde::{Serialize, Serializer};

use super::money::{Rate, RawAmount, TOKEN_DECIMALS_MAX};

/// What a block must have behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// This many blocks, the payment's own counted as the first.
    Confirmations(u64),
    /// The chain's `safe` tag has reached it (Ethereum execution API).
    Safe,
    /// The chain's `finalized` tag has reached it.
    Finalized,
}

impl std::fmt::Display for Finality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Confirmations(n) => write!(f, "{n} confirmations"),
            Self::Safe => f.write_str("safe"),
            Self::Finalized => f.write_str("finalized"),
        }
    }
}

impl Serialize for Finality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a receipt is checked before anything is credited on it.
///
/// How *deep* its block lies is no part of this: where two providers are configured, two must have the
/// very block, as deep as the policy asks, each in its own view, whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// By another provider than the one that showed the log.
    SecondProvider,
    /// Like that, or by any one whose receipts hash to the receipts root of a header that hashes to
    /// the block's hash: then nobody can have invented the log in that block.
    ReceiptsRoot,
    /// By whoever answers.
    SameProvider,
}

impl Verify {
    /// The word stored and configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecondProvider => "second-provider",
            Self::ReceiptsRoot => "receipts-root",
            Self::SameProvider => "same-provider",
        }
    }

    /// What is stored or configured.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::SecondProvider, Self::ReceiptsRoot, Self::SameProvider]
            .into_iter()
            .find(|way| way.as_str() == text)
    }
}

/// One line of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// Applies up to this value, inclusive; `None` means any value, and stands last.
    pub up_to_usd: Option<Rate>,
    /// What is asked of the block.
    pub finality: Finality,
}

/// A chain's tiers, cheapest first, the last one unbounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Policy(Vec<Tier>);

/// The heights a decision is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Canonical tip.
    pub latest: u64,
    /// Height of the `safe` block, where known.
    pub safe: Option<u64>,
    /// Height of the `finalized` block, where known.
    pub finalized: Option<u64>,
}

impl Policy {
    /// A policy, if its tiers make sense.
    ///
    /// # Errors
    /// A sentence naming what does not.
    pub fn new(tiers: Vec<Tier>) -> Result<Self, String> {
        let Some((last, bounded)) = tiers.split_last() else {
            return Err("must have at least one tier".into());
        };
        if last.up_to_usd.is_some() {
            return Err(
                "the last tier must have no up_to_usd, so that every payment has one".into()
            );
        }
        if bounded.iter().any(|t| t.up_to_usd.is_none()) {
            return Err("only the last tier may leave out up_to_usd".into());
        }
        if tiers.iter().any(|t| t.finality == Finality::Confirmations(0)) {
            return Err("confirmations must be at least 1 (the payment's own block)".into());
        }
        let rising = bounded.windows(2).all(|pair| match pair {
            [Tier { up_to_usd: Some(a), .. }, Tier { up_to_usd: Some(b), .. }] => a.is_below(*b),
            _ => true,
        });
        if !rising {
            return Err("tiers must be in rising order of up_to_usd".into());
        }
        Ok(Self(tiers))
    }

    /// The tiers, cheapest first.
    pub fn tiers(&self) -> &[Tier] {
        &self.0
    }

    /// The highest block that can be deep enough for the smallest payment, with such a tip; `None` for
    /// a chain that is too short. A tag may have reached any.
    pub fn earliest(&self, tip: u64) -> Option<u64> {
        let above = self.0.iter().map(|tier| match tier.finality {
            Finality::Confirmations(n) => n.saturating_sub(1),
            Finality::Safe | Finality::Finalized => 0,
        });
        tip.checked_sub(above.min()?)
    }

    /// What the largest payment must wait for.
    pub fn strictest(&self) -> Finality {
        // `new` made sure of an unbounded last tier; `finalized` is the strictest way to be wrong.
        self.0.last().map_or(Finality::Finalized, |t| t.finality)
    }

    /// What the payments of one transaction must wait for: their sum decides, so that a large
    /// payment gains nothing by being split within it. Each comes with its token's decimals when
    /// one token is taken as one dollar; if a value is not known in dollars, the last tier applies.
    pub fn finality_for(&self, payments: &[(RawAmount, Option<u8>)]) -> Finality {
        let sum = payments.iter().try_fold(U256::ZERO, |sum, (raw, decimals)| {
            let shift = TOKEN_DECIMALS_MAX.checked_sub((*decimals)?)?;
            let unit = U256::from(10).checked_pow(U256::from(shift))?;
            sum.checked_add(raw.0.checked_mul(unit)?)
        });
        let tier = self.0.iter().find(|tier| match (tier.up_to_usd, sum) {
            (None, _) => true,
            (Some(limit), Some(sum)) => limit.covers(RawAmount(sum), TOKEN_DECIMALS_MAX),
            (Some(_), None) => false,
        });
        tier.map_or_else(|| self.strictest(), |t| t.finality)
    }
}

impl Finality {
    /// The lowest tip with which a block is deep enough, where blocks are counted; `None` for a tag.
    pub const fn tip_for(self, number: u64) -> Option<u64> {
        match self {
            Self::Confirmations(wanted) => Some(number.saturating_add(wanted.saturating_sub(1))),
            Self::Safe | Self::Finalized => None,
        }
    }

    /// True when a block at `number` satisfies this. A tag that is not known satisfies nothing.
    pub fn reached(self, number: u64, heads: Heads) -> bool {
        match self {
            Self::Confirmations(wanted) => confirmations(number, heads.latest) >= wanted,
            Self::Safe => heads.safe.is_some_and(|safe| number <= safe),
            Self::Finalized => heads.finalized.is_some_and(|finalized| number <= finalized),
        }
    }
}

/// Confirmations of a block: 1 for the tip itself, 0 for a block above it.
pub fn confirmations(number: u64, latest: u64) -> u64 {
    latest.checked_sub(number).map_or(0, |depth| depth.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new(vec![
            Tier { up_to_usd: Some("100".parse().unwrap()), finality: Finality::Confirmations(3) },
            Tier {
                up_to_usd: Some("1000.5".parse().unwrap()),
                finality: Finality::Confirmations(12),
            },
            Tier { up_to_usd: None, finality: Finality::Finalized },
        ])
        .unwrap()
    }

    #[test]
    fn tiers_by_value() {
        let table = [
            (100_000_000, Some(6), Finality::Confirmations(3)),
            (100_000_001, Some(6), Finality::Confirmations(12)),
            (1_000_500_000, Some(6), Finality::Confirmations(12)),
            (1_000_500_001, Some(6), Finality::Finalized),
            (1, None, Finality::Finalized),
            (1000, Some(0), Finality::Confirmations(12)),
            (1001, Some(0), Finality::Finalized),
        ];
        for (raw, decimals, expected) in table {
            let got = policy().finality_for(&[(RawAmount(U256::from(raw)), decimals)]);
            assert_eq!(got, expected, "{raw} {decimals:?}");
        }
        for huge in [Some(0), Some(36), None] {
            let got = policy().finality_for(&[(RawAmount(U256::MAX), huge)]);
            assert_eq!(got, Finality::Finalized);
        }
        // 60 + 60 dollars in one transaction, of tokens with different decimals.
        let sixty = |decimals: u8| {
            let unit = U256::from(10).pow(U256::from(decimals));
            (RawAmount(U256::from(60) * unit), Some(decimals))
        };
        assert_eq!(policy().finality_for(&[sixty(6)]), Finality::Confirmations(3));
        assert_eq!(policy().finality_for(&[sixty(6), sixty(18)]), Finality::Confirmations(12));
    }

    #[test]
    fn reached_table() {
        let heads = Heads { latest: 100, safe: Some(90), finalized: None };
        let table = [
            (Finality::Confirmations(1), 100, true),
            (Finality::Confirmations(1), 101, false),
            (Finality::Confirmations(12), 89, true),
            (Finality::Confirmations(12), 90, false),
            (Finality::Safe, 90, true),
            (Finality::Safe, 91, false),
            (Finality::Finalized, 0, false),
        ];
        for (finality, number, expected) in table {
            assert_eq!(finality.reached(number, heads), expected, "{finality} {number}");
        }
    }

    #[test]
    fn senseless_policies_are_refused() {
        let open = Tier { up_to_usd: None, finality: Finality::Safe };
        let to = |usd: &str| Tier {
            up_to_usd: Some(usd.parse().unwrap()),
            finality: Finality::Confirmations(1),
        };
        let none = Tier { up_to_usd: None, finality: Finality::Confirmations(0) };
        for bad in
            [vec![], vec![to("1")], vec![open, open], vec![to("2"), to("1"), open], vec![none]]
        {
            assert!(Policy::new(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
