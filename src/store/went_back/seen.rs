//! What one process has seen of a database that only grows, and where it is kept. Only the memory; who compares it is `went_back`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::B256;

use crate::store::ledger::RecordPlace;
use crate::store::went_back::facts::Facts;
use crate::store::went_back::memory_file::{Kept, Memory};
use crate::store::went_back::own_commits::{OwnCommits, SeenRecord};
use crate::store::went_back::recent::Recent;

/// What one process has seen of a database that only grows.
#[derive(Debug, Default)]
pub(in crate::store) struct Seen {
    facts: Mutex<Facts>,
    own: Mutex<OwnCommits>,
    pub(in crate::store) recent: tokio::sync::Mutex<Recent>,
    /// The file that it is kept in, beside the log's key.
    kept: Mutex<Option<Kept>>,
    /// There is one, which this process may not read.
    unreadable: Mutex<Option<PathBuf>>,
    /// That it can be written was seen.
    tried: AtomicBool,
    /// What was recalled, and not yet compared in full.
    recalled: Mutex<Option<Recalled>>,
}

/// What another process has seen, or this one in another life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Recalled {
    pub(in crate::store) facts: Facts,
    /// What the last checkpoint shows besides.
    pub(in crate::store) older: Vec<String>,
}

impl Seen {
    pub(in crate::store) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn own(&self) -> MutexGuard<'_, OwnCommits> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is kept for what this process has seen, which has written nothing yet.
    pub(in crate::store) fn recall(&self, kept: Kept, older: Vec<String>) {
        let mut facts = self.facts();
        if facts.wrote.is_none() {
            let serving = facts.serving.take();
            *facts = Facts { serving, ..kept.facts() };
        }
        drop(facts);
        *self.recalled() = Some(Recalled { facts: kept.facts(), older });
        *self.kept() = Some(kept);
    }

    /// Takes what somebody else has kept meanwhile, if that is so: it is compared next.
    pub(in crate::store) fn recall_again(&self, content: Memory) -> bool {
        let facts = Facts::from(content.clone());
        let is_new = self.kept().as_mut().is_some_and(|kept| kept.takes(content));
        if is_new {
            let mut recalled = self.recalled();
            let older = recalled.take().map(|before| before.older).unwrap_or_default();
            *recalled = Some(Recalled { facts, older });
        }
        is_new
    }

    /// Whether something was recalled that nobody has compared yet.
    pub(in crate::store) fn is_recalled(&self) -> bool {
        self.recalled().is_some()
    }

    pub(in crate::store) fn cannot_recall(&self, file: PathBuf) {
        *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }

    /// The memory that this process may not read.
    pub(in crate::store) fn unreadable(&self) -> Option<PathBuf> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// That the memory can be written; false until that was seen.
    pub(in crate::store) fn tried(&self) -> &AtomicBool {
        &self.tried
    }

    pub(in crate::store) fn recalled(&self) -> MutexGuard<'_, Option<Recalled>> {
        self.recalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is kept, and the key beside which.
    pub(in crate::store) fn files(&self) -> Option<(PathBuf, PathBuf)> {
        self.kept().as_ref().map(Kept::files)
    }

    /// What is to be kept, where it is not.
    pub(in crate::store) fn to_keep(&self) -> Option<Memory> {
        let facts = self.facts().clone();
        self.kept().as_ref()?.differs(&facts)
    }

    /// That is kept now.
    pub(in crate::store) fn is_kept(&self, content: Memory) {
        if let Some(kept) = self.kept().as_mut() {
            kept.is(content);
        }
    }

    /// Remembers the newest record of a commit of this process.
    pub(in crate::store) fn wrote(&self, place: RecordPlace, seal: B256) {
        let record = SeenRecord { place, seal };
        self.facts().wrote = Some(record);
        self.own().add(record);
    }
}
