//! Checkpoints (C2SP `tlog-checkpoint`): which log, how many records, and the root over them; signed, or not.
//!
//! ```text
//! example.com/topupd
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — example.com/topupd Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
//! ```
//!
//! Stricter than the specification, as all of these are checkpoints of logs of topupd: the origin is the name of the key that
//! signs; lines of extension are refused, because who monitors a log cannot check them. A checkpoint carries no time.

use std::fmt;
use std::str::FromStr;

use super::key::{KeyError, KeyName, PrivateKey, PublicKey};
use super::note::{Note, NoteError};
use super::text;
use super::tree::{Hash, Root, TreeHead};

/// The longest text of a checkpoint without its signatures, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// Why a text is no checkpoint, or not one to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not three lines, each with its line end.
    #[error(
        "a checkpoint has three lines: the log's name, its size, its root; and each ends with a line end"
    )]
    Lines,
    /// Lines behind the root.
    #[error(
        "the checkpoint has lines behind its root; topupd signs none, and does not guess what they mean"
    )]
    Extension,
    /// The origin is not the name of a log.
    #[error("the checkpoint's first line: {0}")]
    Origin(KeyError),
    /// The size is no number, or has another spelling than the one.
    #[error("the checkpoint's second line is no number of records")]
    Size,
    /// The root is not 32 bytes in base64.
    #[error("the checkpoint's third line is no root: 32 bytes in base64")]
    Root,
    /// No records, and another root than that of an empty tree.
    #[error("the checkpoint says that the log is empty, and has another root than an empty log")]
    NotEmpty,
    /// The note around it is none, or is not signed by the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Nobody signed it.
    #[error("the checkpoint is not signed")]
    Unsigned,
    /// None of the keys is one of this log.
    #[error("the checkpoint is of the log {found}, and no key of it is known here")]
    OtherLog {
        /// The log that it is of.
        found: KeyName,
    },
    /// A key of one name may not sign for a log of another name.
    #[error(
        "the key {key} cannot sign for the log {origin}: a log is signed by a key of its own name"
    )]
    OtherKey {
        /// The key's name.
        key: KeyName,
        /// The log's name.
        origin: KeyName,
    },
}

/// Why a checkpoint cannot come after one that was signed before. Nothing may be signed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// They are of two logs.
    #[error("the last signed checkpoint is of the log {kept}, and this one of {origin}")]
    OtherLog {
        /// The log of the checkpoint that was kept.
        kept: KeyName,
        /// The log of this one.
        origin: KeyName,
    },
    /// The log is shorter than it was: an older backup, or records were deleted.
    #[error(
        "the log has {size} records, and a checkpoint of {kept} was signed before: it is an older copy, or its end was lost"
    )]
    Shrunk {
        /// Size of the checkpoint that was kept.
        kept: u64,
        /// Size of this one.
        size: u64,
    },
    /// Two histories of one size.
    #[error(
        "a checkpoint of the same {size} records with another root was signed before: two histories"
    )]
    OtherRoot {
        /// The size of both.
        size: u64,
    },
}

/// Which log, and what its tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: that of the keys that sign for it.
    pub origin: KeyName,
    /// Size and root.
    pub head: TreeHead,
}

impl Checkpoint {
    /// Checks that this one may be signed after `kept`: longer, or the very same. A longer one is a continuation only if
    /// its consistency is proved besides ([`super::tree::verify_consistency`]).
    pub fn may_follow(&self, kept: &Self) -> Result<(), ForkError> {
        let (size, before) = (self.head.size, kept.head.size);
        if self.origin != kept.origin {
            let (kept, origin) = (kept.origin.clone(), self.origin.clone());
            return Err(ForkError::OtherLog { kept, origin });
        }
        if size < before {
            return Err(ForkError::Shrunk { kept: before, size });
        }
        if size == before && self.head.root != kept.head.root {
            return Err(ForkError::OtherRoot { size });
        }
        Ok(())
    }

    /// As it is handed out with a signature. Signing the same one again gives the same bytes.
    ///
    /// # Errors
    /// [`CheckpointError::OtherKey`] where the key has another name than the log.
    pub fn signed(self, key: &PrivateKey) -> Result<Published, CheckpointError> {
        let mut published = self.unsigned()?;
        published.sign(key)?;
        Ok(published)
    }

    /// As it is handed out where there is no key.
    ///
    /// # Errors
    /// None that is known: an origin is text that a note can have.
    pub fn unsigned(self) -> Result<Published, CheckpointError> {
        let note = Note::new(self.to_string())?;
        Ok(Published { claimed: self, note })
    }
}

impl fmt::Display for Checkpoint {
    /// What is signed: three lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = text::to_base64(&self.head.root.0.0);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.head.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(CheckpointError::Lines);
        }
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = text.splitn(4, '\n');
        let mut line = || lines.next().ok_or(CheckpointError::Lines);
        let (origin, size, root) = (line()?, line()?, line()?);
        if lines.next().is_some() {
            return Err(CheckpointError::Extension);
        }
        let origin = origin.parse().map_err(CheckpointError::Origin)?;
        let size = text::decimal(size).ok_or(CheckpointError::Size)?;
        let root = text::hash_from_base64(root).ok_or(CheckpointError::Root)?;
        let head = TreeHead { size, root: Root(Hash(root)) };
        if size == 0 && head != TreeHead::empty() {
            return Err(CheckpointError::NotEmpty);
        }
        Ok(Self { origin, head })
    }
}

/// A checkpoint as it is handed out and kept: with signatures, or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    claimed: Checkpoint,
    note: Note,
}

impl Published {
    /// What it says. Nobody vouches for that before [`Published::verify`].
    pub const fn claimed(&self) -> &Checkpoint {
        &self.claimed
    }

    /// The text and all signatures, those of witnesses too.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Whether anybody signed it, known or not.
    pub fn is_signed(&self) -> bool {
        !self.note.signatures().is_empty()
    }

    /// Adds a signature: of a new key of the log beside the old one.
    ///
    /// # Errors
    /// [`CheckpointError::OtherKey`] where the key has another name than the log.
    pub fn sign(&mut self, key: &PrivateKey) -> Result<(), CheckpointError> {
        let (name, origin) = (key.public().name(), &self.claimed.origin);
        if name != origin {
            let (key, origin) = (name.clone(), origin.clone());
            return Err(CheckpointError::OtherKey { key, origin });
        }
        Ok(self.note.sign(key)?)
    }

    /// What it says, after a key of that log signed it. Of the keys only those with the log's name count; a wrong signature
    /// of any one of them refuses it.
    ///
    /// # Errors
    /// [`CheckpointError`] where no such key signed it.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<&Checkpoint, CheckpointError> {
        if !self.is_signed() {
            return Err(CheckpointError::Unsigned);
        }
        let origin = &self.claimed.origin;
        let own: Vec<PublicKey> = keys.iter().filter(|k| k.name() == origin).cloned().collect();
        if own.is_empty() {
            return Err(CheckpointError::OtherLog { found: origin.clone() });
        }
        self.note.verify(&own)?;
        Ok(&self.claimed)
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

impl FromStr for Published {
    type Err = CheckpointError;

    /// Three lines alone are one that is not signed.
    fn from_str(published: &str) -> Result<Self, CheckpointError> {
        if published.contains("\n\n") {
            let note: Note = published.parse()?;
            return Ok(Self { claimed: note.text().parse()?, note });
        }
        published.parse::<Checkpoint>()?.unsigned()
    }
}
