//! `ledger prove`: a record with all that its seal is computed from, and the proof that the log has it.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::log::health::{looks_at_log, said_of};
use crate::cli::print::print;
use crate::config::Config;
use crate::domain::journal::Record;
use crate::store::{RecordPlace, Store};

/// Prints it.
pub(in crate::cli) async fn prove(
    config: &Config,
    store: &Store,
    place: RecordPlace,
) -> Result<ExitCode, CliError> {
    let looks = looks_at_log(store, config).await?;
    let proved = store.prove_record(place).await?;
    let key = store.log_state().await?.key;
    let file = &proved.file;
    // Not in the dialect of answers: what is here is hashed as it is.
    let text = json!({
        "record": record_json(&proved.record),
        "leaf_index": file.index,
        "proof": file.to_string(),
        "public_key": key.map(|key| key.to_string()),
    });
    print(&format!("{text:#}"))?;
    Ok(said_of(&looks, &file.checkpoint))
}

/// The fields of a record's seal, each as it is hashed: times in milliseconds, amounts in billionths. Nothing besides:
/// what the seal does not cover (the number of its journal) could be anything.
fn record_json(record: &Record) -> Value {
    let entries: Vec<Value> = record
        .entries
        .iter()
        .map(|entry| {
            json!({
                "account": entry.account, "unit": entry.amount.unit().as_str(),
                "side": entry.side.as_str(), "amount_nano": entry.amount.nano().to_string(),
            })
        })
        .collect();
    json!({
        "prev": record.prev,
        "seq": record.seq,
        "record_id": record.id,
        "kind": record.kind.as_str(),
        "subject": record.subject,
        "effective_at_ms": record.effective_at_ms.to_string(),
        "recorded_at_ms": record.recorded_at_ms.to_string(),
        "operator": record.operator,
        "key_id": record.key_id,
        "cause": record.cause,
        "outcome": record.outcome,
        "entries": entries,
        "seal": record.seal,
    })
}
