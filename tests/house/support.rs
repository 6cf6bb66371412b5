//! A database, a scripted chain and the rules between them; every test has its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256, keccak256};
use topupd::chain::pool::Pool;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog, ScriptedTx};
use topupd::chance::Chance;
use topupd::clock::ManualClock;
use topupd::domain::chain_rules::{ChainRules, FilterKind, Start};
use topupd::domain::deposit::Stage;
use topupd::domain::finality::{Finality, Policy, Tier, Verify};
use topupd::domain::ids::{ChainId, DepositId, NamespaceName, Network};
use topupd::domain::journal::Kind;
use topupd::domain::money::RawAmount;
use topupd::domain::pricing::{Epoch, EpochBook, Phase, Token};
use topupd::domain::terms::{Dust, Terms, Valuation};
use topupd::domain::wallet::AccountXpub;
use topupd::store::{
    Acquired, Act, Credited, Demanded, DepositFilter, DepositRow, Lease, LeasedStore, Store,
    StoreError, chain_task,
};
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::confirming::Settled;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

pub use crate::database::{Engine, TestDatabase};

pub const GENESIS_MS: i64 = 1_700_000_000_000;
pub const CHAIN: ChainId = ChainId(31_337);
pub const USDC: Address = Address::repeat_byte(0xc1);
pub const USDT: Address = Address::repeat_byte(0xc2);
pub const RTITY: Address = Address::repeat_byte(0xc3);
pub const UNLISTED: Address = Address::repeat_byte(0xc4);
pub const PAYER: Address = Address::repeat_byte(0xee);

/// The `i`-th deposit address; namespaces take them in turn.
pub fn address(i: usize) -> Address {
    Address::from_word(keccak256(format!("address {i}")))
}

pub const NAMESPACES: [&str; 3] = ["acme", "bolt", "cafe"];

pub fn name(text: &str) -> NamespaceName {
    text.parse().unwrap()
}

pub fn epochs() -> EpochBook {
    let terms = |valuation, minimum: Option<&str>, dust| Terms {
        valuation,
        minimum: minimum.map(|m| m.parse().unwrap()),
        dust,
    };
    let par = Valuation::Par { credits_per_usd: "1000".parse().unwrap() };
    let fixed = Valuation::Fixed { credits_per_token: "50.5".parse().unwrap() };
    EpochBook::new(vec![Epoch {
        id: "one".into(),
        starts_at_ms: GENESIS_MS,
        phase: Phase::PreTge,
        accept: BTreeMap::from([
            ("USDC".into(), terms(par.clone(), None, Dust::Ignore)),
            ("USDT".into(), terms(par, Some("1"), Dust::Accumulate)),
            ("RTITY".into(), terms(fixed, None, Dust::Ignore)),
        ]),
    }])
    .unwrap()
}

pub fn rules(confirmations: u64) -> ChainRules {
    let token = |address, symbol: &str, decimals| Token {
        chain: CHAIN,
        address,
        symbol: symbol.into(),
        asset: symbol.into(),
        decimals,
    };
    ChainRules {
        id: CHAIN,
        name: "scripted".into(),
        start: Start::Block(0),
        lag_max: 10,
        window: 64,
        range_max: 1_000,
        filter: FilterKind::Tokens,
        policy: Policy::new(vec![Tier {
            up_to_usd: None,
            finality: Finality::Confirmations(confirmations),
        }])
        .unwrap(),
        verify: Verify::SameProvider,
        fallback: None,
        tokens: vec![token(USDC, "USDC", 6), token(USDT, "USDT", 6), token(RTITY, "RTITY", 18)],
        known_tokens: Vec::new(),
        epochs: Arc::new(epochs()),
        oracle: Arc::default(),
        screening: None,
        unlisted_per_day: 10,
        time_ahead_max_ms: 315_360_000_000,
    }
}

/// A house that can be shut down and opened again.
pub struct House {
    pub database: TestDatabase,
    pub store: LeasedStore,
    pub rules: ChainRules,
    pub cache: WatchCache,
    /// Nobody is asked for prices; what asks about payments remembers whom it asked.
    pub market: Market<ScriptedChain>,
    pub clock: ManualClock,
}

impl House {
    pub async fn new(rules: ChainRules) -> Self {
        Self::on(crate::ENGINE, rules).await
    }

    pub async fn on(engine: Engine, rules: ChainRules) -> Self {
        let database = TestDatabase::emptied(engine).await;
        let clock = ManualClock::at(GENESIS_MS);
        let store = open(&database, &clock).await;
        store.sync_epochs(&rules.epochs, GENESIS_MS).await.unwrap();
        for (i, namespace) in NAMESPACES.iter().enumerate() {
            store.add_namespace(&name(namespace), GENESIS_MS).await.unwrap();
            for address_index in [i, i + NAMESPACES.len()] {
                store
                    .import_address(&name(namespace), address(address_index), GENESIS_MS)
                    .await
                    .unwrap();
            }
        }
        let cache = WatchCache::new(&rules);
        Self { database, store, rules, cache, market: Market::default(), clock }
    }

    /// Forgets everything that is not in the database.
    pub async fn restart(&mut self) {
        self.store.close().await;
        self.store = open(&self.database, &self.clock).await;
        self.cache = WatchCache::new(&self.rules);
        self.market = Market::default();
    }

    pub async fn watch(&mut self, chain: &ScriptedChain) -> Result<Watched, WatchError> {
        self.clock.advance_ms(1_000);
        watch(&self.rules, &only(chain), &self.store, &self.clock, &mut self.cache).await
    }

    pub async fn settle(&mut self, chain: &ScriptedChain) -> Settled {
        self.clock.advance_ms(1_000);
        settle(&self.rules, &only(chain), &self.market, &self.store, &self.clock).await.unwrap()
    }

    /// Watches and settles until nothing is left to do.
    pub async fn quiesce(&mut self, chain: &ScriptedChain) {
        for _ in 0..1_000 {
            let watched = match self.watch(chain).await {
                Ok(watched) => watched,
                Err(WatchError::Moved(why)) => {
                    println!("moved: {why}");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let settled = self.settle(chain).await;
            if watched == Watched::Idle && settled == Settled::default() {
                return;
            }
        }
        panic!("does not come to rest");
    }

    pub async fn deposits(&self) -> Vec<DepositRow> {
        let filter = DepositFilter { limit: 100_000, ..DepositFilter::default() };
        let mut deposits = self.store.deposits(&filter).await.unwrap();
        deposits.reverse();
        deposits
    }

    pub async fn stages(&self) -> Vec<String> {
        self.deposits().await.iter().map(|d| d.stage.to_string()).collect()
    }

    pub async fn balance(&self, namespace: &str) -> String {
        self.store.balance(&name(namespace)).await.unwrap().to_string()
    }

    /// The ledger without what depends on when and in which order things were done.
    pub async fn ledger(&self) -> Vec<(String, String, String)> {
        let mut lines = Vec::new();
        for namespace in NAMESPACES {
            for row in self.store.history(&name(namespace)).await.unwrap() {
                // The tip at which it was deep enough depends on when somebody looked.
                let mut cause: serde_json::Value = serde_json::from_str(&row.record.cause).unwrap();
                let fields = cause.as_object_mut().unwrap();
                if row.record.kind != Kind::DepositCorrected {
                    for key in ["head_number", "head_hash"] {
                        assert!(fields.remove(key).is_some());
                    }
                }
                // What is undone is named by its place and its seal, which are of one journal, and by whom.
                for key in ["seq", "record_id", "seal"] {
                    fields.remove(&format!("reverses_{key}"));
                    fields.remove(&format!("corrects_{key}"));
                }
                for key in ["proposer", "approver", "act", "act_hash"] {
                    fields.remove(key);
                }
                lines.push((
                    namespace.to_owned(),
                    row.record.subject.clone(),
                    format!("{} {cause}", row.change_nano),
                ));
            }
        }
        lines.sort();
        lines
    }

    /// Credits a deposit by the store of one who may hold the lease.
    pub async fn credit_by(
        &self,
        store: &LeasedStore,
        id: DepositId,
    ) -> Result<Credited, StoreError> {
        let ways = &[self.rules.verify];
        store
            .commit_credits(&[id], Demanded { ways, checks: &[], epochs: &self.rules.epochs })
            .await
    }

    /// An operator decides about a deposit.
    pub async fn act(&self, id: DepositId, act: &Act, who: &str) -> Result<i64, StoreError> {
        self.store.act(&self.rules.oracle, id, act, who, "why").await
    }

    /// One operator proposes it, and another one approves it.
    pub async fn decided(&self, id: DepositId, act: &Act) {
        let proposal = self.act(id, act, "alice").await.unwrap();
        let approve = approval(&self.store, proposal).await;
        self.act(id, &approve, "bob").await.unwrap();
    }

    pub async fn verify(&self) {
        let verified = self.store.verify().await.unwrap();
        assert!(verified.is_ok(), "{}", verified.unwrap_err());
    }
}

/// A pool of one provider.
pub fn only(chain: &ScriptedChain) -> Pool<ScriptedChain> {
    Pool::admitted([chain.clone()])
}

/// Chance that everybody can guess: the same in each run, and on both engines.
#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Chance for Counted {
    fn draw(&self) -> Option<[u8; 32]> {
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        Some(keccak256(format!("drawn {n}")).0)
    }
}

/// The store, in the hands of whoever asks: a new one in each life of the house, and in its time.
pub async fn open(database: &TestDatabase, clock: &ManualClock) -> LeasedStore {
    let mut place = database.database();
    place.chance = Arc::new(Counted::default());
    let store = Store::open(&place, Network::Testnet, GENESIS_MS).await.unwrap();
    let store = store.timed_by(Arc::new(clock.clone()));
    let lease = seize(&store).await;
    store.holding(lease)
}

/// The lease on the scripted chain, from whoever has it.
pub async fn seize(store: &Store) -> Lease {
    let holder = format!("house-{:08x}", fastrand::u32(..));
    let hour = Duration::from_secs(3_600);
    match store.acquire(&chain_task(CHAIN), &holder, hour, true).await.unwrap() {
        Acquired::Ours(lease) => lease,
        taken => panic!("{taken:?}"),
    }
}

pub fn tx(id: u64, logs: Vec<ScriptedLog>) -> ScriptedTx {
    ScriptedTx { hash: tx_hash(id), logs }
}

pub fn tx_hash(id: u64) -> B256 {
    keccak256(format!("tx {id}"))
}

pub fn pay(id: u64, token: Address, to: usize, amount: u128) -> ScriptedTx {
    tx(id, vec![ScriptedLog::transfer(token, PAYER, address(to), amount)])
}

pub fn mine_empty(chain: &ScriptedChain, blocks: u64) {
    for _ in 0..blocks {
        chain.mine(Vec::new());
    }
}

/// The approval of a proposal, by what it is; its price is repeated.
pub async fn approval(store: &Store, proposal: i64) -> Act {
    let act = store.act_by_id(proposal).await.unwrap().unwrap();
    let repeated = act.proposed().map(|(_, price)| price);
    Act::Approve { proposal, hash: act.hash(), repeated }
}

pub fn raw(amount: u64) -> RawAmount {
    RawAmount(U256::from(amount))
}

pub fn count(stages: &[Stage], wanted: Stage) -> usize {
    stages.iter().filter(|s| **s == wanted).count()
}

impl House {
    /// Integers straight from the database.
    pub async fn sql(&self, query: &'static str) -> Vec<Vec<i64>> {
        self.database.sql().await.ints(query).await
    }
}

/// An account key that everybody knows.
pub fn xpub() -> AccountXpub {
    // BIP-39's "abandon … about" at m/44'/60'/0'/0.
    AccountXpub::parse("xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr").unwrap()
}

/// What the script for auditors says of a file, and its exit code. Whoever has it open is gone by then.
pub fn script(database: &Path) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_ledger.py");
    let output = Command::new("python3").arg(script).arg(database).output();
    let Ok(output) = output else { panic!("python3 is needed to test docs/verify_ledger.py") };
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}
