//! Where deposits stand: read and written many at a time, by every commit that moves them.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::db::{Row, Tx, bulk};
use super::errors::StoreError;
use super::rows::corrupt;
use crate::domain::deposit::Stage;
use crate::domain::ids::DepositId;
use crate::domain::money::RawAmount;

/// A deposit's stage and the sighting it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) stage: Stage,
    pub(super) place: (B256, u64),
    pub(super) raw: RawAmount,
}

/// Where the deposits stand, of those that are known.
pub(super) async fn standings(
    tx: &mut Tx,
    ids: impl IntoIterator<Item = DepositId>,
) -> Result<BTreeMap<DepositId, Standing>, StoreError> {
    let ids = ids.into_iter().map(|id| vec![id.0.into()]).collect();
    bulk(
        "SELECT deposit_id, stage, reason, block_hash, log_index, raw_amount FROM deposits
         WHERE deposit_id {keys}",
        ids,
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("look up deposits"))?
    .iter()
    .map(|row| {
        let place = (row.b256("deposits", "block_hash")?, row.uint("deposits", "log_index")?);
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let raw = row.amount("deposits", "raw_amount")?;
        Ok((id, Standing { stage: stage_of(row)?, place, raw }))
    })
    .collect()
}

/// Writes stages.
pub(super) async fn set_stages(
    tx: &mut Tx,
    stages: &[(DepositId, Stage)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let rows = stages
        .iter()
        .map(|(id, stage)| {
            vec![id.0.into(), stage.as_str().into(), stage.reason().into(), now_ms.into()]
        })
        .collect();
    bulk(
        "UPDATE deposits SET stage = r.column2, reason = r.column3, updated_at_ms = r.column4
         FROM ({rows}) AS r WHERE deposits.deposit_id = r.column1",
        rows,
    )
    .execute(tx)
    .await
    .map_err(StoreError::doing("change the stages of deposits"))
}

pub(super) fn stage_of(row: &Row) -> Result<Stage, StoreError> {
    let stage = row.text("deposits", "stage")?;
    let reason = row.opt_text("deposits", "reason")?;
    Stage::parse(&stage, reason.as_deref())
        .ok_or_else(|| corrupt("deposits", "stage", "not a stage with its reason"))
}
