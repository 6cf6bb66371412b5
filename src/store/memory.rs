//! What was seen of a database, kept beside the log's key: outside of the database, so that it does not go back with
//! it. A process that starts knows by it that rows which were committed are gone, and which ids were given out.
//!
//! It is written by whoever has seen something new, after the commits that it tells of; so at most the last second
//! is missing in it, and an older one is a part of it. Without a key of the log there is none.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tokio::fs;

use super::db::sqlite::beside;
use super::engine::Store;
use super::errors::StoreError;
use super::facts::Facts;
use super::ledger::RecordPlace;
use super::log::kept_beside;
use super::own_commits::SeenRecord;
use super::whole_file::{name, put};
use crate::domain::ids::AddressId;
use crate::domain::journal::JournalId;
use crate::domain::log::checkpoint::Published;

/// Where it is kept for the database of a key's log.
#[must_use]
pub fn seen_beside(key_file: &Path) -> PathBuf {
    beside(key_file, ".seen")
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    /// How many records there were.
    records: Option<i64>,
    /// The newest one: journal, number, seal.
    newest_record: Option<(i64, i64, B256)>,
    newest_address: Option<(u32, Address)>,
    newest_namespace: Option<(i64, String)>,
    /// The next index of each account key.
    next_indexes: BTreeMap<String, i64>,
}

impl From<&Facts> for Memory {
    fn from(facts: &Facts) -> Self {
        let record = |seen: SeenRecord| (seen.place.journal.0, seen.place.seq, seen.seal);
        Self {
            records: facts.records,
            newest_record: facts.head.map(record),
            newest_address: facts.address.map(|(id, address)| (id.0, address)),
            newest_namespace: facts.namespace.clone(),
            next_indexes: facts.next_indexes.clone(),
        }
    }
}

impl From<Memory> for Facts {
    fn from(memory: Memory) -> Self {
        let record = |(journal, seq, seal)| SeenRecord {
            place: RecordPlace { journal: JournalId(journal), seq },
            seal,
        };
        Self {
            records: memory.records,
            head: memory.newest_record.map(record),
            address: memory.newest_address.map(|(id, address)| (AddressId(id), address)),
            namespace: memory.newest_namespace,
            next_indexes: memory.next_indexes,
            ..Self::default()
        }
    }
}

/// A file that a process remembers in, and what stands there.
#[derive(Debug)]
pub(super) struct Kept {
    file: PathBuf,
    key_file: PathBuf,
    content: Memory,
}

impl Store {
    /// Remembers what was seen of this database, as it stands beside the log's key, and from now on keeps it there. Before
    /// anything was read: whatever is missing is told by the first comparison.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a file that cannot be read.
    pub async fn recall(&self, key_file: &Path) -> Result<(), StoreError> {
        let file = seen_beside(key_file);
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            StoreError::Refused(format!(
                "what was seen of the database, {}, {what}: {why}. It shows whether the database went back, and which addresses were given out. Put it right; or, if nothing was put back, delete it",
                file.display()
            ))
        };
        let content = match fs::read(&file).await {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed("is damaged", &e))?,
            Err(e) if e.kind() == ErrorKind::NotFound => Memory::default(),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                return Err(StoreError::Refused(format!(
                    "what was seen of the database, {}, may not be read by this user: give it to the user of the daemon (chown), as the key beside it",
                    file.display()
                )));
            }
            Err(e) => return Err(failed("cannot be read", &e)),
        };
        let older = self.older_than_checkpoint(key_file).await?;
        self.seen.recall(Kept { file, content, key_file: key_file.to_owned() }, older);
        Ok(())
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
        match fs::read(seen_beside(old)).await {
            Ok(bytes) => {
                let content: Memory = serde_json::from_slice(&bytes).unwrap_or_default();
                write(&seen_beside(new), new, &content).await.map_err(|e| {
                    StoreError::Refused(format!(
                        "what was seen of the database cannot be written to {}: {e}. Copy {} there",
                        seen_beside(new).display(),
                        seen_beside(old).display()
                    ))
                })
            }
            Err(_) => Ok(()),
        }
    }

    /// Keeps what was seen, where it is new. What was compared last, is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_seen(&self) -> Result<(), StoreError> {
        let Some((file, key_file, content)) = self.seen.to_keep() else { return Ok(()) };
        let written = write(&file, &key_file, &content).await;
        written.map_err(|e| {
            StoreError::Refused(format!(
                "what was seen of the database cannot be kept in {}: {e}. Without it a database that is put back while no daemon runs is not noticed",
                file.display()
            ))
        })?;
        self.seen.is_kept(content);
        Ok(())
    }
}

impl Kept {
    pub(super) fn facts(&self) -> Facts {
        self.content.clone().into()
    }

    /// The file, and what is to stand in it, unless that stands there already.
    pub(super) fn differs(&self, facts: &Facts) -> Option<(PathBuf, PathBuf, Memory)> {
        let content = Memory::from(facts);
        (content != self.content).then(|| (self.file.clone(), self.key_file.clone(), content))
    }

    pub(super) fn is(&mut self, content: Memory) {
        self.content = content;
    }
}

/// Whole, or not at all. Only the key's owner reads it: account keys link all addresses of an installation.
async fn write(file: &Path, key_file: &Path, content: &Memory) -> io::Result<()> {
    let new = beside(file, &format!(".new-{}", std::process::id()));
    let text = serde_json::to_vec(content)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    put(options.open(&new).await?, &text).await?;
    #[cfg(unix)]
    if let Ok(key) = std::fs::metadata(key_file) {
        use std::os::unix::fs::{MetadataExt, chown};
        // Written by root, it is the daemon's nevertheless; anybody else may not give it away, and need not.
        drop(chown(&new, Some(key.uid()), Some(key.gid())));
    }
    name(&new, file).await
}
