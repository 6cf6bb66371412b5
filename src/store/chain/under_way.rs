//! Chains that the configuration does not have any more, while payments on them are under way.

use std::fmt;

use serde_json::json;

use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::ChainId;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in};

/// What waits on a chain that nobody follows, because it is not in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftChain {
    /// Which.
    pub chain: ChainId,
    /// Payments that are seen and not finished.
    pub payments: u64,
    /// Ranges of old blocks that are not read to their end.
    pub backfills: u64,
}

impl fmt::Display for LeftChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is not in the configuration, but {} of its payments and {} of its backfills are not finished: they wait until it is configured again",
            self.chain, self.payments, self.backfills
        )
    }
}

impl Store {
    /// The chains that are not among these, and of which something is not finished.
    pub async fn left_chains(&self, configured: &[ChainId]) -> Result<Vec<LeftChain>, StoreError> {
        let rows = query(
            "SELECT chain_id, SUM(payments) AS payments, SUM(backfills) AS backfills FROM (
               SELECT chain_id, 1 AS payments, 0 AS backfills FROM deposits
               WHERE stage IN ('pending', 'confirmed', 'priced', 'held')
               UNION ALL
               SELECT chain_id, 0, 1 FROM backfills WHERE finished_at_ms IS NULL
             ) AS under_way GROUP BY chain_id ORDER BY chain_id",
        )
        .fetch_all(&self.db)
        .await?;
        let mut left = Vec::new();
        for row in rows {
            let chain = ChainId(row.uint("deposits", "chain_id")?);
            if !configured.contains(&chain) {
                let payments = row.uint("deposits", "payments")?;
                left.push(LeftChain {
                    chain,
                    payments,
                    backfills: row.uint("backfills", "backfills")?,
                });
            }
        }
        Ok(left)
    }

    /// Notes a finding for each of them, and closes those of chains that are not among them any more.
    pub async fn note_left_chains(
        &self,
        left: &[LeftChain],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        const KIND: FindingKind = FindingKind::ChainLeft;
        let mut tx = self.begin().await?;
        let standing = query("SELECT chain_id FROM findings WHERE kind = $1 AND state <> 'gone'")
            .bind(KIND.as_str())
            .fetch_all(&mut tx)
            .await?;
        let mut over = Vec::new();
        for row in &standing {
            let chain = ChainId(row.uint("findings", "chain_id")?);
            if left.iter().all(|l| l.chain != chain) {
                over.push(Gone { chain: Some(chain), kind: KIND, subject: chain.to_string() });
            }
        }
        let found: Vec<NewFinding> = left
            .iter()
            .map(|l| NewFinding {
                chain: Some(l.chain),
                kind: KIND,
                subject: l.chain.to_string(),
                detail: json!({ "payments": l.payments, "backfills": l.backfills }),
            })
            .collect();
        gone_in(&mut tx, &over, now_ms).await?;
        let noted = note_in(&mut tx, &found, now_ms).await?;
        Self::commit(tx).await?;
        noted.say();
        Ok(())
    }
}
