//! What was seen of a database, kept beside the log's key: outside of the database, so that it does not go back with
//! it. A process that starts knows by it that rows which were committed are gone, and which ids were given out.
//!
//! It is written by whoever has seen something new, after the commits that it tells of; whoever gives out an address or
//! an id writes it before that is said. What somebody else has written is compared before it is written over. Without a
//! key of the log there is none.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::fs;

use crate::domain::log::checkpoint::Published;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::log::kept_beside;
use crate::store::went_back::memory_file::{
    Kept, Memory, lock, not_kept, read, seen_beside, write,
};

/// How long whoever gives something out waits for others who write the memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon does, which has other things to do.
const A_MOMENT: Duration = Duration::from_millis(100);
/// So many times what was given out is tried to be kept: as long as [`PATIENCE`], at least.
const TRIES: u32 = 50;

/// That somebody else does not let go of it.
fn held(file: &Path) -> StoreError {
    StoreError::Refused(format!(
        "what was seen of the database cannot be kept in {}: another process holds the lock beside it and does not let go. Find who is frozen (lsof, or fuser, of that .lock file), let it go on or end it, and do this again",
        file.display()
    ))
}

impl Store {
    /// Remembers what was seen of this database, as it stands beside the log's key, and from now on keeps it there. Before
    /// anything was read: whatever is missing is told by the first comparison.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a file that cannot be read.
    pub async fn recall(&self, key_file: &Path) -> Result<(), StoreError> {
        let file = seen_beside(key_file);
        let content = read(&file).await?;
        let older = self.older_than_checkpoint(key_file).await?;
        self.seen.recall(Kept { file, content, key_file: key_file.to_owned() }, older);
        Ok(())
    }

    /// There is a memory, which this process may not read: it gives nothing out.
    pub fn cannot_recall(&self, key_file: &Path) {
        self.seen.cannot_recall(seen_beside(key_file));
    }

    /// Whether somebody else has seen more meanwhile, which is to be compared next.
    pub(in crate::store) async fn recall_again(&self) -> Result<bool, StoreError> {
        let Some((file, _)) = self.seen.files() else { return Ok(false) };
        Ok(self.seen.recall_again(read(&file).await?))
    }

    /// Whether what is given out can be remembered. Asked before it is given out, once.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with what stands in the way.
    pub(in crate::store) async fn can_remember(&self) -> Result<(), StoreError> {
        if let Some(file) = self.seen.unreadable() {
            return Err(StoreError::Refused(format!(
                "no address is derived: this user may not read {}, which shows what was given out, and keeps it: do it as the user of the daemon",
                file.display()
            )));
        }
        let Some((file, key_file)) = self.seen.files() else { return Ok(()) };
        if self.seen.tried().load(Ordering::Relaxed) {
            return Ok(());
        }
        let locked = lock(&file, &key_file, PATIENCE).await.map_err(|e| not_kept(&file, &e))?;
        let Some(_lock) = locked else { return Err(held(&file)) };
        let there = read(&file).await?;
        write(&file, &key_file, &there).await.map_err(|e| not_kept(&file, &e))?;
        self.seen.tried().store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what was registered by a transaction that is committed. Before it is said to anybody: what nobody remembers
    /// may be given out again.
    ///
    /// # Errors
    /// When it cannot be kept, or the database has lost it already.
    pub(in crate::store) async fn remember(&self, what: &str) -> Result<(), StoreError> {
        let Some((file, _)) = self.seen.files() else { return Ok(()) };
        // Somebody else who writes it is compared with first. There are few.
        let mut why = held(&file);
        for _ in 0..TRIES {
            self.compare_now().await?;
            match self.keep_seen().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    why = error;
                    break;
                }
            }
        }
        Err(StoreError::Refused(format!("{what} registered, but {why}")))
    }

    /// What shows that the log has become shorter than the checkpoint that was signed last, if it has: so it is, though
    /// nothing else is remembered. Who may not read the checkpoint is told by whoever signs.
    async fn older_than_checkpoint(&self, key_file: &Path) -> Result<Vec<String>, StoreError> {
        let Ok(text) = fs::read_to_string(kept_beside(key_file)).await else { return Ok(vec![]) };
        let Ok(kept) = text.parse::<Published>() else { return Ok(vec![]) };
        if !self.has_schema().await? {
            return Ok(vec![]);
        }
        let (signed, log) = (kept.claimed(), self.log_state().await?);
        // A log that does not know its key yet has no name of it either. Of a paused one it was said.
        let is_of_it = signed.origin == log.origin || log.key.is_none();
        if !is_of_it || log.paused.is_some() || signed.head.size <= log.head.size {
            return Ok(vec![]);
        }
        Ok(vec![format!(
            "the log has {} records, and a checkpoint of {} was signed before",
            log.head.size, signed.head.size
        )])
    }

    /// Has the memory go along to a new key of the log.
    ///
    /// # Errors
    /// When it cannot be written there.
    pub async fn take_seen_along(&self, old: &Path, new: &Path) -> Result<(), StoreError> {
        let content = read(&seen_beside(old)).await?;
        if content == Memory::default() {
            return Ok(());
        }
        write(&seen_beside(new), new, &content).await.map_err(|e| {
            StoreError::Refused(format!(
                "what was seen of the database cannot be written to {}: {e}. Copy {} there",
                seen_beside(new).display(),
                seen_beside(old).display()
            ))
        })
    }

    /// Keeps what was seen, where it is new, and what was compared last. False where somebody else has seen more
    /// meanwhile, which is to be compared first, and is not written over; or is at it, and does not end in a moment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_seen(&self) -> Result<bool, StoreError> {
        let Some((file, key_file)) = self.seen.files() else { return Ok(true) };
        if self.recall_again().await? || self.seen.is_recalled() {
            return Ok(false);
        }
        let Some(content) = self.seen.to_keep() else { return Ok(true) };
        let locked = lock(&file, &key_file, A_MOMENT).await.map_err(|e| not_kept(&file, &e))?;
        let Some(_lock) = locked else { return Ok(false) };
        // Somebody may have written since it was read.
        if self.recall_again().await? {
            return Ok(false);
        }
        write(&file, &key_file, &content).await.map_err(|e| not_kept(&file, &e))?;
        self.seen.is_kept(content);
        Ok(true)
    }
}
