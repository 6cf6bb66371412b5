//! Where deposits stand: read and written many at a time, by every commit that moves them.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use crate::domain::deposit::Stage;
use crate::domain::ids::DepositId;
use crate::domain::money::RawAmount;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::events::tell_stages;
use crate::store::rows::corrupt;

/// A deposit's stage and the sighting it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Standing {
    pub(in crate::store) stage: Stage,
    pub(in crate::store) place: (B256, u64),
    pub(in crate::store) raw: RawAmount,
    /// Its block is canonical.
    pub(in crate::store) canonical: bool,
}

/// Where the deposits stand, of those that are known.
pub(in crate::store) async fn standings(
    tx: &mut Tx,
    ids: impl IntoIterator<Item = DepositId>,
) -> Result<BTreeMap<DepositId, Standing>, StoreError> {
    let ids = ids.into_iter().map(|id| vec![id.0.into()]).collect();
    bulk(
        "SELECT d.deposit_id, d.stage, d.reason, d.block_hash, d.log_index, d.raw_amount,
                CAST(COALESCE(b.canonical, 0) AS BIGINT) AS canonical
         FROM deposits d
         LEFT JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE d.deposit_id {keys}",
        ids,
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let place = (row.b256("deposits", "block_hash")?, row.uint("deposits", "log_index")?);
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let raw = row.amount("deposits", "raw_amount")?;
        let canonical = row.int("blocks", "canonical")? == 1;
        Ok((id, Standing { stage: stage_of(row)?, place, raw, canonical }))
    })
    .collect()
}

/// Writes stages, and tells of those that are told.
pub(in crate::store) async fn set_stages(
    tx: &mut Tx,
    stages: &[(DepositId, Stage)],
    now_ms: i64,
) -> Result<(), StoreError> {
    tell_stages(tx, stages, now_ms).await?;
    let rows = stages
        .iter()
        .map(|(id, stage)| {
            vec![id.0.into(), stage.as_str().into(), stage.reason().into(), now_ms.into()]
        })
        .collect();
    bulk(
        "UPDATE deposits SET stage = r.column2, reason = r.column3, updated_at_ms = r.column4,
           since_ms = CASE WHEN stage = r.column2 AND COALESCE(reason, '') = COALESCE(r.column3, '')
                           THEN since_ms ELSE r.column4 END
         FROM ({rows}) AS r WHERE deposits.deposit_id = r.column1",
        rows,
    )
    .execute(tx)
    .await
    .map_err(StoreError::from)
}

/// Deposits that no receipt shows where they stand are looked for in the next of the canonical blocks
/// that they were seen in, if they were seen in others: who was believed first may have lied.
pub(in crate::store) async fn look_elsewhere(
    tx: &mut Tx,
    stages: &[(DepositId, Stage)],
) -> Result<(), StoreError> {
    for (id, _) in stages.iter().filter(|(_, stage)| stage.is_held_for_its_receipt()) {
        query(
            "UPDATE deposits SET block_hash = s.block_hash, block_number = s.block_number,
               log_index = s.log_index, raw_amount = s.raw_amount
             FROM (SELECT s.deposit_id, s.block_hash, s.block_number, s.log_index, s.raw_amount
                   FROM sightings s
                   JOIN deposits d ON d.deposit_id = s.deposit_id
                   JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
                   WHERE s.deposit_id = $1 AND s.block_hash <> d.block_hash AND b.canonical = 1
                     AND s.raw_amount IS NOT NULL
                   ORDER BY CASE WHEN s.block_number > d.block_number THEN 0 ELSE 1 END,
                            s.block_number, s.log_index
                   LIMIT 1) AS s
             WHERE deposits.deposit_id = s.deposit_id",
        )
        .bind(id.0)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

pub(in crate::store) fn stage_of(row: &Row) -> Result<Stage, StoreError> {
    let stage = row.text("deposits", "stage")?;
    let reason = row.opt_text("deposits", "reason")?;
    Stage::parse(&stage, reason.as_deref()).ok_or_else(|| {
        let of = row.b256("deposits", "deposit_id").map(|id| format!(", of deposit {id}"));
        let why = format!("not a stage with its reason{}", of.unwrap_or_default());
        corrupt("deposits", "stage", &why)
    })
}

/// What is shown of a deposit where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Shown {
    /// Who showed it.
    pub(in crate::store) provider: Option<String>,
    pub(in crate::store) raw: RawAmount,
    pub(in crate::store) sender: Option<Address>,
    /// Its price is fixed there.
    pub(in crate::store) is_priced: bool,
}

/// What is shown of deposits where they stand.
pub(in crate::store) async fn shown(
    tx: &mut Tx,
    ids: impl Iterator<Item = DepositId>,
) -> Result<BTreeMap<DepositId, Shown>, StoreError> {
    bulk(
        "WITH d AS MATERIALIZED (SELECT * FROM deposits WHERE deposit_id {keys})
         SELECT d.deposit_id, d.raw_amount, s.provider, s.sender,
                (SELECT COUNT(*) FROM prices p
                  WHERE p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash
                    AND p.log_index = d.log_index AND p.raw_amount = d.raw_amount) AS prices
         FROM d
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                         AND s.log_index = d.log_index AND s.deposit_id = d.deposit_id
                         AND s.raw_amount = d.raw_amount",
        ids.map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let shown = Shown {
            provider: row.opt_text("sightings", "provider")?,
            raw: row.amount("deposits", "raw_amount")?,
            sender: row.opt_address("sightings", "sender")?,
            is_priced: row.int("prices", "prices")? > 0,
        };
        Ok((DepositId(row.b256("deposits", "deposit_id")?), shown))
    })
    .collect()
}
