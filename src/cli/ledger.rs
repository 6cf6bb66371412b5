//! `ledger`: balances, histories, and the proof that they follow from what is stored.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::book::parse_name;
use super::{CliError, Output, open, print, print_json, table, time};
use crate::config::Config;
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
                return print_json(&json!({
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
                        json!({
                            "seq": r.seq, "kind": r.kind, "deposit_id": r.deposit_id,
                            "effective_at": time(r.effective_at_ms),
                            "recorded_at": time(r.recorded_at_ms),
                            "change": r.change_nano.to_string(),
                            "balance": r.balance_nano.to_string(),
                            "evidence": serde_json::from_str::<Value>(&r.evidence)
                                .unwrap_or(Value::Null),
                        })
                    })
                    .collect();
                return print_json(&json!(all));
            }
            let head = ["SEQ", "EFFECTIVE", "RECORDED", "KIND", "CHANGE", "BALANCE", "DEPOSIT"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            lines.extend(rows.iter().map(|r| {
                vec![
                    r.seq.to_string(),
                    time(r.effective_at_ms),
                    time(r.recorded_at_ms),
                    r.kind.clone(),
                    r.change_nano.to_string(),
                    r.balance_nano.to_string(),
                    r.deposit_id.to_string(),
                ]
            }));
            print(&table(&lines))
        }
        LedgerCommand::Verify { output } => match open(&config).await?.verify().await? {
            Ok(verified) => {
                let credits = display_total(verified.total_nano);
                if output.json {
                    return print_json(&json!({
                        "holds": true, "postings": verified.postings, "head": verified.head,
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
