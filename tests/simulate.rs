//! Many chains' worth of bad days: stories from seeds, played with the real tasks on a real store.
//!
//! `SEEDS=20000 cargo test --test simulate` plays more of them, `SEED=7 cargo test --test simulate
//! one_seed -- --nocapture` tells one. It simulates providers and the chain, never the store.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as expected"
)]

#[path = "support/database.rs"]
#[expect(dead_code, reason = "other test binaries use the rest")]
mod database;
#[path = "simulate/mod.rs"]
mod simulate;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use database::Engine;
use simulate::story::{Outcome, play};
use topupd::planted::{ALL, Fault};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// The fault that whoever runs this wants planted.
fn asked_for() -> Option<Fault> {
    let name = std::env::var("FAULT").ok()?;
    ALL.into_iter().find(|f| format!("{f:?}") == name)
}

fn told(seed: u64, fault: Option<Fault>, loud: bool) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play(Engine::Sqlite, seed, fault, loud))
}

/// Plays seeds on every core until one fails, the seeds are used up, or the time is.
fn play_all(
    seeds: std::ops::Range<u64>,
    fault: Option<Fault>,
    most: Duration,
) -> (u64, Outcome, Option<String>) {
    let next = AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let began = Instant::now();
    let found = std::sync::Mutex::new((0u64, Outcome::default(), None));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let stop = found.lock().unwrap().2.is_some() || began.elapsed() > most;
                if seed >= seeds.end || stop {
                    return;
                }
                let ended = told(seed, fault, false);
                let mut all = found.lock().unwrap();
                match ended {
                    Ok(outcome) => {
                        all.0 += 1;
                        all.1.credits += outcome.credits;
                        all.1.reversed += outcome.reversed;
                        all.1.findings += outcome.findings;
                        all.1.requests += outcome.requests;
                    }
                    Err(why) => all.2 = Some(format!("{why}\nreplay it: SEED={seed} cargo test --test simulate one_seed -- --nocapture")),
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// One liar among two or more providers never changes the ledger.
#[test]
fn every_seed_ends_with_the_ledger_of_the_final_chain() {
    let (from, seeds) = (number("FROM", 1), number("SEEDS", 100));
    let began = Instant::now();
    let (played, sum, failure) =
        play_all(from..from + seeds, None, Duration::from_secs(3_600 * 24));
    if let Some(why) = failure {
        panic!("{why}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{played} stories in {seconds:.0} s: {} credits, {} reversed, {} findings, {} requests",
        sum.credits, sum.reversed, sum.findings, sum.requests
    );
    assert_eq!(played, seeds);
    assert!(sum.credits as u64 > seeds && sum.reversed > 0 && sum.findings > 0, "{sum:?}");
}

/// What goes wrong in each of many seeds, for whoever mends: `ALL=400 … every_failure -- --nocapture`.
/// `FAULT=OneTag` plants a fault; `EACH=10` plays every tenth seed.
/// `WITHOUT=moves,claims` leaves two things out of the stories.
#[test]
fn every_failure() {
    let (from, seeds, each) = (number("FROM", 1), number("ALL", 0), number("EACH", 1));
    let fault = asked_for();
    let next = AtomicU64::new(from);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(each, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    if let Err(why) = told(seed, fault, false) {
                        println!("{why}\n");
                    }
                }
            });
        }
    });
}

/// Tells the story of one seed.
#[test]
fn one_seed() {
    let seed = number("SEED", 1);
    let outcome = told(seed, asked_for(), true);
    println!("{outcome:?}");
    outcome.unwrap();
}

/// The seeds that caught each fault of [`ALL`], in its order, when `PLANTED=all` searched from the first
/// one on. A change of the stories moves them; then the search goes on from there.
const CAUGHT_BY: [u64; ALL.len()] = [
    6, 30, 13, 20, 195, 20, 95, 51, 2, 23, 23, 1, 1, 2, 1, 9, 17, 8, 215, 9, 2, 11, 12, 4, 1, 1,
    22, 5, 55, 5,
];

/// Every planted fault is caught. From the seeds that are known to, unless `PLANTED=all` asks how many
/// it takes from the first seed on.
#[test]
fn every_planted_fault_is_caught() {
    let all = std::env::var("PLANTED").is_ok_and(|v| v == "all");
    let mut missed = Vec::new();
    for (i, fault) in ALL.into_iter().enumerate() {
        if asked_for().is_some_and(|asked| asked != fault) {
            continue;
        }
        let first = CAUGHT_BY.get(i).copied().filter(|_| !all).unwrap_or(1);
        let began = Instant::now();
        let most = Duration::from_secs(if all { 600 } else { 1_800 });
        let (played, _, failure) = play_all(first..first + 1_500, Some(fault), most);
        match failure {
            Some(why) => println!(
                "{fault:?}: caught after {} seeds from {first} on, by {}, {:.1} s: {}",
                played + 1,
                why.split_whitespace().find(|word| word.starts_with("SEED=")).unwrap_or_default(),
                began.elapsed().as_secs_f64(),
                why.lines().next().unwrap_or_default().chars().take(140).collect::<String>()
            ),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
