//! The one loop that every task runs in.
//!
//! A task is a step ([`Task`]). When it is taken, the loop decides: while the task's lease is held and the database
//! may be tried, at a tick, at a poke, or after a pause that grows while steps fail. It ends at a stop, and never in
//! the middle of a step. What goes wrong is said here, once ([`Said`]), and the next step is the retry. The loop knows
//! nothing of what a step does.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::seat::Seat;
use crate::daemon::notices::Said;
use crate::store::{Lease, StoreError};

#[cfg(test)]
mod tests;

/// The longest pause between two failing steps.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The same where the database cannot be used.
pub(super) const DATABASE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a task without its lease asks anew whether it may hold it.
const LOOK: Duration = Duration::from_secs(2);

/// Pauses from 100 ms, doubling, with jitter, so that many daemons do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(PAUSE_MAX);
        Self(pauses.with_jitter().without_max_times().build())
    }
}

impl Backoff {
    /// The next pause, and no longer one than this.
    pub(super) fn next(&mut self, most: Duration) -> Duration {
        self.0.next().unwrap_or(PAUSE_MAX).min(most)
    }
}

/// One step of some work, again and again. Killed between two commits, the next step does the same.
pub(super) trait Task: Send {
    /// Whether this daemon may hold the task's lease. Asked before each lease, and while it has none.
    ///
    /// # Errors
    /// [`Failure::Barred`] where it may not. After any other failure it is taken to be allowed.
    fn may_hold(&mut self) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// A lease begins. What is remembered is of the one before: another daemon may have worked since, or the
    /// database gone back.
    fn begin(&mut self) {}

    /// One step.
    ///
    /// # Errors
    /// [`Failure`]; what was committed before stays.
    fn step(&mut self, lease: &Lease) -> impl Future<Output = Result<Step, Failure>> + Send;
}

/// When the next step is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to do.
    Now,
    /// After this time, or at a poke.
    Tick(Duration),
    /// The same, and sooner at first: the pause grows up to this.
    Soon(Duration),
}

/// What a step did.
#[derive(Debug)]
pub(super) struct Step {
    next: Next,
    committed: bool,
    waits: Option<Trouble>,
}

impl Step {
    pub(super) const fn new(next: Next) -> Self {
        Self { next, committed: false, waits: None }
    }

    /// Whether it committed something. Who found nothing to do has shown nothing of the database.
    pub(super) fn committed(self, committed: bool) -> Self {
        Self { committed, ..self }
    }

    /// The task does not get on, and nothing failed.
    pub(super) fn waits(self, trouble: Trouble) -> Self {
        Self { waits: Some(trouble), ..self }
    }
}

/// Why a task does not get on, for the log.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// What happens, in a sentence that reads alone; none where a step failed.
    pub(super) what: Option<&'static str>,
    /// Why. Said anew when it changes.
    pub(super) why: String,
    /// The block that waits.
    pub(super) block: Option<u64>,
    /// True where an operator must decide.
    pub(super) is_error: bool,
    /// Not worth a word before it has lasted for so long.
    pub(super) patience: Duration,
}

impl Trouble {
    /// Worth a word at once.
    pub(super) fn new(what: &'static str, why: &impl ToString) -> Self {
        Self { what: Some(what), ..Self::failure(why) }
    }

    fn failure(why: &impl ToString) -> Self {
        let (why, patience) = (why.to_string(), Duration::ZERO);
        Self { what: None, why, block: None, is_error: false, patience }
    }
}

/// Why a step failed, by what the loop does about it.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database cannot be used: all tasks wait until it can.
    Database {
        why: String,
        /// It was not reached at all, as opposed to one that cannot write.
        is_away: bool,
    },
    /// The lease is another daemon's, or the database went back: nothing is done with this lease any more.
    LeaseLost(String),
    /// This daemon's configuration is older than what others have registered: the lease is given back for good.
    Outdated(String),
    /// This daemon may not hold the lease: it is given back until it may.
    Barred(Trouble),
    /// Again after a pause that grows.
    Other(Trouble),
}

impl Failure {
    pub(super) fn other(why: &impl ToString) -> Self {
        Self::Other(Trouble::failure(why))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let why = error.to_string();
        match error {
            StoreError::Fenced { .. } | StoreError::WentBack(_) => Self::LeaseLost(why),
            StoreError::Outdated { .. } => Self::Outdated(why),
            error if error.is_unavailable() => Self::Database { why, is_away: error.is_away() },
            _ => Self::other(&why),
        }
    }
}

/// When a loop goes on, and what it says.
#[derive(Debug)]
pub(super) struct Pace {
    /// What the loop does, for the log.
    pub(super) doing: &'static str,
    /// The chain that it is about.
    pub(super) chain: Option<String>,
    /// Whose success a commit is.
    pub(super) who: Who,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
    /// Wakes it.
    pub(super) poke: Arc<Notify>,
    /// A poke ends the pause after a failure too.
    pub(super) is_poked_in_trouble: bool,
    /// The shortest and the longest pause after a failure.
    pub(super) pauses: (Duration, Duration),
    pub(super) backoff: Backoff,
    pub(super) said: Said,
}

impl Pace {
    /// For something that nothing wakes but its ticks.
    pub(super) fn new(doing: &'static str, health: Health, stop: CancellationToken) -> Self {
        Self {
            doing,
            chain: None,
            who: Who::Task,
            health,
            stop,
            poke: Arc::default(),
            is_poked_in_trouble: false,
            pauses: (Duration::ZERO, PAUSE_MAX),
            backoff: Backoff::default(),
            said: Said::default(),
        }
    }

    /// Waits as the outcome of a step asks for; false when the daemon stops.
    pub(super) async fn after(&mut self, done: Result<Step, Failure>) -> bool {
        let (pause, is_poked) = match done {
            Ok(step) => self.went(&step),
            Err(failure) => (self.failed(failure), self.is_poked_in_trouble),
        };
        if pause.is_zero() {
            return !self.stop.is_cancelled();
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = self.poke.notified(), if is_poked => true,
            () = sleep(pause) => true,
        }
    }

    /// What follows from a step that did not fail: the pause, and whether a poke ends it.
    fn went(&mut self, step: &Step) -> (Duration, bool) {
        if step.committed {
            self.health.found(self.who);
        }
        match &step.waits {
            Some(trouble) => self.say(trouble, None),
            None if matches!(step.next, Next::Soon(_)) => {}
            None => self.backoff = Backoff::default(),
        }
        if step.waits.is_none() && self.said.over() {
            tracing::info!(chain.name = self.chain, "{} goes on", self.doing);
        }
        match step.next {
            Next::Now => (Duration::ZERO, false),
            Next::Tick(tick) => (tick, true),
            Next::Soon(most) => (self.backoff.next(most), true),
        }
    }

    /// Says why it does not get on, and when it is tried again where that is known.
    fn say(&mut self, trouble: &Trouble, pause: Option<Duration>) {
        let Trouble { what, why, block, is_error, patience } = trouble;
        if !self.said.stands(why, *patience) {
            return;
        }
        let failed = || format!("{} failed; trying again", self.doing);
        let what = what.map_or_else(failed, str::to_owned);
        let (chain, pause) = (&self.chain, pause.map(|pause| pause.as_millis()));
        if *is_error {
            tracing::error!(chain.name = chain, block.number = block, why, "{what}");
        } else {
            tracing::warn!(
                chain.name = chain,
                block.number = block,
                why,
                pause_ms = pause,
                "{what}"
            );
        }
    }

    /// What follows from a failure: the pause.
    fn failed(&mut self, failure: Failure) -> Duration {
        let (least, most) = self.pauses;
        let trouble = match failure {
            Failure::Database { why, is_away } => {
                self.health.lost(&why, if is_away { Who::Keeper } else { self.who });
                return self.backoff.next(most.min(DATABASE_PAUSE_MAX)).max(least);
            }
            Failure::LeaseLost(why) | Failure::Outdated(why) => Trouble::failure(&why),
            Failure::Barred(trouble) | Failure::Other(trouble) => trouble,
        };
        let pause = self.backoff.next(most).max(least);
        self.say(&trouble, Some(pause));
        pause
    }
}

/// Runs one task while its lease is held.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) pace: Pace,
    pub(super) seat: Seat,
}

impl Driver {
    /// Takes steps until the daemon stops, or the task is for others.
    pub(super) async fn run(mut self, mut task: impl Task) {
        let mut of: Option<Lease> = None;
        while let Some(lease) = self.held(&mut task).await {
            if of.as_ref() != Some(&lease) {
                self.pace.backoff = Backoff::default();
                task.begin();
                of = Some(lease.clone());
            }
            let goes_on = match task.step(&lease).await {
                Err(Failure::LeaseLost(why)) => self.lost(&lease, &why).await,
                Err(Failure::Outdated(why)) => return self.leave(&why).await,
                Err(Failure::Barred(trouble)) => {
                    self.pace.say(&trouble, None);
                    self.seat.bar(true);
                    self.changed(&lease).await
                }
                done => self.pace.after(done).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// The lease, as soon as it is held and the database may be tried; `None` when the daemon stops.
    async fn held(&mut self, task: &mut impl Task) -> Option<Lease> {
        let stop = self.pace.stop.clone();
        let held = async {
            loop {
                self.pace.health.ready().await;
                let held = self.seat.lease.borrow().clone();
                if held.is_some() {
                    return held;
                }
                match task.may_hold().await {
                    Ok(()) => {}
                    Err(Failure::Barred(trouble)) => {
                        self.pace.say(&trouble, None);
                        self.seat.bar(true);
                        sleep(LOOK).await;
                        continue;
                    }
                    // One that cannot be asked now is no reason to leave the task to others.
                    Err(failure) => drop(self.pace.failed(failure)),
                }
                self.seat.bar(false);
                let seen = timeout(LOOK, self.seat.lease.wait_for(Option::is_some)).await;
                if matches!(seen, Ok(Err(_))) {
                    return None; // nobody keeps it any more
                }
            }
        };
        stop.run_until_cancelled(held).await?
    }

    /// Somebody took over while we slept, or the database went back: the keeper will notice too.
    async fn lost(&mut self, lease: &Lease, why: &str) -> bool {
        tracing::warn!(chain.name = self.pace.chain, error = why, "nothing is written");
        // What it waited for then, another daemon does now.
        self.pace.said = Said::default();
        self.changed(lease).await
    }

    /// Waits until this lease is held no more, for as long as the keeper may need; false when the daemon stops.
    async fn changed(&mut self, lease: &Lease) -> bool {
        let changed = self.seat.lease.wait_for(|held| held.as_ref() != Some(lease));
        match self.pace.stop.run_until_cancelled(timeout(PAUSE_MAX, changed)).await {
            Some(Ok(changed)) => changed.is_ok(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Gives the lease back for good. The task stays, and does nothing.
    async fn leave(&self, why: &str) {
        if self.seat.leave() {
            let leaves = self.seat.leaves;
            tracing::error!(
                chain.name = self.pace.chain,
                error = why,
                "this daemon leaves {leaves} to others"
            );
        }
        self.pace.stop.cancelled().await;
    }
}
