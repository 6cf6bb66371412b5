//! The log's key is a record of the house: registered once, replaced by its holder, and named anew after a fork.

use crate::domain::journal::{Cause, JournalId, LogKey, LogResumed};
use crate::domain::log::checkpoint::Published;
use crate::domain::log::key::{KeyName, PublicKey};
use crate::domain::said;
use crate::store::db::{On, Tx, query};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::ledger::Batch;

use super::origin::Origin;
use super::round::signed;
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
        let key = signer.public().clone();
        let cause =
            LogKey { public_key: key.to_string(), origin: key.name().to_string(), replaces: None };
        batch.note(&mut tx, JournalId::HOUSE, Cause::LogKey(cause), None).await?;
        log.origin = key.name().clone();
        log.key = Some(key);
        state::write(&mut tx, &log).await?;
        batch.write(&mut tx, self).await?;
        Store::commit(tx).await?;
        Ok(())
    }
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
        kept::write(new.file(), &checkpoint)
            .await
            .map_err(|e| StoreError::Refused(e.to_string()))?;
        Self::commit(tx).await?;
        new.key_for(&checkpoint.claimed().origin)
            .map(|key| key.public().clone())
            .map_err(Failed::into_store)
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
    /// When the database fails or a record cannot be read.
    pub async fn log_keys(&self) -> Result<Vec<PublicKey>, StoreError> {
        Ok(keys_of(&house_causes(&self.db, "log_key").await?))
    }
}

/// The causes of the house's records of a kind, the oldest first.
pub(super) async fn house_causes(
    on: impl Into<On<'_>>,
    kind: &'static str,
) -> Result<Vec<Cause>, StoreError> {
    let rows =
        query("SELECT kind, cause FROM records WHERE journal_id = 0 AND kind = $1 ORDER BY seq")
            .bind(kind)
            .fetch_all(on)
            .await
            .map_err(StoreError::doing("read the records of the log's keys"))?;
    let kind = crate::domain::journal::Kind::parse(kind)
        .map_err(|e| StoreError::Impossible(e.to_string()))?;
    rows.iter()
        .map(|row| {
            let cause = row.text("records", "cause")?;
            Cause::from_json(kind, &cause)
                .map_err(|e| crate::store::rows::corrupt("records", "cause", &e.to_string()))
        })
        .collect()
}

/// The keys that these records register.
pub(super) fn keys_of(causes: &[Cause]) -> Vec<PublicKey> {
    let keys = causes.iter().filter_map(|cause| match cause {
        Cause::LogKey(key) => key.public_key.parse().ok(),
        _ => None,
    });
    keys.collect()
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
    log.check()?;
    if let Some(kept) = kept::read(old.file()).await?
        && kept.claimed().head.size > log.head.size
    {
        return Err(refused("the checkpoint beside the old key is larger than the log"));
    }
    let cause = LogKey {
        public_key: key.public().to_string(),
        origin: log.origin.to_string(),
        replaces: Some(before.public().to_string()),
    };
    batch.note(tx, JournalId::HOUSE, Cause::LogKey(cause), Some(operator)).await?;
    log.key = Some(key.public().clone());
    let checkpoint = signed(&log, &key)?;
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
    log.signing_key(signer)?;
    let kept = match signer {
        Some(signer) => kept::read(signer.file()).await?,
        None => None,
    };
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
    let origin = now.name(number.saturating_add(1))?;
    let cause = LogResumed {
        origin: origin.to_string(),
        before: log.origin.to_string(),
        reason: resume.reason.clone(),
        checkpoint: last.map(|last| last.to_string()),
        size: log.head.size,
    };
    let operator = Some(resume.operator.as_str());
    batch.note(tx, JournalId::HOUSE, Cause::LogResumed(cause), operator).await?;
    if let (Some(signer), Some(before)) = (signer, log.key.clone()) {
        let key = signer.key_for(&origin)?.public().clone();
        let cause = LogKey {
            public_key: key.to_string(),
            origin: origin.to_string(),
            replaces: Some(before.to_string()),
        };
        batch.note(tx, JournalId::HOUSE, Cause::LogKey(cause), operator).await?;
        log.key = Some(key);
    }
    log.origin = origin;
    log.paused = None;
    log.checkpoint = None;
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
