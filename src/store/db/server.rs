//! The connections to a PostgreSQL server: how each of them begins, what a pooler in between does to them, and a
//! password that is changed while this program runs.
//!
//! Settings and prepared statements belong to a session of the server, and a pooler may give each transaction another
//! session, from one moment to the next. So behind one, nothing is left in a session: each transaction brings its settings
//! along, each statement is in a transaction, and none has a name. Connected to the server itself, which is told the
//! settings with the connection, statements stay prepared.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool, Postgres, Row as _};
use url::Url;

use super::DatabaseUrl;
use crate::store::db::answer::{ACQUIRE_MAX, answered};

/// Longest time the server works at one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(20);
/// Longest wait for a row that another transaction holds. Longer than the server takes to find a
/// deadlock (1 s).
const LOCK_MAX: Duration = Duration::from_secs(10);
/// Statements kept prepared on each connection: more than this program has.
const STATEMENTS: usize = 256;
/// A connection without a word is closed after this long.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// A setting that only this program makes. Where it is there, all of them are.
const MARK: &str = "topupd.session";
/// Whether it is there.
const HAS_MARK: &str = "SELECT COALESCE(current_setting('topupd.session', true), '') = '1'";

/// What is said of a pooler where there was none.
pub(super) const POOLER: &str = "a pooler, such as PgBouncer, is between topupd and PostgreSQL, and was not when topupd was started: start it again";
/// What is said of a pooler that has no transactions.
pub(super) const NO_TRANSACTIONS: &str = "a pooler, such as PgBouncer, is between topupd and PostgreSQL and gives each statement another session of the server, so that there are no transactions: set pool_mode = transaction, or session, for this database in the pooler, or point database.url at the server itself";

/// What an installation may choose.
#[derive(Debug, Clone)]
pub(in crate::store) struct PgSettings {
    /// Who connects, as the server's list of connections shows it.
    pub(in crate::store) client: String,
    pub(in crate::store) connections: u32,
    /// After this long without a word inside a transaction the server ends it, and releases the
    /// rows it took: a daemon that sleeps must not keep its successor waiting.
    pub(in crate::store) idle_in_transaction: Duration,
    pub(in crate::store) again: Option<Again>,
}

/// Reads again where the database is configured to be: its password may have been changed.
#[derive(Clone)]
pub struct Again(pub Arc<dyn Fn() -> Option<DatabaseUrl> + Send + Sync>);

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

/// A server, by its connections.
#[derive(Debug, Clone)]
pub(in crate::store) struct Server {
    pool: PgPool,
    way: Arc<Way>,
}

/// How a connection is made.
#[derive(Debug)]
struct Way {
    url: Mutex<Url>,
    settings: PgSettings,
    /// Behind a pooler: what each transaction begins with. Otherwise the settings come with the connection.
    with_transaction: Option<String>,
}

impl Server {
    /// Connects. The first connection is made at once, so that a wrong password or a server that is not there is
    /// named.
    pub(in crate::store) async fn open(url: &Url, settings: PgSettings) -> sqlx::Result<Self> {
        let (options, is_pooled) = look(url, &settings).await?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.connections)
            .acquire_timeout(ACQUIRE_MAX)
            .idle_timeout(IDLE_MAX)
            .connect_lazy_with(options);
        let with_transaction = is_pooled.then(|| local(&settings));
        let way = Way { url: Mutex::new(url.clone()), settings, with_transaction };
        Ok(Self { pool, way: Arc::new(way) })
    }

    /// A connection. It has the settings, unless there is a pooler.
    pub(in crate::store) async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let mut conn = match self.pool.acquire().await {
            Err(error) if lets_nobody_in(&error) && self.way.read_again(&self.pool) => {
                self.pool.acquire().await?
            }
            acquired => acquired?,
        };
        // None is prepared on a new one; what is asked first, is.
        if !self.is_pooled()
            && conn.cached_statements_size() == 0
            && let Err(error) = answered(ACQUIRE_MAX, has_settings(&mut conn)).await
        {
            conn.close_on_drop();
            return Err(error);
        }
        Ok(conn)
    }

    /// A pooler is in between: what does not belong to one transaction is not ours.
    pub(in crate::store) fn is_pooled(&self) -> bool {
        self.way.with_transaction.is_some()
    }

    /// What begins a transaction.
    pub(super) fn begin(&self, how: &'static str) -> Cow<'static, str> {
        match &self.way.with_transaction {
            Some(settings) => format!("{how}; {settings}").into(),
            None => how.into(),
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A new session has the settings that came with the connection.
async fn has_settings(conn: &mut PgConnection) -> sqlx::Result<()> {
    match sqlx::query(HAS_MARK).fetch_one(conn).await?.try_get(0)? {
        true => Ok(()),
        false => Err(sqlx::Error::Io(io::Error::other(POOLER))),
    }
}

impl Way {
    /// Takes up the user and the password as they are configured now, here and in the password file. Another server
    /// or database is another ledger: for that one a person must start this program again.
    fn read_again(&self, pool: &PgPool) -> bool {
        let mut url = self.url.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(DatabaseUrl::Postgres(now)) = self.settings.again.as_ref().and_then(|a| (a.0)())
            && (now.host(), now.port(), now.path()) == (url.host(), url.port(), url.path())
        {
            *url = now;
        }
        let Ok(options) = options(&url, &self.settings, self.with_transaction.is_none()) else {
            return false;
        };
        pool.set_connect_options(options);
        true
    }
}

/// What makes a transaction one of ours.
fn of_a_transaction(settings: &PgSettings) -> Vec<(&'static str, String)> {
    let ms = |d: Duration| d.as_millis().to_string();
    vec![
        ("statement_timeout", ms(STATEMENT_MAX)),
        ("lock_timeout", ms(LOCK_MAX)),
        ("idle_in_transaction_session_timeout", ms(settings.idle_in_transaction)),
        // A commit that was answered survives a power cut, whatever the server's default.
        ("synchronous_commit", "on".to_owned()),
        // Our statements look rows up by their keys. Planning one anew for each list of keys
        // costs more than running it; and a plan made while a table was small must not read
        // the whole table when it has grown, a minute before anybody has counted it.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

fn local(settings: &PgSettings) -> String {
    let set = of_a_transaction(settings).into_iter();
    set.map(|(name, value)| format!("SET LOCAL {name} = '{value}'")).collect::<Vec<_>>().join("; ")
}

fn of_a_session(settings: &PgSettings) -> Vec<(&'static str, String)> {
    let mut all = of_a_transaction(settings);
    all.extend([
        // A peer that is gone without a word is noticed, and its locks released.
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "5".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        (MARK, "1".to_owned()),
    ]);
    all
}

fn options(url: &Url, asked: &PgSettings, with_connection: bool) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(bare(url).as_str())?
        .application_name(&asked.client)
        .statement_cache_capacity(STATEMENTS)
        // There is no such number here, and poolers do not know the parameter.
        .extra_float_digits(None);
    Ok(if with_connection { options.options(of_a_session(asked)) } else { options })
}

/// The library looks the name `[::1]` up, where `::1` is an address.
fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    let named = url.query_pairs().filter(|(name, _)| name == "host").last();
    let host = named.map_or_else(|| url.host_str().unwrap_or_default().into(), |(_, host)| host);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    if let Some(inner) = inner {
        url.query_pairs_mut().append_pair("host", &inner);
    }
    url
}

/// How to connect, and whether a pooler is in between: settings that come with the connection do not arrive then.
async fn look(url: &Url, settings: &PgSettings) -> sqlx::Result<(PgConnectOptions, bool)> {
    let with = options(url, settings, true)?;
    match connect(&with).await {
        Ok(mut first) => {
            let arrived = answered(ACQUIRE_MAX, arrived(&mut first)).await?;
            first.close().await?;
            if arrived {
                return Ok((with, false));
            }
        }
        Err(sqlx::Error::Database(error)) if refuses_settings(error.message()) => {}
        Err(error) => return Err(error),
    }
    let without = options(url, settings, false)?;
    let mut first = connect(&without).await?;
    answered(ACQUIRE_MAX, sqlx::raw_sql("BEGIN; ROLLBACK").execute(&mut first)).await?;
    first.close().await?;
    Ok((without, true))
}

async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let first = tokio::time::timeout(ACQUIRE_MAX, options.connect()).await;
    first.map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// Asked without a prepared statement, which would stay with a session that is somebody else's in a moment.
async fn arrived(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::raw_sql(HAS_MARK).fetch_one(conn).await?.try_get(0)
}

/// True when a pooler does not take the settings with the connection: PgBouncer, and the one of Amazon.
pub(super) fn refuses_settings(message: &str) -> bool {
    ["unsupported startup parameter", "command-line options"]
        .iter()
        .any(|text| message.contains(text))
}

/// `invalid_authorization_specification`, a wrong password among them.
fn lets_nobody_in(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().is_some_and(|code| code.starts_with("28")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_is_no_name() {
        let host = |url: &str| {
            let options = PgConnectOptions::from_str(bare(&url.parse().unwrap()).as_str()).unwrap();
            (options.get_host().to_owned(), options.get_port())
        };
        for (url, expected) in [
            ("postgres://me@[::1]:5433/d", ("::1", 5433)),
            ("postgres://me@[2001:db8::7]/d?sslmode=disable", ("2001:db8::7", 5432)),
            ("postgres://me@db/d?host=[::1]", ("::1", 5432)),
            ("postgres://me@[::1]/d?host=db.example", ("db.example", 5432)),
            ("postgres://me@127.0.0.1/d", ("127.0.0.1", 5432)),
            ("postgres://me@db.example/d", ("db.example", 5432)),
        ] {
            assert_eq!(host(url), (expected.0.to_owned(), expected.1), "{url}");
        }
    }
}
