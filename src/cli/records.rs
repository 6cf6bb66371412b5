//! Records and journals by the names that people have for them.

use super::CliError;
use super::book::parse_name;
use crate::domain::ids::{DepositId, HOUSE};
use crate::domain::journal::{JournalId, RecordId};
use crate::store::{RecordPlace, Store};

pub(super) fn no_record(named: &str) -> CliError {
    CliError::BadInput(format!(
        "there is no record {named}; topupd ledger history NAMESPACE lists those of one"
    ))
}

/// The place of a record, by whichever name people have for it.
pub(super) async fn place(store: &Store, named: &str) -> Result<RecordPlace, CliError> {
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
pub(super) async fn place_of(store: &Store, named: &str) -> Result<RecordPlace, CliError> {
    if let Ok(id) = named.parse::<RecordId>()
        && store.place_of(id).await?.is_none()
        && let Some(credit) = store.credit_of(DepositId(id.0)).await?
    {
        return Ok(credit);
    }
    place(store, named).await
}

pub(super) async fn journal_of(store: &Store, name: &str) -> Result<JournalId, CliError> {
    if name == HOUSE {
        return Ok(JournalId::HOUSE);
    }
    let name = parse_name(name)?;
    let journal = store.journal_of(name.as_str()).await?;
    journal.ok_or_else(|| CliError::BadInput(format!("no namespace is called {name}")))
}
