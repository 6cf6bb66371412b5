//! The log's key is a record of the house: registered once, replaced by its holder, and named anew after a fork.

use crate::domain::journal::{Cause, JournalId, LogResumed};
use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::history::{first_key, handed_over};
use crate::domain::log::key::{KeyName, PublicKey};
use crate::domain::log::origin::Origin;
use crate::domain::said;
use crate::store::db::Tx;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::ledger::Batch;

use super::registered::{accepted, agrees, registered};
use super::same::{follows_kept, is_beginning, sound};
use super::state::{LogSigner, LogState};
use super::stop::{Failed, Stop};
use super::{kept, state};

/// How a log goes on after a backup was restored or a copy was opened.
#[derive(Debug, Clone)]
pub struct LogResume {
    /// Who decides.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// A checkpoint that is known from elsewhere: of an earlier origin, or newer than the one that is kept.
    pub known: Option<Published>,
}

impl LeasedStore {
    /// Registers the key of a log that has none. From then on nobody adds to it with another key, or none.
    pub(super) async fn register_log_key(&self, signer: Option<&LogSigner>) -> Result<(), Failed> {
        let Some(signer) = signer else { return Ok(()) };
        let log = state::read(&self.db).await?;
        if log.key.is_some() || log.paused.is_some() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        // The house's journal comes before the log's row, as for everybody.
        let mut batch = Batch::of_house(&mut tx, self).await?;
        let mut log = state::lock(&mut tx).await?;
        if log.key.is_some() || log.paused.is_some() {
            Store::abandon(tx).await?;
            return Ok(());
        }
        if let Err(failed) = first(&mut tx, &mut batch, &mut log, signer).await {
            return Err(failed.ended(tx).await);
        }
        batch.write(&mut tx, self).await?;
        Store::commit(tx).await?;
        Ok(())
    }
}

/// Registers the first key, signs the log as it is with it, and keeps that beside the key before the commit: from then
/// on a file that is missing was taken away.
async fn first(
    tx: &mut Tx,
    batch: &mut Batch,
    log: &mut LogState,
    signer: &LogSigner,
) -> Result<(), Failed> {
    sound(tx, log).await?;
    agrees(tx, log).await?;
    let key = signer.key_for(signer.public().name())?;
    log.origin = key.public().name().clone();
    // Where it signed another log before, this would be a second history.
    follows_kept(tx, log, kept::read(signer).await?.as_ref(), signer).await?;
    let cause = first_key(key.public());
    batch.note(tx, JournalId::HOUSE, Cause::LogKey(cause), None).await?;
    log.key = Some(key.public().clone());
    let checkpoint = log.signed(&key)?;
    log.checkpoint = Some(checkpoint.clone());
    state::write(tx, log).await?;
    kept::write(signer, &checkpoint).await?;
    Ok(())
}

impl Store {
    /// Replaces the registered key, `old`, by another one of the same name. The log is signed with it at once.
    ///
    /// # Errors
    /// [`StoreError::Refused`], with what is wrong with a key.
    pub async fn rotate_log_key(
        &self,
        old: &LogSigner,
        new: &LogSigner,
        operator: &str,
    ) -> Result<PublicKey, StoreError> {
        said::by(operator, "rotated").map_err(StoreError::Refused)?;
        let mut tx = self.begin().await?;
        let mut batch = Batch::of_house(&mut tx, self).await?;
        let done = rotate(&mut tx, &mut batch, (old, new), operator).await;
        let checkpoint = match done {
            Ok(checkpoint) => checkpoint,
            Err(failed) => {
                Self::abandon(tx).await?;
                return Err(failed.into_store());
            }
        };
        batch.write(&mut tx, self).await?;
        // Before the commit: whoever has the new key must know what was signed before.
        kept::write(new, &checkpoint).await.map_err(|e| StoreError::Refused(e.to_string()))?;
        Self::commit(tx).await?;
        // After the commit: until then the old one must be able to go on.
        if let Err(stop) = kept::write(old, &checkpoint).await {
            tracing::error!(why = %stop,
                "the key was replaced, and the checkpoint beside the old one does not say so: destroy the old key");
        }
        new.key_for(&checkpoint.claimed().origin)
            .map(|key| key.public().clone())
            .map_err(Failed::into_store)
    }

    /// Why a daemon with this key may not add to the log; none where it may.
    pub async fn may_sequence(
        &self,
        signer: Option<&LogSigner>,
    ) -> Result<Option<Stop>, StoreError> {
        let log = state::read(&self.db).await?;
        match log.signing_key(signer) {
            Ok(_) => Ok(None),
            Err(Failed::Stop(stop)) => {
                if let (Stop::Key { .. }, Some(signer)) = (&stop, signer) {
                    self.retire(&log, signer).await;
                }
                Ok(Some(stop))
            }
            Err(Failed::Store(error)) => Err(error),
        }
    }

    /// Marks a key that was replaced, by the checkpoint beside it: given a database from before, it would go on there,
    /// and make a second history.
    async fn retire(&self, log: &LogState, signer: &LogSigner) {
        let Some(checkpoint) = &log.checkpoint else { return };
        // One that is marked already is not read again, nor is the history.
        let Ok(Some(_)) = kept::read(signer).await else { return };
        let Ok(history) = registered(&self.db).await else { return };
        let was_ours = |key: &PublicKey| signer.public_for(key.name()).as_ref() == Some(key);
        let replaced = history.keys().iter().any(was_ours) && history.last() == log.key.as_ref();
        if replaced {
            // What cannot be written is tried again the next time.
            drop(kept::write(signer, checkpoint).await);
        }
    }

    /// Lets a paused log go on under its next origin. What was signed of the one before stays signed: it is
    /// named in the record. The feed of events begins a new incarnation.
    ///
    /// # Errors
    /// [`StoreError::Refused`], when the log is not paused, or the registered key is not here.
    pub async fn resume_log(
        &self,
        signer: Option<&LogSigner>,
        resume: &LogResume,
    ) -> Result<LogState, StoreError> {
        said::by(&resume.operator, &resume.reason).map_err(StoreError::Refused)?;
        let mut tx = self.begin().await?;
        let mut batch = Batch::of_house(&mut tx, self).await?;
        match resumed(&mut tx, &mut batch, signer, resume).await {
            Ok(log) => {
                batch.write(&mut tx, self).await?;
                Self::commit(tx).await?;
                // After the commit: what is kept of the name before must not be lost where this is not written.
                if let (Some(signer), Some(signed)) = (signer, &log.checkpoint) {
                    let kept = kept::write(signer, signed).await;
                    kept.map_err(|e| StoreError::Refused(e.to_string()))?;
                }
                Ok(log)
            }
            Err(failed) => {
                Self::abandon(tx).await?;
                Err(failed.into_store())
            }
        }
    }

    /// All keys that were ever registered for the log, the oldest first.
    ///
    /// # Errors
    /// When the database fails, a record cannot be read, or a key was not handed over to by the one before it.
    pub async fn log_keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        let history = registered(&self.db).await.map_err(Failed::into_store)?;
        Ok(history.keys().to_vec())
    }

    /// Whether a checkpoint from elsewhere is one that this log signed, or, where it never had a key, has its name.
    ///
    /// # Errors
    /// [`StoreError::Refused`], in a sentence, where it is not.
    pub async fn known_checkpoint(&self, known: &Published) -> Result<(), StoreError> {
        let log = state::read(&self.db).await?;
        accepted(&self.db, &log, known).await.map(drop).map_err(Failed::into_store)
    }
}

async fn rotate(
    tx: &mut Tx,
    batch: &mut Batch,
    (old, new): (&LogSigner, &LogSigner),
    operator: &str,
) -> Result<Published, Failed> {
    let mut log = state::lock(tx).await?;
    if let Some(why) = log.paused.take() {
        return Err(Stop::Paused(why).into());
    }
    let Some(before) = log.signing_key(Some(old))? else {
        return Err(refused("no key is registered: the daemon registers the first one by itself"));
    };
    if old.public().name() != new.public().name() {
        let (new, old) = (new.public().name(), old.public().name());
        return Err(refused(&format!(
            "the new key is of {new}, and the log's of {old}: make one with --name {old}"
        )));
    }
    let key = new.key_for(&log.origin)?;
    if key.public() == before.public() {
        return Err(refused("it is the same key"));
    }
    sound(tx, &log).await?;
    agrees(tx, &log).await?;
    let kept = kept::read(old).await?;
    follows_kept(tx, &log, kept.as_ref(), old).await?;
    if let Some(there) = kept::read(new).await? {
        let Checkpoint { origin, head } = there.claimed();
        let is_ours = *origin == log.origin
            && head.size <= log.head.size
            && is_beginning(tx, &log, head).await?;
        if !is_ours {
            return Err(refused(&format!(
                "the new key has signed another log, of {} records, says the checkpoint beside {}: make one that has signed nothing, with topupd log keygen",
                head.size,
                new.file().display()
            )));
        }
    }
    let cause = handed_over(&before, key.public());
    batch.note(tx, JournalId::HOUSE, Cause::LogKey(cause), Some(operator)).await?;
    log.key = Some(key.public().clone());
    let checkpoint = log.signed(&key)?;
    log.checkpoint = Some(checkpoint.clone());
    state::write(tx, &log).await?;
    Ok(checkpoint)
}

async fn resumed(
    tx: &mut Tx,
    batch: &mut Batch,
    signer: Option<&LogSigner>,
    resume: &LogResume,
) -> Result<LogState, Failed> {
    let mut log = state::lock(tx).await?;
    if log.paused.is_none() {
        return Err(refused("the log is not paused: there is nothing to resume"));
    }
    let before = log.signing_key(signer)?;
    sound(tx, &log).await?;
    agrees(tx, &log).await?;
    let kept = match signer {
        Some(signer) => kept::read(signer).await?,
        None => None,
    };
    if let Some(known) = &resume.known {
        accepted(&mut *tx, &log, known).await?;
    }
    let own = log.key.as_ref().and(signer).map(|signer| signer.public().name().clone());
    let of = |origin: &KeyName| match &own {
        Some(own) => Origin::of(origin, own),
        None => Origin::unsigned(origin),
    };
    let now = of(&log.origin).ok_or_else(|| refused("the log's origin has no number"))?;
    // Of all that is known, what was signed last.
    let mut last = log.checkpoint.clone();
    let (mut number, mut size) = (now.number, log.checkpoint.as_ref().map(size_of));
    for known in [kept, resume.known.clone()].into_iter().flatten() {
        let origin = known.claimed().origin.clone();
        let Some(its) = of(&origin).map(|origin| origin.number) else {
            return Err(refused(&format!("the checkpoint of {origin} is of another log")));
        };
        if (its, Some(size_of(&known))) > (number, size) {
            (number, size) = (its, Some(size_of(&known)));
            last = Some(known);
        }
    }
    let next = number.checked_add(1).ok_or_else(|| refused("there is no name after that one"))?;
    let origin = now.name(next)?;
    let cause = LogResumed {
        origin: origin.to_string(),
        before: log.origin.to_string(),
        reason: resume.reason.clone(),
        checkpoint: last.map(|last| last.to_string()),
        size: log.head.size,
    };
    let operator = Some(resume.operator.as_str());
    batch.note(tx, JournalId::HOUSE, Cause::LogResumed(cause), operator).await?;
    log.origin = origin;
    log.checkpoint = None;
    if let (Some(signer), Some(before)) = (signer, before) {
        let key = signer.key_for(&log.origin)?;
        let cause = handed_over(&before, key.public());
        batch.note(tx, JournalId::HOUSE, Cause::LogKey(cause), operator).await?;
        log.key = Some(key.public().clone());
        log.checkpoint = Some(log.signed(&key)?);
    }
    log.paused = None;
    log.incarnation = log.incarnation.saturating_add(1);
    log.feed_no = 0;
    state::write(tx, &log).await?;
    Ok(log)
}

fn size_of(checkpoint: &Published) -> u64 {
    checkpoint.claimed().head.size
}

fn refused(why: &str) -> Failed {
    Failed::Store(StoreError::Refused(why.to_owned()))
}
