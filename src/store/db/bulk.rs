//! One statement over many rows: what each engine is fast with.
//!
//! It knows no table either, and decides nothing about what is written.

use std::borrow::Cow;

use super::{Row, Tx, Value, postgres, sqlite};
use crate::store::db::failure::{DbError, DbResult};
use crate::store::db::query::{Lock, Query};

/// One statement over many rows of arguments, in as few round trips as the engine is fast with.
///
/// `{rows}` in its text stands for the rows: a table with the columns `column1`, `column2`, …, as
/// both engines call those of `VALUES`. `{each}` is that table with the name `r`, before a `JOIN`: what
/// is joined is looked up for each row, by an index. `{keys}` stands for a condition: the value before
/// it is one of the rows' only column.
pub(in crate::store) struct Bulk {
    sql: Cow<'static, str>,
    rows: Vec<Vec<Value>>,
    lock: Option<Lock>,
}

pub(in crate::store) fn bulk(sql: &'static str, rows: Vec<Vec<Value>>) -> Bulk {
    Bulk { sql: sql.into(), rows, lock: None }
}

/// Like [`crate::store::db::query::query_text`].
pub(in crate::store) fn bulk_text(sql: String, rows: Vec<Vec<Value>>) -> Bulk {
    Bulk { sql: sql.into(), rows, lock: None }
}

/// Runs several that write and of which none needs another to be done before: in any order, and on PostgreSQL at once.
/// Rows that may stand in each other's way (of one unique index) must not be in two of them.
pub(in crate::store) async fn execute_at_once(all: Vec<Bulk>, tx: &mut Tx) -> DbResult<()> {
    match tx {
        Tx::Sqlite(_) => {
            for bulk in all {
                bulk.execute(tx).await?;
            }
        }
        Tx::Postgres(_) => {
            let all = all.into_iter().map(|bulk| (bulk.sql, bulk.rows));
            if let Some(query) =
                postgres::bulk(all).map_err(DbError::doing("make one statement of rows"))?
            {
                query.execute(tx).await?;
            }
        }
    }
    Ok(())
}

impl Bulk {
    /// Takes the rows that the SELECT finds.
    pub(in crate::store) fn locked(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    pub(in crate::store) async fn execute(self, tx: &mut Tx) -> DbResult<()> {
        for query in self.split(tx)? {
            query.execute(&mut *tx).await?;
        }
        Ok(())
    }

    /// What it finds, in any order.
    pub(in crate::store) async fn fetch_all(self, tx: &mut Tx) -> DbResult<Vec<Row>> {
        let mut found = Vec::new();
        for query in self.split(tx)? {
            found.extend(query.fetch_all(&mut *tx).await?);
        }
        Ok(found)
    }

    fn split(self, tx: &Tx) -> DbResult<Vec<Query>> {
        match tx {
            Tx::Sqlite(_) => Ok(sqlite::bulk(&self.sql, self.rows)),
            Tx::Postgres(_) => {
                let lock = self.lock;
                let all = postgres::bulk([(self.sql, self.rows)])
                    .map_err(DbError::doing("make one statement of rows"))?;
                Ok(all.into_iter().map(|query| Query { lock, ..query }).collect())
            }
        }
    }
}
