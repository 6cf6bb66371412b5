//! Records that are written without the store: sealed, and waiting for their leaves. What they say is nothing real.

use alloy::primitives::{B256, keccak256};
use topupd::domain::journal::{
    Amount, Cause, Entry, Genesis, JournalId, Kind, Record, RecordId, Unit,
};

use crate::database::{Cell, Sql};

const GENESIS_MS: i64 = 1_700_000_000_000;

/// Rows of one statement.
const ROWS: usize = 500;

/// Writes so many records to the end of a journal.
pub async fn write_records(sql: &mut Sql, journal: i64, count: usize) -> Vec<Record> {
    let row =
        format!("SELECT seq, seal, recorded_at_ms FROM journals WHERE journal_id = {journal}");
    let row = sql.rows(&row).await.remove(0);
    let (Cell::Int(seq), Cell::Bytes(seal), Cell::Int(at)) = (&row[0], &row[1], &row[2]) else {
        panic!("{row:?}")
    };
    let (mut seq, mut prev) = (*seq, B256::from_slice(seal));
    let mut records = Vec::new();
    for _ in 0..count {
        seq += 1;
        let record = record(journal, seq, prev, (*at).max(GENESIS_MS));
        prev = record.seal;
        records.push(record);
    }
    append(sql, journal, &records).await;
    records
}

/// Writes a record of the house that moves nothing, as the store would: only that it is not asked.
pub async fn sealed(sql: &mut Sql, cause: &Cause) -> Record {
    let row = "SELECT seq, seal, recorded_at_ms, genesis FROM journals WHERE journal_id = 0";
    let row = sql.rows(row).await.remove(0);
    let [Cell::Int(seq), Cell::Bytes(prev), Cell::Int(at), Cell::Bytes(genesis)] = &row[..] else {
        panic!("{row:?}")
    };
    let mut record = Record {
        journal: JournalId::HOUSE,
        seq: seq + 1,
        id: cause.record_id(Genesis(B256::from_slice(genesis))),
        kind: cause.kind(),
        subject: cause.subject(),
        cause: cause.to_json().unwrap(),
        outcome: "{}".into(),
        effective_at_ms: *at,
        recorded_at_ms: *at,
        operator: Some("alice".into()),
        key_id: None,
        entries: Vec::new(),
        prev: B256::from_slice(prev),
        seal: B256::ZERO,
    };
    record.seal = record.seal_hash();
    append(sql, 0, std::slice::from_ref(&record)).await;
    record
}

/// In one transaction, as every writer does.
async fn append(sql: &mut Sql, journal: i64, records: &[Record]) {
    sql.execute("BEGIN").await.unwrap();
    for records in records.chunks(ROWS) {
        insert(sql, records).await;
    }
    if let Some(last) = records.last() {
        let update = format!(
            "UPDATE journals SET seq = $1, seal = $2, recorded_at_ms = $3 WHERE journal_id = {journal}"
        );
        let seal = Cell::Bytes(last.seal.to_vec());
        let args = [Cell::Int(last.seq), seal, Cell::Int(last.recorded_at_ms)];
        sql.execute_with(&update, &args).await.unwrap();
    }
    sql.execute("COMMIT").await.unwrap();
}

/// Every second one moves credits.
fn record(journal: i64, seq: i64, prev: B256, at: i64) -> Record {
    let amount = Amount::of(Unit::Credits, 1_000 + seq);
    let entries = match seq % 2 {
        0 => vec![
            Entry::debit("house/issued/paid", amount),
            Entry::credit(format!("namespace/{journal}"), amount),
        ],
        _ => Vec::new(),
    };
    let mut record = Record {
        journal: JournalId(journal),
        seq,
        id: RecordId(keccak256(format!("record {journal} {seq} {prev}"))),
        kind: Kind::Act,
        subject: format!("act {seq}"),
        cause: format!(r#"{{"reason":"number {seq}"}}"#),
        outcome: "{}".into(),
        effective_at_ms: at,
        recorded_at_ms: at + 40_000_000 * (seq % 3),
        operator: (seq % 5 == 0).then(|| "alice".into()),
        key_id: None,
        entries,
        prev,
        seal: B256::ZERO,
    };
    record.seal = record.seal_hash();
    record
}

async fn insert(sql: &mut Sql, records: &[Record]) {
    let text = |text: &str| Cell::Text(text.to_owned());
    let opt = |text: &Option<String>| text.clone().map_or(Cell::Null, Cell::Text);
    let hash = |hash: B256| Cell::Bytes(hash.to_vec());
    let place = |r: &Record| [Cell::Int(r.journal.0), Cell::Int(r.seq)];
    let rows = records.iter().map(|r| {
        let mut row = place(r).to_vec();
        row.extend([hash(r.id.0), text(r.kind.as_str()), text(&r.subject), text(&r.cause)]);
        row.extend([hash(keccak256(&r.cause)), text(&r.outcome), Cell::Int(r.effective_at_ms)]);
        row.extend([Cell::Int(r.recorded_at_ms), opt(&r.operator), opt(&r.key_id)]);
        row.extend([hash(r.prev), hash(r.seal)]);
        row
    });
    let into = "records (journal_id, seq, record_id, kind, subject, cause, cause_hash, outcome, \
                effective_at_ms, recorded_at_ms, operator, key_id, prev, seal)";
    values(sql, into, rows.collect()).await;
    let mut entries = Vec::new();
    for r in records {
        for (leg, entry) in (0..).zip(&r.entries) {
            let mut row = place(r).to_vec();
            row.extend([Cell::Int(leg), text(&entry.account), text(entry.amount.unit().as_str())]);
            row.extend([text(entry.side.as_str()), Cell::Int(entry.amount.nano())]);
            entries.push(row);
        }
    }
    values(sql, "entries (journal_id, seq, leg, account, unit, side, amount)", entries).await;
    let waiting = records.iter().map(|r| place(r).to_vec()).collect();
    values(sql, "unlogged (journal_id, seq)", waiting).await;
}

pub async fn values(sql: &mut Sql, into: &str, rows: Vec<Vec<Cell>>) {
    let Some(columns) = rows.first().map(Vec::len) else { return };
    let marks = |row: usize| {
        let row: Vec<String> = (1..=columns).map(|n| format!("${}", row * columns + n)).collect();
        format!("({})", row.join(","))
    };
    let marks: Vec<String> = (0..rows.len()).map(marks).collect();
    let insert = format!("INSERT INTO {into} VALUES {}", marks.join(","));
    sql.execute_with(&insert, &rows.concat()).await.unwrap();
}
