//! The ledger as people ask for it: balances and histories.

use super::db::{Row, query};
use super::engine::Store;
use super::errors::StoreError;
use super::rows::corrupt;
use crate::domain::ids::{DepositId, NamespaceName, PostingId};
use crate::domain::ledger::{Entry, Posting, Side, namespace_account};
use crate::domain::money::Nanocredits;

/// A line of a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The posting.
    pub posting: Posting,
    /// Change, in nanocredits.
    pub change_nano: Nanocredits,
    /// Balance after it, in nanocredits.
    pub balance_nano: Nanocredits,
}

/// Postings with their entries, a row each, followed by the given conditions.
macro_rules! select_postings {
    ($conditions:literal) => {
        concat!(
            "SELECT p.seq, p.posting_id, p.kind, p.deposit_id, p.effective_at_ms, p.recorded_at_ms,
                    p.evidence, p.prev_hash, p.hash, e.account, e.side, e.amount_nano
             FROM postings p JOIN entries e ON e.posting_seq = p.seq ",
            $conditions
        )
    };
}

impl Store {
    /// A namespace's balance.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn balance(&self, namespace: &NamespaceName) -> Result<Nanocredits, StoreError> {
        let row = query(
            "SELECT COALESCE(a.balance_nano, 0) AS balance_nano FROM namespaces n
             LEFT JOIN accounts a ON a.namespace_id = n.namespace_id WHERE n.name = $1",
        )
        .bind(namespace.as_str())
        .fetch_optional(&self.db)
        .await
        .map_err(StoreError::doing("read a balance"))?
        .ok_or_else(|| StoreError::Refused(format!("no namespace is called {namespace}")))?;
        Ok(Nanocredits(row.int("accounts", "balance_nano")?))
    }

    /// A namespace's postings, oldest first, each with the balance after it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn history(&self, namespace: &NamespaceName) -> Result<Vec<HistoryRow>, StoreError> {
        self.balance(namespace).await?; // names an unknown namespace
        let account = namespace_account(namespace.as_str());
        let rows = query(select_postings!(
            "WHERE p.seq IN (SELECT posting_seq FROM entries WHERE account = $1)
             ORDER BY p.seq, e.leg"
        ))
        .bind(account.as_str())
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing("read a history"))?;
        let too_large = || corrupt("entries", "amount_nano", "the balance overflows");
        let mut history: Vec<HistoryRow> = Vec::new();
        for posting in with_entries(&rows)? {
            let mut change = Nanocredits::ZERO;
            for entry in posting.entries.iter().filter(|entry| entry.account == account) {
                change = match entry.side {
                    Side::Credit => change.checked_add(entry.amount),
                    Side::Debit => change.checked_sub(entry.amount),
                }
                .ok_or_else(too_large)?;
            }
            let before = history.last().map_or(Nanocredits::ZERO, |row| row.balance_nano);
            let balance_nano = before.checked_add(change).ok_or_else(too_large)?;
            history.push(HistoryRow { posting, change_nano: change, balance_nano });
        }
        Ok(history)
    }

    /// A posting with its entries, by its place.
    ///
    /// # Errors
    /// When the database fails or a row cannot be read.
    pub async fn posting(&self, seq: i64) -> Result<Option<Posting>, StoreError> {
        let rows = query(select_postings!("WHERE p.seq = $1 ORDER BY e.leg"))
            .bind(seq)
            .fetch_all(&self.db)
            .await
            .map_err(StoreError::doing("read a posting"))?;
        Ok(with_entries(&rows)?.pop())
    }
}

/// Postings from rows of one entry each, in order.
fn with_entries(rows: &[Row]) -> Result<Vec<Posting>, StoreError> {
    let mut postings: Vec<Posting> = Vec::new();
    for row in rows {
        let seq = row.int("postings", "seq")?;
        if postings.last().is_none_or(|posting| posting.seq != seq) {
            postings.push(posting_row(row)?);
        }
        if let Some(posting) = postings.last_mut() {
            posting.entries.push(entry_row(row)?);
        }
    }
    Ok(postings)
}

/// A posting without its entries.
pub(super) fn posting_row(row: &Row) -> Result<Posting, StoreError> {
    Ok(Posting {
        seq: row.int("postings", "seq")?,
        id: PostingId(row.b256("postings", "posting_id")?),
        kind: row.text("postings", "kind")?,
        deposit: DepositId(row.b256("postings", "deposit_id")?),
        effective_at_ms: row.int("postings", "effective_at_ms")?,
        recorded_at_ms: row.int("postings", "recorded_at_ms")?,
        evidence: row.text("postings", "evidence")?,
        entries: Vec::new(),
        prev_hash: row.b256("postings", "prev_hash")?,
        hash: row.b256("postings", "hash")?,
    })
}

pub(super) fn entry_row(row: &Row) -> Result<Entry, StoreError> {
    Ok(Entry {
        account: row.text("entries", "account")?,
        side: side(&row.text("entries", "side")?)?,
        amount: Nanocredits(row.int("entries", "amount_nano")?),
    })
}

fn side(text: &str) -> Result<Side, StoreError> {
    match text {
        "debit" => Ok(Side::Debit),
        "credit" => Ok(Side::Credit),
        _ => Err(corrupt("entries", "side", "not a side")),
    }
}
