//! Takes and renews the leases of a daemon's tasks, and so is the first to notice a database that
//! goes away or comes back.
//!
//! It tells the tasks what is held; that they write nothing without it, the store sees to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::driver::{DATABASE_PAUSE_MAX, Next, Pace, Step};
use super::health::{Health, Who};
use super::seat::Seat;
use crate::clock::Clock;
use crate::domain::ids::Network;
use crate::domain::pricing::EpochBook;
use crate::store::{Acquired, Lease, Store, StoreError};

/// After so many rounds in which somebody else is at the memory, it is said.
const HELD_ROUNDS: u32 = 20;
/// A daemon that waits for a lease looks at it at least this often.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that differs so much more or less from the database's than when it was last said is worth a word.
const CLOCK_OFF_MS: i64 = 5_000;

/// One task's lease, as the keeper sees it.
struct Kept {
    task: String,
    /// What the task sees: its lease while it is held.
    lease: watch::Sender<Option<Lease>>,
    seat: Seat,
    /// Who was last seen holding it, so that waiting is said once.
    waits_for: Option<String>,
}

/// Keeps the leases of one daemon.
pub(super) struct Keeper {
    store: Store,
    holder: String,
    duration: Duration,
    /// No other daemon can be running.
    sole: bool,
    /// Registered again in a database that has lost them.
    epochs: Arc<EpochBook>,
    /// Why the database is being looked at, while it is: said once.
    looks_why: Option<String>,
    kept: Vec<Kept>,
    /// What was seen of the database could not be kept, and that was said.
    unkept: bool,
    /// So many rounds in a row somebody else was at it.
    held: u32,
    /// How far this machine's clock is from the database's, as it was last said.
    off_said_ms: i64,
}

impl Keeper {
    pub(super) fn new(
        store: Store,
        holder: String,
        duration: Duration,
        sole: bool,
        epochs: Arc<EpochBook>,
    ) -> Self {
        let (looks_why, kept, unkept, off_said_ms) = (None, Vec::new(), false, 0);
        Self {
            store,
            holder,
            duration,
            sole,
            epochs,
            looks_why,
            kept,
            unkept,
            held: 0,
            off_said_ms,
        }
    }

    /// From now on keeps the lease of this task too. The task watches what is returned.
    pub(super) fn keep(&mut self, task: String, leaves: &'static str) -> Seat {
        let (lease, seat) = Seat::new(leaves);
        self.kept.push(Kept { task, lease, seat: seat.clone(), waits_for: None });
        seat
    }

    pub(super) async fn run(mut self, mut pace: Pace, machine: Arc<dyn Clock>) {
        loop {
            let done = match self.round().await {
                Ok(()) => {
                    self.looks_why = None;
                    self.compare_clocks(machine.now_ms());
                    let tick = self.interval(pace.health.degraded().is_some());
                    Ok(Step::new(Next::Tick(tick)).committed(true))
                }
                Err(StoreError::WentBack(what)) => {
                    self.look_at_server(&what, &pace.health).await;
                    Ok(Step::new(Next::Soon(DATABASE_PAUSE_MAX)))
                }
                Err(error) => Err(error.into()),
            };
            if !pace.after(done).await {
                return;
            }
        }
    }

    /// The database is not as it was left: what is held, and all that was read, is of no use any more.
    async fn look_at_server(&mut self, what: &str, health: &Health) {
        let now_ms = self.store.clock().now_ms();
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
            health.lost(&error.to_string(), Who::Keeper);
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
        // Last: a disk that is slow, and somebody who holds the memory, delay no lease.
        self.keep_seen().await;
        failed
    }

    /// Keeps what was seen beside the log's key. Where that fails, it is said once, until it is done again.
    async fn keep_seen(&mut self) {
        match self.store.keep_seen().await {
            Ok(true) => (self.unkept, self.held) = (false, 0),
            // What somebody else keeps meanwhile is compared in the next round.
            Ok(false) => {
                self.held = self.held.saturating_add(1);
                if self.held == HELD_ROUNDS {
                    let why = "another process holds the lock of log.key.seen and does not let go: find who is frozen";
                    tracing::warn!(why, "a database that is put back may not be noticed");
                }
            }
            Err(why) if !std::mem::replace(&mut self.unkept, true) => {
                tracing::warn!(why = %why, "a database that is put back may not be noticed");
            }
            Err(_) => {}
        }
    }

    /// Whenever one of the two clocks was set, it is said once. The round has just read the database's.
    fn compare_clocks(&mut self, ours: i64) {
        let off = ours.saturating_sub(self.store.server_now_ms());
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

    /// Often enough to renew in time after two failures, to notice a free lease soon, and to let tasks try a database
    /// that they could not use.
    fn interval(&self, is_degraded: bool) -> Duration {
        let third = self.duration / 3;
        // Alone, and where nobody moves the clock, nobody waits for its word.
        let alone = self.sole && self.store.network() == Network::Mainnet;
        let third = if alone { third } else { third.min(LOOK) };
        if is_degraded { third.min(DATABASE_PAUSE_MAX) } else { third }
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
        if !self.seat.is_wanted() {
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
