//! Tiles: what grows, where it is published, and proofs from them where tiles begin and end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::edge::Edge;
use super::super::proof::Plan;
use super::super::tile_path::TilePath;
use super::super::tiles::{Append, Tile, TileError, TileId, append};
use super::super::tree::{Hash, Root, TreeHead, verify_consistency, verify_inclusion};
use super::{Log, leaves, path_of, root_of, subproof};

/// The tiles by their definition, without an edge.
fn tiles_of(leaves: &[Hash]) -> BTreeMap<TileId, Tile> {
    let mut tiles = BTreeMap::new();
    for level in 0..3u8 {
        let whole = leaves.chunks_exact(256usize.pow(level.into()));
        let hashes: Vec<Hash> = whole.map(root_of).collect();
        for (row, index) in hashes.chunks(256).zip(0..) {
            let id = TileId { level, index };
            tiles.insert(id, Tile::new(id, row.to_vec()).unwrap());
        }
    }
    tiles
}

fn paths(log: &Log) -> Vec<String> {
    log.tiles.values().map(|tile| TilePath::of(tile).to_string()).collect()
}

/// The examples of the specification.
#[test]
fn tiles_of_256_and_of_70_000() {
    assert_eq!(paths(&Log::default()), [""; 0]);
    assert_eq!(paths(&Log::of(&leaves(1))), ["tile/0/000.p/1"]);
    assert_eq!(paths(&Log::of(&leaves(256))), ["tile/0/000", "tile/1/000.p/1"]);
    let leaves = leaves(70_000);
    let log = Log::of(&leaves);
    let all = paths(&log);
    assert_eq!(all.len(), 273 + 1 + 1 + 1 + 1);
    assert!(all[..273].iter().all(|path| !path.contains(".p/")));
    assert_eq!(
        all[272..],
        ["tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]
    );
    assert_eq!(log.tiles, tiles_of(&leaves));
    for tile in log.tiles.values() {
        assert_eq!(tile.id().width(70_000), tile.width());
        assert_eq!(tile.to_bytes().len(), 32 * usize::from(tile.width()));
        assert_eq!(&Tile::from_bytes(tile.id(), &tile.to_bytes()).unwrap(), tile);
    }
    for (level, index) in [(0, 274), (1, 2), (2, 1), (3, 0), (8, 0), (255, 0), (0, u64::MAX)] {
        assert_eq!(TileId { level, index }.width(70_000), 0);
    }
}

/// As the sequencer does it: rounds of 4,096.
#[test]
fn rounds_give_what_one_append_gives() {
    let leaves = leaves(70_000);
    let (whole, mut rounds) = (Log::of(&leaves), Log::default());
    for round in leaves.chunks(4096) {
        let before = rounds.edge.size();
        let mut edge = rounds.edge.clone();
        let appends = append(&mut edge, round).unwrap();
        assert!(appends.len() <= 17 + 2 + 1);
        for Append { id, from, .. } in appends {
            assert_eq!(from, id.width(before));
        }
        rounds.extend(round);
        assert_eq!(rounds.edge, edge);
    }
    assert_eq!(rounds, whole);
    assert_eq!(rounds.edge.root(), Root(root_of(&leaves)));
}

/// Sizes around those where tiles and levels begin.
const SIZES: [u64; 16] =
    [1, 2, 255, 256, 257, 300, 511, 512, 513, 768, 65_535, 65_536, 65_537, 65_792, 65_793, 70_000];

#[test]
fn proofs_where_tiles_begin_and_end() {
    let leaves = leaves(70_000);
    let (log, mut edge) = (Log::of(&leaves), Edge::default());
    let mut heads: Vec<TreeHead> = Vec::new();
    for leaf in &leaves {
        edge.push(*leaf).unwrap();
        if SIZES.contains(&edge.size()) {
            let stored = log.read(Plan::edge(edge.size()));
            assert_eq!(stored, edge.hashes(), "{}", edge.size());
            heads.push(edge.head());
        }
    }
    assert_eq!(heads.len(), SIZES.len());
    for head in &heads {
        let size = head.size;
        let near = SIZES.iter().flat_map(|n| [n - 1, *n, n + 1]).chain([0, size - 1, size / 2]);
        for index in near.filter(|index| *index < size) {
            let plan = Plan::inclusion(index, size).unwrap();
            assert!(plan.tiles().len() <= 16);
            let (at, path) = (usize::try_from(index).unwrap(), log.read(Ok(plan)));
            verify_inclusion(&leaves[at], index, &path, head).unwrap();
            if size <= 768 {
                assert_eq!(path, path_of(at, &leaves[..usize::try_from(size).unwrap()]));
            }
        }
        for old in heads.iter().filter(|old| old.size <= size) {
            let path = log.read(Plan::consistency(old.size, size));
            verify_consistency(old, head, &path).unwrap();
            if size <= 768 {
                let (m, n) = (usize::try_from(old.size).unwrap(), usize::try_from(size).unwrap());
                assert_eq!(path, subproof(m, &leaves[..n], true));
            }
        }
    }
}

/// A tree's own tiles, as wide as they were then, are enough for its proofs.
#[test]
fn the_tiles_of_a_size_are_enough() {
    let leaves = leaves(600);
    let log = Log::of(&leaves);
    for size in [1, 2, 3, 255, 256, 257, 400, 511, 512, 513, 600] {
        let narrow = |id: TileId| log.tiles[&id].narrowed(id.width(size));
        for index in 0..size {
            let path = Plan::inclusion(index, size).unwrap().read(narrow).unwrap();
            assert_eq!(path, log.read(Plan::inclusion(index, size)));
        }
        for old in 0..=size {
            let path = Plan::consistency(old, size).unwrap().read(narrow).unwrap();
            assert_eq!(path, log.read(Plan::consistency(old, size)));
        }
    }
}

#[test]
fn tiles_that_do_not_fit_are_refused() {
    let leaves = leaves(600);
    let log = Log::of(&leaves);
    let plan = Plan::inclusion(300, 600).unwrap();
    let ids = plan.tiles();
    let expected = [(0, 1), (0, 2), (1, 0)].map(|(level, index)| TileId { level, index });
    assert_eq!(ids, expected);
    for id in ids {
        let mut missing = log.tiles.clone();
        missing.remove(&id);
        assert_eq!(plan.read_from(&missing), Err(TileError::Missing(id)));
        let mut other = log.tiles.clone();
        let found = TileId { level: 0, index: 0 };
        other.insert(id, log.tiles[&found].clone());
        assert_eq!(plan.read_from(&other), Err(TileError::Other { asked: id, found }));
        let mut narrow = log.tiles.clone();
        narrow.insert(id, narrow[&id].narrowed(1).unwrap());
        // Of level 1 it needs the first hash only: that of the leaves 0 to 255.
        let read = plan.read_from(&narrow);
        match id.level {
            0 => assert!(matches!(read, Err(TileError::TooNarrow { found: 1, .. })), "{read:?}"),
            _ => assert_eq!(read, Ok(log.read(Ok(plan.clone())))),
        }
    }
    let mut asked = Vec::new();
    let counted = plan.read(|id| {
        asked.push(id);
        log.tiles.get(&id).ok_or(TileError::Missing(id))
    });
    assert_eq!((counted.unwrap(), asked), (log.read(Ok(plan.clone())), plan.tiles()));
}

/// A bit of a stored tile: the proof is made and does not verify.
#[test]
fn a_flipped_bit_in_a_tile_is_found() {
    let leaves = leaves(600);
    let log = Log::of(&leaves);
    let plan = Plan::inclusion(300, 600).unwrap();
    let right = plan.read_from(&log.tiles).unwrap();
    let mut found = 0;
    for (id, tile) in &log.tiles {
        for byte in (0..tile.to_bytes().len()).step_by(17) {
            let mut bytes = tile.to_bytes();
            bytes[byte] ^= 0x10;
            let mut damaged = log.tiles.clone();
            damaged.insert(*id, Tile::from_bytes(*id, &bytes).unwrap());
            let path = plan.read_from(&damaged).unwrap();
            let verified = verify_inclusion(&leaves[300], 300, &path, &log.edge.head());
            assert_eq!(verified.is_ok(), path == right);
            found += u32::from(verified.is_err());
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn what_is_appended_must_begin_at_the_end() {
    let mut edge = Log::of(&leaves(300)).edge;
    let [append] = append(&mut edge, &leaves(5)).unwrap().try_into().unwrap();
    let (id, other) = (TileId { level: 0, index: 1 }, TileId { level: 0, index: 0 });
    assert_eq!((append.id, append.from, append.hashes.len()), (id, 44, 5));
    let of_width = |width| Tile::new(id, vec![Hash([1; 32]); width]).unwrap();
    for found in [0u16, 43, 45, 49] {
        let old = (found > 0).then(|| of_width(found.into()));
        let error = append.clone().onto(old).unwrap_err();
        assert_eq!(error, TileError::NotTheEnd { id, expected: 44, found });
    }
    let stranger = Tile::new(other, vec![Hash([1; 32]); 44]).unwrap();
    let error = append.clone().onto(Some(stranger)).unwrap_err();
    assert_eq!(error, TileError::Other { asked: id, found: other });
    assert_eq!(append.onto(Some(of_width(44))).unwrap().width(), 49);
}

#[test]
fn tiles_have_bounds() {
    let id = TileId { level: 0, index: 0 };
    assert_eq!(Tile::new(id, vec![]), Err(TileError::Width { id, found: 0 }));
    assert_eq!(Tile::from_bytes(id, &[]), Err(TileError::Width { id, found: 0 }));
    assert_eq!(Tile::from_bytes(id, &[0; 33]), Err(TileError::Bytes { id, bytes: 33 }));
    assert_eq!(Tile::from_bytes(id, &[0; 257 * 32]), Err(TileError::Width { id, found: 257 }));
    let tile = Tile::from_bytes(id, &[0; 256 * 32]).unwrap();
    assert_eq!(tile.narrowed(0), Err(TileError::Width { id, found: 0 }));
    assert_eq!(tile.narrowed(256), Ok(tile.clone()));
    let narrow = TileError::TooNarrow { id, needed: 257, found: 256 };
    assert_eq!(tile.narrowed(257), Err(narrow));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// However a log was cut into rounds, it is the same log, and each round's log is the beginning of it.
    #[test]
    fn any_rounds_give_one_log(rounds in prop::collection::vec(0u64..700, 1..8)) {
        let leaves = leaves(rounds.iter().sum());
        let (mut log, mut heads, mut from) = (Log::default(), vec![TreeHead::empty()], 0);
        for round in &rounds {
            let end = from + usize::try_from(*round).unwrap();
            log.extend(&leaves[from..end]);
            prop_assert_eq!(log.edge.root(), Root(root_of(&leaves[..end])));
            heads.push(log.edge.head());
            from = end;
        }
        prop_assert_eq!(&log.tiles, &tiles_of(&leaves));
        prop_assert_eq!(&log, &Log::of(&leaves));
        let last = log.edge.head();
        for head in &heads {
            let path = log.read(Plan::consistency(head.size, last.size));
            prop_assert_eq!(verify_consistency(head, &last, &path), Ok(()));
        }
    }
}
