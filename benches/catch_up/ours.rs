//! Everything here that calls this crate: a new database, the watch task, and what it recorded.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use topupd::chain::pool::Pool;
use topupd::chain::rpc::RpcSource;
use topupd::clock::{Clock, SystemClock};
use topupd::config::{ChainConfig, Config};
use topupd::store::{Acquired, LeasedStore, Store, chain_task};
use topupd::tasks::watch::{WatchCache, Watched, watch};

use crate::history::{ADDRESSES, CHAIN, FIRST, Found, TOKEN, address};
use crate::process;

/// Requests for logs that the watch task has under way at once.
pub const CONCURRENCY: usize = 4;

const NAMESPACES: usize = 50;

/// How catching up went.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct CaughtUp {
    /// From the first request until all rows are durable.
    pub seconds: f64,
    /// Processor time in between.
    pub cpu_seconds: f64,
    /// Most memory of the process until then.
    pub peak_mib: f64,
    /// Steps of the watch task.
    pub steps: u64,
    /// What is in the database.
    pub found: Found,
}

fn config(database: &Path, url: &str) -> Config {
    let text = format!(
        r#"
network = "testnet"
[database]
url = "sqlite:{}"
[chains.bench]
chain_id = {CHAIN}
start_block = {FIRST}
verify = "same-provider"
providers = [{{ name = "bench", http = "{url}" }}]
finality = [{{ confirmations = 2 }}]
tokens = [{{ symbol = "USDC", address = "{TOKEN}", decimals = 6 }}]
[[epochs]]
id = "one"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1000" }} }}
"#,
        database.display(),
    );
    Config::parse(&text, "bench", []).unwrap()
}

/// A new database with our addresses, and the lease on the chain.
async fn store(config: &Config, chain: &ChainConfig) -> LeasedStore {
    let store = Store::open(&config.database, config.network, 0).await.unwrap();
    store.sync_epochs(&config.epochs, 0).await.unwrap();
    let names: Vec<_> = (0..NAMESPACES).map(|i| format!("n{i}").parse().unwrap()).collect();
    for name in &names {
        store.add_namespace(name, 0).await.unwrap();
    }
    for i in 0..ADDRESSES {
        store.import_address(&names[i % NAMESPACES], address(i), 0).await.unwrap();
    }
    let task = chain_task(chain.rules.id);
    let hour = Duration::from_secs(3_600);
    let Acquired::Ours(lease) = store.acquire(&task, "bench", hour, true).await.unwrap() else {
        panic!("the lease is taken whoever has it")
    };
    store.holding(lease)
}

/// Follows the chain from its first block until nothing is new.
pub async fn catch_up(url: &str) -> CaughtUp {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("topupd.db");
    let config = config(&database, url);
    let chain = config.chains.first().unwrap();
    let store = store(&config, chain).await;
    let (provider, _) = chain.providers.first().unwrap().clone();
    let pool = Pool::admitted([RpcSource::new(provider).unwrap()]);
    let clock: &dyn Clock = &SystemClock;
    let mut cache = WatchCache::new(&chain.rules);

    let (began, cpu) = (Instant::now(), process::cpu_seconds(std::process::id()));
    let mut steps = 0;
    while watch(&chain.rules, &pool, &store, clock, &mut cache).await.unwrap() != Watched::Idle {
        steps += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu_seconds = process::cpu_seconds(std::process::id()) - cpu;
    let peak_mib = process::peak_mib();

    store.close().await;
    CaughtUp { seconds, cpu_seconds, peak_mib, steps, found: found(&database).await }
}

/// What is in the database, straight from its table.
async fn found(database: &Path) -> Found {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let sql = SqlitePool::connect_with(options).await.unwrap();
    let text = "SELECT raw_amount FROM deposits WHERE stage = 'pending'";
    let amounts: Vec<Vec<u8>> = sqlx::query_scalar(text).fetch_all(&sql).await.unwrap();
    Found {
        deposits: amounts.len() as u64,
        raw: amounts.iter().map(|raw| U256::from_be_slice(raw)).sum(),
    }
}
