//! The right edge of the tree: the little that is needed to append to it and to know its root.
//!
//! A tree of n leaves is a row of perfect trees, one for each bit of n, the largest first; their roots are the edge
//! (a "compact range"): at most 63 hashes. Who has them appends without reading the tree. It says nothing of what
//! is inside these trees; [`super::tiles`] stores that.

use super::tree::{Hash, LARGEST_SIZE, Root, TreeHead};

/// The right edge of a tree. Size and number of hashes fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The roots of the perfect trees, the largest first.
    hashes: Vec<Hash>,
}

/// Why there is no such edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// The hashes are not those of a tree of this size.
    #[error("the edge of a log of {size} records has {expected} hashes, and not {found}")]
    Count {
        /// Size that was given.
        size: u64,
        /// How many hashes it has.
        expected: u32,
        /// How many there are.
        found: usize,
    },
    /// Bytes that are not a row of hashes.
    #[error("{bytes} bytes are no row of hashes of 32 bytes")]
    Bytes {
        /// How many there are.
        bytes: usize,
    },
    /// More leaves than [`LARGEST_SIZE`].
    #[error("a log cannot have so many records")]
    Full,
    /// The edge is of a tree of another size.
    #[error("the stored edge is of {edge} records, and the log has {size}")]
    OtherSize {
        /// Size of the edge's tree.
        edge: u64,
        /// Size of the tree that it should be of.
        size: u64,
    },
    /// The edge is of another tree. Nothing may be signed: it is damaged, or the root is.
    #[error("the stored edge gives the root {edge} at {size} records, and the log's is {root}")]
    OtherRoot {
        /// The size of both.
        size: u64,
        /// What the edge gives.
        edge: Root,
        /// What it should be.
        root: Root,
    },
}

impl Edge {
    /// The edge of a tree of this size.
    ///
    /// # Errors
    /// [`EdgeError`] where the size cannot be, or has another number of hashes.
    pub fn new(size: u64, hashes: Vec<Hash>) -> Result<Self, EdgeError> {
        let (expected, found) = (size.count_ones(), hashes.len());
        if size > LARGEST_SIZE {
            return Err(EdgeError::Full);
        }
        if usize::try_from(expected) != Ok(found) {
            return Err(EdgeError::Count { size, expected, found });
        }
        Ok(Self { size, hashes })
    }

    /// The edge of a tree of this size, as [`Edge::to_bytes`] wrote it.
    ///
    /// # Errors
    /// [`EdgeError`] where it is not.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, EdgeError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(EdgeError::Bytes { bytes: bytes.len() });
        }
        Self::new(size, hashes.iter().copied().map(Hash).collect())
    }

    /// The hashes one after the other, the largest tree's first.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect trees, the largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The root of the tree.
    pub fn root(&self) -> Root {
        let folded = self.hashes.iter().rev().copied();
        folded.reduce(|right, left| Hash::of_node(&left, &right)).map_or_else(Root::empty, Root)
    }

    /// Size and root of the tree.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }

    /// Checks that this is the edge of that tree.
    ///
    /// # Errors
    /// [`EdgeError::OtherSize`] or [`EdgeError::OtherRoot`].
    pub fn check(&self, head: &TreeHead) -> Result<(), EdgeError> {
        let (size, root) = (head.size, self.root());
        if self.size != size {
            return Err(EdgeError::OtherSize { edge: self.size, size });
        }
        if root != head.root {
            return Err(EdgeError::OtherRoot { size, edge: root, root: head.root });
        }
        Ok(())
    }

    /// Appends a leaf.
    ///
    /// # Errors
    /// [`EdgeError::Full`]; nothing was changed then.
    pub fn push(&mut self, leaf: Hash) -> Result<(), EdgeError> {
        self.push_telling(leaf, |_, _| {})
    }

    /// Appends a leaf, and tells of each perfect tree that it completes: its height (0 is the leaf) and its root.
    ///
    /// # Errors
    /// [`EdgeError::Full`]; nothing was changed then.
    pub(super) fn push_telling(
        &mut self,
        leaf: Hash,
        mut completed: impl FnMut(u32, Hash),
    ) -> Result<(), EdgeError> {
        let larger = self.size.checked_add(1).filter(|size| *size <= LARGEST_SIZE);
        let larger = larger.ok_or(EdgeError::Full)?;
        let mut hash = leaf;
        completed(0, hash);
        // As in binary counting: each trailing one is a perfect tree as large as the one that is carried.
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.hashes.pop() else { break };
            hash = Hash::of_node(&left, &hash);
            completed(height, hash);
        }
        self.hashes.push(hash);
        self.size = larger;
        Ok(())
    }
}
