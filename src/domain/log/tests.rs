//! The tree against the public vectors and against a plain recursive one, straight from RFC 6962 §2.1.

mod published;
mod tiles;

use std::collections::BTreeMap;

use alloy::primitives::hex;

use super::edge::{Edge, EdgeError};
use super::proof::Plan;
use super::tiles::{Tile, TileId, append};
use super::tree::{
    Hash, LARGEST_SIZE, PATH_MAX, ProofError, Root, TreeHead, verify_consistency, verify_inclusion,
};

/// The entries of transparency-dev's tests.
const ENTRIES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

fn of_hex(text: &str) -> Hash {
    Hash(hex::decode(text).unwrap().try_into().unwrap())
}

fn entries() -> Vec<Vec<u8>> {
    ENTRIES.iter().map(|text| hex::decode(text).unwrap()).collect()
}

/// The first n leaves of a log of numbers.
fn leaves(n: u64) -> Vec<Hash> {
    (0..n).map(|i| Hash::of_leaf(&i.to_be_bytes())).collect()
}

/// MTH of RFC 6962 §2.1, over leaf hashes.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Root::empty().0,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            Hash::of_node(&root_of(left), &root_of(right))
        }
    }
}

/// The largest power of two below n.
fn split(n: usize) -> usize {
    let mut k = 1;
    while 2 * k < n {
        k *= 2;
    }
    k
}

/// PATH of §2.1.1.
fn path_of(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if m < left.len() {
        (path_of(m, left), right)
    } else {
        (path_of(m - left.len(), right), left)
    };
    path.push(root_of(sibling));
    path
}

/// SUBPROOF of §2.1.2.
fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![root_of(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, sibling) = if m <= left.len() {
        (subproof(m, left, whole), right)
    } else {
        (subproof(m - left.len(), right, false), left)
    };
    proof.push(root_of(sibling));
    proof
}

/// A log as a store has it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Log {
    edge: Edge,
    tiles: BTreeMap<TileId, Tile>,
}

impl Log {
    fn of(leaves: &[Hash]) -> Self {
        let mut log = Self::default();
        log.extend(leaves);
        log
    }

    fn extend(&mut self, leaves: &[Hash]) {
        for append in append(&mut self.edge, leaves).unwrap() {
            let (id, old) = (append.id, self.tiles.remove(&append.id));
            self.tiles.insert(id, append.onto(old).unwrap());
        }
    }

    fn read(&self, plan: Result<Plan, ProofError>) -> Vec<Hash> {
        plan.unwrap().read_from(&self.tiles).unwrap()
    }
}

fn flipped(mut hash: Hash, bit: usize) -> Hash {
    hash.0[(bit / 8) % 32] ^= 1 << (bit % 8);
    hash
}

#[test]
fn public_vectors() {
    assert_eq!(
        Root::empty().to_string(),
        "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    let leaves: Vec<Hash> = entries().iter().map(|entry| Hash::of_leaf(entry)).collect();
    let mut edge = Edge::default();
    let mut roots = vec![edge.root()];
    for leaf in &leaves {
        edge.push(*leaf).unwrap();
        roots.push(edge.root());
    }
    for (size, root) in [
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ] {
        assert_eq!(roots[size], Root(of_hex(root)), "{size}");
    }
    // The path of the first leaf, as transparency-dev's tests have it.
    let path = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    .map(of_hex);
    assert_eq!(Log::of(&leaves).read(Plan::inclusion(0, 8)), path);
    verify_inclusion(&leaves[0], 0, &path, &edge.head()).unwrap();
}

/// `RecordHash("hello world")` of Go's x/mod/sumdb/tlog.
#[test]
fn the_hash_of_a_leaf() {
    let hash = super::text::to_base64(&Hash::of_leaf(b"hello world").0);
    assert_eq!(hash, "TszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=");
}

/// A size beyond those that are tried, so that every wrong head is one that somebody could have.
const HEADS: u64 = 73;

fn heads(leaves: &[Hash]) -> Vec<TreeHead> {
    let mut edge = Edge::default();
    let mut heads = vec![edge.head()];
    for leaf in leaves {
        edge.push(*leaf).unwrap();
        heads.push(edge.head());
    }
    for (head, n) in heads.iter().zip(0..) {
        assert_eq!(head.root, Root(root_of(&leaves[..n])), "{n}");
    }
    heads
}

#[test]
fn every_inclusion_below_70_and_nothing_else() {
    let leaves = leaves(HEADS);
    let (log, heads) = (Log::of(&leaves), heads(&leaves));
    for n in 1..70u64 {
        let head = &heads[usize::try_from(n).unwrap()];
        for i in 0..n {
            let at = usize::try_from(i).unwrap();
            let (leaf, path) = (leaves[at], log.read(Plan::inclusion(i, n)));
            assert_eq!(path, path_of(at, &leaves[..usize::try_from(n).unwrap()]), "{i} of {n}");
            assert_eq!(verify_inclusion(&leaf, i, &path, head), Ok(()), "{i} of {n}");
            for wrong in (0..n + 2).filter(|wrong| *wrong != i) {
                assert!(verify_inclusion(&leaf, wrong, &path, head).is_err(), "{i} {wrong} of {n}");
            }
            for other in heads.iter().filter(|other| other.size != n) {
                assert!(verify_inclusion(&leaf, i, &path, other).is_err(), "{i} of {n} {other:?}");
            }
            refuses_damage(&path, at, |path| verify_inclusion(&leaf, i, path, head));
            let root = Root(flipped(head.root.0, at));
            let damaged = TreeHead { size: n, root };
            assert!(verify_inclusion(&leaf, i, &path, &damaged).is_err());
            assert!(verify_inclusion(&flipped(leaf, at), i, &path, head).is_err());
        }
        let nobody = Err(ProofError::NoSuchLeaf { index: n, size: n });
        assert_eq!(Plan::inclusion(n, n).map(|_| ()), nobody);
        assert_eq!(verify_inclusion(&leaves[0], n, &[], head), nobody);
    }
    let head = TreeHead::empty();
    let nobody = Err(ProofError::NoSuchLeaf { index: 0, size: 0 });
    assert_eq!(verify_inclusion(&head.root.0, 0, &[], &head), nobody);
}

#[test]
fn every_consistency_below_70_and_nothing_else() {
    let leaves = leaves(HEADS);
    let (log, heads) = (Log::of(&leaves), heads(&leaves));
    for n in 1..70usize {
        for m in 1..=n {
            let (old, new) = (&heads[m], &heads[n]);
            let path = log.read(Plan::consistency(old.size, new.size));
            assert_eq!(path, subproof(m, &leaves[..n], true), "{m} to {n}");
            assert_eq!(verify_consistency(old, new, &path), Ok(()), "{m} to {n}");
            let shrunk = (m < n).then_some(ProofError::Shrunk { old: new.size, new: old.size });
            assert_eq!(verify_consistency(new, old, &path).err(), shrunk, "{n} to {m}");
            refuses_damage(&path, m, |path| verify_consistency(old, new, path));
            let (size, root) = (old.size, Root(flipped(old.root.0, n)));
            assert!(verify_consistency(&TreeHead { size, root }, new, &path).is_err());
            let (size, root) = (new.size, Root(flipped(new.root.0, m)));
            assert!(verify_consistency(old, &TreeHead { size, root }, &path).is_err());
            if m < n {
                for other in heads.iter().filter(|other| other.size != old.size) {
                    assert!(verify_consistency(other, new, &path).is_err(), "{m} to {n} {other:?}");
                }
                for other in heads.iter().filter(|other| other.size != new.size) {
                    assert!(verify_consistency(old, other, &path).is_err(), "{m} to {n} {other:?}");
                }
            }
        }
    }
}

/// A path with a hash too many, too few, or a flipped bit is no proof.
fn refuses_damage(path: &[Hash], seed: usize, verify: impl Fn(&[Hash]) -> Result<(), ProofError>) {
    for n in 0..path.len() {
        let mut damaged = path.to_vec();
        damaged[n] = flipped(path[n], 37 * seed + n);
        assert!(matches!(verify(&damaged), Err(ProofError::OtherRoot | ProofError::OtherOldRoot)));
        damaged.remove(n);
        assert!(verify(&damaged).is_err());
    }
    for n in [0, path.len()] {
        let mut longer = path.to_vec();
        longer.insert(n, Hash([7; 32]));
        assert!(verify(&longer).is_err());
    }
}

#[test]
fn an_empty_tree_is_the_beginning_of_any() {
    let (empty, one) = (TreeHead::empty(), Log::of(&leaves(1)).edge.head());
    let other = TreeHead { size: 0, root: one.root };
    for (old, new, path, expected) in [
        (empty, empty, vec![], Ok(())),
        (empty, one, vec![], Ok(())),
        (empty, one, vec![one.root.0], Err(ProofError::TooLong)),
        (one, empty, vec![], Err(ProofError::Shrunk { old: 1, new: 0 })),
        (other, one, vec![], Err(ProofError::NotEmpty)),
        (other, other, vec![], Err(ProofError::NotEmpty)),
        (one, TreeHead { size: 1, root: empty.root }, vec![], Err(ProofError::Fork { size: 1 })),
        (one, one, vec![one.root.0], Err(ProofError::TooLong)),
    ] {
        assert_eq!(verify_consistency(&old, &new, &path), expected, "{old:?} {new:?}");
    }
    for (old, new) in [(0, 0), (0, 5), (5, 5), (LARGEST_SIZE, LARGEST_SIZE)] {
        assert_eq!(Plan::consistency(old, new).unwrap().tiles(), []);
    }
}

/// Nothing overflows, hangs or allocates without bound at the largest numbers.
#[test]
fn the_largest_tree_has_bounds() {
    let largest = TreeHead { size: LARGEST_SIZE, root: Root::empty() };
    let beyond = TreeHead { size: LARGEST_SIZE + 1, root: Root::empty() };
    let too_large = Err(ProofError::TooLarge { size: LARGEST_SIZE + 1 });
    assert_eq!(verify_inclusion(&largest.root.0, 0, &[], &beyond), too_large);
    assert_eq!(verify_consistency(&largest, &beyond, &[]), too_large);
    assert_eq!(Plan::inclusion(0, beyond.size).map(|_| ()), too_large);
    assert_eq!(Plan::consistency(0, beyond.size).map(|_| ()), too_large);
    assert_eq!(Plan::edge(beyond.size).map(|_| ()), too_large);
    let endless = vec![Hash([1; 32]); 1000];
    assert_eq!(verify_inclusion(&endless[0], 5, &endless, &largest), Err(ProofError::TooLong));
    for old in [1, 2, 3, 1 << 40, LARGEST_SIZE - 1] {
        let head = TreeHead { size: old, root: Root(endless[0]) };
        assert!(verify_consistency(&head, &largest, &endless).is_err());
        let plan = Plan::consistency(old, LARGEST_SIZE).unwrap();
        let tile = |id| Tile::new(id, vec![Hash([1; 32]); 256]);
        assert!(plan.read(tile).unwrap().len() <= PATH_MAX && plan.tiles().len() <= 16, "{old}");
    }
    for index in [0, 1, 255, 1 << 40, LARGEST_SIZE - 1] {
        let plan = Plan::inclusion(index, LARGEST_SIZE).unwrap();
        let tile = |id| Tile::new(id, vec![Hash([1; 32]); 256]);
        assert!(plan.read(tile).unwrap().len() <= PATH_MAX && plan.tiles().len() <= 16, "{index}");
    }
}

#[test]
fn an_edge_is_checked() {
    let leaves = leaves(300);
    let mut edge = Edge::default();
    for leaf in &leaves {
        let again = Edge::from_bytes(edge.size(), &edge.to_bytes()).unwrap();
        assert_eq!(again, edge);
        assert_eq!(again.check(&edge.head()), Ok(()));
        edge.push(*leaf).unwrap();
    }
    let (head, bytes) = (edge.head(), edge.to_bytes());
    assert_eq!(bytes.len(), 4 * 32, "300 is 256 + 32 + 8 + 4");
    assert_eq!(Edge::from_bytes(300, &bytes[1..]), Err(EdgeError::Bytes { bytes: 127 }));
    for size in [0, 299, 301, u64::MAX] {
        assert!(Edge::from_bytes(size, &bytes).is_err(), "{size}");
    }
    for bit in (0..bytes.len() * 8).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let damaged = Edge::from_bytes(300, &damaged).unwrap();
        assert!(matches!(damaged.check(&head), Err(EdgeError::OtherRoot { .. })), "{bit}");
    }
    // As many hashes, another size: the root alone does not tell.
    let other = Edge::from_bytes(264 + 32 + 2, &bytes).unwrap();
    assert_eq!(other.check(&head), Err(EdgeError::OtherSize { edge: 298, size: 300 }));
}

#[test]
fn a_full_log_takes_no_more() {
    let hashes = vec![Hash([3; 32]); 63];
    let mut edge = Edge::new(LARGEST_SIZE, hashes).unwrap();
    let before = edge.clone();
    assert_eq!(edge.push(Hash([1; 32])), Err(EdgeError::Full));
    assert_eq!(append(&mut edge, &[Hash([1; 32])]), Err(EdgeError::Full));
    assert_eq!(append(&mut edge, &[]), Ok(vec![]));
    assert_eq!(edge, before);
    let mut edge = Edge::new(LARGEST_SIZE - 1, vec![Hash([3; 32]); 62]).unwrap();
    assert_eq!(append(&mut edge, &[Hash([1; 32]); 2]), Err(EdgeError::Full));
    assert_eq!(edge.size(), LARGEST_SIZE - 1);
    let one = append(&mut edge, &[Hash([1; 32])]).unwrap();
    assert_eq!((one.len(), edge.size()), (1, LARGEST_SIZE));
    assert_eq!(Edge::new(u64::MAX, vec![Hash([3; 32]); 64]), Err(EdgeError::Full));
}
