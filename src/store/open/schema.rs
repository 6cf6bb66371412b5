//! The schema: whether a database has this build's, and giving it to a new one.
//!
//! It is one file an engine, in `migrations/`. Until the first release that file is edited in place: its
//! checksum, which is stored with it, says whether a database was made by this build. No step brings a
//! database of another build over; it is refused and left as it was. What the columns and checks of its tables are, is
//! not looked at; whether all tables, indexes and triggers are there, is said to who asks.

use std::collections::BTreeSet;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, SqlSafeStr};

use crate::store::db::error_text::explain;
use crate::store::db::pools::Db;
use crate::store::db::query::query;
use crate::store::db::sqlite;
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// The number of the schema, stored with its checksum. The first change after the first release is 2.
const VERSION: i64 = 1;
const SQLITE: &str = include_str!("../../../migrations/sqlite/0001_init.sql");
const POSTGRES: &str = include_str!("../../../migrations/postgres/0001_init.sql");

/// A stored version and the checksum of its text.
type Applied = (i64, Vec<u8>);

/// What the stored versions of a database say of its schema.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// There are none.
    NoTables,
    /// It is this build's.
    Current,
    /// It is this build's and more: a later release has changed it.
    Newer(i64),
    /// Another build's, before the first release: the newest of its versions.
    OtherBuild(String),
}

impl Standing {
    /// `applied` in ascending order.
    fn of(applied: &[Applied], ours: &[u8]) -> Self {
        match applied {
            [] => Self::NoTables,
            [(VERSION, sum)] if sum == ours => Self::Current,
            [(VERSION, sum), .., (newest, _)] if sum == ours => Self::Newer(*newest),
            [.., (version, sum)] => Self::OtherBuild(shown(*version, sum)),
        }
    }
}

/// As people compare it: 1 (9f86d081).
fn shown(version: i64, checksum: &[u8]) -> String {
    let start: String = checksum.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{version} ({start})")
}

/// What a schema creates that has a name of its own.
fn named_in(schema: &str) -> impl Iterator<Item = &str> {
    schema.lines().filter_map(|line| {
        let mut words = line.strip_prefix("CREATE ")?.split_whitespace();
        let kind = words.by_ref().find(|word| *word != "UNIQUE")?;
        let name = words.next()?.split('(').next()?;
        ["TABLE", "INDEX", "TRIGGER"].contains(&kind).then_some(name)
    })
}

impl Store {
    /// This build's schema for this engine.
    fn schema(&self) -> Migration {
        let sql = match &self.db {
            Db::Sqlite { .. } => SQLITE,
            Db::Postgres(_) => POSTGRES,
        };
        let sql = AssertSqlSafe(sql.to_owned()).into_sql_str();
        Migration::new(VERSION, "init".into(), MigrationType::Simple, sql, false)
    }

    /// True when the database has this build's schema, false when it has none of our tables.
    ///
    /// # Errors
    /// [`StoreError::OtherBuild`] and [`StoreError::Newer`] for any other schema of ours.
    pub(in crate::store) async fn has_schema(&self) -> Result<bool, StoreError> {
        let ours = self.schema().checksum;
        match Standing::of(&self.applied().await?, &ours) {
            Standing::NoTables => Ok(false),
            Standing::Current => Ok(true),
            Standing::Newer(found) => {
                Err(StoreError::Newer { path: self.shown(), found, known: VERSION })
            }
            Standing::OtherBuild(found) => {
                let known = shown(VERSION, &ours);
                Err(StoreError::OtherBuild { path: self.shown(), found, known })
            }
        }
    }

    /// The versions that are stored, in ascending order; none in a database without our tables.
    async fn applied(&self) -> Result<Vec<Applied>, StoreError> {
        const TABLE: &str = "_sqlx_migrations";
        let tables = match &self.db {
            Db::Sqlite { .. } => {
                "SELECT COUNT(*) AS tables FROM sqlite_master
                 WHERE type = 'table' AND name IN ('_sqlx_migrations', 'installation')"
            }
            Db::Postgres(_) => {
                "SELECT COUNT(*) AS tables FROM pg_tables
                 WHERE schemaname = current_schema() AND tablename IN ('_sqlx_migrations', 'installation')"
            }
        };
        let tables = query(tables).fetch_one(&self.db).await?;
        // Other programs have a table of that name too.
        if tables.int(TABLE, "tables")? < 2 {
            return Ok(Vec::new());
        }
        let rows = query("SELECT version, checksum FROM _sqlx_migrations ORDER BY version");
        let rows = rows.fetch_all(&self.db).await?;
        rows.iter()
            .map(|row| Ok((row.int(TABLE, "version")?, row.bytes(TABLE, "checksum")?)))
            .collect()
    }

    /// The tables, indexes and triggers of this build's schema that are not there, or are switched off: whoever took them
    /// away can change what is written for ever, or write twice what must be there once.
    pub async fn missing_of_schema(&self) -> Result<Vec<String>, StoreError> {
        let (schema, there) = match &self.db {
            Db::Sqlite { .. } => (SQLITE, "SELECT name FROM sqlite_master"),
            Db::Postgres(_) => (
                POSTGRES,
                "SELECT CAST(relname AS TEXT) AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace
                 UNION ALL
                 SELECT CAST(t.tgname AS TEXT) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 WHERE c.relnamespace = current_schema()::regnamespace AND t.tgenabled <> 'D'",
            ),
        };
        let rows = query(there).fetch_all(&self.db).await;
        let rows = rows?;
        let there: BTreeSet<String> =
            rows.iter().map(|row| row.text("schema", "name")).collect::<Result<_, _>>()?;
        Ok(named_in(schema).filter(|name| !there.contains(*name)).map(str::to_owned).collect())
    }

    /// Creates the tables of a database that has none, under a lock. True when it did, or somebody else
    /// did meanwhile; false when they were there.
    ///
    /// # Errors
    /// As [`Store::open`] for another schema, and when a statement fails; the database is as it was then.
    pub async fn migrate(&self) -> Result<bool, StoreError> {
        if self.has_schema().await? {
            return Ok(false);
        }
        let mut migrator = Migrator::with_migrations(vec![self.schema()]);
        let failed = |e: MigrateError| {
            let why = match e {
                MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                    let why = explain(&source);
                    let error = StoreError::Database { doing: "create the tables".into(), source };
                    // Such a database is waited for, or named; its schema has no fault.
                    if error.is_unavailable() {
                        return error;
                    }
                    why
                }
                other => other.to_string(),
            };
            let why = format!("its tables cannot be created: {why}");
            StoreError::Open { path: self.shown(), why }
        };
        match &self.db {
            // In one transaction, which no other process can be in.
            Db::Sqlite { writer, .. } => {
                let mut tx = writer
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map_err(StoreError::doing("create the tables"))?;
                migrator.run(&mut tx).await.map_err(failed)?;
                let mark = format!("PRAGMA application_id = {}", sqlite::APPLICATION_ID);
                sqlx::raw_sql(AssertSqlSafe(mark))
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::doing("create the tables"))?;
                tx.commit().await.map_err(StoreError::doing("create the tables"))?;
            }
            // In one transaction, for which a session is ours behind a pooler too. Who comes second waits, and finds
            // it done.
            Db::Postgres(server) => {
                let doing = StoreError::doing("migrate");
                let mut conn = server.acquire().await.map_err(StoreError::doing("connect"))?;
                conn.close_on_drop();
                let mut tx = conn.begin().await.map_err(&doing)?;
                sqlx::raw_sql(
                    "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
                     SELECT pg_advisory_xact_lock(hashtext('topupd schema'))",
                )
                .execute(&mut *tx)
                .await
                .map_err(&doing)?;
                migrator.set_locking(false).run(&mut *tx).await.map_err(failed)?;
                tx.commit().await.map_err(&doing)?;
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::store::open::schema::*;

    const OURS: &[u8] = &[0x0a; 48];

    fn of(applied: &[(i64, u8)]) -> Standing {
        let applied: Vec<_> = applied.iter().map(|(v, byte)| (*v, vec![*byte; 48])).collect();
        Standing::of(&applied, OURS)
    }

    #[test]
    fn the_checksum_says_whose_schema_it_is() {
        assert_eq!(of(&[]), Standing::NoTables);
        assert_eq!(of(&[(1, 0x0a)]), Standing::Current);
        assert_eq!(of(&[(1, 0x0a), (2, 7)]), Standing::Newer(2));
        assert_eq!(of(&[(1, 0x0a), (2, 7), (9, 8)]), Standing::Newer(9));
        let other = |text: &str| Standing::OtherBuild(text.to_owned());
        // The file as it was before, or the first of the steps that came before it.
        assert_eq!(of(&[(1, 0x0b)]), other("1 (0b0b0b0b)"));
        assert_eq!(of(&[(1, 0x0b), (2, 0x0c), (19, 0x0d)]), other("19 (0d0d0d0d)"));
        // The number alone is not enough, nor is the text under another number.
        assert_eq!(of(&[(2, 0x0a)]), other("2 (0a0a0a0a)"));
    }
}
