//! What the house's records say of the log's keys and names, followed from the first one on.

use alloy::primitives::hex;

use super::state::LogState;
use super::stop::{Failed, Stop};
use crate::domain::journal::{Cause, Kind};
use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::history::KeyHistory;
use crate::domain::log::key::PublicKey;
use crate::store::db::query::query;
use crate::store::db::{On, Tx};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// The records of the log's keys and resumptions, followed.
///
/// # Errors
/// [`Stop::Damaged`] where one does not follow: nobody who has the key wrote it.
pub(super) async fn registered(on: impl Into<On<'_>>) -> Result<KeyHistory, Failed> {
    let rows = query(
        "SELECT kind, cause FROM records
         WHERE journal_id = 0 AND kind IN ('log_key', 'log_resumed') ORDER BY seq",
    )
    .fetch_all(on)
    .await?;
    let mut causes = Vec::with_capacity(rows.len());
    for row in &rows {
        let bad = |why: &dyn std::fmt::Display| corrupt("records", "cause", &why.to_string());
        let kind = Kind::parse(&row.text("records", "kind")?).map_err(|e| bad(&e))?;
        let cause = row.text("records", "cause")?;
        causes.push(Cause::from_json(kind, &cause).map_err(|e| bad(&e))?);
    }
    KeyHistory::of(&causes).map_err(|error| Stop::Damaged(error.to_string()).into())
}

/// Checks that the log's key and its name are those that the records say, each of which follows from the one before.
/// Before any record tells a name, it is the one that a database begins with.
pub(super) async fn agrees(tx: &mut Tx, log: &LogState) -> Result<KeyHistory, Failed> {
    let history = registered(&mut *tx).await?;
    let damaged = |why: String| Err(Stop::Damaged(why).into());
    if history.last() != log.key.as_ref() {
        let named =
            |key: Option<&PublicKey>| key.map_or_else(|| "none".to_owned(), ToString::to_string);
        return damaged(format!(
            "its key is not the one that the house's records register last: {}, and they say {}",
            named(log.key.as_ref()),
            named(history.last())
        ));
    }
    let origin = match history.origin() {
        Some(origin) => origin.to_owned(),
        None => first_origin(tx).await?,
    };
    if origin != log.origin.as_str() {
        return damaged(format!(
            "its origin is not the one that the house's records say: {}, and they say {origin}",
            log.origin
        ));
    }
    Ok(history)
}

/// The name of a log that has no key.
async fn first_origin(tx: &mut Tx) -> Result<String, StoreError> {
    let row = query("SELECT network, installation_id FROM installation").fetch_optional(tx).await?;
    let row = row.ok_or_else(|| corrupt("installation", "only_row", "the only row is missing"))?;
    let id = row.b256("installation", "installation_id")?;
    Ok(name_without_key(&row.text("installation", "network")?, id.as_slice()))
}

/// The same, of an installation with this id.
pub(in crate::store) fn name_without_key(network: &str, installation_id: &[u8]) -> String {
    let id = hex::encode(installation_id.get(..8).unwrap_or_default());
    format!("topupd/{network}/{id}/1")
}

/// What a checkpoint from elsewhere says, after this log signed it: as [`KeyHistory::signed`] has it.
///
/// # Errors
/// [`StoreError::Refused`], in a sentence, where it is none of this log.
pub(super) async fn accepted<'p>(
    on: impl Into<On<'_>>,
    log: &LogState,
    known: &'p Published,
) -> Result<&'p Checkpoint, Failed> {
    let signed = registered(on).await?.signed(known, &log.origin);
    signed.map_err(|why| Failed::Store(StoreError::Refused(why)))
}
