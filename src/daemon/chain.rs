//! The tasks of one chain: listen, watch, settle, quote, survey and look, while this daemon holds the
//! chain's lease.
//!
//! Each is one step around a function of `tasks`; the driver has the loop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Failure, Next, Pace, Step, Task, Trouble};
use super::health::Health;
use super::seat::Seat;
use crate::chain::pool::{Pool, Standing};
use crate::chain::rpc::node::RpcSource;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::config::ChainConfig;
use crate::domain::chain_rules::ChainRules;
use crate::store::{Lease, LeasedStore, ProviderRow, Store, StoreError};
use crate::tasks::errors::{SettleError, WatchError};
use crate::tasks::frozen::{Freezes, check_frozen};
use crate::tasks::prices::capture::capture;
use crate::tasks::prices::market::Market;
use crate::tasks::rescan::outcome::{LookCache, Looked};
use crate::tasks::rescan::{backfill, recheck};
use crate::tasks::settle::settle;
use crate::tasks::survey::{stands_still, survey};
use crate::tasks::tokens::check_tokens;
use crate::tasks::watch::step::Watched;
use crate::tasks::watch::{WatchCache, watch};

/// A chain that waits, or answers that do not fit together, are worth a word when that lasts.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause where answers did not fit together: the chain moved while it was read.
const MOVED_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two looks for sources that are to be asked again.
const QUOTE_PAUSE: Duration = Duration::from_secs(1);
/// A provider that announces a head this long after another one is late.
const LATE: Duration = Duration::from_millis(300);

/// What the tasks of a chain share.
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
    let pokes = [Arc::clone(&new_blocks), Arc::clone(&new_payments)];
    let rules = &parts.chain.rules;
    let paces = |doing| Pace {
        chain: Some(rules.name.clone()),
        ..Pace::new(doing, parts.health.clone(), parts.stop.clone())
    };
    let driver = |pace| Driver { pace, seat: parts.seat.clone() };

    let listen = Listen { parts: parts.clone(), new_head: Arc::clone(&new_head) };
    tasks.spawn(driver(paces("listening")).run(listen));
    let pace = Pace { poke: new_head, ..paces("watching") };
    let cache = WatchCache::new(rules);
    let (is_synced, said_progress) = (false, None);
    let watch = Watch { parts: parts.clone(), cache, is_synced, said_progress, pokes };
    tasks.spawn(driver(pace).run(watch));
    // One bad receipt must not delay the others.
    let poke = Arc::clone(&new_blocks);
    let pace = Pace { poke, is_poked_in_trouble: true, ..paces("settling") };
    tasks.spawn(driver(pace).run(Settle(parts.clone())));
    if parts.market.has_sources() {
        let pace = Pace { poke: new_payments, ..paces("asking for prices") };
        tasks.spawn(driver(pace).run(Quote { parts: parts.clone(), settle: new_blocks }));
    }
    let pauses = (Duration::ZERO, parts.chain.safety_poll);
    let pace = Pace { pauses, ..paces("comparing providers") };
    let freezes = Freezes::new(parts.treasury);
    tasks.spawn(driver(pace).run(Survey { parts: parts.clone(), freezes }));
    let (late, second) = (LookCache::new(rules), LookCache::new(rules));
    let look = Look { parts: parts.clone(), late, second };
    tasks.spawn(driver(paces("looking again")).run(look));
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Store(error) => error.into(),
            error => Self::other(&error),
        }
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Store(error) => error.into(),
            SettleError::Source(error) => Self::other(&error),
        }
    }
}

impl Parts {
    fn rules(&self) -> &ChainRules {
        &self.chain.rules
    }

    fn holding(&self, lease: &Lease) -> LeasedStore {
        self.store.holding(lease.clone())
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
}

/// Listens for new heads while the lease is held: one that stands by needs none.
struct Listen {
    parts: Parts,
    new_head: Arc<Notify>,
}

impl Task for Listen {
    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let mut held = self.parts.seat.lease.clone();
        tokio::select! {
            () = self.hints() => {}
            _ = held.wait_for(|held| held.as_ref() != Some(lease)) => {}
            () = self.parts.stop.cancelled() => {}
        }
        Ok(Step::new(Next::Tick(LATE)))
    }
}

impl Listen {
    /// Passes on what the first provider announces. What another one announces counts only when the
    /// first is late with it: otherwise each block would be asked for as often as it is announced.
    async fn hints(&self) {
        let last = Mutex::new(Instant::now());
        let last = || last.lock().unwrap_or_else(PoisonError::into_inner);
        let (pool, clock) = (&self.parts.pool, self.parts.clock.as_ref());
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
                    self.new_head.notify_one();
                }
            };
            tokio::select! {
                () = source.listen(&announced) => {}
                () = pass_on => {}
            }
        }))
        .await;
    }
}

/// Follows the chain.
struct Watch {
    parts: Parts,
    cache: WatchCache,
    /// The tokens are registered, with this lease.
    is_synced: bool,
    /// When it was last said how far it has caught up.
    said_progress: Option<Instant>,
    /// Told of new blocks.
    pokes: [Arc<Notify>; 2],
}

impl Task for Watch {
    fn begin(&mut self) {
        self.cache = WatchCache::new(self.parts.rules());
        self.is_synced = false;
    }

    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let began = Instant::now();
        let store = self.parts.holding(lease);
        if !self.is_synced {
            self.sync_tokens(&store).await?;
            self.is_synced = true;
        }
        let Parts { pool, clock, .. } = &self.parts;
        let rules = &self.parts.chain.rules;
        let watched = watch(rules, pool, &store, clock.as_ref(), &mut self.cache).await;
        if let Err(WatchError::Moved(why)) = &watched {
            let what = "the provider's answers do not fit together; still trying";
            let trouble = Trouble { patience: PATIENCE, ..Trouble::new(what, why) };
            return Ok(Step::new(Next::Soon(MOVED_PAUSE)).waits(trouble));
        }
        match watched? {
            Watched::Idle => Ok(self.idle()),
            still @ (Watched::Halted | Watched::Contested { .. }) => {
                let what = "the chain stands still; see topupd status";
                let trouble = Trouble::new(what, &format!("{still:?}"));
                Ok(self.idle().waits(Trouble { is_error: true, ..trouble }))
            }
            Watched::Waiting { number, wait } => {
                let trouble = Trouble::new("the chain waits", &wait);
                let trouble = Trouble { block: Some(number), patience: PATIENCE, ..trouble };
                Ok(Step::new(Next::Soon(self.parts.chain.poll)).waits(trouble))
            }
            Watched::Advanced { to, deposits, more, .. } => {
                self.pokes.iter().for_each(|p| p.notify_one());
                tracing::debug!(
                    chain.name = rules.name,
                    block.number = to.number,
                    deposits,
                    elapsed_ms = began.elapsed().as_millis(),
                    "advanced"
                );
                self.say_progress(to.number, more);
                let step = if more { Step::new(Next::Now) } else { self.idle() };
                Ok(step.committed(true))
            }
        }
    }
}

impl Watch {
    /// Nothing more to do until there is a new head.
    fn idle(&self) -> Step {
        let Parts { chain, pool, clock, .. } = &self.parts;
        let live = pool.order(clock.now_ms()).first().is_some_and(|s| s.is_live());
        Step::new(Next::Tick(if live { chain.safety_poll } else { chain.poll }))
    }

    /// One line every few seconds while catching up.
    fn say_progress(&mut self, number: u64, behind: bool) {
        let due = self.said_progress.is_none_or(|at| at.elapsed() >= Duration::from_secs(5));
        if behind && due {
            let name = &self.parts.rules().name;
            tracing::info!(chain.name = name, block.number = number, "catching up");
            self.said_progress = Some(Instant::now());
        }
    }

    /// The tokens that are scanned from now on, said once for each time that the lease is taken.
    async fn sync_tokens(&self, store: &LeasedStore) -> Result<(), StoreError> {
        let rules = self.parts.rules();
        let tokens: Vec<_> = rules.tokens.iter().map(|t| t.address).collect();
        for token in store.sync_tokens(rules.id, &tokens, self.parts.clock.now_ms()).await? {
            tracing::debug!(chain.name = rules.name, token = %token,
                "token is new here: blocks that were scanned before are read again for it");
        }
        Ok(())
    }
}

/// Compares the providers, admits those that come back, looks at the tokens, and asks these about
/// our addresses.
struct Survey {
    parts: Parts,
    freezes: Freezes,
}

impl Task for Survey {
    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let store = self.parts.holding(lease);
        let Parts { chain, pool, clock, .. } = &self.parts;
        let (rules, clock) = (&chain.rules, clock.as_ref());
        survey(rules, pool, &store, clock).await?;
        check_tokens(rules, pool, &store, clock).await?;
        check_frozen(rules, pool, &store, clock, &mut self.freezes).await?;
        stands_still(rules, pool, &store, clock).await?;
        store.note_providers(rules.id, &self.parts.standings()).await?;
        // One that comes back is let in soon.
        let are_all_in = pool.all().all(|source| pool.is_admitted(source));
        let next = if are_all_in { Next::Tick } else { Next::Soon };
        Ok(Step::new(next(chain.safety_poll)))
    }
}

/// Reads old blocks again: for what was registered late, and, by another provider, all of them.
struct Look {
    parts: Parts,
    late: LookCache,
    second: LookCache,
}

impl Task for Look {
    fn begin(&mut self) {
        let rules = self.parts.rules();
        (self.late, self.second) = (LookCache::new(rules), LookCache::new(rules));
    }

    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let store = self.parts.holding(lease);
        let Parts { chain, pool, clock, .. } = &self.parts;
        let (rules, clock) = (&chain.rules, clock.as_ref());
        let late = backfill(rules, pool, &store, clock, &mut self.late).await;
        let second = recheck(rules, pool, &store, clock, &mut self.second).await;
        let mut more = false;
        for looked in [&late, &second] {
            if let Ok(Looked::Advanced { deposits }) = looked {
                more = true;
                if *deposits > 0 {
                    tracing::info!(chain.name = rules.name, deposits, "found in old blocks");
                }
            }
        }
        late.and(second)?;
        let next = if more { Next::Now } else { Next::Tick(chain.safety_poll) };
        Ok(Step::new(next).committed(more))
    }
}

/// Asks the sources of market prices about payments, as soon as they are seen.
struct Quote {
    parts: Parts,
    /// Told when there are answers.
    settle: Arc<Notify>,
}

impl Task for Quote {
    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let store = self.parts.holding(lease);
        let Parts { chain, market, clock, .. } = &self.parts;
        let captured = capture(&chain.rules, market, &store, clock.as_ref()).await?;
        let did = captured.done > 0;
        if did {
            self.settle.notify_one();
        }
        let tick = Next::Tick(chain.poll.min(QUOTE_PAUSE));
        Ok(Step::new(if captured.more { Next::Now } else { tick }).committed(did))
    }
}

/// Takes payments that are deep enough to their credits.
struct Settle(Parts);

impl Task for Settle {
    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let store = self.0.holding(lease);
        let Parts { chain, pool, market, clock, .. } = &self.0;
        let done = settle(&chain.rules, pool, market, &store, clock.as_ref()).await?;
        let next = if done.more { Next::Now } else { Next::Tick(chain.safety_poll) };
        let did = done.confirmed > 0 || done.credited > 0 || done.reversed > 0;
        Ok(Step::new(next).committed(did))
    }
}
