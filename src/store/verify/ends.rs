//! Where journals begin and end: their rows, beside what their records come to.

use alloy::primitives::B256;

use super::finding::{Findings, Remedy};
use crate::domain::account::JournalRow;
use crate::domain::ids::Network;
use crate::domain::journal::{Genesis, JournalId, genesis};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::errors::StoreError;

/// A journal's row.
pub(super) struct End {
    /// False where there is none: its records follow nothing.
    pub(super) is_there: bool,
    pub(super) genesis: Genesis,
    /// Name of the namespace; empty for the house.
    pub(super) name: String,
    seq: i64,
    seal: B256,
    recorded_at_ms: i64,
    posted_nano: i64,
    debt_nano: i64,
    addresses: i64,
}

/// A journal's row; its genesis follows from what it is bound to.
pub(super) async fn end_of(
    tx: &mut Tx,
    found: &mut Findings,
    journal: JournalId,
    (network, installation): (Network, &[u8]),
) -> Result<End, StoreError> {
    const TABLE: &str = "journals";
    let row = query(
        "SELECT j.kind, j.genesis, j.salt, j.seq, j.seal, j.recorded_at_ms, j.posted_nano,
                j.debt_nano, j.addresses, n.name
         FROM journals j LEFT JOIN namespaces n ON n.namespace_id = j.journal_id
         WHERE j.journal_id = $1",
    )
    .bind(journal.0)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else {
        found.add(
            TABLE,
            format!("journal {}", journal.0),
            "the row of a journal is gone",
            Remedy::PutBack,
        );
        return Ok(End::missing());
    };
    let name = row.opt_text("namespaces", "name")?;
    let (kind, salt) = (row.text(TABLE, "kind")?, row.bytes(TABLE, "salt")?);
    let stored = Genesis(row.b256(TABLE, "genesis")?);
    let end = End {
        is_there: true,
        genesis: stored,
        name: name.clone().unwrap_or_default(),
        seq: row.int(TABLE, "seq")?,
        seal: row.b256(TABLE, "seal")?,
        recorded_at_ms: row.int(TABLE, "recorded_at_ms")?,
        posted_nano: row.int(TABLE, "posted_nano")?,
        debt_nano: row.int(TABLE, "debt_nano")?,
        addresses: row.int(TABLE, "addresses")?,
    };
    let of_house = journal.is_house();
    let label = called(&end.name).to_owned();
    let expected = if of_house { "house" } else { "namespace" };
    if of_house == name.is_some() || kind != expected {
        found.add(
            TABLE,
            &label,
            "kind is not what it is, or no namespace has its id",
            Remedy::Sealed,
        );
    }
    let expected = <[u8; 32]>::try_from(salt.as_slice())
        .ok()
        .map(|salt| genesis(network, installation, name.as_deref(), &salt));
    if expected != Some(stored) {
        let problem = "genesis does not follow from network, installation, namespace and salt";
        found.add(TABLE, &label, problem, Remedy::Sealed);
    }
    Ok(end)
}

impl End {
    fn missing() -> Self {
        Self {
            is_there: false,
            genesis: Genesis(B256::ZERO),
            name: String::new(),
            seq: 0,
            seal: B256::ZERO,
            recorded_at_ms: 0,
            posted_nano: 0,
            debt_nano: 0,
            addresses: 0,
        }
    }

    /// The row is what the records come to.
    pub(super) fn holds(&self, found: &mut Findings, row: &JournalRow) {
        let head = &row.head;
        let label = called(&row.name);
        if (self.seq, self.seal) != (head.seq, head.seal) {
            let problem = format!(
                "says that record {} is the last one, sealed {}; the last one there is is sealed {}",
                self.seq, self.seal, head.seal
            );
            found.add("journals", label, problem, Remedy::Sealed);
        }
        let bound = i64::try_from(row.addresses).unwrap_or(i64::MAX);
        for (kept, sum, column) in [
            (self.recorded_at_ms, head.recorded_at_ms, "recorded_at_ms"),
            (self.posted_nano, row.posted.0, "posted_nano"),
            (self.debt_nano, row.debt.0, "debt_nano"),
            (self.addresses, bound, "addresses"),
        ] {
            if kept != sum {
                let problem = format!("{column} is {kept}, its records come to {sum}");
                found.add("journals", label, problem, Remedy::Recount);
            }
        }
    }
}

/// What people call a journal.
fn called(namespace: &str) -> &str {
    if namespace.is_empty() { "house" } else { namespace }
}

/// Journals and namespaces that belong to nobody, and records that stand twice.
pub(super) async fn whole(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    for (sql, table, problem, remedy) in [
        (
            "SELECT j.journal_id AS id FROM journals j
             WHERE (j.seq <> 0 OR j.journal_id <> 0 OR j.seal <> j.genesis)
               AND NOT EXISTS (SELECT 1 FROM records r WHERE r.journal_id = j.journal_id) LIMIT 10",
            "journals",
            "none of its records is there",
            Remedy::Sealed,
        ),
        (
            "SELECT n.namespace_id AS id FROM namespaces n
             WHERE NOT EXISTS (SELECT 1 FROM journals j WHERE j.journal_id = n.namespace_id) LIMIT 10",
            "namespaces",
            "it has no journal",
            Remedy::NotOurs,
        ),
        (
            "SELECT CAST(0 AS BIGINT) AS id FROM installation
             WHERE NOT EXISTS (SELECT 1 FROM journals j WHERE j.journal_id = 0)",
            "journals",
            "the house has no journal",
            Remedy::Sealed,
        ),
        (
            "SELECT MIN(journal_id) AS id FROM records GROUP BY record_id HAVING COUNT(*) > 1 LIMIT 10",
            "records",
            "two records have one id",
            Remedy::Sealed,
        ),
        (
            "SELECT r.journal_id AS id FROM records r
             LEFT JOIN log_leaves l ON l.journal_id = r.journal_id AND l.seq = r.seq
             LEFT JOIN unlogged u ON u.journal_id = r.journal_id AND u.seq = r.seq
             WHERE l.leaf_index IS NULL AND u.position IS NULL LIMIT 10",
            "records",
            "a record is neither in the log nor waits for it",
            Remedy::Sealed,
        ),
        (
            "SELECT l.journal_id AS id FROM log_leaves l
             LEFT JOIN records r ON r.journal_id = l.journal_id AND r.seq = l.seq
             WHERE r.seq IS NULL LIMIT 10",
            "log_leaves",
            "the log has a leaf of a record that is gone",
            Remedy::Sealed,
        ),
        (
            "SELECT u.journal_id AS id FROM unlogged u
             LEFT JOIN records r ON r.journal_id = u.journal_id AND r.seq = u.seq
             WHERE r.seq IS NULL LIMIT 10",
            "unlogged",
            "a record that waits for the log is gone",
            Remedy::Sealed,
        ),
    ] {
        let rows = query(sql).fetch_all(&mut *tx).await?;
        for row in &rows {
            let label = format!("journal {}", row.int(table, "id")?);
            found.add(table, label, problem, remedy);
        }
    }
    Ok(())
}
