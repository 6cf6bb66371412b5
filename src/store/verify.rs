//! `ledger verify`, until it folds the journals: how far they go, and nothing of what they say.

use super::db::query;
use super::engine::Store;
use super::errors::StoreError;
use super::proofs::proofs;
use super::screenings::screenings;

/// The first row that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Table.
    pub table: &'static str,
    /// Which row.
    pub row: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}: {}", self.table, self.row, self.problem)
    }
}

/// A ledger that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Number of records.
    pub records: i64,
    /// Sum of all namespaces' balances, in nanocredits.
    pub total_nano: i128,
    /// Credits that stand though their block is canonical no more: the reorg was deeper than the
    /// policy, and they will be reversed.
    pub on_orphaned_blocks: i64,
    /// Credits that were undone by a later posting.
    pub reversed: i64,
    /// Credits whose receipt is proved against its block's hash, by what is kept.
    pub proved: i64,
}

pub(super) type Check<T> = Result<Result<T, Finding>, StoreError>;

/// Leaves with a finding unless the claim holds.
macro_rules! claim {
    ($holds:expr, $table:literal, $row:expr, $problem:expr) => {
        if !$holds {
            return Ok(Err(Finding {
                table: $table,
                row: $row.to_string(),
                problem: $problem.to_string(),
            }));
        }
    };
}

pub(super) use claim;

/// Passes a finding on, or takes the value.
macro_rules! holds {
    ($check:expr) => {
        match $check {
            Ok(value) => value,
            Err(finding) => return Ok(Err(finding)),
        }
    };
}

impl Store {
    /// Counts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify(&self) -> Check<Verified> {
        const DOING: &str = "verify the ledger";
        let mut tx = self.db.begin_read().await.map_err(StoreError::doing(DOING))?;
        tx.take_time().await.map_err(StoreError::doing(DOING))?;
        let row = query(
            "SELECT (SELECT COUNT(*) FROM records) AS records,
                    (SELECT COUNT(*) FROM credits WHERE reversed_by IS NOT NULL) AS reversed,
                    (SELECT COUNT(*) FROM unfounded) AS unfounded,
                    (SELECT COUNT(*) FROM receipt_proofs) AS proved,
                    (SELECT CAST(COALESCE(SUM(posted_nano), 0) AS BIGINT) FROM journals) AS total",
        )
        .fetch_one(&mut tx)
        .await
        .map_err(StoreError::doing(DOING))?;
        holds!(proofs(&mut tx).await?);
        holds!(screenings(&mut tx).await?);
        Self::abandon(tx).await?;
        Ok(Ok(Verified {
            records: row.int("records", "records")?,
            total_nano: i128::from(row.int("journals", "total")?),
            on_orphaned_blocks: row.int("unfounded", "unfounded")?,
            reversed: row.int("credits", "reversed")?,
            proved: row.int("receipt_proofs", "proved")?,
        }))
    }
}
