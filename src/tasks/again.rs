//! Looks again at what was scanned, and says when that stands still for long: a payment that was hidden
//! is not found meanwhile, and payments to an address that was registered late wait.

use super::ChainRules;
use super::look::{LookCache, Looked, backfill_step, recheck_step};
use super::settle::STALLED_MS;
use super::watch::WatchError;
use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::store::{LeasedStore, StoreError};

/// Whether a task goes on. Only a cache.
#[derive(Debug, Default)]
pub(super) struct Still {
    /// Since when each of its steps fails.
    since_ms: Option<i64>,
    /// It goes on, and what was found while it did not is closed.
    closed: bool,
}

/// One step of the second pass: the lowest range that nobody looked at again, by another provider
/// than the one that scanned it. With one provider only, it asks that one again.
///
/// # Errors
/// See [`WatchError`]; nothing is written then.
pub async fn recheck<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut LookCache,
) -> Result<Looked, WatchError> {
    let looked = recheck_step(rules, pool, store, clock, cache).await;
    cache.still.note(rules, store, clock, "the second pass", &looked).await?;
    looked
}

/// One step of the backfills: the lowest blocks that somebody waits for.
///
/// # Errors
/// See [`WatchError`]; nothing is written then.
pub async fn backfill<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut LookCache,
) -> Result<Looked, WatchError> {
    let looked = backfill_step(rules, pool, store, clock, cache).await;
    cache.still.note(rules, store, clock, "old blocks", &looked).await?;
    looked
}

impl Still {
    async fn note(
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
