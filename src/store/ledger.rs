//! The ledger as people ask for it: balances and histories.

use super::db::{Row, query};
use super::engine::Store;
use super::errors::StoreError;
use super::rows::corrupt;
use crate::domain::ids::{DepositId, NamespaceName, PostingId};
use crate::domain::ledger::{Entry, Posting, Side, namespace_account};
use crate::domain::money::Nanocredits;

/// A line of a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HistoryRow {
    /// Place in the ledger.
    pub seq: i64,
    /// When it takes effect.
    pub effective_at_ms: i64,
    /// When it was written.
    pub recorded_at_ms: i64,
    /// Kind of posting.
    pub kind: String,
    /// Change, in nanocredits.
    pub change_nano: Nanocredits,
    /// Balance after it, in nanocredits.
    pub balance_nano: Nanocredits,
    /// Deposit behind it.
    pub deposit_id: DepositId,
    /// Evidence, as JSON.
    #[serde(skip)]
    pub evidence: String,
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
        let rows = query(
            "SELECT p.seq, p.effective_at_ms, p.recorded_at_ms, p.kind, p.deposit_id, p.evidence,
                    e.side, e.amount_nano
             FROM entries e JOIN postings p ON p.seq = e.posting_seq
             WHERE e.account = $1 ORDER BY p.seq, e.leg",
        )
        .bind(namespace_account(namespace.as_str()))
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing("read a history"))?;
        let mut balance = Nanocredits::ZERO;
        rows.iter()
            .map(|row| {
                let amount = Nanocredits(row.int("entries", "amount_nano")?);
                let change = match side(&row.text("entries", "side")?)? {
                    Side::Credit => Some(amount),
                    Side::Debit => Nanocredits::ZERO.checked_sub(amount),
                };
                let too_large = || corrupt("entries", "amount_nano", "the balance overflows");
                let change = change.ok_or_else(too_large)?;
                balance = balance.checked_add(change).ok_or_else(too_large)?;
                Ok(HistoryRow {
                    seq: row.int("postings", "seq")?,
                    effective_at_ms: row.int("postings", "effective_at_ms")?,
                    recorded_at_ms: row.int("postings", "recorded_at_ms")?,
                    kind: row.text("postings", "kind")?,
                    change_nano: change,
                    balance_nano: balance,
                    deposit_id: DepositId(row.b256("postings", "deposit_id")?),
                    evidence: row.text("postings", "evidence")?,
                })
            })
            .collect()
    }
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
