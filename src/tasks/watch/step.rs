//! One step of watching a chain: what it goes by, what it read, and what came of it.

use crate::chain::pool::Pool;
use crate::clock::Clock;
use crate::domain::chain::ChainDelta;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::RawLog;
use crate::store::{ChainState, LeasedStore};
use crate::tasks::errors::Wait;
use crate::tasks::watch::cache::WatchCache;

/// What an activation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nothing is new.
    Idle,
    /// The chain stands still until an operator decides.
    Halted,
    /// As many providers contradict the chain followed as support it: it is followed no further.
    Contested {
        /// Height of the block on which they disagree.
        number: u64,
    },
    /// Something is new, and it waits.
    Waiting {
        /// The first block that waits.
        number: u64,
        /// For what.
        wait: Wait,
    },
    /// The cursor moved to this block.
    Advanced {
        /// The new cursor.
        to: BlockRef,
        /// Blocks that are canonical no more.
        orphaned: usize,
        /// Deposits that are new or changed.
        deposits: usize,
        /// There is more to read at once.
        more: bool,
    },
}

/// One activation under way.
pub(in crate::tasks) struct Step<'a, S> {
    pub(in crate::tasks) rules: &'a ChainRules,
    pub(in crate::tasks) pool: &'a Pool<S>,
    pub(in crate::tasks) source: &'a S,
    pub(in crate::tasks) store: &'a LeasedStore,
    pub(in crate::tasks) clock: &'a dyn Clock,
    pub(in crate::tasks) cache: &'a mut WatchCache,
    pub(in crate::tasks) state: &'a ChainState,
}

/// What a step read.
pub(in crate::tasks) struct Read {
    pub(in crate::tasks) delta: ChainDelta,
    pub(in crate::tasks) method: &'static str,
    pub(in crate::tasks) from: BlockRef,
    pub(in crate::tasks) filter: LogFilter,
    pub(in crate::tasks) logs_seen: u64,
    pub(in crate::tasks) logs: Vec<RawLog>,
}
