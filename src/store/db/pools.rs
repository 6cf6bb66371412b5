//! The pools of one database.

use std::sync::Arc;

use sqlx::sqlite::SqlitePool;

use crate::store::db::{Server, sqlite};

/// The pools of one database.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    /// A file: one connection writes, a few read.
    Sqlite {
        writer: SqlitePool,
        reader: SqlitePool,
        frozen: Option<Arc<sqlite::frozen::Frozen>>,
        /// None where it is only read.
        files: Option<Arc<sqlite::files::Files>>,
        /// Why nothing is written to it, though it could be.
        only_read: Option<Arc<str>>,
    },
    /// A server.
    Postgres(Server),
}
