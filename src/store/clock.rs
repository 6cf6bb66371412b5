//! What time it is for the store: by the database's clock, whichever daemon asks.

use std::sync::Arc;

use super::db::{Db, On, Tx, query};
use super::engine::Store;
use super::errors::StoreError;
use super::time::StoreClock;
use crate::clock::Clock;

/// Reads the database's clock as `now_ms`.
const fn read_clock(db: &Db) -> &'static str {
    match db {
        Db::Sqlite { .. } => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms",
        // Not now(), which is the start of the transaction: it may have waited for a row.
        Db::Postgres(_) => {
            "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms"
        }
    }
}

const DOING: &str = "read the database's clock";

impl Store {
    /// The clock that dates what is written: the database's, as it was read last, and what has passed since.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.time) as Arc<dyn Clock>
    }

    /// The same store in the time of a clock that is set. Leases go by the database's nevertheless.
    #[must_use]
    pub fn timed_by(mut self, clock: Arc<dyn Clock>) -> Self {
        self.time = Arc::new(StoreClock::set(clock));
        self
    }

    /// What the database's clock says, in epoch milliseconds.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clock_ms(&self) -> Result<i64, StoreError> {
        self.clock_on(&self.db).await
    }

    /// The same, in a transaction too.
    pub(super) async fn clock_on(&self, on: impl Into<On<'_>>) -> Result<i64, StoreError> {
        let asked = self.time.passed();
        let now_ms = query(read_clock(&self.db))
            .fetch_one(on)
            .await
            .map_err(StoreError::doing(DOING))?
            .int("the clock", "now_ms")?;
        self.follow(now_ms, asked);
        Ok(now_ms)
    }

    /// Takes a reading, and says when the clock was set.
    fn follow(&self, now_ms: i64, asked: i64) {
        if let Some(jumped_ms) = self.time.read(now_ms, asked) {
            let whose = match &self.db {
                Db::Sqlite { .. } => {
                    "this machine's clock jumped: it was set, or the machine slept"
                }
                Db::Postgres(_) => {
                    "the database's clock jumped: it was set, or another server answers, or this machine slept"
                }
            };
            tracing::warn!(
                clock.jumped_ms = jumped_ms,
                "{whose}; what is written from now on is dated by it, and leases end by it: see that it is right"
            );
        }
    }

    /// The time of what this transaction writes, once it has the rows that it waits for.
    pub(super) async fn now_in(&self, tx: &mut Tx) -> Result<i64, StoreError> {
        if self.time.is_set() { Ok(self.time.now_ms()) } else { self.clock_on(tx).await }
    }

    /// The same for who holds journals, of which the newest record is of this time: a clock that is behind it is said.
    pub(super) async fn now_after(
        &self,
        tx: &mut Tx,
        newest_ms: Option<i64>,
    ) -> Result<i64, StoreError> {
        let now_ms = self.now_in(tx).await?;
        self.time.compare_with(now_ms, newest_ms.unwrap_or(now_ms));
        Ok(now_ms)
    }
}
