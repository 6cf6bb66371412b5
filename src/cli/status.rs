//! `status`: who does what, at which block, and how many deposits stand where.
//!
//! It reads the database and asks no daemon: what it says holds also when all of them are dead.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::log::health::LogLine;
use crate::cli::open::open;
use crate::cli::print::{Output, look_if, print, print_data};
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::domain::ids::ChainId;
use crate::output::note;
use crate::store::{Halt, LeftChain, MovedClock, ProviderRow, StatusRow, Store, chain_task};

pub(super) async fn status(config: Config, output: Output) -> Result<ExitCode, CliError> {
    let store = open(&config).await?;
    let status = Status::read(&store, &config).await?;
    store.close().await;
    let looks = status.looks();
    if output.is_data() {
        print_data(output, status.json(&looks))?;
    } else {
        print(&status.text())?;
        for look in &looks {
            note(look);
        }
    }
    Ok(look_if(!looks.is_empty()))
}

struct Status {
    database: String,
    network: String,
    clock: MovedClock,
    daemons: Vec<DaemonLine>,
    tasks: Vec<TaskLine>,
    left: Vec<LeftChain>,
    ledger: StatusRow,
    log: LogLine,
}

struct DaemonLine {
    name: String,
    version: String,
    role: &'static str,
    started_at_ms: i64,
    seen_at_ms: i64,
}

struct TaskLine {
    chain: ChainId,
    task: String,
    name: String,
    holder: Option<String>,
    state: &'static str,
    since_ms: Option<i64>,
    token: Option<i64>,
    expires_at_ms: Option<i64>,
    block: Option<u64>,
    scanned_at_ms: Option<i64>,
    halted: Option<Halt>,
    providers: Vec<ProviderRow>,
    /// Which logs were asked for last, and how far another provider has looked again.
    asks_for: Option<String>,
    rechecked: Option<u64>,
    backfills: usize,
}

impl Status {
    async fn read(store: &Store, config: &Config) -> Result<Self, CliError> {
        let clock = store.moved_clock().await?;
        let now_ms = clock.server_ms;
        let leases = store.leases().await?;
        let held = |holder: &str| {
            leases.iter().any(|l| l.lease.holder == holder && l.left_ms(now_ms) > Some(0))
        };
        // A daemon says that it is there at least thrice a lease.
        let gone = i64::try_from(config.daemon.lease.as_millis()).unwrap_or(i64::MAX);
        let daemons = store
            .daemons()
            .await?
            .into_iter()
            .map(|d| DaemonLine {
                // One that was seen in the future has not been since the clock was set back.
                role: if now_ms.saturating_sub(d.seen_at_ms).saturating_abs() > gone {
                    "gone"
                } else if held(&d.holder) {
                    "working"
                } else if d.has_tasks {
                    "standing by"
                } else {
                    "no tasks"
                },
                name: d.holder,
                version: d.version,
                started_at_ms: d.started_at_ms,
                seen_at_ms: d.seen_at_ms,
            })
            .collect();
        let mut tasks = Vec::new();
        for chain in &config.chains {
            let task = chain_task(chain.rules.id);
            let lease = leases.iter().find(|l| l.lease.task == task);
            let id = chain.rules.id;
            let cursor = store.cursor(id).await?;
            let newest = store.scans(id, 1).await?.pop();
            let rechecked = match store.next_rechecks(id).await?.into_iter().next() {
                Some(next) => next.rechecked_to.or(next.from.checked_sub(1)),
                None => newest.as_ref().map(|scan| scan.valid_to),
            };
            tasks.push(TaskLine {
                chain: id,
                task,
                name: chain.rules.name.clone(),
                state: match lease {
                    None => "never started",
                    Some(l) if l.left_ms(now_ms) > Some(0) => "held",
                    Some(_) => "free",
                },
                holder: lease.map(|l| l.lease.holder.clone()),
                since_ms: lease.map(|l| l.lease.acquired_at_ms),
                token: lease.map(|l| l.lease.token),
                expires_at_ms: lease.map(|l| l.expires_at_ms),
                block: cursor.map(|(block, _)| block.number),
                scanned_at_ms: cursor.map(|(_, at)| at),
                halted: store.halt_of(id).await?,
                providers: store.providers(id).await?,
                asks_for: newest.and_then(|scan| scan.filter),
                rechecked,
                backfills: store.open_backfills(id).await?.len(),
            });
        }
        Ok(Self {
            database: store.shown(),
            network: store.network().to_string(),
            clock,
            daemons,
            tasks,
            left: store.left_chains(&config.chain_ids()).await?,
            ledger: store.status().await?,
            log: LogLine::read(store, config).await?,
        })
    }

    /// What somebody should look at.
    fn looks(&self) -> Vec<String> {
        let mut looks = Vec::new();
        for task in &self.tasks {
            let name = &task.name;
            if task.state != "held" {
                looks.push(format!(
                    "{name}: no daemon follows it, and its payments wait: topupd run"
                ));
            }
            if task.halted.is_some() {
                looks.push(format!("{name}: it stands still until topupd chain resume {name}"));
            }
        }
        looks.extend(self.log.looks().iter().cloned());
        looks.extend(self.left.iter().map(ToString::to_string));
        looks
    }

    fn text(&self) -> String {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let mut daemons = vec![words(&["DAEMON", "DOES", "VERSION", "STARTED", "SEEN"])];
        for d in &self.daemons {
            daemons.push(vec![
                d.name.clone(),
                d.role.to_owned(),
                d.version.clone(),
                time(d.started_at_ms),
                ago(d.seen_at_ms, self.clock.server_ms),
            ]);
        }
        if self.daemons.is_empty() {
            daemons.push(words(&["(none was seen lately)"]));
        }
        let mut tasks = vec![words(&[
            "CHAIN",
            "TASK",
            "HELD BY",
            "SINCE",
            "TOKEN",
            "BLOCK",
            "SCANNED",
            "ASKS FOR",
            "RECHECKED",
            "BACKFILLS",
        ])];
        let mut providers =
            vec![words(&["CHAIN", "PROVIDER", "HEAD", "LATENCY", "FAILURES", "STATE"])];
        let mut halts = String::new();
        let dash = || "-".to_owned();
        for t in &self.tasks {
            let holder = t.holder.clone().unwrap_or_default();
            tasks.push(vec![
                t.name.clone(),
                t.task.clone(),
                match t.state {
                    "held" => holder,
                    "free" => format!("nobody (was {holder})"),
                    other => format!("nobody ({other})"),
                },
                t.since_ms.map_or_else(dash, time),
                t.token.map_or_else(dash, |n| n.to_string()),
                t.block.map_or_else(dash, |n| n.to_string()),
                t.scanned_at_ms.map_or_else(dash, |at| ago(at, self.clock.now_ms)),
                t.asks_for.clone().unwrap_or_else(dash),
                t.rechecked.map_or_else(dash, |n| n.to_string()),
                t.backfills.to_string(),
            ]);
            for p in &t.providers {
                providers.push(vec![
                    t.name.clone(),
                    p.provider.clone(),
                    p.head.map_or_else(dash, |n| n.to_string()),
                    format!("{} ms", p.latency_ms),
                    p.failures.to_string(),
                    p.state.clone(),
                ]);
            }
            if let Some(halt) = &t.halted {
                halts.push_str(&format!(
                    "\nHALTED  {}: {} shows a fork below block {}, the oldest kept (its tip: {} {}), since {}\n        compare it with other nodes, then: topupd chain resume {} --keep, or --rewind-to BLOCK\n",
                    t.name, halt.provider, halt.floor, halt.found.number, halt.found.hash,
                    time(halt.halted_at_ms), t.name,
                ));
            }
        }
        for chain in &self.left {
            halts.push_str(&format!("\nWARNING {chain}\n"));
        }
        let ahead = match self.clock.offset_ms {
            0 => String::new(),
            _ => format!("; it is {}, see topupd clock", time(self.clock.now_ms)),
        };
        let stages: Vec<String> =
            self.ledger.stages.iter().map(|(stage, n)| format!("{n} {stage}")).collect();
        let stages = if stages.is_empty() { "none".to_owned() } else { stages.join(", ") };
        format!(
            "database {} ({}{ahead})\n\n{}\n{}\n{}{halts}\ndeposits: {stages}\nledger:   {} credits given; {} records in {} journals\nlog:      {}\n",
            self.database,
            self.network,
            table(&daemons),
            table(&tasks),
            table(&providers),
            self.ledger.credits,
            self.ledger.records,
            self.ledger.journals,
            self.log.text(),
        )
    }

    fn json(&self, looks: &[String]) -> serde_json::Value {
        json!({
            "database": self.database,
            "network": self.network,
            "database_at": time(self.clock.now_ms),
            "ahead_seconds": self.clock.offset_ms.div_euclid(1_000),
            "look_at": looks,
            "daemons": self.daemons.iter().map(|d| json!({
                "daemon": d.name,
                "does": d.role,
                "version": d.version,
                "started_at": time(d.started_at_ms),
                "seen_at": time(d.seen_at_ms),
            })).collect::<Vec<_>>(),
            "tasks": self.tasks.iter().map(|t| json!({
                "chain": t.chain,
                "chain_name": t.name,
                "task": t.task,
                "state": t.state,
                "holder": t.holder,
                "since_at": t.since_ms.map(time),
                "lease_token": t.token,
                "expires_at": t.expires_at_ms.map(time),
                "block_number": t.block,
                "scanned_at": t.scanned_at_ms.map(time),
                "asks_for": t.asks_for,
                "rechecked": t.rechecked,
                "backfills": t.backfills,
                "halted": t.halted.as_ref().map(|h| json!({
                    "floor_number": h.floor, "provider": h.provider, "found_number": h.found.number,
                    "found_hash": h.found.hash, "since_at": time(h.halted_at_ms),
                })),
                "providers": t.providers.iter().map(|p| json!({
                    "provider": p.provider, "state": p.state, "head_number": p.head,
                    "latency_ms": p.latency_ms, "failures": p.failures,
                    "seen_at": time(p.updated_at_ms),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "left_chains": self.left.iter().map(|l| json!({
                "chain": l.chain, "payments": l.payments, "backfills": l.backfills,
            })).collect::<Vec<_>>(),
            "deposits": self.ledger.stages.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "credits_given": self.ledger.credits,
            "records": self.ledger.records,
            "journals": self.ledger.journals,
            "log": self.log.json(),
        })
    }
}

/// How long ago something was, as long as that is easier to read than when.
fn ago(at_ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        0..=119 if at_ms <= now_ms => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        _ => time(at_ms),
    }
}
