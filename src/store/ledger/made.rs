//! The rows that records make, by their tables, and the statements that write them.
//!
//! Nothing is decided here: what `effects` gives is put into columns.

use std::collections::BTreeMap;

use crate::domain::account::Effects;
use crate::domain::money::{Nanocredits, RawAmount};
use crate::store::db::{Bulk, Tx, Value, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::{amount_bytes, to_int};

/// What older lots have left, by journal and lot.
type Remaining = BTreeMap<(i64, i64), Nanocredits>;
/// By which record a credit was undone, by journal and number.
type Undone = BTreeMap<(i64, i64), i64>;
/// What is settled of obligations: tokens, and what they were owed for.
type SettledSums = BTreeMap<(i64, i64), (RawAmount, i64)>;

/// The rows, by their tables.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) records: Vec<Vec<Value>>,
    entries: Vec<Vec<Value>>,
    lots: Vec<Vec<Value>>,
    lot_moves: Vec<Vec<Value>>,
    /// What older lots have left.
    remaining: Remaining,
    credits: Vec<Vec<Value>>,
    /// By which record a credit was undone.
    undone: Undone,
    obligations: Vec<Vec<Value>>,
    settlements: Vec<Vec<Value>>,
    /// What is settled of obligations: tokens, and what they were owed for.
    settled: SettledSums,
    unlogged: Vec<Vec<Value>>,
}

impl Rows {
    pub(super) fn take(&mut self, made: &Effects) -> Result<(), StoreError> {
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

    /// Rows of older records that changed: taken before anything is inserted.
    async fn update(
        tx: &mut Tx,
        (remaining, undone, settled): (Remaining, Undone, SettledSums),
    ) -> Result<(), StoreError> {
        let two = |(journal, seq): (i64, i64)| -> [Value; 2] { [journal.into(), seq.into()] };
        let remaining = remaining
            .into_iter()
            .map(|(lot, left)| two(lot).into_iter().chain([Value::from(left.0)]).collect())
            .collect();
        let undone = undone
            .into_iter()
            .map(|(credit, by)| two(credit).into_iter().chain([Value::from(by)]).collect())
            .collect();
        let settled = settled
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
        ] {
            bulk(sql, rows).execute(tx).await?;
        }
        Ok(())
    }

    /// Changes what older records have left, and gives the statements that insert everything else.
    pub(super) async fn update_and_insert(self, tx: &mut Tx) -> Result<Vec<Bulk>, StoreError> {
        Self::update(tx, (self.remaining, self.undone, self.settled)).await?;
        let all = [
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
        ];
        Ok(all.map(|(sql, rows)| bulk(sql, rows)).into())
    }
}
