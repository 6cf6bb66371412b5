//! From a head to a durable row: announced head → `Pending`, confirming head → `Credited`.
//!
//! `cargo bench --bench latency`. On a local anvil over a live WebSocket, with the real tasks and a
//! SQLite file; beside them, in the same run and on the same disk, one bare commit of one row with
//! the same pragmas, which is what durability alone costs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, prints milliseconds, and owns its tasks"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use alloy::sol_types::SolCall;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use tokio::sync::Notify;
use topupd::chain::pool::Pool;
use topupd::chain::rpc::node::RpcSource;
use topupd::clock::{Clock, SystemClock};
use topupd::config::Config;
use topupd::devnet::{AnvilOptions, Devnet, TestToken};
use topupd::store::{Acquired, Store, chain_task};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

const ROUNDS: usize = 300;

fn report(name: &str, times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| {
        let i = (times.len().saturating_sub(1)) * share / 100;
        times.get(i).map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    println!("{name:<44} median {:>7.2} ms   p99 {:>7.2} ms", at(50), at(99));
    (at(50), at(99))
}

#[tokio::main]
async fn main() {
    let net = Devnet::start(AnvilOptions::default()).await.expect("anvil");
    let tokens = net.deploy_tokens().await.unwrap();
    net.automine(false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
network = "testnet"
[database]
url = "sqlite:{}"
[chains.local]
chain_id = 31337
start_block = 0
verify = "same-provider"
providers = [{{ name = "anvil", http = "{}", ws = "{}" }}]
finality = [{{ confirmations = 2 }}]
tokens = [{{ symbol = "USDC", address = "{}", decimals = 6 }}]
[[epochs]]
id = "one"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1000" }} }}
"#,
        dir.path().join("topupd.db").display(),
        net.anvil.http(),
        net.anvil.ws(),
        tokens.usdc
    );
    let config = Config::parse(&text, "bench", []).unwrap();
    let chain = config.chains.first().unwrap();
    let clock = SystemClock;
    let store = Store::open(&config.database, config.network, clock.now_ms()).await.unwrap();
    store.sync_epochs(&config.epochs, 0).await.unwrap();
    let namespace = "bench".parse().unwrap();
    store.add_namespace(&namespace, 0).await.unwrap();
    let to = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap();
    store.import_address(&namespace, to, 0).await.unwrap();
    let task = chain_task(chain.rules.id);
    let Acquired::Ours(lease) =
        store.acquire(&task, "bench", Duration::from_secs(600), true).await.unwrap()
    else {
        unreachable!("the lease is taken whoever has it")
    };
    let store = store.holding(lease);
    let (provider, _) = chain.providers.first().unwrap().clone();
    let source = RpcSource::new(provider).unwrap();
    let pool = Arc::new(Pool::admitted([source]));
    let poke = Arc::new(Notify::new());
    let (listening, woken) = (Arc::clone(&pool), Arc::clone(&poke));
    tokio::spawn(async move { listening.all().next().unwrap().listen(&woken).await });

    let options = SqliteConnectOptions::new()
        .filename(dir.path().join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let bare = SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB) STRICT")
        .execute(&bare)
        .await
        .unwrap();

    let rules = &chain.rules;
    let mut cache = WatchCache::new(rules);
    while !pool.all().next().unwrap().is_live() {
        poke.notified().await;
    }
    while watch(rules, pool.as_ref(), &store, &clock, &mut cache).await.unwrap() != Watched::Idle {}

    let (mut pending, mut credited, mut commit) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let call = TestToken::transferCall { to, value: U256::from(1_000_000) };
        net.send_data(net.payer(), Some(tokens.usdc), call.abi_encode().into()).await.unwrap();
        // The head that holds the payment: until its row is durable.
        net.mine(1).await.unwrap();
        poke.notified().await;
        let head = Instant::now();
        let seen = watch(rules, pool.as_ref(), &store, &clock, &mut cache).await.unwrap();
        pending.push(head.elapsed());
        assert!(matches!(seen, Watched::Advanced { deposits: 1, .. }), "{seen:?}");
        // The head that confirms it: until its credit is durable.
        net.mine(1).await.unwrap();
        poke.notified().await;
        let head = Instant::now();
        watch(rules, pool.as_ref(), &store, &clock, &mut cache).await.unwrap();
        let done = settle(rules, pool.as_ref(), &Market::default(), &store, &clock).await.unwrap();
        credited.push(head.elapsed());
        assert_eq!(done.credited, 1);
        let began = Instant::now();
        let mut tx = bare.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query("INSERT INTO bare (body) VALUES (zeroblob(300))")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        commit.push(began.elapsed());
    }
    println!("{ROUNDS} payments, one by one");
    let (commit, commit_p99) = report("one bare commit on this disk", &mut commit);
    let (pending, pending_p99) = report("head → durable Pending (1 commit)", &mut pending);
    let (credited, credited_p99) =
        report("confirming head → durable credit (4 commits)", &mut credited);
    println!(
        "beyond the commits: Pending {:.2} ms (p99 {:.2}), credit {:.2} ms (p99 {:.2})",
        pending - commit,
        pending_p99 - commit_p99,
        credited - 4.0 * commit,
        credited_p99 - 4.0 * commit_p99
    );
    println!(
        "ratio to one bare commit: Pending {:.1}, credit {:.1}",
        pending / commit,
        credited / commit
    );
}
