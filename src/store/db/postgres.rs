//! PostgreSQL: the connection's settings, the bulk statement, and what its error codes mean.
//!
//! For version 14 or newer, connected to directly: a pooler may refuse the settings that come with
//! the connection.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions};
use sqlx::query::Query as SqlxQuery;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres, SqlSafeStr};

use super::{ACQUIRE_MAX, Db, Query, Value};

/// Longest time the server works at one statement.
const STATEMENT_MAX: Duration = Duration::from_secs(20);
/// Longest wait for a row that another transaction holds. Longer than the server takes to find a
/// deadlock (1 s).
const LOCK_MAX: Duration = Duration::from_secs(10);
/// Statements kept prepared on each connection: more than this program has.
const STATEMENTS: usize = 256;

pub(super) type Statement = SqlxQuery<'static, Postgres, PgArguments>;

/// What an installation may choose.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct PgSettings {
    pub(in crate::store) connections: u32,
    /// After this long without a word inside a transaction the server ends it, and releases the
    /// rows it took: a daemon that sleeps must not keep its successor waiting.
    pub(in crate::store) idle_in_transaction: Duration,
}

/// Connects to a server. The first connection is made at once, so that a wrong password or a
/// server that is not there is named.
pub(in crate::store) async fn open(
    url: &url::Url,
    client: &str,
    settings: PgSettings,
) -> sqlx::Result<Db> {
    let ms = |d: Duration| d.as_millis().to_string();
    let options = PgConnectOptions::from_str(url.as_str())?
        .application_name(client)
        .statement_cache_capacity(STATEMENTS)
        .options([
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
            // A peer that is gone without a word is noticed, and its locks released.
            ("tcp_keepalives_idle", "10".to_owned()),
            ("tcp_keepalives_interval", "5".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
        ]);
    let first = tokio::time::timeout(ACQUIRE_MAX, options.connect()).await;
    first.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(settings.connections)
        .acquire_timeout(ACQUIRE_MAX)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options);
    Ok(Db::Postgres(pool))
}

/// One statement whatever the number of rows: each column is an array.
pub(super) fn bulk(sql: &str, rows: Vec<Vec<Value>>) -> sqlx::Result<Vec<Query>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let count = rows.len();
    let mut columns: Vec<Value> = first
        .iter()
        .map(|value| match value {
            Value::Int(_) | Value::Ints(_) => Value::Ints(Vec::with_capacity(count)),
            Value::Bytes(_) | Value::BytesList(_) => Value::BytesList(Vec::with_capacity(count)),
            Value::Text(_) | Value::Texts(_) => Value::Texts(Vec::with_capacity(count)),
        })
        .collect();
    for row in rows {
        for (value, column) in row.into_iter().zip(&mut columns) {
            match (value, column) {
                (Value::Int(v), Value::Ints(column)) => column.push(v),
                (Value::Bytes(v), Value::BytesList(column)) => column.push(v),
                (Value::Text(v), Value::Texts(column)) => column.push(v),
                // Arrays of different lengths would be filled up with NULL.
                _ => return Err(sqlx::Error::Encode("rows of different shapes".into())),
            }
        }
    }
    let arrays: Vec<String> = (1..)
        .zip(&columns)
        .map(|(i, column): (usize, _)| match column {
            Value::Ints(_) => format!("${i}::bigint[]"),
            Value::BytesList(_) => format!("${i}::bytea[]"),
            _ => format!("${i}::text[]"),
        })
        .collect();
    let names: Vec<String> =
        (1..).zip(&columns).map(|(i, _): (usize, _)| format!("column{i}")).collect();
    let unnest = format!("SELECT * FROM UNNEST({}) AS r({})", arrays.join(", "), names.join(", "));
    // A semi-join with the rows would leave the planner to guess how many there are.
    let any = arrays.first().map_or_else(String::new, |keys| format!("= ANY({keys})"));
    let text =
        sql.replace("{each}", "({rows}) AS r").replace("{rows}", &unnest).replace("{keys}", &any);
    Ok(vec![Query { sql: AssertSqlSafe(text).into_sql_str(), args: columns, lock: None }])
}

/// True for an error that says nothing about what was asked: the server is away, starting,
/// stopping, read-only, or lacks connections, memory or disk. Codes: PostgreSQL documentation,
/// appendix A.
pub(in crate::store) fn is_unavailable(code: &str) -> bool {
    const CLASSES: [&str; 4] = ["08", "53", "57P", "58"];
    CLASSES.iter().any(|class| code.starts_with(class))
        || code == "25P03"
        || is_read_only(code)
        || is_refused(code)
}

/// True when the server takes no writes: it is a standby, or was set to read-only. It may be promoted.
pub(in crate::store) fn is_read_only(code: &str) -> bool {
    code == "25006"
}

/// True when the server does not let us in, or not do it: a wrong password, a database that is not
/// there, a missing right. While running it is waited for; at the start a person must change it.
pub(in crate::store) fn is_refused(code: &str) -> bool {
    code.starts_with("28") || matches!(code, "3D000" | "42501")
}

/// True when a value is not one that the tables take: a constraint, a trigger, a text with a NUL, or
/// one row twice in one statement.
pub(in crate::store) fn is_bad_value(code: &str) -> bool {
    ["22", "23"].iter().any(|class| code.starts_with(class)) || matches!(code, "21000" | "P0001")
}

/// True when the same step again may well succeed: a serialization failure, a deadlock, a row that
/// was not released in time.
pub(in crate::store) fn is_collision(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
}
