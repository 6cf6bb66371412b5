//! Proofs out of the log: that it has a record, and that an older checkpoint is its beginning.
//!
//! Each proof is verified before it is handed out: one that does not hold shows that the tiles are damaged.

use super::state::LogState;
use super::stop::{Failed, Stop};
use super::{state, tiles};
use crate::domain::journal::Record;
use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::proof::Plan;
use crate::domain::log::proof_file::ProofFile;
use crate::domain::log::tree::{Hash, TreeHead, verify_consistency, verify_inclusion};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::{RecordPlace, records_after};
use crate::store::rows::to_int;

/// A record with the proof that the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedRecord {
    /// The record.
    pub record: Record,
    /// Its leaf, the path, and the checkpoint.
    pub file: ProofFile,
}

/// That the tree of one size is the beginning of that of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedConsistency {
    /// The smaller tree.
    pub old: TreeHead,
    /// The larger one: signed where it is the log as it is now.
    pub new: Published,
    /// The hashes.
    pub path: Vec<Hash>,
}

impl Store {
    /// The checkpoint of the log as it is now: signed, where the log has a key and it was signed since.
    pub async fn log_checkpoint(&self) -> Result<Published, StoreError> {
        let log = state::read(&self.db).await?;
        published(&log).map_err(Failed::into_store)
    }

    /// Proves that the log has a record.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where there is no such record, or it has no leaf yet; [`StoreError::Damaged`] where what is
    /// stored is.
    pub async fn prove_record(&self, place: RecordPlace) -> Result<ProvedRecord, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let proved = prove(&mut tx, place).await;
        Self::abandon(tx).await?;
        proved.map_err(Failed::into_store)
    }

    /// Proves that the tree of the size `old` is the beginning of that of the size `new`; without one, of the log as
    /// it is now.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the log is smaller; [`StoreError::Damaged`] where what is stored is.
    pub async fn prove_consistency(
        &self,
        old: u64,
        new: Option<u64>,
    ) -> Result<ProvedConsistency, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let proved = consistency(&mut tx, old, new).await;
        Self::abandon(tx).await?;
        proved.map_err(Failed::into_store)
    }

    /// The record of the credit of a deposit: the newest one, where it was credited again.
    pub async fn credit_of(
        &self,
        deposit: crate::domain::ids::DepositId,
    ) -> Result<Option<RecordPlace>, StoreError> {
        query(
            "SELECT journal_id, seq FROM credits WHERE deposit_id = $1
             ORDER BY journal_id, seq DESC LIMIT 1",
        )
        .bind(deposit.0)
        .fetch_optional(&self.db)
        .await?
        .map(|row| {
            let journal = crate::domain::journal::JournalId(row.int("credits", "journal_id")?);
            Ok(RecordPlace { journal, seq: row.int("credits", "seq")? })
        })
        .transpose()
    }
}

/// The checkpoint that is stored, or the same unsigned.
fn published(log: &LogState) -> Result<Published, Failed> {
    log.check()?;
    match &log.checkpoint {
        Some(signed) => Ok(signed.clone()),
        None => unsigned(log, log.head),
    }
}

fn unsigned(log: &LogState, head: TreeHead) -> Result<Published, Failed> {
    let checkpoint = Checkpoint { origin: log.origin.clone(), head };
    checkpoint.unsigned().map_err(|e| Stop::Damaged(e.to_string()).into())
}

async fn prove(tx: &mut Tx, place: RecordPlace) -> Result<ProvedRecord, Failed> {
    let RecordPlace { journal, seq } = place;
    let before = seq.checked_sub(1).unwrap_or(seq);
    let found = records_after(tx, journal, before, 1).await?.into_iter().next();
    let Some((record, _)) = found.filter(|(record, _)| record.seq == seq) else {
        let why = format!("{journal} has no record {seq}");
        return Err(Failed::Store(StoreError::Refused(why)));
    };
    let row = query("SELECT leaf_index FROM log_leaves WHERE journal_id = $1 AND seq = $2")
        .bind(journal.0)
        .bind(seq)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else {
        let why = format!(
            "record {seq} of {journal} has no leaf in the log yet: a daemon adds it within a second, unless the log waits; see topupd log status"
        );
        return Err(Failed::Store(StoreError::Refused(why)));
    };
    let index = row.uint("log_leaves", "leaf_index")?;
    let log = state::read(&mut *tx).await?;
    let path = tiles::planned(tx, &Plan::inclusion(index, log.head.size)?).await?;
    let seal = record.seal_hash();
    verify_inclusion(&Hash::of_leaf(seal.as_slice()), index, &path, &log.head)?;
    let file = ProofFile { extra: None, index, path, checkpoint: published(&log)? };
    Ok(ProvedRecord { record, file })
}

async fn consistency(tx: &mut Tx, old: u64, new: Option<u64>) -> Result<ProvedConsistency, Failed> {
    let log = state::read(&mut *tx).await?;
    let size = new.unwrap_or(log.head.size);
    let refused = |why: String| Err(Failed::Store(StoreError::Refused(why)));
    if size > log.head.size || old > log.head.size {
        let size = size.max(old);
        return refused(format!("the log has {} records, and not {size}", log.head.size));
    }
    if old > size {
        return refused(format!(
            "a log of {old} records is not the beginning of one of {size}: the smaller size comes first"
        ));
    }
    to_int(size, "size of the log")?;
    let path = tiles::planned(tx, &Plan::consistency(old, size)?).await?;
    let old = tiles::head_at(tx, old).await?;
    let head = tiles::head_at(tx, size).await?;
    verify_consistency(&old, &head, &path)?;
    let new = if head == log.head { published(&log)? } else { unsigned(&log, head)? };
    Ok(ProvedConsistency { old, new, path })
}
