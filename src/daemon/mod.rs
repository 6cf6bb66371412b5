//! Builds the parts, runs the tasks of every chain, and stops them all.
//!
//! The only place that owns tasks. Each chain has five: listen (WebSocket), watch, settle, survey
//! (of its providers) and look (again, at old blocks), and quote, where there are market prices; they
//! work while this daemon holds the chain's lease. One more samples tickers, and one adds to the log. Each runs in a
//! loop of its own, the driver's: one chain's trouble never touches another's tasks.

mod chain;
mod driver;
mod health;
mod keeper;
mod notices;
pub mod parts;
mod ready;
mod sampler;
mod seat;
mod sequencer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::pool::Pool;
use crate::chain::rpc::node::RpcSource;
use crate::clock::Clock;
use crate::config::{ChainConfig, Config};
use crate::daemon::chain::spawn_chain;
use crate::daemon::driver::{DATABASE_PAUSE_MAX, Driver, Pace};
use crate::daemon::health::Who;
use crate::daemon::keeper::Keeper;
use crate::daemon::parts::{Start, StartError, retrying, screening_ready};
use crate::store::{Begin, DaemonLock, Database, KeptOpen, Lease, Store, StoreError, chain_task};
use crate::tasks::admit::admit;
use crate::tasks::prices::sample::{SAMPLE_TASK, tickers};
use crate::tasks::sequence::SEQUENCE_TASK;

pub use health::Health;

/// How long tasks may take to finish the step they are in.
const DRAIN: Duration = Duration::from_secs(4);
/// How long giving the leases back may take when the tasks did not finish.
const LEAVE: Duration = Duration::from_millis(800);

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    stop: CancellationToken,
    /// Stops the keeper: last, so that no lease runs out while its task finishes a step.
    stop_keeper: CancellationToken,
    tasks: JoinSet<()>,
    keeper: JoinSet<()>,
    store: Store,
    health: Health,
    holder: String,
    leases: Vec<watch::Receiver<Option<Lease>>>,
    pools: Vec<Arc<Pool<RpcSource>>>,
    kept: Option<Arc<KeptOpen>>,
    _lock: Option<DaemonLock>,
}

impl Daemon {
    /// Opens the store, checks every chain, and starts the tasks. Waits for a database that is
    /// away; a provider that is away is waited for while the tasks run. This machine's clock is only
    /// compared with the database's.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        config: &Config,
        machine: Arc<dyn Clock>,
        start: Start,
    ) -> Result<Self, StartError> {
        config.ready()?;
        screening_ready(config)?;
        let health = Health::default();
        let (store, lock) = open(config, &health, &start).await?;
        // The tasks of all daemons go by the clock of the database that they share.
        let clock = store.clock();
        let kept = store.keep_open(lock.is_some()).await?.map(Arc::new);
        let ready = ready::get_ready(config, &start, &store, &health, clock.as_ref()).await;
        let (chains, market) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                store.close().await;
                if let Some(kept) = &kept {
                    drop(kept.close().await);
                }
                return Err(error);
            }
        };
        let (stop, stop_keeper) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let mut leases = Vec::new();
        let pace = |doing| Pace::new(doing, health.clone(), stop.clone());
        let (duration, epochs) = (config.daemon.lease, Arc::clone(&config.epochs));
        let holder = start.holder.clone();
        let mut keep = Keeper::new(store.clone(), holder, duration, lock.is_some(), epochs);
        for (chain, pool) in &chains {
            let seat = keep.keep(chain_task(chain.rules.id), "the chain");
            leases.push(seat.lease.clone());
            let parts = chain::Parts {
                chain: Arc::new(chain.clone()),
                pool: Arc::clone(pool),
                market: Arc::clone(&market),
                store: store.clone(),
                clock: Arc::clone(&clock),
                treasury: config.oracle.treasury,
                health: health.clone(),
                seat,
                stop: stop.clone(),
            };
            spawn_chain(&mut tasks, parts);
        }
        if !chains.is_empty() && !tickers(&config.oracle.oracle).is_empty() {
            let seat = keep.keep(SAMPLE_TASK.to_owned(), "the samples of prices");
            leases.push(seat.lease.clone());
            let pause = config.oracle.sample;
            let sampler = sampler::Sampler {
                market: Arc::clone(&market),
                oracle: Arc::clone(&config.oracle.oracle),
                epochs: Arc::clone(&config.epochs),
                pause,
                store: store.clone(),
                clock: Arc::clone(&clock),
                silent: BTreeSet::new(),
            };
            // Who fails is not asked more often than who does not.
            let pace = Pace { pauses: (pause, pause), ..pace("taking samples of prices") };
            tasks.spawn(Driver { pace, seat }.run(sampler));
        }
        if start.tasks {
            let seat = keep.keep(SEQUENCE_TASK.to_owned(), "the log");
            // It is asked for when the log's key was compared.
            seat.bar(true);
            leases.push(seat.lease.clone());
            let signer = config.log.signer()?;
            let sequencer = sequencer::Sequencer::new(store.clone(), signer);
            let pauses = (sequencer::STOPPED, sequencer::STOPPED);
            let pace = Pace { poke: store.committed(), pauses, ..pace("adding to the log") };
            tasks.spawn(Driver { pace, seat }.run(sequencer));
        }
        let pace = Pace {
            who: Who::Keeper,
            pauses: (Duration::ZERO, DATABASE_PAUSE_MAX),
            ..Pace::new("renewing the leases", health.clone(), stop_keeper.clone())
        };
        let mut keeper = JoinSet::new();
        keeper.spawn(keep.run(pace, machine));
        if let Some(kept) = &kept {
            keeper.spawn(Arc::clone(kept).watch(stop_keeper.clone()));
        }
        let pools = chains.into_iter().map(|(_, pool)| pool).collect();
        Ok(Self {
            stop,
            stop_keeper,
            tasks,
            keeper,
            store,
            health,
            holder: start.holder,
            leases,
            pools,
            kept,
            _lock: lock,
        })
    }

    /// The store, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Requests sent to all providers so far.
    pub fn requests(&self) -> u64 {
        let sources = self.pools.iter().flat_map(|pool| pool.all());
        sources.map(RpcSource::requests).fold(0, u64::saturating_add)
    }

    /// Bytes received from all providers so far, over HTTP.
    pub fn bytes_received(&self) -> u64 {
        let sources = self.pools.iter().flat_map(|pool| pool.all());
        sources.map(RpcSource::bytes_received).fold(0, u64::saturating_add)
    }

    /// The providers of each chain, in the order of the configuration.
    pub fn pools(&self) -> &[Arc<Pool<RpcSource>>] {
        &self.pools
    }

    /// Whether the database answers.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Ends when a file of the database was taken away, or a task ended that should not have: a bug of ours.
    pub async fn failed(&mut self) {
        tokio::select! {
            Some(_) = self.tasks.join_next() => {}
            Some(_) = self.keeper.join_next() => {}
            else => std::future::pending::<()>().await,
        }
    }

    /// Lets every task finish the step it is in, gives the leases back, and closes the store. Returns what
    /// became of a database whose files were taken away.
    pub async fn shutdown(mut self) -> Option<String> {
        self.stop.cancel();
        let is_lost = self.kept.as_ref().is_some_and(|kept| kept.is_lost());
        let drained = tokio::time::timeout(DRAIN, async {
            while self.tasks.join_next().await.is_some() {}
            self.stop_keeper.cancel();
            while self.keeper.join_next().await.is_some() {}
            if !is_lost && let Err(error) = self.leave().await {
                tracing::warn!(error = %error, "the leases were not given back: they run out");
            }
            self.store.close().await;
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                "tasks did not finish in time; what they had not committed is done again at the next start"
            );
            self.tasks.abort_all();
            self.keeper.abort_all();
            // Safe while a step is under way: it holds the row, or finds the token as it was.
            let _ = tokio::time::timeout(LEAVE, self.leave()).await;
        }
        self.kept.as_ref()?.close().await
    }

    /// Another daemon need not wait for what this one gives up.
    async fn leave(&self) -> Result<(), StoreError> {
        let mut done = Ok(());
        for lease in &self.leases {
            let held = lease.borrow().clone();
            if let Some(lease) = held {
                done = done.and(self.store.release(&lease).await);
            }
        }
        done.and(self.store.left(&self.holder).await)
    }
}

/// Connects to the database; waits for one that is away.
/// Opens the database with its tables, and compares it with what was seen of it.
async fn open(
    config: &Config,
    health: &Health,
    start: &Start,
) -> Result<(Store, Option<DaemonLock>), StoreError> {
    let store = connect(config, health, start).await?;
    let clock = store.clock();
    // Before the schema is touched: another daemon may be at work on the file.
    let lock = if start.tasks { store.lock_for_daemon()? } else { None };
    retrying(health, || store.prepare(clock.now_ms())).await?;
    if let Some(key_file) = &config.log.key_file {
        store.recall(key_file).await?;
    }
    if start.tasks {
        retrying(health, || store.look_at_server(&start.holder, clock.now_ms())).await?;
    }
    Ok((store, lock))
}

async fn connect(config: &Config, health: &Health, start: &Start) -> Result<Store, StoreError> {
    let client = format!("topupd {}", start.holder);
    let begin = if start.create { Begin::Anywhere } else { Begin::New };
    let database = Database { client, ..config.database.clone() };
    retrying(health, || Store::connect(&database, config.network, begin)).await
}

/// Admits the providers of a chain that can be, for a command that asks them itself.
///
/// # Errors
/// When none of them can be.
pub async fn admit_providers(
    chain: &ChainConfig,
    pool: &Pool<RpcSource>,
    clock: &dyn Clock,
) -> Result<(), StartError> {
    for source in pool.all() {
        admit(&chain.rules, pool, source, clock).await;
    }
    if pool.all().any(|source| pool.is_admitted(source)) {
        return Ok(());
    }
    let (chain, why) = (chain.rules.name.clone(), pool.refused().unwrap_or_default());
    Err(if pool.all_wrong() {
        StartError::Mismatch { chain, why }
    } else {
        StartError::Silent { chain, why }
    })
}

/// Checks those providers of a chain that are not asked now, for a command that asks them itself. True
/// when one of them is asked from now on.
pub async fn admit_again(chain: &ChainConfig, pool: &Pool<RpcSource>, clock: &dyn Clock) -> bool {
    let mut is_new = false;
    for source in pool.all().filter(|source| !pool.is_admitted(source)) {
        is_new |= admit(&chain.rules, pool, source, clock).await;
    }
    is_new
}
