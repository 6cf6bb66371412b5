//! A database for one test, on the engine that the test binary is for; removed with the test.
//!
//! PostgreSQL: TEST_DATABASE_URL if it is set, else a cluster of this process's own. There is no
//! way to skip it: without a server the tests fail and say what to install.

use std::path::PathBuf;
use std::sync::Mutex;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row, TypeInfo, ValueRef};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use topupd::devnet::{Postgres, PostgresOptions};
use topupd::store::Database;

/// Which engine a test binary is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A database that is dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File { dir: TempDir },
    Server { admin: String, name: String, again: bool },
}

/// One cluster for all tests of this process; its watchdog removes it when the process ends.
static CLUSTER: OnceCell<Postgres> = OnceCell::const_new();

/// Databases that can be emptied and taken again.
static USED: Mutex<Vec<TestDatabase>> = Mutex::new(Vec::new());

fn pop() -> Option<TestDatabase> {
    USED.lock().unwrap().pop()
}

/// A URL of the server's database `postgres`, in which databases can be created.
async fn admin_url() -> String {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        return url;
    }
    let start = || async { Postgres::start(PostgresOptions::default()).await.unwrap() };
    CLUSTER.get_or_init(start).await.url("postgres")
}

fn sibling(url: &str, database: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(database);
    url.to_string()
}

impl TestDatabase {
    pub async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => Self::file(),
            Engine::Postgres => Self::server("template1").await,
        }
    }

    /// One for a test that makes many after one another. Making a database takes a server a quarter
    /// of a second, so one that was given back is emptied and taken again.
    pub async fn emptied(engine: Engine) -> Self {
        if engine == Engine::Sqlite {
            return Self::file_in_memory();
        }
        let mut this = loop {
            let Some(used) = pop() else { break Self::new(engine).await };
            // One whose guards a test dropped is not taken again.
            let guards = "SELECT COUNT(*) FROM pg_trigger WHERE NOT tgisinternal";
            if used.sql().await.ints(guards).await != [[0]] {
                break used;
            }
        };
        let mut sql = this.sql().await;
        // No trigger and no foreign key stands in the way of this connection.
        sql.execute("SET session_replication_role = replica").await.unwrap();
        for table in sql
            .texts("SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'")
            .await
        {
            let empty = match table.as_str() {
                "_sqlx_migrations" => continue,
                // Its only row came with the table.
                "market_head" => "UPDATE market_head SET seq = 0".to_owned(),
                table => format!("DELETE FROM {table}"),
            };
            sql.execute(&empty).await.unwrap();
        }
        for name in sql
            .texts(
                "SELECT CAST(sequencename AS TEXT) FROM pg_sequences WHERE schemaname = 'public'",
            )
            .await
        {
            sql.execute(&format!("ALTER SEQUENCE {name} RESTART")).await.unwrap();
        }
        if let Place::Server { again, .. } = &mut this.place {
            // Somebody's own server is left without our databases.
            *again = std::env::var_os("TEST_DATABASE_URL").is_none();
        }
        this
    }

    fn file() -> Self {
        Self::file_in(tempfile::tempdir().unwrap())
    }

    /// On a file system in memory, where there is one: for tests that make very many.
    fn file_in_memory() -> Self {
        Self::file_in(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn file_in(dir: TempDir) -> Self {
        let url = format!("sqlite:{}", dir.path().join("topupd.db").display());
        Self { url, place: Place::File { dir } }
    }

    async fn server(template: &str) -> Self {
        Self::on_server(admin_url().await, template).await
    }

    /// One on the server that this URL is for, a copy of another one.
    pub async fn on_server(admin: String, template: &str) -> Self {
        let name = format!("topupd_test_{:016x}", fastrand::u64(..));
        let mut sql = Sql::connect(&admin).await;
        sql.execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        Self { url: sibling(&admin, &name), place: Place::Server { admin, name, again: false } }
    }

    /// Another database with the same contents. Nobody may be connected to this one.
    pub async fn copy(&self) -> Self {
        match &self.place {
            Place::File { .. } => {
                let copy = Self::file();
                std::fs::copy(self.path(), copy.path()).unwrap();
                copy
            }
            Place::Server { name, .. } => Self::server(name).await,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn database(&self) -> Database {
        self.url().parse().unwrap()
    }

    /// The file, on SQLite.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::File { dir } => dir.path().join("topupd.db"),
            Place::Server { .. } => panic!("no file"),
        }
    }

    /// A connection beside topupd's own.
    pub async fn sql(&self) -> Sql {
        Sql::connect(&self.url).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Server { admin, name, again } = &self.place else { return };
        if *again {
            let (url, place) = (
                self.url.clone(),
                Place::Server { admin: admin.clone(), name: name.clone(), again: false },
            );
            USED.lock().unwrap().push(Self { url, place });
            return;
        }
        let (admin, drop) = (admin.clone(), format!("DROP DATABASE {name} WITH (FORCE)"));
        // A runtime of its own: the test's is about to end, and a drop cannot wait for it.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                if let Ok(mut sql) = Sql::try_connect(&admin).await {
                    let _ = sql.execute(&drop).await;
                }
            });
        });
        let _ = done.join();
    }
}

/// A value as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A connection that knows nothing of topupd.
pub enum Sql {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Sql {
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap()
    }

    pub async fn try_connect(url: &str) -> sqlx::Result<Self> {
        Ok(match url.strip_prefix("sqlite:") {
            Some(path) => {
                let options = SqliteConnectOptions::new().filename(path).foreign_keys(true);
                Self::Sqlite(options.connect().await?)
            }
            None => Self::Postgres(PgConnection::connect(url).await?),
        })
    }

    pub async fn execute(&mut self, sql: &str) -> sqlx::Result<u64> {
        self.execute_with(sql, &[]).await
    }

    pub async fn execute_with(&mut self, sql: &str, args: &[Cell]) -> sqlx::Result<u64> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(c) => {
                sqlx::query_with(sql, for_sqlite(args)).execute(c).await?.rows_affected()
            }
            Self::Postgres(c) => {
                sqlx::query_with(sql, for_postgres(args)).execute(c).await?.rows_affected()
            }
        })
    }

    pub async fn rows(&mut self, sql: &str) -> Vec<Vec<Cell>> {
        let text = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(c) => {
                sqlx::query(text).fetch_all(c).await.unwrap().iter().map(sqlite_cells).collect()
            }
            Self::Postgres(c) => {
                sqlx::query(text).fetch_all(c).await.unwrap().iter().map(postgres_cells).collect()
            }
        }
    }

    /// Rows of integers.
    pub async fn ints(&mut self, sql: &str) -> Vec<Vec<i64>> {
        let int = |cell: Cell| match cell {
            Cell::Int(value) => value,
            other => panic!("{sql}: {other:?}"),
        };
        self.rows(sql).await.into_iter().map(|row| row.into_iter().map(int).collect()).collect()
    }

    /// The first column, as texts.
    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        let text = |row: Vec<Cell>| match row.into_iter().next() {
            Some(Cell::Text(value)) => value,
            other => panic!("{sql}: {other:?}"),
        };
        self.rows(sql).await.into_iter().map(text).collect()
    }

    /// The columns of a table, in their order.
    pub async fn columns(&mut self, table: &str) -> Vec<String> {
        self.texts(&match self {
            Self::Sqlite(_) => {
                format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid")
            }
            Self::Postgres(_) => format!(
                "SELECT CAST(column_name AS TEXT) FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name = '{table}'
                 ORDER BY ordinal_position"
            ),
        })
        .await
    }

    /// The columns of a table's primary key.
    pub async fn key(&mut self, table: &str) -> Vec<String> {
        self.texts(&match self {
            Self::Sqlite(_) => {
                format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk")
            }
            Self::Postgres(_) => format!(
                "SELECT CAST(a.attname AS TEXT) FROM pg_constraint c
                 JOIN unnest(c.conkey) WITH ORDINALITY k(attnum, at) ON true
                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
                 WHERE c.conrelid = '{table}'::regclass AND c.contype = 'p' ORDER BY k.at"
            ),
        })
        .await
    }

    /// Drops what keeps a person with a text editor from changing things: triggers, checks and
    /// foreign keys.
    pub async fn drop_guards(&mut self) {
        match self {
            Self::Sqlite(_) => {
                self.execute("PRAGMA foreign_keys = OFF").await.unwrap();
                self.execute("PRAGMA ignore_check_constraints = ON").await.unwrap();
                for name in
                    self.texts("SELECT name FROM sqlite_master WHERE type = 'trigger'").await
                {
                    self.execute(&format!("DROP TRIGGER {name}")).await.unwrap();
                }
            }
            Self::Postgres(_) => {
                let drops = self
                    .texts(
                        "SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass)
                         FROM pg_trigger WHERE NOT tgisinternal
                         UNION ALL
                         SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
                         FROM pg_constraint WHERE contype IN ('c', 'f')
                           AND connamespace = current_schema()::regnamespace",
                    )
                    .await;
                for drop in drops {
                    self.execute(&drop).await.unwrap();
                }
            }
        }
    }
}

fn for_sqlite(cells: &[Cell]) -> SqliteArguments {
    let mut args = SqliteArguments::default();
    for cell in cells {
        match cell {
            Cell::Null => Arguments::add(&mut args, None::<i64>),
            Cell::Int(v) => Arguments::add(&mut args, *v),
            Cell::Text(v) => Arguments::add(&mut args, v.clone()),
            Cell::Bytes(v) => Arguments::add(&mut args, v.clone()),
        }
        .unwrap();
    }
    args
}

fn for_postgres(cells: &[Cell]) -> PgArguments {
    let mut args = PgArguments::default();
    for cell in cells {
        match cell {
            Cell::Null => args.add(None::<i64>),
            Cell::Int(v) => args.add(*v),
            Cell::Text(v) => args.add(v.clone()),
            Cell::Bytes(v) => args.add(v.clone()),
        }
        .unwrap();
    }
    args
}

macro_rules! cells {
    ($name:ident, $row:ty) => {
        fn $name(row: &$row) -> Vec<Cell> {
            (0..row.len())
                .map(|i| {
                    let raw = row.try_get_raw(i).unwrap();
                    if raw.is_null() {
                        return Cell::Null;
                    }
                    let kind = raw.type_info().name().to_owned();
                    match kind.as_str() {
                        "INTEGER" | "INT8" => Cell::Int(row.get(i)),
                        "INT4" => Cell::Int(i64::from(row.get::<i32, _>(i))),
                        "TEXT" => Cell::Text(row.get(i)),
                        "BLOB" | "BYTEA" => Cell::Bytes(row.get(i)),
                        other => panic!("a cell of type {other}"),
                    }
                })
                .collect()
        }
    };
}
cells!(sqlite_cells, SqliteRow);
cells!(postgres_cells, PgRow);
