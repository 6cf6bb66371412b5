//! One story from a seed: a house, a world, providers that fail in their own ways, and steps in any
//! order, with crashes. After every step the invariants hold; after the storm the ledger is that of
//! the final chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use fastrand::Rng;
use topupd::chain::pool::{Pool, Standing};
use topupd::clock::{Clock, ManualClock};
use topupd::domain::chain_rules::ChainRules;
use topupd::domain::ids::{BlockRef, ChainId, NamespaceName, Network};
use topupd::planted::{Fault, crash_after, plant};
use topupd::store::{Acquired, LeasedStore, ProviderRow, Store, StoreError, chain_task};
use topupd::tasks::errors::SettleError;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::capture::capture;
use topupd::tasks::prices::market::Market;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::{backfill, recheck};
use topupd::tasks::settle::settle;
use topupd::tasks::survey::survey;
use topupd::tasks::watch::{WatchCache, watch};

use super::people::People;
use super::plan::{Plan, Valued};
use super::provider::SimProvider;
use super::rules::{listed, rules, token};
use super::world::{Shared, Tx};
use crate::database::{Engine, Sql, TestDatabase};

pub const GENESIS_MS: i64 = 1_700_000_000_000;
pub(super) const CHAIN: ChainId = ChainId(31_337);
pub(super) const NAMESPACES: [&str; 2] = ["acme", "bolt"];
/// Steps of a storm.
const STEPS: u64 = 60;

/// What went wrong.
pub type Failure = String;

pub(super) fn address(i: usize) -> Address {
    Address::from_word(keccak256(format!("address {i}")))
}

pub(super) fn name(i: usize) -> NamespaceName {
    NAMESPACES[i % NAMESPACES.len()].parse().unwrap()
}

pub(super) struct Sim {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) world: Shared,
    pub(super) database: TestDatabase,
    pub(super) sql: Sql,
    pub(super) store: LeasedStore,
    pub(super) rules: ChainRules,
    pub(super) pool: Arc<Pool<SimProvider>>,
    pub(super) plan: Plan,
    pub(super) clock: ManualClock,
    pub(super) watching: WatchCache,
    pub(super) late: LookCache,
    pub(super) second: LookCache,
    pub(super) addresses: usize,
    pub(super) next_tx: u64,
    pub(super) dropped: Vec<Tx>,
    pub(super) step: u64,
    pub(super) told: Vec<String>,
    pub(super) people: People,
    pub(super) records_seen: usize,
    pub(super) cursor_seen: Option<BlockRef>,
    pub(super) requests: u64,
}

/// What a story came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    pub credits: usize,
    pub reversed: i64,
    pub findings: usize,
    pub requests: u64,
}

/// Plays the story of a seed, with a fault planted or not.
pub async fn play(
    engine: Engine,
    seed: u64,
    planted: Option<Fault>,
    loud: bool,
) -> Result<Outcome, Failure> {
    plant(planted);
    crash_after(None);
    let mut sim = Sim::new(engine, seed).await;
    let ended = sim.run().await;
    plant(None);
    crash_after(None);
    sim.store.close().await;
    if loud {
        println!("{}", sim.told.join("\n"));
    }
    let plan = &sim.told[0];
    ended.map_err(|why| format!("{why}\nstep {}, {plan}", sim.step))
}

async fn open(database: &TestDatabase, clock: &ManualClock) -> LeasedStore {
    let store = Store::open(&database.database(), Network::Testnet, GENESIS_MS).await.unwrap();
    let store = store.timed_by(Arc::new(clock.clone()));
    let hour = Duration::from_secs(3_600);
    let holder = format!("sim-{:08x}", fastrand::u32(..));
    match store.acquire(&chain_task(CHAIN), &holder, hour, true).await.unwrap() {
        Acquired::Ours(lease) => store.holding(lease),
        taken => panic!("{taken:?}"),
    }
}

impl Sim {
    async fn new(engine: Engine, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::of(seed, &mut rng);
        let world = Shared::new(GENESIS_MS);
        let database = TestDatabase::emptied(engine).await;
        let clock = ManualClock::at(GENESIS_MS);
        let store = open(&database, &clock).await;
        let rules = rules(&mut rng, &plan);
        store.sync_epochs(&rules.epochs, GENESIS_MS).await.unwrap();
        for i in 0..NAMESPACES.len() {
            store.add_namespace(&name(i), GENESIS_MS).await.unwrap();
        }
        let victims: Vec<_> = (0..3).map(|i| (token(0), address(i))).collect();
        let pool = Arc::new(Pool::new((0..plan.providers).map(|i| {
            let name = ["ann", "bob", "cyd", "dan"][i];
            let (quirks, lies) = (plan.quirks[i], plan.lies.clone());
            let provider =
                SimProvider::new(name, seed, world.clone(), quirks, lies, victims.clone());
            (provider, i as u32)
        })));
        let told = vec![format!("seed {seed}: {plan:?}")];
        let mut sim = Self {
            seed,
            watching: WatchCache::new(&rules),
            late: LookCache::new(&rules),
            second: LookCache::new(&rules),
            rng,
            world,
            sql: database.sql().await,
            database,
            store,
            rules,
            pool,
            plan,
            clock,
            addresses: 0,
            next_tx: 0,
            dropped: Vec::new(),
            step: 0,
            told,
            people: People::of(seed),
            records_seen: 0,
            cursor_seen: None,
            requests: 0,
        };
        for _ in 0..2 {
            sim.register().await;
        }
        sim.sync_tokens().await.unwrap();
        // Some were not there when it all began: there is a history to catch up with.
        for _ in 0..sim.plan.history {
            sim.mine();
        }
        for _ in 0..2 {
            sim.worsen();
        }
        sim
    }

    pub(super) fn tell(&mut self, what: impl Into<String>) {
        let (step, height) = (self.step, self.world.get().head().header.number);
        self.told.push(format!("{step:>4} @{height}: {}", what.into()));
    }

    async fn register(&mut self) {
        let i = self.addresses;
        self.addresses += 1;
        self.store.import_address(&name(i), address(i), GENESIS_MS).await.unwrap();
    }

    pub(super) async fn sync_tokens(&self) -> Result<(), StoreError> {
        let tokens: Vec<_> = self.rules.tokens.iter().map(|t| t.address).collect();
        self.store.sync_tokens(CHAIN, &tokens, GENESIS_MS).await.map(drop)
    }

    /// Forgets everything that is not in the database.
    pub(super) async fn restart(&mut self) {
        crash_after(None);
        self.store.close().await;
        self.store = open(&self.database, &self.clock).await;
        self.watching = WatchCache::new(&self.rules);
        self.late = LookCache::new(&self.rules);
        self.second = LookCache::new(&self.rules);
        self.sync_tokens().await.unwrap();
    }

    pub(super) fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(super) fn begin_step(&self) {
        self.world.get().step = self.step;
        for provider in self.pool.all() {
            provider.begin_step(self.step);
        }
    }

    /// Steps of these tasks, each with what must hold after it.
    pub(super) async fn acts(&mut self, which: &[u8]) -> Result<(), Failure> {
        for which in which {
            self.step += 1;
            self.begin_step();
            self.clock.advance_ms(3_000);
            let said = self.act(*which).await?;
            self.tell(said);
            self.check().await?;
        }
        Ok(())
    }

    /// One activation of a task; its failure may be the provider's, never the database's.
    pub(super) async fn act(&mut self, which: u8) -> Result<String, Failure> {
        let (rules, pool, store, clock) = (&self.rules, &self.pool, &self.store, &self.clock);
        let chains = BTreeMap::from([(CHAIN, (rules.clone(), Arc::clone(pool)))]);
        let market = Market { chains, ..Market::default() };
        let store_error = |error: StoreError| match error {
            StoreError::Refused(why) if why.contains("as planted") => Ok(why),
            error => Err(error.to_string()),
        };
        match which {
            0 => match watch(rules, pool, store, clock, &mut self.watching).await {
                Ok(watched) => Ok(format!("watch: {watched:?}")),
                Err(WatchError::Store(error)) => store_error(error),
                Err(error) => Ok(format!("watch: {error}")),
            },
            1 => match settle(rules, pool, &market, store, clock).await {
                Ok(settled) => Ok(format!("settle: {settled:?}")),
                Err(SettleError::Store(error)) => store_error(error),
                Err(error) => Ok(format!("settle: {error}")),
            },
            2 => match survey(rules, pool, store, clock).await {
                Ok(()) => match store.note_providers(CHAIN, &self.standings()).await {
                    Ok(()) => Ok(format!("survey: contested {:?}", pool.contested())),
                    Err(error) => store_error(error),
                },
                Err(error) => store_error(error),
            },
            3 => match recheck(rules, pool, store, clock, &mut self.second).await {
                Ok(looked) => Ok(format!("recheck: {looked:?}")),
                Err(WatchError::Store(error)) => store_error(error),
                Err(error) => Ok(format!("recheck: {error}")),
            },
            5 => match capture(rules, &market, store, clock).await {
                Ok(captured) => Ok(format!("capture: {captured:?}")),
                Err(SettleError::Store(error)) => store_error(error),
                Err(error) => Ok(format!("capture: {error}")),
            },
            _ => match backfill(rules, pool, store, clock, &mut self.late).await {
                Ok(looked) => Ok(format!("backfill: {looked:?}")),
                Err(WatchError::Store(error)) => store_error(error),
                Err(error) => Ok(format!("backfill: {error}")),
            },
        }
    }

    /// How the providers stand, as the daemon notes it.
    fn standings(&self) -> Vec<ProviderRow> {
        let now = self.clock_ms();
        // Over the wire, no greater height is believed.
        let height = |h: Option<u64>| h.map(|h| h.min(i64::MAX.cast_unsigned()));
        let row = |s: Standing| ProviderRow {
            provider: s.provider,
            state: s.state,
            head: height(s.head),
            safe: height(s.safe),
            finalized: height(s.finalized),
            latency_ms: s.latency_ms,
            failures: s.failures.into(),
            updated_at_ms: now,
        };
        self.pool.standings(now).into_iter().map(row).collect()
    }

    pub(super) async fn run(&mut self) -> Result<Outcome, Failure> {
        self.acts(&[2]).await?;
        while self.step < STEPS {
            self.people().await?;
            self.step += 1;
            self.begin_step();
            self.clock.advance_ms(match self.rng.u8(..20) {
                0 => 600_000,
                1 => -300_000,
                _ => 3_000,
            });
            let choice = self.rng.u8(..34);
            match choice {
                0..=5 => self.mine(),
                6 | 7 => self.fork(),
                8 | 9 => self.worsen(),
                10 if self.addresses < 5 => {
                    if self.rng.bool() {
                        self.register().await;
                        self.tell("an address is registered");
                    } else {
                        let i = self.addresses;
                        self.addresses += 1;
                        let registers = (Store::clone(&self.store), name(i), address(i));
                        for provider in self.pool.all() {
                            provider.state.lock().unwrap().registers = None;
                        }
                        let first = self.rng.usize(..self.pool.len());
                        let first = self.pool.all().nth(first).unwrap();
                        first.state.lock().unwrap().registers = Some(registers);
                        self.tell("an address will be registered while logs are read");
                    }
                }
                11 if self.rules.tokens.len() < 2 && self.rng.bool() => {
                    self.rules.tokens.push(listed(1));
                    self.sync_tokens().await.map_err(|e| e.to_string())?;
                    self.tell("a token is listed");
                }
                12 => {
                    self.restart().await;
                    self.tell("restart");
                }
                13 if self.plan.flips => self.there_and_back().await?,
                _ => {
                    // Mostly in the order in which things get done.
                    let mut which = [0, 0, 1, 0, 1, 0, 1, 2, 3, 4][self.rng.usize(..10)];
                    if self.plan.valued != Valued::Par && self.rng.u8(..3) == 0 {
                        which = 5;
                    }
                    let crash = self.rng.u8(..8) == 0;
                    if crash {
                        crash_after(Some(self.rng.u32(..3)));
                    }
                    let said = self.act(which).await?;
                    self.tell(said);
                    if crash {
                        self.restart().await;
                        self.tell("crash");
                    }
                    self.check().await?;
                }
            }
        }
        self.calm().await
    }
}
