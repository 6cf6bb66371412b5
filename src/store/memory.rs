//! What was seen of a database, kept beside the log's key: outside of the database, so that it does not go back with
//! it. A process that starts knows by it that rows which were committed are gone, and which ids were given out.
//!
//! It is written by whoever has seen something new, after the commits that it tells of; whoever gives out an address or
//! an id writes it before that is said. What somebody else has written is compared before it is written over. Without a
//! key of the log there is none.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tokio::fs;

use super::db::sqlite::beside;
use super::engine::Store;
use super::errors::StoreError;
use super::facts::{Children, Facts};
use super::given_out::INDEXES;
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
    /// The index after the last one that is registered, where some were left out after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    registered: BTreeMap<String, i64>,
}

impl From<&Facts> for Memory {
    fn from(facts: &Facts) -> Self {
        let record = |seen: SeenRecord| (seen.place.journal.0, seen.place.seq, seen.seal);
        Self {
            records: facts.records,
            newest_record: facts.head.map(record),
            newest_address: facts.address.map(|(id, address)| (id.0, address)),
            newest_namespace: facts.namespace.clone(),
            next_indexes: facts.children.iter().map(|(k, c)| (k.clone(), c.next)).collect(),
            registered: (facts.children.iter())
                .filter(|(_, children)| children.registered != children.next)
                .map(|(xpub, children)| (xpub.clone(), children.registered))
                .collect(),
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
            children: (memory.next_indexes.into_iter())
                .map(|(xpub, next)| {
                    let registered = memory.registered.get(&xpub).copied().unwrap_or(next);
                    (xpub, Children { registered, next })
                })
                .collect(),
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

/// Why there is no memory, or none can be written.
fn failed(file: &Path, what: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused(format!(
        "what was seen of the database, {}, {what}: {why}. It shows whether the database went back, and which addresses were given out. Put it right; or, if nothing was put back, delete it",
        file.display()
    ))
}

/// What stands in the file.
async fn read(file: &Path) -> Result<Memory, StoreError> {
    let bytes = match fs::read(file).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Memory::default()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            return Err(StoreError::Refused(format!(
                "what was seen of the database, {}, may not be read by this user: give it to the user of the daemon (chown), as the key beside it",
                file.display()
            )));
        }
        Err(e) => return Err(failed(file, "cannot be read", &e)),
    };
    let memory: Memory =
        serde_json::from_slice(&bytes).map_err(|e| failed(file, "is damaged", &e))?;
    let indexes = memory.next_indexes.values().chain(memory.registered.values());
    match indexes.copied().find(|index| !(0..=INDEXES).contains(index)) {
        Some(index) => {
            Err(failed(file, "is damaged", &format!("no address has the index {index}")))
        }
        None => Ok(memory),
    }
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
    pub(super) async fn recall_again(&self) -> Result<bool, StoreError> {
        let Some((file, _)) = self.seen.files() else { return Ok(false) };
        Ok(self.seen.recall_again(read(&file).await?))
    }

    /// Whether what is given out can be remembered. Asked before it is given out, once.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with what stands in the way.
    pub(super) async fn can_remember(&self) -> Result<(), StoreError> {
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
        let _lock = lock(&file).await.map_err(|e| not_kept(&file, &e))?;
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
    pub(super) async fn remember(&self, what: &str) -> Result<(), StoreError> {
        if self.seen.files().is_none() {
            return Ok(());
        }
        // Somebody else who writes it is compared with first. There are few.
        let mut why = StoreError::Refused("others write it all the time".into());
        for _ in 0..16 {
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

    /// Keeps what was seen, where it is new, and what was compared last. False where somebody else has seen more
    /// meanwhile: that is to be compared first, and is not written over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep_seen(&self) -> Result<bool, StoreError> {
        let Some((file, key_file)) = self.seen.files() else { return Ok(true) };
        let _lock = lock(&file).await.map_err(|e| not_kept(&file, &e))?;
        if self.recall_again().await? || self.seen.is_recalled() {
            return Ok(false);
        }
        let Some(content) = self.seen.to_keep() else { return Ok(true) };
        write(&file, &key_file, &content).await.map_err(|e| not_kept(&file, &e))?;
        self.seen.is_kept(content);
        Ok(true)
    }
}

fn not_kept(file: &Path, why: &io::Error) -> StoreError {
    StoreError::Refused(format!(
        "what was seen of the database cannot be kept in {}: {why}. Without it a database that is put back while no daemon runs is not noticed, and an address could be given out twice: make room there, or let this user write there",
        file.display()
    ))
}

/// Only one process writes it at a time, after it has read what another one wrote. The lock is that of the folder, and
/// goes with the process.
async fn lock(file: &Path) -> io::Result<std::fs::File> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let folder = std::fs::File::open(folder)?;
        folder.lock()?;
        Ok(folder)
    });
    locked.await.map_err(io::Error::other)?
}

impl Kept {
    pub(super) fn facts(&self) -> Facts {
        self.content.clone().into()
    }

    /// The file, and the key beside it.
    pub(super) fn files(&self) -> (PathBuf, PathBuf) {
        (self.file.clone(), self.key_file.clone())
    }

    /// What is to stand in the file, unless that stands there already.
    pub(super) fn differs(&self, facts: &Facts) -> Option<Memory> {
        let content = Memory::from(facts);
        (content != self.content).then_some(content)
    }

    /// Takes over what somebody else has written. True when that is new.
    pub(super) fn takes(&mut self, content: Memory) -> bool {
        std::mem::replace(&mut self.content, content.clone()) != content
    }

    pub(super) fn is(&mut self, content: Memory) {
        self.content = content;
    }
}

/// Whole, or not at all. Only the key's owner reads it: account keys link all addresses of an installation. Who writes
/// it has the lock, so that one name does for the new file, and a process that was killed leaves one at most.
async fn write(file: &Path, key_file: &Path, content: &Memory) -> io::Result<()> {
    let new = beside(file, ".new");
    let text = serde_json::to_vec(content)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    if let Err(why) = put(options.open(&new).await?, &text).await {
        drop(fs::remove_file(&new).await);
        return Err(why);
    }
    #[cfg(unix)]
    if let Ok(key) = std::fs::metadata(key_file) {
        use std::os::unix::fs::{MetadataExt, chown};
        // Written by root, it is the daemon's nevertheless; anybody else may not give it away, and need not.
        drop(chown(&new, Some(key.uid()), Some(key.gid())));
    }
    name(&new, file).await
}
