//! Records as people ask for them: balances, histories, one record.

use std::collections::BTreeMap;

use super::rows::{RecordPlace, entry_row, record_row, select_records};
use crate::domain::ids::NamespaceName;
use crate::domain::journal::{Entry, JournalId, Record, RecordId, Side, Unit, namespace_account};
use crate::domain::money::Nanocredits;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// Records of a history that are read at a time.
const PAGE: i64 = 1_000;

/// A line of a namespace's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The record.
    pub record: Record,
    /// Change, in nanocredits.
    pub change_nano: Nanocredits,
    /// Balance after it, in nanocredits.
    pub balance_nano: Nanocredits,
}

/// The next records of a journal, with their entries, each as the rows have it: at most so many.
pub(in crate::store) async fn records_after(
    tx: &mut Tx,
    journal: JournalId,
    after: i64,
    limit: i64,
) -> Result<Vec<(Record, Row)>, StoreError> {
    let rows =
        query(select_records!("WHERE q.journal_id = $1 AND q.seq > $2 ORDER BY q.seq LIMIT $3"))
            .bind(journal.0)
            .bind(after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        records.push((record_row(&row)?, row));
    }
    let Some((last, _)) = records.last() else { return Ok(records) };
    let legs = query(
        "SELECT seq, leg, account, unit, side, amount FROM entries
         WHERE journal_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq, leg",
    )
    .bind(journal.0)
    .bind(after)
    .bind(last.seq)
    .fetch_all(&mut *tx)
    .await?;
    let mut entries = entries_by_place(&legs)?;
    for (record, _) in &mut records {
        record.entries = entries.remove(&record.seq).unwrap_or_default();
    }
    Ok(records)
}

/// Entries in the order of their legs, by the number of their record.
fn entries_by_place(legs: &[Row]) -> Result<BTreeMap<i64, Vec<Entry>>, StoreError> {
    let mut entries: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
    for leg in legs {
        entries.entry(leg.int("entries", "seq")?).or_default().push(entry_row(leg)?);
    }
    Ok(entries)
}

impl Store {
    /// A namespace's balance: below zero, the namespace owes the house.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn balance(&self, namespace: &NamespaceName) -> Result<Nanocredits, StoreError> {
        let row = query(
            "SELECT j.posted_nano FROM namespaces n JOIN journals j ON j.journal_id = n.namespace_id
             WHERE n.name = $1",
        )
        .bind(namespace.as_str())
        .fetch_optional(&self.db)
        .await?
        .ok_or_else(|| StoreError::Refused(format!("no namespace is called {namespace}")))?;
        Ok(Nanocredits(row.int("journals", "posted_nano")?))
    }

    /// The records of a namespace that change its balance, oldest first, each with the balance after it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown.
    pub async fn history(&self, namespace: &NamespaceName) -> Result<Vec<HistoryRow>, StoreError> {
        let journal = self.journal_of(namespace.as_str()).await?;
        let journal = journal
            .ok_or_else(|| StoreError::Refused(format!("no namespace is called {namespace}")))?;
        let account = namespace_account(namespace.as_str());
        let too_large = || corrupt("entries", "amount", "the balance overflows");
        let mut tx = self.db.begin_read().await?;
        let mut history: Vec<HistoryRow> = Vec::new();
        let mut after = 0;
        loop {
            let page = records_after(&mut tx, journal, after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = last.seq;
            for (record, _) in page {
                let change = change(&record, &account).ok_or_else(too_large)?;
                if !record.entries.iter().any(|entry| entry.account == account) {
                    continue;
                }
                let before = history.last().map_or(Nanocredits::ZERO, |row| row.balance_nano);
                let balance_nano = before.checked_add(change).ok_or_else(too_large)?;
                history.push(HistoryRow { record, change_nano: change, balance_nano });
            }
        }
        Self::abandon(tx).await?;
        Ok(history)
    }

    /// A record with its entries, by its place.
    pub async fn record(&self, place: RecordPlace) -> Result<Option<Record>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let found = records_after(&mut tx, place.journal, place.seq.saturating_sub(1), 1).await?;
        Self::abandon(tx).await?;
        Ok(found.into_iter().map(|(record, _)| record).find(|record| record.seq == place.seq))
    }

    /// Where the record with this id stands.
    pub async fn place_of(&self, id: RecordId) -> Result<Option<RecordPlace>, StoreError> {
        query("SELECT journal_id, seq FROM records WHERE record_id = $1")
            .bind(id.0)
            .fetch_optional(&self.db)
            .await?
            .map(|row| {
                let journal = JournalId(row.int("records", "journal_id")?);
                Ok(RecordPlace { journal, seq: row.int("records", "seq")? })
            })
            .transpose()
    }

    /// Records with their entries, by their places; those that are not there are left out.
    pub async fn records(
        &self,
        places: impl IntoIterator<Item = RecordPlace>,
    ) -> Result<BTreeMap<RecordPlace, Record>, StoreError> {
        let keys: Vec<_> =
            places.into_iter().map(|p| vec![p.journal.0.into(), p.seq.into()]).collect();
        let mut tx = self.db.begin_read().await?;
        let rows = bulk(
            "SELECT q.journal_id, q.seq, q.record_id, q.kind, q.subject, q.cause, q.cause_hash, q.outcome,
                    q.effective_at_ms, q.recorded_at_ms, q.operator, q.key_id, q.prev, q.seal
             FROM {each} JOIN records q ON q.journal_id = r.column1 AND q.seq = r.column2",
            keys.clone(),
        )
        .fetch_all(&mut tx)
        .await?;
        let mut records = BTreeMap::new();
        for row in &rows {
            let record = record_row(row)?;
            records.insert(RecordPlace { journal: record.journal, seq: record.seq }, record);
        }
        let legs = bulk(
            "SELECT e.journal_id, e.seq, e.leg, e.account, e.unit, e.side, e.amount
             FROM {each} JOIN entries e ON e.journal_id = r.column1 AND e.seq = r.column2
             ORDER BY e.journal_id, e.seq, e.leg",
            keys,
        )
        .fetch_all(&mut tx)
        .await?;
        Self::abandon(tx).await?;
        for leg in &legs {
            let journal = JournalId(leg.int("entries", "journal_id")?);
            let place = RecordPlace { journal, seq: leg.int("entries", "seq")? };
            if let Some(record) = records.get_mut(&place) {
                record.entries.push(entry_row(leg)?);
            }
        }
        Ok(records)
    }
}

/// What a record changes of an account in credits; `None` where that does not fit.
fn change(record: &Record, account: &str) -> Option<Nanocredits> {
    record
        .entries
        .iter()
        .filter(|entry| entry.account == account && entry.amount.unit() == Unit::Credits)
        .try_fold(Nanocredits::ZERO, |sum, entry| {
            let amount = Nanocredits(entry.amount.nano());
            match entry.side {
                Side::Credit => sum.checked_add(amount),
                Side::Debit => sum.checked_sub(amount),
            }
        })
}
