//! Between the rows of the ledger and their types.
//!
//! A kind, a unit or a side that there is not is an error which names its column; nothing is guessed.

use alloy::primitives::B256;

use crate::domain::account::{Consideration, Credit, Head, JournalRow, Lot, LotKind, Obligation};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::journal::{
    Amount, Entry, Genesis, JournalId, Kind, Record, RecordId, Said, Side, Unit,
};
use crate::domain::money::{Nanocredits, Nanodollars};
use crate::store::db::{Row, Value};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// A record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPlace {
    /// Its journal.
    pub journal: JournalId,
    /// Its number there.
    pub seq: i64,
}

impl RecordPlace {
    pub(super) fn key(self) -> Vec<Value> {
        vec![self.journal.0.into(), self.seq.into()]
    }
}

/// Records, followed by the given conditions about `q`.
macro_rules! select_records {
    ($conditions:literal) => {
        concat!(
            "SELECT q.journal_id, q.seq, q.record_id, q.kind, q.subject, q.cause, q.cause_hash, q.outcome,
                    q.effective_at_ms, q.recorded_at_ms, q.operator, q.key_id, q.prev, q.seal
             FROM records q ",
            $conditions
        )
    };
}
pub(in crate::store) use select_records;

/// Rows of journals with the names of their namespaces, followed by the given conditions about `j`.
macro_rules! select_journals {
    ($conditions:literal) => {
        concat!(
            "SELECT j.journal_id, j.kind, j.genesis, j.seq, j.seal, j.recorded_at_ms, j.posted_nano, j.debt_nano,
                    j.addresses,
                    (SELECT n.name FROM namespaces n WHERE n.namespace_id = j.journal_id) AS name
             FROM journals j ",
            $conditions
        )
    };
}
pub(in crate::store) use select_journals;

/// A record without its entries.
pub(in crate::store) fn record_row(row: &Row) -> Result<Record, StoreError> {
    const TABLE: &str = "records";
    Ok(Record {
        journal: JournalId(row.int(TABLE, "journal_id")?),
        seq: row.int(TABLE, "seq")?,
        id: RecordId(row.b256(TABLE, "record_id")?),
        kind: kind(row)?,
        subject: row.text(TABLE, "subject")?,
        cause: row.text(TABLE, "cause")?,
        outcome: row.text(TABLE, "outcome")?,
        effective_at_ms: row.int(TABLE, "effective_at_ms")?,
        recorded_at_ms: row.int(TABLE, "recorded_at_ms")?,
        operator: row.opt_text(TABLE, "operator")?,
        key_id: row.opt_text(TABLE, "key_id")?,
        entries: Vec::new(),
        prev: row.b256(TABLE, "prev")?,
        seal: row.b256(TABLE, "seal")?,
    })
}

/// What a record says to a retry of its cause.
pub(in crate::store) fn said_row(row: &Row) -> Result<Said, StoreError> {
    Ok(Said::of(&record_row(row)?, cause_hash(row)?))
}

/// The hash of a record's cause, as it is stored.
pub(in crate::store) fn cause_hash(row: &Row) -> Result<B256, StoreError> {
    row.b256("records", "cause_hash")
}

fn kind(row: &Row) -> Result<Kind, StoreError> {
    Kind::parse(&row.text("records", "kind")?)
        .map_err(|unknown| corrupt("records", "kind", &unknown.to_string()))
}

pub(in crate::store) fn entry_row(row: &Row) -> Result<Entry, StoreError> {
    const TABLE: &str = "entries";
    let unit = Unit::parse(&row.text(TABLE, "unit")?)
        .ok_or_else(|| corrupt(TABLE, "unit", "not a unit"))?;
    let side = Side::parse(&row.text(TABLE, "side")?)
        .ok_or_else(|| corrupt(TABLE, "side", "not a side"))?;
    let account = row.text(TABLE, "account")?;
    Ok(Entry { account, side, amount: Amount::of(unit, row.int(TABLE, "amount")?) })
}

pub(in crate::store) fn journal_row(row: &Row) -> Result<JournalRow, StoreError> {
    const TABLE: &str = "journals";
    let journal = JournalId(row.int(TABLE, "journal_id")?);
    let name = match row.opt_text("namespaces", "name")? {
        Some(name) => name,
        None if journal.is_house() => String::new(),
        None => return Err(corrupt(TABLE, "journal_id", "no namespace has this id")),
    };
    Ok(JournalRow {
        journal,
        genesis: Genesis(row.b256(TABLE, "genesis")?),
        name,
        head: Head {
            seq: row.int(TABLE, "seq")?,
            seal: row.b256(TABLE, "seal")?,
            recorded_at_ms: row.int(TABLE, "recorded_at_ms")?,
        },
        posted: Nanocredits(row.int(TABLE, "posted_nano")?),
        debt: Nanocredits(row.int(TABLE, "debt_nano")?),
        addresses: row.uint(TABLE, "addresses")?,
    })
}

/// A lot; its columns begin with `l_` where they would be ambiguous beside a record's.
pub(in crate::store) fn lot_row(row: &Row) -> Result<Lot, StoreError> {
    const TABLE: &str = "lots";
    let kind = LotKind::parse(&row.text(TABLE, "lot_kind")?)
        .ok_or_else(|| corrupt(TABLE, "kind", "not a kind of lot"))?;
    let consideration = match row.opt_text(TABLE, "consideration_asset")? {
        None => None,
        Some(asset) => Some(Consideration {
            asset,
            raw: row.amount(TABLE, "consideration_raw")?,
            decimals: row.uint8(TABLE, "consideration_decimals")?,
            usd: row.opt_int(TABLE, "consideration_usd_nano")?.map(Nanodollars),
        }),
    };
    Ok(Lot {
        seq: row.int(TABLE, "lot_seq")?,
        kind,
        priority: row.int(TABLE, "priority")?,
        scope: row.opt_text(TABLE, "scope")?,
        amount: Nanocredits(row.int(TABLE, "amount_nano")?),
        remaining: Nanocredits(row.int(TABLE, "remaining_nano")?),
        effective_at_ms: row.int(TABLE, "lot_effective_at_ms")?,
        expires_at_ms: row.opt_int(TABLE, "expires_at_ms")?,
        consideration,
    })
}

/// Columns of a lot `l`, as [`lot_row`] reads them.
macro_rules! lot_columns {
    () => {
        "l.lot_seq, l.kind AS lot_kind, l.priority, l.scope, l.amount_nano, l.remaining_nano,
         l.effective_at_ms AS lot_effective_at_ms, l.expires_at_ms, l.consideration_asset, l.consideration_raw,
         l.consideration_decimals, l.consideration_usd_nano"
    };
}
pub(in crate::store) use lot_columns;

/// A credit `k` with the id and the seal of its record `q` and the chain of its deposit `d`.
pub(in crate::store) fn credit_row(row: &Row) -> Result<Credit, StoreError> {
    const TABLE: &str = "credits";
    Ok(Credit {
        seq: row.int(TABLE, "seq")?,
        record_id: RecordId(row.b256("records", "record_id")?),
        seal: row.b256("records", "seal")?,
        deposit: DepositId(row.b256(TABLE, "deposit_id")?),
        chain: ChainId(row.uint("deposits", "chain_id")?),
        block_hash: row.b256(TABLE, "block_hash")?,
        log_index: row.uint(TABLE, "log_index")?,
        reversed_by: row.opt_int(TABLE, "reversed_by")?,
    })
}

/// What a conversion owes.
pub(in crate::store) fn obligation_row(row: &Row) -> Result<Obligation, StoreError> {
    const TABLE: &str = "obligations";
    Ok(Obligation {
        asset: row.text(TABLE, "into_asset")?,
        tokens: row.amount(TABLE, "tokens")?,
        decimals: row.uint8(TABLE, "token_decimals")?,
        usd: Nanodollars(row.int(TABLE, "usd_nano")?),
        settled: row.amount(TABLE, "settled_tokens")?,
        carried_tokens: row.amount(TABLE, "carried_tokens")?,
        carried_usd: Nanodollars(row.int(TABLE, "carried_usd_nano")?),
    })
}
