//! Pricing what one catch-up found: 10,000 stablecoin payments in 500 blocks, after the TGE, with
//! three sources on the chain, two of them feeds and one a real Uniswap pool.
//!
//! `cargo bench --bench pricing`. On a local anvil, with the real tasks and a SQLite file. Prints the
//! HTTP requests per block that pays us and source, and payments per second from the first question
//! to the last credit; beside them, in the same run and of the same node, what asking each of these
//! questions in a request of its own costs. With `-- --held` the pool is too thin, so that all of
//! them are on hold, and what is measured is how long a step takes that looks at them again.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark stops at the first surprise, and prints ratios"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Bytes, U256};
use serde_json::json;
use topupd::chain::rpc::node::RpcSource;
use topupd::clock::{Clock, ManualClock, SystemClock};
use topupd::config::Config;
use topupd::daemon::admit_providers;
use topupd::daemon::parts::{market, pool, web};
use topupd::devnet::{AnvilOptions, Devnet, Relay, TestToken};
use topupd::store::{Acquired, DepositFilter, Store, chain_task};
use topupd::tasks::prices::capture::capture;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

const BLOCKS: usize = 500;
const PAYMENTS: usize = 20;
const SOURCES: usize = 3;
/// Questions asked one by one, for comparison.
const ONE_BY_ONE: usize = 1_000;

#[tokio::main]
async fn main() {
    let held = std::env::args().any(|arg| arg == "--held");
    let now_s = u64::try_from(SystemClock.now_ms()).unwrap() / 1_000;
    let options = AnvilOptions { timestamp: Some(now_s - 10_000), ..AnvilOptions::default() };
    let net = Devnet::start(options).await.expect("anvil");
    let tokens = net.deploy_tokens().await.unwrap();
    let usdc_usd = net.deploy_feed(8, "USDC / USD").await.unwrap();
    let rtity_usd = net.deploy_feed(8, "RTITY / USD").await.unwrap();
    let dex = net.deploy_two_cent_pool(tokens.rtity, tokens.usdc).await.unwrap();
    let dollars_first = dex.token0 == tokens.usdc;
    for ago in [9_000, 8_000, 7_000] {
        net.mine_at(now_s - ago).await.unwrap();
        net.there_and_back(&dex, dollars_first, 1_000_000_000).await.unwrap();
    }
    net.answer(&usdc_usd, 99_990_000).await.unwrap();
    net.answer(&rtity_usd, 2_000_000).await.unwrap();
    let relay = net.deploy(Relay::BYTECODE.clone()).await.unwrap();
    let value = U256::from(10).pow(U256::from(15));
    net.transact(tokens.usdc, TestToken::mintCall { to: relay, value }).await.unwrap();
    net.automine(false).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
network = "testnet"
[database]
url = "sqlite:{}"
[wallet]
account_xpub = "xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr"
[chains.local]
chain_id = 31337
start_block = 0
verify = "same-provider"
providers = [{{ name = "anvil", http = "{}" }}]
finality = [{{ confirmations = 2 }}]
tokens = [
  {{ symbol = "USDC", address = "{}", decimals = 6 }},
  {{ symbol = "RTITY", address = "{}", decimals = 18 }},
]
[[epochs]]
id = "after"
starts_at = "2020-01-01T00:00:00Z"
phase = "post_tge"
[epochs.accept]
RTITY = {{ valuation = "fixed", credits_per_token = "50" }}
USDC = {{ valuation = "convert", into = "RTITY" }}
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "USDC / USD", heartbeat_s = 86400 }}]
[oracle.pairs."RTITY/USD"]
sources = [
  {{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "RTITY / USD", heartbeat_s = 86400 }},
  {{ kind = "uniswap_v3", name = "pool", chain = "local", pool = "{}", via = "USDC/USD", window_s = 600, min_liquidity = "{}" }},
]
"#,
        dir.path().join("topupd.db").display(),
        net.http,
        tokens.usdc,
        tokens.rtity,
        usdc_usd.proxy,
        rtity_usd.proxy,
        dex.address,
        if held { "1000000000000000000000000000000" } else { "1" },
    );
    let config = Config::parse(&text, "bench", []).unwrap();
    let clock = ManualClock::at(SystemClock.now_ms());
    let store = Store::open(&config.database, config.network, 0).await.unwrap();
    store.sync_epochs(&config.epochs, 0).await.unwrap();
    let name = "acme".parse().unwrap();
    store.add_namespace(&name, 0).await.unwrap();
    let xpub = config.account_xpub.as_ref().unwrap();
    let to = store.new_address(&name, xpub, 0).await.unwrap().address;

    println!("mining {} payments in {BLOCKS} blocks …", BLOCKS * PAYMENTS);
    let call = Relay::payManyCall {
        token: tokens.usdc,
        to: vec![to; PAYMENTS],
        amounts: vec![U256::from(1_000_000); PAYMENTS],
    };
    for _ in 0..BLOCKS {
        net.send(relay, call.clone()).await.unwrap();
        net.mine(1).await.unwrap();
    }
    net.mine(3).await.unwrap();

    let chain = config.chains[0].clone();
    let rules = &chain.rules;
    let pool = Arc::new(pool(&chain).unwrap());
    admit_providers(&chain, &pool, &SystemClock).await.unwrap();
    let market = market(&[(chain.clone(), Arc::clone(&pool))], web(&config).unwrap());
    let hour = Duration::from_secs(3_600);
    let Acquired::Ours(lease) =
        store.acquire(&chain_task(rules.id), "bench", hour, true).await.unwrap()
    else {
        return;
    };
    let store = store.holding(lease);
    let mut cache = WatchCache::new(rules);
    while watch(rules, &pool, &store, &clock, &mut cache).await.unwrap() != Watched::Idle {}

    let requests = || pool.all().map(RpcSource::requests).sum::<u64>();
    let (began, before) = (Instant::now(), requests());
    let mut done = 0;
    loop {
        let step = capture(rules, &market, &store, &clock).await.unwrap();
        done += step.done;
        if !step.more {
            break;
        }
    }
    let (captured, asked) = (began.elapsed(), requests() - before);
    assert_eq!(done, BLOCKS * SOURCES, "not every source answered for every block");
    let confirming = Instant::now();
    while settle(rules, &pool, &market, &store, &clock).await.unwrap().credited > 0 {}
    let settled = confirming.elapsed();
    if held {
        let mut looks = Vec::new();
        for _ in 0..5 {
            let began = Instant::now();
            settle(rules, &pool, &market, &store, &clock).await.unwrap();
            looks.push(began.elapsed());
        }
        let stages = store.status().await.unwrap().stages;
        println!("{stages:?}: looked at again in {looks:.2?}, the first time in {settled:.2?}");
        return;
    }
    let filter = DepositFilter { limit: i64::MAX, ..DepositFilter::default() };
    let deposits = store.deposits(&filter).await.unwrap();
    let credited = deposits.iter().filter(|d| d.stage.as_str() == "credited").count();
    assert_eq!(credited, BLOCKS * PAYMENTS);
    assert!(store.verify().await.unwrap().is_ok());

    // The yardstick: each question in a request of its own.
    let source = pool.all().next().unwrap();
    let block = deposits[0].block_hash;
    let data: Bytes = alloy::primitives::hex!("feaf968c").into(); // latestRoundData()
    let alone = Instant::now();
    for _ in 0..ONE_BY_ONE {
        let call = json!({ "to": rtity_usd.proxy, "data": data });
        let at = json!({ "blockHash": block });
        source.ask::<Bytes>("eth_call", (call, at)).await.unwrap();
    }
    let each = alone.elapsed().as_secs_f64() / ONE_BY_ONE as f64;
    // A pool is asked two questions, a feed one.
    let one_by_one = each * (BLOCKS * (SOURCES + 1)) as f64;

    let (seconds, per_block) = (captured.as_secs_f64(), asked as f64 / (BLOCKS * SOURCES) as f64);
    println!(
        "asked about {BLOCKS} blocks and {SOURCES} sources: {asked} requests in {seconds:.2} s"
    );
    println!(
        "requests per paying block and source: {per_block:.3}; per payment: {:.4}",
        asked as f64 / credited as f64
    );
    println!(
        "the same questions one by one: {one_by_one:.2} s; ours / that: {:.2}",
        seconds / one_by_one
    );
    let all = (captured + settled).as_secs_f64();
    println!(
        "{credited} payments confirmed, priced and credited in {all:.2} s: {:.0} payments/s, of which asking for prices {:.0} %",
        credited as f64 / all,
        100.0 * seconds / all
    );
}
