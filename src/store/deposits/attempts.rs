//! How often: what was recorded of a deposit was changed, and its credits were undone.

use std::collections::BTreeMap;

use crate::domain::ids::DepositId;
use crate::store::db::query::query;
use crate::store::db::{Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;

impl LeasedStore {
    /// How often what was recorded of a deposit was changed, because of what providers said of its
    /// receipt, since it was confirmed last.
    pub async fn rereads(&self, id: DepositId) -> Result<i64, StoreError> {
        let row = query("SELECT times FROM rereads WHERE deposit_id = $1")
            .bind(id.0)
            .fetch_optional(&self.db)
            .await?;
        row.map_or(Ok(0), |row| row.int("rereads", "times"))
    }

    /// Counts that it was changed once more.
    pub async fn count_reread(&self, id: DepositId) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        query(
            "INSERT INTO rereads (deposit_id, times) VALUES ($1, 1)
             ON CONFLICT (deposit_id) DO UPDATE SET times = rereads.times + 1",
        )
        .bind(id.0)
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await
    }
}

/// Starts the count anew, of deposits that are confirmed.
pub(in crate::store) async fn forget_rereads(
    tx: &mut Tx,
    ids: impl Iterator<Item = &DepositId>,
) -> Result<(), StoreError> {
    bulk("DELETE FROM rereads WHERE deposit_id {keys}", ids.map(|id| vec![id.0.into()]).collect())
        .execute(tx)
        .await
        .map_err(StoreError::from)
}

/// How many credits of each deposit were undone. A credit may rest on what confirmed the last of
/// them: the next confirmation is another row, also in the same block.
pub(in crate::store) async fn undone(
    tx: &mut Tx,
    ids: impl Iterator<Item = &DepositId>,
) -> Result<BTreeMap<DepositId, i64>, StoreError> {
    bulk(
        "SELECT deposit_id, COUNT(*) AS undone FROM credits
         WHERE reversed_by IS NOT NULL AND deposit_id {keys} GROUP BY deposit_id",
        ids.map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| Ok((DepositId(row.b256("credits", "deposit_id")?), row.int("credits", "undone")?)))
    .collect()
}
