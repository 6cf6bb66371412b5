//! The Merkle tree of RFC 6962: how leaves and nodes are hashed, and what a proof must show.
//!
//! It verifies proofs; [`super::proof`] makes them. A size is only as good as its source: a path proves that a leaf
//! is under a root, and the root says nothing of the size. So [`TreeHead`] holds both, as a checkpoint signs both.

use std::fmt;

use alloy::primitives::hex;
use sha2::{Digest, Sha256};

/// The largest size of a log: what a signed 64-bit column of a database holds. A tree of it is 63 levels high.
pub const LARGEST_SIZE: u64 = u64::MAX >> 1;

/// The most hashes that a proof of inclusion or of consistency has, in a tree of [`LARGEST_SIZE`].
pub const PATH_MAX: usize = 64;

/// The hash of a leaf, or of a node over two of them. Never that of an empty tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of a leaf: sha-256 of a zero byte and the entry. In topupd's log an entry is the seal of a record.
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self::of(&[&[0], entry])
    }

    /// Of a node: sha-256 of a byte of one and both children.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        Self::of(&[&[1], &left.0, &right.0])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The root of a whole tree. A type of its own, so that a root is never given where a leaf is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root(pub Hash);

impl Root {
    /// Of the tree without leaves: sha-256 of nothing.
    pub fn empty() -> Self {
        Self(Hash::of(&[]))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a tree is: how many leaves, and their root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves it has.
    pub size: u64,
    /// The root over all of them.
    pub root: Root,
}

impl TreeHead {
    /// Of the tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, root: Root::empty() }
    }
}

/// Why a proof does not show what it should, or cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("a log of {size} records has no record with the index {index}")]
    NoSuchLeaf {
        /// Index that was asked for, from 0.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
    /// The tree that should come first is the larger one.
    #[error("the log has {new} records, and the checkpoint to compare with has {old}: it shrank")]
    Shrunk {
        /// Size of the tree that should come first.
        old: u64,
        /// Size of the other one.
        new: u64,
    },
    /// More leaves than [`LARGEST_SIZE`].
    #[error("a log cannot have {size} records")]
    TooLarge {
        /// Size that was given.
        size: u64,
    },
    /// Hashes are missing.
    #[error("the proof has too few hashes for a log of this size")]
    TooShort,
    /// There are more hashes than the size allows.
    #[error("the proof has too many hashes for a log of this size")]
    TooLong,
    /// The proof leads to another root than that of the (new) tree.
    #[error("the proof does not lead to the root of the log")]
    OtherRoot,
    /// The proof leads to another root than that of the old tree.
    #[error(
        "the proof does not lead to the root of the older checkpoint: its history is not the beginning of this log"
    )]
    OtherOldRoot,
    /// Two trees of one size with different roots: two histories.
    #[error("two logs of {size} records have different roots: they are two histories")]
    Fork {
        /// The size of both.
        size: u64,
    },
    /// A tree without leaves whose root is not [`Root::empty`].
    #[error("a log without records has another root than that of an empty tree")]
    NotEmpty,
}

/// Checks that the leaf is at this index of the tree (RFC 9162 §2.1.3.2). `path` goes from the leaf's sibling to
/// the root's child.
///
/// # Errors
/// [`ProofError`] where it does not show that.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    path: &[Hash],
    head: &TreeHead,
) -> Result<(), ProofError> {
    let last = last_of(head.size)?.filter(|last| index <= *last);
    let mut last = last.ok_or(ProofError::NoSuchLeaf { index, size: head.size })?;
    let (mut at, mut hash) = (index, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if goes_left(&mut at, &mut last) {
            hash = Hash::of_node(sibling, &hash);
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    match (last, Root(hash) == head.root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::OtherRoot),
        _ => Err(ProofError::TooShort),
    }
}

/// Checks that the old tree is the beginning of the new one (RFC 9162 §2.1.4.2). Of an empty tree, and of two of
/// one size, nothing is to be proved, and the path must be empty.
///
/// # Errors
/// [`ProofError`] where it does not show that.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, path: &[Hash]) -> Result<(), ProofError> {
    let (Some(old_last), Some(mut last)) = (last_of(old.size)?, last_of(new.size)?) else {
        return verify_from_empty(old, new, path);
    };
    if old.size > new.size {
        return Err(ProofError::Shrunk { old: old.size, new: new.size });
    }
    if old.size == new.size {
        return match (path.is_empty(), old.root == new.root) {
            (_, false) => Err(ProofError::Fork { size: old.size }),
            (false, _) => Err(ProofError::TooLong),
            _ => Ok(()),
        };
    }
    // A perfect old tree is a node of the new one: the path leaves its hash out.
    let perfect = old.size.is_power_of_two().then_some(&old.root.0);
    let mut path = perfect.into_iter().chain(path);
    let Some(first) = path.next() else { return Err(ProofError::TooShort) };
    let mut at = old_last;
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old_hash, mut hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if goes_left(&mut at, &mut last) {
            old_hash = Hash::of_node(sibling, &old_hash);
            hash = Hash::of_node(sibling, &hash);
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::TooShort);
    }
    if Root(old_hash) != old.root {
        return Err(ProofError::OtherOldRoot);
    }
    if Root(hash) != new.root { Err(ProofError::OtherRoot) } else { Ok(()) }
}

/// Whether the sibling stands to the left. Where the node is the last one of its level and has no right sibling,
/// both numbers climb to where it has a left one.
fn goes_left(at: &mut u64, last: &mut u64) -> bool {
    if *at & 1 == 0 && at != last {
        return false;
    }
    while *at & 1 == 0 && *at != 0 {
        (*at, *last) = (*at >> 1, *last >> 1);
    }
    true
}

/// The index of the last leaf, if there is one.
fn last_of(size: u64) -> Result<Option<u64>, ProofError> {
    if size > LARGEST_SIZE {
        return Err(ProofError::TooLarge { size });
    }
    Ok(size.checked_sub(1))
}

/// One of the trees has no leaves.
fn verify_from_empty(old: &TreeHead, new: &TreeHead, path: &[Hash]) -> Result<(), ProofError> {
    for head in [old, new] {
        if head.size == 0 && head.root != Root::empty() {
            return Err(ProofError::NotEmpty);
        }
    }
    if old.size > new.size {
        return Err(ProofError::Shrunk { old: old.size, new: new.size });
    }
    if path.is_empty() { Ok(()) } else { Err(ProofError::TooLong) }
}
