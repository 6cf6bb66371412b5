//! Logs per second from a provider's answer to durable rows, beside the same answers downloaded and
//! thrown away, and downloaded and parsed.
//!
//! `cargo bench --bench catch_up [-- --small]`. The provider is another process on this machine that
//! sends a generated history from memory, so the network costs what loopback costs. Ours is the
//! watch task, from a chain's first block until it is idle, with a SQLite file in the temporary
//! directory (`TMPDIR`), in a process of its own. (a) and (b) send the very requests for logs that
//! ours was given logs for, as many at once, and none of its other requests; each request has a
//! task, so they may use all processors. Both are given what ours must find out: which ranges are
//! small enough, and which headers matter.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "a benchmark stops at the first surprise, prints ratios, and owns its tasks"
)]

mod ground;
mod history;
mod ours;
mod process;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloy_rpc_types_eth::Log;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use history::{Found, Plan};
use ours::CaughtUp;
use server::{Journal, Server};

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Parser)]
struct Args {
    /// Another role than that of the benchmark; it starts itself in these.
    #[arg(hide = true)]
    role: Option<Role>,
    #[command(flatten)]
    plan: Plan,
    /// A tenth of the blocks.
    #[arg(long)]
    small: bool,
    /// How often each of the three is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests under way at once in (a) and (b).
    #[arg(long, default_value_t = ours::CONCURRENCY)]
    concurrency: usize,
    /// How long the provider thinks about each request.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Where the provider is.
    #[arg(long, hide = true, default_value = "")]
    url: String,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Serve,
    Ours,
}

/// What one way took once.
#[derive(Debug, Clone, Copy)]
struct Run {
    seconds: f64,
    cpu: f64,
    server_cpu: f64,
    logs: u64,
    log_bytes: u64,
}

impl Run {
    fn logs_per_second(&self) -> f64 {
        self.logs as f64 / self.seconds
    }

    fn line(&self, what: &str) {
        println!(
            "{what:<28} {:>9.0} logs/s {:>7.1} MiB/s   {:>6.2} s, processors {:>6.2} s and the server's {:>5.2} s",
            self.logs_per_second(),
            self.log_bytes as f64 / MIB / self.seconds,
            self.seconds,
            self.cpu,
            self.server_cpu,
        );
    }
}

/// What (a) and (b) do with an answer.
#[derive(Debug, Clone, Copy)]
enum With {
    Nothing,
    SerdeJson,
}

#[derive(serde::Deserialize)]
struct Answer {
    result: Vec<Log>,
}

/// Asks again what ours was given logs for.
async fn replay(
    client: &reqwest::Client,
    server: &Server,
    asked: &Journal,
    args: &Args,
    with: With,
) -> Run {
    let body = |(id, params): (usize, &Value)| {
        json!({ "jsonrpc": "2.0", "id": id, "method": "eth_getLogs", "params": params }).to_string()
    };
    let bodies: Arc<Vec<String>> = Arc::new(asked.ranges.iter().enumerate().map(body).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let me = std::process::id();
    let (cpu, server_cpu) = (process::cpu_seconds(me), server.cpu_seconds());
    let began = Instant::now();
    let workers: Vec<_> = (0..args.concurrency)
        .map(|_| {
            let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
            let (client, url) = (client.clone(), server.url.clone());
            tokio::spawn(async move {
                let (mut bytes, mut logs) = (0, 0);
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = client.post(&url).header("content-type", "application/json");
                    let mut answer = request.body(body.clone()).send().await.unwrap();
                    match with {
                        With::Nothing => {
                            while let Some(chunk) = answer.chunk().await.unwrap() {
                                bytes += chunk.len() as u64;
                            }
                        }
                        With::SerdeJson => {
                            let body = answer.bytes().await.unwrap();
                            bytes += body.len() as u64;
                            let answer: Answer = serde_json::from_slice(&body).unwrap();
                            logs += answer.result.len() as u64;
                        }
                    }
                }
                (bytes, logs)
            })
        })
        .collect();
    let (mut log_bytes, mut logs) = (0, 0);
    for worker in workers {
        let (its_bytes, its_logs) = worker.await.unwrap();
        log_bytes += its_bytes;
        logs += its_logs;
    }
    let seconds = began.elapsed().as_secs_f64();
    if matches!(with, With::SerdeJson) {
        assert_eq!(logs, asked.logs);
    }
    let cpu = process::cpu_seconds(me) - cpu;
    let server_cpu = server.cpu_seconds() - server_cpu;
    Run { seconds, cpu, server_cpu, logs: asked.logs, log_bytes }
}

/// The watch task in a process of its own.
async fn catch_up(
    client: &reqwest::Client,
    server: &Server,
    plan: Plan,
    expected: Found,
) -> (Run, CaughtUp, Journal) {
    drop(server.journal(client).await);
    let server_cpu = server.cpu_seconds();
    let mut command = process::again("ours");
    let child = command.arg(format!("--url={}", server.url)).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ours: {}", output.status);
    let done: CaughtUp = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done.found, expected, "the deposits recorded are not those of the history");
    let journal = server.journal(client).await;
    assert!(journal.logs >= plan.logs(), "ours read {} logs", journal.logs);
    let run = Run {
        seconds: done.seconds,
        cpu: done.cpu_seconds,
        server_cpu: server.cpu_seconds() - server_cpu,
        logs: plan.logs(),
        log_bytes: journal.log_bytes,
    };
    (run, done, journal)
}

/// The middle one of an odd number.
fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|x, y| x.seconds.total_cmp(&y.seconds));
    runs[runs.len() / 2]
}

#[tokio::main]
async fn main() {
    let mut args = Args::parse();
    match args.role {
        Some(Role::Serve) => {
            return server::serve(args.plan, Duration::from_millis(args.latency_ms));
        }
        Some(Role::Ours) => {
            let done = ours::catch_up(&args.url).await;
            return println!("{}", serde_json::to_string(&done).unwrap());
        }
        None => {}
    }
    if args.small {
        args.plan.blocks /= 10;
    }
    let plan = args.plan;
    let expected = history::expected(plan);
    println!(
        "{} blocks × {} transfers = {} logs, {} of them to one of {} addresses; the provider takes {} ms",
        plan.blocks,
        plan.transfers,
        plan.logs(),
        expected.deposits,
        history::ADDRESSES,
        args.latency_ms,
    );
    // Installed once a process, for the client.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::new();
    let server = Server::start(plan, args.latency_ms);
    let (mut discarded, mut parsed, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let (mut last, mut peak) = (None, 0.0_f64);
    for round in 1..=args.rounds {
        let (run, done, journal) = catch_up(&client, &server, plan, expected).await;
        ours.push(run);
        discarded.push(replay(&client, &server, &journal, &args, With::Nothing).await);
        parsed.push(replay(&client, &server, &journal, &args, With::SerdeJson).await);
        let seconds = |runs: &[Run]| runs.last().map_or(0.0, |r| r.seconds);
        println!(
            "  round {round}: (a) {:.2} s, (b) {:.2} s, ours {:.2} s with a peak of {:.1} MiB",
            seconds(&discarded),
            seconds(&parsed),
            seconds(&ours),
            done.peak_mib,
        );
        peak = peak.max(done.peak_mib);
        last = Some((done, journal));
    }
    let (a, b, ours) = (median(discarded), median(parsed), median(ours));
    println!("median of {}; {} request(s) at once in (a) and (b)", args.rounds, args.concurrency);
    a.line("(a) downloaded");
    b.line("(b) downloaded and parsed");
    ours.line("ours, until durable");
    println!(
        "ours/(a) {:.3}   ours/(b) {:.3}",
        ours.logs_per_second() / a.logs_per_second(),
        ours.logs_per_second() / b.logs_per_second(),
    );
    let Some((done, journal)) = last else { return };
    println!(
        "ours: {peak:.1} MiB at most; {} steps, {} deposits as expected",
        done.steps, done.found.deposits
    );
    let requests: Vec<String> =
        journal.requests.iter().map(|(method, count)| format!("{count} {method}")).collect();
    println!(
        "  requests: {}; {} with logs, {} refused; at most {} for logs at once",
        requests.join(", "),
        journal.ranges.len(),
        journal.refused,
        journal.peak,
    );
    println!(
        "  answers: {:.1} MiB, {:.1} of them logs; {:.0} bytes a log",
        journal.bytes as f64 / MIB,
        journal.log_bytes as f64 / MIB,
        journal.log_bytes as f64 / journal.logs as f64,
    );
}
