//! The latches of pairs whose price moved too far. They open with the note of why a price was held,
//! and an operator's act closes them.

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::domain::money::Rate;
use crate::store::db::query::query;
use crate::store::db::{On, Row};
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// A pair whose price moved too far.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Breaker {
    /// Pair.
    pub pair: String,
    /// How far, from what.
    pub reason: String,
    /// Chain of the block whose price moved.
    pub chain: ChainId,
    /// That block.
    pub block_hash: B256,
    /// Instant of the price that moved.
    pub instant_ms: i64,
    /// That price.
    pub price: Rate,
    /// Since when.
    pub opened_at_ms: i64,
}

macro_rules! select_breakers {
    ($conditions:literal) => {
        concat!(
            "SELECT pair, reason, chain_id, block_hash, instant_ms, price, opened_at_ms
             FROM breakers ",
            $conditions
        )
    };
}

impl Store {
    /// The latch of a pair, if it is open.
    pub async fn breaker(&self, pair: &str) -> Result<Option<Breaker>, StoreError> {
        breaker(&self.db, pair).await
    }

    /// All open latches.
    pub async fn breakers(&self) -> Result<Vec<Breaker>, StoreError> {
        query(select_breakers!("ORDER BY pair"))
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(breaker_row)
            .collect()
    }
}

/// The latch of a pair, if it is open.
pub(in crate::store) async fn breaker(
    on: impl Into<On<'_>>,
    pair: &str,
) -> Result<Option<Breaker>, StoreError> {
    query(select_breakers!("WHERE pair = $1"))
        .bind(pair)
        .fetch_optional(on)
        .await?
        .as_ref()
        .map(breaker_row)
        .transpose()
}

fn breaker_row(row: &Row) -> Result<Breaker, StoreError> {
    Ok(Breaker {
        pair: row.text("breakers", "pair")?,
        reason: row.text("breakers", "reason")?,
        chain: ChainId(row.uint("breakers", "chain_id")?),
        block_hash: row.b256("breakers", "block_hash")?,
        instant_ms: row.int("breakers", "instant_ms")?,
        price: row.parsed("breakers", "price")?,
        opened_at_ms: row.int("breakers", "opened_at_ms")?,
    })
}
