//! `prices`: accepted market prices with what they were decided on, and the breakers of pairs.
//!
//! What sources say at this moment is asked in [`crate::cli::prices::now`]. Only `resume` writes.

pub(in crate::cli) mod decided;
pub(in crate::cli) mod now;
pub(in crate::cli) mod resume;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::dialect::with;
use super::epochs::parse_time;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::prices::decided::{decided, known_pair, sentences};
use crate::cli::prices::resume::ResumeArgs;
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::{cut, table, time};
use crate::config::Config;
use crate::domain::oracle::policy::Body;
use crate::store::MarketPrice;

#[derive(Debug, Subcommand)]
pub(super) enum PricesCommand {
    /// Ask every source of every pair now. Writes nothing.
    Now {
        #[command(flatten)]
        output: Output,
    },
    /// The market price of each pair at or before a time, with what each source said. Prices by hand
    /// are for one payment each: `prices history` lists them too.
    #[command(after_help = "Example:\n  topupd prices at 2027-01-15T08:00:00Z --pair RTITY/USD")]
    At(AtArgs),
    /// Accepted prices, newest first.
    #[command(after_help = "Example:\n  topupd prices history --pair RTITY/USD --limit 20")]
    History(HistoryArgs),
    /// Close a pair's breaker: the price that opened it passes, or is rejected. What passes, and what
    /// it comes to, is shown before; it passes when its number is repeated.
    #[command(
        after_help = "Examples:\n  topupd prices resume RTITY/USD --operator alice --reason \"the move is real\"    shows what would pass\n  topupd prices resume RTITY/USD --beyond-the-bound 0.04 --operator alice --reason \"the move is real: listed on two exchanges\"\n  topupd prices resume RTITY/USD --reject --operator alice --reason \"an empty order book\"    its payments wait to be priced by hand"
    )]
    Resume(ResumeArgs),
}

#[derive(Debug, Args)]
pub(super) struct AtArgs {
    /// The time, RFC 3339.
    time: String,
    /// Only of this pair.
    #[arg(long)]
    pair: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only of this pair.
    #[arg(long)]
    pair: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn prices(config: Config, command: PricesCommand) -> Result<ExitCode, CliError> {
    match command {
        PricesCommand::Now { output } => now::now(&config, output).await,
        PricesCommand::At(args) => at(&config, args).await,
        PricesCommand::History(args) => history(&config, args).await,
        PricesCommand::Resume(args) => resume::resume(&config, args).await,
    }
}

async fn at(config: &Config, args: AtArgs) -> Result<ExitCode, CliError> {
    let until = parse_time("TIME", &args.time)?;
    let pairs: Vec<String> = match args.pair {
        Some(pair) => vec![pair],
        None => config.oracle.oracle.pairs().map(|p| p.pair.clone()).collect(),
    };
    let store = open(config).await?;
    for pair in &pairs {
        known_pair(config, &store, pair).await?;
    }
    let mut breakers = store.breakers().await?;
    breakers.retain(|b| pairs.contains(&b.pair));
    let (mut text, mut all) = (String::new(), Vec::new());
    for pair in pairs {
        let found = store.last_market_price(&pair, until).await?;
        let breaker = breakers.iter().find(|b| b.pair == pair);
        let Some(price) = found else {
            let none = format!("{pair}: no price was accepted at or before {}\n", time(until));
            text.push_str(&none);
            all.push(json!({ "pair": pair, "price": null, "breaker": breaker }));
            continue;
        };
        let body = price.body()?;
        text.push_str(&format!(
            "{pair} = {}  of {}\n",
            price.accepted.price,
            time(body.instant_ms)
        ));
        text.push_str(&decided(&body));
        let more = json!({ "parts": body.parts, "breaker": breaker });
        all.push(with(price_json(&price, &body), more));
        text.push('\n');
    }
    store.close().await;
    if args.output.is_data() {
        return print_data(args.output, json!({ "pairs": all }));
    }
    if all.is_empty() {
        return print("no market price is configured: there is no pair under oracle.pairs");
    }
    print(&(text.trim_end().to_owned() + "\n" + &sentences(&breakers)))
}

async fn history(config: &Config, args: HistoryArgs) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    if let Some(pair) = &args.pair {
        known_pair(config, &store, pair).await?;
    }
    let limit = args.limit.saturating_add(1);
    let mut prices = store.market_prices(args.pair.as_deref(), i64::MAX, limit).await?;
    let truncated = cut(&mut prices, args.limit);
    let mut breakers = store.breakers().await?;
    store.close().await;
    breakers.retain(|b| args.pair.as_ref().is_none_or(|pair| *pair == b.pair));
    let bodies = prices.iter().map(|p| Ok((p, p.body()?))).collect::<Result<Vec<_>, CliError>>()?;
    if args.output.is_data() {
        let all: Vec<Value> = bodies.iter().map(|(price, body)| price_json(price, body)).collect();
        let value = json!({ "prices": all, "breakers": breakers, "truncated": truncated });
        return print_data(args.output, value);
    }
    let head = ["INSTANT", "PAIR", "PRICE", "SOURCES", "APART", "BY HAND"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(bodies.iter().map(|(price, body)| {
        let hand = body.manual.as_ref();
        vec![
            time(body.instant_ms),
            price.pair.clone(),
            price.accepted.price.to_string(),
            format!("{}/{}", body.survivors().count(), body.parts.len()),
            body.dispersion_bps.map_or_else(|| "-".into(), |n| format!("{n} bp")),
            hand.map_or_else(|| "-".into(), |m| format!("{}, {}", m.proposed_by, m.approved_by)),
        ]
    }));
    let listed = match bodies.as_slice() {
        [] => {
            "no price was accepted yet: one is when a payment needs it, or on schedule\n".to_owned()
        }
        _ => table(&rows),
    };
    print(&(listed + &sentences(&breakers)))
}

fn price_json(price: &MarketPrice, body: &Body) -> Value {
    json!({
        "pair": price.pair,
        "price": price.accepted.price,
        "instant_at": time(body.instant_ms),
        "accepted_at": time(price.accepted_at_ms),
        "price_hash": price.accepted.hash,
        "survivors": body.survivors().count(),
        "sources": body.parts.len(),
        "dispersion_bps": body.dispersion_bps,
        "manual": body.manual,
    })
}
