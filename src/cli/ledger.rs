//! `ledger`: balances, histories, and the proof that they follow from what is stored.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::book::parse_name;
use super::dialect::with;
use super::{CliError, Output, open, print, print_json, table, time};
use crate::config::Config;
use crate::domain::journal::{Record, RecordId};
use crate::domain::money::{Nanocredits, display_total};

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Print the balance of a namespace, in credits.
    Balance {
        /// Whose.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print the records of a namespace that move credits, oldest first, each with the balance after it.
    History {
        /// Whose.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show a record with its entries, its cause, its outcome and its seal.
    Show {
        /// Its id.
        #[arg(value_name = "RECORD")]
        id: RecordId,
        #[command(flatten)]
        output: Output,
    },
    /// Recompute every hash, balance and credit from stored inputs; exit 1 at the first that differs.
    Verify {
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn ledger(config: Config, command: LedgerCommand) -> Result<ExitCode, CliError> {
    match command {
        LedgerCommand::Balance { namespace, output } => {
            let namespace = parse_name(&namespace)?;
            let balance = open(&config).await?.balance(&namespace).await?;
            if output.json {
                return print_json(json!({
                    "namespace": namespace, "credits": balance.to_string(),
                }));
            }
            print(&format!("{balance} credits"))
        }
        LedgerCommand::History { namespace, output } => {
            let namespace = parse_name(&namespace)?;
            let rows = open(&config).await?.history(&namespace).await?;
            if output.json {
                let all: Vec<Value> = rows
                    .iter()
                    .map(|r| {
                        let more = json!({
                            "change": r.change_nano.to_string(),
                            "balance": r.balance_nano.to_string(), "unit": "credits",
                        });
                        with(record_json(&r.record), more)
                    })
                    .collect();
                return print_json(json!({ "namespace": namespace, "records": all }));
            }
            let head = ["SEQ", "EFFECTIVE", "RECORDED", "KIND", "CHANGE", "BALANCE", "SUBJECT"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|r| {
                vec![
                    r.record.seq.to_string(),
                    time(r.record.effective_at_ms),
                    time(r.record.recorded_at_ms),
                    r.record.kind.to_string(),
                    r.change_nano.to_string(),
                    r.balance_nano.to_string(),
                    r.record.subject.clone(),
                ]
            }));
            print(&table(&lines))
        }
        LedgerCommand::Show { id, output } => {
            let store = open(&config).await?;
            let none = || CliError::BadInput(format!("there is no record {id}"));
            let place = store.place_of(id).await?.ok_or_else(none)?;
            let record = store.record(place).await?.ok_or_else(none)?;
            if output.json {
                return print_json(record_json(&record));
            }
            print(&record_text(&record))
        }
        LedgerCommand::Verify { output } => match open(&config).await?.verify().await? {
            Ok(verified) => {
                let credits = display_total(verified.total_nano);
                if output.json {
                    return print_json(json!({
                        "holds": true, "records": verified.records,
                        "credits": credits, "on_orphaned_blocks": verified.on_orphaned_blocks,
                        "reversed": verified.reversed, "proved": verified.proved,
                    }));
                }
                let mut text =
                    format!("the ledger holds: {} records, {credits} credits", verified.records);
                if verified.proved > 0 {
                    text.push_str(&format!(
                        "\n{} of the credits are proved by their receipts, down to their blocks' hashes",
                        verified.proved
                    ));
                }
                if verified.on_orphaned_blocks > 0 {
                    text.push_str(&format!(
                        "\nwarning: {} credits stand on blocks that were orphaned: the reorg was deeper than the finality policy; they are reversed when the other blocks are deep enough",
                        verified.on_orphaned_blocks
                    ));
                }
                print(&text)
            }
            Err(finding) => Err(CliError::Failed(format!("the ledger does NOT hold: {finding}"))),
        },
    }
}

/// A record with all that its seal is computed from.
pub(super) fn record_json(record: &Record) -> Value {
    let entries: Vec<Value> = record
        .entries
        .iter()
        .map(|entry| {
            json!({
                "account": entry.account, "side": entry.side.as_str(),
                "amount": Nanocredits(entry.amount.nano()).to_string(),
                "unit": entry.amount.unit().as_str(),
            })
        })
        .collect();
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    json!({
        "journal": record.journal, "record_seq": record.seq, "record_id": record.id,
        "kind": record.kind, "subject": record.subject,
        "effective_at": time(record.effective_at_ms), "recorded_at": time(record.recorded_at_ms),
        "operator": record.operator, "key_id": record.key_id, "entries": entries,
        "cause": read(&record.cause), "cause_text": record.cause,
        "outcome": read(&record.outcome), "outcome_text": record.outcome,
        "previous_seal": record.prev, "seal": record.seal,
    })
}

fn record_text(record: &Record) -> String {
    let mut rows = vec![
        ("record", record.id.to_string()),
        ("place", format!("{} of {}", record.seq, record.journal)),
        ("kind", record.kind.to_string()),
        ("subject", record.subject.clone()),
        ("effective", time(record.effective_at_ms)),
        ("recorded", time(record.recorded_at_ms)),
    ];
    rows.extend(record.operator.iter().map(|operator| ("operator", operator.clone())));
    rows.extend(record.entries.iter().map(|entry| {
        let (side, unit) = (entry.side.as_str(), entry.amount.unit().as_str());
        let amount = Nanocredits(entry.amount.nano());
        ("entry", format!("{side} {amount} {unit} {}", entry.account))
    }));
    rows.push(("cause", record.cause.clone()));
    rows.push(("outcome", record.outcome.clone()));
    rows.push(("previous", record.prev.to_string()));
    rows.push(("seal", record.seal.to_string()));
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows)
}
