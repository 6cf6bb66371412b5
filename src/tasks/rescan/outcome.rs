//! What a look at old blocks came to, and what is remembered between two.

use std::sync::Arc;

use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::transfer::AddressBook;
use crate::store::{LeasedStore, StoreError};
use crate::tasks::errors::WatchError;
use crate::tasks::settle::waiting::STALLED_MS;
use crate::tasks::watch::cache::Range;
use crate::tasks::watch::unread::Unread;

/// What the two tasks keep between activations. Only a cache.
#[derive(Debug)]
pub struct LookCache {
    pub(in crate::tasks) book: Arc<AddressBook>,
    pub(in crate::tasks) range: Range,
    pub(in crate::tasks) still: Still,
}

impl LookCache {
    /// An empty one.
    pub fn new(rules: &ChainRules) -> Self {
        let range = Range::new(rules.range_max);
        Self { book: Arc::default(), range, still: Still::default() }
    }

    /// The last block of a range that a source bears.
    pub(in crate::tasks) fn end<S: ChainSource>(&self, source: &S, from: u64) -> u64 {
        let range = self.range.blocks.min(source.range_max()).max(1);
        from.saturating_add(range.saturating_sub(1))
    }

    /// True when fewer blocks are asked for from now on.
    pub(in crate::tasks) fn halves(&mut self, unread: &Unread, from: u64, to: u64) -> bool {
        self.range.failed(from, to.saturating_sub(from).saturating_add(1), unread)
    }
}

/// What an activation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// There is nothing to look at.
    Idle,
    /// It went on; there may be more to do at once.
    Advanced {
        /// Deposits that are new or changed.
        deposits: usize,
    },
}

/// Whether a task goes on. Only a cache.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Still {
    /// Since when each of its steps fails.
    since_ms: Option<i64>,
    /// It goes on, and what was found while it did not is closed.
    closed: bool,
}

impl Still {
    pub(in crate::tasks) async fn note(
        &mut self,
        rules: &ChainRules,
        store: &LeasedStore,
        clock: &dyn Clock,
        subject: &str,
        looked: &Result<Looked, WatchError>,
    ) -> Result<(), StoreError> {
        let now = clock.now_ms();
        let (chain, kind) = (Some(rules.id), FindingKind::LookStill);
        let subject = subject.to_owned();
        match looked {
            Ok(_) => {
                self.since_ms = None;
                if !std::mem::replace(&mut self.closed, true) {
                    store.gone(&Gone { chain, kind, subject }, now).await?;
                }
            }
            Err(WatchError::Store(_)) => {}
            Err(error) => {
                let since = *self.since_ms.get_or_insert(now);
                if now.saturating_sub(since) >= STALLED_MS {
                    self.closed = false;
                    let detail = serde_json::json!({
                        "since_ms": since, "why": error.to_string().replace('\0', " "),
                    });
                    store.note(&NewFinding { chain, kind, subject, detail }, now).await?;
                }
            }
        }
        Ok(())
    }
}
