//! The records that a round takes: read with their entries, put in order, and recomputed before they get a leaf.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::stop::{Failed, Stop};
use crate::domain::journal::{Entry, Record};
use crate::domain::log::order::{Waiting, goes_on, in_order};
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::ledger::{entry_row, record_row};

/// A record that gets a leaf, and its place among those that wait.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) position: i64,
    pub(super) record: Record,
}

/// The columns of a record, of a table with the name `r`.
macro_rules! record_columns {
    () => {
        "r.record_id, r.kind, r.subject, r.cause, r.outcome, r.effective_at_ms, r.recorded_at_ms,
         r.operator, r.key_id, r.prev, r.seal"
    };
}
pub(super) use record_columns;

/// Takes up to `most` records, in the order of their leaves. Each is what it was when it was sealed, and each
/// journal goes on where the log has it.
pub(super) async fn take(tx: &mut Tx, most: i64) -> Result<Vec<Taken>, Failed> {
    let rows = query(concat!(
        "SELECT u.position, u.journal_id, u.seq, ",
        record_columns!(),
        " FROM unlogged u
         LEFT JOIN records r ON r.journal_id = u.journal_id AND r.seq = u.seq
         ORDER BY u.position LIMIT $1"
    ))
    .bind(most)
    .fetch_all(&mut *tx)
    .await?;
    let Some(last) = rows.last() else { return Ok(Vec::new()) };
    let last = last.int("unlogged", "position")?;
    // Rows that others commit meanwhile, with a lower place, are not among those above.
    let entries = query(
        "SELECT e.journal_id, e.seq, e.account, e.unit, e.side, e.amount
         FROM unlogged u JOIN entries e ON e.journal_id = u.journal_id AND e.seq = u.seq
         WHERE u.position <= $1 ORDER BY e.journal_id, e.seq, e.leg",
    )
    .bind(last)
    .fetch_all(&mut *tx)
    .await?;
    let mut entries = entries_of(&entries)?;
    let mut waiting = Vec::with_capacity(rows.len());
    for row in &rows {
        let journal = row.int("unlogged", "journal_id")?;
        waiting.push(Waiting { journal, seq: row.int("unlogged", "seq")? });
    }
    let order = in_order(&waiting);
    let ordered = || order.iter().filter_map(|at| waiting.get(*at)).copied();
    let ends = ends_of(tx, &waiting).await?;
    let mut last = ends.iter().map(|(journal, end)| (*journal, end.seq)).collect();
    goes_on(ordered(), &mut last)?;
    let mut seals: BTreeMap<i64, B256> =
        ends.into_iter().map(|(journal, end)| (journal, end.seal)).collect();
    let mut taken = Vec::with_capacity(rows.len());
    for (row, one) in order.iter().filter_map(|at| rows.get(*at)).zip(ordered()) {
        let entries = entries.remove(&(one.journal, one.seq)).unwrap_or_default();
        let record = checked(row, one, entries, seals.get(&one.journal))?;
        seals.insert(one.journal, record.seal);
        taken.push(Taken { position: row.int("unlogged", "position")?, record });
    }
    Ok(taken)
}

/// A record whose seal is what it says and what follows the one before.
fn checked(
    row: &Row,
    at: Waiting,
    entries: Vec<Entry>,
    before: Option<&B256>,
) -> Result<Record, Failed> {
    let wrong = |why: &str| {
        let (journal, seq) = (at.journal, at.seq);
        Failed::from(Stop::Record { journal, seq, why: why.to_owned() })
    };
    if row.opt_bytes("records", "seal")?.is_none() {
        return Err(wrong("it is missing"));
    }
    let record = record_row(row).map_err(|e| wrong(&e.to_string()))?;
    let record = Record { entries, ..record };
    if record.seal_hash() != record.seal {
        return Err(wrong("its seal is not the hash of what it says"));
    }
    if before != Some(&record.prev) {
        return Err(wrong("the seal that it names before it is not that of the record before"));
    }
    Ok(record)
}

/// Entries by their records, each in the order of the rows.
pub(super) fn entries_of(rows: &[Row]) -> Result<BTreeMap<(i64, i64), Vec<Entry>>, StoreError> {
    const TABLE: &str = "entries";
    let mut entries: BTreeMap<(i64, i64), Vec<Entry>> = BTreeMap::new();
    for row in rows {
        let of = (row.int(TABLE, "journal_id")?, row.int(TABLE, "seq")?);
        entries.entry(of).or_default().push(entry_row(row)?);
    }
    Ok(entries)
}

/// The last record of a journal that has a leaf.
struct End {
    seq: i64,
    /// Its seal; before the first, the genesis.
    seal: B256,
}

async fn ends_of(tx: &mut Tx, waiting: &[Waiting]) -> Result<BTreeMap<i64, End>, Failed> {
    let journals: BTreeSet<i64> = waiting.iter().map(|one| one.journal).collect();
    let rows = bulk(
        "SELECT r.column1 AS journal_id, j.genesis,
           (SELECT MAX(l.seq) FROM log_leaves l WHERE l.journal_id = r.column1) AS last_seq,
           (SELECT p.seal FROM records p WHERE p.journal_id = r.column1 AND p.seq =
             (SELECT MAX(m.seq) FROM log_leaves m WHERE m.journal_id = r.column1)) AS last_seal
         FROM {each} JOIN journals j ON j.journal_id = r.column1",
        journals.into_iter().map(|journal| vec![journal.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut ends = BTreeMap::new();
    for row in &rows {
        let journal = row.int("journals", "journal_id")?;
        let end = match row.opt_int("log_leaves", "last_seq")? {
            None => End { seq: 0, seal: row.b256("journals", "genesis")? },
            Some(seq) if row.opt_bytes("records", "last_seal")?.is_some() => {
                End { seq, seal: row.b256("records", "last_seal")? }
            }
            Some(seq) => {
                let why = "it has a leaf in the log, and is missing".to_owned();
                return Err(Stop::Record { journal, seq, why }.into());
            }
        };
        ends.insert(journal, end);
    }
    Ok(ends)
}
