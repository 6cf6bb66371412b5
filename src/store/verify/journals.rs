//! Every journal from its start: each record is decided again, and the rows that it makes are compared with
//! the rows that there are.
//!
//! A journal with a record that does not hold is not followed further: what comes after it could be
//! anything. The others are. Of each journal only its end is kept between two pages.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::addresses::Addresses;
use super::compare::{Compared, discard, named, strays};
use super::ends::{End, end_of};
use super::finding::{Findings, Remedy};
use super::house::HouseRows;
use super::page::{Key, Page, START};
use super::pieces;
use super::rests_on::RestsOn;
use crate::domain::account::{Account, Broken, Effects, Fold, Head, JournalRow, Refusal, Step};
use crate::domain::ids::Network;
use crate::domain::journal::{Cause, Event, JournalId, Outcome, Record};
use crate::domain::money::{Nanocredits, RawAmount};
use crate::store::db::Tx;
use crate::store::errors::StoreError;

/// What was counted on the way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) journals: i64,
    pub(super) records: i64,
    pub(super) credits: i64,
    pub(super) reversed: i64,
    /// Records that are announced.
    pub(super) announced: i64,
    /// Sum of all namespaces' balances.
    pub(super) total_nano: i128,
}

/// A journal that is being read.
struct Current {
    row: JournalRow,
    end: End,
    /// Its records are not followed any more.
    broken: bool,
    /// Credits whose row says that a record undid them: which one, and what was settled of them.
    undone: BTreeMap<i64, (i64, RawAmount)>,
    addresses: Addresses,
}

/// Reads all journals, page by page.
pub(super) struct Pass<'a> {
    pub(super) tx: &'a mut Tx,
    pub(super) found: &'a mut Findings,
    pub(super) counted: Counted,
    pub(super) rests: RestsOn,
    pub(super) house: HouseRows,
    network: Network,
    installation: Vec<u8>,
    current: Option<Current>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        tx: &'a mut Tx,
        found: &'a mut Findings,
        network: Network,
        installation: Vec<u8>,
    ) -> Self {
        Self {
            tx,
            found,
            counted: Counted::default(),
            rests: RestsOn::default(),
            house: HouseRows::default(),
            network,
            installation,
            current: None,
        }
    }

    /// All of them.
    pub(super) async fn run(&mut self) -> Result<(), StoreError> {
        let mut after = START;
        loop {
            let mut page = Page::read(self.tx, after).await?;
            let mut chunk: Vec<(Record, B256)> = Vec::new();
            for (key, stored) in std::mem::take(&mut page.records) {
                after = key;
                if chunk.first().is_some_and(|(first, _)| first.journal.0 != key.0) {
                    self.chunk(&mut page, std::mem::take(&mut chunk)).await?;
                }
                match stored {
                    Ok(record) => chunk.push(record),
                    Err(error) => {
                        self.chunk(&mut page, std::mem::take(&mut chunk)).await?;
                        self.unreadable(&mut page, key, error).await?;
                    }
                }
            }
            self.chunk(&mut page, chunk).await?;
            strays(self.found, &page);
            self.rests.check(self.tx, self.found).await?;
            self.house.check(self.tx, self.found).await?;
            if page.is_last {
                return self.finish().await;
            }
        }
    }

    /// A record that cannot be read: its journal is not followed further.
    async fn unreadable(
        &mut self,
        page: &mut Page,
        key: Key,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let mut current = self.take_current(JournalId(key.0)).await?;
        if !current.broken {
            self.found.unreadable(error)?;
        }
        current.broken = true;
        discard(page, key);
        self.current = Some(current);
        Ok(())
    }

    /// The journal that is being read, or this one from its start.
    async fn take_current(&mut self, journal: JournalId) -> Result<Current, StoreError> {
        match self.current.take() {
            Some(current) if current.row.journal == journal => Ok(current),
            before => {
                if let Some(before) = before {
                    self.close(before).await?;
                }
                self.begin(journal).await
            }
        }
    }

    async fn begin(&mut self, journal: JournalId) -> Result<Current, StoreError> {
        let end =
            end_of(self.tx, self.found, journal, (self.network, self.installation.as_slice()))
                .await?;
        self.counted.journals = self.counted.journals.saturating_add(1);
        let head = Head { seq: 0, seal: end.genesis.0, recorded_at_ms: 0 };
        let row = JournalRow {
            journal,
            genesis: end.genesis,
            name: end.name.clone(),
            head,
            posted: Nanocredits::ZERO,
            debt: Nanocredits::ZERO,
            addresses: 0,
        };
        let addresses = Addresses::of(journal);
        Ok(Current { row, broken: !end.is_there, end, undone: BTreeMap::new(), addresses })
    }

    /// Records of one journal that follow each other.
    async fn chunk(
        &mut self,
        page: &mut Page,
        records: Vec<(Record, B256)>,
    ) -> Result<(), StoreError> {
        let Some((first, _)) = records.first() else { return Ok(()) };
        let (journal, first_seq) = (first.journal, first.seq);
        let mut current = self.take_current(journal).await?;
        let mut fold = match current.broken {
            true => None,
            false => {
                let mut account = Account::at(current.row.clone());
                let all: Vec<&Record> = records.iter().map(|(record, _)| record).collect();
                match pieces::load(self.tx, &mut account, first_seq, &all).await {
                    Ok(()) => Some(Fold::of(account)),
                    Err(error) => {
                        self.found.unreadable(error)?;
                        current.broken = true;
                        None
                    }
                }
            }
        };
        for (record, cause_hash) in records {
            self.counted.records = self.counted.records.saturating_add(1);
            match &mut fold {
                Some(fold) if !current.broken => {
                    self.record(page, &mut current, fold, record, cause_hash).await?;
                }
                _ => discard(page, (record.journal.0, record.seq)),
            }
        }
        if let Some(fold) = fold {
            current.row = fold.account().row().clone();
        }
        self.current = Some(current);
        Ok(())
    }

    async fn record(
        &mut self,
        page: &mut Page,
        current: &mut Current,
        fold: &mut Fold,
        mut record: Record,
        cause_hash: B256,
    ) -> Result<(), StoreError> {
        let key = (record.journal.0, record.seq);
        let name = named(&current.row.name, record.seq);
        let legs = page.entries.remove(&key).unwrap_or_default();
        if (0i64..).zip(&legs).any(|(n, (leg, _))| n != *leg) {
            self.found.add("entries", &name, "legs are not numbered from 0", Remedy::Sealed);
        }
        record.entries = legs.into_iter().map(|(_, entry)| entry).collect();
        let step = match fold.next(&record) {
            Ok(step) => step,
            Err(broken) => {
                self.found.add("records", &name, said(&broken), Remedy::Sealed);
                current.broken = true;
                discard(page, key);
                return Ok(());
            }
        };
        if step.cause_hash != cause_hash {
            let problem = "cause_hash is not the hash of its cause";
            self.found.add("records", &name, problem, Remedy::PutBack);
        }
        if let Some(credit) = page.credits.get(&key)
            && let Some(by) = credit.reversed_by
        {
            let settled = page.settled.get(&key).map_or(RawAmount::ZERO, |(tokens, _)| *tokens);
            current.undone.insert(record.seq, (by, settled));
        }
        Compared { found: &mut *self.found, page: &mut *page, key, name: name.clone() }
            .with(&step.effects);
        self.undone(current, &name, &step);
        self.count(&step.effects);
        self.follow(current, &record, &name, step).await
    }

    /// Credits that a record undoes say so, and what was settled of them is what it says.
    fn undone(&mut self, current: &mut Current, name: &str, step: &Step) {
        for seq in &step.effects.undone {
            let credit = named(&current.row.name, *seq);
            match current.undone.remove(seq) {
                Some((by, settled)) if by == step.effects.seq => {
                    let told = match &step.outcome {
                        Outcome::Reversed(did, _) => did.settled_tokens,
                        Outcome::Corrected(did, _) => did.reversed.settled_tokens,
                        _ => None,
                    };
                    if told.unwrap_or_default() != settled {
                        let problem = "its settled_tokens are not what the house's journal settled";
                        self.found.add("records", name, problem, Remedy::Sealed);
                    }
                }
                _ => {
                    let problem = format!(
                        "reversed_by is not {}, the record that undid it",
                        step.effects.seq
                    );
                    self.found.add("credits", credit, problem, Remedy::PutBack);
                }
            }
        }
    }

    fn count(&mut self, made: &Effects) {
        let counted = &mut self.counted;
        let more = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
        counted.credits = counted.credits.saturating_add(more(made.credits.len()));
        counted.reversed = counted.reversed.saturating_add(more(made.undone.len()));
        counted.announced = counted.announced.saturating_add(i64::from(made.event.is_some()));
    }

    /// What a record rests on, and what it binds.
    async fn follow(
        &mut self,
        current: &mut Current,
        record: &Record,
        name: &str,
        step: Step,
    ) -> Result<(), StoreError> {
        if let Some(Event { id, kind }) = step.effects.event {
            self.rests.announce(id, kind, name);
        }
        match step.cause {
            Cause::AddressesBound(bound) => {
                let place = (record.seq, name);
                current.addresses.bind(self.tx, self.found, place, &bound).await
            }
            Cause::DepositCredited(cause) => {
                self.rests.credit(record, name, *cause);
                Ok(())
            }
            Cause::DepositCorrected(cause) => {
                self.rests.correction(record, name, *cause);
                Ok(())
            }
            cause => {
                self.house.record(name, cause);
                Ok(())
            }
        }
    }

    /// The end of a journal is what its row says, and every address of its namespace was bound by it.
    async fn close(&mut self, mut current: Current) -> Result<(), StoreError> {
        if current.broken {
            return Ok(());
        }
        current.end.holds(self.found, &current.row);
        for (seq, (by, _)) in &current.undone {
            let problem = format!("reversed_by is {by}, and that record does not undo it");
            self.found.add("credits", named(&current.row.name, *seq), problem, Remedy::NotOurs);
        }
        current.addresses.close(self.tx, self.found).await?;
        self.counted.total_nano =
            self.counted.total_nano.saturating_add(i128::from(current.row.posted.0));
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        if let Some(last) = self.current.take() {
            self.close(last).await?;
        }
        Ok(())
    }
}

/// Why a record does not hold.
fn said(broken: &Broken) -> String {
    match broken {
        Broken::Refused(Refusal::NotLoaded { what, key }) => {
            format!("what it follows from is not there: {what} {key}")
        }
        broken => broken.to_string(),
    }
}
