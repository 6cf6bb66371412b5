//! A loop, a task that does what it is told, and all that may happen to both.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;

use crate::daemon::driver::*;

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What is written down, by the task and by the log.
#[derive(Default)]
pub(super) struct Written {
    /// When each step began.
    pub(super) began: Vec<Duration>,
    /// How many steps ended.
    pub(super) ended: usize,
    log: Vec<u8>,
}

#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Written>>);

impl Notes {
    pub(super) fn all(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap()
    }

    /// How many lines of the log have this text.
    pub(super) fn lines(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.all().log).lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.all().log.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) type Done = Result<Step, Failure>;

/// Comes to what it is told, one after the other, and then to nothing for an hour.
pub(super) struct Script {
    outcomes: VecDeque<Done>,
    /// How long a step takes.
    pub(super) takes: Duration,
    /// What it says of its lease, each time that it is asked.
    pub(super) may_hold: VecDeque<Result<(), Failure>>,
    /// How many leases it has begun with.
    begun: Arc<Mutex<usize>>,
    began: Instant,
    notes: Notes,
}

impl Task for Script {
    async fn may_hold(&mut self) -> Result<(), Failure> {
        self.may_hold.pop_front().unwrap_or(Ok(()))
    }

    fn begin(&mut self) {
        *self.begun.lock().unwrap() += 1;
    }

    async fn step(&mut self, _: &Lease) -> Done {
        self.notes.all().began.push(self.began.elapsed());
        sleep(self.takes).await;
        self.notes.all().ended += 1;
        self.outcomes.pop_front().unwrap_or_else(|| Ok(Step::new(Next::Tick(HOUR))))
    }
}

/// A loop, and all that may happen to it.
pub(super) struct Scene {
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
    pub(super) poke: Arc<Notify>,
    pub(super) lease: watch::Sender<Option<Lease>>,
    pub(super) seat: Seat,
    pub(super) script: Option<Script>,
    pub(super) notes: Notes,
    pub(super) began: Instant,
    pub(super) begun: Arc<Mutex<usize>>,
    pub(super) is_poked_in_trouble: bool,
    pub(super) pauses: (Duration, Duration),
    running: JoinSet<()>,
    _log: DefaultGuard,
}

pub(super) fn lease(token: i64) -> Lease {
    Lease { task: "task".into(), holder: "we".into(), token, acquired_at_ms: token }
}

impl Scene {
    pub(super) fn new(outcomes: impl IntoIterator<Item = Done>) -> Self {
        let notes = Notes::default();
        let written = notes.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || written.clone())
            .finish();
        let log = tracing::subscriber::set_default(log);
        let (lease, seat) = Seat::new("the chain");
        let mut scene = Self {
            health: Health::default(),
            stop: CancellationToken::new(),
            poke: Arc::default(),
            lease,
            seat,
            script: None,
            notes,
            began: Instant::now(),
            begun: Arc::default(),
            is_poked_in_trouble: false,
            pauses: (Duration::ZERO, PAUSE_MAX),
            running: JoinSet::new(),
            _log: log,
        };
        scene.script = Some(scene.script_of(outcomes));
        scene
    }

    pub(super) fn script_of(&self, outcomes: impl IntoIterator<Item = Done>) -> Script {
        Script {
            outcomes: outcomes.into_iter().collect(),
            takes: Duration::ZERO,
            may_hold: VecDeque::new(),
            begun: Arc::clone(&self.begun),
            began: self.began,
            notes: self.notes.clone(),
        }
    }

    pub(super) fn script(&mut self) -> &mut Script {
        self.script.as_mut().unwrap()
    }

    /// Starts the loop, with the first lease if it is to have one.
    pub(super) fn start(&mut self, token: Option<i64>) {
        self.lease.send_replace(token.map(lease));
        let pace = Pace {
            chain: Some("local".into()),
            poke: Arc::clone(&self.poke),
            is_poked_in_trouble: self.is_poked_in_trouble,
            pauses: self.pauses,
            ..Pace::new("working", self.health.clone(), self.stop.clone())
        };
        let driver = Driver { pace, seat: self.seat.clone() };
        self.running.spawn(driver.run(self.script.take().unwrap()));
    }

    pub(super) async fn at(&self, at: Duration) {
        tokio::time::sleep_until(self.began + at).await;
    }

    /// When each step was taken.
    pub(super) fn steps(&self) -> Vec<Duration> {
        self.notes.all().began.clone()
    }

    pub(super) fn is_over(&mut self) -> bool {
        self.running.try_join_next().is_some()
    }
}
