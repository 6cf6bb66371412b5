//! The kinds of what people decide. Each has one word, which is stored, hashed and shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an act does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActKind {
    /// What waits for an answer is asked again at once.
    Retry,
    /// The market's price passes, though a stablecoin is below its floor.
    AcceptMarket,
    /// A price by hand, for another person to approve.
    ProposePrice,
    /// That price is approved.
    ApprovePrice,
    /// A payment shall be credited all the same.
    ProposeRelease,
    /// That is approved.
    ApproveRelease,
    /// A credit shall be undone and given again.
    ProposeCorrection,
    /// That is approved.
    ApproveCorrection,
    /// What left our addresses does not hold the payment any more.
    AcceptOutflows,
    /// A proposal is taken back.
    Withdraw,
    /// Prices of a pair are taken again after one that moved too far.
    ResumeBreaker,
    /// A price that opened a latch is never to pass.
    VetoPrice,
}

/// A word that is no kind of act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of act")]
pub struct UnknownAct(String);

impl ActKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Retry,
        Self::AcceptMarket,
        Self::ProposePrice,
        Self::ApprovePrice,
        Self::ProposeRelease,
        Self::ApproveRelease,
        Self::ProposeCorrection,
        Self::ApproveCorrection,
        Self::AcceptOutflows,
        Self::Withdraw,
        Self::ResumeBreaker,
        Self::VetoPrice,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::AcceptMarket => "accept_market",
            Self::ProposePrice => "propose_price",
            Self::ApprovePrice => "approve_price",
            Self::ProposeRelease => "propose_release",
            Self::ApproveRelease => "approve_release",
            Self::ProposeCorrection => "propose_correction",
            Self::ApproveCorrection => "approve_correction",
            Self::AcceptOutflows => "accept_outflows",
            Self::Withdraw => "withdraw",
            Self::ResumeBreaker => "resume_breaker",
            Self::VetoPrice => "veto_price",
        }
    }

    /// True for what another person must approve.
    pub const fn is_proposal(self) -> bool {
        matches!(self, Self::ProposePrice | Self::ProposeRelease | Self::ProposeCorrection)
    }
}

impl FromStr for ActKind {
    type Err = UnknownAct;

    fn from_str(word: &str) -> Result<Self, UnknownAct> {
        let found = Self::ALL.iter().copied().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| UnknownAct(word.to_owned()))
    }
}

impl fmt::Display for ActKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ActKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ActKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_its_word_and_no_other_word_is_one() {
        for kind in ActKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(kind.is_proposal(), kind.as_str().starts_with("propose_"));
        }
        assert!("approve".parse::<ActKind>().is_err());
    }
}
