//! Operators' acts, as they are read.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::domain::acts::ActRow;
use crate::domain::ids::{ChainId, DepositId};
use crate::store::acts::ActKind;
use crate::store::acts::kinds::Waiver;
use crate::store::db::query::query;
use crate::store::db::{On, Row, Tx, Value, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};

macro_rules! select_acts {
    ($conditions:literal) => {
        concat!(
            "SELECT act_id, kind, operator, reason, deposit_id, chain_id, block_hash, pair, price,
                    instant_ms, approves, approved_hash, withdraws, latch, correction, at_ms
             FROM operator_acts ",
            $conditions
        )
    };
}

impl Store {
    /// What was decided about a deposit, oldest first.
    pub async fn acts_of(&self, deposit: DepositId) -> Result<Vec<ActRow>, StoreError> {
        acts_of(&self.db, deposit).await
    }

    /// Proposals that nobody approved, withdrew or replaced, newest first. Whether one can still be approved, its
    /// deposit says too.
    pub async fn open_proposals(&self) -> Result<Vec<ActRow>, StoreError> {
        // As `ActRow::standing`: a correction takes the place of an older one, whichever prices they name.
        query(select_acts!(
            "p WHERE kind LIKE 'propose%' AND NOT EXISTS (
               SELECT 1 FROM operator_acts o
               WHERE o.approves = p.act_id OR o.withdraws = p.act_id OR (
                 o.act_id > p.act_id AND o.kind = p.kind AND o.deposit_id = p.deposit_id
                 AND (o.kind = 'propose_correction' OR COALESCE(o.pair, '') = COALESCE(p.pair, ''))))
             ORDER BY act_id DESC"
        ))
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(act_row)
        .collect()
    }

    /// An act by its number.
    pub async fn act_by_id(&self, id: i64) -> Result<Option<ActRow>, StoreError> {
        act_by_id(&self.db, id).await
    }
}

/// What was decided about a deposit, oldest first.
pub(in crate::store) async fn acts_of(
    on: impl Into<On<'_>>,
    deposit: DepositId,
) -> Result<Vec<ActRow>, StoreError> {
    query(select_acts!("WHERE deposit_id = $1 ORDER BY act_id"))
        .bind(deposit.0)
        .fetch_all(on)
        .await?
        .iter()
        .map(act_row)
        .collect()
}

/// Those of these deposits that something was decided about of which the house has no record, or another one: nobody
/// decided it.
pub(in crate::store) async fn with_unrecorded_acts(
    tx: &mut Tx,
    deposits: Vec<DepositId>,
) -> Result<BTreeSet<DepositId>, StoreError> {
    if deposits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids = deposits.into_iter().map(|id| vec![id.0.into()]).collect();
    let mut acts = acts_of_all(tx, ids).await?;
    let rows = bulk(
        "SELECT subject, cause FROM records WHERE journal_id = 0 AND kind = 'act' AND subject {keys}",
        acts.iter().map(|act| vec![act.id.to_string().into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut recorded = BTreeSet::new();
    for row in &rows {
        let cause: serde_json::Value =
            serde_json::from_str(&row.text("records", "cause")?).unwrap_or_default();
        let hash = cause.get("hash").and_then(|hash| hash.as_str()).map(str::to_owned);
        recorded.insert((row.text("records", "subject")?, hash));
    }
    acts.retain(|act| !recorded.contains(&(act.id.to_string(), Some(act.hash().to_string()))));
    Ok(acts.into_iter().filter_map(|act| act.deposit).collect())
}

/// The same of many deposits.
pub(in crate::store) async fn acts_of_all(
    tx: &mut Tx,
    deposits: Vec<Vec<Value>>,
) -> Result<Vec<ActRow>, StoreError> {
    bulk(select_acts!("WHERE deposit_id {keys} ORDER BY act_id"), deposits)
        .fetch_all(tx)
        .await?
        .iter()
        .map(act_row)
        .collect()
}

/// Acts by their numbers.
pub(in crate::store) async fn acts_by_number(
    tx: &mut Tx,
    numbers: impl Iterator<Item = i64>,
) -> Result<BTreeMap<i64, ActRow>, StoreError> {
    bulk(select_acts!("WHERE act_id {keys}"), numbers.map(|n| vec![n.into()]).collect())
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| act_row(row).map(|act| (act.id, act)))
        .collect()
}

/// An act by its number.
pub(in crate::store) async fn act_by_id(
    on: impl Into<On<'_>>,
    id: i64,
) -> Result<Option<ActRow>, StoreError> {
    query(select_acts!("WHERE act_id = $1"))
        .bind(id)
        .fetch_optional(on)
        .await?
        .as_ref()
        .map(act_row)
        .transpose()
}

fn act_row(row: &Row) -> Result<ActRow, StoreError> {
    const TABLE: &str = "operator_acts";
    let hash = |column| -> Result<Option<B256>, StoreError> {
        let read = |bytes: Vec<u8>| {
            B256::try_from(bytes.as_slice()).map_err(|e| corrupt(TABLE, column, &e.to_string()))
        };
        row.opt_bytes(TABLE, column)?.map(read).transpose()
    };
    Ok(ActRow {
        id: row.int(TABLE, "act_id")?,
        kind: row.parsed(TABLE, "kind")?,
        operator: row.text(TABLE, "operator")?,
        reason: row.text(TABLE, "reason")?,
        deposit: hash("deposit_id")?.map(DepositId),
        chain: ChainId(row.uint(TABLE, "chain_id")?),
        block_hash: row.b256(TABLE, "block_hash")?,
        pair: row.opt_text(TABLE, "pair")?,
        price: row.opt_text(TABLE, "price")?,
        instant_ms: row.opt_int(TABLE, "instant_ms")?,
        approves: row.opt_int(TABLE, "approves")?,
        approved_hash: hash("approved_hash")?,
        withdraws: row.opt_int(TABLE, "withdraws")?,
        latch: row.opt_text(TABLE, "latch")?,
        correction: row.opt_text(TABLE, "correction")?,
        at_ms: row.int(TABLE, "at_ms")?,
    })
}

/// True when an operator rejected what sources said of a pair at a block.
pub(in crate::store) async fn vetoed(
    on: impl Into<On<'_>>,
    pair: &str,
    chain_id: u64,
    block: B256,
) -> Result<bool, StoreError> {
    Ok(!acts_about(on, ActKind::VetoPrice, pair, chain_id, block).await?.is_empty())
}

/// The acts of a kind about a pair at a block, and their prices, oldest first.
pub(in crate::store) async fn acts_about(
    on: impl Into<On<'_>>,
    kind: ActKind,
    pair: &str,
    chain_id: u64,
    block: B256,
) -> Result<Vec<Waiver>, StoreError> {
    query(
        "SELECT act_id, price FROM operator_acts
         WHERE kind = $1 AND pair = $2 AND chain_id = $3 AND block_hash = $4
         ORDER BY act_id",
    )
    .bind(kind.as_str())
    .bind(pair)
    .bind(to_int(chain_id, "chain id")?)
    .bind(block)
    .fetch_all(on)
    .await?
    .iter()
    .map(|row| {
        let named = !row.is_null("price");
        let price = named.then(|| row.parsed("operator_acts", "price")).transpose()?;
        Ok(Waiver { act: row.int("operator_acts", "act_id")?, price })
    })
    .collect()
}
