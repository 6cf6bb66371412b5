//! Where the log stands: one row, which whoever adds to the log takes first.

use super::stop::{Failed, Stop};
use crate::domain::log::checkpoint::{Checkpoint, CheckpointError, Published};
use crate::domain::log::edge::Edge;
use crate::domain::log::key::{KeyName, PrivateKey, PublicKey};
use crate::domain::log::origin::Origin;
use crate::domain::log::tree::{Hash, Root, TreeHead};
use crate::store::db::query::{Lock, query};
use crate::store::db::{On, Row, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};

const TABLE: &str = "log_state";

/// Where the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// Its name, in the first line of its checkpoints.
    pub origin: KeyName,
    /// Its size and root.
    pub head: TreeHead,
    /// The right edge of its tree.
    pub edge: Edge,
    /// The last signed checkpoint: of this head. None while nothing is signed.
    pub checkpoint: Option<Published>,
    /// The registered key; none while the log is not signed.
    pub key: Option<PublicKey>,
    /// Why nothing is added to it; none while it goes on.
    pub paused: Option<String>,
    /// Which incarnation of the feed of events this is, from 1.
    pub incarnation: i64,
    /// The last number that an event of it got.
    pub feed_no: i64,
    /// When it was written last.
    pub at_ms: i64,
}

impl LogState {
    /// The key to sign with: that of `signer` under the log's name.
    ///
    /// # Errors
    /// Where the registered key is another one, or there is none here.
    pub(super) fn signing_key(
        &self,
        signer: Option<&LogSigner>,
    ) -> Result<Option<PrivateKey>, Failed> {
        // It is registered before anything is signed with it.
        let Some(registered) = &self.key else { return Ok(None) };
        let other = |configured: Option<PublicKey>| {
            let registered = Box::new(registered.clone());
            Failed::from(Stop::Key { registered, configured: configured.map(Box::new) })
        };
        let key = signer.ok_or_else(|| other(None))?.key_for(&self.origin)?;
        if registered == key.public() {
            return Ok(Some(key));
        }
        Err(other(Some(key.public().clone())))
    }

    /// Checks what is stored twice against each other: the edge, the root, the signed checkpoint.
    pub(super) fn check(&self) -> Result<(), Failed> {
        self.edge.check(&self.head)?;
        let Some(checkpoint) = &self.checkpoint else { return Ok(()) };
        let damaged = |why: String| Failed::from(Stop::Damaged(why));
        let claimed = checkpoint.claimed();
        if claimed.head != self.head || claimed.origin != self.origin {
            let why = format!(
                "its signed checkpoint has {} records of {}, and the log {} of {}, or another root",
                claimed.head.size, claimed.origin, self.head.size, self.origin
            );
            return Err(damaged(why));
        }
        let keys = self.key.as_slice();
        checkpoint.verify(keys).map(drop).map_err(|e| damaged(e.to_string()))
    }

    /// The checkpoint of the log as it is, signed.
    pub(super) fn signed(&self, key: &PrivateKey) -> Result<Published, Failed> {
        let checkpoint = Checkpoint { origin: self.origin.clone(), head: self.head };
        let signed = checkpoint.signed(key);
        signed.map_err(|error: CheckpointError| Stop::Damaged(error.to_string()).into())
    }
}

/// Who signs the log, and where the last checkpoint is kept beside the database.
#[derive(Debug)]
pub struct LogSigner {
    key: PrivateKey,
    file: std::path::PathBuf,
}

impl LogSigner {
    /// A key, as it was read from this file.
    pub fn new(key: PrivateKey, file: std::path::PathBuf) -> Self {
        Self { key, file }
    }

    /// The key's public half, under its own name.
    pub fn public(&self) -> &PublicKey {
        self.key.public()
    }

    /// The file of the key.
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// Its public half under one of the names of its log; none for another name.
    pub(super) fn public_for(&self, origin: &KeyName) -> Option<PublicKey> {
        let public = self.key.public();
        Origin::of(origin, public.name()).map(|_| public.renamed(origin.clone()))
    }

    /// The key under the name of a log: its own, or a later origin of its own.
    pub(super) fn key_for(&self, origin: &KeyName) -> Result<PrivateKey, Failed> {
        let own = self.key.public().name();
        if Origin::of(origin, own).is_none() {
            let (key, origin) = (own.clone(), origin.clone());
            return Err(Stop::OtherName { key, origin }.into());
        }
        Ok(self.key.renamed(origin.clone())?)
    }
}

impl Store {
    /// Where the log stands.
    ///
    /// # Errors
    /// When the database fails; [`StoreError::Damaged`] where the row cannot be read.
    pub async fn log_state(&self) -> Result<LogState, StoreError> {
        read(&self.db).await.map_err(|error| Failed::from(error).into_store())
    }

    /// How many records have no leaf, and how many events no number.
    pub async fn log_waiting(&self) -> Result<(i64, i64), StoreError> {
        let row = query(
            "SELECT (SELECT COUNT(*) FROM unlogged) AS records,
                    (SELECT COUNT(*) FROM events_new) AS events",
        )
        .fetch_one(&self.db)
        .await?;
        Ok((row.int("unlogged", "records")?, row.int("events_new", "events")?))
    }
}

/// Reads the row.
pub(super) async fn read(on: impl Into<On<'_>>) -> Result<LogState, StoreError> {
    find(on, None).await
}

/// Takes the row until the transaction ends.
pub(super) async fn lock(tx: &mut Tx) -> Result<LogState, StoreError> {
    find(tx, Some(Lock::Update)).await
}

async fn find(on: impl Into<On<'_>>, lock: Option<Lock>) -> Result<LogState, StoreError> {
    let mut select = query(
        "SELECT origin, size, root, edge, checkpoint, public_key, paused, incarnation, feed_no, at_ms
         FROM log_state WHERE only_row = 1",
    );
    if let Some(lock) = lock {
        select = select.locked(lock);
    }
    let row = select.fetch_optional(on).await;
    let row = row?;
    state_of(&row.ok_or_else(|| corrupt(TABLE, "only_row", "the only row is missing"))?)
}

fn state_of(row: &Row) -> Result<LogState, StoreError> {
    let size = row.uint(TABLE, "size")?;
    let root = Root(Hash(row.b256(TABLE, "root")?.0));
    let edge = Edge::from_bytes(size, &row.bytes(TABLE, "edge")?)
        .map_err(|e| corrupt(TABLE, "edge", &e.to_string()))?;
    fn opt<T: std::str::FromStr>(row: &Row, column: &str) -> Result<Option<T>, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        let text = row.opt_text(TABLE, column)?;
        let read =
            |text: String| text.parse().map_err(|e: T::Err| corrupt(TABLE, column, &e.to_string()));
        text.map(read).transpose()
    }
    Ok(LogState {
        origin: row.parsed(TABLE, "origin")?,
        head: TreeHead { size, root },
        edge,
        checkpoint: opt(row, "checkpoint")?,
        key: opt(row, "public_key")?,
        paused: row.opt_text(TABLE, "paused")?,
        incarnation: row.int(TABLE, "incarnation")?,
        feed_no: row.int(TABLE, "feed_no")?,
        at_ms: row.int(TABLE, "at_ms")?,
    })
}

/// Writes the row, which this transaction has taken.
pub(super) async fn write(tx: &mut Tx, state: &LogState) -> Result<(), StoreError> {
    query(
        "UPDATE log_state SET origin = $1, size = $2, root = $3, edge = $4, checkpoint = $5,
           public_key = $6, paused = $7, incarnation = $8, feed_no = $9, at_ms = $10
         WHERE only_row = 1",
    )
    .bind(state.origin.as_str())
    .bind(to_int(state.head.size, "size of the log")?)
    .bind(state.head.root.0.0.to_vec())
    .bind(state.edge.to_bytes())
    .bind(text(state.checkpoint.as_ref()))
    .bind(text(state.key.as_ref()))
    .bind(state.paused.as_deref())
    .bind(state.incarnation)
    .bind(state.feed_no)
    .bind(state.at_ms)
    .execute(tx)
    .await?;
    Ok(())
}

fn text(value: Option<&impl ToString>) -> crate::store::db::Value {
    crate::store::db::Value::Text(value.map(ToString::to_string))
}

/// Pauses a log that is there and goes on, in a transaction that may have taken its row. What paused it first stays.
pub(in crate::store) async fn pause(tx: &mut Tx, why: &str) -> Result<(), StoreError> {
    query("UPDATE log_state SET paused = $1 WHERE only_row = 1 AND paused IS NULL")
        .bind(why)
        .execute(tx)
        .await?;
    Ok(())
}
