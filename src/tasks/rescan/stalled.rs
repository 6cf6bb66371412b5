//! Looks again at what was scanned, and says when that stands still for long: a payment that was hidden
//! is not found meanwhile, and payments to an address that was registered late wait.

use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::store::LeasedStore;
use crate::tasks::errors::WatchError;
use crate::tasks::rescan::outcome::{LookCache, Looked};
use crate::tasks::rescan::{backfill_step, recheck_step};

/// One step of the second pass: the lowest range that nobody looked at again, by another provider
/// than the one that scanned it. With one provider only, it asks that one again.
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
