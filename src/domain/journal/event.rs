//! What is announced: kinds of its own, because not everything that happens is a record.
//!
//! Only the words and the ids. What an event carries, and who gets it, is decided elsewhere.

use alloy::primitives::B256;

use super::ids::RecordId;
use super::kind::Kind;
use crate::domain::seal::Canonical;

/// What is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A transfer to a deposit address was seen.
    DepositSeen,
    /// It is deep enough.
    DepositConfirmed,
    /// A rule says that a machine may not finish it.
    DepositHeld,
    /// It became credits.
    DepositCredited,
    /// Its credit was undone.
    DepositReversed,
    /// Its credit was undone and given again at another amount.
    DepositCorrected,
    /// A purchase settled a part of what a conversion owes.
    TreasurySettled,
    /// Somebody should look.
    FindingOpened,
    /// A chain is watched with less than what its policy asks.
    ChainDegraded,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::DepositSeen,
        Self::DepositConfirmed,
        Self::DepositHeld,
        Self::DepositCredited,
        Self::DepositReversed,
        Self::DepositCorrected,
        Self::TreasurySettled,
        Self::FindingOpened,
        Self::ChainDegraded,
    ];

    /// The word stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DepositSeen => "deposit.seen",
            Self::DepositConfirmed => "deposit.confirmed",
            Self::DepositHeld => "deposit.held",
            Self::DepositCredited => "deposit.credited",
            Self::DepositReversed => "deposit.reversed",
            Self::DepositCorrected => "deposit.corrected",
            Self::TreasurySettled => "treasury.settled",
            Self::FindingOpened => "finding.opened",
            Self::ChainDegraded => "chain.degraded",
        }
    }

    /// Reads the word back; `None` for a word that there is not.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What a record of this kind is announced as; `None` for kinds that are not announced. There is no
    /// default: a new kind of record must say here what it is.
    pub const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::DepositCredited => Some(Self::DepositCredited),
            Kind::DepositReversed => Some(Self::DepositReversed),
            Kind::DepositCorrected => Some(Self::DepositCorrected),
            Kind::TreasurySettled => Some(Self::TreasurySettled),
            Kind::XpubRegistered
            | Kind::EpochAdded
            | Kind::PolicyAdded
            | Kind::Act
            | Kind::LogKey
            | Kind::LogResumed
            | Kind::NamespaceOpened
            | Kind::AddressesBound => None,
        }
    }
}

/// An event that a record makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The id under which a receiver recognises an event it has had before.
    pub id: B256,
    /// What is announced.
    pub kind: EventKind,
}

impl Event {
    /// The event of a record; `None` for a kind that is not announced.
    pub fn of_record(kind: Kind, record: RecordId) -> Option<Self> {
        let kind = EventKind::of(kind)?;
        Some(Self { id: event_id(kind, record.0.as_slice()), kind })
    }
}

/// The id of an event: of its kind, and the record's id or another natural key.
pub fn event_id(kind: EventKind, key: &[u8]) -> B256 {
    let mut bytes = Canonical::new("topupd/event/v1");
    bytes.text(kind.as_str()).bytes(key);
    bytes.finish()
}
