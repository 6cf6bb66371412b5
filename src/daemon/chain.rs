//! The loops of one chain: listen, watch, settle, survey and look, while this daemon holds the
//! chain's lease.
//!
//! A loop takes no input: a poke or a tick wakes it, and its next activation is its retry.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::keeper::Seat;
use super::{PAUSE_MAX, pauses};
use crate::chain::ChainSource;
use crate::chain::pool::{Pool, Standing};
use crate::chain::rpc::RpcSource;
use crate::clock::Clock;
use crate::config::ChainConfig;
use crate::store::{Lease, LeasedStore, ProviderRow, Store, StoreError};
use crate::tasks::frozen::{Freezes, check_frozen};
use crate::tasks::look::{LookCache, Looked, backfill, recheck};
use crate::tasks::market::Market;
use crate::tasks::quotes::capture;
use crate::tasks::settle::{SettleError, Settled, settle};
use crate::tasks::survey::{stands_still, survey};
use crate::tasks::tokens::check_tokens;
use crate::tasks::watch::{WatchCache, WatchError, Watched, watch};

/// So many times in a row that answers do not fit together are worth a word.
const MOVED_WARN: u32 = 20;
/// A chain that waits for so long is worth a word, and then another one each time that passes.
const WAITS_WARN: Duration = Duration::from_secs(10);
const WAITS_WARN_AGAIN: Duration = Duration::from_secs(290);
/// The longest pause between two looks for sources that are to be asked again.
const QUOTE_PAUSE: Duration = Duration::from_secs(1);
/// A provider that announces a head this long after another one is late.
const LATE: Duration = Duration::from_millis(300);

/// What the loops of a chain share.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) chain: Arc<ChainConfig>,
    pub(super) pool: Arc<Pool<RpcSource>>,
    /// Where market prices come from: all chains, and the web.
    pub(super) market: Arc<Market<RpcSource>>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    /// Where purchases arrive: ours, too.
    pub(super) treasury: Option<Address>,
    pub(super) health: Health,
    /// The chain's lease.
    pub(super) seat: Seat,
    pub(super) stop: CancellationToken,
}

pub(super) fn spawn_chain(tasks: &mut JoinSet<()>, parts: Parts) {
    let new_head = Arc::new(Notify::new());
    let (new_blocks, new_payments) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    tasks.spawn(parts.clone().listen(Arc::clone(&new_head)));
    let pokes = [Arc::clone(&new_blocks), Arc::clone(&new_payments)];
    tasks.spawn(parts.clone().watch(new_head, pokes));
    tasks.spawn(parts.clone().settle(Arc::clone(&new_blocks)));
    if parts.market.has_sources() {
        tasks.spawn(parts.clone().quote(new_payments, new_blocks));
    }
    tasks.spawn(parts.clone().survey());
    tasks.spawn(parts.look());
}

impl Parts {
    /// Waits for a poke or a tick; false when the daemon stops.
    async fn wait(&self, poke: &Notify, tick: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = poke.notified() => true,
            () = tokio::time::sleep(tick) => true,
        }
    }

    async fn sleep(&self, pause: Duration) -> bool {
        self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }

    /// The store with the chain's lease, as soon as it is held and the database answers; `None`
    /// when the daemon stops.
    async fn held(&mut self) -> Option<LeasedStore> {
        let lease = self
            .stop
            .run_until_cancelled(async {
                self.health.ready().await;
                self.seat.lease.wait_for(Option::is_some).await.ok().and_then(|lease| lease.clone())
            })
            .await??;
        Some(self.store.holding(lease))
    }

    /// Listens for new heads while the lease is held: one that stands by needs none.
    async fn listen(mut self, poke: Arc<Notify>) {
        while self.held().await.is_some() {
            let others = self.clone();
            tokio::select! {
                () = others.hints(&poke) => {}
                _ = self.seat.lease.wait_for(Option::is_none) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Passes on what the first provider announces. What another one announces counts only when the
    /// first is late with it: otherwise each block would be asked for as often as it is announced.
    async fn hints(&self, poke: &Notify) {
        let last = Mutex::new(Instant::now());
        let last = || last.lock().unwrap_or_else(PoisonError::into_inner);
        let (pool, clock) = (&self.pool, self.clock.as_ref());
        join_all(pool.all().map(|source| async move {
            let announced = Notify::new();
            let pass_on = async {
                loop {
                    announced.notified().await;
                    let order = pool.order(clock.now_ms());
                    if order.first().is_none_or(|s| s.provider() == source.provider()) {
                        *last() = Instant::now();
                    } else {
                        tokio::time::sleep(LATE).await;
                        if last().elapsed() < LATE.saturating_mul(2) {
                            continue;
                        }
                    }
                    poke.notify_one();
                }
            };
            tokio::select! {
                () = source.listen(&announced) => {}
                () = pass_on => {}
            }
        }))
        .await;
    }

    /// What the database's refusal means for a loop. True when it was said.
    async fn refused(&mut self, error: &StoreError, held: &Lease) -> bool {
        if error.is_unavailable() {
            let judge = if error.is_away() { Who::Keeper } else { Who::Task };
            self.health.lost(error, judge);
            return true;
        }
        if let StoreError::Outdated { .. } = error {
            if !self.seat.retired.swap(true, Ordering::Relaxed) {
                tracing::error!(chain.name = self.chain.rules.name, error = %error,
                    "this daemon leaves the chain to others");
            }
            let gone = self.seat.lease.wait_for(Option::is_none);
            self.stop.run_until_cancelled(gone).await;
            return true;
        }
        if let StoreError::Fenced { .. } | StoreError::WentBack(_) = error {
            // Somebody took over while we slept, or the database went back; the keeper will notice too.
            tracing::warn!(chain.name = self.chain.rules.name, error = %error, "nothing is written");
            let changed = self.seat.lease.wait_for(|lease| lease.as_ref() != Some(held));
            let _ = tokio::time::timeout(PAUSE_MAX, changed).await;
            return true;
        }
        false
    }

    async fn watch(mut self, poke: Arc<Notify>, pokes: [Arc<Notify>; 2]) {
        let chain = Arc::clone(&self.chain);
        let name = &chain.rules.name;
        // What is remembered is of one lease: another daemon may have worked since, or the database gone back.
        let (mut cache, mut of) = (WatchCache::new(&self.chain.rules), None);
        let mut pauses = pauses();
        let mut progress = Progress::default();
        let mut moved = 0u32;
        let (mut synced, mut stands) = (None, false);
        let mut waits: Option<Instant> = None;
        while let Some(store) = self.held().await {
            let began = Instant::now();
            if of.as_ref() != Some(store.lease()) {
                (cache, of) = (WatchCache::new(&self.chain.rules), Some(store.lease().clone()));
            }
            if let Err(error) = self.sync_tokens(&store, &mut synced).await {
                let pause = pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                if !self.refused(&error, store.lease()).await {
                    tracing::warn!(chain.name = name, error = %error, "cannot register the tokens");
                }
                if !self.sleep(pause).await {
                    return;
                }
                continue;
            }
            let step = watch(&chain.rules, &self.pool, &store, self.clock.as_ref(), &mut cache);
            let (step, mut soon) = (step.await, None);
            if !matches!(step, Ok(Watched::Waiting { .. })) {
                waits = None;
            }
            let pause = match step {
                Ok(Watched::Idle) => {
                    pauses = super::pauses();
                    (moved, stands) = (0, false);
                    None
                }
                Ok(still @ (Watched::Halted | Watched::Contested { .. })) => {
                    if !std::mem::replace(&mut stands, true) {
                        tracing::error!(chain.name = name, why = ?still,
                            "the chain stands still; see topupd status");
                    }
                    None
                }
                Ok(Watched::Waiting { number, wait }) => {
                    // Blocks that are not shared yet are worth a word when that lasts.
                    let since = *waits.get_or_insert(began);
                    if since.elapsed() >= WAITS_WARN {
                        tracing::warn!(chain.name = name, block.number = number, why = %wait,
                            "the chain waits");
                        waits = began.checked_add(WAITS_WARN_AGAIN);
                    }
                    soon = pauses.next();
                    None
                }
                Ok(Watched::Advanced { to, deposits, more, .. }) => {
                    self.health.found(Who::Task); // it committed
                    pauses = super::pauses();
                    (moved, stands) = (0, false);
                    pokes.iter().for_each(|p| p.notify_one());
                    tracing::debug!(
                        chain.name = name,
                        block.number = to.number,
                        deposits,
                        elapsed_ms = began.elapsed().as_millis(),
                        "advanced"
                    );
                    progress.report(name, to.number, more);
                    more.then_some(Duration::ZERO)
                }
                Err(WatchError::Moved(why)) => {
                    moved = moved.saturating_add(1);
                    if moved.is_multiple_of(MOVED_WARN) {
                        tracing::warn!(
                            chain.name = name,
                            why,
                            "the provider's answers do not fit together; still trying"
                        );
                    }
                    Some(pauses.next().unwrap_or(PAUSE_MAX).min(Duration::from_millis(500)))
                }
                Err(error) => {
                    let pause = pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                    let said = match &error {
                        WatchError::Store(error) => self.refused(error, store.lease()).await,
                        _ => false,
                    };
                    if !said {
                        tracing::warn!(chain.name = name, error = %error,
                            pause_ms = pause.as_millis(), "watching failed; trying again");
                    }
                    Some(pause)
                }
            };
            let go_on = match pause {
                Some(pause) if pause.is_zero() => !self.stop.is_cancelled(),
                Some(pause) => self.sleep(pause).await,
                None => {
                    let now = self.clock.now_ms();
                    let live = self.pool.order(now).first().is_some_and(|s| s.is_live());
                    let tick = if live { chain.safety_poll } else { chain.poll };
                    self.wait(&poke, soon.map_or(tick, |soon| soon.min(chain.poll))).await
                }
            };
            if !go_on {
                return;
            }
        }
    }

    /// The tokens that are scanned from now on, said once for each time that the lease is taken.
    async fn sync_tokens(
        &self,
        store: &LeasedStore,
        synced: &mut Option<Lease>,
    ) -> Result<(), StoreError> {
        if synced.as_ref() == Some(store.lease()) {
            return Ok(());
        }
        let rules = &self.chain.rules;
        let tokens: Vec<_> = rules.tokens.iter().map(|t| t.address).collect();
        for token in store.sync_tokens(rules.id, &tokens, self.clock.now_ms()).await? {
            tracing::debug!(chain.name = rules.name, token = %token,
                "token is new here: blocks that were scanned before are read again for it");
        }
        *synced = Some(store.lease().clone());
        Ok(())
    }

    /// Compares the providers, admits those that come back, looks at the tokens, and asks these about
    /// our addresses.
    async fn survey(mut self) {
        let chain = Arc::clone(&self.chain);
        let name = &chain.rules.name;
        let mut freezes = Freezes::new(self.treasury);
        let mut pauses = pauses();
        while let Some(store) = self.held().await {
            let (rules, clock) = (&chain.rules, self.clock.as_ref());
            let done = async {
                survey(rules, &self.pool, &store, clock).await?;
                check_tokens(rules, &self.pool, &store, clock).await?;
                check_frozen(rules, &self.pool, &store, clock, &mut freezes).await?;
                stands_still(rules, &self.pool, &store, clock).await?;
                store.note_providers(rules.id, &self.standings()).await
            };
            let done = done.await;
            if let Err(error) = done
                && !self.refused(&error, store.lease()).await
            {
                tracing::warn!(chain.name = name, error = %error, "comparing providers failed");
            }
            // One that comes back is let in soon.
            let pause = if self.pool.all().all(|source| self.pool.is_admitted(source)) {
                pauses = super::pauses();
                chain.safety_poll
            } else {
                pauses.next().unwrap_or(PAUSE_MAX).min(chain.safety_poll)
            };
            if !self.sleep(pause).await {
                return;
            }
        }
    }

    fn standings(&self) -> Vec<ProviderRow> {
        let now = self.clock.now_ms();
        let row = |s: Standing| ProviderRow {
            provider: s.provider,
            state: s.state,
            head: s.head,
            safe: s.safe,
            finalized: s.finalized,
            latency_ms: s.latency_ms,
            failures: u64::from(s.failures),
            updated_at_ms: now,
        };
        self.pool.standings(now).into_iter().map(row).collect()
    }

    /// Reads old blocks again: for what was registered late, and, by another provider, all of them.
    async fn look(mut self) {
        let chain = Arc::clone(&self.chain);
        let rules = &chain.rules;
        let (mut late, mut second) = (LookCache::new(rules), LookCache::new(rules));
        let mut of = None;
        let mut pauses = pauses();
        while let Some(store) = self.held().await {
            if of.as_ref() != Some(store.lease()) {
                (late, second) = (LookCache::new(rules), LookCache::new(rules));
                of = Some(store.lease().clone());
            }
            let clock = self.clock.as_ref();
            let late = backfill(rules, &self.pool, &store, clock, &mut late).await;
            let again = recheck(rules, &self.pool, &store, clock, &mut second).await;
            let mut more = false;
            let mut pause = chain.safety_poll;
            for outcome in [late, again] {
                match outcome {
                    Ok(Looked::Idle) => {}
                    Ok(Looked::Advanced { deposits }) => {
                        more = true;
                        if deposits > 0 {
                            tracing::info!(
                                chain.name = rules.name,
                                deposits,
                                "found in old blocks"
                            );
                        }
                    }
                    Err(error) => {
                        pause = pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                        let said = match &error {
                            WatchError::Store(error) => self.refused(error, store.lease()).await,
                            _ => false,
                        };
                        if !said {
                            tracing::warn!(chain.name = rules.name, error = %error,
                                pause_ms = pause.as_millis(), "looking again failed");
                        }
                        more = false;
                    }
                }
            }
            if more {
                pauses = super::pauses();
            }
            let go_on = if more { !self.stop.is_cancelled() } else { self.sleep(pause).await };
            if !go_on {
                return;
            }
        }
    }

    /// Asks the sources of market prices about payments, as soon as they are seen.
    async fn quote(mut self, poke: Arc<Notify>, settle: Arc<Notify>) {
        let chain = Arc::clone(&self.chain);
        let mut pauses = pauses();
        while let Some(store) = self.held().await {
            let step = capture(&chain.rules, &self.market, &store, self.clock.as_ref());
            let go_on = match step.await {
                Ok(captured) => {
                    pauses = super::pauses();
                    if captured.done > 0 {
                        settle.notify_one();
                    }
                    if captured.more {
                        !self.stop.is_cancelled()
                    } else {
                        self.wait(&poke, chain.poll.min(QUOTE_PAUSE)).await
                    }
                }
                Err(error) => {
                    let pause = pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                    let said = match &error {
                        SettleError::Store(error) => self.refused(error, store.lease()).await,
                        SettleError::Source(_) => false,
                    };
                    if !said {
                        tracing::warn!(chain.name = chain.rules.name, error = %error,
                            pause_ms = pause.as_millis(), "asking for prices failed; trying again");
                    }
                    self.sleep(pause).await
                }
            };
            if !go_on {
                return;
            }
        }
    }

    async fn settle(mut self, poke: Arc<Notify>) {
        let chain = Arc::clone(&self.chain);
        let name = &chain.rules.name;
        let mut pauses = pauses();
        // New blocks wake it up; what fails for long is not said with each of them.
        let mut quiet_until: Option<Instant> = None;
        while let Some(store) = self.held().await {
            let clock = self.clock.as_ref();
            let step = settle(&chain.rules, &self.pool, &self.market, &store, clock);
            let go_on = match step.await {
                Ok(Settled { more: true, .. }) => !self.stop.is_cancelled(),
                Ok(done) => {
                    if done.confirmed > 0 || done.credited > 0 || done.reversed > 0 {
                        self.health.found(Who::Task); // it committed
                    }
                    pauses = super::pauses();
                    self.wait(&poke, chain.safety_poll).await
                }
                Err(error) => {
                    let pause = pauses.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
                    let said = match &error {
                        SettleError::Store(error) => self.refused(error, store.lease()).await,
                        SettleError::Source(_) => false,
                    };
                    let now = Instant::now();
                    if !said && quiet_until.is_none_or(|until| now >= until) {
                        quiet_until = now.checked_add(pause);
                        tracing::warn!(chain.name = name, error = %error,
                            pause_ms = pause.as_millis(),
                            "settling failed; it is tried again with the next block, and after this pause");
                    }
                    self.wait(&poke, pause).await // one bad receipt must not delay the others
                }
            };
            if !go_on {
                return;
            }
        }
    }
}

/// One line every few seconds while catching up.
#[derive(Default)]
struct Progress {
    last: Option<Instant>,
}

impl Progress {
    fn report(&mut self, chain: &str, number: u64, behind: bool) {
        let due = self.last.is_none_or(|at| at.elapsed() >= Duration::from_secs(5));
        if behind && due {
            tracing::info!(chain.name = chain, block.number = number, "catching up");
            self.last = Some(Instant::now());
        }
    }
}
