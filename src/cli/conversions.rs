//! `conversions`: how payments became credits at market prices, and the proof of it.
//!
//! `verify` computes everything again from stored inputs; with `--online` it asks the contracts again.
//! Nothing is changed.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::dialect::with;
use crate::chain::rpc::node::RpcSource;
use crate::cli::error::CliError;
use crate::cli::open::{clock_of, open};
use crate::cli::print::{Output, look_if, print, print_data};
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::daemon::admit_providers;
use crate::daemon::parts::{StartError, market, pool};
use crate::domain::ids::DepositId;
use crate::domain::oracle::policy::{Body, Part};
use crate::oracle::Web;
use crate::output::note;
use crate::store::{ConversionRow, Store, StoredQuote};
use crate::tasks::prices::market::Market;
use crate::tasks::prices::recompute::{Recompute, Recomputed};

/// Differences that are shown.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Subcommand)]
pub(super) enum ConversionsCommand {
    /// List conversions, oldest first.
    List {
        /// Of payments from this time on, such as 2027-01-15T08:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        from: Option<i64>,
        /// Up to this time.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        to: Option<i64>,
        #[command(flatten)]
        output: Output,
    },
    /// Show everything that a deposit's credits at market price were computed from.
    Show {
        /// The deposit's id, 0x and 64 hexadecimal digits.
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Compute conversions again from what is stored; exit 3 naming what differs, and what nobody can be asked
    /// about.
    #[command(
        after_help = "Examples:\n  topupd conversions verify\n  topupd conversions verify --from 2027-01-01T00:00:00Z --to 2027-02-01T00:00:00Z\n  topupd conversions verify --online    asks the contracts again, at the same blocks"
    )]
    Verify {
        /// Of payments from this time on.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        from: Option<i64>,
        /// Up to this time.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        to: Option<i64>,
        /// Read the answers of contracts on their chains again, too.
        #[arg(long)]
        online: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// An RFC 3339 time in epoch milliseconds.
pub(super) fn instant(text: &str) -> Result<i64, String> {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed
        .map(|t| t.as_millisecond())
        .map_err(|_| "is not an RFC 3339 time such as 2027-01-31T00:00:00Z".to_owned())
}

pub(super) async fn conversions(
    config: Config,
    command: ConversionsCommand,
) -> Result<ExitCode, CliError> {
    let store = open(&config).await?;
    match command {
        ConversionsCommand::List { from, to, output } => list(&store, from, to, output).await,
        ConversionsCommand::Show { id, output } => {
            let id: DepositId = id.parse().map_err(CliError::BadInput)?;
            show(&store, id, output).await
        }
        ConversionsCommand::Verify { from, to, online, output } => {
            let span = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
            let market = if online { Some(providers(&config).await?) } else { None };
            let done = verify(&store, market.as_ref(), span, true).await?;
            verdict(&done, online, output)
        }
    }
}

async fn list(
    store: &Store,
    from: Option<i64>,
    to: Option<i64>,
    output: Output,
) -> Result<ExitCode, CliError> {
    let (from, to) = (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX));
    let mut rows: Vec<ConversionRow> = Vec::new();
    loop {
        let page = store.conversions(from, to, rows.last()).await?;
        if page.is_empty() {
            break;
        }
        rows.extend(page);
    }
    if output.is_data() {
        let all: Vec<Value> = rows.iter().map(row_json).collect();
        return print_data(output, json!({ "conversions": all }));
    }
    let head = ["BLOCK TIME", "NAMESPACE", "IN", "PRICES", "TOKENS", "CREDITS", "DEPOSIT"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let legs: Vec<_> =
            row.conversion.legs.iter().map(|l| format!("{} {}", l.pair, l.price)).collect();
        vec![
            time(row.time_ms),
            row.namespace.clone(),
            format!("{} {}", row.raw.display(row.decimals), row.asset),
            legs.join(", "),
            tokens(row),
            row.credits.to_string(),
            row.deposit.to_string(),
        ]
    }));
    print(&table(&lines))
}

fn tokens(row: &ConversionRow) -> String {
    let into = row.conversion.into.as_ref();
    into.map_or_else(|| "-".into(), |i| format!("{} {}", i.tokens.display(i.decimals), i.asset))
}

fn row_json(row: &ConversionRow) -> Value {
    json!({
        "deposit_id": row.deposit, "namespace": row.namespace, "chain_id": row.chain,
        "block_hash": row.block.hash, "block_number": row.block.number,
        "block_time_ms": row.time_ms, "asset": row.asset, "raw_amount": row.raw,
        "amount": row.raw.display(row.decimals), "epoch": row.epoch, "rule": row.rule,
        "rate": row.rate, "credits": row.credits.to_string(), "record_seq": row.record_seq,
        "conversion": row.conversion,
    })
}

async fn show(store: &Store, id: DepositId, output: Output) -> Result<ExitCode, CliError> {
    let rows = store.conversions_of(id).await?;
    if rows.is_empty() && store.deposit(id).await?.is_none() {
        return Err(CliError::BadInput(format!("there is no deposit {id}")));
    }
    if rows.is_empty() {
        return Err(CliError::BadInput(format!(
            "deposit {id} was not valued at market prices; see: topupd deposits show {id}"
        )));
    }
    let mut text = String::new();
    let mut all = Vec::new();
    for row in &rows {
        let prices = prices(store, row).await?;
        if output.is_data() {
            let prices: Vec<Value> = prices
                .iter()
                .map(|(body, quotes)| {
                    json!({ "price": body, "answers": quotes.iter().map(quote_json).collect::<Vec<_>>() })
                })
                .collect();
            all.push(with(row_json(row), json!({ "prices": prices })));
        } else {
            describe(&mut text, row, &prices);
        }
    }
    if output.is_data() { print_data(output, json!({ "conversions": all })) } else { print(&text) }
}

/// The accepted prices of a conversion, each with the raw answers that it rests on.
async fn prices(
    store: &Store,
    row: &ConversionRow,
) -> Result<Vec<(Body, Vec<StoredQuote>)>, CliError> {
    let mut prices = Vec::new();
    let mut open: Vec<_> = row.conversion.legs.iter().map(|l| l.price_hash).collect();
    open.reverse();
    while let Some(hash) = open.pop() {
        let Some(price) = store.market_price(hash).await? else { continue };
        let body = price.body()?;
        let ids: Vec<_> = body.quote_ids().collect();
        let quotes = store.quotes_by_id(&ids).await?.into_values().collect();
        for via in &body.via {
            let known = prices.iter().any(|(b, _): &(Body, _)| b.pair == via.pair);
            if !known && !row.conversion.legs.iter().any(|l| l.price_hash == via.price_hash) {
                open.push(via.price_hash);
            }
        }
        prices.push((body, quotes));
    }
    Ok(prices)
}

fn quote_json(quote: &StoredQuote) -> Value {
    let evidence: Value = serde_json::from_str(&quote.evidence).unwrap_or_default();
    json!({
        "quote_id": quote.id, "source": quote.source, "providers": quote.providers,
        "evidence": evidence,
    })
}

fn describe(text: &mut String, row: &ConversionRow, prices: &[(Body, Vec<StoredQuote>)]) {
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<14} {value}");
    };
    line("deposit", row.deposit.to_string());
    line("namespace", row.namespace.clone());
    line("block", format!("{} {} of {}", row.block.number, row.block.hash, row.chain));
    line("instant", time(row.time_ms));
    line(
        "in",
        format!("{} {} ({} base units)", row.raw.display(row.decimals), row.asset, row.raw.0),
    );
    line("epoch", format!("{}, rule {}, rate {}", row.epoch, row.rule, row.rate));
    line("formula", row.conversion.formula.clone());
    for leg in &row.conversion.legs {
        let capped = match leg.applied == leg.price {
            true => String::new(),
            false => format!(", counts as {}", leg.applied),
        };
        line("price", format!("{} {}{capped}  {}", leg.pair, leg.price, leg.price_hash));
    }
    if let Some(into) = &row.conversion.into {
        line("tokens out", format!("{} ({} base units)", tokens(row), into.tokens.0));
        line("remainder", format!("{} of a base unit, rounded down", into.remainder));
    }
    line("credits", format!("{}, rounded down", row.credits));
    line("record", row.record_seq.map_or_else(|| "(not yet)".into(), |s| s.to_string()));
    for (body, quotes) in prices {
        let _ = writeln!(
            text,
            "\n{} at {}",
            body.pair,
            body.price.map_or_else(String::new, |p| p.to_string())
        );
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "  {key:<12} {value}");
        };
        line("policy", body.policy_hash.to_string());
        line("formula", body.formula.clone());
        for via in &body.via {
            line("via", format!("{} {}", via.pair, via.price));
        }
        if let Some(manual) = &body.manual {
            let [proposal, approval] = manual.acts;
            line(
                "by hand",
                format!(
                    "{} proposed it (act {proposal}), {} approved it (act {approval})",
                    manual.proposed_by, manual.approved_by
                ),
            );
        }
        for part in &body.parts {
            let verdict = match (&part.rejected, part.guard) {
                (Some(_), _) => "rejected",
                (None, true) => "guard",
                (None, false) => "survived",
            };
            line(verdict, part_text(part));
        }
        if let Some(bps) = body.dispersion_bps {
            line("dispersion", format!("{bps} bp"));
        }
        if let Some(last) = &body.last {
            line("last before", format!("{} at {}", last.price, time(last.instant_ms)));
        }
        for quote in quotes {
            line(
                "answer",
                format!("{} by {}: {}", quote.source, quote.providers.join(", "), quote.id),
            );
            line("", quote.evidence.clone());
        }
    }
    text.push('\n');
}

/// A source's part in a price, for people.
pub(super) fn part_text(part: &Part) -> String {
    let mut text = part.source.clone();
    if let Some(price) = part.price {
        let _ = write!(text, " {price}");
    }
    if let Some(as_of) = part.as_of_ms {
        let _ = write!(text, " as of {}", time(as_of));
    }
    if let Some(detail) = &part.detail {
        let _ = write!(text, ", {detail}");
    }
    if let Some(rejected) = &part.rejected {
        let _ = write!(text, ": {rejected}");
    }
    text
}

/// Every chain's providers, as far as they answer for the configured chain.
async fn providers(config: &Config) -> Result<Market<RpcSource>, CliError> {
    let clock = clock_of(config).await?;
    let mut chains = Vec::new();
    for chain in &config.chains {
        let pool = pool(chain)?;
        // What nobody can be asked about is said of each answer.
        match admit_providers(chain, &pool, clock.as_ref()).await {
            Ok(()) | Err(StartError::Silent { .. } | StartError::Mismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        chains.push((chain.clone(), Arc::new(pool)));
    }
    // Only contracts are asked again.
    Ok(market(&chains, Web::default()))
}

/// Computes the conversions of a span again, and the prices that nothing was converted at.
pub(super) async fn verify(
    store: &Store,
    market: Option<&Market<RpcSource>>,
    (from, to): (i64, i64),
    shows_progress: bool,
) -> Result<Recomputed, CliError> {
    let progress = if shows_progress { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} conversions {elapsed}") {
        progress.set_style(style);
    }
    let mut again = Recompute::new(store, market);
    let mut after: Option<ConversionRow> = None;
    loop {
        let page = store.conversions(from, to, after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for row in &page {
            again.conversion(row).await?;
            progress.inc(1);
        }
    }
    let mut seq = 0;
    loop {
        let page = store.price_hashes(from, to, seq).await?;
        let Some((last, _)) = page.last() else { break };
        seq = *last;
        for (_, hash) in &page {
            again.price(*hash).await?;
        }
    }
    progress.finish_and_clear();
    let wanted = store.market_priced().await?;
    if (from, to) == (i64::MIN, i64::MAX) && again.done.conversions < wanted {
        let found = again.done.conversions;
        let how = format!("{found} can be read with their rows, of {wanted} payments priced so");
        again.done.differs.push(("conversions".to_owned(), how));
    }
    Ok(again.done)
}

fn verdict(done: &Recomputed, online: bool, output: Output) -> Result<ExitCode, CliError> {
    let code = look_if(!done.differs.is_empty() || !done.not_asked.is_empty());
    if output.is_data() {
        let list = |all: &[(String, String)]| -> Vec<Value> {
            all.iter().map(|(what, how)| json!({ "what": what, "how": how })).collect()
        };
        let (differs, not_asked) = (list(&done.differs), list(&done.not_asked));
        print_data(
            output,
            json!({
                "conversions": done.conversions, "prices": done.prices, "answers": done.quotes,
                "read_again": done.read_again, "state_gone": done.state_gone,
                "not_asked": not_asked, "differs": differs,
            }),
        )?;
        return Ok(code);
    }
    print(&sentence(done, online))?;
    for (all, is) in [(&done.differs, ""), (&done.not_asked, "cannot be asked: ")] {
        for (what, how) in all.iter().take(SHOWN_MAX) {
            note(&format!("{what}: {is}{how}"));
        }
        if let Some(more) = all.len().checked_sub(SHOWN_MAX).filter(|n| *n > 0) {
            note(&format!("and {more} more; --json lists all"));
        }
    }
    Ok(code)
}

/// What was computed again, in a sentence.
pub(super) fn sentence(done: &Recomputed, online: bool) -> String {
    let mut text = format!(
        "{}: {} conversions at {} prices, from {} stored answers, computed again",
        if done.differs.is_empty() { "holds" } else { "DOES NOT HOLD" },
        done.conversions,
        done.prices,
        done.quotes
    );
    if online {
        let _ = write!(text, "; {} answers of contracts read again", done.read_again);
        if done.state_gone > 0 {
            let _ = write!(text, ", {} could not be: their state is pruned", done.state_gone);
        }
        if !done.not_asked.is_empty() {
            let _ = write!(text, ", {} could not be asked about", done.not_asked.len());
        }
    }
    if !done.differs.is_empty() {
        let _ = write!(text, "; {} things differ", done.differs.len());
    }
    text
}
