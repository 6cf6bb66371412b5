//! One story from a seed: a house, a world, providers that fail in their own ways, and steps in any
//! order, with crashes. After every step the invariants hold; after the storm the ledger is that of
//! the final chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use fastrand::Rng;
use topupd::chain::pool::Pool;
use topupd::clock::ManualClock;
use topupd::domain::ids::{ChainId, NamespaceName, Network};
use topupd::oracle::Web;
use topupd::planted::{Fault, crash_after, plant};
use topupd::store::{Acquired, LeasedStore, Store, StoreError, chain_task};
use topupd::tasks::ChainRules;
use topupd::tasks::look::{LookCache, Looked, backfill, recheck};
use topupd::tasks::market::Market;
use topupd::tasks::quotes::{Captured, capture};
use topupd::tasks::settle::{SettleError, Settled, settle};
use topupd::tasks::survey::survey;
use topupd::tasks::watch::{WatchCache, WatchError, Watched, watch};

use super::provider::{Faults, SimProvider};
use super::rules::{listed, rules, token};
use super::world::{Payment, Shared, Tx};
use super::{CONFIRMATIONS, FINAL, WINDOW};
use crate::database::{Engine, Sql, TestDatabase};

pub const GENESIS_MS: i64 = 1_700_000_000_000;
pub(super) const CHAIN: ChainId = ChainId(31_337);
const NAMESPACES: [&str; 2] = ["acme", "bolt"];
/// Steps of a storm.
const STEPS: u64 = 45;

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
    /// Payments are valued by feeds.
    pub(super) has_market: bool,
    pub(super) liar: usize,
    pub(super) clock: ManualClock,
    pub(super) watching: WatchCache,
    pub(super) late: LookCache,
    pub(super) second: LookCache,
    pub(super) addresses: usize,
    pub(super) next_tx: u64,
    pub(super) dropped: Vec<Tx>,
    pub(super) step: u64,
    pub(super) told: Vec<String>,
    pub(super) postings_seen: usize,
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
    ended.map_err(|why| format!("seed {seed}, step {}: {why}", sim.step))
}

async fn open(database: &TestDatabase) -> LeasedStore {
    let store = Store::open(&database.database(), Network::Testnet, GENESIS_MS).await.unwrap();
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
        let world = Shared::new(GENESIS_MS);
        let database = TestDatabase::emptied(engine).await;
        let store = open(&database).await;
        // By the seed alone, so that the other stories stay as they are.
        let has_market = seed.is_multiple_of(5);
        let rules = rules(&mut rng, 1, has_market);
        store.sync_epochs(&rules.epochs, GENESIS_MS).await.unwrap();
        for i in 0..NAMESPACES.len() {
            store.add_namespace(&name(i), GENESIS_MS).await.unwrap();
        }
        let victims: Vec<_> = (0..3).map(|i| (token(0), address(i))).collect();
        let providers = 2 + rng.usize(..3);
        // Half of all liars are the one that is asked first.
        let liar = if rng.bool() { 0 } else { rng.usize(..providers) };
        let pool = Arc::new(Pool::new((0..providers).map(|i| {
            let name = ["ann", "bob", "cyd", "dan"][i];
            (SimProvider::new(name, seed, world.clone(), victims.clone()), i as u32)
        })));
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
            has_market,
            liar,
            clock: ManualClock::at(GENESIS_MS),
            addresses: 0,
            next_tx: 0,
            dropped: Vec::new(),
            step: 0,
            told: vec![format!("seed {seed}: {providers} providers, number {liar} lies")],
            postings_seen: 0,
            requests: 0,
        };
        for _ in 0..2 {
            sim.register().await;
        }
        sim.sync_tokens().await.unwrap();
        // Some were not there when it all began: there is a history to catch up with.
        if sim.rng.bool() {
            for _ in 0..sim.rng.u64(10..50) {
                sim.mine();
            }
        }
        for _ in 0..2 {
            sim.worsen();
        }
        sim
    }

    fn tell(&mut self, what: impl Into<String>) {
        let (step, height) = (self.step, self.world.get().head().header.number);
        self.told.push(format!("{step:>4} @{height}: {}", what.into()));
    }

    async fn register(&mut self) {
        let i = self.addresses;
        self.addresses += 1;
        self.store.import_address(&name(i), address(i), GENESIS_MS).await.unwrap();
    }

    async fn sync_tokens(&self) -> Result<(), StoreError> {
        let tokens: Vec<_> = self.rules.tokens.iter().map(|t| t.address).collect();
        self.store.sync_tokens(CHAIN, &tokens, GENESIS_MS).await.map(drop)
    }

    /// Forgets everything that is not in the database.
    async fn restart(&mut self) {
        crash_after(None);
        self.store.close().await;
        self.store = open(&self.database).await;
        self.watching = WatchCache::new(&self.rules);
        self.late = LookCache::new(&self.rules);
        self.second = LookCache::new(&self.rules);
        self.sync_tokens().await.unwrap();
    }

    fn payments(&mut self) -> Vec<Tx> {
        let count = self.rng.usize(..4);
        (0..count)
            .map(|_| {
                self.next_tx += 1;
                // Also to addresses that nobody registered yet, in tokens that are not listed yet.
                let payments = (0..1 + self.rng.usize(..2))
                    .map(|_| Payment {
                        token: token(self.rng.u8(..2)),
                        to: address(self.rng.usize(..6)),
                        amount: self.rng.u64(1..6) * 1_000_000,
                    })
                    .collect();
                Tx { hash: keccak256(format!("{} tx {}", self.seed, self.next_tx)), payments }
            })
            .collect()
    }

    fn mine(&mut self) {
        let mut txs = self.payments();
        if self.rng.bool() {
            txs.append(&mut self.dropped);
        }
        self.world.get().mine(txs);
    }

    fn fork(&mut self) {
        // Now and then deeper than the policy promises, never deeper than the window.
        let deepest = if self.rng.bool() { CONFIRMATIONS + 8 } else { CONFIRMATIONS - 1 };
        let depth = self.rng.u64(1..=deepest);
        let mut txs = self.world.get().rewind(depth);
        self.tell(format!("fork {depth} deep"));
        if self.rng.bool() {
            txs.reverse();
        }
        while self.rng.u8(..3) == 0 && !txs.is_empty() {
            let gone = txs.remove(self.rng.usize(..txs.len()));
            self.dropped.push(gone);
        }
        let blocks = depth + self.rng.u64(..2);
        for left in (1..=blocks).rev() {
            let share = txs.len() / left as usize;
            let now: Vec<Tx> = txs.drain(..share).collect();
            self.world.get().mine(now);
        }
        self.dropped.append(&mut txs);
    }

    fn worsen(&mut self) {
        let i = self.rng.usize(..self.pool.len());
        let rng = &mut self.rng;
        let mut faults = Faults {
            lag: if rng.u8(..3) == 0 { rng.u64(..12) } else { rng.u64(..2) },
            failing: [0, 0, 10, 40][rng.usize(..4)],
            too_large: [0, 20][rng.usize(..2)],
            limiting: [0, 0, 20][rng.usize(..3)],
            empty_for_unknown: rng.bool(),
            tells_time: rng.bool(),
            ..Faults::default()
        };
        if rng.u8(..4) == 0 {
            faults.stuck = Some(self.world.get().head);
        }
        if i == self.liar {
            faults.lies = [0, 30, 60, 100][rng.usize(..4)];
            faults.inventing = match rng.u8(..4) {
                // From far below the tip: what was credited would be undone.
                0 => {
                    faults.lag = rng.u64(4..10);
                    faults.lag + rng.u64(1..4)
                }
                1 => rng.u64(1..12),
                _ => 0,
            };
            faults.all_final = rng.bool();
        }
        if self.has_market {
            faults.keeps = [0, 0, 5, 12][rng.usize(..4)];
            faults.doubles = if i == self.liar { [0, 50, 100][rng.usize(..3)] } else { 0 };
        }
        let name = self.pool.all().nth(i).unwrap().name.clone();
        self.tell(format!("{name}: {faults:?}"));
        self.pool.all().nth(i).unwrap().state.lock().unwrap().faults = faults;
    }

    fn begin_step(&self) {
        for provider in self.pool.all() {
            provider.state.lock().unwrap().step = self.step;
        }
    }

    /// One activation of a task; its failure may be the provider's, never the database's.
    async fn act(&mut self, which: u8) -> Result<String, Failure> {
        let (rules, pool, store, clock) = (&self.rules, &self.pool, &self.store, &self.clock);
        let chains = BTreeMap::from([(CHAIN, (rules.clone(), Arc::clone(pool)))]);
        let market = Market { chains, web: Web::default() };
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
                Ok(()) => Ok(format!("survey: contested {:?}", pool.contested())),
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

    async fn run(&mut self) -> Result<Outcome, Failure> {
        while self.step < STEPS {
            self.step += 1;
            self.begin_step();
            self.clock.advance_ms(match self.rng.u8(..20) {
                0 => 600_000,
                1 => -300_000,
                _ => 3_000,
            });
            let choice = self.rng.u8(..24);
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
                _ => {
                    // Mostly in the order in which things get done.
                    let mut which = [0, 0, 1, 0, 1, 2, 3, 4][self.rng.usize(..8)];
                    if self.has_market && self.rng.u8(..3) == 0 {
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

    /// The storm is over: everybody is honest and awake, and everything is mined.
    async fn calm(&mut self) -> Result<Outcome, Failure> {
        for provider in self.pool.all() {
            let mut state = provider.state.lock().unwrap();
            state.faults = Faults::default();
            state.own.clear();
            state.registers = None;
        }
        self.restart().await;
        let last = std::mem::take(&mut self.dropped);
        self.world.get().mine(last);
        for _ in 0..WINDOW + FINAL + 2 {
            self.world.get().mine(Vec::new());
        }
        self.tell("calm");
        self.come_to_rest().await?;
        // And somebody comes very late.
        for i in 0..6 {
            let known = self.store.addresses(None).await.map_err(|e| e.to_string())?;
            if known.iter().all(|row| row.address != address(i)) {
                self.store.import_address(&name(i), address(i), 0).await.unwrap();
            }
        }
        if self.rules.tokens.len() < 2 {
            self.rules.tokens.push(listed(1));
        }
        self.restart().await;
        self.tell("latecomers");
        self.come_to_rest().await?;
        self.check().await?;
        self.requests = self.pool.all().map(|p| p.state.lock().unwrap().asked).sum();
        let verified = self.store.verify().await.map_err(|e| e.to_string())?;
        let verified = verified.map_err(|finding| finding.to_string())?;
        self.recompute().await?;
        if verified.on_orphaned_blocks > 0 {
            return Err(format!("{} credits rest on orphaned blocks", verified.on_orphaned_blocks));
        }
        let ours = self.standing().await;
        let expected = self.expected();
        if ours != expected {
            let missing: Vec<_> = expected.difference(&ours).collect();
            let invented: Vec<_> = ours.difference(&expected).collect();
            let rows = self.open_rows().await;
            return Err(format!("missing {missing:#?}, too many {invented:#?}\n{rows}"));
        }
        let findings = self.store.findings(10_000).await.map_err(|e| e.to_string())?.len();
        Ok(Outcome {
            credits: ours.len(),
            reversed: verified.reversed,
            findings,
            requests: self.requests,
        })
    }

    async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let mut quiet = 0;
        for _ in 0..200 {
            self.step += 1;
            self.begin_step();
            // Long enough for every pause and every rest; a price source's is five minutes at most.
            self.clock.advance_ms(if self.has_market { 301_000 } else { 61_000 });
            let mut idle = true;
            for which in [2, 0, 5, 1, 3, 4] {
                for _ in 0..20 {
                    let said = self.act(which).await?;
                    let rests = [
                        format!("watch: {:?}", Watched::Idle),
                        format!("settle: {:?}", Settled::default()),
                        format!("recheck: {:?}", Looked::Idle),
                        format!("backfill: {:?}", Looked::Idle),
                        "survey: contested None".to_owned(),
                        format!("capture: {:?}", Captured::default()),
                    ]
                    .contains(&said);
                    self.tell(said);
                    if rests || which == 2 {
                        idle &= rests;
                        break;
                    }
                    idle = false;
                }
            }
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
        }
        Err("does not come to rest".into())
    }
}
