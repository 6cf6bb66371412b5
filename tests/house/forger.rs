//! Somebody who can write the database and has topupd's code: who changes a cause and computes every hash,
//! outcome and row of the journal again; or only seals again what was changed by hand.

use alloy::primitives::B256;
use topupd::domain::account::{Account, Effects, New, Written};
use topupd::domain::journal::{
    Amount, Cause, DepositReversal, Draft, Entry, EventKind, Genesis, JournalId, Kind, Outcome,
    Record, RecordId, Side, Unit, event_id,
};

use super::support::*;
use super::treasury::bought;
use crate::database::{Cell, Sql};

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn int(cell: &Cell) -> i64 {
    match cell {
        Cell::Int(value) => *value,
        other => panic!("{other:?}"),
    }
}

fn hash(cell: &Cell) -> B256 {
    match cell {
        Cell::Bytes(bytes) => B256::from_slice(bytes),
        other => panic!("{other:?}"),
    }
}

fn maybe(cell: &Cell) -> Option<String> {
    (*cell != Cell::Null).then(|| text(cell))
}

fn bytes(hash: B256) -> Cell {
    Cell::Bytes(hash.to_vec())
}

/// A database in the hands of somebody.
pub struct Forger {
    pub sql: Sql,
}

impl Forger {
    pub async fn of(house: &House) -> Self {
        let mut sql = house.database.sql().await;
        sql.drop_guards().await;
        Self { sql }
    }

    pub async fn run(&mut self, statement: &str) {
        let changed = self.sql.execute(statement).await.unwrap();
        assert!(changed > 0, "changes nothing: {statement}");
    }

    /// All records of a journal.
    pub async fn records(&mut self, journal: i64) -> Vec<Record> {
        let mut records = Vec::new();
        for row in self
            .sql
            .rows(&format!(
                "SELECT seq, record_id, kind, subject, cause, outcome, effective_at_ms, recorded_at_ms,
                        operator, key_id, prev, seal
                 FROM records WHERE journal_id = {journal} ORDER BY seq"
            ))
            .await
        {
            let entries = self
                .sql
                .rows(&format!(
                    "SELECT account, unit, side, amount FROM entries
                     WHERE journal_id = {journal} AND seq = {} ORDER BY leg",
                    int(&row[0])
                ))
                .await;
            let entries = entries.iter().map(|leg| Entry {
                account: text(&leg[0]),
                side: Side::parse(&text(&leg[2])).unwrap(),
                amount: Amount::of(Unit::parse(&text(&leg[1])).unwrap(), int(&leg[3])),
            });
            records.push(Record {
                journal: JournalId(journal),
                seq: int(&row[0]),
                id: RecordId(hash(&row[1])),
                kind: Kind::parse(&text(&row[2])).unwrap(),
                subject: text(&row[3]),
                cause: text(&row[4]),
                outcome: text(&row[5]),
                effective_at_ms: int(&row[6]),
                recorded_at_ms: int(&row[7]),
                operator: maybe(&row[8]),
                key_id: maybe(&row[9]),
                entries: entries.collect(),
                prev: hash(&row[10]),
                seal: hash(&row[11]),
            });
        }
        records
    }

    async fn genesis(&mut self, journal: i64) -> Genesis {
        let sql = format!("SELECT genesis FROM journals WHERE journal_id = {journal}");
        Genesis(hash(&self.sql.rows(&sql).await[0][0]))
    }

    /// Changes records by hand, and seals the whole journal again.
    pub async fn reseal(&mut self, journal: i64, change: fn(Vec<Record>) -> Vec<Record>) {
        let mut records = change(self.records(journal).await);
        self.seal_again(journal, &mut records).await;
    }

    async fn seal_again(&mut self, journal: i64, records: &mut [Record]) {
        let mut prev = self.genesis(journal).await.0;
        for record in &mut *records {
            record.prev = prev;
            record.seal = record.seal_hash();
            prev = record.seal;
        }
        self.write(journal, records).await;
    }

    /// Puts these records in the place of those that there are.
    async fn write(&mut self, journal: i64, records: &[Record]) {
        let genesis = self.genesis(journal).await;
        for table in ["records", "entries"] {
            let sql = format!("DELETE FROM {table} WHERE journal_id = {journal}");
            self.sql.execute(&sql).await.unwrap();
        }
        for r in records {
            let cause = Cause::from_json(r.kind, &r.cause).ok();
            let drafted = cause
                .and_then(|c| Draft::new(genesis, c, r.operator.clone(), r.key_id.clone()).ok());
            let cause_hash = drafted.map_or(B256::ZERO, |draft| draft.cause_hash);
            let optional = |word: &Option<String>| word.clone().map_or(Cell::Null, Cell::Text);
            let cells = [
                Cell::Int(journal),
                Cell::Int(r.seq),
                bytes(r.id.0),
                Cell::Text(r.kind.to_string()),
                Cell::Text(r.subject.clone()),
                Cell::Text(r.cause.clone()),
                bytes(cause_hash),
                Cell::Text(r.outcome.clone()),
                Cell::Int(r.effective_at_ms),
                Cell::Int(r.recorded_at_ms),
                bytes(r.prev),
                bytes(r.seal),
                optional(&r.operator),
                optional(&r.key_id),
            ];
            let given = |cell: &&Cell| **cell != Cell::Null;
            let names = [
                "journal_id",
                "seq",
                "record_id",
                "kind",
                "subject",
                "cause",
                "cause_hash",
                "outcome",
                "effective_at_ms",
                "recorded_at_ms",
                "prev",
                "seal",
                "operator",
                "key_id",
            ];
            let names: Vec<&str> =
                names.iter().zip(&cells).filter(|(_, c)| given(c)).map(|(n, _)| *n).collect();
            let cells: Vec<Cell> = cells.iter().filter(given).cloned().collect();
            let places: Vec<String> = (1..=cells.len()).map(|i| format!("${i}")).collect();
            let sql = format!(
                "INSERT INTO records ({}) VALUES ({})",
                names.join(", "),
                places.join(", ")
            );
            self.sql.execute_with(&sql, &cells).await.unwrap();
            for (leg, entry) in (0i64..).zip(&r.entries) {
                let sql = format!(
                    "INSERT INTO entries (journal_id, seq, leg, account, unit, side, amount)
                     VALUES ({journal}, {}, {leg}, '{}', '{}', '{}', {})",
                    r.seq,
                    entry.account,
                    entry.amount.unit().as_str(),
                    entry.side.as_str(),
                    entry.amount.nano()
                );
                self.sql.execute(&sql).await.unwrap();
            }
        }
        let last = records.last().unwrap();
        let sql = format!(
            "UPDATE journals SET seq = {}, seal = $1, recorded_at_ms = {} WHERE journal_id = {journal}",
            last.seq, last.recorded_at_ms
        );
        self.sql.execute_with(&sql, &[bytes(last.seal)]).await.unwrap();
    }

    /// Changes what happened, and lets topupd's own code do all the rest: outcomes, entries, lots, balances,
    /// ids, seals. What is announced is announced under the new ids.
    pub async fn rewrite(&mut self, journal: i64, change: fn(&mut [Cause])) {
        let old = self.records(journal).await;
        let mut causes: Vec<Cause> =
            old.iter().map(|r| Cause::from_json(r.kind, &r.cause).unwrap()).collect();
        change(&mut causes);
        let name = match journal {
            0 => String::new(),
            id => {
                let sql = format!("SELECT name FROM namespaces WHERE namespace_id = {id}");
                self.sql.texts(&sql).await.remove(0)
            }
        };
        let genesis = self.genesis(journal).await;
        let mut account = Account::fresh(JournalId(journal), genesis, &name);
        let mut records: Vec<Record> = Vec::new();
        for (mut cause, old) in causes.into_iter().zip(&old) {
            if let Cause::DepositReversed(undo) = &mut cause {
                let undone = &records[usize::try_from(undo.reverses_seq).unwrap() - 1];
                (undo.reverses_record_id, undo.reverses_seal) = (undone.id, undone.seal);
            }
            let draft =
                Draft::new(genesis, cause, old.operator.clone(), old.key_id.clone()).unwrap();
            let Ok(Written::Created(new)) = account.write(&draft, old.recorded_at_ms) else {
                panic!("cannot be written: {}", draft.text)
            };
            self.rows(journal, &new.effects).await;
            self.announce(old, new.record.id).await;
            records.push(new.record);
        }
        self.write(journal, &records).await;
        let row = account.row();
        let sql = format!(
            "UPDATE journals SET posted_nano = {}, debt_nano = {} WHERE journal_id = {journal}",
            row.posted.0, row.debt.0
        );
        self.run(&sql).await;
    }

    /// The lot of a credit and what it owes, as they are made now.
    async fn rows(&mut self, journal: i64, made: &Effects) {
        for lot in &made.lots {
            let paid = lot.consideration.as_ref().unwrap();
            let usd = paid.usd.map_or("NULL".to_owned(), |usd| usd.0.to_string());
            let undone = format!(
                "(SELECT COUNT(*) FROM credits WHERE journal_id = {journal} AND seq = {}
                    AND reversed_by IS NOT NULL)",
                lot.seq
            );
            let sql = format!(
                "UPDATE lots SET amount_nano = {0}, remaining_nano = {1} * (1 - {undone}),
                   consideration_raw = $1, consideration_usd_nano = {usd}
                 WHERE journal_id = {journal} AND lot_seq = {2}",
                lot.amount.0, lot.remaining.0, lot.seq
            );
            let raw = Cell::Bytes(paid.raw.0.to_be_bytes::<32>().to_vec());
            assert_eq!(self.sql.execute_with(&sql, &[raw]).await.unwrap(), 1);
        }
        for row in &made.obligations {
            let sql = format!(
                "UPDATE obligations SET raw_amount = $1, tokens = $2, usd_nano = {}
                 WHERE journal_id = {journal} AND seq = {}",
                row.owed.usd.0, made.seq
            );
            let amounts = [row.raw, row.owed.tokens]
                .map(|amount| Cell::Bytes(amount.0.to_be_bytes::<32>().to_vec()));
            assert_eq!(self.sql.execute_with(&sql, &amounts).await.unwrap(), 1);
        }
    }

    async fn announce(&mut self, old: &Record, new: RecordId) {
        let Some(kind) = EventKind::of(old.kind) else { return };
        let ids = [new, old.id].map(|id| bytes(event_id(kind, id.0.as_slice())));
        let sql = "UPDATE events_new SET event_id = $1 WHERE event_id = $2";
        assert_eq!(self.sql.execute_with(sql, &ids).await.unwrap(), 1);
    }

    /// Takes the last record of a journal away, a credit, with every row that tells of it.
    pub async fn cut(&mut self, journal: i64) {
        let records = self.records(journal).await;
        let [.., before, last] = &records[..] else { panic!("too short") };
        assert_eq!(last.kind, Kind::DepositCredited, "the last record of journal {journal}");
        let seq = last.seq;
        let statements = [
            format!(
                "UPDATE deposits SET stage = 'priced', record_seq = NULL WHERE deposit_id =
                   (SELECT deposit_id FROM credits WHERE journal_id = {journal} AND seq = {seq})"
            ),
            format!(
                "UPDATE journals SET posted_nano = posted_nano - (SELECT amount_nano FROM lots
                   WHERE journal_id = {journal} AND lot_seq = {seq}) WHERE journal_id = {journal}"
            ),
            format!("DELETE FROM lots WHERE journal_id = {journal} AND lot_seq = {seq}"),
        ];
        for statement in &statements {
            self.run(statement).await;
        }
        for table in ["credits", "obligations", "unlogged"] {
            let sql = format!("DELETE FROM {table} WHERE journal_id = {journal} AND seq = {seq}");
            self.sql.execute(&sql).await.unwrap();
        }
        let event = event_id(EventKind::DepositCredited, last.id.0.as_slice());
        let sql = "DELETE FROM events_new WHERE event_id = $1";
        assert_eq!(self.sql.execute_with(sql, &[bytes(event)]).await.unwrap(), 1);
        let kept: Vec<Record> = records[..records.len() - 1].to_vec();
        assert_eq!(kept.last().unwrap().seal, before.seal);
        self.write(journal, &kept).await;
    }

    /// Appends a record to a journal, with what any record has: entries, a place in what waits for the log, an event.
    /// The rows of its kind are left to the caller.
    async fn append(&mut self, journal: i64, cause: Cause) -> New {
        let mut records = self.records(journal).await;
        let genesis = self.genesis(journal).await;
        let name = match journal {
            0 => String::new(),
            id => {
                let sql = format!("SELECT name FROM namespaces WHERE namespace_id = {id}");
                self.sql.texts(&sql).await.remove(0)
            }
        };
        let mut account = Account::fresh(JournalId(journal), genesis, &name);
        for old in &records {
            let cause = Cause::from_json(old.kind, &old.cause).unwrap();
            let (operator, key) = (old.operator.clone(), old.key_id.clone());
            let draft = Draft::new(genesis, cause, operator, key).unwrap();
            account.write(&draft, old.recorded_at_ms).unwrap();
        }
        let draft = Draft::new(genesis, cause, None, None).unwrap();
        let now = records.last().unwrap().recorded_at_ms + 1_000;
        let Ok(Written::Created(new)) = account.write(&draft, now) else {
            panic!("cannot be written: {}", draft.text)
        };
        records.push(new.record.clone());
        self.write(journal, &records).await;
        let row = account.row();
        self.run(&format!(
            "UPDATE journals SET posted_nano = {}, debt_nano = {} WHERE journal_id = {journal}",
            row.posted.0, row.debt.0
        ))
        .await;
        let seq = new.record.seq;
        self.run(&format!("INSERT INTO unlogged (journal_id, seq) VALUES ({journal}, {seq})"))
            .await;
        let kind = EventKind::of(new.record.kind).unwrap();
        let sql = format!(
            "INSERT INTO events_new (event_id, kind, subject, payload, at_ms)
             VALUES ($1, '{}', '{}', '{{}}', {now})",
            kind.as_str(),
            new.record.subject
        );
        let id = bytes(event_id(kind, new.record.id.0.as_slice()));
        self.sql.execute_with(&sql, &[id]).await.unwrap();
        *new
    }

    /// Undoes the last credit of the first namespace, as if its block had been orphaned.
    pub async fn undo(&mut self) {
        let sql = "SELECT MAX(seq) FROM credits WHERE journal_id = 1 AND reversed_by IS NULL";
        let seq = int(&self.sql.rows(sql).await[0][0]);
        let records = self.records(1).await;
        let undone = records.iter().find(|r| r.seq == seq).unwrap();
        let Ok(Cause::DepositCredited(credit)) = Cause::from_json(undone.kind, &undone.cause)
        else {
            panic!("{}", undone.cause)
        };
        let invented = B256::repeat_byte(0xfa);
        let cause = DepositReversal {
            namespace: credit.namespace.clone(),
            deposit: credit.deposit_key().id(),
            reverses_seq: seq,
            reverses_record_id: undone.id,
            reverses_seal: undone.seal,
            chain_id: credit.chain_id,
            block_hash: credit.block_hash,
            block_number: credit.block_number,
            canonical_hash: invented,
            head_number: credit.head_number,
            head_hash: credit.head_hash,
            finality: credit.finality.clone(),
            providers: vec!["scripted".into()],
            credits_nano: credit.credits_nano,
        };
        let (block, deposit) = (bytes(credit.block_hash), bytes(credit.deposit_key().id().0));
        let new = self.append(1, Cause::DepositReversed(Box::new(cause))).await;
        let by = new.record.seq;
        for (sql, of) in [
            ("UPDATE blocks SET canonical = 0 WHERE block_hash = $1".to_owned(), block.clone()),
            (
                format!(
                    "UPDATE deposits SET stage = 'reversed', record_seq = {by} WHERE deposit_id = $1"
                ),
                deposit,
            ),
        ] {
            assert_eq!(self.sql.execute_with(&sql, &[of]).await.unwrap(), 1);
        }
        let insert = "INSERT INTO blocks (chain_id, block_hash, block_number, parent_hash, block_time_ms, canonical)
             SELECT chain_id, $1, block_number, parent_hash, block_time_ms, 1 FROM blocks WHERE block_hash = $2";
        assert_eq!(self.sql.execute_with(insert, &[bytes(invented), block]).await.unwrap(), 1);
        for (n, moved) in new.effects.lot_moves.iter().enumerate() {
            self.run(&format!(
                "INSERT INTO lot_moves (journal_id, seq, n, lot_seq, amount_nano, reason)
                 VALUES (1, {by}, {n}, {}, {}, 'reversal')",
                moved.lot, moved.amount.0
            ))
            .await;
        }
        self.run(&format!(
            "UPDATE lots SET remaining_nano = 0 WHERE journal_id = 1 AND lot_seq = {seq}"
        ))
        .await;
        self.run(&format!(
            "UPDATE credits SET reversed_by = {by} WHERE journal_id = 1 AND seq = {seq}"
        ))
        .await;
    }

    /// Settles what the last conversion of the first namespace owes, with a purchase that nobody made.
    pub async fn settle(&mut self) {
        let owed = self
            .sql
            .rows(
                "SELECT o.seq, o.tokens, o.settled_tokens, o.usd_nano, q.record_id FROM obligations o
                 JOIN records q ON q.journal_id = 1 AND q.seq = o.seq
                 JOIN credits k ON k.journal_id = 1 AND k.seq = o.seq
                 WHERE o.journal_id = 1 AND k.reversed_by IS NULL ORDER BY o.seq DESC LIMIT 1",
            )
            .await
            .remove(0);
        let amount = |cell: &Cell| match cell {
            Cell::Bytes(bytes) => alloy::primitives::U256::from_be_slice(bytes),
            other => panic!("{other:?}"),
        };
        let seq = int(&owed[0]);
        let part = amount(&owed[1]) - amount(&owed[2]);
        let mut cause = bought(77, 1_000_000, 0);
        cause.obligation_journal = JournalId(1);
        cause.obligation_seq = seq;
        cause.obligation_record_id = RecordId(hash(&owed[4]));
        cause.obligation_usd_nano = topupd::domain::money::Nanodollars(int(&owed[3]));
        cause.tokens = topupd::domain::money::RawAmount(amount(&owed[1]));
        cause.settled_tokens = topupd::domain::money::RawAmount(part);
        cause.purchase_tokens = cause.settled_tokens;
        let new = self.append(0, Cause::TreasurySettled(Box::new(cause.clone()))).await;
        let Outcome::Settled(did) = &new.outcome else { panic!("{:?}", new.outcome) };
        let raw = |n: alloy::primitives::U256| Cell::Bytes(n.to_be_bytes::<32>().to_vec());
        let (tx, block) = (bytes(cause.tx_hash), bytes(cause.block_hash));
        let evidence = serde_json::json!({
            "treasury": cause.treasury, "providers": cause.providers, "block_number": cause.block_number,
        });
        let sql = format!(
            "INSERT INTO purchases (chain_id, tx_hash, block_hash, asset, paid, decimals, into_asset, tokens, evidence, recorded_at_ms)
             VALUES ({}, $1, $2, 'USDC', $3, 6, 'RTITY', $4, '{evidence}', 0)",
            cause.chain_id.0
        );
        let cells = [tx.clone(), block, raw(cause.purchase_paid.0), raw(part)];
        self.sql.execute_with(&sql, &cells).await.unwrap();
        let sql = format!(
            "INSERT INTO settlements (seq, journal_id, credit_seq, chain_id, tx_hash, tokens, owed_usd_nano, paid_usd_nano)
             VALUES ({}, 1, {seq}, {}, $1, $2, {}, {})",
            new.record.seq, cause.chain_id.0, did.owed_usd_nano.0, did.paid_usd_nano.0
        );
        self.sql.execute_with(&sql, &[tx, raw(part)]).await.unwrap();
        self.run(&format!(
            "UPDATE obligations SET settled_tokens = tokens, settled_usd_nano = usd_nano
             WHERE journal_id = 1 AND seq = {seq}"
        ))
        .await;
    }
}
