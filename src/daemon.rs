//! Builds the parts, runs the tasks of every chain, and stops them all.
//!
//! The only place that owns tasks. Each chain has three: listen (WebSocket), watch and settle. A
//! failing activation is logged here, once, and tried again after a pause that grows; one chain's
//! trouble never touches another's tasks.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::SourceError;
use crate::chain::check::check_chain;
use crate::chain::rpc::RpcSource;
use crate::clock::Clock;
use crate::config::{ChainConfig, Config};
use crate::store::{Store, StoreError};
use crate::tasks::settle::{Settled, settle};
use crate::tasks::watch::{WatchCache, WatchError, Watched, watch};

/// How long tasks may take to finish the step they are in.
const DRAIN: Duration = Duration::from_secs(4);
/// So many times in a row that answers do not fit together are worth a word.
const MOVED_WARN: u32 = 20;
/// The longest pause between two failing activations.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A provider does not answer.
    #[error("chain {chain}: {source}")]
    Source {
        /// Name of the chain.
        chain: String,
        /// What happened.
        source: SourceError,
    },
    /// The live chain is not the configured one.
    #[error("chain {chain}: {question}: {problem}")]
    Mismatch {
        /// Name of the chain.
        chain: String,
        /// What was asked.
        question: String,
        /// What is wrong.
        problem: String,
    },
}

impl StartError {
    /// True when the operator must change something; false when waiting may help.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Mismatch { .. } => true,
            Self::Source { .. } => false,
            Self::Store(error) => matches!(
                error,
                StoreError::Refused(_)
                    | StoreError::Open { .. }
                    | StoreError::OtherNetwork { .. }
                    | StoreError::Newer { .. }
                    | StoreError::EpochChanged { .. }
            ),
        }
    }
}

/// The source of one chain.
///
/// # Errors
/// When its HTTP client cannot be built.
pub fn source(chain: &ChainConfig) -> Result<RpcSource, StartError> {
    let provider = &chain.provider;
    RpcSource::new(
        provider.name.clone(),
        provider.http.clone(),
        provider.ws.clone(),
        provider.timeout,
    )
    .map_err(|source| StartError::Source { chain: chain.rules.name.clone(), source })
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    store: Store,
    sources: Vec<Arc<RpcSource>>,
    _lock: File,
}

impl Daemon {
    /// Opens the store, checks every chain, and starts the tasks.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let store = Store::open(&config.database_url, config.network, clock.now_ms()).await?;
        let lock = store.lock_for_daemon()?;
        let mut sources = Vec::new();
        for chain in &config.chains {
            sources.push((chain, Arc::new(checked_source(chain).await?)));
        }
        store.sync_epochs(&config.epochs, clock.now_ms()).await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (chain, source) in &sources {
            spawn_chain(&mut tasks, chain, source, &store, &clock, &stop);
        }
        let sources = sources.into_iter().map(|(_, source)| source).collect();
        Ok(Self { stop, tasks, store, sources, _lock: lock })
    }

    /// The store, for reading.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Requests sent to all providers so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.sources.iter().map(|s| s.requests()).fold(0, u64::saturating_add)
    }

    /// Ends when a task ended that should not have: a bug of ours.
    pub async fn failed(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets every task finish the step it is in, and closes the store.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let drained = tokio::time::timeout(DRAIN, async {
            while self.tasks.join_next().await.is_some() {}
            self.store.close().await;
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                "tasks did not finish in time; what they had not committed is done again at the next start"
            );
            self.tasks.abort_all();
        }
    }
}

/// A source whose chain is the configured one.
async fn checked_source(chain: &ChainConfig) -> Result<RpcSource, StartError> {
    let name = || chain.rules.name.clone();
    let source = source(chain)?;
    let rules = &chain.rules;
    let answers = check_chain(&source, rules.id, &rules.tokens, &rules.policy, rules.start_block())
        .await
        .map_err(|source| StartError::Source { chain: name(), source })?;
    for answer in answers {
        if let Err(problem) = answer.verdict {
            return Err(StartError::Mismatch { chain: name(), question: answer.question, problem });
        }
    }
    Ok(source)
}

fn spawn_chain(
    tasks: &mut JoinSet<()>,
    chain: &ChainConfig,
    source: &Arc<RpcSource>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) {
    let chain = Arc::new(chain.clone());
    let new_head = Arc::new(Notify::new());
    let new_blocks = Arc::new(Notify::new());

    let (s, poke, token) = (Arc::clone(source), Arc::clone(&new_head), stop.clone());
    tasks.spawn(async move {
        token.run_until_cancelled(s.listen(&poke)).await;
    });

    let loop_of = Loop {
        chain: Arc::clone(&chain),
        source: Arc::clone(source),
        store: store.clone(),
        clock: Arc::clone(clock),
        stop: stop.clone(),
    };
    tasks.spawn(loop_of.clone().watch(new_head, Arc::clone(&new_blocks)));
    tasks.spawn(loop_of.settle(new_blocks));
}

#[derive(Clone)]
struct Loop {
    chain: Arc<ChainConfig>,
    source: Arc<RpcSource>,
    store: Store,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl Loop {
    /// Waits for a poke or a tick; false when the daemon stops.
    async fn wait(&self, poke: &Notify, tick: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = poke.notified() => true,
            () = tokio::time::sleep(tick) => true,
        }
    }

    async fn watch(self, poke: Arc<Notify>, new_blocks: Arc<Notify>) {
        let name = &self.chain.rules.name;
        let mut cache = WatchCache::new(&self.chain.rules);
        let mut pauses = pauses();
        let mut progress = Progress::default();
        let mut moved = 0u32;
        loop {
            let began = Instant::now();
            let source = self.source.as_ref();
            let step =
                watch(&self.chain.rules, source, &self.store, self.clock.as_ref(), &mut cache);
            let pause = match step.await {
                Ok(Watched::Idle) => {
                    pauses = self::pauses();
                    moved = 0;
                    None
                }
                Ok(Watched::Advanced { to, deposits, more, .. }) => {
                    pauses = self::pauses();
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
                    let pause = pauses.next().unwrap_or(PAUSE_MAX);
                    tracing::warn!(chain.name = name, error = %error,
                        pause_ms = pause.as_millis(), "watching failed; trying again");
                    Some(pause)
                }
            };
            let go_on = match pause {
                Some(pause) if pause.is_zero() => !self.stop.is_cancelled(),
                Some(pause) => {
                    self.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
                }
                None => {
                    let live = self.source.is_live();
                    let tick = if live { self.chain.safety_poll } else { self.chain.poll };
                    self.wait(&poke, tick).await
                }
            };
            if !go_on {
                return;
            }
        }
    }

    async fn settle(self, poke: Arc<Notify>) {
        let name = &self.chain.rules.name;
        let mut pauses = pauses();
        loop {
            let source = self.source.as_ref();
            let step = settle(&self.chain.rules, source, &self.store, self.clock.as_ref());
            let go_on = match step.await {
                Ok(Settled { more: true, .. }) => !self.stop.is_cancelled(),
                Ok(_) => {
                    pauses = self::pauses();
                    self.wait(&poke, self.chain.safety_poll).await
                }
                Err(error) => {
                    let pause = pauses.next().unwrap_or(PAUSE_MAX);
                    tracing::warn!(chain.name = name, error = %error,
                        pause_ms = pause.as_millis(), "settling failed; trying again");
                    self.wait(&poke, pause).await // one bad receipt must not delay the others
                }
            };
            if !go_on {
                return;
            }
        }
    }
}

/// Pauses between failing activations: from 100 ms, doubling, with jitter.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .build()
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
