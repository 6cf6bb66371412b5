//! The block of each chain at which pairs are priced though nobody pays.
//!
//! One row a chain: the block that was chosen last, and whether it is done with. What was answered
//! and accepted is where the answers and prices of payments are.

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::prices::quotes::QuoteBlock;
use crate::store::rows::to_int;

/// The block that was chosen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The block.
    pub block: QuoteBlock,
    /// When it is looked at again.
    pub next_try_at_ms: i64,
    /// Another one is chosen when it is of this time or later.
    pub again_at_ms: i64,
    /// Nothing more is expected of it.
    pub done: bool,
}

impl Store {
    /// The block of a chain that was chosen last, if any was.
    pub async fn scheduled(&self, chain: ChainId) -> Result<Option<Scheduled>, StoreError> {
        query(
            "SELECT block_number, block_hash, block_time_ms, next_try_at_ms, again_at_ms, done
             FROM price_schedule WHERE chain_id = $1",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_optional(&self.db)
        .await?
        .map(|row| {
            let time_ms = row.int("price_schedule", "block_time_ms")?;
            Ok(Scheduled {
                block: QuoteBlock { block: row.block_ref("price_schedule")?, time_ms },
                next_try_at_ms: row.int("price_schedule", "next_try_at_ms")?,
                again_at_ms: row.int("price_schedule", "again_at_ms")?,
                done: row.int("price_schedule", "done")? == 1,
            })
        })
        .transpose()
    }
}

impl LeasedStore {
    /// Chooses the block that the chain is followed to, if it is of the time between these two. It is
    /// given up so long after its time.
    pub async fn schedule(
        &self,
        chain: ChainId,
        (from_ms, to_ms): (i64, i64),
        give_up_ms: i64,
        now_ms: i64,
    ) -> Result<Option<QuoteBlock>, StoreError> {
        let row = query(
            "SELECT b.block_number, b.block_hash, b.block_time_ms FROM cursors c
             JOIN blocks b ON b.chain_id = c.chain_id AND b.block_hash = c.block_hash
             WHERE c.chain_id = $1 AND b.canonical = 1 AND b.block_time_ms BETWEEN $2 AND $3",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(from_ms)
        .bind(to_ms)
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (block, time_ms) = (row.block_ref("blocks")?, row.int("blocks", "block_time_ms")?);
        let mut tx = self.begin_held().await?;
        query(
            "INSERT INTO price_schedule (chain_id, block_number, block_hash, block_time_ms,
                                         next_try_at_ms, again_at_ms, done)
             VALUES ($1, $2, $3, $4, $5, $6, 0)
             ON CONFLICT (chain_id) DO UPDATE SET block_number = excluded.block_number,
               block_hash = excluded.block_hash, block_time_ms = excluded.block_time_ms,
               next_try_at_ms = excluded.next_try_at_ms, again_at_ms = excluded.again_at_ms,
               done = 0",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(to_int(block.number, "block number")?)
        .bind(block.hash)
        .bind(time_ms)
        .bind(now_ms)
        .bind(time_ms.saturating_add(give_up_ms))
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await?;
        Ok(Some(QuoteBlock { block, time_ms }))
    }

    /// The block is looked at again at this time.
    pub async fn rest_scheduled(
        &self,
        chain: ChainId,
        block: B256,
        next_try_at_ms: i64,
    ) -> Result<(), StoreError> {
        const REST: &str = "UPDATE price_schedule SET next_try_at_ms = $3
             WHERE chain_id = $1 AND block_hash = $2";
        let mut tx = self.begin_held().await?;
        query(REST)
            .bind(to_int(chain.0, "chain id")?)
            .bind(block)
            .bind(next_try_at_ms)
            .execute(&mut tx)
            .await?;
        Store::commit(tx).await
    }

    /// Nothing more is expected of the block; another one is chosen when it is of this time or later.
    /// What the block lacked is forgotten, unless a payment lacks it or it opened a latch.
    pub async fn end_scheduled(
        &self,
        chain: ChainId,
        block: B256,
        again_at_ms: i64,
    ) -> Result<(), StoreError> {
        let chain_id = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        query(
            "UPDATE price_schedule SET done = 1, again_at_ms = $3
             WHERE chain_id = $1 AND block_hash = $2",
        )
        .bind(chain_id)
        .bind(block)
        .bind(again_at_ms)
        .execute(&mut tx)
        .await?;
        query(
            "DELETE FROM price_tries WHERE chain_id = $1 AND block_hash = $2
               AND NOT EXISTS
                 (SELECT 1 FROM deposits d WHERE d.chain_id = $1 AND d.block_hash = $2)
               AND NOT EXISTS
                 (SELECT 1 FROM breakers k WHERE k.chain_id = $1 AND k.block_hash = $2)",
        )
        .bind(chain_id)
        .bind(block)
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await
    }
}
