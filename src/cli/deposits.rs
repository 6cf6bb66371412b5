//! `deposits`: the list, and one deposit with its whole life and evidence.

use std::fmt::Write;
use std::process::ExitCode;

use alloy::primitives::{Address, B256};
use clap::Subcommand;
use serde_json::{Value, json};

use super::dialect::{list, with};
use super::screened::{screened_lines, screening_json};
use crate::cli::error::CliError;
use crate::cli::ledger::records::record_json;
use crate::cli::open::{known_namespace, open, rules_of};
use crate::cli::payment::{amount, payment_json};
use crate::cli::print::{Output, print, print_data};
use crate::cli::registry::parse_name;
use crate::cli::words::{cut, table, time};
use crate::config::Config;
use crate::domain::deposit::ALL_STAGES;
use crate::domain::finality::Finality;
use crate::domain::ids::DepositId;
use crate::domain::journal::Record;
use crate::domain::waiting::Waiting;
use crate::domain::wallet::parse_address;
use crate::store::{DepositDetail, DepositFilter, DepositRow, RecordPlace, Screening, Store};
use crate::tasks::settle::waiting::what_they_wait_for;

#[derive(Debug, Subcommand)]
pub(super) enum DepositsCommand {
    /// List deposits, newest first.
    #[command(
        after_help = "Examples:\n  topupd deposits list --namespace acme\n  topupd deposits list --stage held --json\n  topupd deposits list --tx 0x…"
    )]
    List {
        /// Only of this namespace.
        #[arg(long)]
        namespace: Option<String>,
        /// Only in this stage: pending, confirmed, priced, credited, orphaned, held, ignored, reversed.
        #[arg(long)]
        stage: Option<String>,
        /// Only of this transaction.
        #[arg(long, value_name = "HASH")]
        tx: Option<String>,
        /// Only to this deposit address.
        #[arg(long)]
        address: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show the whole life of a deposit, with its evidence; or of all of a transaction or to an address.
    #[command(
        after_help = "An id gives one JSON object; a transaction or an address gives { \"deposits\": [ … ] }, newest first."
    )]
    Show {
        /// The deposit's id, the hash of its transaction, or the deposit address that was paid.
        #[arg(value_name = "ID|TX|ADDRESS")]
        what: String,
        /// Of a transaction or an address, at most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn deposits(
    config: Config,
    command: DepositsCommand,
) -> Result<ExitCode, CliError> {
    match command {
        DepositsCommand::List { namespace, stage, tx, address, limit, output } => {
            let namespace = namespace.as_deref().map(parse_name).transpose()?;
            if let Some(stage) = &stage
                && !ALL_STAGES.iter().any(|s| s.as_str() == stage)
            {
                let mut all: Vec<&str> = ALL_STAGES.iter().map(|s| s.as_str()).collect();
                all.dedup();
                let all = all.join(", ");
                let problem = format!("--stage {stage:?} is not a stage; allowed: {all}");
                return Err(CliError::BadInput(problem));
            }
            let tx = tx.as_deref().map(|text| parse_hash("--tx", text)).transpose()?;
            let address = address.as_deref().map(parse_address).transpose();
            let address = address.map_err(|why| CliError::BadInput(format!("--address: {why}")))?;
            let store = open(&config).await?;
            known_namespace(&store, namespace.as_ref()).await?;
            if let Some(address) = address {
                known_address(&store, address).await?;
            }
            let filter =
                DepositFilter { namespace, stage, tx, address, limit: limit.saturating_add(1) };
            let mut rows = store.deposits(&filter).await?;
            let truncated = cut(&mut rows, limit);
            let waits = waiting(&config, &store, &rows).await?;
            store.close().await;
            if output.is_data() {
                let all: Vec<Value> =
                    rows.iter().zip(&waits).map(|(d, w)| deposit_json(&config, d, w)).collect();
                return print_data(output, list("deposits", all, truncated));
            }
            let head = ["SEEN", "NAMESPACE", "AMOUNT", "STAGE", "CONF", "CREDITS", "DEPOSIT"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|d| {
                vec![
                    time(d.first_seen_at_ms),
                    d.namespace.clone(),
                    amount(&config, d, d.raw),
                    d.stage.to_string(),
                    confirmations(&config, d),
                    d.credits.map_or_else(|| "-".into(), |c| c.to_string()),
                    d.id.to_string(),
                ]
            }));
            // Under each line, what it waits for.
            let listed = table(&lines);
            let mut lines = listed.lines();
            let mut text = String::new();
            text.extend(lines.next().map(|line| format!("{line}\n")));
            for (line, waits) in lines.zip(&waits) {
                text.push_str(&format!("{line}\n"));
                text.extend(waits.iter().map(|w| format!("    waits for {}\n", w.text)));
            }
            print(&text)
        }
        DepositsCommand::Show { what, limit, output } => {
            let store = open(&config).await?;
            let (details, many) = named(&store, &what, limit).await?;
            let rows: Vec<DepositRow> = details.iter().map(|d| d.deposit.clone()).collect();
            let waits = waiting(&config, &store, &rows).await?;
            let mut all = Vec::with_capacity(details.len());
            let mut text = String::new();
            for (detail, waits) in details.iter().zip(&waits) {
                let said = store.screenings_of(detail.deposit.id).await?;
                if output.is_data() {
                    let record = match &detail.credit {
                        Some(r) => {
                            store.record(RecordPlace { journal: r.journal, seq: r.seq }).await?
                        }
                        None => None,
                    };
                    all.push(detail_json(&config, detail, record.as_ref(), waits, &said));
                } else {
                    let gap = if text.is_empty() { "" } else { "\n" };
                    text.push_str(&format!("{gap}{}", life(&config, detail, waits, &said)));
                }
            }
            store.close().await;
            match (output.is_data(), many) {
                (false, _) => print(&text),
                (true, Some(truncated)) => print_data(output, list("deposits", all, truncated)),
                (true, None) => print_data(output, all.pop().unwrap_or_default()),
            }
        }
    }
}

/// The deposit of an id; or those of a transaction or an address, and whether there are more.
async fn named(
    store: &Store,
    what: &str,
    limit: i64,
) -> Result<(Vec<DepositDetail>, Option<bool>), CliError> {
    let mut filter = DepositFilter { limit: limit.saturating_add(1), ..DepositFilter::default() };
    if what.len() == ADDRESS_LEN {
        let address = parse_address(what).map_err(CliError::BadInput)?;
        known_address(store, address).await?;
        filter.address = Some(address);
    } else {
        let hash: B256 = what.parse().map_err(|_| {
            CliError::BadInput(format!(
                "{what:?} is neither a deposit's id or a transaction's hash (0x and 64 hexadecimal digits) nor an address (0x and 40)"
            ))
        })?;
        if let Some(detail) = store.deposit(DepositId(hash)).await? {
            return Ok((vec![detail], None));
        }
        filter.tx = Some(hash);
    }
    let mut rows = store.deposits(&filter).await?;
    if rows.is_empty() {
        return Err(CliError::BadInput(match filter.address {
            Some(address) => format!("nothing was paid to {address} yet"),
            None => format!(
                "there is no deposit {what}, and no transaction {what} that pays us: it is not seen yet, or it pays no address of ours"
            ),
        }));
    }
    let truncated = cut(&mut rows, limit);
    let mut details = Vec::with_capacity(rows.len());
    for row in &rows {
        details.extend(store.deposit(row.id).await?);
    }
    Ok((details, Some(truncated)))
}

/// Characters of an address.
const ADDRESS_LEN: usize = 42;

/// 32 bytes as they are given on the command line.
fn parse_hash(option: &str, text: &str) -> Result<B256, CliError> {
    text.parse().map_err(|_| {
        CliError::BadInput(format!(
            "{option} {text:?} is not a hash; expected 0x and 64 hexadecimal digits"
        ))
    })
}

async fn known_address(store: &Store, address: Address) -> Result<(), CliError> {
    match store.owner_of(address).await? {
        Some(_) => Ok(()),
        None => Err(CliError::BadInput(format!(
            "{address} is no deposit address; topupd address list shows them"
        ))),
    }
}

/// What each of them waits for.
async fn waiting(
    config: &Config,
    store: &Store,
    deposits: &[DepositRow],
) -> Result<Vec<Option<Waiting>>, CliError> {
    let rules: Vec<_> = config.chains.iter().map(|c| &c.rules).collect();
    Ok(what_they_wait_for(&rules, store, deposits).await?)
}

/// `7/12`, or `7 (finalized)`.
fn confirmations(config: &Config, deposit: &DepositRow) -> String {
    let now = deposit.confirmations;
    let Some(rules) = rules_of(config, deposit.chain) else { return now.to_string() };
    match rules.finality(deposit.raw, &deposit.token, deposit.block_time_ms) {
        Finality::Confirmations(wanted) => format!("{}/{wanted}", now.min(wanted)),
        tag => format!("{now} ({tag})"),
    }
}

fn deposit_json(config: &Config, deposit: &DepositRow, waits: &Option<Waiting>) -> Value {
    let more = json!({
        "recipient": deposit.recipient.to_checksum(None),
        "stage": deposit.stage.as_str(),
        "reason": deposit.stage.reason(),
        "confirmations": deposit.confirmations,
        "waiting_for": waits,
        "record_seq": deposit.record_seq,
        "credits": deposit.credits.map(|c| c.to_string()),
        "first_seen_at": time(deposit.first_seen_at_ms),
        "updated_at": time(deposit.updated_at_ms),
    });
    with(payment_json(config, deposit), more)
}

fn detail_json(
    config: &Config,
    detail: &DepositDetail,
    record: Option<&Record>,
    waits: &Option<Waiting>,
    said: &[Screening],
) -> Value {
    let sightings: Vec<Value> = detail
        .sightings
        .iter()
        .map(|s| {
            json!({
                "block_number": s.block_number,
                "block_hash": s.block_hash,
                "block_time_ms": s.block_time_ms,
                "canonical": s.canonical,
                "log_index": s.log_index,
                "sender": s.sender.map(|a| a.to_checksum(None)),
                "raw_amount": s.raw,
                "malformed": s.malformed,
                "seen_at": time(s.seen_at_ms),
            })
        })
        .collect();
    let confirmation = detail.confirmation.as_ref().map(|c| {
        json!({
            "policy": c.policy, "head_number": c.head,
            "receipt_provider": c.receipt_provider,
            "receipt_transfers": c.receipt_transfers, "verify": c.verify,
            "receipt_proof_kept": c.proof_kept, "confirmed_at": time(c.confirmed_at_ms),
        })
    });
    let price = detail.price.as_ref().map(|(epoch, rule, rate, at)| {
        json!({
            "epoch": epoch, "rule": rule, "credits_per_token": rate, "rounding": "down",
            "priced_at": time(*at),
        })
    });
    let screenings: Vec<Value> = said.iter().map(screening_json).collect();
    let more = json!({
        "sightings": sightings, "confirmation": confirmation, "price": price,
        "record": record.map(|r| record_json(r, &detail.deposit.namespace)),
        "screenings": screenings,
    });
    with(deposit_json(config, &detail.deposit, waits), more)
}

/// The deposit's life in order of time.
fn life(
    config: &Config,
    detail: &DepositDetail,
    waits: &Option<Waiting>,
    said: &[Screening],
) -> String {
    let deposit = &detail.deposit;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<14} {value}");
    };
    line("deposit", deposit.id.to_string());
    line("namespace", deposit.namespace.clone());
    line("stage", deposit.stage.to_string());
    if let Some(waits) = waits {
        line("waits for", waits.text.clone());
    }
    line("amount", amount(config, deposit, deposit.raw));
    line("confirmations", confirmations(config, deposit));
    line("chain", deposit.chain.to_string());
    line("transaction", format!("{}, transfer {}", deposit.tx_hash, deposit.n));
    line("token", deposit.token.to_checksum(None));
    line("to", deposit.recipient.to_checksum(None));
    for s in &detail.sightings {
        let fate = if s.canonical { "canonical" } else { "ORPHANED" };
        line("seen", format!("{}  in block {} ({fate})", time(s.seen_at_ms), s.block_number));
        line("", format!("block {} of {}", s.block_hash, time(s.block_time_ms)));
        let what = match (&s.malformed, s.raw, s.sender) {
            (Some(why), ..) => format!("not an ERC-20 transfer: {why}"),
            (None, Some(raw), Some(sender)) => {
                format!("{} from {}", amount(config, deposit, raw), sender.to_checksum(None))
            }
            _ => String::new(),
        };
        line("", format!("log {}: {what}", s.log_index));
    }
    screened_lines(said).into_iter().for_each(|(key, value)| line(key, value));
    if let Some(c) = &detail.confirmation {
        let at = time(c.confirmed_at_ms);
        line("confirmed", format!("{at}  {}, at head {}", c.policy, c.head));
        let (by, transfers) = (&c.receipt_provider, c.receipt_transfers);
        line(
            "",
            format!("receipt read again from {by}: {transfers} transfer(s) to us, as recorded"),
        );
        if let Some(verify) = &c.verify {
            let kept =
                if c.proof_kept { ": its receipt is proved, and the proof is kept" } else { "" };
            line("", format!("verified by {verify}{kept}"));
        }
    }
    if let Some((epoch, rule, rate, at)) = &detail.price {
        let credits = deposit.credits.map(|c| c.to_string()).unwrap_or_default();
        line("priced", format!("{}  {credits} credits", time(*at)));
        line("", format!("epoch {epoch}, {rule}: {rate} credits a token, rounded down"));
    }
    if let Some(record) = &detail.credit {
        line("credited", format!("{}  record {}", time(record.recorded_at_ms), record.seq));
        line("", format!("id {}", record.id));
        line("", format!("seal {}", record.seal));
        line("", format!("cause {}", record.cause));
        line("", format!("outcome {}", record.outcome));
    }
    text
}
