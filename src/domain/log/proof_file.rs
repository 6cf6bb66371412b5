//! Proof files (C2SP `tlog-proof`): that an entry is in a log, in one text that is verified without asking anybody.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//! …
//!
//! example.com/topupd
//! 109482
//! sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//!
//! — example.com/topupd …
//! ```
//!
//! The entry itself is not in it: who verifies computes the record's seal from the record. `extra` is carried along, and nobody
//! vouches for it.

use std::fmt;
use std::str::FromStr;

use super::checkpoint::{Checkpoint, CheckpointError, Published};
use super::key::PublicKey;
use super::note::NOTE_BYTES_MAX;
use super::text;
use super::tree::{self, Hash, PATH_MAX, ProofError};

/// The most bytes of [`ProofFile::extra`].
pub const EXTRA_BYTES_MAX: usize = 64 * 1024;
/// The longest text that is looked at, in bytes: `extra` in base64, the hashes, the checkpoint.
const FILE_BYTES_MAX: usize = NOTE_BYTES_MAX + 100 * 1024;
const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Why a text is no proof, or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// Beyond what any proof has.
    #[error("the proof is longer than any can be")]
    TooLong,
    /// Another kind of file.
    #[error("this is no proof: its first line is not c2sp.org/tlog-proof@v1")]
    FirstLine,
    /// There is no blank line with a checkpoint behind it.
    #[error("the proof has no checkpoint: a blank line and three lines are missing")]
    NoCheckpoint,
    /// The extra data are not base64, or longer than [`EXTRA_BYTES_MAX`].
    #[error("the proof's line of extra data is not base64, or longer than 64 KiB of data")]
    Extra,
    /// No index.
    #[error("the proof has no line that says: index, a space, and a number")]
    Index,
    /// A line that should be a hash is none.
    #[error("hash {number} of the proof is not 32 bytes in base64")]
    Hash {
        /// Which one, from 1.
        number: usize,
    },
    /// More hashes than any tree needs.
    #[error("the proof has more hashes than any log needs")]
    TooManyHashes,
    /// What is behind the blank line is no checkpoint, or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not shown to be in the log.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A proof that an entry is in the tree of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// Anything that the application put there. Not to be trusted.
    pub extra: Option<Vec<u8>>,
    /// The entry's index in the log, from 0.
    pub index: u64,
    /// Hashes from the leaf's sibling to the root's child.
    pub path: Vec<Hash>,
    /// The checkpoint whose tree has the entry.
    pub checkpoint: Published,
}

impl ProofFile {
    /// Checks that the entry is in the tree, and that the log signed the tree.
    ///
    /// # Errors
    /// [`ProofFileError`] where one of them is not shown.
    pub fn verify(&self, entry: &[u8], keys: &[PublicKey]) -> Result<&Checkpoint, ProofFileError> {
        self.checkpoint.verify(keys)?;
        self.verify_unsigned(entry)
    }

    /// Checks that the entry is in the tree that the checkpoint claims; not who made the checkpoint. For logs without a key, and
    /// where size and root are known from elsewhere.
    ///
    /// # Errors
    /// [`ProofFileError::Proof`] where that is not shown.
    pub fn verify_unsigned(&self, entry: &[u8]) -> Result<&Checkpoint, ProofFileError> {
        let checkpoint = self.checkpoint.claimed();
        let leaf = Hash::of_leaf(entry);
        tree::verify_inclusion(&leaf, self.index, &self.path, &checkpoint.head)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", text::to_base64(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", text::to_base64(&hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    fn from_str(file: &str) -> Result<Self, ProofFileError> {
        if file.len() > FILE_BYTES_MAX {
            return Err(ProofFileError::TooLong);
        }
        let rest = file.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix('\n'));
        let rest = rest.ok_or(ProofFileError::FirstLine)?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(ProofFileError::NoCheckpoint)?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(extra_of).transpose()?;
        let index = lines.next().and_then(|line| text::decimal(line.strip_prefix("index ")?));
        let index = index.ok_or(ProofFileError::Index)?;
        let mut path = Vec::new();
        for line in lines {
            let number = path.len().saturating_add(1);
            if number > PATH_MAX {
                return Err(ProofFileError::TooManyHashes);
            }
            let hash = text::hash_from_base64(line).ok_or(ProofFileError::Hash { number })?;
            path.push(Hash(hash));
        }
        Ok(Self { extra, index, path, checkpoint: checkpoint.parse()? })
    }
}

fn extra_of(line: &str) -> Result<Vec<u8>, ProofFileError> {
    let extra = line.strip_prefix("extra ").and_then(text::from_base64);
    extra.filter(|extra| extra.len() <= EXTRA_BYTES_MAX).ok_or(ProofFileError::Extra)
}
