//! Everything here that calls this crate: a new database, the watch task, and what it recorded.

use std::path::Path;
use std::time::Instant;

use alloy::primitives::U256;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use topupd::chain::pool::Pool;
use topupd::chain::rpc::node::RpcSource;
use topupd::clock::{Clock, SystemClock};
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

use crate::ground::{config, store};
use crate::history::{ADDRESSES, FIRST, Found};
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

/// Follows the chain from its first block until nothing is new.
pub async fn catch_up(url: &str) -> CaughtUp {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("topupd.db");
    let config = config(&database, url, FIRST);
    let chain = config.chains.first().unwrap();
    let store = store(&config, ADDRESSES, NAMESPACES).await;
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
