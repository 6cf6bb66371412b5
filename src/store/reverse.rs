//! Undoing credits whose blocks turned out not to be canonical.
//!
//! A reversal is a posting of its own, linked to the one it undoes, which stays as it was. If the
//! same transaction stands in a canonical block, its deposit becomes pending there, to be credited
//! again by the same rules as any other.

use alloy::primitives::{Address, B256};

use super::batch::Batch;
use super::db::{Tx, query};
use super::engine::Store;
use super::errors::StoreError;
use super::findings::note_in;
use super::leases::LeasedStore;
use super::rows::to_int;
use super::stages::standings;
use crate::domain::deposit::{Event, Verdict};
use crate::domain::finding::NewFinding;
use crate::domain::ids::{BlockRef, ChainId, DepositId};
use crate::domain::ledger::{DepositReversal, draft_reversal};
use crate::domain::money::{Nanocredits, RawAmount};

/// A credit whose block was orphaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfounded {
    /// Its posting.
    pub posting_seq: i64,
    /// The posting's id.
    pub posting_id: B256,
    /// The posting's hash.
    pub posting_hash: B256,
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
    ///
    /// # Errors
    /// When the database fails or a row cannot be read.
    pub async fn unfounded(&self, chain: ChainId) -> Result<Vec<Unfounded>, StoreError> {
        query(
            "SELECT u.posting_seq, p.posting_id, p.hash, k.deposit_id, n.name, b.block_number,
                    b.block_hash, b.block_time_ms, b.canonical, s.token, s.raw_amount,
                    l.amount_nano
             FROM unfounded u
             JOIN postings p ON p.seq = u.posting_seq
             JOIN credits k ON k.posting_seq = u.posting_seq
             JOIN deposits d ON d.deposit_id = k.deposit_id
             JOIN namespaces n ON n.namespace_id = d.namespace_id
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
             JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = k.block_hash
                             AND s.log_index = k.log_index
             JOIN lots l ON l.posting_seq = u.posting_seq
             WHERE u.chain_id = $1 ORDER BY u.posting_seq",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing("read credits without a block"))?
        .iter()
        .map(|row| {
            Ok(Unfounded {
                posting_seq: row.int("unfounded", "posting_seq")?,
                posting_id: row.b256("postings", "posting_id")?,
                posting_hash: row.b256("postings", "hash")?,
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
    /// Whose credit.
    pub deposit: DepositId,
    /// The posting that undoes it.
    pub reversal: DepositReversal,
    /// What somebody should look at.
    pub finding: NewFinding,
}

impl LeasedStore {
    /// Forgets that a credit's block was orphaned: it is canonical again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn commit_founded(&self, posting_seq: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        forget(&mut tx, posting_seq).await?;
        Store::commit(tx).await
    }

    /// Undoes credits. One whose block is canonical again, or that was undone already, is passed
    /// over. Returns how many were undone.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn commit_reversals(&self, undos: &[Undo]) -> Result<usize, StoreError> {
        const DOING: &str = "reverse a credit";
        if undos.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin_held().await?;
        let mut batch = Batch::begin(&mut tx, self).await?;
        let now_ms = batch.now_ms;
        batch.read_balances(&mut tx, undos.iter().map(|u| &u.reversal.namespace)).await?;
        let mut undone: Vec<(DepositId, &DepositReversal, i64)> = Vec::new();
        let mut findings = Vec::new();
        for Undo { deposit, reversal, finding } in undos {
            let standing = query(
                "SELECT d.namespace_id FROM credits k
                 JOIN deposits d ON d.deposit_id = k.deposit_id
                 JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
                 WHERE k.posting_seq = $1 AND k.deposit_id = $2 AND k.reversed_by IS NULL
                   AND d.stage = 'credited' AND b.canonical = 0",
            )
            .bind(reversal.reverses_seq)
            .bind(deposit.0)
            .fetch_optional(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?;
            let Some(row) = standing else { continue };
            let draft = draft_reversal(*deposit, reversal, batch.recorded_at_ms)
                .map_err(|e| StoreError::Refused(format!("cannot write the evidence: {e}")))?;
            let namespace_id = row.int("deposits", "namespace_id")?;
            // A namespace that has spent the credits owes them: its balance may become negative.
            let back = Nanocredits::ZERO.checked_sub(reversal.credits_nano);
            let seq = match back {
                Some(back) => batch.append(draft, &reversal.namespace, namespace_id, back)?,
                None => None,
            };
            let Some(seq) = seq else {
                return Err(StoreError::Refused(format!(
                    "the balance of {} would not fit: the credit of posting {} cannot be reversed",
                    reversal.namespace, reversal.reverses_seq
                )));
            };
            undone.push((*deposit, reversal, seq));
            findings.push(finding.clone());
        }
        batch.write(&mut tx).await?;
        for (deposit, reversal, seq) in &undone {
            undo(&mut tx, *deposit, reversal, *seq, now_ms).await?;
        }
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(undone.len())
    }
}

/// What follows from a reversal's posting.
async fn undo(
    tx: &mut Tx,
    deposit: DepositId,
    reversal: &DepositReversal,
    seq: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    const DOING: &str = "reverse a credit";
    let credited = standings(tx, [deposit]).await?;
    let Some(standing) = credited.get(&deposit) else { return Ok(()) };
    let reversed = standing.stage.next(Event::CreditUndone)?;
    for (sql, first, second) in [
        ("UPDATE credits SET reversed_by = $2 WHERE posting_seq = $1", reversal.reverses_seq, seq),
        ("UPDATE lots SET remaining_nano = $2 WHERE posting_seq = $1", reversal.reverses_seq, 0),
    ] {
        query(sql)
            .bind(first)
            .bind(second)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
    }
    query(
        "UPDATE deposits SET stage = $2, posting_seq = $3, updated_at_ms = $4
         WHERE deposit_id = $1",
    )
    .bind(deposit.0)
    .bind(reversed.as_str())
    .bind(seq)
    .bind(now_ms)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    forget(tx, reversal.reverses_seq).await?;
    // The same transaction, mined again and seen already: it starts anew from there.
    let again = query(
        "SELECT s.block_hash, s.block_number, s.log_index, s.raw_amount
         FROM sightings s
         JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
         WHERE s.deposit_id = $1 AND b.canonical = 1 AND s.malformed IS NULL",
    )
    .bind(deposit.0)
    .fetch_optional(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let Some(row) = again else { return Ok(()) };
    let pending = reversed.next(Event::Seen(Verdict::Accept))?;
    query(
        "UPDATE deposits SET stage = $2, posting_seq = NULL, block_hash = $3, block_number = $4,
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
    .await
    .map_err(StoreError::doing(DOING))?;
    Ok(())
}

async fn forget(tx: &mut Tx, posting_seq: i64) -> Result<(), StoreError> {
    query("DELETE FROM unfounded WHERE posting_seq = $1")
        .bind(posting_seq)
        .execute(tx)
        .await
        .map_err(StoreError::doing("forget an unfounded credit"))?;
    Ok(())
}
