//! `deposits`: the list, and one deposit with its whole life and evidence.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::book::parse_name;
use super::{CliError, Output, open, print, print_json, table, time, token_at};
use crate::config::Config;
use crate::domain::deposit::ALL_STAGES;
use crate::domain::finality::Finality;
use crate::domain::ids::DepositId;
use crate::domain::money::RawAmount;
use crate::domain::waiting::Waiting;
use crate::store::{DepositDetail, DepositFilter, DepositRow, Store};
use crate::tasks::waiting::what_they_wait_for;

#[derive(Debug, Subcommand)]
pub(super) enum DepositsCommand {
    /// List deposits, newest first.
    #[command(
        after_help = "Examples:\n  topupd deposits list --namespace acme\n  topupd deposits list --stage held --json"
    )]
    List {
        /// Only of this namespace.
        #[arg(long)]
        namespace: Option<String>,
        /// Only in this stage: pending, confirmed, priced, credited, orphaned, held, ignored.
        #[arg(long)]
        stage: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show the whole life of a deposit, with its evidence.
    Show {
        /// Its id, 0x and 64 hexadecimal digits, as listed with --json or in the log.
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn deposits(
    config: Config,
    command: DepositsCommand,
) -> Result<ExitCode, CliError> {
    match command {
        DepositsCommand::List { namespace, stage, limit, output } => {
            let namespace = namespace.as_deref().map(parse_name).transpose()?;
            if let Some(stage) = &stage
                && !ALL_STAGES.iter().any(|s| s.as_str() == stage)
            {
                return Err(CliError::BadInput(format!(
                    "--stage {stage:?} is not a stage; allowed: pending, confirmed, priced, credited, orphaned, held, ignored"
                )));
            }
            let filter = DepositFilter { namespace, stage, limit };
            let store = open(&config).await?;
            let rows = store.deposits(&filter).await?;
            let waits = waiting(&config, &store, &rows).await?;
            store.close().await;
            if output.json {
                let all: Vec<Value> =
                    rows.iter().zip(&waits).map(|(d, w)| deposit_json(&config, d, w)).collect();
                return print_json(&json!(all));
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
        DepositsCommand::Show { id, output } => {
            let id: DepositId = id.parse().map_err(CliError::BadInput)?;
            let none = || CliError::BadInput(format!("there is no deposit {id}"));
            let store = open(&config).await?;
            let detail = store.deposit(id).await?.ok_or_else(none)?;
            let waits = waiting(&config, &store, std::slice::from_ref(&detail.deposit)).await?;
            store.close().await;
            let waits = waits.into_iter().flatten().next();
            if output.json {
                return print_json(&detail_json(&config, &detail, &waits));
            }
            print(&life(&config, &detail, &waits))
        }
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

/// `12.5 USDC`, or base units of a contract that is not configured.
pub(super) fn amount(config: &Config, deposit: &DepositRow, raw: RawAmount) -> String {
    match token_at(config, deposit.chain.0, deposit.token) {
        Some(token) => format!("{} {}", raw.display(token.decimals), token.symbol),
        None => format!("{} base units of {}", raw.0, deposit.token.to_checksum(None)),
    }
}

/// `7/12`, or `7 (finalized)`.
fn confirmations(config: &Config, deposit: &DepositRow) -> String {
    let now = deposit.confirmations;
    let rules = config.chains.iter().map(|c| &c.rules).find(|r| r.id == deposit.chain);
    let Some(rules) = rules else { return now.to_string() };
    match rules.finality(deposit.raw, &deposit.token, deposit.block_time_ms) {
        Finality::Confirmations(wanted) => format!("{}/{wanted}", now.min(wanted)),
        tag => format!("{now} ({tag})"),
    }
}

fn deposit_json(config: &Config, deposit: &DepositRow, waits: &Option<Waiting>) -> Value {
    let token = token_at(config, deposit.chain.0, deposit.token);
    json!({
        "id": deposit.id,
        "namespace": deposit.namespace,
        "chain": deposit.chain.to_string(),
        "tx_hash": deposit.tx_hash,
        "token": deposit.token.to_checksum(None),
        "symbol": token.map(|t| &t.symbol),
        "recipient": deposit.recipient.to_checksum(None),
        "n": deposit.n,
        "block_number": deposit.block_number,
        "block_hash": deposit.block_hash,
        "raw_amount": deposit.raw,
        "amount": token.map(|t| deposit.raw.display(t.decimals)),
        "stage": deposit.stage.as_str(),
        "reason": deposit.stage.reason(),
        "confirmations": deposit.confirmations,
        "waiting_for": waits,
        "posting_seq": deposit.posting_seq,
        "credits": deposit.credits.map(|c| c.to_string()),
        "first_seen_at": time(deposit.first_seen_at_ms),
        "updated_at": time(deposit.updated_at_ms),
    })
}

fn detail_json(config: &Config, detail: &DepositDetail, waits: &Option<Waiting>) -> Value {
    let mut value = deposit_json(config, &detail.deposit, waits);
    let more = [
        (
            "sightings",
            json!(
                detail
                    .sightings
                    .iter()
                    .map(|s| json!({
                        "block_number": s.block_number,
                        "block_hash": s.block_hash,
                        "block_time": time(s.block_time_ms),
                        "canonical": s.canonical,
                        "log_index": s.log_index,
                        "sender": s.sender.map(|a| a.to_checksum(None)),
                        "raw_amount": s.raw,
                        "malformed": s.malformed,
                        "seen_at": time(s.seen_at_ms),
                    }))
                    .collect::<Vec<_>>()
            ),
        ),
        (
            "confirmation",
            json!(detail.confirmation.as_ref().map(|c| json!({
                "policy": c.policy, "head_number": c.head,
                "receipt_provider": c.receipt_provider,
                "receipt_transfers": c.receipt_transfers, "verify": c.verify,
                "receipt_proof_kept": c.proof_kept, "confirmed_at": time(c.confirmed_at_ms),
            }))),
        ),
        (
            "price",
            json!(detail.price.as_ref().map(|(epoch, rule, rate, at)| json!({
                "epoch": epoch, "rule": rule, "credits_per_token": rate, "rounding": "down",
                "priced_at": time(*at),
            }))),
        ),
        (
            "posting",
            json!(detail.posting.as_ref().map(|(seq, at, hash, evidence)| json!({
                "seq": seq, "recorded_at": time(*at), "hash": hash,
                "evidence": serde_json::from_str::<Value>(evidence).unwrap_or(Value::Null),
            }))),
        ),
    ];
    if let Some(fields) = value.as_object_mut() {
        fields.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    value
}

/// The deposit's life in order of time.
fn life(config: &Config, detail: &DepositDetail, waits: &Option<Waiting>) -> String {
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
    if let Some((seq, at, hash, evidence)) = &detail.posting {
        line("credited", format!("{}  posting {seq}", time(*at)));
        line("", format!("hash {hash}"));
        line("", format!("evidence {evidence}"));
    }
    text
}
