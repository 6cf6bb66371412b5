//! The seam between statements and engines: one SQL text, two native sqlx pools.
//!
//! A statement is written once, with `$n` placeholders and the types that both engines have: 64-bit
//! integers, bytes and text. What differs is here and in the two files beside this one: how a
//! connection is made, how a writer takes its lock, how many rows go into one statement, and what
//! an error means. It knows no table.

mod after;
mod answer;
mod bulk;
pub(super) mod error_text;
pub(super) mod failure;
pub(super) mod pools;
pub(super) mod postgres;
pub(super) mod query;
mod server;
pub(super) mod sqlite;
mod url;
mod value;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Database, Postgres, SqlSafeStr, SqlStr, Sqlite};

use crate::planted::dies;
use crate::store::db::answer::{ANSWER_MAX, answered};
use crate::store::db::failure::{DbError, DbResult};
use crate::store::db::pools::Db;
use crate::store::db::query::{Lock, Query};
use after::After;

pub(super) use crate::store::db::error_text::is_sqlite;
pub(super) use bulk::{Bulk, bulk, bulk_text, execute_at_once};
pub use server::Again;
pub(super) use server::{PgSettings, Server};
pub use sqlite::DaemonLock;
pub use url::DatabaseUrl;
pub(super) use value::{Row, Value};

/// The same for one statement over a whole table.
const WHOLE_TABLE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// An open transaction. Dropped without [`Tx::commit`], it changes nothing.
#[derive(Debug)]
pub(super) enum Tx {
    Sqlite(Held<Sqlite>),
    Postgres(Held<Postgres>),
}

/// A connection in a transaction. One that is left in doubt is closed rather than returned: a pool
/// would wait for the answer of a server that gives none, and after a failed COMMIT the library
/// takes SQLite to be in a transaction for ever.
#[derive(Debug)]
pub(super) struct Held<D: Database> {
    conn: PoolConnection<D>,
    open: bool,
    /// Longest wait for an answer of a server.
    patience: Duration,
    /// Statements stay prepared on it, each with a name.
    is_own: bool,
    frozen: Option<Arc<sqlite::frozen::Frozen>>,
    files: Option<Arc<sqlite::files::Files>>,
    /// Done when it is committed.
    after: After,
}

impl<D: Database> Held<D> {
    fn of(conn: PoolConnection<D>) -> Self {
        let patience = ANSWER_MAX;
        let (frozen, files, after) = (None, None, After::default());
        Self { conn, open: true, patience, is_own: true, frozen, files, after }
    }
}

impl Held<Postgres> {
    async fn begin(server: &Server, how: &'static str) -> sqlx::Result<Self> {
        let mut held = Self::of(server.acquire().await?);
        held.is_own = !server.is_pooled();
        held.command(&server.begin(how)).await?;
        Ok(held)
    }

    async fn command(&mut self, sql: &str) -> sqlx::Result<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        answered(self.patience, sql.execute(&mut *self.conn)).await.map(drop)
    }

    async fn execute(&mut self, query: Query) -> sqlx::Result<u64> {
        let query = query.for_postgres(self.is_own)?;
        let done = answered(self.patience, query.execute(&mut *self.conn)).await?;
        Ok(done.rows_affected())
    }

    async fn fetch_all(&mut self, query: Query) -> sqlx::Result<Vec<Row>> {
        let query = query.for_postgres(self.is_own)?;
        answered(self.patience, query.fetch_all(&mut *self.conn)).await.map(rows)
    }

    /// Ends the transaction of one statement. One that failed with an answer leaves the connection as it was.
    async fn end_after<T>(mut self, done: sqlx::Result<T>) -> sqlx::Result<T> {
        let how = match &done {
            Ok(_) => "COMMIT",
            Err(sqlx::Error::Database(_)) => "ROLLBACK",
            Err(_) => return done,
        };
        self.command(how).await?;
        self.open = false;
        done
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        if self.open {
            self.conn.close_on_drop();
        }
    }
}

impl Db {
    /// Begins a transaction that writes. On SQLite it is the only one until it ends; on PostgreSQL
    /// it sees what is committed, and takes the rows it decides on with [`Query::locked`].
    pub(super) async fn begin_write(&self) -> DbResult<Tx> {
        self.begun_to_write().await.map_err(DbError::doing("begin a transaction"))
    }

    async fn begun_to_write(&self) -> sqlx::Result<Tx> {
        match self {
            // A deferred transaction that reads first fails with SQLITE_BUSY_SNAPSHOT, which no
            // timeout cures.
            Self::Sqlite { writer, files, only_read, .. } => {
                may_write(only_read.as_deref())?;
                there(files.as_deref())?;
                let mut held = Held::of(writer.acquire().await?);
                held.files.clone_from(files);
                Tx::Sqlite(held).begin("BEGIN IMMEDIATE").await
            }
            Self::Postgres(server) => Ok(Tx::Postgres(Held::begin(server, "BEGIN").await?)),
        }
    }

    /// Begins a transaction that sees one snapshot and writes nothing.
    pub(super) async fn begin_read(&self) -> DbResult<Tx> {
        self.begun_to_read().await.map_err(DbError::doing("begin to read"))
    }

    async fn begun_to_read(&self) -> sqlx::Result<Tx> {
        const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match self {
            Self::Sqlite { reader, frozen, files, .. } => {
                there(files.as_deref())?;
                let mut held = Held::of(reader.acquire().await?);
                held.frozen.clone_from(frozen);
                held.files.clone_from(files);
                Tx::Sqlite(held).begin("BEGIN").await
            }
            Self::Postgres(server) => Ok(Tx::Postgres(Held::begin(server, SNAPSHOT).await?)),
        }
    }

    /// That of a daemon which was killed. SQLite only.
    pub(super) async fn take_away_left_mark(&self) {
        if let Self::Sqlite { writer, files: Some(files), .. } = self
            && files.lost().is_none()
        {
            sqlite::mark::take_away_left(writer, files.real()).await;
        }
    }

    pub(super) async fn close(&self) {
        // A daemon may have been killed meanwhile; then this may be the last that has the file open.
        self.take_away_left_mark().await;
        match self {
            Self::Sqlite { writer, reader, .. } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(server) => server.close().await,
        }
    }
}

impl Tx {
    async fn begin(mut self, how: &'static str) -> sqlx::Result<Self> {
        self.command(how).await?;
        Ok(self)
    }

    pub(super) async fn commit(mut self) -> DbResult<()> {
        let after = std::mem::take(self.after());
        // PostgreSQL answers COMMIT of a failed transaction with ROLLBACK and no error; a failed
        // statement has left the caller long before this.
        self.end("COMMIT").await.map_err(DbError::doing("commit"))?;
        after.happens();
        Ok(())
    }

    /// Does something once it is committed, and never if it is not.
    pub(super) fn after_commit(&mut self, does: impl FnOnce() + Send + 'static) {
        self.after().add(does);
    }

    fn after(&mut self) -> &mut After {
        match self {
            Self::Sqlite(held) => &mut held.after,
            Self::Postgres(held) => &mut held.after,
        }
    }

    /// Ends the transaction without a change, and keeps its connection.
    pub(super) async fn abandon(self) -> DbResult<()> {
        self.end("ROLLBACK").await.map_err(DbError::doing("roll back"))
    }

    /// True when nobody else can write until this transaction ends, and no row need be taken.
    pub(super) fn writes_alone(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// For work on whole tables: no statement and no pause of this transaction is too long.
    pub(super) async fn take_time(&mut self) -> DbResult<()> {
        if let Self::Postgres(held) = self {
            held.patience = WHOLE_TABLE_MAX;
            self.command(
                "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on;
                 SET LOCAL idle_in_transaction_session_timeout = 0",
            )
            .await
            .map_err(DbError::doing("take its time"))?;
        }
        Ok(())
    }

    /// Rows that somebody else holds are not waited for longer than a second.
    pub(super) async fn hurry(&mut self) -> DbResult<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => self
                .command("SET LOCAL lock_timeout = 1000")
                .await
                .map_err(DbError::doing("wait for a second")),
        }
    }

    async fn end(mut self, how: &'static str) -> sqlx::Result<()> {
        self.command(how).await?;
        match &mut self {
            Self::Sqlite(held) => held.open = false,
            Self::Postgres(held) => held.open = false,
        }
        Ok(())
    }

    async fn command(&mut self, sql: &'static str) -> sqlx::Result<()> {
        lives()?;
        match self {
            Self::Sqlite(held) => {
                let done = sqlx::raw_sql(sql).execute(&mut *held.conn).await;
                noted(held.files.as_deref(), done)?;
            }
            Self::Postgres(held) => held.command(sql).await?,
        }
        Ok(())
    }
}

/// Where a statement runs.
pub(super) enum On<'a> {
    Pool(&'a Db),
    Tx(&'a mut Tx),
}

impl<'a> From<&'a Db> for On<'a> {
    fn from(db: &'a Db) -> Self {
        Self::Pool(db)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

impl Lock {
    const fn clause(self) -> &'static str {
        match self {
            Self::Update => " FOR UPDATE",
            Self::NoKeyUpdate => " FOR NO KEY UPDATE",
            Self::NoKeyUpdateOfFree => " FOR NO KEY UPDATE SKIP LOCKED",
            Self::Share => " FOR SHARE",
        }
    }
}

impl Query {
    pub(super) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Takes the rows that the SELECT finds.
    pub(super) fn locked(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    fn for_sqlite(self) -> sqlx::Result<sqlite::Statement> {
        Ok(sqlx::query_with(self.sql, value::sqlite_arguments(self.args)?))
    }

    fn for_postgres(self, stays_prepared: bool) -> sqlx::Result<postgres::Statement> {
        let sql = match self.lock {
            None => self.sql,
            Some(lock) => with(&self.sql, lock.clause()),
        };
        let statement = sqlx::query_with(sql, value::postgres_arguments(self.args)?);
        Ok(statement.persistent(stays_prepared))
    }

    /// Runs it; the number of rows it changed.
    pub(super) async fn execute(self, on: impl Into<On<'_>>) -> DbResult<u64> {
        let sql = self.sql.clone();
        Box::pin(self.executed(on)).await.map_err(DbError::at(sql.as_str()))
    }

    /// On the heap for whoever waits: a future has those in it that it waits for, and one that commits asks for many
    /// statements.
    async fn executed(self, on: impl Into<On<'_>>) -> sqlx::Result<u64> {
        Ok(match on.into() {
            On::Pool(Db::Sqlite { writer, files, only_read, .. }) => {
                may_write(only_read.as_deref())?;
                there(files.as_deref())?;
                noted(files.as_deref(), self.for_sqlite()?.execute(writer).await)?.rows_affected()
            }
            On::Tx(_) if dies() => return Err(killed()),
            On::Tx(Tx::Sqlite(tx)) => {
                let done = self.for_sqlite()?.execute(&mut *tx.conn).await;
                noted(tx.files.as_deref(), done)?.rows_affected()
            }
            On::Pool(Db::Postgres(server)) if server.is_pooled() => {
                let mut alone = Held::begin(server, "BEGIN").await?;
                let done = alone.execute(self).await;
                alone.end_after(done).await?
            }
            On::Pool(Db::Postgres(server)) => {
                let mut conn = server.acquire().await?;
                let done = answered(ANSWER_MAX, self.for_postgres(true)?.execute(&mut *conn)).await;
                returned(conn, done)?.rows_affected()
            }
            On::Tx(Tx::Postgres(tx)) => tx.execute(self).await?,
        })
    }

    /// All rows.
    pub(super) async fn fetch_all(self, on: impl Into<On<'_>>) -> DbResult<Vec<Row>> {
        let sql = self.sql.clone();
        Box::pin(self.fetched(on)).await.map_err(DbError::at(sql.as_str()))
    }

    async fn fetched(self, on: impl Into<On<'_>>) -> sqlx::Result<Vec<Row>> {
        Ok(match on.into() {
            On::Pool(Db::Sqlite { reader, frozen, files, .. }) => {
                there(files.as_deref())?;
                let found = noted(files.as_deref(), self.for_sqlite()?.fetch_all(reader).await);
                still(frozen.as_deref())?;
                rows(found?)
            }
            On::Tx(_) if dies() => return Err(killed()),
            On::Tx(Tx::Sqlite(tx)) => {
                let found = self.for_sqlite()?.fetch_all(&mut *tx.conn).await;
                let found = noted(tx.files.as_deref(), found);
                still(tx.frozen.as_deref())?;
                rows(found?)
            }
            On::Pool(Db::Postgres(server)) if server.is_pooled() => {
                let mut alone = Held::begin(server, "BEGIN").await?;
                let found = alone.fetch_all(self).await;
                alone.end_after(found).await?
            }
            On::Pool(Db::Postgres(server)) => {
                let mut conn = server.acquire().await?;
                let found =
                    answered(ANSWER_MAX, self.for_postgres(true)?.fetch_all(&mut *conn)).await;
                rows(returned(conn, found)?)
            }
            On::Tx(Tx::Postgres(tx)) => tx.fetch_all(self).await?,
        })
    }

    /// The first row, if there is one. Only for statements that find one at most.
    pub(super) async fn fetch_optional(self, on: impl Into<On<'_>>) -> DbResult<Option<Row>> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// The one row that must be there.
    pub(super) async fn fetch_one(self, on: impl Into<On<'_>>) -> DbResult<Row> {
        let sql = self.sql.clone();
        let found = Box::pin(self.fetched(on))
            .await
            .and_then(|rows| rows.into_iter().next().ok_or(sqlx::Error::RowNotFound));
        found.map_err(DbError::at(sql.as_str()))
    }
}

fn with(sql: &SqlStr, clause: &'static str) -> SqlStr {
    // Two constants of this program, and nothing else.
    AssertSqlSafe(format!("{}{clause}", sql.as_str())).into_sql_str()
}

/// A test may have the process die before any statement of a transaction.
fn lives() -> sqlx::Result<()> {
    if dies() { Err(killed()) } else { Ok(()) }
}

fn killed() -> sqlx::Error {
    sqlx::Error::Protocol("killed before a statement, as planted".into())
}

fn still(frozen: Option<&sqlite::frozen::Frozen>) -> sqlx::Result<()> {
    frozen.map_or(Ok(()), sqlite::frozen::Frozen::is_still)
}

/// Before a connection is taken: a new one would open what lies there now.
fn there(files: Option<&sqlite::files::Files>) -> sqlx::Result<()> {
    files.map_or(Ok(()), sqlite::files::Files::are_there)
}

fn may_write(only_read: Option<&str>) -> sqlx::Result<()> {
    only_read.map_or(Ok(()), |why| {
        Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::ReadOnlyFilesystem, why)))
    })
}

/// A file that is damaged while it is kept open is lost; one that is shorter than it was is looked at.
fn noted<T>(files: Option<&sqlite::files::Files>, done: sqlx::Result<T>) -> sqlx::Result<T> {
    if let (Some(files), Err(sqlx::Error::Database(error))) = (files, &done)
        && let Some(code) = error.code()
    {
        if sqlite::codes::is_damaged(&code) {
            files.damaged(format!("{} is damaged ({})", files.name().display(), error.message()));
        } else if sqlite::codes::is_short(&code) {
            files.doubt();
        }
    }
    done
}

fn rows<R: Into<Row>>(rows: Vec<R>) -> Vec<Row> {
    rows.into_iter().map(Into::into).collect()
}

/// Closes a connection whose last answer is unknown, or whose session is not its own, instead of returning it to the pool.
fn returned<T>(mut conn: PoolConnection<Postgres>, answer: sqlx::Result<T>) -> sqlx::Result<T> {
    if let Err(error) = &answer
        && error
            .as_database_error()
            .is_none_or(|e| e.code().is_some_and(|code| postgres::is_shared(&code)))
    {
        conn.close_on_drop();
    }
    answer
}
