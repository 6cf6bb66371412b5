//! PostgreSQL: the bulk statement, and what its error codes mean. For version 14 or newer.

use std::borrow::Cow;

use sqlx::postgres::PgArguments;
use sqlx::query::Query as SqlxQuery;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr};

use super::Value;
use super::server::{NO_TRANSACTIONS, POOLER, refuses_settings};
use crate::store::db::query::Query;

pub(super) type Statement = SqlxQuery<'static, Postgres, PgArguments>;

/// One statement whatever the number of rows: each column is an array. Several that write become one as well: each may
/// be done before any other, and does not see what the others wrote. None where there are no rows.
pub(super) fn bulk(
    all: impl IntoIterator<Item = (Cow<'static, str>, Vec<Vec<Value>>)>,
) -> sqlx::Result<Option<Query>> {
    let (mut args, mut texts) = (Vec::new(), Vec::new());
    for (sql, rows) in all {
        texts.extend(with_arrays(&sql, rows, &mut args)?);
    }
    let Some(last) = texts.pop() else { return Ok(None) };
    let others: Vec<String> =
        (1..).zip(texts).map(|(i, text): (usize, _)| format!("w{i} AS ({text})")).collect();
    let with =
        if others.is_empty() { String::new() } else { format!("WITH {} ", others.join(", ")) };
    let sql = AssertSqlSafe(format!("{with}{last}")).into_sql_str();
    Ok(Some(Query { sql, args, lock: None }))
}

/// The statement over these rows, of which each column is one more argument; nothing where there are no rows.
fn with_arrays(
    sql: &str,
    rows: Vec<Vec<Value>>,
    args: &mut Vec<Value>,
) -> sqlx::Result<Option<String>> {
    let Some(first) = rows.first() else { return Ok(None) };
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
    let arrays: Vec<String> = (args.len().saturating_add(1)..)
        .zip(&columns)
        .map(|(i, column)| match column {
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
    args.extend(columns);
    Ok(Some(
        sql.replace("{each}", "({rows}) AS r").replace("{rows}", &unnest).replace("{keys}", &any),
    ))
}

/// True for an error that says nothing about what was asked: the server is away, starting,
/// stopping, read-only, or lacks connections, memory or disk. Codes: PostgreSQL documentation,
/// appendix A.
pub(in crate::store) fn is_unavailable(code: &str) -> bool {
    const CLASSES: [&str; 4] = ["08", "53", "57P", "58"];
    CLASSES.iter().any(|class| code.starts_with(class))
        || code == "25P03"
        || is_shared(code)
        || is_read_only(code)
        || is_refused(code)
}

/// True when there was no session, or it was ended: the server is away, starting, stopping, full of connections, or does
/// not let us in. Whoever reaches it shows that this is over.
pub(in crate::store) fn is_away(code: &str) -> bool {
    const CLASSES: [&str; 3] = ["08", "28", "57P"];
    CLASSES.iter().any(|class| code.starts_with(class))
        || matches!(code, "25P03" | "3D000" | "53300")
}

/// True when a statement that was prepared is not there, or one is that was not: the session is not ours alone.
pub(in crate::store) fn is_shared(code: &str) -> bool {
    matches!(code, "26000" | "42P05")
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

/// What to do about it, for people.
pub(super) fn advice(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        _ if is_shared(code) || refuses_settings(message) => POOLER,
        "28P01" => {
            "see to the user and the password in database.url. A running daemon reads them again before each try, from its configuration file and from the password file; it must be started again where they come from its environment (TOPUPD_DATABASE__URL, PGPASSWORD)"
        }
        "42501" => "grant that right to the user of database.url, or use another user",
        _ if is_read_only(code) => {
            "it can be read but not written; the server is a standby or was set to read-only, so point database.url at the primary, or promote this one"
        }
        _ if is_collision(code) => {
            "another transaction was in the way; nothing was changed, try again"
        }
        _ if message.contains("statement pooling mode") => NO_TRANSACTIONS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What any statement shows to be over, and what only one that writes does.
    #[test]
    fn a_server_that_lets_nobody_in_is_away() {
        for code in ["08006", "57P01", "57P03", "28P01", "28000", "3D000", "53300", "25P03"] {
            assert!(is_unavailable(code) && is_away(code), "{code}");
        }
        for code in ["53100", "53200", "58030", "25006", "42501", "42P05"] {
            assert!(is_unavailable(code) && !is_away(code), "{code}");
        }
    }
}
