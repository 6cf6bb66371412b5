//! Leases: which daemon does what, when there are several on one database.
//!
//! A lease has a token that grows whenever its holder changes. Every commit of the task takes the
//! lease's row first and compares the token (a *fencing token*), so a holder that slept through its
//! lease writes nothing, and the commits of one task come one after another. All times are read
//! from the database server's own clock, never from a daemon's, and never from the one that testers move.

use std::ops::Deref;
use std::time::Duration;

use super::db::{Row, Tx};
use super::engine::Store;
use super::errors::StoreError;
use crate::domain::ids::ChainId;
use crate::store::db::query::{Lock, query};

/// A daemon that was not seen for this long is forgotten.
const FORGET_MS: i64 = 86_400_000;

/// A task that one daemon at a time may do, in the hands of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the task.
    pub task: String,
    /// Who holds it: unique to this process.
    pub holder: String,
    /// The fencing token.
    pub token: i64,
    /// Since when it has this holder, by the database's clock. A database that goes back gives the same token
    /// again: only with this is a lease one of a kind.
    pub acquired_at_ms: i64,
}

/// The answer to asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Ours(Lease),
    /// Somebody else has it.
    Taken {
        /// Who.
        holder: String,
        /// How long it lasts unless it is renewed.
        remaining: Duration,
    },
}

/// A lease, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// The lease.
    pub lease: Lease,
    /// When it ends unless it is renewed, by the database's clock.
    pub expires_at_ms: i64,
    /// How long it lasted when it was renewed last.
    pub duration_ms: i64,
}

impl LeaseRow {
    /// How long it lasts from now on; 0 when it has ended. `None` where that is longer than it lasted when it was
    /// renewed: the clock was set back since, and nobody knows.
    pub fn left_ms(&self, now_ms: i64) -> Option<i64> {
        let left = self.expires_at_ms.saturating_sub(now_ms).max(0);
        (left <= self.duration_ms || self.duration_ms == 0).then_some(left)
    }
}

/// A daemon, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonRow {
    /// Its name, unique to the process.
    pub holder: String,
    /// Version of topupd.
    pub version: String,
    /// False for a replica that only answers questions.
    pub has_tasks: bool,
    /// When it started, by the database's clock.
    pub started_at_ms: i64,
    /// When it last said that it is there, by the database's clock.
    pub seen_at_ms: i64,
}

/// The name of the task that follows a chain and settles its deposits.
pub fn chain_task(chain: ChainId) -> String {
    chain.to_string()
}

/// The store in the hands of a lease's holder: what it writes, it writes only while it holds it.
#[derive(Debug, Clone)]
pub struct LeasedStore {
    store: Store,
    lease: Lease,
}

impl Deref for LeasedStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl LeasedStore {
    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Begins a transaction of the task: takes the lease's row until it ends.
    pub(super) async fn begin_held(&self) -> Result<Tx, StoreError> {
        let mut tx = self.store.begin().await?;
        let row = query("SELECT holder, token, acquired_at_ms FROM leases WHERE task = $1")
            .bind(&self.lease.task)
            .locked(Lock::Update)
            .fetch_optional(&mut tx)
            .await?;
        let holder = match row {
            Some(row) if lease_row(&self.lease.task, &row)? == self.lease => return Ok(tx),
            Some(row) => row.text("leases", "holder")?,
            None => "nobody".to_owned(),
        };
        Store::abandon(tx).await?;
        Err(StoreError::Fenced { task: self.lease.task.clone(), holder })
    }
}

impl Store {
    /// The store for a task whose lease this process holds.
    pub fn holding(&self, lease: Lease) -> LeasedStore {
        LeasedStore { store: self.clone(), lease }
    }

    /// Takes a lease that is free or has run out. `sole` says that no other daemon can be running,
    /// as the file lock on SQLite does; then it is taken from whoever had it.
    pub async fn acquire(
        &self,
        task: &str,
        holder: &str,
        duration: Duration,
        sole: bool,
    ) -> Result<Acquired, StoreError> {
        // Without a lock first: who waits its turn must not keep the holder from its commits.
        if !sole {
            let now = self.server_ms().await?;
            let lease = self.leases().await?.into_iter().find(|l| l.lease.task == task);
            if let Some(lease) = lease {
                let until = match lease.left_ms(now) {
                    Some(_) => lease.expires_at_ms,
                    None => self.shorten(&lease, now).await?,
                };
                if let Some(taken) = taken(lease.lease.holder, until, holder, now) {
                    return Ok(taken);
                }
            }
        }
        let ours = |token, acquired_at_ms| Lease {
            task: task.to_owned(),
            holder: holder.to_owned(),
            token,
            acquired_at_ms,
        };
        let mut tx = self.begin().await?;
        let now = self.server_on(&mut tx).await?;
        let first = query(
            "INSERT INTO leases (task, holder, token, acquired_at_ms, expires_at_ms, duration_ms)
             VALUES ($1, $2, 1, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(task)
        .bind(holder)
        .bind(now)
        .bind(now.saturating_add(ms(duration)))
        .bind(ms(duration))
        .execute(&mut tx)
        .await?;
        if first > 0 {
            Self::commit(tx).await?;
            return Ok(Acquired::Ours(ours(1, now)));
        }
        let row = query("SELECT holder, expires_at_ms FROM leases WHERE task = $1")
            .bind(task)
            .locked(Lock::Update)
            .fetch_one(&mut tx)
            .await?;
        // Read again: the row may have been waited for.
        let now = self.server_on(&mut tx).await?;
        let (by, until) = (row.text("leases", "holder")?, row.int("leases", "expires_at_ms")?);
        if !sole && let Some(taken) = taken(by, until, holder, now) {
            Self::abandon(tx).await?;
            return Ok(taken);
        }
        let token = query(
            "UPDATE leases SET holder = $2, token = token + 1, acquired_at_ms = $3,
               expires_at_ms = $4, duration_ms = $5
             WHERE task = $1 RETURNING token",
        )
        .bind(task)
        .bind(holder)
        .bind(now)
        .bind(now.saturating_add(ms(duration)))
        .bind(ms(duration))
        .fetch_one(&mut tx)
        .await?
        .int("leases", "token")?;
        Self::commit(tx).await?;
        Ok(Acquired::Ours(ours(token, now)))
    }

    /// Has a lease end in time that was renewed before the clock was set back: a holder that lives renews it
    /// again, and whoever waits for one that is dead need not wait for the difference. Returns its new end.
    async fn shorten(&self, lease: &LeaseRow, now_ms: i64) -> Result<i64, StoreError> {
        let until_ms = now_ms.saturating_add(lease.duration_ms);
        let mut tx = self.begin().await?;
        query(
            "UPDATE leases SET expires_at_ms = $4
             WHERE task = $1 AND token = $2 AND expires_at_ms = $3",
        )
        .bind(&lease.lease.task)
        .bind(lease.lease.token)
        .bind(lease.expires_at_ms)
        .bind(until_ms)
        .execute(&mut tx)
        .await?;
        Self::commit(tx).await?;
        Ok(until_ms)
    }

    /// Renews a lease from now on; false when somebody else took it over.
    pub async fn renew(&self, lease: &Lease, duration: Duration) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        // A commit of the task that takes long holds the row; other leases must not wait for it.
        tx.hurry().await?;
        let now = self.server_on(&mut tx).await?;
        let renewed = extend(&mut tx, lease, now.saturating_add(ms(duration))).await?;
        Self::commit(tx).await?;
        Ok(renewed)
    }

    /// Gives a lease back, so that the next daemon need not wait.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.hurry().await?;
        extend(&mut tx, lease, 0).await?;
        Self::commit(tx).await
    }

    /// All leases, by task.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        query(
            "SELECT task, holder, token, acquired_at_ms, expires_at_ms, duration_ms
             FROM leases ORDER BY task",
        )
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(LeaseRow {
                lease: lease_row(&row.text("leases", "task")?, row)?,
                expires_at_ms: row.int("leases", "expires_at_ms")?,
                duration_ms: row.int("leases", "duration_ms")?,
            })
        })
        .collect()
    }

    /// Says that a daemon is there.
    pub async fn seen(&self, holder: &str, has_tasks: bool) -> Result<(), StoreError> {
        let now = self.server_ms().await?;
        query(
            "INSERT INTO daemons (holder, version, has_tasks, started_at_ms, seen_at_ms)
             VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (holder) DO UPDATE SET seen_at_ms = excluded.seen_at_ms",
        )
        .bind(holder)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(i64::from(has_tasks))
        .bind(now)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Forgets a daemon that stops in good order, and those not seen for a day.
    pub async fn left(&self, holder: &str) -> Result<(), StoreError> {
        let now = self.server_ms().await?;
        query("DELETE FROM daemons WHERE holder = $1 OR seen_at_ms < $2")
            .bind(holder)
            .bind(now.saturating_sub(FORGET_MS))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// The daemons that were seen lately, by name.
    pub async fn daemons(&self) -> Result<Vec<DaemonRow>, StoreError> {
        query(
            "SELECT holder, version, has_tasks, started_at_ms, seen_at_ms FROM daemons
             ORDER BY holder",
        )
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(DaemonRow {
                holder: row.text("daemons", "holder")?,
                version: row.text("daemons", "version")?,
                has_tasks: row.int("daemons", "has_tasks")? == 1,
                started_at_ms: row.int("daemons", "started_at_ms")?,
                seen_at_ms: row.int("daemons", "seen_at_ms")?,
            })
        })
        .collect()
    }
}

fn lease_row(task: &str, row: &Row) -> Result<Lease, StoreError> {
    Ok(Lease {
        task: task.to_owned(),
        holder: row.text("leases", "holder")?,
        token: row.int("leases", "token")?,
        acquired_at_ms: row.int("leases", "acquired_at_ms")?,
    })
}

/// The answer to somebody who asks for a lease that another one holds.
fn taken(by: String, until_ms: i64, asks: &str, now_ms: i64) -> Option<Acquired> {
    let left = u64::try_from(until_ms.saturating_sub(now_ms)).unwrap_or(0);
    let remaining = Duration::from_millis(left);
    (left > 0 && by != asks).then_some(Acquired::Taken { holder: by, remaining })
}

/// Sets when a lease ends; false when it is somebody else's.
async fn extend(tx: &mut Tx, lease: &Lease, until_ms: i64) -> Result<bool, StoreError> {
    let changed = query(
        "UPDATE leases SET expires_at_ms = $5
         WHERE task = $1 AND token = $2 AND holder = $3 AND acquired_at_ms = $4",
    )
    .bind(&lease.task)
    .bind(lease.token)
    .bind(&lease.holder)
    .bind(lease.acquired_at_ms)
    .bind(until_ms)
    .execute(tx)
    .await?;
    Ok(changed > 0)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
