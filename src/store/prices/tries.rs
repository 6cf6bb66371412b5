//! Why a pair has no price at a block, as last tried; and the latch that a price opens which moved too
//! far.

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::domain::money::Rate;
use crate::domain::oracle::policy::Body;
use crate::store::db::query::query;
use crate::store::db::{On, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::{corrupt, to_int};

impl Store {
    /// Why the pairs of a payment's block have no price, as last tried.
    pub async fn price_tries(
        &self,
        chain: ChainId,
        block: B256,
    ) -> Result<Vec<(Body, i64)>, StoreError> {
        tries(&self.db, chain, block).await
    }
}

impl LeasedStore {
    /// Notes why a pair has no price at a payment's block; opens the pair's latch when `trips` is
    /// the price that moved too far.
    pub async fn note_try(
        &self,
        body: &Body,
        trips: Option<Rate>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        query(
            "INSERT INTO price_tries (chain_id, block_hash, pair, body, tried_at_ms)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (chain_id, block_hash, pair) DO UPDATE SET body = excluded.body,
               tried_at_ms = excluded.tried_at_ms",
        )
        .bind(to_int(body.chain_id, "chain id")?)
        .bind(body.block_hash)
        .bind(&body.pair)
        .bind(body.text())
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        if let Some(price) = trips {
            query(
                "INSERT INTO breakers (pair, reason, chain_id, block_hash, instant_ms, price,
                                       opened_at_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(&body.pair)
            .bind(body.held.as_deref().unwrap_or_default())
            .bind(to_int(body.chain_id, "chain id")?)
            .bind(body.block_hash)
            .bind(body.instant_ms)
            .bind(price.to_string())
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        }
        Store::commit(tx).await
    }
}

/// Why the pairs of a block have no price.
pub(in crate::store) async fn tries(
    on: impl Into<On<'_>>,
    chain: ChainId,
    block: B256,
) -> Result<Vec<(Body, i64)>, StoreError> {
    query(
        "SELECT body, tried_at_ms FROM price_tries WHERE chain_id = $1 AND block_hash = $2
         ORDER BY pair",
    )
    .bind(to_int(chain.0, "chain id")?)
    .bind(block)
    .fetch_all(on)
    .await?
    .iter()
    .map(|row| {
        let body = serde_json::from_str(&row.text("price_tries", "body")?)
            .map_err(|e| corrupt("price_tries", "body", &e.to_string()))?;
        Ok((body, row.int("price_tries", "tried_at_ms")?))
    })
    .collect()
}

pub(in crate::store) async fn forget_try(tx: &mut Tx, body: &Body) -> Result<(), StoreError> {
    query("DELETE FROM price_tries WHERE chain_id = $1 AND block_hash = $2 AND pair = $3")
        .bind(to_int(body.chain_id, "chain id")?)
        .bind(body.block_hash)
        .bind(&body.pair)
        .execute(tx)
        .await?;
    Ok(())
}
