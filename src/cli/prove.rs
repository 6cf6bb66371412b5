//! `ledger prove`: a record with all that its seal is computed from, and the proof that the log has it.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{CliError, open, print};
use crate::config::Config;
use crate::domain::ids::DepositId;
use crate::domain::journal::{JournalId, Record, RecordId};
use crate::output::note;
use crate::store::{RecordPlace, Store};

/// Where a record stands that somebody names: by its id, by JOURNAL/NUMBER, or by the deposit that it credits.
pub(super) async fn place_of(store: &Store, text: &str) -> Result<RecordPlace, CliError> {
    if let Some((journal, seq)) = text.split_once('/') {
        let seq = seq.parse().ok().filter(|seq| *seq > 0);
        let journal = match journal {
            "house" => Some(JournalId::HOUSE),
            name => match store.journal_of(name).await? {
                Some(journal) => Some(journal),
                None => name.parse().ok().map(JournalId),
            },
        };
        return match (journal, seq) {
            (Some(journal), Some(seq)) => Ok(RecordPlace { journal, seq }),
            _ => Err(CliError::BadInput(format!(
                "{text} is no record: house/12, acme/3 or 7/3, with the name of a namespace or the number of its journal"
            ))),
        };
    }
    let bad = |_| {
        CliError::BadInput(format!(
            "{text} is neither the id of a record or a deposit, nor a place such as acme/3"
        ))
    };
    let id: RecordId = text.parse().map_err(bad)?;
    if let Some(place) = store.place_of(id).await? {
        return Ok(place);
    }
    store.credit_of(DepositId(id.0)).await?.ok_or_else(|| {
        CliError::BadInput(format!("no record has the id {text}, and no deposit with it was credited"))
    })
}

pub(super) async fn prove(config: &Config, record: &str) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let place = place_of(&store, record).await?;
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
    if !file.checkpoint.is_signed() {
        note("the checkpoint is not signed: the log has no key, or nothing was signed yet");
    }
    print(&format!("{text:#}"))
}

/// The fields of a record's seal, each as it is hashed: times in milliseconds, amounts in billionths.
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
        "journal": record.journal.0,
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
