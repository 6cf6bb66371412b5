//! A statement and its values, for either engine. It knows how it is read, not who answers it.

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::store::db::Value;

/// How rows that are read are kept from others until the transaction ends. SQLite needs no word
/// for it: there, nobody else writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock {
    /// Nobody else takes or changes them.
    Update,
    /// The same, and rows that refer to them can be written meanwhile.
    NoKeyUpdate,
    /// The same; rows that somebody else holds are left out instead of waited for.
    NoKeyUpdateOfFree,
    /// Nobody else changes them.
    Share,
}

/// A statement with its arguments.
pub(crate) struct Query {
    pub(super) sql: SqlStr,
    pub(super) args: Vec<Value>,
    pub(super) lock: Option<Lock>,
}

/// A statement in the dialect that both engines have.
pub(crate) fn query(sql: &'static str) -> Query {
    Query { sql: sql.into_sql_str(), args: Vec::new(), lock: None }
}

/// A statement put together from names that this program knows. Never from input.
pub(crate) fn query_text(sql: String) -> Query {
    Query { sql: AssertSqlSafe(sql).into_sql_str(), args: Vec::new(), lock: None }
}
