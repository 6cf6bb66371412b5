//! SQLite: pragmas, the bulk statement, what its errors mean, and files that we may only read.
//!
//! WAL and `synchronous = FULL`: a commit that was answered survives a power cut.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::query::Query as SqlxQuery;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, Sqlite};

use super::Value;
use crate::store::db::answer::ACQUIRE_MAX;
use crate::store::db::error_text::explain;
use crate::store::db::pools::Db;
use crate::store::db::query::Query;
use crate::store::db::sqlite::beside::beside;
use crate::store::db::sqlite::frozen::Frozen;
use files::Files;

pub(crate) mod beside;
pub(in crate::store) mod codes;
mod content;
mod file_id;
pub(in crate::store) mod files;
pub(super) mod frozen;
mod journal;
mod lock;
pub(in crate::store) mod mark;
pub(in crate::store) mod note;
pub(in crate::store) mod place;

pub use lock::DaemonLock;
pub(in crate::store) use lock::{Taken, lock};

/// `topu`: what the header of each of our databases says that it is.
pub(in crate::store) const APPLICATION_ID: u32 = 0x746f_7075;

/// How long a writer waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
/// Rows in one bulk statement, largest first; what is left is done with the next size. Few sizes,
/// so that each is prepared once. More rows at once gain nothing: the time goes into the trees.
const CHUNKS: [usize; 3] = [64, 8, 1];

/// Rows that wait to be taken from the thread that reads them, which else stops at every few.
const ROWS: usize = 512;
/// To so many bytes a `-wal` file is cut that grew beyond, because somebody read for long.
const WAL_MAX: &str = "67108864";
/// Longest time for looking through a file that was saved.
const CHECK_MAX: Duration = Duration::from_secs(30);
/// Statements kept prepared: more than this program has.
const STATEMENTS: usize = 256;

pub(super) type Statement = SqlxQuery<'static, Sqlite, SqliteArguments>;

/// Opens a file that is there, `real`; the operator calls it `path`. One that we may not write can be read.
pub(in crate::store) async fn open(path: &Path, real: &Path) -> sqlx::Result<Db> {
    if may_only_read(real) {
        return open_to_read(real, None).await;
    }
    close_to_others(real);
    let options = options(real)?.journal_mode(SqliteJournalMode::Wal);
    let files = Some(Arc::new(Files::of(path, real)?));
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT.saturating_add(ACQUIRE_MAX))
        .connect_with(options.clone())
        .await?;
    let reader = readers().connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Db::Sqlite { writer, reader, frozen: None, files, only_read: None })
}

/// A file in which a new database is made before it gets its name: without a `-wal` file, so that what is
/// committed is in it.
pub(in crate::store) fn open_new(path: &Path) -> sqlx::Result<Db> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options(path)?);
    Ok(Db::Sqlite {
        reader: pool.clone(),
        writer: pool,
        frozen: None,
        files: None,
        only_read: None,
    })
}

/// A connection of its own, which keeps the database open, and its `-wal` file the same.
pub(in crate::store) async fn keep_open(real: &Path) -> sqlx::Result<SqliteConnection> {
    let mut conn = options(real)?.connect().await?;
    // It is open once something was read.
    sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(&mut conn).await?;
    Ok(conn)
}

/// The end of the ledger: how many records there are, and the seal of the one that was written last.
pub(in crate::store) async fn head(conn: &mut SqliteConnection) -> sqlx::Result<(i64, Vec<u8>)> {
    let newest = "SELECT rowid, seal FROM records ORDER BY rowid DESC LIMIT 1";
    let found = sqlx::query_as(newest).fetch_optional(conn).await?;
    Ok(found.unwrap_or_default())
}

/// Whether a file can be read by whoever opens it next, alone, and ends as it should.
///
/// # Errors
/// A sentence on why not.
pub(in crate::store) async fn is_whole(path: &Path, wanted: &(i64, Vec<u8>)) -> Result<(), String> {
    let look = async {
        let mut conn = options(path)?.read_only(true).immutable(true).connect().await?;
        let found = async {
            let found = head(&mut conn).await?;
            // A large one is not read to its end: whoever starts it again waits for this.
            let check = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
            let check = tokio::time::timeout(CHECK_MAX, check.fetch_one(&mut conn)).await;
            Ok((found, check.unwrap_or_else(|_| Ok("ok".into()))?))
        }
        .await;
        drop(conn.close().await);
        found
    };
    match look.await {
        Ok((found, check)) if found == *wanted && check == "ok" => Ok(()),
        Ok((_, check)) if check != "ok" => Err(format!("it is damaged: {check}")),
        Ok(_) => Err("its ledger ends otherwise".into()),
        Err(error) => Err(explain(&error)),
    }
}

/// The number of tables in a file that nobody has open.
pub(in crate::store) async fn count_tables(path: &Path) -> sqlx::Result<(i64, i64)> {
    let mut conn = options(path)?.read_only(true).immutable(true).connect().await?;
    let sql = "SELECT COUNT(*), COALESCE(SUM(name IN ('_sqlx_migrations', 'installation')), 0)
               FROM sqlite_master WHERE type = 'table'";
    let found = sqlx::query_as(sql).fetch_one(&mut conn).await;
    conn.close().await?;
    found
}

/// A file in which nothing is yet becomes what a new one is: its user's alone, and so the files beside it. Where
/// that is not allowed, whoever opened it is warned as of any other file.
fn close_to_others(path: &Path) {
    #[cfg(unix)]
    if path.metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
        let alone = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        drop(std::fs::set_permissions(path, alone));
    }
}

/// Whether SQLite cannot write here: not the file, or not the files that it keeps beside it.
fn may_only_read(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let may_write = |path: &Path| access(path, Access::WRITE_OK).is_ok();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let beside_it = || ["-wal", "-shm"].iter().all(|end| may_write(&beside(path, end)));
        path.exists()
            && !(may_write(path) && (may_write(folder.unwrap_or(Path::new("."))) || beside_it()))
    }
    #[cfg(not(unix))]
    {
        path.metadata().is_ok_and(|file| file.permissions().readonly())
    }
}

/// Opens a file that is not to be written. While somebody has it open, or after a crash, what was
/// committed last is in the `-wal` file, and the `-shm` file is needed to find it there.
/// `why` it is not to be written, where it could be.
pub(in crate::store) async fn open_to_read(path: &Path, why: Option<Arc<str>>) -> sqlx::Result<Db> {
    let (wal, shm) = (beside(path, "-wal"), beside(path, "-shm"));
    let frozen = if shm.exists() || beside(path, "-journal").exists() {
        None
    } else if wal.metadata().is_ok_and(|file| file.len() > 0) {
        return Err(sqlx::Error::Io(io::Error::other(format!(
            "it cannot be written from here, and what was committed last is in {}, which cannot be read without {}: copy the database and its -wal file to a folder that you may write, and read them there",
            wal.display(),
            shm.display()
        ))));
    } else {
        Some(Arc::new(Frozen::of(path)?))
    };
    let options = options(path)?.read_only(true).immutable(frozen.is_some());
    let reader = readers().connect_lazy_with(options.clone());
    sqlx::query("SELECT COUNT(*) FROM sqlite_master").execute(&reader).await.map_err(|e| {
        sqlx::Error::Io(io::Error::other(format!(
            "{}; to read a database that you may not write, you need the right to read it and the files {} and {}",
            explain(&e),
            wal.display(),
            shm.display()
        )))
    })?;
    // Whoever wants to write is told by SQLite that it is read-only.
    let writer = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
    Ok(Db::Sqlite { writer, reader, frozen, files: None, only_read: why })
}

fn readers() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(BUSY_TIMEOUT.saturating_add(ACQUIRE_MAX))
}

fn options(path: &Path) -> sqlx::Result<SqliteConnectOptions> {
    Ok(SqliteConnectOptions::from_str("sqlite://")?
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS)
        // The keys are hashes, so each row goes to another page: the default of 2 MiB holds too few
        // of them in catch-up.
        .pragma("cache_size", "-16000")
        // A commit dirties many pages: with the default, nearly each one would end in a checkpoint.
        .pragma("wal_autocheckpoint", "8000")
        .pragma("journal_size_limit", WAL_MAX)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROWS))
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
        // A cross join is done in the order it is written in: left to itself, the planner reads the whole
        // of the other table once for each few rows.
        let text = sql
            .replace("{each}", "({rows}) AS r CROSS")
            .replace("{rows}", &values)
            .replace("{keys}", &format!("IN ({values})"));
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

#[cfg(test)]
mod plans;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::query::query;
    use crate::store::db::sqlite::codes::is_read_only;

    #[tokio::test]
    async fn what_is_read_while_somebody_else_writes_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.db");
        let one = async |db: &Db| {
            let found = query("SELECT COUNT(*) AS n FROM t").fetch_one(db).await;
            let found = found.map_err(|failed| failed.source)?;
            found.int("t", "n").map_err(|e| sqlx::Error::Decode(e.to_string().into()))
        };
        let open = || open(&path, &path);
        std::fs::File::create(&path).unwrap();
        let owner = open().await.unwrap();
        query("CREATE TABLE t (n INTEGER)").execute(&owner).await.unwrap();
        // While it is open, what was committed is read through the owner's files.
        let beside_it = open_to_read(&path, None).await.unwrap();
        assert_eq!(one(&beside_it).await.unwrap(), 0);
        query("INSERT INTO t VALUES (1)").execute(&owner).await.unwrap();
        assert_eq!(one(&beside_it).await.unwrap(), 1);
        let refused = query("INSERT INTO t VALUES (2)").execute(&beside_it).await.unwrap_err();
        assert!(is_read_only(&refused.source.as_database_error().unwrap().code().unwrap()));
        beside_it.close().await;
        owner.close().await;

        let alone = open_to_read(&path, None).await.unwrap();
        assert!(matches!(&alone, Db::Sqlite { frozen: Some(_), .. }));
        assert_eq!(one(&alone).await.unwrap(), 1);
        let mut tx = alone.begin_read().await.unwrap();
        query("SELECT n FROM t").fetch_all(&mut tx).await.unwrap();
        let owner = open().await.unwrap();
        query("INSERT INTO t VALUES (3)").execute(&owner).await.unwrap();
        for end in ["while it is open", "and after it was closed"] {
            let text = one(&alone).await.unwrap_err().to_string();
            assert!(text.contains("run the command again"), "{end}: {text}");
            owner.close().await;
        }
        let failed = query("SELECT n FROM t").fetch_all(&mut tx).await.unwrap_err();
        let text = crate::store::StoreError::from(failed).to_string();
        assert!(text.contains("run the command again"), "{text}");
        drop(tx);
        alone.close().await;
    }
}
