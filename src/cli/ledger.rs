//! `ledger`: balances, histories, and the proof that they follow from what is stored.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::book::parse_name;
use super::dialect::with;
use super::{CliError, Output, open, print, print_json, table, time};
use crate::config::Config;
use crate::domain::ledger::{Entry, Posting};
use crate::domain::money::display_total;

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Print the balance of a namespace, in credits.
    Balance {
        /// Whose.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print the postings of a namespace, oldest first, each with the balance after it.
    History {
        /// Whose.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show a posting with its entries, its evidence and its seal.
    Show {
        /// Its place in the ledger.
        #[arg(value_name = "POSTING")]
        seq: i64,
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
                        with(posting_json(&r.posting), more)
                    })
                    .collect();
                return print_json(json!({ "namespace": namespace, "postings": all }));
            }
            let head = ["SEQ", "EFFECTIVE", "RECORDED", "KIND", "CHANGE", "BALANCE", "DEPOSIT"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|r| {
                vec![
                    r.posting.seq.to_string(),
                    time(r.posting.effective_at_ms),
                    time(r.posting.recorded_at_ms),
                    r.posting.kind.clone(),
                    r.change_nano.to_string(),
                    r.balance_nano.to_string(),
                    r.posting.deposit.to_string(),
                ]
            }));
            print(&table(&lines))
        }
        LedgerCommand::Show { seq, output } => {
            let posting = open(&config).await?.posting(seq).await?;
            let posting = posting.ok_or_else(|| {
                CliError::BadInput(format!(
                    "there is no posting {seq}; topupd status says how many"
                ))
            })?;
            if output.json {
                return print_json(posting_json(&posting));
            }
            print(&posting_text(&posting))
        }
        LedgerCommand::Verify { output } => match open(&config).await?.verify().await? {
            Ok(verified) => {
                let credits = display_total(verified.total_nano);
                if output.json {
                    return print_json(json!({
                        "holds": true, "postings": verified.postings, "head_hash": verified.head,
                        "credits": credits, "on_orphaned_blocks": verified.on_orphaned_blocks,
                        "reversed": verified.reversed, "proved": verified.proved,
                    }));
                }
                let mut text = format!(
                    "the ledger holds: {} postings, {credits} credits, head {}",
                    verified.postings, verified.head
                );
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

/// What an entry's amount is counted in.
fn unit(entry: &Entry) -> &'static str {
    if entry.account.starts_with("treasury/usd/") { "USD" } else { "credits" }
}

/// A posting with all that its seal is computed from.
pub(super) fn posting_json(posting: &Posting) -> Value {
    let entries: Vec<Value> = posting
        .entries
        .iter()
        .map(|entry| {
            json!({
                "account": entry.account, "side": entry.side.as_str(),
                "amount": entry.amount.to_string(), "unit": unit(entry),
            })
        })
        .collect();
    json!({
        "posting_seq": posting.seq, "posting_id": posting.id, "kind": posting.kind,
        "deposit_id": posting.deposit, "effective_at": time(posting.effective_at_ms),
        "recorded_at": time(posting.recorded_at_ms), "entries": entries,
        "evidence": serde_json::from_str::<Value>(&posting.evidence).unwrap_or(Value::Null),
        "evidence_text": posting.evidence, "previous_hash": posting.prev_hash,
        "hash": posting.hash,
    })
}

fn posting_text(posting: &Posting) -> String {
    let mut rows = vec![
        ("posting", format!("{} ({})", posting.seq, posting.id)),
        ("kind", posting.kind.clone()),
        ("deposit", posting.deposit.to_string()),
        ("effective", time(posting.effective_at_ms)),
        ("recorded", time(posting.recorded_at_ms)),
    ];
    rows.extend(posting.entries.iter().map(|entry| {
        let (side, unit) = (entry.side.as_str(), unit(entry));
        ("entry", format!("{side} {} {unit} {}", entry.amount, entry.account))
    }));
    rows.push(("evidence", posting.evidence.clone()));
    rows.push(("previous", posting.prev_hash.to_string()));
    rows.push(("hash", posting.hash.to_string()));
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    table(&rows)
}
