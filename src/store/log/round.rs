//! One round of the sequencer: one transaction, from what waits to a longer log with its checkpoint.
//!
//! Nothing is told to anybody before it is committed. What is read of the log is checked before anything is
//! added to it, and what gets a leaf is recomputed first: whatever is damaged is found before it is signed.

use std::collections::BTreeMap;

use super::registered::agrees;
use super::same::{compare_kept, sound};
use super::state::{LogSigner, LogState};
use super::stop::{Failed, Stop};
use super::taken::{Taken, take};
use super::{days, feed, kept, state, tiles as rows};
use crate::domain::journal::Kind;
use crate::domain::log::checkpoint::Published;
use crate::domain::log::key::PrivateKey;
use crate::domain::log::tiles;
use crate::domain::log::tree::Hash;
use crate::store::db::query::query;
use crate::store::db::{Tx, Value, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in};
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// Most records of a round, and most events.
pub const ROUND_MAX: i64 = 4_096;

/// What a round did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Round {
    /// Nothing waited.
    Idle,
    /// Something was added.
    Went(Went),
    /// Nothing was added, and a finding says why.
    Stopped(Stop),
}

/// What a round added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Went {
    /// Records that got a leaf.
    pub records: usize,
    /// Events that got a number.
    pub events: usize,
    /// Size of the log.
    pub size: u64,
    /// Whether more may wait.
    pub is_full: bool,
}

impl LeasedStore {
    /// One round. `closely`: also where nothing waits, what is signed and kept is looked at, and what stopped
    /// it before is gone; so at the start, and after each stop.
    ///
    /// # Errors
    /// When the database fails, or the lease is another daemon's.
    pub async fn sequence(
        &self,
        signer: Option<&LogSigner>,
        closely: bool,
    ) -> Result<Round, StoreError> {
        if !closely && !self.anything_waits().await? {
            return Ok(Round::Idle);
        }
        match self.round(signer, closely).await {
            Ok(went) => Ok(went.map_or(Round::Idle, Round::Went)),
            Err(Failed::Store(error)) => Err(error),
            Err(Failed::Stop(stop)) => {
                self.note_stop(&stop).await?;
                Ok(Round::Stopped(stop))
            }
        }
    }

    async fn anything_waits(&self) -> Result<bool, StoreError> {
        let row = query(
            "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM unlogged) OR EXISTS (SELECT 1 FROM events_new)
                         THEN 1 ELSE 0 END AS BIGINT) AS waits",
        )
        .fetch_one(&self.db)
        .await?;
        Ok(row.int("unlogged", "waits")? == 1)
    }

    async fn round(
        &self,
        signer: Option<&LogSigner>,
        closely: bool,
    ) -> Result<Option<Went>, Failed> {
        if closely {
            self.register_log_key(signer).await?;
        }
        let mut tx = self.begin_held().await?;
        let now_ms = self.now_in(&mut tx).await?;
        let done = work(&mut tx, signer, closely, now_ms).await;
        let (went, signed) = match done {
            Ok(Some(done)) => done,
            Ok(None) => {
                Store::abandon(tx).await?;
                if closely {
                    self.note_going(now_ms).await?;
                }
                return Ok(None);
            }
            Err(failed) => return Err(failed.ended(tx).await),
        };
        if closely {
            gone_in(&mut tx, &Stop::gone(), now_ms).await?;
        }
        // On the disk before it is anywhere else: where there is no room, nothing is signed.
        let kept = match (signed, signer) {
            (Some(signed), Some(signer)) => match kept::prepare(signer, &signed).await {
                Ok(prepared) => Some(prepared),
                Err(stop) => return Err(Failed::from(stop).ended(tx).await),
            },
            _ => None,
        };
        Store::commit(tx).await?;
        if let Some(kept) = kept {
            kept.keep().await?;
        }
        Ok(Some(went))
    }

    /// What stopped it is gone.
    async fn note_going(&self, now_ms: i64) -> Result<(), StoreError> {
        for gone in Stop::gone() {
            if !self.standing_findings(None, gone.kind).await?.is_empty() {
                self.gone(&gone, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Opens the finding of a stop. A log that forked is paused for everybody.
    async fn note_stop(&self, stop: &Stop) -> Result<(), StoreError> {
        let finding = stop.finding();
        let subject = &finding.subject;
        let stands = self.standing_finding(None, finding.kind, subject).await?.is_some();
        if stands && !matches!(stop, Stop::Fork(_)) {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        let now_ms = self.now_in(&mut tx).await?;
        if let Stop::Fork(why) = stop {
            state::pause(&mut tx, why).await?;
        }
        let noted = note_in(&mut tx, &[finding], now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }
}

/// The round itself. None where nothing is to be written; else what it added, and what was signed.
async fn work(
    tx: &mut Tx,
    signer: Option<&LogSigner>,
    closely: bool,
    now_ms: i64,
) -> Result<Option<(Went, Option<Published>)>, Failed> {
    let mut log = state::lock(tx).await?;
    if let Some(why) = log.paused.take() {
        return Err(Stop::Paused(why).into());
    }
    let key = log.signing_key(signer)?;
    sound(tx, &log).await?;
    if closely {
        agrees(tx, &log).await?;
    }
    if let Some(signer) = signer {
        compare_kept(tx, &log, signer).await?;
    }
    let taken = take(tx, ROUND_MAX).await?;
    // A record that says that there is another key, or another name, is not signed before it is followed.
    if taken.iter().any(|t| matches!(t.record.kind, Kind::LogKey | Kind::LogResumed)) {
        agrees(tx, &log).await?;
    }
    add(tx, &mut log, &taken).await?;
    let events = feed::number(tx, &mut log, ROUND_MAX).await?;
    let signed = sign(&mut log, key.as_ref())?;
    if taken.is_empty() && events == 0 && signed.is_none() {
        return Ok(None);
    }
    log.at_ms = now_ms;
    state::write(tx, &log).await?;
    let most = usize::try_from(ROUND_MAX).unwrap_or(usize::MAX);
    let is_full = taken.len() >= most || events >= most;
    let went = Went { records: taken.len(), events, size: log.head.size, is_full };
    Ok(Some((went, signed)))
}

/// Gives the records their leaves.
async fn add(tx: &mut Tx, log: &mut LogState, taken: &[Taken]) -> Result<(), Failed> {
    if taken.is_empty() {
        return Ok(());
    }
    let mut leaves = Vec::with_capacity(taken.len());
    let mut hashes = Vec::with_capacity(taken.len());
    let mut positions: Vec<Vec<Value>> = Vec::with_capacity(taken.len());
    let mut sums = BTreeMap::new();
    for (leaf, Taken { position, record }) in (log.head.size..).zip(taken) {
        let leaf = to_int(leaf, "leaf")?;
        leaves.push(vec![leaf.into(), record.journal.0.into(), record.seq.into()]);
        hashes.push(Hash::of_leaf(record.seal.as_slice()));
        positions.push(vec![(*position).into()]);
        days::add(&mut sums, record)?;
    }
    let appends = tiles::append(&mut log.edge, &hashes)?;
    rows::append(tx, appends).await?;
    log.head = log.edge.head();
    log.checkpoint = None;
    bulk("INSERT INTO log_leaves (leaf_index, journal_id, seq) {rows}", leaves).execute(tx).await?;
    days::store(tx, sums).await?;
    // Exactly these: others, with lower places, may have been committed since.
    bulk("DELETE FROM unlogged WHERE position {keys}", positions).execute(tx).await?;
    Ok(())
}

/// Signs the log as it is, where it is not signed yet.
fn sign(log: &mut LogState, key: Option<&PrivateKey>) -> Result<Option<Published>, Failed> {
    let (Some(key), None) = (key, &log.checkpoint) else { return Ok(None) };
    let signed = log.signed(key)?;
    log.checkpoint = Some(signed.clone());
    Ok(Some(signed))
}
