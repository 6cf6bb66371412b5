//! A page of records of all journals, with every row that stands between the same two places.
//!
//! Rows are read by their place and not by the record that they are said to belong to: so one that belongs
//! to none is in the page as well, and is left over.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::account::{Lot, LotMove, MoveReason, Obligation};
use crate::domain::ids::DepositId;
use crate::domain::journal::{Entry, JournalId, Record};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::errors::StoreError;
use crate::store::ledger::{
    cause_hash, entry_row, lot_columns, lot_row, obligation_row, record_row, select_records,
};
use crate::store::rows::corrupt;

/// Records read at a time.
pub(super) const PAGE: i64 = 500;

/// A journal and a place in it.
pub(super) type Key = (i64, i64);

/// Before every place.
pub(super) const START: Key = (i64::MIN, i64::MIN);

/// A record as it is stored, with its stored hash of the cause; or why it cannot be read.
pub(super) type Stored = Result<(Record, B256), StoreError>;

/// A credit's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CreditAt {
    pub(super) deposit: DepositId,
    pub(super) block_hash: B256,
    pub(super) log_index: u64,
    pub(super) reversed_by: Option<i64>,
}

/// What a conversion owes, as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObligationAt {
    pub(super) chain_id: u64,
    pub(super) asset: String,
    pub(super) raw: RawAmount,
    pub(super) decimals: u8,
    pub(super) owed: Obligation,
    pub(super) settled_usd: Nanodollars,
    pub(super) effective_at_ms: i64,
}

/// A part of an obligation that was settled, as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SettlementAt {
    pub(super) obligation: Key,
    pub(super) chain_id: u64,
    pub(super) tx_hash: B256,
    pub(super) tokens: RawAmount,
    pub(super) owed_usd: Nanodollars,
    pub(super) paid_usd: Nanodollars,
}

/// The rows of a page, by their places. What a record makes is taken out; the rest belongs to none.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) records: Vec<(Key, Stored)>,
    pub(super) entries: BTreeMap<Key, Vec<(i64, Entry)>>,
    pub(super) lots: BTreeMap<Key, Lot>,
    /// All that ever moved out of or into each of those lots.
    pub(super) moved: BTreeMap<Key, i128>,
    pub(super) moves: BTreeMap<Key, Vec<(i64, LotMove)>>,
    pub(super) credits: BTreeMap<Key, CreditAt>,
    pub(super) obligations: BTreeMap<Key, ObligationAt>,
    /// Of each of those obligations, what is settled: tokens and dollars.
    pub(super) settled: BTreeMap<Key, (RawAmount, i128)>,
    /// By the place of their own record, in the house's journal.
    pub(super) settlements: BTreeMap<i64, SettlementAt>,
    /// There is nothing behind it.
    pub(super) is_last: bool,
}

impl Page {
    /// The page behind a place.
    pub(super) async fn read(tx: &mut Tx, after: Key) -> Result<Self, StoreError> {
        let rows = query(select_records!(
            "WHERE (q.journal_id, q.seq) > ($1, $2) ORDER BY q.journal_id, q.seq LIMIT $3"
        ))
        .bind(after.0)
        .bind(after.1)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        let mut page = Self::default();
        for row in &rows {
            let key = (row.int("records", "journal_id")?, row.int("records", "seq")?);
            let stored = record_row(row).and_then(|record| Ok((record, cause_hash(row)?)));
            page.records.push((key, stored));
        }
        page.is_last = i64::try_from(rows.len()).is_ok_and(|n| n < PAGE);
        let upto = match page.records.last() {
            Some((key, _)) if !page.is_last => *key,
            _ => (i64::MAX, i64::MAX),
        };
        let span = Span { after, upto };
        page.read_entries(tx, span).await?;
        page.read_lots(tx, span).await?;
        page.read_credits(tx, span).await?;
        page.read_settlements(tx, span).await?;
        Ok(page)
    }

    async fn read_entries(&mut self, tx: &mut Tx, span: Span) -> Result<(), StoreError> {
        const SQL: &str = "SELECT journal_id, seq, leg, account, unit, side, amount FROM entries
             WHERE (journal_id, seq) > ($1, $2) AND (journal_id, seq) <= ($3, $4)
             ORDER BY journal_id, seq, leg";
        for row in &span.rows(tx, SQL).await? {
            let leg = (row.int("entries", "leg")?, entry_row(row)?);
            self.entries.entry(key(row, "entries", "seq")?).or_default().push(leg);
        }
        Ok(())
    }

    async fn read_lots(&mut self, tx: &mut Tx, span: Span) -> Result<(), StoreError> {
        const LOTS: &str = concat!(
            "SELECT l.journal_id, ",
            lot_columns!(),
            " FROM lots l WHERE (l.journal_id, l.lot_seq) > ($1, $2)
                AND (l.journal_id, l.lot_seq) <= ($3, $4) ORDER BY l.journal_id, l.lot_seq"
        );
        const OF_LOTS: &str = "SELECT journal_id, lot_seq, amount_nano FROM lot_moves
             WHERE (journal_id, lot_seq) > ($1, $2) AND (journal_id, lot_seq) <= ($3, $4)";
        const MOVES: &str = "SELECT journal_id, seq, n, lot_seq, amount_nano, reason FROM lot_moves
             WHERE (journal_id, seq) > ($1, $2) AND (journal_id, seq) <= ($3, $4)
             ORDER BY journal_id, seq, n";
        for row in &span.rows(tx, LOTS).await? {
            self.lots.insert(key(row, "lots", "lot_seq")?, lot_row(row)?);
        }
        for row in &span.rows(tx, OF_LOTS).await? {
            let sum = self.moved.entry(key(row, "lot_moves", "lot_seq")?).or_default();
            *sum = sum.saturating_add(i128::from(row.int("lot_moves", "amount_nano")?));
        }
        for row in &span.rows(tx, MOVES).await? {
            let n = row.int("lot_moves", "n")?;
            self.moves.entry(key(row, "lot_moves", "seq")?).or_default().push((n, lot_move(row)?));
        }
        Ok(())
    }

    async fn read_credits(&mut self, tx: &mut Tx, span: Span) -> Result<(), StoreError> {
        const CREDITS: &str =
            "SELECT journal_id, seq, deposit_id, block_hash, log_index, reversed_by
             FROM credits WHERE (journal_id, seq) > ($1, $2) AND (journal_id, seq) <= ($3, $4)";
        const OBLIGATIONS: &str =
            "SELECT journal_id, seq, chain_id, asset, raw_amount, decimals, into_asset, tokens,
                    token_decimals, usd_nano, effective_at_ms, carried_tokens, carried_usd_nano,
                    settled_tokens, settled_usd_nano
             FROM obligations WHERE (journal_id, seq) > ($1, $2) AND (journal_id, seq) <= ($3, $4)";
        for row in &span.rows(tx, CREDITS).await? {
            let credit = CreditAt {
                deposit: DepositId(row.b256("credits", "deposit_id")?),
                block_hash: row.b256("credits", "block_hash")?,
                log_index: row.uint("credits", "log_index")?,
                reversed_by: row.opt_int("credits", "reversed_by")?,
            };
            self.credits.insert(key(row, "credits", "seq")?, credit);
        }
        for row in &span.rows(tx, OBLIGATIONS).await? {
            const TABLE: &str = "obligations";
            let owed = ObligationAt {
                chain_id: row.uint(TABLE, "chain_id")?,
                asset: row.text(TABLE, "asset")?,
                raw: row.amount(TABLE, "raw_amount")?,
                decimals: row.uint8(TABLE, "decimals")?,
                owed: obligation_row(row)?,
                settled_usd: Nanodollars(row.int(TABLE, "settled_usd_nano")?),
                effective_at_ms: row.int(TABLE, "effective_at_ms")?,
            };
            self.obligations.insert(key(row, TABLE, "seq")?, owed);
        }
        Ok(())
    }

    async fn read_settlements(&mut self, tx: &mut Tx, span: Span) -> Result<(), StoreError> {
        const OF_CREDITS: &str =
            "SELECT journal_id, credit_seq, tokens, owed_usd_nano FROM settlements
             WHERE (journal_id, credit_seq) > ($1, $2) AND (journal_id, credit_seq) <= ($3, $4)";
        const TABLE: &str = "settlements";
        for row in &span.rows(tx, OF_CREDITS).await? {
            let sums = self.settled.entry(key(row, TABLE, "credit_seq")?).or_default();
            let tokens = sums.0.checked_add(row.amount(TABLE, "tokens")?);
            sums.0 = tokens.ok_or_else(|| corrupt(TABLE, "tokens", "do not fit 256 bits"))?;
            sums.1 = sums.1.saturating_add(i128::from(row.int(TABLE, "owed_usd_nano")?));
        }
        let Some((from, to)) = span.of_house() else { return Ok(()) };
        let rows = query(
            "SELECT seq, journal_id, credit_seq, chain_id, tx_hash, tokens, owed_usd_nano,
                    paid_usd_nano
             FROM settlements WHERE seq > $1 AND seq <= $2",
        )
        .bind(from)
        .bind(to)
        .fetch_all(tx)
        .await?;
        for row in &rows {
            let settlement = SettlementAt {
                obligation: key(row, TABLE, "credit_seq")?,
                chain_id: row.uint(TABLE, "chain_id")?,
                tx_hash: row.b256(TABLE, "tx_hash")?,
                tokens: row.amount(TABLE, "tokens")?,
                owed_usd: Nanodollars(row.int(TABLE, "owed_usd_nano")?),
                paid_usd: Nanodollars(row.int(TABLE, "paid_usd_nano")?),
            };
            self.settlements.insert(row.int(TABLE, "seq")?, settlement);
        }
        Ok(())
    }
}

/// The places behind one, up to another.
#[derive(Debug, Clone, Copy)]
struct Span {
    after: Key,
    upto: Key,
}

impl Span {
    async fn rows(self, tx: &mut Tx, sql: &'static str) -> Result<Vec<Row>, StoreError> {
        query(sql)
            .bind(self.after.0)
            .bind(self.after.1)
            .bind(self.upto.0)
            .bind(self.upto.1)
            .fetch_all(tx)
            .await
            .map_err(StoreError::from)
    }

    /// The part of it that is in the house's journal: behind one place, up to another.
    fn of_house(self) -> Option<(i64, i64)> {
        let house = JournalId::HOUSE.0;
        let from = if self.after.0 < house { i64::MIN } else { self.after.1 };
        let to = if self.upto.0 > house { i64::MAX } else { self.upto.1 };
        (self.after.0 <= house && self.upto.0 >= house).then_some((from, to))
    }
}

fn key(row: &Row, table: &'static str, seq: &'static str) -> Result<Key, StoreError> {
    Ok((row.int(table, "journal_id")?, row.int(table, seq)?))
}

fn lot_move(row: &Row) -> Result<LotMove, StoreError> {
    const TABLE: &str = "lot_moves";
    let reason = MoveReason::parse(&row.text(TABLE, "reason")?)
        .ok_or_else(|| corrupt(TABLE, "reason", "not a reason"))?;
    let amount = Nanocredits(row.int(TABLE, "amount_nano")?);
    Ok(LotMove { lot: row.int(TABLE, "lot_seq")?, amount, reason })
}
