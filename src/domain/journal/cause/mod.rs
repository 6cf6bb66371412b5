//! Causes: what happened, one type a kind. The same cause always gives the same record id and the same
//! hash, whatever the state of the account is; what depends on the state is the outcome's.

mod deposit;
mod house;
mod namespace;
mod treasury;
mod undo;
mod worth;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use deposit::{CreditFacts, DepositCredit};
pub use house::{Act, EpochAdded, LogKey, LogResumed, PolicyAdded, XpubRegistered};
pub use namespace::{AddressesBound, NamespaceOpened, Origin, addresses_root};
pub use treasury::TreasurySettlement;
pub use undo::{DepositCorrection, DepositReversal, Valued};
pub use worth::{Owed, Worth};

use super::ids::{Genesis, RecordId};
use super::kind::Kind;

/// When a record takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effective {
    /// At this instant, epoch milliseconds: part of the cause.
    At(i64),
    /// When it is recorded, which no cause can know.
    WhenRecorded,
}

/// A cause or an outcome that is not what its kind says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {kind} cannot be read: {why}")]
pub struct Unreadable {
    /// `cause` or `outcome`.
    pub what: &'static str,
    /// Kind of the record.
    pub kind: Kind,
    /// What is wrong with it.
    pub why: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// [`Kind::XpubRegistered`].
    XpubRegistered(XpubRegistered),
    /// [`Kind::EpochAdded`].
    EpochAdded(EpochAdded),
    /// [`Kind::PolicyAdded`].
    PolicyAdded(PolicyAdded),
    /// [`Kind::Act`].
    Act(Box<Act>),
    /// [`Kind::LogKey`].
    LogKey(LogKey),
    /// [`Kind::LogResumed`].
    LogResumed(LogResumed),
    /// [`Kind::TreasurySettled`].
    TreasurySettled(Box<TreasurySettlement>),
    /// [`Kind::NamespaceOpened`].
    NamespaceOpened(NamespaceOpened),
    /// [`Kind::AddressesBound`].
    AddressesBound(AddressesBound),
    /// [`Kind::DepositCredited`].
    DepositCredited(Box<DepositCredit>),
    /// [`Kind::DepositReversed`].
    DepositReversed(Box<DepositReversal>),
    /// [`Kind::DepositCorrected`].
    DepositCorrected(Box<DepositCorrection>),
}

impl Cause {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::XpubRegistered(_) => Kind::XpubRegistered,
            Self::EpochAdded(_) => Kind::EpochAdded,
            Self::PolicyAdded(_) => Kind::PolicyAdded,
            Self::Act(_) => Kind::Act,
            Self::LogKey(_) => Kind::LogKey,
            Self::LogResumed(_) => Kind::LogResumed,
            Self::TreasurySettled(_) => Kind::TreasurySettled,
            Self::NamespaceOpened(_) => Kind::NamespaceOpened,
            Self::AddressesBound(_) => Kind::AddressesBound,
            Self::DepositCredited(_) => Kind::DepositCredited,
            Self::DepositReversed(_) => Kind::DepositReversed,
            Self::DepositCorrected(_) => Kind::DepositCorrected,
        }
    }

    /// The natural key that people use for what it is about.
    pub fn subject(&self) -> String {
        match self {
            Self::XpubRegistered(c) => c.fingerprint.clone(),
            Self::EpochAdded(c) => c.id.clone(),
            Self::PolicyAdded(c) => c.hash.to_string(),
            Self::Act(c) => c.number.to_string(),
            Self::LogKey(c) => c.public_key.clone(),
            Self::LogResumed(c) => c.origin.clone(),
            Self::TreasurySettled(c) => format!("{}/{}", c.chain_id, c.tx_hash),
            Self::NamespaceOpened(c) => c.name.clone(),
            Self::AddressesBound(c) => c.subject(),
            Self::DepositCredited(c) => c.deposit_key().id().to_string(),
            Self::DepositReversed(c) => c.deposit.to_string(),
            Self::DepositCorrected(c) => c.deposit.to_string(),
        }
    }

    /// When it takes effect.
    pub fn effective(&self) -> Effective {
        match self {
            Self::EpochAdded(c) => Effective::At(c.starts_at_ms),
            Self::Act(c) => Effective::At(c.at_ms),
            Self::TreasurySettled(c) => Effective::At(c.block_time_ms),
            Self::DepositCredited(c) => Effective::At(c.block_time_ms),
            Self::XpubRegistered(_)
            | Self::PolicyAdded(_)
            | Self::LogKey(_)
            | Self::LogResumed(_)
            | Self::NamespaceOpened(_)
            | Self::AddressesBound(_)
            | Self::DepositReversed(_)
            | Self::DepositCorrected(_) => Effective::WhenRecorded,
        }
    }

    /// The id of its record in the journal with this genesis.
    pub fn record_id(&self, genesis: Genesis) -> RecordId {
        RecordId::new(genesis, self.kind(), |key| {
            match self {
                Self::XpubRegistered(c) => key.text(&c.xpub),
                Self::EpochAdded(c) => key.text(&c.id),
                Self::PolicyAdded(c) => key.bytes(c.hash.as_slice()),
                Self::Act(c) => key.i64(c.number),
                Self::LogKey(c) => key.text(&c.public_key),
                Self::LogResumed(c) => key.text(&c.origin),
                Self::TreasurySettled(c) => key
                    .bytes(c.obligation_record_id.0.as_slice())
                    .u64(c.chain_id.0)
                    .bytes(c.tx_hash.as_slice()),
                Self::NamespaceOpened(c) => key.text(&c.name),
                Self::AddressesBound(c) => {
                    let first = c.first_index().map(|i| i.to_be_bytes().to_vec());
                    key.bytes(c.root.as_slice()).bytes(&first.unwrap_or_default())
                }
                Self::DepositCredited(c) => {
                    key.bytes(c.deposit_key().id().0.as_slice()).u64(u64::from(c.reversals))
                }
                Self::DepositReversed(c) => key.bytes(c.reverses_record_id.0.as_slice()),
                Self::DepositCorrected(c) => {
                    key.bytes(c.corrects_record_id.0.as_slice()).i64(c.act)
                }
            };
        })
    }

    /// The text that is stored, hashed and sealed: JSON, its fields in declared order.
    pub fn to_json(&self) -> Result<String, Unreadable> {
        match self {
            Self::XpubRegistered(c) => self.json(c),
            Self::EpochAdded(c) => self.json(c),
            Self::PolicyAdded(c) => self.json(c),
            Self::Act(c) => self.json(c),
            Self::LogKey(c) => self.json(c),
            Self::LogResumed(c) => self.json(c),
            Self::TreasurySettled(c) => self.json(c),
            Self::NamespaceOpened(c) => self.json(c),
            Self::AddressesBound(c) => self.json(c),
            Self::DepositCredited(c) => self.json(c),
            Self::DepositReversed(c) => self.json(c),
            Self::DepositCorrected(c) => self.json(c),
        }
    }

    fn json<T: Serialize>(&self, body: &T) -> Result<String, Unreadable> {
        let kind = self.kind();
        serde_json::to_string(body).map_err(|e| Unreadable {
            what: "cause",
            kind,
            why: e.to_string(),
        })
    }

    /// Reads the text back. One that says the same in other words is not taken: a cause has one text.
    ///
    /// # Errors
    /// [`Unreadable`], with the reason.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, Unreadable> {
        fn read<T: DeserializeOwned>(kind: Kind, text: &str) -> Result<T, Unreadable> {
            serde_json::from_str(text).map_err(|e| Unreadable {
                what: "cause",
                kind,
                why: e.to_string(),
            })
        }
        let cause = match kind {
            Kind::XpubRegistered => Self::XpubRegistered(read(kind, text)?),
            Kind::EpochAdded => Self::EpochAdded(read(kind, text)?),
            Kind::PolicyAdded => Self::PolicyAdded(read(kind, text)?),
            Kind::Act => Self::Act(read(kind, text)?),
            Kind::LogKey => Self::LogKey(read(kind, text)?),
            Kind::LogResumed => Self::LogResumed(read(kind, text)?),
            Kind::TreasurySettled => Self::TreasurySettled(read(kind, text)?),
            Kind::NamespaceOpened => Self::NamespaceOpened(read(kind, text)?),
            Kind::AddressesBound => Self::AddressesBound(read(kind, text)?),
            Kind::DepositCredited => Self::DepositCredited(read(kind, text)?),
            Kind::DepositReversed => Self::DepositReversed(read(kind, text)?),
            Kind::DepositCorrected => Self::DepositCorrected(read(kind, text)?),
        };
        if cause.to_json()? != text {
            let why = "it is not the text that this topupd writes".to_owned();
            return Err(Unreadable { what: "cause", kind, why });
        }
        Ok(cause)
    }
}
