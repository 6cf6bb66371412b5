//! Why the sequencer adds nothing to the log.

use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::log::edge::EdgeError;
use crate::domain::log::key::{KeyError, KeyName, PublicKey};
use crate::domain::log::order::Gap;
use crate::domain::log::tiles::TileError;
use crate::domain::log::tree::ProofError;
use crate::store::db::Tx;
use crate::store::db::failure::DbError;
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// Why nothing was added to the log, nor signed. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// It waits for an operator.
    #[error(
        "the log is paused: {0}. What was lost or copied, an operator decides: topupd log resume"
    )]
    Paused(String),
    /// Another key signs it.
    #[error(
        "the log is signed with the key {registered}, and log.key_file has {}: configure the registered key, or replace it with topupd log rotate",
        configured.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
    )]
    Key {
        /// The registered key.
        registered: Box<PublicKey>,
        /// The configured one.
        configured: Option<Box<PublicKey>>,
    },
    /// The configured key belongs to a log of another name.
    #[error("log.key_file has a key of the log {key}, and this is the log {origin}")]
    OtherName {
        /// The key's name.
        key: KeyName,
        /// The log's origin.
        origin: KeyName,
    },
    /// What was signed before is not the beginning of this log: signing would make a second history.
    #[error("nothing is signed: {0}")]
    Fork(String),
    /// The checkpoint that is kept outside of the database cannot be read or written.
    #[error("{0}")]
    Kept(String),
    /// A record is missing, or comes twice.
    #[error("{0}: a record is missing, or was logged already. See topupd ledger verify")]
    Gap(#[from] Gap),
    /// A record is not what it was when it was sealed.
    #[error("record {seq} of journal {journal}: {why}. See topupd ledger verify")]
    Record {
        /// Journal.
        journal: i64,
        /// Number in it.
        seq: i64,
        /// What is wrong.
        why: String,
    },
    /// What is stored of the log contradicts itself.
    #[error("what is stored of the log is damaged: {0}. See topupd ledger verify")]
    Damaged(String),
}

impl Stop {
    /// A word for each of them.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::Key { .. } => "key",
            Self::OtherName { .. } => "name",
            Self::Fork(_) => "fork",
            Self::Kept(_) => "kept",
            Self::Gap(_) => "gap",
            Self::Record { .. } => "record",
            Self::Damaged(_) => "damaged",
        }
    }

    /// What somebody should look at.
    pub fn finding(&self) -> NewFinding {
        let kind = match self {
            Self::Paused(_) => FindingKind::LogPaused,
            Self::Fork(_) => FindingKind::LogFork,
            _ => FindingKind::LogStopped,
        };
        let detail = serde_json::json!({ "why": self.to_string() });
        NewFinding { chain: None, kind, subject: self.code().to_owned(), detail }
    }

    /// The findings that are gone while the log goes on.
    pub(super) fn gone() -> Vec<Gone> {
        let stopped = ["key", "name", "kept", "gap", "record", "damaged"];
        let stopped = stopped.map(|subject| (FindingKind::LogStopped, subject));
        let others = [(FindingKind::LogPaused, "paused"), (FindingKind::LogFork, "fork")];
        let all = stopped.into_iter().chain(others);
        all.map(|(kind, subject)| Gone { chain: None, kind, subject: subject.to_owned() }).collect()
    }
}

/// A step that stops, or that the database does not let go on.
#[derive(Debug)]
pub(super) enum Failed {
    Stop(Stop),
    Store(StoreError),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Gap> for Failed {
    fn from(gap: Gap) -> Self {
        Self::Stop(gap.into())
    }
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        Self::Store(error.into())
    }
}

impl From<StoreError> for Failed {
    /// A value that nobody here writes is damage, and no reason to ask again.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Self::Stop(Stop::Damaged(error.to_string())),
            other => Self::Store(other),
        }
    }
}

macro_rules! damage {
    ($($error:ty),*) => {
        $(impl From<$error> for Failed {
            fn from(error: $error) -> Self {
                Self::Stop(Stop::Damaged(error.to_string()))
            }
        })*
    };
}
damage!(EdgeError, TileError, ProofError, KeyError);

impl Failed {
    /// Ends the transaction in which it came up. One in which the database failed is left to the connection's end.
    pub(super) async fn ended(self, tx: Tx) -> Self {
        if let Self::Stop(_) = self
            && let Err(error) = Store::abandon(tx).await
        {
            return error.into();
        }
        self
    }

    /// For those who only read: a stop is a refusal, in its words, and damage is damage.
    pub(super) fn into_store(self) -> StoreError {
        match self {
            Self::Stop(
                stop @ (Stop::Fork(_) | Stop::Gap(_) | Stop::Record { .. } | Stop::Damaged(_)),
            ) => StoreError::Damaged(stop.to_string()),
            Self::Stop(stop) => StoreError::Refused(stop.to_string()),
            Self::Store(error) => error,
        }
    }
}
