//! What one commit adds to the ledger: decided record by record in memory, written table by table.
//!
//! Whoever adds something takes the journals first, loads what the causes need, and writes at the end. What a cause
//! does is decided in the domain; here its rows are collected, and put into as few statements as there are tables.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::journals::{Taking, create, take};
use super::rows::RecordPlace;
use crate::domain::account::{Account, Effects, New, Refusal, Written};
use crate::domain::journal::{Cause, Draft, JournalId};
use crate::domain::money::{Nanocredits, RawAmount};
use crate::store::db::{Tx, Value, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::events::{NewEvent, of_record, tell};
use crate::store::rows::{amount_bytes, to_int};

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

/// The rows, by their tables.
#[derive(Default)]
struct Rows {
    records: Vec<Vec<Value>>,
    entries: Vec<Vec<Value>>,
    lots: Vec<Vec<Value>>,
    lot_moves: Vec<Vec<Value>>,
    /// What older lots have left.
    remaining: BTreeMap<(i64, i64), Nanocredits>,
    credits: Vec<Vec<Value>>,
    /// By which record a credit was undone.
    undone: BTreeMap<(i64, i64), i64>,
    obligations: Vec<Vec<Value>>,
    settlements: Vec<Vec<Value>>,
    /// What is settled of obligations: tokens, and what they were owed for.
    settled: BTreeMap<(i64, i64), (RawAmount, i64)>,
    unlogged: Vec<Vec<Value>>,
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
        let accounts = take(tx, ids.into_iter(), how).await?;
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

    /// Writes everything. Returns the newest record, with its seal.
    pub(in crate::store) async fn write(
        self,
        tx: &mut Tx,
    ) -> Result<Option<(RecordPlace, B256)>, StoreError> {
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
            return Ok(None);
        }
        bulk(
            "UPDATE journals SET seq = r.column2, seal = r.column3, recorded_at_ms = r.column4,
               posted_nano = r.column5, debt_nano = r.column6, addresses = r.column7
             FROM ({rows}) AS r WHERE journals.journal_id = r.column1",
            journals,
        )
        .execute(tx)
        .await
        .map_err(StoreError::doing("write the ends of journals"))?;
        self.rows.write(tx).await?;
        tell(tx, self.events).await?;
        Ok(self.newest)
    }
}

impl Rows {
    fn take(&mut self, made: &Effects) -> Result<(), StoreError> {
        let (journal, seq) = (made.journal.0, made.seq);
        self.unlogged.push(vec![journal.into(), seq.into()]);
        for (leg, entry) in (0i64..).zip(&made.entries) {
            self.entries.push(vec![
                journal.into(),
                seq.into(),
                leg.into(),
                (&entry.account).into(),
                entry.amount.unit().as_str().into(),
                entry.side.as_str().into(),
                entry.amount.nano().into(),
            ]);
        }
        for lot in &made.lots {
            let paid = lot.consideration.as_ref();
            self.lots.push(vec![
                journal.into(),
                lot.seq.into(),
                lot.kind.as_str().into(),
                lot.priority.into(),
                lot.scope.as_deref().into(),
                lot.amount.0.into(),
                lot.remaining.0.into(),
                lot.effective_at_ms.into(),
                lot.expires_at_ms.into(),
                paid.map(|paid| paid.asset.as_str()).into(),
                paid.map(|paid| amount_bytes(paid.raw)).into(),
                paid.map(|paid| i64::from(paid.decimals)).into(),
                paid.and_then(|paid| paid.usd).map(|usd| usd.0).into(),
            ]);
        }
        for (n, moved) in (0i64..).zip(&made.lot_moves) {
            self.lot_moves.push(vec![
                journal.into(),
                seq.into(),
                n.into(),
                moved.lot.into(),
                moved.amount.0.into(),
                moved.reason.as_str().into(),
            ]);
        }
        self.remaining.extend(made.remaining.iter().map(|(lot, left)| ((journal, *lot), *left)));
        for credit in &made.credits {
            self.credits.push(vec![
                journal.into(),
                seq.into(),
                credit.deposit.0.into(),
                credit.block_hash.into(),
                to_int(credit.log_index, "log index")?.into(),
            ]);
        }
        self.undone.extend(made.undone.iter().map(|credit| ((journal, *credit), seq)));
        self.take_treasury(made)
    }

    fn take_treasury(&mut self, made: &Effects) -> Result<(), StoreError> {
        let (journal, seq) = (made.journal.0, made.seq);
        for row in &made.obligations {
            self.obligations.push(vec![
                journal.into(),
                seq.into(),
                to_int(row.chain.0, "chain id")?.into(),
                (&row.asset).into(),
                amount_bytes(row.raw).into(),
                i64::from(row.decimals).into(),
                (&row.owed.asset).into(),
                amount_bytes(row.owed.tokens).into(),
                i64::from(row.owed.decimals).into(),
                row.owed.usd.0.into(),
                row.effective_at_ms.into(),
                amount_bytes(row.owed.carried_tokens).into(),
                row.owed.carried_usd.0.into(),
                amount_bytes(row.owed.settled).into(),
                0i64.into(),
            ]);
        }
        for row in &made.settlements {
            self.settlements.push(vec![
                seq.into(),
                row.obligation_journal.0.into(),
                row.obligation_seq.into(),
                to_int(row.chain.0, "chain id")?.into(),
                row.tx_hash.into(),
                amount_bytes(row.tokens).into(),
                row.owed_usd.0.into(),
                row.paid_usd.0.into(),
            ]);
            let owing = &row.owing;
            let usd = owing
                .usd
                .share_rounded_down(owing.settled, owing.tokens)
                .map_err(|e| StoreError::Impossible(e.to_string()))?;
            let obligation = (row.obligation_journal.0, row.obligation_seq);
            self.settled.insert(obligation, (owing.settled, usd.0));
        }
        Ok(())
    }

    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        let two = |(journal, seq): (i64, i64)| -> [Value; 2] { [journal.into(), seq.into()] };
        let remaining = self
            .remaining
            .into_iter()
            .map(|(lot, left)| two(lot).into_iter().chain([Value::from(left.0)]).collect())
            .collect();
        let undone = self
            .undone
            .into_iter()
            .map(|(credit, by)| two(credit).into_iter().chain([Value::from(by)]).collect())
            .collect();
        let settled = self
            .settled
            .into_iter()
            .map(|(owed, (tokens, usd))| {
                two(owed)
                    .into_iter()
                    .chain([amount_bytes(tokens).into(), Value::from(usd)])
                    .collect()
            })
            .collect();
        for (sql, rows) in [
            (
                "UPDATE obligations SET settled_tokens = r.column3, settled_usd_nano = r.column4
                 FROM ({rows}) AS r
                 WHERE obligations.journal_id = r.column1 AND obligations.seq = r.column2",
                settled,
            ),
            (
                "UPDATE lots SET remaining_nano = r.column3 FROM ({rows}) AS r
                 WHERE lots.journal_id = r.column1 AND lots.lot_seq = r.column2",
                remaining,
            ),
            (
                "UPDATE credits SET reversed_by = r.column3 FROM ({rows}) AS r
                 WHERE credits.journal_id = r.column1 AND credits.seq = r.column2",
                undone,
            ),
            (
                "INSERT INTO records (journal_id, seq, record_id, kind, subject, cause, cause_hash, outcome,
                                      effective_at_ms, recorded_at_ms, operator, key_id, prev, seal) {rows}",
                self.records,
            ),
            (
                "INSERT INTO entries (journal_id, seq, leg, account, unit, side, amount) {rows}",
                self.entries,
            ),
            (
                "INSERT INTO lots (journal_id, lot_seq, kind, priority, scope, amount_nano, remaining_nano,
                                   effective_at_ms, expires_at_ms, consideration_asset, consideration_raw,
                                   consideration_decimals, consideration_usd_nano) {rows}",
                self.lots,
            ),
            (
                "INSERT INTO lot_moves (journal_id, seq, n, lot_seq, amount_nano, reason) {rows}",
                self.lot_moves,
            ),
            (
                "INSERT INTO credits (journal_id, seq, deposit_id, block_hash, log_index) {rows}",
                self.credits,
            ),
            (
                "INSERT INTO obligations (journal_id, seq, chain_id, asset, raw_amount, decimals, into_asset, tokens,
                                          token_decimals, usd_nano, effective_at_ms, carried_tokens,
                                          carried_usd_nano, settled_tokens, settled_usd_nano) {rows}",
                self.obligations,
            ),
            (
                "INSERT INTO settlements (seq, journal_id, credit_seq, chain_id, tx_hash, tokens, owed_usd_nano,
                                          paid_usd_nano) {rows}",
                self.settlements,
            ),
            ("INSERT INTO unlogged (journal_id, seq) {rows}", self.unlogged),
        ] {
            bulk(sql, rows).execute(tx).await.map_err(StoreError::doing("write records"))?;
        }
        Ok(())
    }
}

impl Store {
    /// Writes a batch and ends the transaction; its newest record is remembered then.
    pub(in crate::store) async fn commit_with(
        &self,
        mut tx: Tx,
        batch: Batch,
    ) -> Result<(), StoreError> {
        let newest = batch.write(&mut tx).await?;
        Self::commit(tx).await?;
        if let Some((place, seal)) = newest {
            self.wrote(place, seal);
        }
        Ok(())
    }
}
