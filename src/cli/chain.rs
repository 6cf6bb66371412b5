//! `scans`, `rescan`, `chain resume`: what was looked at, and what an operator decides about it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::dialect::list;
use crate::chain::source::ChainSource;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::{Output, look_if, print, print_data};
use crate::cli::words::{cut, table, time};
use crate::config::{ChainConfig, Config};
use crate::daemon::parts::pool;
use crate::daemon::{admit_again, admit_providers};
use crate::domain::chain::Header;
use crate::store::{Acquired, Backfill, BackfillKind, LeasedStore, Store, chain_task};
use crate::tasks::rescan::backfill;
use crate::tasks::rescan::outcome::LookCache;

/// How long the commands that write to a chain hold its lease.
const LEASE: Duration = Duration::from_secs(30);
/// Without progress for so long, it is asked again whether the chain can be read at all.
const STUCK: Duration = Duration::from_secs(10);
/// Pause between two looks at the progress of a daemon.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct ScansArgs {
    /// Only of this chain.
    #[arg(long)]
    chain: Option<String>,
    /// At most so many records a chain, the newest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct RescanArgs {
    /// Name of the chain in the configuration.
    #[arg(long)]
    chain: String,
    /// First block.
    #[arg(long)]
    from: u64,
    /// Last block, inclusive.
    #[arg(long)]
    to: u64,
}

#[derive(Debug, Subcommand)]
pub(super) enum ChainCommand {
    /// Let a chain go on that stands still because it forks below everything that was kept; or read
    /// any chain again from a block.
    #[command(
        after_help = "Examples:\n  topupd chain resume base --keep                  the node was wrong, and is repaired or replaced\n  topupd chain resume base --rewind-to 24000000    the chain did fork, or was followed beyond its end: read it again from there"
    )]
    Resume {
        /// Name of the chain in the configuration.
        chain: String,
        /// What was followed so far is right.
        #[arg(long, required_unless_present = "rewind_to", conflicts_with = "rewind_to")]
        keep: bool,
        /// Take back everything above this block, and read the chain again from there. Credits
        /// whose blocks do not come back are reversed by the finality policy's rules.
        #[arg(long, value_name = "BLOCK")]
        rewind_to: Option<u64>,
    },
}

pub(super) fn chain_named<'c>(config: &'c Config, name: &str) -> Result<&'c ChainConfig, CliError> {
    let is_it = |c: &&ChainConfig| c.rules.name == name || c.rules.id.to_string() == name;
    config.chains.iter().find(is_it).ok_or_else(|| {
        let names: Vec<_> = config.chains.iter().map(|c| c.rules.name.as_str()).collect();
        CliError::BadInput(format!(
            "no chain is called {name:?}; the configuration has: {}",
            names.join(", ")
        ))
    })
}

pub(super) async fn scans(config: Config, args: ScansArgs) -> Result<ExitCode, CliError> {
    let only = args.chain.as_ref().map(|name| chain_named(&config, name)).transpose()?;
    let only = only.map(|chain| chain.rules.id);
    let store = open(&config).await?;
    let head = [
        "CHAIN",
        "FROM",
        "TO",
        "HOW",
        "BY",
        "ASKED FOR",
        "LOGS",
        "OURS",
        "RECHECKED",
        "BY",
        "LOGS",
        "ADDED",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut chains = Vec::new();
    let (mut gaps, mut has_gap, mut is_cut) = (Vec::new(), false, false);
    for chain in &config.chains {
        let (name, id) = (&chain.rules.name, chain.rules.id);
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let mut scans = store.scans(id, args.limit.saturating_add(1)).await?;
        // The newest come last.
        scans.reverse();
        let truncated = cut(&mut scans, args.limit);
        scans.reverse();
        let gap = store.scan_gap(id).await?;
        has_gap |= gap.is_some();
        is_cut |= truncated;
        let backfills = store.backfills(id).await?;
        for scan in &scans {
            let dash = || "-".to_owned();
            rows.push(vec![
                name.clone(),
                scan.from.to_string(),
                scan.valid_to.to_string(),
                scan.method.clone(),
                scan.provider.clone(),
                scan.filter.clone().unwrap_or_else(dash),
                scan.logs_seen.to_string(),
                scan.logs_matched.to_string(),
                scan.rechecked_to.map_or_else(dash, |n| n.to_string()),
                scan.recheck_provider.clone().unwrap_or_else(dash),
                scan.recheck_logs.to_string(),
                scan.recheck_added.to_string(),
            ]);
        }
        match gap {
            None if scans.is_empty() => gaps.push(format!("{name}: never scanned")),
            None => gaps.push(format!("{name}: no gap from its first block to its cursor")),
            Some(at) => gaps.push(format!("{name}: GAP or overlap at block {at}")),
        }
        gaps.extend(backfills.iter().map(|b| format!("{name}: {}", described(b))));
        chains.push(json!({
            "chain": id, "chain_name": name, "scans": scans, "truncated": truncated,
            "gap_block": gap, "backfills": backfills,
        }));
    }
    store.close().await;
    let look = look_if(has_gap);
    if args.output.is_data() {
        return print_data(args.output, list("chains", chains, is_cut)).map(|_| look);
    }
    print(&format!("{}\n{}\n", table(&rows), gaps.join("\n"))).map(|_| look)
}

fn described(b: &Backfill) -> String {
    let what = match b.kind {
        BackfillKind::Address(address) => format!("address {address}"),
        BackfillKind::Addresses { first, first_id, last_id } => {
            let more = last_id.0.saturating_sub(first_id.0);
            format!("address {first} and {more} that were imported with it")
        }
        BackfillKind::Newer { first, first_id, last_id } => {
            let more = last_id.0.saturating_sub(first_id.0);
            format!("address {first} and {more} more, registered while these were scanned")
        }
        BackfillKind::Token(token) => format!("token {token}"),
        BackfillKind::Rescan => "rescan".to_owned(),
    };
    let state = match b.finished_at_ms {
        Some(at) => format!("done {}", time(at)),
        None => format!("at block {}", b.next),
    };
    format!("{what}: blocks {} to {}, {} found, {state}", b.from, b.to, b.found)
}

pub(super) async fn rescan(config: Config, args: RescanArgs) -> Result<ExitCode, CliError> {
    let chain = chain_named(&config, &args.chain)?;
    let id = chain.rules.id;
    if args.from > args.to {
        let problem = format!("--from {} is above --to {}", args.from, args.to);
        return Err(CliError::BadInput(problem));
    }
    let store = open(&config).await?;
    match store.cursor(id).await? {
        None => {
            let problem = format!("{} was never scanned; start topupd run first", args.chain);
            return Err(CliError::BadInput(problem));
        }
        Some((cursor, _)) if args.to > cursor.number => {
            return Err(CliError::BadInput(format!(
                "--to {} is not scanned yet: {} is at block {}",
                args.to, args.chain, cursor.number
            )));
        }
        Some(_) => {}
    }
    can_be_read(chain, &store).await?;
    store.request_rescan(id, args.from, args.to, store.clock().now_ms()).await?;
    let style = ProgressStyle::with_template("{msg} {wide_bar} block {pos} of {len}")
        .map_err(|e| CliError::Failed(e.to_string()))?;
    let blocks = args.to.saturating_sub(args.from).saturating_add(1);
    let bar = ProgressBar::new(blocks).with_style(style);
    let mut working: Option<(LeasedStore, _, LookCache)> = None;
    let mut moved = (args.from, Instant::now());
    let clock = store.clock();
    let mut admitted = Instant::now();
    let found = loop {
        let all = store.backfills(id).await?;
        let wanted =
            |b: &&Backfill| (b.kind, b.from, b.to) == (BackfillKind::Rescan, args.from, args.to);
        let Some(ours) = all.iter().find(wanted) else {
            return Err(CliError::Failed("the request is gone from the database".into()));
        };
        bar.set_position(ours.next.saturating_sub(args.from));
        if ours.finished_at_ms.is_some() {
            break ours.clone();
        }
        if moved.0 != ours.next {
            moved = (ours.next, Instant::now());
        } else if moved.1.elapsed() >= STUCK {
            can_be_read(chain, &store).await?;
            moved.1 = Instant::now();
        }
        match &mut working {
            Some((leased, pool, cache)) => {
                leased.renew(leased.lease(), LEASE).await?;
                // One that was away is checked before it is asked again: now and then, because that
                // takes time, and when there is nobody else.
                if admitted.elapsed() >= STUCK {
                    admit_again(chain, pool, clock.as_ref()).await;
                    admitted = Instant::now();
                }
                let rules = &chain.rules;
                let done = match backfill(rules, pool, leased, clock.as_ref(), cache).await {
                    Err(_) if admit_again(chain, pool, clock.as_ref()).await => {
                        backfill(rules, pool, leased, clock.as_ref(), cache).await
                    }
                    done => done,
                };
                done.map_err(|e| {
                    CliError::Failed(format!("{e}; the same command goes on from here"))
                })?;
            }
            // A daemon that follows the chain does it; without one, this command does.
            None => match store.acquire(&chain_task(id), &holder(), LEASE, false).await? {
                Acquired::Ours(lease) => {
                    let pool = pool(chain)?;
                    admit_providers(chain, &pool, clock.as_ref()).await?;
                    bar.set_message("reading");
                    working = Some((store.holding(lease), pool, LookCache::new(&chain.rules)));
                }
                Acquired::Taken { holder, .. } => {
                    bar.set_message(format!("{holder} reads"));
                    tokio::time::sleep(LOOK).await;
                }
            },
        }
    };
    bar.finish_and_clear();
    if let Some((leased, ..)) = working {
        store.release(leased.lease()).await?;
    }
    store.close().await;
    print(&format!(
        "{}: blocks {} to {} read again: {} logs, {} deposits new or changed\n",
        args.chain, found.from, found.to, found.logs_seen, found.found
    ))
}

/// Old blocks are read from a chain that goes on, and that a provider has up to where it was followed.
async fn can_be_read(chain: &ChainConfig, store: &Store) -> Result<(), CliError> {
    let name = &chain.rules.name;
    if store.halt_of(chain.rules.id).await?.is_some() {
        return Err(CliError::Failed(format!(
            "{name} stands still, and nothing of it is read until topupd chain resume {name}; see topupd status"
        )));
    }
    let Some((cursor, _)) = store.cursor(chain.rules.id).await? else { return Ok(()) };
    let pool = pool(chain)?;
    let answers = join_all(pool.all().map(|source| source.header_at(cursor.number))).await;
    let answers: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    let has = |header: &Option<Header>| header.is_some_and(|h| h.hash == cursor.hash);
    if answers.is_empty() || answers.iter().any(has) {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{name} was followed to block {} {}, which no provider that answers has: it may move in the next moment; if it lasts, topupd chain resume {name} --rewind-to BLOCK reads it again from a block that they have",
        cursor.number, cursor.hash
    )))
}

fn holder() -> String {
    format!("command-{:08x}", fastrand::u32(..))
}

pub(super) async fn chain(config: Config, command: ChainCommand) -> Result<ExitCode, CliError> {
    let ChainCommand::Resume { chain: name, keep: _, rewind_to } = command;
    let chain = chain_named(&config, &name)?;
    let id = chain.rules.id;
    let store = open(&config).await?;
    // Whoever says from where reads a chain again, whether it stands still or not.
    if rewind_to.is_none() && store.halt_of(id).await?.is_none() {
        return Err(CliError::BadInput(format!("{name} does not stand still; see topupd status")));
    }
    let back_to = match rewind_to {
        None => None,
        Some(number) => Some(agreed(chain, &store, number).await?),
    };
    // From whoever has it: a daemon that runs is fenced, and takes it back when this is done.
    let taken = store.acquire(&chain_task(id), &holder(), LEASE, true).await?;
    let Acquired::Ours(lease) = taken else {
        return Err(CliError::Failed(format!("cannot take the lease of {name}; try again")));
    };
    let leased = store.holding(lease);
    let orphaned = leased.resume(id, back_to, leased.clock().now_ms()).await?;
    store.release(leased.lease()).await?;
    store.close().await;
    print(&match back_to {
        None => format!("{name} goes on from where it stood\n"),
        Some(header) => format!(
            "{name} goes on from block {} {}: {orphaned} recorded blocks above it are taken back\n",
            header.number, header.hash
        ),
    })
}

/// The block at a height, as two providers have it, or the only one there is.
async fn agreed(chain: &ChainConfig, store: &Store, number: u64) -> Result<Header, CliError> {
    let name = &chain.rules.name;
    let cursor = store.cursor(chain.rules.id).await?;
    if cursor.is_none_or(|(cursor, _)| number >= cursor.number) {
        let problem = format!("--rewind-to {number} is not below where {name} stands");
        return Err(CliError::BadInput(problem));
    }
    if store.scans(chain.rules.id, i64::MAX).await?.first().is_none_or(|s| number < s.from) {
        let problem = format!("--rewind-to {number} is below the first block of {name}");
        return Err(CliError::BadInput(problem));
    }
    let pool = pool(chain)?;
    let mut found: Vec<(String, Header)> = Vec::new();
    for source in pool.all() {
        match source.header_at(number).await {
            Ok(Some(header)) => found.push((source.provider().to_owned(), header)),
            Ok(None) => {}
            Err(error) => print(&format!("{error}")).map(drop)?,
        }
    }
    let wanted = pool.len().min(2);
    let agree = |header: &Header| found.iter().filter(|(_, h)| h.hash == header.hash).count();
    match found.iter().map(|(_, header)| header).find(|header| agree(header) >= wanted) {
        Some(header) => Ok(*header),
        None => {
            let said: Vec<_> = found.iter().map(|(p, h)| format!("{p}: {}", h.hash)).collect();
            Err(CliError::Failed(format!(
                "no two providers of {name} have the same block {number}: {}",
                said.join(", ")
            )))
        }
    }
}
