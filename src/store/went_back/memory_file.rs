//! The file of what was seen, beside the log's key: what stands in it, and how it is written.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tokio::fs;

use crate::domain::ids::AddressId;
use crate::domain::journal::JournalId;
use crate::store::db::sqlite::beside::beside;
use crate::store::errors::StoreError;
use crate::store::ledger::RecordPlace;
use crate::store::registry::given_out::INDEXES;
use crate::store::went_back::facts::{Children, Facts};
use crate::store::went_back::own_commits::SeenRecord;
use crate::store::went_back::whole_file::{name, put};

/// Where it is kept for the database of a key's log.
pub fn seen_beside(key_file: &Path) -> PathBuf {
    beside(key_file, ".seen")
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Memory {
    /// How many records there were.
    pub(in crate::store) records: Option<i64>,
    /// The newest one: journal, number, seal.
    pub(in crate::store) newest_record: Option<(i64, i64, B256)>,
    pub(in crate::store) newest_address: Option<(u32, Address)>,
    pub(in crate::store) newest_namespace: Option<(i64, String)>,
    /// The next index of each account key.
    pub(in crate::store) next_indexes: BTreeMap<String, i64>,
    /// The index after the last one that is registered, where some were left out after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::store) registered: BTreeMap<String, i64>,
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
pub(in crate::store) struct Kept {
    pub(in crate::store) file: PathBuf,
    pub(in crate::store) key_file: PathBuf,
    pub(in crate::store) content: Memory,
}

/// Pause between two looks at whether the lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no memory, or none can be written.
fn failed(file: &Path, what: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused(format!(
        "what was seen of the database, {}, {what}: {why}. It shows whether the database went back, and which addresses were given out. Put it right; or, if nothing was put back, delete it",
        file.display()
    ))
}

/// What stands in the file.
pub(in crate::store) async fn read(file: &Path) -> Result<Memory, StoreError> {
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

pub(in crate::store) fn not_kept(file: &Path, why: &io::Error) -> StoreError {
    StoreError::Refused(format!(
        "what was seen of the database cannot be kept in {}: {why}. Without it a database that is put back while no daemon runs is not noticed, and an address could be given out twice: make room there, or let this user write there",
        file.display()
    ))
}

/// Only one process writes it at a time, after it has read what another one wrote. The lock goes with the process. None
/// when somebody else has it for longer than `patience`: one that is frozen holds up nobody for good.
pub(in crate::store) async fn lock(
    file: &Path,
    key_file: &Path,
    patience: Duration,
) -> io::Result<Option<std::fs::File>> {
    // A file of its own, which nobody else may open: whoever may read a folder can lock it.
    let name = beside(file, ".lock");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    let lock = options.open(&name).await?.into_std().await;
    as_the_key(&name, key_file);
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::WouldBlock) if waited < patience => {
                tokio::time::sleep(LOCK_PAUSE).await;
                waited = waited.saturating_add(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(why)) => return Err(why),
        }
    }
}

/// Written by root, it is the daemon's nevertheless; anybody else may not give it away, and need not.
fn as_the_key(file: &Path, key_file: &Path) {
    #[cfg(unix)]
    if let Ok(key) = std::fs::metadata(key_file) {
        use std::os::unix::fs::{MetadataExt, chown};
        drop(chown(file, Some(key.uid()), Some(key.gid())));
    }
}

impl Kept {
    pub(in crate::store) fn facts(&self) -> Facts {
        self.content.clone().into()
    }

    /// The file, and the key beside it.
    pub(in crate::store) fn files(&self) -> (PathBuf, PathBuf) {
        (self.file.clone(), self.key_file.clone())
    }

    /// What is to stand in the file, unless that stands there already.
    pub(in crate::store) fn differs(&self, facts: &Facts) -> Option<Memory> {
        let content = Memory::from(facts);
        (content != self.content).then_some(content)
    }

    /// Takes over what somebody else has written. True when that is new.
    pub(in crate::store) fn takes(&mut self, content: Memory) -> bool {
        std::mem::replace(&mut self.content, content.clone()) != content
    }

    pub(in crate::store) fn is(&mut self, content: Memory) {
        self.content = content;
    }
}

/// Whole, or not at all. Only the key's owner reads it: account keys link all addresses of an installation. Who writes
/// it has the lock, so that one name does for the new file, and a process that was killed leaves one at most.
pub(in crate::store) async fn write(
    file: &Path,
    key_file: &Path,
    content: &Memory,
) -> io::Result<()> {
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
    as_the_key(&new, key_file);
    name(&new, file).await
}
