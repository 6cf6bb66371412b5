//! What time it is for the store: by the database's clock, whichever daemon asks. On a testnet testers can
//! move it ahead; who is alive is told by the server's own clock even then.

use std::sync::Arc;

use super::db::{On, Tx};
use super::engine::Store;
use super::errors::StoreError;
use super::time::StoreClock;
use crate::clock::Clock;
use crate::domain::ids::Network;
use crate::store::db::pools::Db;
use crate::store::db::query::{query, query_text};

/// What the server's own clock says.
const fn own_time(db: &Db) -> &'static str {
    match db {
        Db::Sqlite { .. } => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        // Not now(), which is the start of the transaction: it may have waited for a row.
        Db::Postgres(_) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    }
}

/// The farthest that the clock can be moved at once, and altogether: a hundred years.
pub const CLOCK_OFFSET_MAX_MS: i64 = 3_155_760_000_000;

/// A clock that testers moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedClock {
    /// What time it is now for the database and all daemons on it, in epoch milliseconds.
    pub now_ms: i64,
    /// How far it is ahead of the database server's own clock.
    pub offset_ms: i64,
    /// When it was read, by the server's own clock: whoever was seen after this knows of it.
    pub server_ms: i64,
}

impl Store {
    /// The clock that dates what is written: the database's, as it was read last, and what has passed since.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.time) as Arc<dyn Clock>
    }

    /// The same store in the time of a clock that is set. Leases go by the database's nevertheless.
    pub fn timed_by(mut self, clock: Arc<dyn Clock>) -> Self {
        self.time = Arc::new(StoreClock::set(clock));
        self
    }

    /// What time it is for all that is stored, in epoch milliseconds: the database's clock, and on a testnet
    /// as far ahead of it as testers moved it.
    pub async fn clock_ms(&self) -> Result<i64, StoreError> {
        self.clock_on(&self.db).await
    }

    /// The same, in a transaction too.
    async fn clock_on(&self, on: impl Into<On<'_>>) -> Result<i64, StoreError> {
        self.read_clock(on).await.map(|clock| clock.now_ms)
    }

    /// What the database server's own clock says, which nobody moves. Who is alive is told by this one: leases
    /// and daemons, and nothing else.
    pub async fn server_ms(&self) -> Result<i64, StoreError> {
        self.server_on(&self.db).await
    }

    /// The same, in a transaction too.
    pub(super) async fn server_on(&self, on: impl Into<On<'_>>) -> Result<i64, StoreError> {
        self.read_clock(on).await.map(|clock| clock.server_ms)
    }

    /// The server's own clock as it was read last, and what has passed since.
    pub fn server_now_ms(&self) -> i64 {
        self.time.server_ms()
    }

    /// Reads both clocks in one question, so that whoever asks for either knows of the other.
    async fn read_clock(&self, on: impl Into<On<'_>>) -> Result<MovedClock, StoreError> {
        let asked = self.time.passed();
        let offset = if self.time.can_be_moved() {
            "COALESCE((SELECT clock_offset_ms FROM installation WHERE only_row = 1), 0)"
        } else {
            "CAST(0 AS BIGINT)"
        };
        let row = query_text(format!(
            "SELECT {} AS server_ms, {offset} AS offset_ms",
            own_time(&self.db)
        ))
        .fetch_one(on)
        .await?;
        let server_ms = row.int("the clock", "server_ms")?;
        let offset_ms = row.int("the clock", "offset_ms")?;
        self.follow(server_ms, asked);
        self.time.be_ahead(offset_ms);
        Ok(MovedClock { now_ms: server_ms.saturating_add(offset_ms), offset_ms, server_ms })
    }

    /// From now on the clock is read with what testers moved it by: the database has its tables, and is a
    /// testnet's.
    pub(super) fn heed_testers(&self) {
        if self.network == Network::Testnet {
            self.time.allow_moving();
        }
    }

    /// The clock, and how far testers have moved it.
    pub async fn moved_clock(&self) -> Result<MovedClock, StoreError> {
        self.read_clock(&self.db).await
    }

    /// Moves the time of everything in this database forward, for all daemons on it at once; each knows of it
    /// with its next question. What stands still or goes on at the moment does so for no longer than before.
    ///
    /// # Errors
    /// [`StoreError::Refused`] on mainnet, for a step back, and beyond [`CLOCK_OFFSET_MAX_MS`]; when the
    /// database fails.
    pub async fn advance_clock(&self, by_ms: i64) -> Result<MovedClock, StoreError> {
        if self.network != Network::Testnet {
            let why =
                "time can only be moved on a testnet: this database is a mainnet's".to_owned();
            return Err(StoreError::Refused(why));
        }
        if by_ms < 0 {
            return Err(StoreError::Refused("time never goes back".into()));
        }
        let mut tx = self.begin().await?;
        let moved = query(
            "UPDATE installation SET clock_offset_ms = clock_offset_ms + $1
             WHERE only_row = 1 AND clock_offset_ms <= $2",
        )
        .bind(by_ms)
        .bind(CLOCK_OFFSET_MAX_MS.saturating_sub(by_ms))
        .execute(&mut tx)
        .await?;
        if moved == 0 {
            Self::abandon(tx).await?;
            let why = "the clock can be moved by a hundred years altogether: begin a new database";
            return Err(StoreError::Refused(why.into()));
        }
        // Nobody has waited for so long.
        query(
            "UPDATE cursors SET updated_at_ms = updated_at_ms + $1, went_on_at_ms = went_on_at_ms + $1",
        )
        .bind(by_ms)
        .execute(&mut tx)
        .await?;
        let clock = self.read_clock(&mut tx).await?;
        Self::commit(tx).await?;
        Ok(clock)
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
