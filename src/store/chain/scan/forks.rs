//! Blocks that are adopted, and those that are orphaned with all that was seen in them.

use crate::domain::chain::Header;
use crate::domain::deposit::{Event, Stage};
use crate::domain::ids::{BlockRef, DepositId};
use crate::planted::{Fault, planted};
use crate::store::db::query::query;
use crate::store::db::{Tx, bulk};
use crate::store::deposits::dust::forget_dust;
use crate::store::deposits::stages::{set_stages, stage_of};
use crate::store::errors::StoreError;
use crate::store::findings::undisputed;
use crate::store::rows::to_int;

/// Makes blocks canonical.
pub(in crate::store) async fn adopt(
    tx: &mut Tx,
    chain: i64,
    headers: &[Header],
) -> Result<(), StoreError> {
    let moved = at_other_heights(tx, chain, headers).await?;
    let rows = headers
        .iter()
        .map(|header| {
            Ok(vec![
                chain.into(),
                header.hash.into(),
                to_int(header.number, "block")?.into(),
                header.parent_hash.into(),
                header.time_ms.into(),
                1i64.into(),
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    bulk(
        "INSERT INTO blocks
           (chain_id, block_hash, block_number, parent_hash, block_time_ms, canonical) {rows}
         ON CONFLICT (chain_id, block_hash)
           DO UPDATE SET canonical = 1, block_number = excluded.block_number",
        rows,
    )
    .execute(&mut *tx)
    .await?;
    for block in moved {
        lift(tx, chain, block).await?;
    }
    Ok(())
}

/// What stands in a block stands at its height, also when that had been told wrongly.
async fn lift(tx: &mut Tx, chain: i64, block: BlockRef) -> Result<(), StoreError> {
    for sql in [
        "UPDATE sightings SET block_number = $3 WHERE chain_id = $1 AND block_hash = $2
            AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
                  AND k.block_hash = sightings.block_hash
                  AND k.log_index = sightings.log_index)",
        "UPDATE outgoing SET block_number = $3 WHERE chain_id = $1 AND block_hash = $2",
        "UPDATE deposits SET block_number = $3
          WHERE block_hash = $2 AND deposit_id IN (SELECT s.deposit_id FROM sightings s
                  WHERE s.chain_id = $1 AND s.block_hash = $2)",
    ] {
        query(sql)
            .bind(chain)
            .bind(block.hash)
            .bind(to_int(block.number, "block")?)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Those of the blocks that are recorded at other heights. One that is canonical at one height is
/// not at another one, too.
async fn at_other_heights(
    tx: &mut Tx,
    chain: i64,
    headers: &[Header],
) -> Result<Vec<BlockRef>, StoreError> {
    let rows = headers
        .iter()
        .map(|h| Ok(vec![chain.into(), h.hash.into(), to_int(h.number, "block")?.into()]))
        .collect::<Result<_, StoreError>>()?;
    let elsewhere = bulk(
        "SELECT b.block_number, b.block_hash, b.canonical, r.column3 AS told FROM {each}
         JOIN blocks b ON b.chain_id = r.column1 AND b.block_hash = r.column2
         WHERE b.block_number <> r.column3",
        rows,
    )
    .fetch_all(tx)
    .await?;
    let mut moved = Vec::with_capacity(elsewhere.len());
    for row in elsewhere {
        let known = row.block_ref("blocks")?;
        if row.int("blocks", "canonical")? != 0 {
            let why = format!("block {} is the one at height {}", known.hash, known.number);
            return Err(StoreError::Impossible(why));
        }
        moved.push(BlockRef { number: row.uint("blocks", "told")?, hash: known.hash });
    }
    Ok(moved)
}

/// Marks blocks orphaned, newest first, walks the deposits that stood on them, and cuts the scan
/// records that covered them.
pub(in crate::store) async fn orphan_all(
    tx: &mut Tx,
    chain: i64,
    blocks: &[BlockRef],
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(lowest) = blocks.iter().map(|b| b.number).min() else { return Ok(()) };
    for block in blocks {
        orphan(tx, chain, *block, now_ms).await?;
    }
    if planted(Fault::UncutScans) {
        return Ok(());
    }
    cut_scans(tx, chain, lowest).await
}

/// From this height on, no scan record covers what is canonical.
pub(in crate::store) async fn cut_scans(
    tx: &mut Tx,
    chain: i64,
    height: u64,
) -> Result<(), StoreError> {
    // A record that lies above as a whole covers nothing: it ends before it begins.
    query(
        "UPDATE scans SET valid_to = CASE WHEN from_number > $2 THEN from_number ELSE $2 END - 1
         WHERE chain_id = $1 AND valid_to >= $2",
    )
    .bind(chain)
    .bind(to_int(height, "block")?)
    .execute(tx)
    .await?;
    Ok(())
}

/// Marks a block orphaned and walks the deposits that stood on it.
pub(in crate::store) async fn orphan(
    tx: &mut Tx,
    chain: i64,
    block: BlockRef,
    now_ms: i64,
) -> Result<(), StoreError> {
    query("UPDATE blocks SET canonical = 0 WHERE chain_id = $1 AND block_hash = $2")
        .bind(chain)
        .bind(block.hash.to_vec())
        .execute(&mut *tx)
        .await?;
    let rows = query(
        "SELECT deposit_id, stage, reason, namespace_id, record_seq FROM deposits
         WHERE chain_id = $1 AND block_hash = $2",
    )
    .bind(chain)
    .bind(block.hash.to_vec())
    .fetch_all(&mut *tx)
    .await?;
    let mut stages = Vec::with_capacity(rows.len());
    for row in rows {
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let stage = stage_of(&row)?;
        if stage == Stage::Credited {
            tracing::error!(
                deposit.id = %id, block.number = block.number, block.hash = %block.hash,
                "a credited deposit's block was orphaned: the reorg was deeper than the finality policy; unless the block comes back, the credit will be reversed"
            );
            if planted(Fault::ForgottenOrphan) {
                continue;
            }
            query(
                "INSERT INTO unfounded (journal_id, seq, chain_id, orphaned_at_ms)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(row.int("deposits", "namespace_id")?)
            .bind(row.int("deposits", "record_seq")?)
            .bind(chain)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        }
        let next = stage.next(Event::Orphaned)?;
        if next != stage {
            stages.push((id, next));
        }
    }
    forget_dust(tx, chain, block.hash).await?;
    undisputed(tx, chain, stages.iter().map(|(id, _)| *id), now_ms).await?;
    set_stages(tx, &stages, now_ms).await
}
