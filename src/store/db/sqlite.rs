//! SQLite: pragmas, the bulk statement, and the file lock of the one daemon.
//!
//! WAL and `synchronous = FULL`: a commit that was answered survives a power cut.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::query::Query as SqlxQuery;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, SqlSafeStr, Sqlite};

use super::{ACQUIRE_MAX, Db, Query, Value};

/// How long a writer waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Rows in one bulk statement, largest first; what is left is done with the next size. Few sizes,
/// so that each is prepared once. More rows at once gain nothing: the time goes into the trees.
const CHUNKS: [usize; 3] = [64, 8, 1];
/// Statements kept prepared: more than this program has.
const STATEMENTS: usize = 256;

pub(super) type Statement = SqlxQuery<'static, Sqlite, SqliteArguments>;

/// The lock that one daemon holds on a SQLite file, until dropped or killed.
#[derive(Debug)]
pub struct DaemonLock(
    #[expect(dead_code, reason = "held, not used: the system unlocks it when it is dropped")] File,
);

/// Opens a file, creating it if there is none.
pub(in crate::store) async fn open(path: &Path) -> sqlx::Result<Db> {
    let options = SqliteConnectOptions::from_str("sqlite://")?
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS)
        // The keys are hashes, so each row goes to another page: the default of 2 MiB holds too few
        // of them in catch-up.
        .pragma("cache_size", "-16000")
        // A commit dirties many pages: with the default, nearly each one would end in a checkpoint.
        .pragma("wal_autocheckpoint", "8000")
        .busy_timeout(BUSY_TIMEOUT);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT.saturating_add(ACQUIRE_MAX))
        .connect_with(options.clone())
        .await?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(BUSY_TIMEOUT.saturating_add(ACQUIRE_MAX))
        .connect_lazy_with(options.create_if_missing(false).pragma("query_only", "ON"));
    Ok(Db::Sqlite { writer, reader })
}

/// Takes the daemon's lock; `None` when another process holds it.
pub(in crate::store) fn lock(path: &Path) -> std::io::Result<Option<DaemonLock>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(DaemonLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// `VALUES (?, ?), (?, ?)`, a few dozen rows a statement. Numbered placeholders would be slow:
/// SQLite looks each of them up by its name.
pub(super) fn bulk(sql: &str, mut rows: Vec<Vec<Value>>) -> Vec<Query> {
    let columns = rows.first().map_or(0, Vec::len);
    let row = format!("({})", vec!["?"; columns].join(","));
    let mut queries = Vec::new();
    for size in CHUNKS {
        if rows.len() < size {
            continue; // most commits hold one payment: no text is put together for the others
        }
        let values = format!("VALUES {}", vec![row.as_str(); size].join(","));
        let text = sql.replace("{rows}", &values).replace("{keys}", &format!("IN ({values})"));
        while rows.len() >= size {
            let rest = rows.split_off(size);
            let args = rows.into_iter().flatten().collect();
            queries.push(Query {
                sql: AssertSqlSafe(text.clone()).into_sql_str(),
                args,
                lock: None,
            });
            rows = rest;
        }
    }
    queries
}

/// True for an error that says nothing about what was asked: the file is read-only, cannot be
/// opened or written, or the disk is full. Codes: <https://sqlite.org/rescode.html>; the low byte
/// of an extended code is the primary one.
pub(in crate::store) fn is_unavailable(code: &str) -> bool {
    const READONLY: u32 = 8;
    const IOERR: u32 = 10;
    const FULL: u32 = 13;
    const CANTOPEN: u32 = 14;
    matches!(primary(code), Some(READONLY | IOERR | FULL | CANTOPEN))
}

/// True when another connection wrote for longer than we wait.
pub(in crate::store) fn is_collision(code: &str) -> bool {
    const BUSY: u32 = 5;
    primary(code) == Some(BUSY)
}

/// True when a value is not one that the tables take: a constraint, or a trigger.
pub(in crate::store) fn is_bad_value(code: &str) -> bool {
    const CONSTRAINT: u32 = 19;
    const MISMATCH: u32 = 20;
    matches!(primary(code), Some(CONSTRAINT | MISMATCH))
}

fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}
