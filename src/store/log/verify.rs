//! The whole log recomputed from the records: each record has one leaf or waits for one, each tile follows from the
//! leaves, and root, edge, checkpoint, key and sums are what is stored.
//!
//! What a record says is not judged here, nor that a journal is right: that is the ledger's verification. Not
//! covered: the feed of events, and `at_ms`.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::days::{Day, Sums};
use super::registered::{accepted, agrees};
use super::same::is_beginning;
use super::state::LogState;
use super::stop::Failed;
use super::taken::{entries_of, record_columns};
use super::{days, state, tiles};
use crate::domain::journal::{JournalId, Record};
use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::edge::Edge;
use crate::domain::log::tiles::{Append, TileId, append};
use crate::domain::log::tree::Hash;
use crate::store::db::failure::DbError;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::record_row;
use crate::store::rows::to_int;

/// Leaves looked at at a time.
const PAGE: u64 = 4_096;

/// What holds of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedLog {
    /// Its name.
    pub origin: String,
    /// Its records.
    pub size: u64,
    /// Its root.
    pub root: String,
    /// Records that were looked at: fewer than its size, where only what is newer was.
    pub looked_at: u64,
    /// Records that have no leaf yet.
    pub waiting: u64,
    /// Whether the root is signed.
    pub is_signed: bool,
}

/// What does not hold, in a sentence.
type Held<T> = Result<T, String>;

impl Store {
    /// Recomputes the log, or what is newer than `since`, a checkpoint of this log. The inner error says what does not
    /// hold.
    ///
    /// # Errors
    /// When the database fails; [`StoreError::Refused`] where `since` is no checkpoint that this log signed.
    pub async fn verify_log(
        &self,
        since: Option<&Published>,
    ) -> Result<Held<VerifiedLog>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        tx.take_time().await?;
        let verified = verify_log_in(&mut tx, since).await;
        Self::abandon(tx).await?;
        verified
    }
}

/// The same in a transaction that reads.
pub(in crate::store) async fn verify_log_in(
    tx: &mut Tx,
    since: Option<&Published>,
) -> Result<Held<VerifiedLog>, StoreError> {
    let found = async {
        let log = state::read(&mut *tx).await?;
        let begin = match since {
            None => Begin::default(),
            Some(since) => {
                let known = match accepted(&mut *tx, &log, since).await {
                    // It is what was asked, and nothing of the log.
                    Err(Failed::Store(error)) => return Err(Wrong::Store(error)),
                    other => other?,
                };
                Begin::after(tx, &log, known).await?
            }
        };
        let from = begin.edge.size();
        let mut walk = Walk::of(begin);
        walk.leaves(tx, &log).await?;
        walk.ends(tx, &log, since.is_none()).await?;
        let waiting = waiting(tx).await?;
        agrees(tx, &log).await?;
        Ok::<_, Wrong>(VerifiedLog {
            origin: log.origin.to_string(),
            size: log.head.size,
            root: log.head.root.to_string(),
            looked_at: log.head.size.saturating_sub(from),
            waiting,
            is_signed: log.checkpoint.as_ref().is_some_and(Published::is_signed),
        })
    };
    match found.await {
        Ok(verified) => Ok(Ok(verified)),
        Err(Wrong::Found(what)) => Ok(Err(what)),
        Err(Wrong::Store(error)) => Err(error),
    }
}

/// Why a log was not verified.
pub(super) enum Wrong {
    /// It does not hold.
    Found(String),
    /// The database failed.
    Store(StoreError),
}

impl From<Failed> for Wrong {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Stop(stop) => Self::Found(stop.to_string()),
            Failed::Store(StoreError::Refused(why) | StoreError::Damaged(why)) => Self::Found(why),
            Failed::Store(error) => Self::Store(error),
        }
    }
}

impl From<DbError> for Wrong {
    fn from(error: DbError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Failed::from(error).into()
    }
}

pub(super) fn wrong<T>(what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Found(what.into()))
}

/// Where the walk begins.
#[derive(Default)]
struct Begin {
    edge: Edge,
    /// The last record of each journal before that, and its seal.
    ends: BTreeMap<i64, (i64, B256)>,
}

impl Begin {
    async fn after(tx: &mut Tx, log: &LogState, since: &Checkpoint) -> Result<Self, Wrong> {
        let size = since.head.size;
        if size > log.head.size {
            return wrong(format!(
                "the checkpoint has {size} records, and the log {}: its end is missing",
                log.head.size
            ));
        }
        if !is_beginning(tx, log, &since.head).await? {
            return wrong(format!(
                "the first {size} records of the log are not those of the checkpoint: it is another history"
            ));
        }
        let edge = tiles::edge_at(tx, size).await?;
        let rows = query(
            "SELECT e.journal_id, e.seq, r.seal FROM
               (SELECT journal_id, MAX(seq) AS seq FROM log_leaves WHERE leaf_index < $1
                GROUP BY journal_id) e
             LEFT JOIN records r ON r.journal_id = e.journal_id AND r.seq = e.seq",
        )
        .bind(to_int(size, "size of the log")?)
        .fetch_all(tx)
        .await?;
        let mut ends = BTreeMap::new();
        for row in &rows {
            let end = (row.int("log_leaves", "seq")?, row.b256("records", "seal")?);
            ends.insert(row.int("log_leaves", "journal_id")?, end);
        }
        Ok(Self { edge, ends })
    }
}

/// The walk over the leaves.
struct Walk {
    edge: Edge,
    ends: BTreeMap<i64, (i64, B256)>,
    days: BTreeMap<Day, Sums>,
}

impl Walk {
    fn of(begin: Begin) -> Self {
        Self { edge: begin.edge, ends: begin.ends, days: BTreeMap::new() }
    }

    async fn leaves(&mut self, tx: &mut Tx, log: &LogState) -> Result<(), Wrong> {
        loop {
            let from = self.edge.size();
            let to = from.saturating_add(PAGE);
            let records = page(tx, from, to).await?;
            if records.is_empty() {
                return Ok(());
            }
            let mut hashes = Vec::with_capacity(records.len());
            for (expected, (leaf, record)) in (from..).zip(records) {
                if leaf != expected {
                    return wrong(format!("leaf {expected} of the log is missing"));
                }
                if leaf >= log.head.size {
                    return wrong(format!(
                        "the log has {} records, and there is a leaf {leaf}",
                        log.head.size
                    ));
                }
                self.follows(tx, leaf, &record).await?;
                days::add(&mut self.days, &record)?;
                hashes.push(Hash::of_leaf(record.seal.as_slice()));
            }
            let appends = append(&mut self.edge, &hashes).map_err(Failed::from)?;
            compare_tiles(tx, appends).await?;
        }
    }

    /// A record is what it was when it was sealed, and follows the one before of its journal.
    async fn follows(&mut self, tx: &mut Tx, leaf: u64, record: &Record) -> Result<(), Wrong> {
        let (journal, seq) = (record.journal, record.seq);
        if record.seal_hash() != record.seal {
            return wrong(format!(
                "leaf {leaf}: the seal of record {seq} of {journal} is not the hash of what it says"
            ));
        }
        let (before, seal) = match self.ends.get(&journal.0) {
            Some(end) => *end,
            None => (0, genesis(tx, journal).await?),
        };
        if before.checked_add(1) != Some(seq) {
            return wrong(format!(
                "leaf {leaf} is record {seq} of {journal}, and the leaf before of it is record {before}"
            ));
        }
        if record.prev != seal {
            return wrong(format!(
                "leaf {leaf}: record {seq} of {journal} does not name the seal of the record before"
            ));
        }
        self.ends.insert(journal.0, (seq, record.seal));
        Ok(())
    }

    /// The whole tree is the one that is stored, and nothing more is.
    async fn ends(&self, tx: &mut Tx, log: &LogState, whole: bool) -> Result<(), Wrong> {
        let size = self.edge.size();
        if size != log.head.size {
            return wrong(format!("the log has {} records, and {size} leaves", log.head.size));
        }
        if self.edge != log.edge || self.edge.root() != log.head.root {
            return wrong(format!(
                "the records give the root {} at {size}, and the log has {}",
                self.edge.root(),
                log.head.root
            ));
        }
        log.check()?;
        let expected = tiles_of(size);
        let rows = query("SELECT level, COUNT(*) AS found FROM log_tiles GROUP BY level")
            .fetch_all(&mut *tx)
            .await?;
        let mut found = BTreeMap::new();
        for row in &rows {
            found.insert(row.uint8("log_tiles", "level")?, row.uint("log_tiles", "found")?);
        }
        if found != expected {
            return wrong(format!(
                "a log of {size} records has tiles {expected:?} by level, and {found:?} are stored"
            ));
        }
        if whole {
            self.compare_days(tx).await?;
        }
        Ok(())
    }

    async fn compare_days(&self, tx: &mut Tx) -> Result<(), Wrong> {
        let rows = query("SELECT account, unit, day, debit, credit FROM account_days")
            .fetch_all(tx)
            .await?;
        let mut stored = BTreeMap::new();
        for row in &rows {
            let (day, sums) = days::day_of(row)?;
            stored.insert(day, sums);
        }
        let all = self.days.keys().chain(stored.keys());
        let differs = all.into_iter().find(|day| self.days.get(day) != stored.get(day));
        match differs {
            None => Ok(()),
            Some((account, unit, day)) => wrong(format!(
                "the sums of {account} in {} on day {day} since 1970 are not those of its entries",
                unit.as_str()
            )),
        }
    }
}

/// The records of leaves, from the first index to the one before the second. What has no record is wrong.
async fn page(tx: &mut Tx, from: u64, to: u64) -> Result<Vec<(u64, Record)>, Wrong> {
    let (first, end) = (to_int(from, "leaf")?, to_int(to, "leaf")?);
    let rows = query(concat!(
        "SELECT l.leaf_index, l.journal_id, l.seq, ",
        record_columns!(),
        " FROM log_leaves l
         LEFT JOIN records r ON r.journal_id = l.journal_id AND r.seq = l.seq
         WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY l.leaf_index"
    ))
    .bind(first)
    .bind(end)
    .fetch_all(&mut *tx)
    .await?;
    let entries = query(
        "SELECT e.journal_id, e.seq, e.account, e.unit, e.side, e.amount
         FROM log_leaves l JOIN entries e ON e.journal_id = l.journal_id AND e.seq = l.seq
         WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY e.journal_id, e.seq, e.leg",
    )
    .bind(first)
    .bind(end)
    .fetch_all(&mut *tx)
    .await?;
    let mut entries = entries_of(&entries)?;
    rows.iter().map(|row| leaf_of(row, &mut entries)).collect()
}

type Entries = BTreeMap<(i64, i64), Vec<crate::domain::journal::Entry>>;

fn leaf_of(row: &Row, entries: &mut Entries) -> Result<(u64, Record), Wrong> {
    let leaf = row.uint("log_leaves", "leaf_index")?;
    let at = (row.int("log_leaves", "journal_id")?, row.int("log_leaves", "seq")?);
    if row.opt_bytes("records", "seal")?.is_none() {
        let journal = JournalId(at.0);
        return wrong(format!("leaf {leaf} is record {} of {journal}, which is missing", at.1));
    }
    let record = record_row(row)?;
    Ok((leaf, Record { entries: entries.remove(&at).unwrap_or_default(), ..record }))
}

async fn genesis(tx: &mut Tx, journal: JournalId) -> Result<B256, Wrong> {
    let row = query("SELECT genesis FROM journals WHERE journal_id = $1")
        .bind(journal.0)
        .fetch_optional(tx)
        .await?;
    match row {
        Some(row) => Ok(row.b256("journals", "genesis")?),
        None => wrong(format!("the log has records of {journal}, which is missing")),
    }
}

/// What leaves give is in the stored tiles where it belongs.
async fn compare_tiles(tx: &mut Tx, appends: Vec<Append>) -> Result<(), Wrong> {
    let ids: Vec<TileId> = appends.iter().map(|append| append.id).collect();
    let stored = tiles::read(tx, &ids).await?;
    for Append { id, from, hashes } in appends {
        let from = usize::from(from);
        let to = from.saturating_add(hashes.len());
        let tile = stored.get(&id);
        if tile.and_then(|tile| tile.hashes().get(from..to)) != Some(&hashes) {
            return wrong(format!(
                "tile {} of level {} of the log does not follow from the records",
                id.index, id.level
            ));
        }
    }
    Ok(())
}

/// How many tiles a log has, by level.
fn tiles_of(size: u64) -> BTreeMap<u8, u64> {
    let mut tiles = BTreeMap::new();
    let mut hashes = size;
    for level in 0u8..8 {
        if hashes == 0 {
            break;
        }
        tiles.insert(level, hashes.div_ceil(256));
        hashes /= 256;
    }
    tiles
}

/// What has no leaf waits for one, and nothing else does. Returns how many do.
async fn waiting(tx: &mut Tx) -> Result<u64, Wrong> {
    let checks = [
        (
            "SELECT u.journal_id, u.seq FROM unlogged u
             LEFT JOIN records r ON r.journal_id = u.journal_id AND r.seq = u.seq
             WHERE r.seq IS NULL LIMIT 1",
            "waits for a leaf in the log, and is missing",
        ),
        (
            "SELECT u.journal_id, u.seq FROM unlogged u
             JOIN log_leaves l ON l.journal_id = u.journal_id AND l.seq = u.seq LIMIT 1",
            "waits for a leaf in the log, and has one",
        ),
        (
            "SELECT journal_id, seq FROM unlogged GROUP BY journal_id, seq HAVING COUNT(*) > 1 LIMIT 1",
            "waits twice for a leaf in the log",
        ),
        (
            "SELECT r.journal_id, r.seq FROM records r
             WHERE NOT EXISTS (SELECT 1 FROM log_leaves l
                               WHERE l.journal_id = r.journal_id AND l.seq = r.seq)
               AND NOT EXISTS (SELECT 1 FROM unlogged u
                               WHERE u.journal_id = r.journal_id AND u.seq = r.seq) LIMIT 1",
            "has no leaf in the log, and does not wait for one",
        ),
    ];
    for (sql, what) in checks {
        let row = query(sql).fetch_optional(&mut *tx).await?;
        if let Some(row) = row {
            let journal = JournalId(row.int("records", "journal_id")?);
            return wrong(format!("record {} of {journal} {what}", row.int("records", "seq")?));
        }
    }
    let row = query("SELECT COUNT(*) AS found FROM unlogged").fetch_one(tx).await?;
    Ok(row.uint("unlogged", "found")?)
}
