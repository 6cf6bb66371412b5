//! Undoing credits whose blocks turned out not to be canonical.
//!
//! A reversal is a record of its own, linked to the one it undoes, which stays as it was. If the
//! same transaction stands in a canonical block, its deposit becomes pending there, to be credited
//! again by the same rules as any other.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};

use crate::domain::account::Written;
use crate::domain::deposit::{Event, Verdict};
use crate::domain::finding::NewFinding;
use crate::domain::ids::{BlockRef, ChainId, DepositId};
use crate::domain::journal::{Cause, DepositReversal, JournalId, RecordId};
use crate::domain::money::{Nanocredits, RawAmount};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::deposits::stages::standings;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{Noted, note_in};
use crate::store::leases::LeasedStore;
use crate::store::ledger::{Batch, RecordPlace, Taking, load_credits, load_records};
use crate::store::rows::to_int;

/// A credit whose block was orphaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfounded {
    /// Its record.
    pub place: RecordPlace,
    /// The record's id.
    pub record_id: RecordId,
    /// The record's seal.
    pub seal: B256,
    /// Deposit.
    pub deposit: DepositId,
    /// Owner.
    pub namespace: String,
    /// The block credited.
    pub block: BlockRef,
    /// Its time.
    pub block_time_ms: i64,
    /// Token.
    pub token: Address,
    /// Amount credited, base units.
    pub raw: RawAmount,
    /// Credits given.
    pub credits: Nanocredits,
    /// True when the block is canonical again.
    pub is_back: bool,
}

impl Store {
    /// The credits of a chain whose blocks were orphaned and that still stand.
    pub async fn unfounded(&self, chain: ChainId) -> Result<Vec<Unfounded>, StoreError> {
        query(
            "SELECT u.journal_id, u.seq, q.record_id, q.seal, k.deposit_id, n.name, b.block_number,
                    b.block_hash, b.block_time_ms, b.canonical, s.token, s.raw_amount,
                    l.amount_nano
             FROM unfounded u
             JOIN records q ON q.journal_id = u.journal_id AND q.seq = u.seq
             JOIN credits k ON k.journal_id = u.journal_id AND k.seq = u.seq
             JOIN deposits d ON d.deposit_id = k.deposit_id
             JOIN namespaces n ON n.namespace_id = d.namespace_id
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
             JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
                             AND s.log_index = k.log_index
             JOIN lots l ON l.journal_id = u.journal_id AND l.lot_seq = u.seq
             WHERE u.chain_id = $1 AND k.reversed_by IS NULL ORDER BY u.journal_id, u.seq",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(Unfounded {
                place: RecordPlace {
                    journal: JournalId(row.int("unfounded", "journal_id")?),
                    seq: row.int("unfounded", "seq")?,
                },
                record_id: RecordId(row.b256("records", "record_id")?),
                seal: row.b256("records", "seal")?,
                deposit: DepositId(row.b256("credits", "deposit_id")?),
                namespace: row.text("namespaces", "name")?,
                block: row.block_ref("blocks")?,
                block_time_ms: row.int("blocks", "block_time_ms")?,
                token: row.address("sightings", "token")?,
                raw: row.amount("sightings", "raw_amount")?,
                credits: Nanocredits(row.int("lots", "amount_nano")?),
                is_back: row.int("blocks", "canonical")? == 1,
            })
        })
        .collect()
    }
}

/// A credit to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Its journal.
    pub journal: JournalId,
    /// Which credit, and why.
    pub reversal: DepositReversal,
    /// What somebody should look at.
    pub finding: NewFinding,
}

impl Undo {
    fn place(&self) -> RecordPlace {
        RecordPlace { journal: self.journal, seq: self.reversal.reverses_seq }
    }
}

impl LeasedStore {
    /// Forgets that a credit's block was orphaned: it is canonical again.
    pub async fn commit_founded(&self, place: RecordPlace) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        forget(&mut tx, place).await?;
        Store::commit(tx).await
    }

    /// Undoes credits. One whose block is canonical again, or that was undone already, is passed
    /// over, and one whose namespace's journal somebody else holds is left for the next time. Returns how
    /// many were undone.
    pub async fn commit_reversals(&self, undos: &[Undo]) -> Result<usize, StoreError> {
        if undos.is_empty() {
            return Ok(0);
        }
        match self.reverse(undos, Taking::ASecond).await {
            Err(error) if error.is_collision() => {
                tracing::warn!(error = %error,
                    "a namespace's journal is held by somebody else: the others go on without it");
                self.reverse(undos, Taking::WhatIsFree).await
            }
            done => done,
        }
    }

    async fn reverse(&self, undos: &[Undo], how: Taking) -> Result<usize, StoreError> {
        let mut tx = self.begin_held().await?;
        let (count, noted) = self.reverse_in(&mut tx, undos, how).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(count)
    }

    /// The same in a transaction of whoever holds the chain's lease. What is noted is said once it is committed.
    async fn reverse_in(
        &self,
        tx: &mut Tx,
        undos: &[Undo],
        how: Taking,
    ) -> Result<(usize, Noted), StoreError> {
        let journals = undos.iter().map(|undo| undo.journal);
        let mut batch = Batch::take(tx, self, journals, how).await?;
        let mut standing: Vec<&Undo> = Vec::new();
        for undo in undos {
            if batch.has(undo.journal) && is_unfounded(tx, undo).await? {
                standing.push(undo);
            }
        }
        let places: BTreeSet<RecordPlace> = standing.iter().map(|undo| undo.place()).collect();
        load_credits(tx, &mut batch, &places).await?;
        let mut drafts = Vec::with_capacity(standing.len());
        for undo in standing {
            let cause = Cause::DepositReversed(Box::new(undo.reversal.clone()));
            drafts.push((undo, batch.draft(undo.journal, cause, None)?));
        }
        let asked = drafts.iter().map(|(undo, draft)| (undo.journal, draft));
        load_records(tx, &mut batch, asked).await?;
        let (mut undone, mut findings) = (Vec::new(), Vec::new());
        for (undo, draft) in drafts {
            let namespace = &undo.reversal.namespace;
            let seq = match batch.add(undo.journal, &draft)? {
                Ok(Written::Created(new)) => new.record.seq,
                Ok(Written::Exists { .. }) => continue,
                Ok(Written::Conflict { seq, field }) => {
                    return Err(StoreError::Refused(format!(
                        "record {seq} of {namespace} undid the same credit for another cause: {field} differs"
                    )));
                }
                Err(why) => {
                    return Err(StoreError::Refused(format!(
                        "the credit of record {} of {namespace} cannot be reversed: {why}",
                        undo.reversal.reverses_seq
                    )));
                }
            };
            undone.push((undo, seq));
            findings.push(undo.finding.clone());
        }
        let now_ms = batch.now_ms;
        for (undo, seq) in &undone {
            undo_deposit(tx, undo, *seq, now_ms).await?;
        }
        let count = undone.len();
        let noted = note_in(tx, &findings, now_ms).await?;
        batch.write(tx, self).await?;
        Ok((count, noted))
    }
}

/// True while a credit stands on a block that is not canonical.
async fn is_unfounded(tx: &mut Tx, undo: &Undo) -> Result<bool, StoreError> {
    let row = query(
        "SELECT 1 AS one FROM credits k
         JOIN deposits d ON d.deposit_id = k.deposit_id AND d.namespace_id = k.journal_id
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
         WHERE k.journal_id = $1 AND k.seq = $2 AND k.deposit_id = $3 AND k.reversed_by IS NULL
           AND d.stage = 'credited' AND b.canonical = 0",
    )
    .bind(undo.journal.0)
    .bind(undo.reversal.reverses_seq)
    .bind(undo.reversal.deposit.0)
    .fetch_optional(tx)
    .await?;
    Ok(row.is_some())
}

/// What follows from a reversal for its deposit.
async fn undo_deposit(tx: &mut Tx, undo: &Undo, seq: i64, now_ms: i64) -> Result<(), StoreError> {
    let deposit = undo.reversal.deposit;
    let credited = standings(tx, [deposit]).await?;
    let Some(standing) = credited.get(&deposit) else { return Ok(()) };
    let reversed = standing.stage.next(Event::CreditUndone)?;
    query(
        "UPDATE deposits SET stage = $2, record_seq = $3, updated_at_ms = $4, since_ms = $4
         WHERE deposit_id = $1",
    )
    .bind(deposit.0)
    .bind(reversed.as_str())
    .bind(seq)
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    forget(tx, undo.place()).await?;
    // The same transaction, mined again and seen already: it starts anew from there.
    let again = query(
        "SELECT s.block_hash, s.block_number, s.log_index, s.raw_amount
         FROM sightings s
         JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
         WHERE s.deposit_id = $1 AND b.canonical = 1 AND s.malformed IS NULL",
    )
    .bind(deposit.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = again else { return Ok(()) };
    let pending = reversed.next(Event::Seen(Verdict::Accept))?;
    query(
        "UPDATE deposits SET stage = $2, record_seq = NULL, block_hash = $3, block_number = $4,
           log_index = $5, raw_amount = $6, updated_at_ms = $7, due_by = 'new', due_number = $4
         WHERE deposit_id = $1",
    )
    .bind(deposit.0)
    .bind(pending.as_str())
    .bind(row.bytes("sightings", "block_hash")?)
    .bind(row.int("sightings", "block_number")?)
    .bind(row.int("sightings", "log_index")?)
    .bind(row.bytes("sightings", "raw_amount")?)
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn forget(tx: &mut Tx, place: RecordPlace) -> Result<(), StoreError> {
    query("DELETE FROM unfounded WHERE journal_id = $1 AND seq = $2")
        .bind(place.journal.0)
        .bind(place.seq)
        .execute(tx)
        .await?;
    Ok(())
}
