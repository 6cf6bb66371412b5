//! Takes and renews the leases of a daemon's tasks, and so is the first to notice a database that
//! goes away or comes back.
//!
//! It tells the tasks what is held; that they write nothing without it, the store sees to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::{DATABASE_PAUSE_MAX, pauses};
use crate::clock::Clock;
use crate::domain::pricing::EpochBook;
use crate::store::{Acquired, Lease, Store, StoreError};

/// A daemon that waits for a lease looks at it at least this often.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that differs so much more or less from the database's than when it was last said is worth a word.
const CLOCK_OFF_MS: i64 = 5_000;

/// One task's lease, as the keeper sees it.
struct Kept {
    task: String,
    /// What the task sees: its lease while it is held.
    lease: watch::Sender<Option<Lease>>,
    /// Set by a task that must not go on: the lease is given back and not asked for again.
    retired: Arc<AtomicBool>,
    /// Who was last seen holding it, so that waiting is said once.
    waits_for: Option<String>,
}

/// What a task sees of its lease.
#[derive(Clone)]
pub(super) struct Seat {
    /// The lease while it is held.
    pub(super) lease: watch::Receiver<Option<Lease>>,
    /// Set to leave the task to other daemons.
    pub(super) retired: Arc<AtomicBool>,
}

/// Keeps the leases of one daemon.
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) holder: String,
    pub(super) duration: Duration,
    /// No other daemon can be running.
    pub(super) sole: bool,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
    /// Registered again in a database that has lost them.
    pub(super) epochs: Arc<EpochBook>,
    /// Why the database is being looked at, while it is: said once.
    looks_why: Option<String>,
    kept: Vec<Kept>,
    /// How far this machine's clock is from the database's, as it was last said.
    off_said_ms: i64,
}

impl Keeper {
    pub(super) fn new(
        store: Store,
        holder: String,
        duration: Duration,
        sole: bool,
        health: Health,
        stop: CancellationToken,
        epochs: Arc<EpochBook>,
    ) -> Self {
        Self {
            store,
            holder,
            duration,
            sole,
            health,
            stop,
            epochs,
            looks_why: None,
            kept: Vec::new(),
            off_said_ms: 0,
        }
    }

    /// From now on keeps the lease of this task too. The task watches what is returned.
    pub(super) fn keep(&mut self, task: String) -> Seat {
        let (lease, seen) = watch::channel(None);
        let retired = Arc::new(AtomicBool::new(false));
        let seat = Seat { lease: seen, retired: Arc::clone(&retired) };
        self.kept.push(Kept { task, lease, retired, waits_for: None });
        seat
    }

    pub(super) async fn run(mut self, machine: Arc<dyn Clock>) {
        let mut tries = pauses();
        loop {
            let pause = match self.round().await {
                Ok(()) => {
                    tries = pauses();
                    self.looks_why = None;
                    self.health.found(Who::Keeper);
                    self.compare_clocks(machine.now_ms());
                    self.interval()
                }
                Err(StoreError::WentBack(what)) => {
                    self.look_at_server(&what, self.store.clock().now_ms()).await;
                    tries.next().unwrap_or(DATABASE_PAUSE_MAX).min(DATABASE_PAUSE_MAX)
                }
                Err(error) => {
                    if error.is_unavailable() {
                        self.health.lost(&error, Who::Keeper);
                    } else {
                        tracing::warn!(error = %error, "the leases cannot be renewed; trying again");
                    }
                    tries.next().unwrap_or(DATABASE_PAUSE_MAX).min(DATABASE_PAUSE_MAX)
                }
            };
            if self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// The database is not as it was left: what is held, and all that was read, is of no use any more.
    async fn look_at_server(&mut self, what: &str, now_ms: i64) {
        if self.looks_why.as_deref() != Some(what) {
            tracing::info!(why = what, "looking at the database anew");
            self.looks_why = Some(what.to_owned());
        }
        for kept in &self.kept {
            kept.lease.send_replace(None);
        }
        let mut looked = self.store.look_at_server(&self.holder, now_ms).await;
        if looked.is_ok() && !self.kept.is_empty() {
            looked = self.store.sync_epochs(&self.epochs, now_ms).await;
        }
        if let Err(error) = looked {
            self.health.lost(&error, Who::Keeper);
        }
    }

    /// Renews what is held; asks for the rest. One lease's trouble does not keep it from the others.
    async fn round(&mut self) -> Result<(), StoreError> {
        // A server that is not written to is not told that this daemon is there, either.
        self.store.compare_now().await?;
        self.store.seen(&self.holder, !self.kept.is_empty()).await?;
        let mut failed = Ok(());
        for kept in &mut self.kept {
            let turn = kept.turn(&self.store, &self.holder, self.duration, self.sole).await;
            failed = failed.and(turn);
        }
        failed
    }

    /// Whenever one of the two clocks was set, it is said once. The round has just read the database's.
    fn compare_clocks(&mut self, ours: i64) {
        let off = ours.saturating_sub(self.store.clock().now_ms());
        if off.saturating_sub(self.off_said_ms).saturating_abs() <= CLOCK_OFF_MS {
            return;
        }
        if off.saturating_abs() <= CLOCK_OFF_MS {
            self.off_said_ms = 0;
            tracing::info!("this machine's clock agrees with the database's again");
        } else {
            self.off_said_ms = off;
            tracing::warn!(
                clock.off_ms = off,
                "this machine's clock differs from the database's: leases and all that is written go by the database's; find out which of the two is wrong, and set it right"
            );
        }
    }

    /// Often enough to renew in time after two failures, and to notice a free lease soon.
    fn interval(&self) -> Duration {
        let third = self.duration / 3;
        if self.sole { third } else { third.min(LOOK) }
    }
}

impl Kept {
    async fn turn(
        &mut self,
        store: &Store,
        holder: &str,
        duration: Duration,
        sole: bool,
    ) -> Result<(), StoreError> {
        let held = self.lease.borrow().clone();
        if self.retired.load(Ordering::Relaxed) {
            if let Some(lease) = held {
                store.release(&lease).await?;
                self.lease.send_replace(None);
            }
            return Ok(());
        }
        if let Some(lease) = held {
            if store.renew(&lease, duration).await? {
                return Ok(());
            }
            tracing::warn!(lease.task = self.task, "the lease was lost to another daemon");
            self.lease.send_replace(None);
        }
        match store.acquire(&self.task, holder, duration, sole).await? {
            Acquired::Ours(lease) => {
                tracing::info!(
                    lease.task = self.task,
                    lease.token = lease.token,
                    daemon = holder,
                    "took the lease"
                );
                self.waits_for = None;
                self.lease.send_replace(Some(lease));
            }
            Acquired::Taken { holder: other, .. } => {
                if self.waits_for.as_ref() != Some(&other) {
                    tracing::info!(
                        lease.task = self.task,
                        lease.holder = other,
                        daemon = holder,
                        "standing by: another daemon holds the lease"
                    );
                    self.waits_for = Some(other);
                }
            }
        }
        Ok(())
    }
}
