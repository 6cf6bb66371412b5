//! What an error of a database means, in words for people, without the library's own.

use std::io::ErrorKind;

use sqlx::error::DatabaseError;

use crate::store::db::{postgres, sqlite};

/// What happened, and what to do about it where that is known.
pub(in crate::store) fn explain(error: &sqlx::Error) -> String {
    let (what, advice) = match error {
        sqlx::Error::PoolTimedOut => (
            "no connection in time: the server does not answer, or all connections are busy".into(),
            None,
        ),
        // Its own text ends in a line of the server's source.
        sqlx::Error::Database(e) => {
            let code = e.code().unwrap_or_default();
            if is_sqlite(e.as_ref()) {
                (format!("{} (SQLite's code {code})", e.message()), sqlite::codes::advice(&code))
            } else {
                (e.message().to_owned(), postgres::advice(&code, e.message()))
            }
        }
        sqlx::Error::Io(e) if e.kind() == ErrorKind::UnexpectedEof => {
            ("the connection was closed before the answer".into(), None)
        }
        // A sentence of ours.
        sqlx::Error::Io(e) if e.get_ref().is_some() => (e.to_string(), None),
        // Some texts end in a place of the library's source.
        other => {
            let text = other.to_string();
            (text.split(" (sqlx_").next().unwrap_or_default().to_owned(), None)
        }
    };
    advice.map_or_else(|| what.clone(), |advice| format!("{what}: {advice}"))
}

pub(in crate::store) fn is_sqlite(error: &dyn DatabaseError) -> bool {
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
}
