//! Tiles: the tree cut into rows of at most 256 hashes, as C2SP `tlog-tiles` stores and publishes it.
//!
//! The tile `(level, index)` holds the roots of perfect trees of 256^level leaves, those with the numbers 256 × index
//! and on. What lies between two levels is computed. A tile only grows, at its end; when it is full it never changes. It is
//! stored once, with the hashes that it has; a narrower tile, as an older tree had it, is its beginning.
//!
//! [`append`] says what is new; the caller reads the few tiles that were not full, and stores. What a proof needs is
//! told by [`super::proof`].

use std::collections::BTreeMap;

use super::edge::{Edge, EdgeError};
use super::tree::{Hash, LARGEST_SIZE};

/// How many hashes a full tile has.
pub const TILE_WIDTH: u16 = 256;

/// How many levels of nodes a tile spans: 256 = 2⁸.
pub const TILE_HEIGHT: u8 = 8;

/// Which tile: its key where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 holds leaf hashes; each level above a 256th of the one below. No log has more than 8 levels.
    pub level: u8,
    /// Which one of its level, from 0.
    pub index: u64,
}

impl TileId {
    /// How many hashes this tile has in a tree of that size; 0 where it has no such tile.
    pub fn width(self, size: u64) -> u16 {
        let height = u32::from(self.level).saturating_mul(u32::from(TILE_HEIGHT));
        let hashes = size.checked_shr(height).unwrap_or(0);
        let before = self.index.saturating_mul(u64::from(TILE_WIDTH));
        let width = hashes.saturating_sub(before).min(u64::from(TILE_WIDTH));
        u16::try_from(width).unwrap_or(TILE_WIDTH)
    }
}

/// A tile with its hashes: 1 to 256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    id: TileId,
    hashes: Vec<Hash>,
}

/// Why tiles are not what they must be. Each of them means that what is stored is damaged, except
/// [`TileError::Path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not stored.
    #[error("tile {index} of level {level} is missing", level = .0.level, index = .0.index)]
    Missing(TileId),
    /// Another tile than was asked for.
    #[error("asked for tile {asked:?}, and got {found:?}")]
    Other {
        /// What was asked for.
        asked: TileId,
        /// What came.
        found: TileId,
    },
    /// A tile without hashes, or with more than 256.
    #[error("tile {index} of level {level} has {found} hashes; 1 to 256 are possible", level = .id.level, index = .id.index)]
    Width {
        /// Which one.
        id: TileId,
        /// How many hashes there are.
        found: usize,
    },
    /// Bytes that are not a row of hashes.
    #[error("tile {index} of level {level} has {bytes} bytes, which is no row of hashes", level = .id.level, index = .id.index)]
    Bytes {
        /// Which one.
        id: TileId,
        /// How many bytes there are.
        bytes: usize,
    },
    /// Hashes that the tree has are not in it.
    #[error("tile {index} of level {level} has {found} hashes; it must have {needed}", level = .id.level, index = .id.index)]
    TooNarrow {
        /// Which one.
        id: TileId,
        /// How many hashes it must have.
        needed: u16,
        /// How many it has.
        found: u16,
    },
    /// What is appended does not begin where the stored tile ends.
    #[error("tile {index} of level {level} has {found} hashes where it must have {expected} before more are appended", level = .id.level, index = .id.index)]
    NotTheEnd {
        /// Which one.
        id: TileId,
        /// How many hashes it should have had.
        expected: u16,
        /// How many it has.
        found: u16,
    },
    /// Not the path of a tile.
    #[error("this is not the path of a tile, as tile/0/x001/234.p/5 or tile/entries/000 is")]
    Path,
}

impl Tile {
    /// A tile of these hashes.
    ///
    /// # Errors
    /// [`TileError::Width`] for none or more than 256.
    pub fn new(id: TileId, hashes: Vec<Hash>) -> Result<Self, TileError> {
        if hashes.is_empty() || hashes.len() > usize::from(TILE_WIDTH) {
            return Err(TileError::Width { id, found: hashes.len() });
        }
        Ok(Self { id, hashes })
    }

    /// A tile as [`Tile::to_bytes`] wrote it.
    ///
    /// # Errors
    /// [`TileError::Bytes`] or [`TileError::Width`] where it is none.
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(TileError::Bytes { id, bytes: bytes.len() });
        }
        if hashes.len() > usize::from(TILE_WIDTH) {
            return Err(TileError::Width { id, found: hashes.len() });
        }
        Self::new(id, hashes.iter().copied().map(Hash).collect())
    }

    /// The hashes one after the other: at most 8,192 bytes. So they are stored, and so they are published.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.0).collect()
    }

    /// Which tile it is.
    pub const fn id(&self) -> TileId {
        self.id
    }

    /// Its hashes.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// How many hashes it has: 1 to 256.
    pub fn width(&self) -> u16 {
        u16::try_from(self.hashes.len()).unwrap_or(TILE_WIDTH)
    }

    /// The tile as it was when it had so many hashes.
    ///
    /// # Errors
    /// [`TileError::TooNarrow`] where it never had; [`TileError::Width`] for none.
    pub fn narrowed(&self, width: u16) -> Result<Self, TileError> {
        let narrow = TileError::TooNarrow { id: self.id, needed: width, found: self.width() };
        let hashes = self.hashes.get(..usize::from(width)).ok_or(narrow)?;
        Self::new(self.id, hashes.to_vec())
    }
}

/// The hashes that leaves add to one tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Which tile.
    pub id: TileId,
    /// How many hashes it has already; where none, it is new.
    pub from: u16,
    /// What comes after them.
    pub hashes: Vec<Hash>,
}

impl Append {
    /// The tile with its new end, to be stored in place of the old one. `old` is what is stored: none where
    /// [`Append::from`] is 0.
    ///
    /// # Errors
    /// [`TileError`] where `old` is another tile, or ends elsewhere.
    pub fn onto(self, old: Option<Tile>) -> Result<Tile, TileError> {
        if let Some(old) = old.as_ref().filter(|old| old.id != self.id) {
            return Err(TileError::Other { asked: self.id, found: old.id });
        }
        let found = old.as_ref().map_or(0, Tile::width);
        if found != self.from {
            return Err(TileError::NotTheEnd { id: self.id, expected: self.from, found });
        }
        let mut hashes = old.map(|old| old.hashes).unwrap_or_default();
        hashes.extend(self.hashes);
        Tile::new(self.id, hashes)
    }
}

/// Appends leaves to the edge, and says what is new in which tile, by level and index. Only the first tile of a level can
/// be an old one. A part of the leaves is never appended.
///
/// # Errors
/// [`EdgeError::Full`]; nothing was changed then.
pub fn append(edge: &mut Edge, leaves: &[Hash]) -> Result<Vec<Append>, EdgeError> {
    let added = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
    if edge.size().checked_add(added).is_none_or(|size| size > LARGEST_SIZE) {
        return Err(EdgeError::Full);
    }
    let mut appends: BTreeMap<TileId, Append> = BTreeMap::new();
    for leaf in leaves {
        let leaf_index = edge.size();
        edge.push_telling(*leaf, |height, hash| {
            let height_of_tile = u32::from(TILE_HEIGHT);
            if !height.is_multiple_of(height_of_tile) {
                return;
            }
            // The completed tree's number among those of its height.
            let number = leaf_index.checked_shr(height).unwrap_or(0);
            let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
            let id = TileId { level, index: number / 256 };
            let from = u16::try_from(number % 256).unwrap_or(0);
            let new = || Append { id, from, hashes: Vec::new() };
            appends.entry(id).or_insert_with(new).hashes.push(hash);
        })?;
    }
    Ok(appends.into_values().collect())
}
