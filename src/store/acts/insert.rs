//! An act that is written: its row, and the record of it in the house's journal.
//!
//! Whether it may be is decided by those that call this.

use alloy::primitives::B256;

use crate::domain::act_kind::ActKind;
use crate::domain::acts::ActRow;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{Cause, JournalId};
use crate::domain::{journal, said};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::errors::StoreError;
use crate::store::ledger::Batch;
use crate::store::rows::to_int;

/// An act to be written.
pub(in crate::store) struct NewAct<'a> {
    pub(in crate::store) kind: ActKind,
    pub(in crate::store) operator: &'a str,
    pub(in crate::store) reason: &'a str,
    pub(in crate::store) deposit: Option<DepositId>,
    pub(in crate::store) block: (ChainId, B256),
    pub(in crate::store) pair: Option<&'a str>,
    pub(in crate::store) price: Option<String>,
    pub(in crate::store) instant_ms: Option<i64>,
    /// The proposal that it approves, and its hash.
    pub(in crate::store) approves: Option<(i64, B256)>,
    pub(in crate::store) latch: Option<String>,
    pub(in crate::store) withdraws: Option<i64>,
    /// The text of the correction that it proposes.
    pub(in crate::store) correction: Option<String>,
}

/// Writes an act, and the house's record of it. Returns its number.
pub(in crate::store) async fn insert(
    tx: &mut Tx,
    batch: &mut Batch,
    act: NewAct<'_>,
) -> Result<i64, StoreError> {
    said::by(act.operator, act.reason).map_err(StoreError::Refused)?;
    // Whoever registers does so alone; on SQLite, nobody else writes anyhow.
    let id = query("SELECT COALESCE(MAX(act_id), 0) + 1 AS act_id FROM operator_acts")
        .fetch_one(&mut *tx)
        .await?
        .int("operator_acts", "act_id")?;
    let row = ActRow {
        id,
        kind: act.kind,
        operator: act.operator.trim().to_owned(),
        reason: act.reason.trim().to_owned(),
        deposit: act.deposit,
        chain: act.block.0,
        block_hash: act.block.1,
        pair: act.pair.map(str::to_owned),
        price: act.price,
        instant_ms: act.instant_ms,
        approves: act.approves.map(|(proposal, _)| proposal),
        approved_hash: act.approves.map(|(_, hash)| hash),
        withdraws: act.withdraws,
        latch: act.latch,
        correction: act.correction,
        at_ms: batch.now_ms,
    };
    let cause = Cause::Act(Box::new(journal::Act::of(&row)));
    batch.note(tx, JournalId::HOUSE, cause, Some(&row.operator)).await?;
    query(
        "INSERT INTO operator_acts (act_id, kind, operator, reason, deposit_id, chain_id,
                                    block_hash, pair, price, instant_ms, approves, latch, at_ms,
                                    approved_hash, withdraws, correction)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(id)
    .bind(row.kind.as_str())
    .bind(row.operator)
    .bind(row.reason)
    .bind(row.deposit.map(|d| d.0.to_vec()))
    .bind(to_int(row.chain.0, "chain id")?)
    .bind(row.block_hash)
    .bind(row.pair.as_deref())
    .bind(row.price.as_deref())
    .bind(row.instant_ms)
    .bind(row.approves)
    .bind(row.latch.as_deref())
    .bind(row.at_ms)
    .bind(row.approved_hash.map(|hash| hash.to_vec()))
    .bind(row.withdraws)
    .bind(row.correction.as_deref())
    .execute(&mut *tx)
    .await?;
    Ok(id)
}
