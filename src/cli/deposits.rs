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
use crate::store::{DepositDetail, DepositFilter, DepositRow};

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
            let rows = open(&config).await?.deposits(&filter).await?;
            if output.json {
                let all: Vec<Value> = rows.iter().map(|d| deposit_json(&config, d)).collect();
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
            print(&table(&lines))
        }
        DepositsCommand::Show { id, output } => {
            let id: DepositId = id.parse().map_err(CliError::BadInput)?;
            let none = || CliError::BadInput(format!("there is no deposit {id}"));
            let detail = open(&config).await?.deposit(id).await?.ok_or_else(none)?;
            if output.json {
                return print_json(&detail_json(&config, &detail));
            }
            print(&life(&config, &detail))
        }
    }
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
    match rules.finality(deposit.raw, &deposit.token, deposit.first_seen_at_ms) {
        Finality::Confirmations(wanted) => format!("{}/{wanted}", now.min(wanted)),
        tag => format!("{now} ({tag})"),
    }
}

fn deposit_json(config: &Config, deposit: &DepositRow) -> Value {
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
        "posting_seq": deposit.posting_seq,
        "credits": deposit.credits.map(|c| c.to_string()),
        "first_seen_at": time(deposit.first_seen_at_ms),
        "updated_at": time(deposit.updated_at_ms),
    })
}

fn detail_json(config: &Config, detail: &DepositDetail) -> Value {
    let mut value = deposit_json(config, &detail.deposit);
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
            json!(detail.confirmation.as_ref().map(
                |(policy, head, provider, transfers, at)| json!({
                    "policy": policy, "head_number": head, "receipt_provider": provider,
                    "receipt_transfers": transfers, "confirmed_at": time(*at),
                })
            )),
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
fn life(config: &Config, detail: &DepositDetail) -> String {
    let deposit = &detail.deposit;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<14} {value}");
    };
    line("deposit", deposit.id.to_string());
    line("namespace", deposit.namespace.clone());
    line("stage", deposit.stage.to_string());
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
    if let Some((policy, head, provider, transfers, at)) = &detail.confirmation {
        line("confirmed", format!("{}  {policy}, at head {head}", time(*at)));
        line(
            "",
            format!(
                "receipt read again from {provider}: {transfers} transfer(s) to us, as recorded"
            ),
        );
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
