//! The kinds of records: whose journal each belongs to, and which units it moves.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Unit, balanced};

/// What sort of thing a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// House: an extended public key from which addresses are derived.
    XpubRegistered,
    /// House: a dated pricing rule.
    EpochAdded,
    /// House: a policy for accepting prices.
    PolicyAdded,
    /// House: what an operator decided.
    Act,
    /// House: the key that signs the log's checkpoints.
    LogKey,
    /// House: the log goes on under a new origin.
    LogResumed,
    /// House: a part of what a conversion owes was bought by the treasury.
    TreasurySettled,
    /// Namespace: the first record of its journal.
    NamespaceOpened,
    /// Namespace: deposit addresses that are its own for ever.
    AddressesBound,
    /// Namespace: a deposit became credits.
    DepositCredited,
    /// Namespace: such a credit was undone, because its block is not canonical any more.
    DepositReversed,
    /// Namespace: such a credit was undone and given again by two people, at another amount.
    DepositCorrected,
}

/// A kind that this program does not know. It is never taken for another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of record that this topupd knows")]
pub struct UnknownKind(pub String);

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::XpubRegistered,
        Self::EpochAdded,
        Self::PolicyAdded,
        Self::Act,
        Self::LogKey,
        Self::LogResumed,
        Self::TreasurySettled,
        Self::NamespaceOpened,
        Self::AddressesBound,
        Self::DepositCredited,
        Self::DepositReversed,
        Self::DepositCorrected,
    ];

    /// The word stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XpubRegistered => "xpub_registered",
            Self::EpochAdded => "epoch_added",
            Self::PolicyAdded => "policy_added",
            Self::Act => "act",
            Self::LogKey => "log_key",
            Self::LogResumed => "log_resumed",
            Self::TreasurySettled => "treasury_settled",
            Self::NamespaceOpened => "namespace_opened",
            Self::AddressesBound => "addresses_bound",
            Self::DepositCredited => "deposit_credited",
            Self::DepositReversed => "deposit_reversed",
            Self::DepositCorrected => "deposit_corrected",
        }
    }

    /// Reads the word back.
    ///
    /// # Errors
    /// [`UnknownKind`], with the word.
    pub fn parse(word: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownKind(word.to_owned()))
    }

    /// True for kinds of the house's journal; all others belong to a namespace's.
    pub const fn is_of_house(self) -> bool {
        matches!(
            self,
            Self::XpubRegistered
                | Self::EpochAdded
                | Self::PolicyAdded
                | Self::Act
                | Self::LogKey
                | Self::LogResumed
                | Self::TreasurySettled
        )
    }

    /// The units in which it has entries. The first one always moves, the others may; a kind without any
    /// has no entries.
    pub const fn units(self) -> &'static [Unit] {
        match self {
            Self::DepositCredited | Self::DepositReversed | Self::DepositCorrected => {
                &[Unit::Credits, Unit::Usd]
            }
            Self::TreasurySettled => &[Unit::Usd],
            Self::XpubRegistered
            | Self::EpochAdded
            | Self::PolicyAdded
            | Self::Act
            | Self::LogKey
            | Self::LogResumed
            | Self::NamespaceOpened
            | Self::AddressesBound => &[],
        }
    }

    /// True when entries are balanced and of the units that this kind moves.
    pub fn allows(self, entries: &[Entry]) -> bool {
        let units = self.units();
        let has = |unit: &Unit| entries.iter().any(|e| e.amount.unit() == *unit);
        balanced(entries)
            && entries.iter().all(|e| units.contains(&e.amount.unit()))
            && units.first().is_none_or(has)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
