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
use crate::tasks::kept::WatchCache;

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
pub(super) struct Step<'a, S> {
    pub(super) rules: &'a ChainRules,
    pub(super) pool: &'a Pool<S>,
    pub(super) source: &'a S,
    pub(super) store: &'a LeasedStore,
    pub(super) clock: &'a dyn Clock,
    pub(super) cache: &'a mut WatchCache,
    pub(super) state: &'a ChainState,
}

/// What a step read.
pub(super) struct Read {
    pub(super) delta: ChainDelta,
    pub(super) method: &'static str,
    pub(super) from: BlockRef,
    pub(super) filter: LogFilter,
    pub(super) logs_seen: u64,
    pub(super) logs: Vec<RawLog>,
}
