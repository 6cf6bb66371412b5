//! The loops of one chain: listen, watch and settle, while this daemon holds the chain's lease.
//!
//! A loop takes no input: a poke or a tick wakes it, and its next activation is its retry.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::keeper::Seat;
use super::{PAUSE_MAX, pauses};
use crate::chain::rpc::RpcSource;
use crate::clock::Clock;
use crate::config::ChainConfig;
use crate::store::{Lease, LeasedStore, Store, StoreError};
use crate::tasks::settle::{SettleError, Settled, settle};
use crate::tasks::watch::{WatchCache, WatchError, Watched, watch};

/// So many times in a row that answers do not fit together are worth a word.
const MOVED_WARN: u32 = 20;

/// What the loops of a chain share.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) chain: Arc<ChainConfig>,
    pub(super) source: Arc<RpcSource>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Health,
    /// The chain's lease.
    pub(super) seat: Seat,
    pub(super) stop: CancellationToken,
}

pub(super) fn spawn_chain(tasks: &mut JoinSet<()>, parts: Parts) {
    let new_head = Arc::new(Notify::new());
    let new_blocks = Arc::new(Notify::new());
    tasks.spawn(parts.clone().listen(Arc::clone(&new_head)));
    tasks.spawn(parts.clone().watch(new_head, Arc::clone(&new_blocks)));
    tasks.spawn(parts.settle(new_blocks));
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
            tokio::select! {
                () = self.source.listen(&poke) => {}
                _ = self.seat.lease.wait_for(Option::is_none) => {}
                () = self.stop.cancelled() => return,
            }
        }
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
        if let StoreError::Fenced { .. } = error {
            // Somebody took over while we slept; the keeper will notice too.
            tracing::warn!(chain.name = self.chain.rules.name, error = %error, "fenced");
            let changed = self.seat.lease.wait_for(|lease| lease.as_ref() != Some(held));
            let _ = tokio::time::timeout(PAUSE_MAX, changed).await;
            return true;
        }
        false
    }

    async fn watch(mut self, poke: Arc<Notify>, new_blocks: Arc<Notify>) {
        let chain = Arc::clone(&self.chain);
        let name = &chain.rules.name;
        let mut cache = WatchCache::new(&self.chain.rules);
        let mut pauses = pauses();
        let mut progress = Progress::default();
        let mut moved = 0u32;
        while let Some(store) = self.held().await {
            let began = Instant::now();
            let source = self.source.as_ref();
            let step = watch(&chain.rules, source, &store, self.clock.as_ref(), &mut cache);
            let pause = match step.await {
                Ok(Watched::Idle) => {
                    pauses = super::pauses();
                    moved = 0;
                    None
                }
                Ok(Watched::Advanced { to, deposits, more, .. }) => {
                    self.health.found(Who::Task); // it committed
                    pauses = super::pauses();
                    moved = 0;
                    new_blocks.notify_one();
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
                    let live = self.source.is_live();
                    let tick = if live { chain.safety_poll } else { chain.poll };
                    self.wait(&poke, tick).await
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
        while let Some(store) = self.held().await {
            let source = self.source.as_ref();
            let step = settle(&chain.rules, source, &store, self.clock.as_ref());
            let go_on = match step.await {
                Ok(Settled { more: true, .. }) => !self.stop.is_cancelled(),
                Ok(done) => {
                    if done.confirmed > 0 || done.credited > 0 {
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
                    if !said {
                        tracing::warn!(chain.name = name, error = %error,
                            pause_ms = pause.as_millis(), "settling failed; trying again");
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
