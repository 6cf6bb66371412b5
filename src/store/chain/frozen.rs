//! How far our addresses have been asked about, whether the issuer of a token has frozen them.

use alloy::primitives::Address;

use crate::domain::finding::{Gone, NewFinding};
use crate::domain::ids::{BlockRef, ChainId};
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in};
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// Whose turn it is on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrozenTurn {
    /// The block that the chain is followed to.
    pub block: BlockRef,
    /// The address that was asked about last; 0 at the beginning of a round.
    pub to: i64,
    /// When that was.
    pub at_ms: i64,
}

/// An address that was paid on a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidAddress {
    /// Its number.
    pub id: i64,
    /// The address.
    pub address: Address,
    /// Whom it belongs to.
    pub namespace: String,
}

impl Store {
    /// Whose turn it is on a chain; `None` before it is followed.
    pub async fn frozen_turn(&self, chain: ChainId) -> Result<Option<FrozenTurn>, StoreError> {
        query(
            "SELECT block_number, block_hash, frozen_to, frozen_at_ms FROM cursors
             WHERE chain_id = $1",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_optional(&self.db)
        .await?
        .map(|row| {
            Ok(FrozenTurn {
                block: row.block_ref("cursors")?,
                to: row.int("cursors", "frozen_to")?,
                at_ms: row.int("cursors", "frozen_at_ms")?,
            })
        })
        .transpose()
    }

    /// The next addresses that were ever paid on a chain, in the order of their numbers. Each costs a
    /// look into an index, however often it was paid.
    pub async fn paid_addresses(
        &self,
        chain: ChainId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<PaidAddress>, StoreError> {
        query(
            "WITH RECURSIVE paid (address_id, n) AS (
               SELECT (SELECT MIN(d.address_id) FROM deposits d
                        WHERE d.chain_id = $1 AND d.address_id > $2), 1
               UNION ALL
               SELECT (SELECT MIN(d.address_id) FROM deposits d
                        WHERE d.chain_id = $1 AND d.address_id > p.address_id), p.n + 1
               FROM paid p WHERE p.address_id IS NOT NULL AND p.n < $3)
             SELECT a.address_id, a.address, s.name FROM paid p
             JOIN addresses a ON a.address_id = p.address_id
             JOIN namespaces s ON s.namespace_id = a.namespace_id
             ORDER BY a.address_id",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(PaidAddress {
                id: row.int("addresses", "address_id")?,
                address: row.address("addresses", "address")?,
                namespace: row.text("namespaces", "name")?,
            })
        })
        .collect()
    }
}

impl LeasedStore {
    /// Notes which addresses were found to be frozen, which are not any more, and how far the round is.
    pub async fn commit_frozen(
        &self,
        chain: ChainId,
        findings: &[NewFinding],
        gone: &[Gone],
        to: i64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_held().await?;
        let noted = note_in(&mut tx, findings, now_ms).await?;
        gone_in(&mut tx, gone, now_ms).await?;
        query("UPDATE cursors SET frozen_to = $2, frozen_at_ms = $3 WHERE chain_id = $1")
            .bind(to_int(chain.0, "chain id")?)
            .bind(to)
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }
}
