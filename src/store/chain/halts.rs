//! Chains that stand still until somebody decides, and what that decision does.
//!
//! A fork below everything that is kept cannot be followed without guessing what else was replaced.
//! Nothing here decides which fork is right.

use alloy::primitives::B256;

use crate::domain::chain::Header;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::{BlockRef, ChainId};
use crate::store::chain::scan::{cut_scans, orphan_all};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::events::{of_chain, tell};
use crate::store::findings::{gone_in, note_in};
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// Recorded blocks looked through at once.
const RECORDED_MAX: i64 = 10_000;

/// Why a chain stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The oldest block that was kept.
    pub floor: u64,
    /// Who showed the other fork.
    pub provider: String,
    /// Its tip there.
    pub found: BlockRef,
    /// Since when.
    pub halted_at_ms: i64,
}

impl Store {
    /// Why a chain stands still, if it does.
    pub async fn halt_of(&self, chain: ChainId) -> Result<Option<Halt>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let halt = halt_in(&mut tx, to_int(chain.0, "chain id")?).await?;
        Self::abandon(tx).await?;
        Ok(halt)
    }

    /// The newest canonical blocks of which a hash is kept, up to a height, oldest first: those of
    /// the window, those that pay somebody, and where scans began and ended.
    pub async fn recorded_up_to(
        &self,
        chain: ChainId,
        height: u64,
    ) -> Result<Vec<BlockRef>, StoreError> {
        let mut blocks = query(
            "SELECT block_number, block_hash FROM blocks
             WHERE chain_id = $1 AND canonical = 1 AND block_number <= $2
             UNION SELECT from_number, from_hash FROM scans
             WHERE chain_id = $1 AND from_number <= valid_to AND from_number <= $2
             UNION SELECT to_number, to_hash FROM scans
             WHERE chain_id = $1 AND to_number = valid_to AND to_number <= $2
             ORDER BY block_number DESC LIMIT $3",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(to_int(height, "block")?)
        .bind(RECORDED_MAX)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| row.block_ref("blocks"))
        .collect::<Result<Vec<_>, _>>()?;
        blocks.reverse();
        Ok(blocks)
    }
}

impl LeasedStore {
    /// Stops a chain until [`LeasedStore::resume`]. One that stands still already keeps its reason.
    pub async fn halt(&self, chain: ChainId, halt: &Halt) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        let new = query(
            "INSERT INTO halts (chain_id, reason, floor_number, provider, found_number, found_hash,
                                halted_at_ms)
             VALUES ($1, 'too_deep', $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(to_int(halt.floor, "block")?)
        .bind(&halt.provider)
        .bind(to_int(halt.found.number, "block")?)
        .bind(halt.found.hash)
        .bind(halt.halted_at_ms)
        .execute(&mut tx)
        .await?;
        let finding = NewFinding {
            chain: Some(chain),
            kind: FindingKind::ChainHalted,
            subject: "the chain".into(),
            detail: serde_json::json!({
                "provider": halt.provider, "oldest_kept": halt.floor,
                "found_number": halt.found.number, "found_hash": halt.found.hash,
            }),
        };
        let noted = note_in(&mut tx, &[finding], halt.halted_at_ms).await?;
        if new > 0 {
            tell(&mut tx, vec![of_chain(chain, "too_deep", halt.halted_at_ms)?]).await?;
        }
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }

    /// Lets a chain go on. With a block to go back to, everything recorded above it is orphaned,
    /// and read again from there; credits whose blocks do not come back are reversed later, by the
    /// same rules as after any reorg. Returns how many blocks were orphaned.
    pub async fn resume(
        &self,
        chain: ChainId,
        back_to: Option<Header>,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        let orphaned = match back_to {
            Some(header) => go_back_in(&mut tx, id, header, now_ms).await?,
            None => 0,
        };
        query("DELETE FROM halts WHERE chain_id = $1").bind(id).execute(&mut tx).await?;
        let (kind, subject) = (FindingKind::ChainHalted, "the chain".to_owned());
        gone_in(&mut tx, &[Gone { chain: Some(chain), kind, subject }], now_ms).await?;
        Store::commit(tx).await?;
        Ok(orphaned)
    }

    /// Goes back to a block, as [`LeasedStore::resume`] does, unless something above it was
    /// credited: then nothing is changed, and the answer is `None`.
    pub async fn go_back(
        &self,
        chain: ChainId,
        header: Header,
        now_ms: i64,
    ) -> Result<Option<usize>, StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        let credited = query(
            "SELECT 1 FROM deposits
             WHERE chain_id = $1 AND block_number > $2 AND stage = 'credited' LIMIT 1",
        )
        .bind(id)
        .bind(to_int(header.number, "block")?)
        .fetch_optional(&mut tx)
        .await?;
        if credited.is_some() {
            Store::abandon(tx).await?;
            return Ok(None);
        }
        let orphaned = go_back_in(&mut tx, id, header, now_ms).await?;
        Store::commit(tx).await?;
        Ok(Some(orphaned))
    }
}

/// Orphans everything recorded above a block, and makes it the cursor. How many blocks that were.
async fn go_back_in(
    tx: &mut Tx,
    id: i64,
    header: Header,
    now_ms: i64,
) -> Result<usize, StoreError> {
    let number = to_int(header.number, "block")?;
    // The block itself may be another one now, too.
    let blocks: Vec<BlockRef> = query(
        "SELECT block_number, block_hash FROM blocks
         WHERE chain_id = $1 AND canonical = 1 AND block_number >= $2
         ORDER BY block_number DESC",
    )
    .bind(id)
    .bind(number)
    .fetch_all(&mut *tx)
    .await?
    .iter()
    .map(|row| row.block_ref("blocks"))
    .collect::<Result<_, _>>()?;
    let gone: Vec<BlockRef> = blocks.into_iter().filter(|b| b.hash != header.hash).collect();
    orphan_all(tx, id, &gone, now_ms).await?;
    cut_scans(tx, id, header.number.saturating_add(1)).await?;
    crate::store::chain::scan::adopt(tx, id, &[header]).await?;
    query(
        "UPDATE cursors SET block_number = $2, block_hash = $3, updated_at_ms = $4
         WHERE chain_id = $1",
    )
    .bind(id)
    .bind(number)
    .bind(header.hash)
    .bind(now_ms)
    .execute(tx)
    .await?;
    Ok(gone.len())
}

pub(in crate::store) async fn halt_in(tx: &mut Tx, chain: i64) -> Result<Option<Halt>, StoreError> {
    let row = query(
        "SELECT floor_number, provider, found_number, found_hash, halted_at_ms FROM halts
         WHERE chain_id = $1",
    )
    .bind(chain)
    .fetch_optional(tx)
    .await?;
    row.map(|row| {
        let hash: B256 = row.b256("halts", "found_hash")?;
        Ok(Halt {
            floor: row.uint("halts", "floor_number")?,
            provider: row.text("halts", "provider")?,
            found: BlockRef { number: row.uint("halts", "found_number")?, hash },
            halted_at_ms: row.int("halts", "halted_at_ms")?,
        })
    })
    .transpose()
}
