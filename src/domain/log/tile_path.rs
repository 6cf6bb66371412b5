//! Where a tile is published: `tile/L/N`, `tile/entries/N`, and `.p/W` behind them for one that is not full.
//!
//! N is written in groups of three digits, all but the last one with an `x` before: 1234067 is `x001/x234/067`. There is
//! one spelling for each tile. It does not say whether a tile exists: [`TileId::width`] does, for a size.

use std::fmt;
use std::str::FromStr;

use super::text;
use super::tiles::{TILE_WIDTH, Tile, TileError, TileId};

/// The longest path that is looked at, in bytes.
const PATH_BYTES_MAX: usize = 100;
/// The highest level that the format knows.
const LEVEL_MAX: u64 = 63;

/// The path of a tile, without a slash before it. `width` is 1 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePath {
    /// A tile of hashes.
    Hashes {
        /// Which one.
        id: TileId,
        /// How many hashes.
        width: u16,
    },
    /// A tile of entries: those whose leaf hashes are in the tile of level 0 with the same index.
    Entries {
        /// Which one, from 0.
        index: u64,
        /// How many entries.
        width: u16,
    },
}

impl TilePath {
    /// Where this tile is published.
    pub fn of(tile: &Tile) -> Self {
        Self::Hashes { id: tile.id(), width: tile.width() }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut index, width) = match *self {
            Self::Hashes { id, width } => {
                write!(f, "tile/{}/", id.level)?;
                (id.index, width)
            }
            Self::Entries { index, width } => {
                f.write_str("tile/entries/")?;
                (index, width)
            }
        };
        let mut groups = vec![index % 1000];
        while index >= 1000 {
            index /= 1000;
            groups.push(index % 1000);
        }
        let last = groups.first().copied().unwrap_or(0);
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{last:03}")?;
        if width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let parsed = if path.len() <= PATH_BYTES_MAX { parse(path) } else { None };
        // What is printed is the one spelling.
        parsed.filter(|parsed| parsed.to_string() == path).ok_or(TileError::Path)
    }
}

fn parse(path: &str) -> Option<TilePath> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, u16::try_from(text::decimal(width)?).ok()?),
        None => (rest, TILE_WIDTH),
    };
    if width == 0 || width > TILE_WIDTH {
        return None;
    }
    let mut index = 0u64;
    for group in number.split('/') {
        let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index = index.checked_mul(1000)?.checked_add(digits)?;
    }
    if level == "entries" {
        return Some(TilePath::Entries { index, width });
    }
    let level = text::decimal(level).filter(|level| *level <= LEVEL_MAX)?;
    Some(TilePath::Hashes { id: TileId { level: u8::try_from(level).ok()?, index }, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_specification() {
        let hashes = |level, index, width| TilePath::Hashes { id: TileId { level, index }, width };
        for (path, text) in [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (hashes(1, 0, 1), "tile/1/000.p/1"),
            (hashes(0, 273, 112), "tile/0/273.p/112"),
            (hashes(2, 999, 255), "tile/2/999.p/255"),
            (hashes(63, 1000, 256), "tile/63/x001/000"),
            (hashes(0, u64::MAX, 256), "tile/0/x018/x446/x744/x073/x709/x551/615"),
            (TilePath::Entries { index: 1_234_067, width: 8 }, "tile/entries/x001/x234/067.p/8"),
            (TilePath::Entries { index: 0, width: 256 }, "tile/entries/000"),
        ] {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/1234067",
            "tile/0/x000/001",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/00/000",
            "tile/64/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/+1/000",
            "tile/0/+01",
            "tile/0/000/",
            "tile/0//000",
            "tile/Entries/000",
            "tile/8/0/000",
            "tile/0/000.p/1.p/1",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x001/..",
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(TileError::Path), "{text:?}");
        }
        let long = format!("tile/0/{}000", "x001/".repeat(10_000));
        assert_eq!(long.parse::<TilePath>(), Err(TileError::Path));
    }
}
