//! How fast committed records get their leaves, and what a proof costs in a log of ten million.
//!
//! `cargo bench --bench sequencer`, on both engines; PostgreSQL with its disk waited for (`fsync` on). Client and server
//! share the machine. The ten million leaves are made up, and their tiles written as the log writes them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    unreachable_pub,
    dead_code,
    reason = "a benchmark stops at the first surprise, prints ratios, and shares files with tests"
)]

#[path = "../tests/support/database.rs"]
mod database;
#[path = "../tests/house/log/written.rs"]
mod written;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use database::{Cell, Engine, Sql, TestDatabase};
use topupd::devnet::{Postgres, PostgresOptions};
use topupd::domain::ids::Network;
use topupd::domain::journal::Record;
use topupd::domain::log::edge::Edge;
use topupd::domain::log::key::PrivateKey;
use topupd::domain::log::tiles::{Tile, TileId, append};
use topupd::domain::log::tree::Hash;
use topupd::store::{Acquired, LeasedStore, LogSigner, RecordPlace, Round, Store};
use topupd::tasks::sequence::{SEQUENCE_TASK, sequence};
use written::{values, write_records};

/// Records that get leaves.
const RECORDS: usize = 100_000;
/// Leaves of the large log.
const LEAVES: u64 = 10_000_000;
/// Of them, those that are proved.
const PROVED: u64 = 200;
const START_MS: i64 = 1_700_000_000_000;

async fn store(database: &TestDatabase) -> LeasedStore {
    let store = Store::open(&database.database(), Network::Testnet, START_MS).await.unwrap();
    for name in ["acme", "bolt"] {
        store.add_namespace(&name.parse().unwrap(), START_MS).await.unwrap();
    }
    let hour = Duration::from_secs(3_600);
    match store.acquire(SEQUENCE_TASK, "bench", hour, true).await.unwrap() {
        Acquired::Ours(lease) => store.holding(lease),
        taken => panic!("{taken:?}"),
    }
}

async fn leaves_a_second(database: &TestDatabase) -> f64 {
    let store = store(database).await;
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::from_seed("example.com/bench".parse().unwrap(), [1; 32]).unwrap();
    let signer = LogSigner::new(key, dir.path().join("key"));
    sequence(&store, Some(&signer), true).await.unwrap();
    let mut sql = database.sql().await;
    for _ in 0..RECORDS / 2_000 {
        for journal in [1, 2] {
            write_records(&mut sql, journal, 1_000).await;
        }
    }
    let began = Instant::now();
    let mut records = 0;
    while let Round::Went(went) = store.sequence(Some(&signer), false).await.unwrap() {
        records += went.records;
    }
    let took = began.elapsed();
    assert_eq!(records, RECORDS);
    let verified = Instant::now();
    store.verify_log(None).await.unwrap().unwrap();
    println!("    verified {:.0} records/s", records as f64 / verified.elapsed().as_secs_f64());
    store.close().await;
    records as f64 / took.as_secs_f64()
}

/// Writes a log of ten million leaves, some of them of real records. Returns those.
async fn large_log(sql: &mut Sql) -> Vec<Record> {
    let records = write_records(sql, 1, usize::try_from(PROVED).unwrap()).await;
    sql.execute("DELETE FROM unlogged").await.unwrap();
    let step = LEAVES / PROVED;
    let mut leaves = Vec::new();
    for (n, record) in (0..).zip(&records) {
        let at = n * step + 17;
        leaves.push(vec![Cell::Int(at as i64), Cell::Int(1), Cell::Int(record.seq)]);
    }
    values(sql, "log_leaves (leaf_index, journal_id, seq)", leaves).await;
    let (mut edge, mut open) = (Edge::default(), BTreeMap::<TileId, Tile>::new());
    while edge.size() < LEAVES {
        let from = edge.size();
        let chunk: Vec<Hash> = (from..LEAVES.min(from + 65_536))
            .map(|leaf| match records.get((leaf / step) as usize) {
                Some(record) if leaf % step == 17 => Hash::of_leaf(record.seal.as_slice()),
                _ => Hash::of_leaf(&leaf.to_be_bytes()),
            })
            .collect();
        for part in append(&mut edge, &chunk).unwrap() {
            let before = open.remove(&part.id);
            let tile = part.onto(before).unwrap();
            open.insert(tile.id(), tile);
        }
        let done = edge.size() == LEAVES;
        let (full, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut open).into_values().partition(|tile| done || tile.width() == 256);
        open = rest.into_iter().map(|tile| (tile.id(), tile)).collect();
        sql.execute("BEGIN").await.unwrap();
        for tiles in full.chunks(200) {
            let row = |tile: &Tile| {
                let id = [Cell::Int(i64::from(tile.id().level)), Cell::Int(tile.id().index as i64)];
                [&id[..], &[Cell::Bytes(tile.to_bytes())]].concat()
            };
            values(sql, "log_tiles (level, idx, hashes)", tiles.iter().map(row).collect()).await;
        }
        sql.execute("COMMIT").await.unwrap();
    }
    let root = Cell::Bytes(edge.root().0.0.to_vec());
    let args = [Cell::Int(LEAVES as i64), root, Cell::Bytes(edge.to_bytes())];
    sql.execute_with("UPDATE log_state SET size = $1, root = $2, edge = $3", &args).await.unwrap();
    records
}

/// The median and the slowest of all proofs.
async fn proofs(database: &TestDatabase) -> (Duration, Duration) {
    let store = store(database).await;
    let records = large_log(&mut database.sql().await).await;
    let mut took = Vec::new();
    for record in &records {
        let place = RecordPlace { journal: record.journal, seq: record.seq };
        let began = Instant::now();
        let proved = store.prove_record(place).await.unwrap();
        took.push(began.elapsed());
        proved.file.verify_unsigned(record.seal.as_slice()).unwrap();
    }
    took.sort();
    store.close().await;
    (took[took.len() / 2], took[took.len() - 1])
}

#[tokio::main]
async fn main() {
    let server = Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() });
    let server = server.await.unwrap();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let new = async || match engine {
            Engine::Sqlite => TestDatabase::new(engine).await,
            Engine::Postgres => TestDatabase::on_server(server.url("postgres"), "template1").await,
        };
        println!("{engine:?}");
        println!("    sequenced {:.0} records/s", leaves_a_second(&new().await).await);
        let (median, slowest) = proofs(&new().await).await;
        println!("    a proof in a log of {LEAVES} leaves: {median:?}, the slowest {slowest:?}");
    }
}
