//! Durable credits and deposits per second, through the store's own commits, beside the same rows
//! written bare.
//!
//! `cargo bench --bench postings`. SQLite: beside a loop of prepared statements. PostgreSQL with one
//! and eight writers, who each post to a journal of their own: beside `pgbench` with a script of the same
//! statements. The server is a throwaway one that waits for the disk (`fsync` on).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, prints ratios, and owns its tasks"
)]

mod bare;
mod epochs;
mod story;

use std::time::{Duration, Instant};

use topupd::devnet::{Postgres, PostgresOptions};
use topupd::domain::finality::Verify;
use topupd::domain::ids::DepositId;
use topupd::store::{Demanded, LeasedStore};

use story::{Plan, Story};

/// Credits in one commit: as a payment that comes alone, and as in catch-up.
const BATCHES: [usize; 2] = [1, 256];
/// Writers on PostgreSQL, each with a chain and a lease of its own.
const WRITERS: usize = 8;
/// Deposits in one commit of catch-up.
const SCAN: usize = 1_000;
/// Commits measured with one credit in each, by one writer.
const ONES: usize = 1_500;
/// Credits measured with many in a commit, by one writer.
const MANY: usize = 256 * 40;

fn per_second(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

/// Credits each writer's deposits, so many a commit; all writers at once.
async fn credit(writers: Vec<(LeasedStore, Vec<DepositId>)>, batch: usize) -> f64 {
    let all: usize = writers.iter().map(|(_, ids)| ids.len()).sum();
    let began = Instant::now();
    let tasks: Vec<_> = writers
        .into_iter()
        .map(|(store, ids)| {
            let epochs = epochs::epochs();
            tokio::spawn(async move {
                for ids in ids.chunks(batch) {
                    let ways = &[Verify::SameProvider];
                    let demanded = Demanded { ways, checks: &[], epochs: &epochs };
                    let posted = store.commit_credits(ids, demanded).await.unwrap();
                    assert_eq!(posted.posted.len(), ids.len());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    per_second(all, began.elapsed())
}

fn line(what: &str, ours: f64, bare: f64) {
    println!("{what:<54} {ours:>8.0}/s   bare {bare:>8.0}/s   bare is {:>4.2} × ours", bare / ours);
}

fn verified_line(verified: f64, credited: &[f64]) {
    let fastest = credited.iter().copied().fold(0.0, f64::max);
    let what = "  credits verified, column by column";
    println!("{what:<54} {verified:>8.0}/s   {:>4.2} × as fast as written", verified / fastest);
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("topupd.db");
    let url = format!("sqlite:{}", path.display());
    let mut story = Story::new(&url, &Plan { chains: 1, deposits: ONES + MANY }).await;
    println!("SQLite, one writer");
    let scanned = story.scanned;
    let mut ours = Vec::new();
    for batch in BATCHES {
        let ids = story.take(0, if batch == 1 { ONES } else { MANY });
        ours.push(credit(vec![(story.stores[0].clone(), ids)], batch).await);
    }
    let verified = story.verify().await;
    story.close().await;
    let bare = bare::sqlite(&path, &BATCHES, ONES, MANY).await;
    for ((batch, ours), bare) in BATCHES.iter().zip(&ours).zip(&bare.credits) {
        line(&format!("  credits, {batch} a commit"), *ours, *bare);
    }
    line(&format!("  deposits seen, {SCAN} a commit"), scanned, bare.deposits);
    verified_line(verified, &ours);

    let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let server = Postgres::start(options).await.unwrap();
    println!("{}", server.described());
    for writers in [1, WRITERS] {
        let name = format!("with_{writers}");
        bare::create(&server, &name, "template1").await;
        let plan = Plan { chains: writers, deposits: (ONES + MANY) / writers };
        let mut story = Story::new(&server.url(&name), &plan).await;
        let scanned = story.scanned;
        let mut ours = Vec::new();
        for batch in BATCHES {
            let each = if batch == 1 { ONES } else { MANY } / writers;
            let stores = story.stores.clone();
            let ids = stores.into_iter().enumerate().map(|(i, s)| (s, story.take(i, each)));
            ours.push(credit(ids.collect::<Vec<_>>(), batch).await);
        }
        let verified = story.verify().await;
        story.close().await;
        let bare = bare::postgres(&server, &name, writers, &BATCHES, ONES, MANY).await;
        println!("  {writers} writer(s)");
        for ((batch, ours), bare) in BATCHES.iter().zip(&ours).zip(&bare.credits) {
            line(&format!("  credits, {batch} a commit"), *ours, *bare);
        }
        line(&format!("  deposits seen, {SCAN} a commit"), scanned, bare.deposits);
        verified_line(verified, &ours);
    }
}
