//! Proofs made from tiles: first the plan (which tiles), then the proof (their hashes).
//!
//! A [`Plan`] is made of sizes and indexes alone, so that a store reads all its tiles in one query, at most 16 of them, and
//! no transaction waits for arithmetic. It is the recursion of RFC 6962 §2.1.1 and §2.1.2, with the log's tiles as they are
//! now: they serve for every older size too. A proof is not checked here; who hands it out verifies it first
//! ([`super::tree`]), which also finds damaged tiles.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::tiles::{TILE_HEIGHT, Tile, TileError, TileId};
use super::tree::{Hash, LARGEST_SIZE, ProofError};

/// A perfect tree within the log: its number among all those of its height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    height: u8,
    number: u64,
}

impl Node {
    /// Its tile, where its hashes begin there, and how many they are: 1, 2, 4 … 128.
    fn place(self) -> (TileId, u16, u16) {
        let (level, above) = (self.height / TILE_HEIGHT, u32::from(self.height % TILE_HEIGHT));
        let first = self.number.checked_shl(above).unwrap_or(0);
        let from = u16::try_from(first % 256).unwrap_or(0);
        (TileId { level, index: first / 256 }, from, 1u16.checked_shl(above).unwrap_or(0))
    }

    /// Its hash.
    fn read(self, tile: &Tile) -> Result<Hash, TileError> {
        let (id, from, count) = self.place();
        if tile.id() != id {
            return Err(TileError::Other { asked: id, found: tile.id() });
        }
        let needed = from.saturating_add(count);
        let narrow = TileError::TooNarrow { id, needed, found: tile.width() };
        let row = tile.hashes().get(usize::from(from)..usize::from(needed)).ok_or(narrow)?;
        let mut row = row.to_vec();
        while let [_, _, ..] = row.as_slice() {
            let (pairs, _) = row.as_chunks::<2>();
            row = pairs.iter().map(|[left, right]| Hash::of_node(left, right)).collect();
        }
        row.first().copied().ok_or(narrow)
    }
}

/// What to read for a proof, and how its hashes follow from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For each hash of the proof the perfect trees that it is over, from left to right.
    parts: Vec<Vec<Node>>,
}

impl Plan {
    /// For the proof that the tree of this size has this leaf: hashes from the leaf's sibling to the root's child.
    ///
    /// # Errors
    /// [`ProofError::NoSuchLeaf`] or [`ProofError::TooLarge`].
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        fits(size)?;
        if index >= size {
            return Err(ProofError::NoSuchLeaf { index, size });
        }
        let (mut from, mut count) = (0u64, size);
        let mut parts = Vec::new();
        while count > 1 {
            let left = half(count);
            let right = count.saturating_sub(left);
            let middle = from.saturating_add(left);
            if index < middle {
                parts.push(perfect_trees(middle, right));
                count = left;
            } else {
                parts.push(perfect_trees(from, left));
                (from, count) = (middle, right);
            }
        }
        parts.reverse();
        Ok(Self { parts })
    }

    /// For the proof that the tree of the size `old` is the beginning of that of the size `new`. It has no hashes where `old` is
    /// 0 or `new`.
    ///
    /// # Errors
    /// [`ProofError::Shrunk`] or [`ProofError::TooLarge`].
    pub fn consistency(old: u64, new: u64) -> Result<Self, ProofError> {
        fits(new)?;
        if old > new {
            return Err(ProofError::Shrunk { old, new });
        }
        let mut parts = Vec::new();
        if old == 0 || old == new {
            return Ok(Self { parts });
        }
        // `old` leaves end within, or at the end of, the `count` ones that begin at `from`.
        let (mut from, mut count) = (0u64, new);
        while old != from.saturating_add(count) {
            let left = half(count);
            let right = count.saturating_sub(left);
            let middle = from.saturating_add(left);
            if old <= middle {
                parts.push(perfect_trees(middle, right));
                count = left;
            } else {
                parts.push(perfect_trees(from, left));
                (from, count) = (middle, right);
            }
        }
        // Where this is the whole old tree, the verifier has its root.
        if from > 0 {
            parts.push(perfect_trees(from, count));
        }
        parts.reverse();
        Ok(Self { parts })
    }

    /// For the hashes of the [`super::edge::Edge`] of a tree of this size: to compare with the one that is stored.
    pub fn edge(size: u64) -> Result<Self, ProofError> {
        fits(size)?;
        Ok(Self { parts: perfect_trees(0, size).into_iter().map(|node| vec![node]).collect() })
    }

    /// The tiles that are needed, each once, by level and index.
    pub fn tiles(&self) -> Vec<TileId> {
        let ids = self.parts.iter().flatten().map(|node| node.place().0);
        ids.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The hashes, in the order of the proof. `tile` is asked once for each of [`Plan::tiles`]; it may have more hashes than
    /// the tree of the plan had.
    ///
    /// # Errors
    /// What `tile` says, and [`TileError`] where it gives another tile or one that has not all the hashes.
    pub fn read<T: Borrow<Tile>, E: From<TileError>>(
        &self,
        mut tile: impl FnMut(TileId) -> Result<T, E>,
    ) -> Result<Vec<Hash>, E> {
        let mut tiles: BTreeMap<TileId, T> = BTreeMap::new();
        for id in self.tiles() {
            tiles.insert(id, tile(id)?);
        }
        let mut hashes = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut folded: Option<Hash> = None;
            for node in part.iter().rev() {
                let id = node.place().0;
                let left = node.read(tiles.get(&id).ok_or(TileError::Missing(id))?.borrow())?;
                folded = Some(match folded {
                    Some(right) => Hash::of_node(&left, &right),
                    None => left,
                });
            }
            hashes.extend(folded);
        }
        Ok(hashes)
    }

    /// The hashes from tiles that were read before, by their ids.
    ///
    /// # Errors
    /// [`TileError`] where one is missing, is another one, or has not all the hashes.
    pub fn read_from(&self, tiles: &BTreeMap<TileId, Tile>) -> Result<Vec<Hash>, TileError> {
        self.read(|id| tiles.get(&id).ok_or(TileError::Missing(id)))
    }
}

fn fits(size: u64) -> Result<(), ProofError> {
    if size > LARGEST_SIZE { Err(ProofError::TooLarge { size }) } else { Ok(()) }
}

/// Where a tree of more than one leaf is split: the largest power of two below its size.
fn half(count: u64) -> u64 {
    count.saturating_sub(1).checked_ilog2().and_then(|bit| 1u64.checked_shl(bit)).unwrap_or(0)
}

/// The perfect trees over `count` leaves from `from` on, the largest first. `from` is a multiple of the largest one.
fn perfect_trees(mut from: u64, count: u64) -> Vec<Node> {
    let heights = (0u8..64).rev();
    let mut nodes = Vec::new();
    for height in heights {
        let leaves = 1u64.checked_shl(u32::from(height)).unwrap_or(0);
        if count & leaves != 0 {
            let number = from.checked_shr(u32::from(height)).unwrap_or(0);
            nodes.push(Node { height, number });
            from = from.saturating_add(leaves);
        }
    }
    nodes
}
