//! What one commit adds to the ledger: decided record by record in memory, written table by table.
//!
//! Whoever adds something takes the journals first, loads what the causes need, and writes at the end. What a cause
//! does is decided in the domain; here its rows are collected, and written with one statement a table, which
//! PostgreSQL gets at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::B256;

use super::journals::{Taking, busy, create, take};
use super::made::Rows;
use super::rows::RecordPlace;
use crate::domain::account::{Account, New, Refusal, Written};
use crate::domain::journal::{Cause, Draft, JournalId};
use crate::store::db::{Tx, Value, bulk, execute_at_once};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::events::{NewEvent, of_record, telling};
use crate::store::rows::to_int;

/// What one commit adds to the ledger.
pub(in crate::store) struct Batch {
    /// By the store's clock, with the journals in hand.
    pub(in crate::store) now_ms: i64,
    accounts: BTreeMap<JournalId, Account>,
    /// Journals that have new records.
    grown: BTreeSet<JournalId>,
    rows: Rows,
    events: Vec<NewEvent>,
    /// The newest record that was added.
    newest: Option<(RecordPlace, B256)>,
}

impl Batch {
    /// Takes journals, and reads the time when nobody else can write to them any more: they may have been waited
    /// for.
    pub(in crate::store) async fn take(
        tx: &mut Tx,
        store: &Store,
        ids: impl IntoIterator<Item = JournalId>,
        how: Taking,
    ) -> Result<Self, StoreError> {
        let ids: BTreeSet<JournalId> = ids.into_iter().collect();
        let accounts = match take(tx, ids.iter().copied(), how).await {
            Err(StoreError::Busy { .. }) => return Err(busy(store, &ids).await),
            taken => taken?,
        };
        let newest = accounts.values().map(|account| account.row().head.recorded_at_ms).max();
        Ok(Self {
            now_ms: store.now_after(tx, newest).await?,
            accounts,
            grown: BTreeSet::new(),
            rows: Rows::default(),
            events: Vec::new(),
            newest: None,
        })
    }

    /// Takes the house's journal.
    pub(in crate::store) async fn of_house(tx: &mut Tx, store: &Store) -> Result<Self, StoreError> {
        Self::take(tx, store, [JournalId::HOUSE], Taking::ASecond).await
    }

    /// Begins the journal of a namespace that was added by this transaction.
    pub(in crate::store) async fn open(
        &mut self,
        tx: &mut Tx,
        store: &Store,
        journal: JournalId,
        name: &str,
    ) -> Result<(), StoreError> {
        let account = create(tx, store, journal, Some(name)).await?;
        self.accounts.insert(journal, account);
        Ok(())
    }

    /// True for a journal that was taken.
    pub(in crate::store) fn has(&self, journal: JournalId) -> bool {
        self.accounts.contains_key(&journal)
    }

    /// The account of a journal that was taken.
    pub(in crate::store) fn account(
        &mut self,
        journal: JournalId,
    ) -> Result<&mut Account, StoreError> {
        self.accounts
            .get_mut(&journal)
            .ok_or_else(|| StoreError::Impossible(format!("{journal} was not taken")))
    }

    /// The record of a cause, before it has a place.
    pub(in crate::store) fn draft(
        &mut self,
        journal: JournalId,
        cause: Cause,
        operator: Option<&str>,
    ) -> Result<Draft, StoreError> {
        let genesis = self.account(journal)?.row().genesis;
        Draft::new(genesis, cause, operator.map(str::to_owned), None)
            .map_err(|e| StoreError::Impossible(e.to_string()))
    }

    /// Adds a record, unless the same was written before. What it needs of the account was loaded.
    pub(in crate::store) fn add(
        &mut self,
        journal: JournalId,
        draft: &Draft,
    ) -> Result<Result<Written, Refusal>, StoreError> {
        let now_ms = self.now_ms;
        let written = match self.account(journal)?.write(draft, now_ms) {
            Ok(written) => written,
            Err(refusal @ (Refusal::NotLoaded { .. } | Refusal::Unreadable(_))) => {
                return Err(StoreError::Impossible(refusal.to_string()));
            }
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Written::Created(new) = &written {
            self.collect(journal, draft, new)?;
        }
        Ok(Ok(written))
    }

    fn collect(&mut self, journal: JournalId, draft: &Draft, new: &New) -> Result<(), StoreError> {
        let record = &new.record;
        let place = RecordPlace { journal, seq: record.seq };
        self.rows.records.push(vec![
            journal.0.into(),
            record.seq.into(),
            record.id.0.into(),
            record.kind.as_str().into(),
            (&record.subject).into(),
            (&record.cause).into(),
            draft.cause_hash.into(),
            (&record.outcome).into(),
            record.effective_at_ms.into(),
            record.recorded_at_ms.into(),
            record.operator.as_deref().into(),
            record.key_id.as_deref().into(),
            record.prev.into(),
            record.seal.into(),
        ]);
        self.rows.take(&new.effects)?;
        if let Some(event) = &new.effects.event {
            let name = &self.account(journal)?.row().name.clone();
            self.events.push(of_record(event, new, name)?);
        }
        self.grown.insert(journal);
        self.newest = Some((place, record.seal));
        Ok(())
    }

    /// Writes everything. This process remembers the newest record once the transaction is committed.
    pub(in crate::store) async fn write(
        self,
        tx: &mut Tx,
        store: &Store,
    ) -> Result<(), StoreError> {
        let journals = self
            .grown
            .iter()
            .filter_map(|journal| self.accounts.get(journal))
            .map(|account| {
                let row = account.row();
                Ok(vec![
                    row.journal.0.into(),
                    row.head.seq.into(),
                    row.head.seal.into(),
                    row.head.recorded_at_ms.into(),
                    row.posted.0.into(),
                    row.debt.0.into(),
                    to_int(row.addresses, "number of addresses")?.into(),
                ])
            })
            .collect::<Result<Vec<Vec<Value>>, StoreError>>()?;
        if journals.is_empty() {
            return Ok(());
        }
        let mut all = self.rows.update_and_insert(tx).await?;
        all.push(telling(self.events));
        all.push(bulk(
            "UPDATE journals SET seq = r.column2, seal = r.column3, recorded_at_ms = r.column4,
               posted_nano = r.column5, debt_nano = r.column6, addresses = r.column7
             FROM ({rows}) AS r WHERE journals.journal_id = r.column1",
            journals,
        ));
        execute_at_once(all, tx).await?;
        if let Some((place, seal)) = self.newest {
            let seen = Arc::clone(&store.seen);
            tx.after_commit(move || seen.wrote(place, seal));
        }
        Ok(())
    }
}

impl Store {
    /// Writes a batch and ends the transaction.
    pub(in crate::store) async fn commit_with(
        &self,
        mut tx: Tx,
        batch: Batch,
    ) -> Result<(), StoreError> {
        batch.write(&mut tx, self).await?;
        Self::commit(tx).await
    }
}
