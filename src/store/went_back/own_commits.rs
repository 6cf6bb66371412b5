//! The last commits of this process, by a record of each, and whether one of them is gone.
//!
//! A database that goes back loses commits from the end on. Which of two commits that were under way at once came
//! first, nothing tells: neither the numbers of their records, which are of two journals, nor their places in line
//! for the log, nor the order in which this process heard of them. So the newest record alone may be there while
//! another one that was acknowledged is not. As many are remembered as can be under way at once: one of before was
//! acknowledged before the newest began, and is lost only with it.
//!
//! What other processes wrote, they remember themselves.

use std::collections::{BTreeMap, VecDeque};

use alloy::primitives::B256;

use crate::domain::journal::JournalId;
use crate::store::db::{Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::ledger::RecordPlace;

/// So many are remembered: more than one process has writers.
const KEPT: usize = 256;
/// So many that are gone are named; the others are counted.
const NAMED_MAX: usize = 8;

/// A record that was there, with its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct SeenRecord {
    pub(in crate::store) place: RecordPlace,
    pub(in crate::store) seal: B256,
}

impl SeenRecord {
    /// What is said of one that is not there any more.
    pub(in crate::store) fn is_missing(&self) -> String {
        format!("record {} of {} is missing, or another one", self.place.seq, self.place.journal)
    }
}

/// The newest record of each of the last commits, the newest commit last.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct OwnCommits(VecDeque<SeenRecord>);

impl OwnCommits {
    /// One more was acknowledged.
    pub(in crate::store) fn add(&mut self, record: SeenRecord) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// Those that the database does not have any more.
    pub(in crate::store) async fn missing(&self, tx: &mut Tx) -> Result<Vec<String>, StoreError> {
        let keys = self.0.iter().map(|r| vec![r.place.journal.0.into(), r.place.seq.into()]);
        let rows = bulk(
            "SELECT p.journal_id, p.seq, p.seal FROM {each}
             JOIN records p ON p.journal_id = r.column1 AND p.seq = r.column2",
            keys.collect(),
        )
        .fetch_all(tx)
        .await?;
        let mut there = BTreeMap::new();
        for row in &rows {
            let journal = JournalId(row.int("records", "journal_id")?);
            let place = RecordPlace { journal, seq: row.int("records", "seq")? };
            there.insert(place, row.b256("records", "seal")?);
        }
        let gone = self.0.iter().filter(|known| there.get(&known.place) != Some(&known.seal));
        let mut missing: Vec<String> = gone.map(SeenRecord::is_missing).collect();
        missing.dedup();
        if let Some(more) = missing.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            missing.truncate(NAMED_MAX);
            missing.push(format!("and {more} more records that this process wrote"));
        }
        Ok(missing)
    }
}
