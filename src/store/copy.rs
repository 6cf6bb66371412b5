//! Moves a whole installation from one database to another, whatever their engines.
//!
//! One transaction reads and one writes, so that a copy that was interrupted leaves nothing behind,
//! and nobody writes to an installation while it is moved. Every table is copied, value by value;
//! nothing is computed. What the copy is worth, `verify` says, and the count of each table.

use super::db::{Row, Tx, Value, bulk_text};
use super::engine::Store;
use super::errors::StoreError;
use super::log::pause;
use crate::store::db::pools::Db;
use crate::store::db::query::{Lock, query, query_text};
use crate::store::registry::registers::take_registers;

/// Every table with its key, in an order in which each row finds what it refers to.
const TABLES: &[(&str, &[&str])] = &[
    ("installation", &["only_row"]),
    ("namespaces", &["namespace_id"]),
    ("wallets", &["wallet_id"]),
    ("addresses", &["address_id"]),
    ("cursors", &["chain_id"]),
    ("book_marks", &["chain_id", "block_number", "scan_id"]),
    ("blocks", &["chain_id", "block_hash"]),
    ("scans", &["scan_id"]),
    ("epochs", &["epoch_id"]),
    ("deposits", &["deposit_id"]),
    ("dust_sums", &["chain_id", "namespace_id", "token", "from_number", "from_index", "state"]),
    ("sightings", &["chain_id", "block_hash", "log_index"]),
    ("waits", &["deposit_id"]),
    ("unlisted_quota", &["address_id", "day"]),
    ("confirmations", &["deposit_id", "block_hash", "log_index", "reversals"]),
    ("receipt_proofs", &["chain_id", "block_hash", "tx_hash"]),
    ("rereads", &["deposit_id"]),
    (
        "screenings",
        &["deposit_id", "block_hash", "sender", "asked", "outcome", "question", "at_ms"],
    ),
    ("prices", &["deposit_id", "block_hash", "log_index"]),
    ("conversions", &["deposit_id", "block_hash", "log_index"]),
    ("price_policies", &["policy_hash"]),
    ("quotes", &["quote_id"]),
    ("quote_witnesses", &["quote_id", "provider"]),
    ("captures", &["chain_id", "block_hash", "source_hash"]),
    ("market_head", &["only_row"]),
    ("market_prices", &["price_seq"]),
    ("price_schedule", &["chain_id"]),
    ("price_tries", &["chain_id", "block_hash", "pair"]),
    ("breakers", &["pair"]),
    ("operator_acts", &["act_id"]),
    (
        "outgoing",
        &[
            "chain_id",
            "block_hash",
            "tx_hash",
            "token",
            "address_id",
            "recipient",
            "raw_amount",
            "n",
        ],
    ),
    ("journals", &["journal_id"]),
    ("records", &["journal_id", "seq"]),
    ("entries", &["journal_id", "seq", "leg"]),
    ("lots", &["journal_id", "lot_seq"]),
    ("lot_moves", &["journal_id", "seq", "n"]),
    ("credits", &["journal_id", "seq"]),
    ("unfounded", &["journal_id", "seq"]),
    ("obligations", &["journal_id", "seq"]),
    ("purchases", &["chain_id", "tx_hash"]),
    ("settlements", &["seq"]),
    ("unlogged", &["position"]),
    ("log_leaves", &["leaf_index"]),
    ("log_tiles", &["level", "idx"]),
    ("log_state", &["only_row"]),
    ("account_days", &["account", "unit", "day"]),
    ("events_new", &["position"]),
    ("events", &["incarnation", "feed_no"]),
    ("findings", &["finding_id"]),
    ("halts", &["chain_id"]),
    ("chain_tokens", &["chain_id", "token"]),
    ("backfills", &["chain_id", "kind", "subject", "from_number", "to_number"]),
    ("providers", &["chain_id", "provider"]),
    ("leases", &["task"]),
    ("daemons", &["holder"]),
    ("database_server", &["only_row"]),
];
/// Rows read and written at a time.
const PAGE: usize = 1_000;
/// Why the log of a copy waits until the other one is marked.
const UNFINISHED: &str =
    "it is a copy, and the installation that it was copied from does not say that it was moved";

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// An installation that is moved: nothing may be written to it any more.
    Stopped,
    /// What is there at this moment, as a backup.
    Running,
}

/// A column and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Bytes,
    Text,
}

impl Store {
    /// The names of all tables.
    pub fn tables() -> impl Iterator<Item = &'static str> {
        TABLES.iter().map(|(table, _)| *table)
    }

    /// Copies everything into a database that holds nothing yet. Calls `progress` with the table,
    /// the rows copied so far and all its rows.
    ///
    /// # Errors
    /// When a daemon is at work on this database, the target holds something already, or either
    /// database fails: the target is as it was then.
    pub async fn copy_to(
        &self,
        target: &Self,
        what: Snapshot,
        mut progress: impl FnMut(&'static str, i64, i64),
    ) -> Result<(), StoreError> {
        let mut from = match what {
            Snapshot::Stopped => self.hold_still().await?,
            Snapshot::Running => self.db.begin_read().await?,
        };
        from.take_time().await?;
        // What is restored from a backup has gone back; what was moved has not.
        let server = match what {
            Snapshot::Stopped => target.server().await?,
            Snapshot::Running => "a backup".to_owned(),
        };
        let mut to = target.begin().await?;
        to.take_time().await?;
        refuse_filled(&mut to, target).await?;
        let defer = match &target.db {
            Db::Sqlite { .. } => "PRAGMA defer_foreign_keys = ON",
            Db::Postgres(_) => "SET CONSTRAINTS ALL DEFERRED",
        };
        query(defer).execute(&mut to).await?;
        for (table, key) in TABLES {
            let columns = columns(&self.db, &mut from, table).await?;
            let all = count(&mut from, table).await?;
            let mut done: i64 = 0;
            progress(table, done, all);
            let mut after: Option<Vec<Value>> = None;
            loop {
                let rows = page(&mut from, table, key, &columns, after.take()).await?;
                let last = rows.len() < PAGE;
                after = rows.last().map(|row| key_of(row, &columns, key));
                done = done.saturating_add(i64::try_from(rows.len()).unwrap_or(i64::MAX));
                insert(&mut to, table, &columns, rows).await?;
                progress(table, done, all);
                if last {
                    break;
                }
            }
            let copied = count(&mut to, table).await?;
            if copied != all {
                return Err(StoreError::Refused(format!(
                    "{table} has {all} rows and {copied} arrived: nothing was kept"
                )));
            }
        }
        query("UPDATE database_server SET server = $1").bind(server).execute(&mut to).await?;
        if let Db::Postgres(_) = &target.db {
            // The next id comes after those that were copied.
            for next in [
                "SELECT setval(pg_get_serial_sequence('scans', 'scan_id'),
                               (SELECT COALESCE(MAX(scan_id), 0) + 1 FROM scans), false)",
                "SELECT setval(pg_get_serial_sequence('findings', 'finding_id'),
                               (SELECT COALESCE(MAX(finding_id), 0) + 1 FROM findings), false)",
                "SELECT setval(pg_get_serial_sequence('unlogged', 'position'),
                               (SELECT COALESCE(MAX(position), 0) + 1 FROM unlogged), false)",
                "SELECT setval(pg_get_serial_sequence('events_new', 'position'),
                               (SELECT COALESCE(MAX(position), 0) + 1 FROM events_new), false)",
            ] {
                query(next).fetch_all(&mut to).await?;
            }
        }
        // Only one of the two may sign the log from now on.
        let why = match what {
            Snapshot::Stopped => UNFINISHED,
            Snapshot::Running => "it is a backup of another database",
        };
        pause(&mut to, why).await?;
        // Nobody is at work on the copy.
        for statement in ["UPDATE leases SET expires_at_ms = 0", "DELETE FROM daemons"] {
            query(statement).execute(&mut to).await?;
        }
        Self::commit(to).await?;
        if what == Snapshot::Stopped && !self.stands_still() {
            // Wherever this ends early, at least one of them is paused.
            pause(&mut from, &format!("this installation was moved to {}", target.shown())).await?;
            Self::commit(from).await?;
            let mut to = target.begin().await?;
            query("UPDATE log_state SET paused = NULL WHERE paused = $1")
                .bind(UNFINISHED)
                .execute(&mut to)
                .await?;
            Self::commit(to).await?;
        }
        Ok(())
    }

    /// Keeps everybody from writing until the transaction ends: registering waits for the row of
    /// the registers, and the tasks for those of their leases, of which none may be alive.
    async fn hold_still(&self) -> Result<Tx, StoreError> {
        if self.stands_still() {
            return self.db.begin_read().await.map_err(StoreError::from);
        }
        let mut tx = self.begin().await?;
        let leases = query("SELECT holder, expires_at_ms FROM leases ORDER BY task")
            .locked(Lock::Update)
            .fetch_all(&mut tx)
            .await?;
        let now_ms = self.server_on(&mut tx).await?;
        for lease in leases {
            if lease.int("leases", "expires_at_ms")? > now_ms {
                let holder = lease.text("leases", "holder")?;
                return Err(StoreError::Refused(format!(
                    "daemon {holder} is at work on {}: stop it first (after a crash its lease runs out by itself)",
                    self.shown()
                )));
            }
        }
        take_registers(&mut tx).await?;
        for decides in [
            // Operators' acts are records of the house.
            "SELECT journal_id FROM journals WHERE journal_id = 0",
            "SELECT only_row FROM log_state",
        ] {
            query(decides).locked(Lock::Update).fetch_all(&mut tx).await?;
        }
        Ok(tx)
    }
}

/// A target that holds anything is somebody's installation, but for the stamp that `topupd migrate`
/// leaves in a new one: that is taken away, and the source's comes instead.
async fn refuse_filled(to: &mut Tx, target: &Store) -> Result<(), StoreError> {
    for stamp in [
        "DELETE FROM installation",
        "DELETE FROM journals WHERE journal_id = 0 AND seq = 0",
        "DELETE FROM log_state WHERE size = 0",
        "DELETE FROM market_head WHERE seq = 0",
        "DELETE FROM database_server",
    ] {
        query(stamp).execute(&mut *to).await?;
    }
    for (table, _) in TABLES {
        let found = count(to, table).await?;
        if found > 0 {
            return Err(StoreError::Refused(format!(
                "{} is not empty ({found} rows in {table}): copy into a new database",
                target.shown()
            )));
        }
    }
    Ok(())
}

async fn count(tx: &mut Tx, table: &str) -> Result<i64, StoreError> {
    query_text(format!("SELECT COUNT(*) AS found FROM {table}"))
        .fetch_one(tx)
        .await?
        .int("a table", "found")
}

/// The columns of a table, as the source's catalogue has them.
async fn columns(
    db: &Db,
    tx: &mut Tx,
    table: &'static str,
) -> Result<Vec<(String, Kind)>, StoreError> {
    let statement = match db {
        Db::Sqlite { .. } => "SELECT name, lower(type) AS type FROM pragma_table_info($1)",
        Db::Postgres(_) => {
            "SELECT CAST(column_name AS TEXT) AS name, CAST(data_type AS TEXT) AS type
             FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
        }
    };
    query(statement)
        .bind(table)
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| {
            let kind = match row.text(table, "type")?.as_str() {
                "integer" | "bigint" => Kind::Int,
                "blob" | "bytea" => Kind::Bytes,
                "text" => Kind::Text,
                other => {
                    return Err(StoreError::Refused(format!(
                        "{table} has a column of type {other}"
                    )));
                }
            };
            Ok((row.text(table, "name")?, kind))
        })
        .collect()
}

async fn page(
    tx: &mut Tx,
    table: &'static str,
    key: &[&str],
    columns: &[(String, Kind)],
    after: Option<Vec<Value>>,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let (names, key) = (names.join(", "), key.join(", "));
    let beyond = after.as_ref().map_or_else(String::new, |values| {
        let marks: Vec<String> = (1..=values.len()).map(|i| format!("${i}")).collect();
        format!("WHERE ({key}) > ({})", marks.join(", "))
    });
    let mut statement =
        query_text(format!("SELECT {names} FROM {table} {beyond} ORDER BY {key} LIMIT {PAGE}"));
    for value in after.into_iter().flatten() {
        statement = statement.bind(value);
    }
    statement
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| columns.iter().map(|(name, kind)| cell(row, table, name, *kind)).collect())
        .collect()
}

fn cell(row: &Row, table: &'static str, name: &str, kind: Kind) -> Result<Value, StoreError> {
    Ok(match kind {
        Kind::Int => row.opt_int(table, name)?.into(),
        Kind::Bytes => row.opt_bytes(table, name)?.into(),
        Kind::Text => Value::Text(row.opt_text(table, name)?),
    })
}

fn key_of(row: &[Value], columns: &[(String, Kind)], key: &[&str]) -> Vec<Value> {
    key.iter()
        .filter_map(|part| {
            let at = columns.iter().position(|(name, _)| name == part)?;
            row.get(at).cloned()
        })
        .collect()
}

async fn insert(
    tx: &mut Tx,
    table: &str,
    columns: &[(String, Kind)],
    rows: Vec<Vec<Value>>,
) -> Result<(), StoreError> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    bulk_text(format!("INSERT INTO {table} ({}) {{rows}}", names.join(", ")), rows)
        .execute(tx)
        .await
        .map_err(StoreError::from)
}
