//! Outcomes: what a cause did, which depends on the account as it was then.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cause::Unreadable;
use super::kind::Kind;
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

/// It is noted and moves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Addresses were bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// How many addresses the namespace has now.
    pub addresses: u64,
}

/// Where the account stands afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Balance after the record.
    pub balance_nano: Nanocredits,
    /// Debt after the record.
    pub debt_nano: Nanocredits,
}

/// A credit was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credited {
    /// What was given.
    pub credits_nano: Nanocredits,
    /// What of it repaid debt at once.
    pub repaid_nano: Nanocredits,
    /// What the new lot has after that.
    pub remaining_nano: Nanocredits,
    /// Tokens that its conversion owes; none without a conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed_tokens: Option<RawAmount>,
    /// What they are owed for; zero without a conversion.
    pub owed_usd_nano: Nanodollars,
}

/// A credit was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reversed {
    /// What its lot still had, which was taken.
    pub taken_nano: Nanocredits,
    /// What had been used, which is debt now.
    pub debt_added_nano: Nanocredits,
    /// Tokens of its conversion that the treasury had bought by then; none without a conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_tokens: Option<RawAmount>,
    /// What its conversion still owed in dollars, which is not owed any more.
    pub returned_usd_nano: Nanodollars,
}

/// A credit was undone and given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrected {
    /// What undoing it did.
    pub reversed: Reversed,
    /// What giving it again did then.
    pub credited: Credited,
}

/// A part of a conversion was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// What these tokens were owed for.
    pub owed_usd_nano: Nanodollars,
    /// What was paid for them.
    pub paid_usd_nano: Nanodollars,
    /// Tokens of the obligation that are settled now, with these.
    pub settled_tokens: RawAmount,
    /// Tokens of the purchase that have settled something now, with these.
    pub used_tokens: RawAmount,
}

/// What a cause did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of kinds that only note something.
    Noted,
    /// Of [`Kind::AddressesBound`].
    Bound(Bound),
    /// Of [`Kind::TreasurySettled`].
    Settled(Settled),
    /// Of [`Kind::DepositCredited`].
    Credited(Credited, Moved),
    /// Of [`Kind::DepositReversed`].
    Reversed(Reversed, Moved),
    /// Of [`Kind::DepositCorrected`].
    Corrected(Corrected, Moved),
}

/// What was done, and where the account stands then: one object.
#[derive(Serialize, Deserialize)]
struct And<T> {
    did: T,
    after: Moved,
}

impl Outcome {
    /// The text that is stored and sealed: JSON, its fields in declared order.
    pub fn to_json(&self, kind: Kind) -> Result<String, Unreadable> {
        match self {
            Self::Noted => serde_json::to_string(&Nothing {}),
            Self::Bound(did) => serde_json::to_string(did),
            Self::Settled(did) => serde_json::to_string(did),
            Self::Credited(did, after) => serde_json::to_string(&And { did, after: *after }),
            Self::Reversed(did, after) => serde_json::to_string(&And { did, after: *after }),
            Self::Corrected(did, after) => serde_json::to_string(&And { did, after: *after }),
        }
        .map_err(|e| Unreadable { what: "outcome", kind, why: e.to_string() })
    }

    /// Reads the text back. One that says the same in other words is not taken.
    ///
    /// # Errors
    /// [`Unreadable`], with the reason.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, Unreadable> {
        fn read<T: DeserializeOwned>(kind: Kind, text: &str) -> Result<T, Unreadable> {
            serde_json::from_str(text).map_err(|e| Unreadable {
                what: "outcome",
                kind,
                why: e.to_string(),
            })
        }
        let outcome = match kind {
            Kind::XpubRegistered
            | Kind::EpochAdded
            | Kind::PolicyAdded
            | Kind::Act
            | Kind::LogKey
            | Kind::LogResumed
            | Kind::NamespaceOpened => {
                let Nothing {} = read(kind, text)?;
                Self::Noted
            }
            Kind::AddressesBound => Self::Bound(read(kind, text)?),
            Kind::TreasurySettled => Self::Settled(read(kind, text)?),
            Kind::DepositCredited => {
                let And { did, after } = read(kind, text)?;
                Self::Credited(did, after)
            }
            Kind::DepositReversed => {
                let And { did, after } = read(kind, text)?;
                Self::Reversed(did, after)
            }
            Kind::DepositCorrected => {
                let And { did, after } = read(kind, text)?;
                Self::Corrected(did, after)
            }
        };
        if outcome.to_json(kind)? != text {
            let why = "it is not the text that this topupd writes".to_owned();
            return Err(Unreadable { what: "outcome", kind, why });
        }
        Ok(outcome)
    }
}
