//! How long `address new` takes beside three chains that catch up, on PostgreSQL with its disk waited for.
//!
//! `cargo bench --bench registering [-- ADDRESSES]` (300 unless said). Each chain commits 1,000 deposits at a time, as
//! fast as it can. Three lines: nobody else at work; beside the chains; and beside the chains as it was before, where each
//! commit of a chain shared the row that whoever registers takes alone (a second connection holds it meanwhile). Then
//! nobody may get an address at all: it is tried for a minute, and said how often. Client and server share the machine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code,
    reason = "a benchmark stops at the first surprise, prints milliseconds, owns its tasks, and shares files with tests"
)]

#[path = "../tests/support/database.rs"]
mod database;
#[path = "postings/epochs.rs"]
mod epochs;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, Bloom, U256, keccak256};
use database::Sql;
use epochs::epochs;
use topupd::devnet::{Postgres, PostgresOptions};
use topupd::domain::chain::Header;
use topupd::domain::deposit::Verdict;
use topupd::domain::ids::{
    AddressId, BlockRef, ChainId, Cursor, DepositKey, NamespaceName, Network, Shape, SightingKey,
};
use topupd::domain::money::RawAmount;
use topupd::domain::transfer::{Content, Sighting};
use topupd::domain::wallet::AccountXpub;
use topupd::store::{
    Acquired, LeasedStore, ScanChange, ScanOutcome, ScanRecord, SightingToStore, Store, chain_task,
};

const CHAINS: u64 = 3;
/// How long the way of before is tried.
const A_MINUTE: Duration = Duration::from_secs(60);
/// Deposits in one commit of a chain.
const SCAN: u64 = 1_000;
/// BIP-39's "abandon … about" at m/44'/60'/0'/0.
const XPUB: &str = "xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr";

fn hash(chain: ChainId, number: u64) -> B256 {
    keccak256(format!("block {chain} {number}"))
}

/// The next step of a chain: one block with so many payments to the first address.
fn step(chain: ChainId, number: u64, to: Address) -> ScanChange {
    let block = BlockRef { number, hash: hash(chain, number) };
    let header = Header {
        number,
        hash: block.hash,
        parent_hash: hash(chain, number.wrapping_sub(1)),
        time_ms: 1_000,
        bloom: Bloom::ZERO,
    };
    let sightings = (0..SCAN)
        .map(|log_index| SightingToStore {
            sighting: Sighting {
                key: SightingKey { chain, block_hash: block.hash, log_index },
                block_number: number,
                deposit: DepositKey {
                    chain,
                    tx_hash: keccak256(format!("tx {chain} {number} {log_index}")),
                    token: Address::repeat_byte(0xc1),
                    recipient: to,
                    shape: Shape::Transfer,
                    n: 0,
                },
                address_id: AddressId(1),
                content: Content::Transfer {
                    sender: Address::repeat_byte(0xee),
                    amount: RawAmount(U256::from(1_000_000)),
                },
            },
            verdict: Verdict::Accept,
        })
        .collect();
    let before = || BlockRef { number: number - 1, hash: hash(chain, number - 1) };
    ScanChange {
        chain,
        expected: if number == 0 { Cursor::Fresh } else { Cursor::At(before()) },
        book_newest: AddressId(1),
        lags: true,
        epochs: 1,
        orphaned: Vec::new(),
        outgoing: Vec::new(),
        sightings,
        scan: ScanRecord {
            from: block,
            to: block,
            method: "by_range",
            provider: "bench".into(),
            filter: "tokens",
            logs_seen: SCAN,
            logs_matched: SCAN,
        },
        adopted: vec![header],
        window: 64,
        unlisted_per_day: 0,
        findings: Vec::new(),
    }
}

/// A chain that catches up until it is told to stop.
async fn catches_up(
    store: LeasedStore,
    url: Option<String>,
    (chain, to): (ChainId, Address),
    (stops, commits): (Arc<AtomicBool>, Arc<AtomicU64>),
) {
    let mut shares = match url {
        Some(url) => Some(Sql::connect(&url).await),
        None => None,
    };
    let mut number = store.cursor(chain).await.unwrap().map_or(0, |(at, _)| at.number + 1);
    while !stops.load(Ordering::Relaxed) {
        let change = step(chain, number, to);
        if let Some(sql) = &mut shares {
            sql.execute("BEGIN").await.unwrap();
            sql.ints("SELECT address_id FROM database_server FOR SHARE").await;
        }
        let done = store.commit_scan(&change, 0).await.unwrap();
        assert!(matches!(done, ScanOutcome::Committed { .. }), "{done:?}");
        if let Some(sql) = &mut shares {
            sql.execute("COMMIT").await.unwrap();
        }
        number += 1;
        commits.fetch_add(1, Ordering::Relaxed);
    }
}

fn report(what: &str, mut times: Vec<Duration>, commits: f64) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{what:<34} median {:>8.1} ms   p99 {:>8.1} ms   {commits:>6.1} commits of chains a second",
        at(50),
        at(99)
    );
}

#[tokio::main]
async fn main() {
    let wanted: usize = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(300);
    let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let server = Postgres::start(options).await.unwrap();
    println!("{}", server.described());
    Sql::connect(&server.url("postgres")).await.execute("CREATE DATABASE bench").await.unwrap();
    let url = server.url("bench");
    let mut database: topupd::store::Database = url.parse().unwrap();
    database.connections = 20;
    let store = Store::open(&database, Network::Testnet, 0).await.unwrap();
    store.sync_epochs(&epochs(), 0).await.unwrap();
    let namespace: NamespaceName = "bench".parse().unwrap();
    store.add_namespace(&namespace, 0).await.unwrap();
    let to = Address::repeat_byte(1);
    store.import_address(&namespace, to, 0).await.unwrap();
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let ways = [("alone", false, false), ("beside three chains", true, false)];
    for (what, chains, before) in
        ways.into_iter().chain([("the same, as it was before", true, true)])
    {
        let (stops, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for chain in (1..=CHAINS).filter(|_| chains).map(ChainId) {
            let hour = Duration::from_secs(3_600);
            let task = chain_task(chain);
            let Acquired::Ours(lease) = store.acquire(&task, "bench", hour, true).await.unwrap()
            else {
                panic!("the lease is taken whoever has it")
            };
            let told = (Arc::clone(&stops), Arc::clone(&commits));
            let url = before.then(|| url.clone());
            let store = store.holding(lease);
            tasks.push(tokio::spawn(catches_up(store, url, (chain, to), told)));
        }
        let (mut times, all, mut refused) = (Vec::with_capacity(wanted), Instant::now(), 0);
        while times.len() < wanted && !(before && all.elapsed() > A_MINUTE) {
            let began = Instant::now();
            if let Err(error) = store.new_address(&namespace, &xpub, 0).await {
                // Whoever waited for the whole of the server's patience got nothing.
                assert!(before, "{error}");
                refused += 1;
            }
            times.push(began.elapsed());
        }
        let per_second = f64::from(u32::try_from(commits.load(Ordering::Relaxed)).unwrap())
            / all.elapsed().as_secs_f64();
        stops.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        let tried = times.len();
        report(what, times, per_second);
        if refused > 0 {
            println!("{:<34} {refused} of {tried} tries got no address", "");
        }
    }
    store.close().await;
}
