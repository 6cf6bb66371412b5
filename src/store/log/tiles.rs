//! The tiles of the log's tree, as rows.

use std::collections::BTreeMap;

use super::stop::Failed;
use crate::domain::log::edge::Edge;
use crate::domain::log::proof::Plan;
use crate::domain::log::tiles::{Append, Tile, TileId};
use crate::domain::log::tree::{Hash, TreeHead};
use crate::store::db::{Row, Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};

const TABLE: &str = "log_tiles";

/// The tiles with these ids. One that is not there is missing in what is returned.
pub(super) async fn read(
    tx: &mut Tx,
    ids: &[TileId],
) -> Result<BTreeMap<TileId, Tile>, StoreError> {
    let rows = ids
        .iter()
        .map(|id| Ok(vec![i64::from(id.level).into(), to_int(id.index, "tile")?.into()]))
        .collect::<Result<_, StoreError>>()?;
    let found = bulk(
        "SELECT t.level, t.idx, t.hashes FROM {each}
         JOIN log_tiles t ON t.level = r.column1 AND t.idx = r.column2",
        rows,
    )
    .fetch_all(tx)
    .await?;
    found.iter().map(|row| tile_of(row).map(|tile| (tile.id(), tile))).collect()
}

pub(super) fn tile_of(row: &Row) -> Result<Tile, StoreError> {
    let level = row.uint8(TABLE, "level")?;
    let id = TileId { level, index: row.uint(TABLE, "idx")? };
    Tile::from_bytes(id, &row.bytes(TABLE, "hashes")?)
        .map_err(|e| corrupt(TABLE, "hashes", &e.to_string()))
}

/// What a plan asks for.
pub(super) async fn planned(tx: &mut Tx, plan: &Plan) -> Result<Vec<Hash>, Failed> {
    let tiles = read(tx, &plan.tiles()).await?;
    Ok(plan.read_from(&tiles)?)
}

/// Size and root of the tree as it was with so many leaves.
pub(super) async fn head_at(tx: &mut Tx, size: u64) -> Result<TreeHead, Failed> {
    Ok(edge_at(tx, size).await?.head())
}

/// Its right edge then.
pub(super) async fn edge_at(tx: &mut Tx, size: u64) -> Result<Edge, Failed> {
    let hashes = planned(tx, &Plan::edge(size)?).await?;
    Ok(Edge::new(size, hashes)?)
}

/// Writes what was appended.
pub(super) async fn append(tx: &mut Tx, appends: Vec<Append>) -> Result<(), Failed> {
    let grown: Vec<TileId> =
        appends.iter().filter(|append| append.from > 0).map(|append| append.id).collect();
    let mut old = read(tx, &grown).await?;
    let mut rows = Vec::with_capacity(appends.len());
    for append in appends {
        let before = old.remove(&append.id);
        let tile = append.onto(before)?;
        let index = to_int(tile.id().index, "tile")?;
        rows.push(vec![i64::from(tile.id().level).into(), index.into(), tile.to_bytes().into()]);
    }
    bulk(
        "INSERT INTO log_tiles (level, idx, hashes) {rows}
         ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes",
        rows,
    )
    .execute(tx)
    .await?;
    Ok(())
}
