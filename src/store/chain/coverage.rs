//! What was scanned, by whom, and who looked again: the scan records as far as they are canonical.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};

use crate::domain::ids::ChainId;
use crate::store::db::Row;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::to_int;

/// A scan record, as far as its blocks are canonical.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ScanRow {
    /// Id.
    #[serde(skip)]
    pub scan_id: i64,
    /// First block.
    pub from: u64,
    /// Last block scanned.
    pub to: u64,
    /// Last block that is still canonical.
    pub valid_to: u64,
    /// `by_hash` or `by_range`.
    pub method: String,
    /// Who answered.
    pub provider: String,
    /// `tokens` or `recipients`.
    pub filter: Option<String>,
    /// Logs in the answers.
    pub logs_seen: u64,
    /// Transfers to us among them.
    pub logs_matched: u64,
    /// Last block that was looked at again.
    pub rechecked_to: Option<u64>,
    /// By whom.
    pub recheck_provider: Option<String>,
    /// Logs in those answers.
    pub recheck_logs: u64,
    /// Transfers to us that the first pass had missed.
    pub recheck_added: u64,
    /// When scanning it began.
    pub started_at_ms: i64,
}

/// Where a recorded transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedAt {
    /// Block.
    pub block_hash: B256,
    /// Log within it.
    pub log_index: u64,
    /// Token.
    pub token: Address,
}

macro_rules! select_scans {
    ($conditions:literal) => {
        concat!(
            "SELECT scan_id, from_number, to_number, valid_to, method, provider, filter, logs_seen,
                    logs_matched, rechecked_to, recheck_provider, recheck_logs, recheck_added,
                    started_at_ms
             FROM scans WHERE chain_id = $1 AND valid_to >= from_number ",
            $conditions
        )
    };
}

impl Store {
    /// The scan records that were not looked at again to their ends: of each provider the lowest one,
    /// lowest first. One provider's may have to wait for another that does not answer.
    pub async fn next_rechecks(&self, chain: ChainId) -> Result<Vec<ScanRow>, StoreError> {
        let mut rows = query(select_scans!(
            "AND COALESCE(rechecked_to, -1) < valid_to ORDER BY from_number LIMIT 200"
        ))
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(scan_row)
        .collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        rows.retain(|row| seen.insert(row.provider.clone()));
        Ok(rows)
    }

    /// The scan records of a chain, as far as they are canonical, lowest first: the newest `limit`.
    pub async fn scans(&self, chain: ChainId, limit: i64) -> Result<Vec<ScanRow>, StoreError> {
        let mut rows = query(select_scans!("ORDER BY from_number DESC LIMIT $2"))
            .bind(to_int(chain.0, "chain id")?)
            .bind(limit)
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(scan_row)
            .collect::<Result<Vec<_>, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The first height at which the scan records do not lie side by side from the chain's first
    /// block to its cursor. `None` when they do: nothing between was left out or scanned twice.
    pub async fn scan_gap(&self, chain: ChainId) -> Result<Option<u64>, StoreError> {
        let gap = query(
            "WITH valid AS (
               SELECT from_number, valid_to FROM scans
               WHERE chain_id = $1 AND valid_to >= from_number),
             steps AS (
               SELECT from_number,
                      LAG(valid_to) OVER (ORDER BY from_number, valid_to) AS before FROM valid)
             SELECT MIN(height) AS height FROM (
               SELECT from_number AS height FROM steps
                WHERE before IS NOT NULL AND from_number <> before + 1
               UNION ALL
               SELECT c.start_number FROM cursors c WHERE c.chain_id = $1
                AND c.start_number <> COALESCE((SELECT MIN(from_number) FROM valid), -1)
               UNION ALL
               SELECT c.block_number FROM cursors c WHERE c.chain_id = $1
                AND c.block_number <> COALESCE((SELECT MAX(valid_to) FROM valid), -1)) AS gaps",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_one(&self.db)
        .await?;
        match gap.opt_int("scans", "height")? {
            None => Ok(None),
            Some(_) => gap.uint("scans", "height").map(Some),
        }
    }

    /// The canonical transfers recorded within a range of heights.
    pub async fn recorded_between(
        &self,
        chain: ChainId,
        from: u64,
        to: u64,
    ) -> Result<Vec<RecordedAt>, StoreError> {
        query(
            "SELECT s.block_hash, s.log_index, s.token FROM blocks b
             JOIN sightings s ON s.chain_id = b.chain_id AND s.block_hash = b.block_hash
             WHERE b.chain_id = $1 AND b.canonical = 1 AND b.block_number BETWEEN $2 AND $3
               AND s.malformed IS NULL ORDER BY s.block_number, s.log_index",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(to_int(from, "block")?)
        .bind(to_int(to, "block")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(RecordedAt {
                block_hash: row.b256("sightings", "block_hash")?,
                log_index: row.uint("sightings", "log_index")?,
                token: row.address("sightings", "token")?,
            })
        })
        .collect()
    }
}

fn scan_row(row: &Row) -> Result<ScanRow, StoreError> {
    Ok(ScanRow {
        scan_id: row.int("scans", "scan_id")?,
        from: row.uint("scans", "from_number")?,
        to: row.uint("scans", "to_number")?,
        valid_to: row.uint("scans", "valid_to")?,
        method: row.text("scans", "method")?,
        provider: row.text("scans", "provider")?,
        filter: row.opt_text("scans", "filter")?,
        logs_seen: row.uint("scans", "logs_seen")?,
        logs_matched: row.uint("scans", "logs_matched")?,
        rechecked_to: match row.opt_int("scans", "rechecked_to")? {
            None => None,
            Some(_) => Some(row.uint("scans", "rechecked_to")?),
        },
        recheck_provider: row.opt_text("scans", "recheck_provider")?,
        recheck_logs: row.uint("scans", "recheck_logs")?,
        recheck_added: row.uint("scans", "recheck_added")?,
        started_at_ms: row.int("scans", "started_at_ms")?,
    })
}
