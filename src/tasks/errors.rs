//! Why a task could not do its work, and what is said of providers then.

use std::fmt;

use crate::chain::source::SourceError;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::BlockRef;
use crate::store::StoreError;

/// Why an activation did not do everything. What was committed stays.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The source failed at some question: again after a pause.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed: again after a pause.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an activation did nothing, by what follows.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The source failed or contradicted itself: again after a pause.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed: again after a pause.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source's tip lies below everything that could be compared: again after a pause.
    #[error("{provider} is at block {}, more than reorg_window behind what was scanned", tip.number)]
    Behind {
        /// Who.
        provider: String,
        /// Its tip.
        tip: BlockRef,
    },
    /// Blocks are there and cannot be adopted yet: others are asked, and then again after a moment.
    #[error("block {number} waits: {wait}")]
    Waits {
        /// The first one.
        number: u64,
        /// For what.
        wait: Wait,
    },
    /// The answers were of a chain that moved under us: again at once.
    #[error("the chain moved while it was read: {0}")]
    Moved(String),
    /// The fork lies below what is kept: a person must look.
    #[error(
        "chain {chain} forks below block {floor}, the oldest that reorg_window keeps, says {provider}: nothing was changed; compare it with other nodes"
    )]
    TooDeep {
        /// Name of the chain.
        chain: String,
        /// Who says so.
        provider: String,
        /// Its tip.
        tip: BlockRef,
        /// Oldest block kept.
        floor: u64,
    },
}

/// There is no provider to ask at this moment.
pub(super) fn nobody(rules: &ChainRules) -> SourceError {
    SourceError::Unavailable {
        provider: rules.name.clone(),
        method: "anything",
        why: "no provider can be asked now: each one limits its rate or is not admitted yet (`topupd status` says why)".into(),
    }
}

/// There is no other provider to ask at this moment than the one that was asked before.
pub(super) fn nobody_else(rules: &ChainRules) -> SourceError {
    SourceError::Unavailable {
        provider: rules.name.clone(),
        method: "anything",
        why: "no second provider can be asked now: each other one fails, limits its rate or is not admitted yet (`topupd status` says why)".into(),
    }
}

pub(super) fn registered_meanwhile() -> WatchError {
    WatchError::Moved("an address was registered meanwhile".into())
}

pub(super) fn moved_meanwhile() -> WatchError {
    WatchError::Moved("somebody else moved the cursor".into())
}

pub(super) fn invalid_logs(provider: &str, why: String) -> SourceError {
    SourceError::Invalid { provider: provider.to_owned(), method: "eth_getLogs", why }
}

/// What a chain waits for, so that it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// That another provider has the block.
    Others,
    /// That another provider answers at all.
    Silence,
    /// That somebody shows the receipts of a block whose logs are in doubt.
    Receipts,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Others => "no other provider has it yet",
            Self::Silence => "no other provider answers, and one alone is not followed further",
            Self::Receipts => "its bloom filter expects logs that nobody shows, nor its receipts",
        })
    }
}
