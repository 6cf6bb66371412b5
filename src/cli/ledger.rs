//! `ledger`: balances, histories, single records, and the proof that they follow from what is stored.

pub(in crate::cli) mod correct;
pub(in crate::cli) mod prove;
pub(in crate::cli) mod records;

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::dialect::with;
use crate::cli::error::CliError;
use crate::cli::ledger::correct::{CorrectArgs, correct};
use crate::cli::ledger::prove::prove;
use crate::cli::ledger::records::{journal_of, no_record, place, place_of, record_json};
use crate::cli::log::verify::{HeldLog, LogArgs};
use crate::cli::open::open;
use crate::cli::print::{Output, look_if, print, print_data};
use crate::cli::registry::parse_name;
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::domain::ids::HOUSE;
use crate::domain::journal::{JournalId, Record, Side, Unit, namespace_account};
use crate::domain::money::{Nanocredits, display_total};
use crate::store::{Findings, JournalStart, Store, Verified};

/// Records of a history that are read at a time.
const PAGE: i64 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Print the balance of a namespace, in credits.
    Balance {
        /// Whose.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print the records of a namespace's journal, oldest first, each with the balance after it.
    #[command(
        after_help = "With --json, it is the whole journal, as its owner verifies it:\n  topupd ledger history acme --json > acme.json && python3 docs/verify_ledger.py acme.json"
    )]
    History {
        /// Whose; house for the house's.
        namespace: String,
        #[command(flatten)]
        output: Output,
    },
    /// Show a record with its cause, its outcome, its entries and its seal.
    Show {
        /// Which: NAMESPACE/NUMBER, house/NUMBER, or the record's id.
        #[arg(value_name = "RECORD")]
        record: String,
        #[command(flatten)]
        output: Output,
    },
    /// Undo a credit and give it again, by another price or another epoch: one operator proposes, another one
    /// approves.
    Correct(Box<CorrectArgs>),
    /// Fold every journal from its start, and compute again all that credits rest on and are priced by; exit 3
    /// naming what does not hold.
    Verify {
        #[command(flatten)]
        log: LogArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Print a record with the proof that the log has it, for whoever verifies it alone: docs/verify_log.py.
    #[command(
        after_help = "Example:\n  topupd ledger prove acme/3 > record.json\n  python3 docs/verify_log.py record record.json --key \"$KEY\""
    )]
    Prove {
        /// Which: NAMESPACE/NUMBER, house/NUMBER, the record's id, or that of a credited deposit.
        #[arg(value_name = "RECORD|DEPOSIT")]
        record: String,
    },
}

pub(super) async fn ledger(config: Config, command: LedgerCommand) -> Result<ExitCode, CliError> {
    let store = open(&config).await?;
    match command {
        LedgerCommand::Balance { namespace, output } => {
            let namespace = parse_name(&namespace)?;
            let balance = store.balance(&namespace).await?;
            if output.is_data() {
                return print_data(
                    output,
                    json!({
                        "namespace": namespace, "credits": balance.to_string(),
                    }),
                );
            }
            print(&format!("{balance} credits"))
        }
        LedgerCommand::History { namespace, output } => {
            history(&config, &store, &namespace, output).await
        }
        LedgerCommand::Show { record, output } => {
            let place = place(&store, &record).await?;
            let found = store.record(place).await?;
            let found = found.ok_or_else(|| no_record(&record))?;
            if output.is_data() {
                return print_data(
                    output,
                    record_json(&found, &name(&store, found.journal).await?),
                );
            }
            print(&record_text(&found, &name(&store, found.journal).await?))
        }
        LedgerCommand::Correct(args) => correct(&config, &store, *args).await,
        LedgerCommand::Prove { record } => {
            prove(&config, &store, place_of(&store, &record).await?).await
        }
        LedgerCommand::Verify { log, output } => {
            if let Some(held) = log.only_newer(&store, &config).await? {
                let done = if output.is_data() {
                    print_data(output, held.json())
                } else {
                    print(&held.text())
                };
                return done.map(|_| look_if(held.look()));
            }
            let checked = store.verify_all().await?;
            let held = log.expected_of(&store, &config, checked.log).await?;
            match checked.ledger {
                Ok(verified) => holds(&verified, &held, output),
                Err(findings) => does_not_hold(&findings, &held, output),
            }
        }
    }
}

/// What people call a journal.
async fn name(store: &Store, journal: JournalId) -> Result<String, CliError> {
    let name = store.name_of(journal).await?;
    Ok(name.unwrap_or_else(|| HOUSE.to_owned()))
}

/// A record with what it changes of the balance, and the balance after it.
struct Line {
    record: Record,
    change: Nanocredits,
    balance: Nanocredits,
}

async fn history(
    config: &Config,
    store: &Store,
    namespace: &str,
    output: Output,
) -> Result<ExitCode, CliError> {
    let journal = journal_of(store, namespace).await?;
    let account = namespace_account(namespace);
    let (mut after, mut balance) = (0i64, Nanocredits::ZERO);
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let page = store.records_of(journal, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for record in page {
            let change = change(&record, &account)?;
            balance = balance.checked_add(change).ok_or_else(too_large)?;
            lines.push(Line { record, change, balance });
        }
    }
    if output.is_data() {
        let start = store.journal_start(journal).await?;
        let start = start.ok_or_else(|| no_record(namespace))?;
        let records: Vec<Value> = lines
            .iter()
            .map(|line| {
                let more = json!({
                    "change": line.change.to_string(), "balance": line.balance.to_string(),
                    "unit": Unit::Credits.as_str(),
                });
                with(record_json(&line.record, namespace), more)
            })
            .collect();
        return print_data(
            output,
            json!({
                "namespace": namespace, "journal": start_json(config, &start), "records": records,
            }),
        );
    }
    let head = ["RECORD", "EFFECTIVE", "RECORDED", "KIND", "CHANGE", "BALANCE", "SUBJECT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![
            format!("{namespace}/{}", line.record.seq),
            time(line.record.effective_at_ms),
            time(line.record.recorded_at_ms),
            line.record.kind.to_string(),
            line.change.to_string(),
            line.balance.to_string(),
            line.record.subject.clone(),
        ]
    }));
    print(&table(&rows))
}

fn too_large() -> CliError {
    CliError::Failed("the balance does not fit: see topupd ledger verify".to_owned())
}

/// What a record changes of an account, in credits.
fn change(record: &Record, account: &str) -> Result<Nanocredits, CliError> {
    let of_account = record.entries.iter().filter(|entry| entry.account == account);
    of_account
        .filter(|entry| entry.amount.unit() == Unit::Credits)
        .try_fold(Nanocredits::ZERO, |sum, entry| {
            let amount = Nanocredits(entry.amount.nano());
            match entry.side {
                Side::Credit => sum.checked_add(amount),
                Side::Debit => sum.checked_sub(amount),
            }
        })
        .ok_or_else(too_large)
}

/// What a journal's genesis follows from. The salt is the owner's: whoever has it can tell the seals.
fn start_json(config: &Config, start: &JournalStart) -> Value {
    let hex = |bytes: &[u8]| alloy::primitives::hex::encode_prefixed(bytes);
    json!({
        "network": config.network.as_str(), "installation": hex(&start.installation),
        "salt": hex(&start.salt), "genesis": start.genesis,
    })
}

fn record_text(record: &Record, journal: &str) -> String {
    let mut rows = vec![
        ("record", format!("{journal}/{} ({})", record.seq, record.id)),
        ("kind", record.kind.to_string()),
        ("subject", record.subject.clone()),
        ("effective", time(record.effective_at_ms)),
        ("recorded", time(record.recorded_at_ms)),
    ];
    rows.extend(record.operator.iter().map(|who| ("operator", who.clone())));
    rows.extend(record.key_id.iter().map(|key| ("key", key.clone())));
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

fn holds(verified: &Verified, held: &HeldLog, output: Output) -> Result<ExitCode, CliError> {
    let credits = display_total(verified.total_nano);
    let priced = verified.priced;
    if output.is_data() {
        return print_data(
            output,
            json!({
                "holds": held.holds(), "journals": verified.journals, "records": verified.records,
                "credits_given": verified.credits, "credits": credits,
                "on_orphaned_blocks": verified.on_orphaned_blocks, "reversed": verified.reversed,
                "proved": verified.proved, "prices": priced.prices,
                "conversions": priced.conversions, "answers": priced.answers, "findings": [],
                "log": held.json(),
            }),
        )
        .map(|_| look_if(held.look()));
    }
    let mut text = format!(
        "the ledger holds: {} records in {} journals, {} credits given, {credits} credits in all",
        verified.records, verified.journals, verified.credits
    );
    if priced.prices > 0 {
        text.push_str(&format!(
            "\n{} prices and {} conversions follow from {} stored answers",
            priced.prices, priced.conversions, priced.answers
        ));
    }
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
    text.push_str(&format!("\n{}", held.text()));
    print(&text).map(|_| look_if(held.look()))
}

fn does_not_hold(
    findings: &Findings,
    held: &HeldLog,
    output: Output,
) -> Result<ExitCode, CliError> {
    let code = look_if(true);
    if output.is_data() {
        let all: Vec<Value> = findings
            .named()
            .iter()
            .map(|finding| {
                json!({
                    "table": finding.table, "row": finding.row, "problem": finding.problem,
                    "what_to_do": finding.remedy.as_str(),
                })
            })
            .collect();
        print_data(
            output,
            json!({
                "holds": false, "findings": all, "more": findings.more(), "log": held.json(),
            }),
        )?;
        return Ok(code);
    }
    let named = u64::try_from(findings.named().len()).unwrap_or(u64::MAX);
    let all = named.saturating_add(findings.more());
    let mut text = format!("the ledger does NOT hold: {all} findings");
    for finding in findings.named() {
        text.push_str(&format!("\n{finding}\n  what to do: {}", finding.remedy.as_str()));
    }
    if findings.more() > 0 {
        text.push_str(&format!("\nand {} more", findings.more()));
    }
    print(&format!(
        "{text}
{}",
        held.text()
    ))?;
    Ok(code)
}
