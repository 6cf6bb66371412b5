//! Records and journals by the names that people have for them.

use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::registry::parse_name;
use crate::cli::words::time;
use crate::domain::ids::{DepositId, HOUSE};
use crate::domain::journal::{JournalId, Record, RecordId};
use crate::domain::money::Nanocredits;
use crate::store::{RecordPlace, Store};

pub(in crate::cli) fn no_record(named: &str) -> CliError {
    CliError::BadInput(format!(
        "there is no record {named}; topupd ledger history NAMESPACE lists those of one"
    ))
}

/// The place of a record, by whichever name people have for it.
pub(in crate::cli) async fn place(store: &Store, named: &str) -> Result<RecordPlace, CliError> {
    if let Some((journal, seq)) = named.rsplit_once('/') {
        let seq = seq.parse::<i64>().ok().filter(|seq| *seq > 0);
        let seq = seq.ok_or_else(|| {
            CliError::BadInput(format!("{named} is not NAMESPACE/NUMBER, such as acme/2"))
        })?;
        return Ok(RecordPlace { journal: journal_of(store, journal).await?, seq });
    }
    let id: RecordId = named.parse().map_err(|_| {
        CliError::BadInput(format!(
            "{named} is neither NAMESPACE/NUMBER, such as acme/2, nor a record's id, 0x and 64 hexadecimal digits"
        ))
    })?;
    store.place_of(id).await?.ok_or_else(|| no_record(named))
}

/// Where a record stands that somebody names as records are named, or by the deposit that it credits.
pub(in crate::cli) async fn place_of(store: &Store, named: &str) -> Result<RecordPlace, CliError> {
    if let Ok(id) = named.parse::<RecordId>()
        && store.place_of(id).await?.is_none()
        && let Some(credit) = store.credit_of(DepositId(id.0)).await?
    {
        return Ok(credit);
    }
    place(store, named).await
}

pub(in crate::cli) async fn journal_of(store: &Store, name: &str) -> Result<JournalId, CliError> {
    if name == HOUSE {
        return Ok(JournalId::HOUSE);
    }
    let name = parse_name(name)?;
    let journal = store.journal_of(name.as_str()).await?;
    journal.ok_or_else(|| CliError::BadInput(format!("no namespace is called {name}")))
}

/// A record with all that its seal is computed from.
pub(in crate::cli) fn record_json(record: &Record, journal: &str) -> Value {
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
    let read = |text: &str| match serde_json::from_str::<Value>(text) {
        // An id has one name, whatever it is called where it is sealed.
        Ok(Value::Object(mut fields)) => {
            if let Some(id) = fields.remove("id") {
                fields.insert("epoch_id".to_owned(), id);
            }
            Value::Object(fields)
        }
        other => other.unwrap_or(Value::Null),
    };
    json!({
        "record": format!("{journal}/{}", record.seq), "record_seq": record.seq,
        "record_id": record.id, "kind": record.kind, "subject": record.subject,
        "effective_at": time(record.effective_at_ms), "recorded_at": time(record.recorded_at_ms),
        "operator": record.operator, "key_id": record.key_id, "entries": entries,
        "cause": read(&record.cause), "cause_text": record.cause,
        "outcome": read(&record.outcome), "outcome_text": record.outcome,
        "previous_seal": record.prev, "seal": record.seal,
    })
}
