//! Opening a database: pools, pragmas, migrations, the network stamp, the single-daemon lock.
//!
//! SQLite runs with WAL and `synchronous = FULL`: a commit that was answered survives a power cut.
//! One connection writes, always with `BEGIN IMMEDIATE` (a deferred transaction that reads first
//! fails with SQLITE_BUSY_SNAPSHOT, which no timeout cures); a few read.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row, SqlSafeStr, Sqlite, SqlitePool, Transaction};

use super::rows::Cells;
use crate::domain::deposit::IllegalTransition;
use crate::domain::ids::Network;
use crate::domain::ledger::genesis;

/// How long a writer waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// Why the store could not do something, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error: wait and try again, or look at the disk.
    #[error("database failed to {doing}: {source}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// The file cannot be opened at all.
    #[error("cannot open the database {path}: {why}")]
    Open {
        /// Which.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A stored value is not one we write.
    #[error("column {column} of {table} holds a value that topupd does not write: {why}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// What is wrong with it.
        why: String,
    },
    /// The database belongs to the other network.
    #[error(
        "the database {path} was created for {stamped}, the configuration says {wanted}: a database never changes its network; point database.url to another file"
    )]
    OtherNetwork {
        /// Which database.
        path: String,
        /// What it is stamped with.
        stamped: Network,
        /// What was asked.
        wanted: Network,
    },
    /// The database was written by a newer topupd.
    #[error(
        "the database {path} has schema version {found}, this topupd knows up to {known}: use the newer topupd; nothing was changed"
    )]
    Newer {
        /// Which database.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another daemon runs on this file.
    #[error("another topupd daemon is running on {path} (its lock file is held)")]
    Locked {
        /// Which database.
        path: String,
    },
    /// A stored epoch differs from the configured one.
    #[error(
        "epoch {id:?} was stored as {stored} and is now configured as {configured}: epochs are append-only, add a new one instead"
    )]
    EpochChanged {
        /// Its id.
        id: String,
        /// Stored text.
        stored: String,
        /// Configured text.
        configured: String,
    },
    /// What was asked cannot be done; the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// A row stands in a stage that the event does not fit: a bug of ours or a changed row.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

impl StoreError {
    /// For `map_err`: names what was being done.
    pub(super) fn doing(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}

/// A database of one network.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) writer: SqlitePool,
    pub(super) reader: SqlitePool,
    pub(super) network: Network,
    path: PathBuf,
}

pub(super) type Tx = Transaction<'static, Sqlite>;

/// The migrations, compiled in. A version once released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "spine", include_str!("../../migrations/sqlite/0001_spine.sql"))];

impl Store {
    /// Opens or creates the database at `url` (`sqlite:PATH`), brings its schema up to date and
    /// stamps or checks its network.
    ///
    /// # Errors
    /// See [`StoreError`]; a database that is refused is left as it was.
    pub async fn open(url: &str, network: Network, now_ms: i64) -> Result<Self, StoreError> {
        Self::open_path(sqlite_path(url)?, network, now_ms).await
    }

    /// Like [`Store::open`], for those who only read: a database that is not there is a mistyped
    /// path, and an empty one would verify.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_existing(
        url: &str,
        network: Network,
        now_ms: i64,
    ) -> Result<Self, StoreError> {
        let path = sqlite_path(url)?;
        if !path.is_file() {
            return Err(StoreError::Open {
                path: path.display().to_string(),
                why: "there is no such file; `topupd run` and `topupd namespace add` create it"
                    .into(),
            });
        }
        Self::open_path(path, network, now_ms).await
    }

    async fn open_path(path: PathBuf, network: Network, now_ms: i64) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let open_error =
            |e: sqlx::Error| StoreError::Open { path: shown.clone(), why: e.to_string() };
        let options = SqliteConnectOptions::from_str("sqlite://")
            .map_err(open_error)?
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(open_error)?;
        if has_table(&writer, "_sqlx_migrations").await? {
            refuse_newer(&writer, &shown).await?;
        }
        if has_table(&writer, "installation").await? {
            refuse_other_network(&writer, &shown, network).await?;
        }
        migrate(&writer, &shown).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.create_if_missing(false).pragma("query_only", "ON"))
            .await
            .map_err(open_error)?;
        let store = Self { writer, reader, network, path };
        store.stamp(now_ms).await?;
        Ok(store)
    }

    /// Takes the lock that only one daemon may hold on a SQLite file. Held until the file drops,
    /// also when the process is killed: the operating system releases it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is held.
    pub fn lock_for_daemon(&self) -> Result<File, StoreError> {
        let mut name = self.path.clone().into_os_string();
        name.push(".lock");
        let shown = self.path.display().to_string();
        let open = |e: std::io::Error| StoreError::Open { path: shown.clone(), why: e.to_string() };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(PathBuf::from(name))
            .map_err(open)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: shown }),
            Err(TryLockError::Error(e)) => Err(open(e)),
        }
    }

    /// Begins a writing transaction. It is the only one until it ends.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(StoreError::doing("begin a transaction"))
    }

    pub(super) async fn commit(tx: Tx) -> Result<(), StoreError> {
        tx.commit().await.map_err(StoreError::doing("commit"))
    }

    /// Finishes what is under way and closes the files.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Writes the stamp and the ledger's genesis into a new database.
    async fn stamp(&self, now_ms: i64) -> Result<(), StoreError> {
        const DOING: &str = "stamp the database";
        let stamped = sqlx::query("SELECT 1 FROM installation, ledger_head")
            .fetch_optional(&self.reader)
            .await
            .map_err(StoreError::doing(DOING))?;
        if stamped.is_some() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO installation (only_row, network, created_at_ms) VALUES (1, $1, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(self.network.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
        sqlx::query(
            "INSERT INTO ledger_head (only_row, seq, hash) VALUES (1, 0, $1)
             ON CONFLICT DO NOTHING",
        )
        .bind(genesis(self.network).to_vec())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
        Self::commit(tx).await?;
        // Somebody else may have stamped it first, for the other network.
        refuse_other_network(&self.reader, &self.path.display().to_string(), self.network).await
    }
}

/// `sqlite:PATH`, `sqlite://PATH`: a file, never memory, because money must survive.
fn sqlite_path(url: &str) -> Result<PathBuf, StoreError> {
    let path = url
        .strip_prefix("sqlite://")
        .or_else(|| url.strip_prefix("sqlite:"))
        .filter(|path| !path.is_empty() && !path.starts_with(':') && !path.contains('?'));
    path.map(PathBuf::from).ok_or_else(|| {
        StoreError::Refused("database.url must be sqlite:PATH, with PATH a file".into())
    })
}

async fn has_table(pool: &SqlitePool, name: &str) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1")
        .bind(name)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::doing("read the schema"))?;
    Ok(found.is_some())
}

async fn refuse_newer(pool: &SqlitePool, path: &str) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0);
    let found: Option<i64> = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(pool)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::doing("read the schema version"))?;
    match found {
        Some(found) if found > known => {
            Err(StoreError::Newer { path: path.to_owned(), found, known })
        }
        _ => Ok(()),
    }
}

async fn refuse_other_network(
    pool: &SqlitePool,
    path: &str,
    wanted: Network,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT network FROM installation")
        .fetch_optional(pool)
        .await
        .map_err(StoreError::doing("read the network stamp"))?;
    let Some(row) = row else { return Ok(()) };
    let stamped: Network = row.parsed("installation", "network")?;
    if stamped == wanted {
        Ok(())
    } else {
        Err(StoreError::OtherNetwork { path: path.to_owned(), stamped, wanted })
    }
}

async fn migrate(pool: &SqlitePool, path: &str) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, name, sql)| {
            let sql = AssertSqlSafe((*sql).to_owned()).into_sql_str();
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
        })
        .collect();
    Migrator::with_migrations(migrations).run(pool).await.map_err(|e| StoreError::Open {
        path: path.to_owned(),
        why: format!("its schema cannot be brought up to date: {e}"),
    })
}

/// For tests and tools that look at the file itself.
impl AsRef<Path> for Store {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
