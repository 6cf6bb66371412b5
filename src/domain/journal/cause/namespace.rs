//! The causes of a namespace's first records: its journal is opened, and addresses become its own.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A namespace's journal begins. What binds it to its installation is in the genesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceOpened {
    /// Its name.
    pub name: String,
}

/// Where addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Children of an extended public key.
    Derived,
    /// Somebody else controls them.
    Imported,
}

/// Deposit addresses become a namespace's own, for ever. A single one is a batch of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressesBound {
    /// The namespace.
    pub namespace: String,
    /// Where they come from.
    pub origin: Origin,
    /// Fingerprint of the key they are children of; none for imported ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<String>,
    /// Which children, as ranges of first and last in the order of the addresses; none for imported ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<(u32, u32)>,
    /// How many.
    pub count: u64,
    /// The root over all of them, in their order, as [`addresses_root`] gives it.
    pub root: B256,
    /// The address itself, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl AddressesBound {
    /// Addresses that somebody else controls, in their order.
    pub fn imported(namespace: &str, addresses: &[Address]) -> Self {
        Self {
            namespace: namespace.to_owned(),
            origin: Origin::Imported,
            wallet: None,
            indexes: Vec::new(),
            count: u64::try_from(addresses.len()).unwrap_or(u64::MAX),
            root: addresses_root(addresses),
            address: match addresses {
                [one] => Some(*one),
                _ => None,
            },
        }
    }

    /// Children of a key, in their order: each with its index. `wallet` is the key's fingerprint.
    pub fn derived(namespace: &str, wallet: &str, children: &[(u32, Address)]) -> Self {
        let addresses: Vec<Address> = children.iter().map(|(_, address)| *address).collect();
        let mut indexes: Vec<(u32, u32)> = Vec::new();
        for (index, _) in children {
            match indexes.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
                _ => indexes.push((*index, *index)),
            }
        }
        Self {
            origin: Origin::Derived,
            wallet: Some(wallet.to_owned()),
            indexes,
            ..Self::imported(namespace, &addresses)
        }
    }

    /// The first child; none for imported ones.
    pub fn first_index(&self) -> Option<u32> {
        self.indexes.first().map(|(first, _)| *first)
    }

    pub(super) fn subject(&self) -> String {
        self.address.map_or_else(|| self.root.to_string(), |address| address.to_string())
    }

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        let derived = self.origin == Origin::Derived;
        let children = self.indexes.iter().try_fold(0u64, |sum, (first, last)| {
            sum.checked_add(u64::from(last.checked_sub(*first)?))?.checked_add(1)
        });
        let claims = [
            (self.count > 0, "count"),
            (derived == self.wallet.is_some(), "wallet"),
            (children == Some(if derived { self.count } else { 0 }), "indexes"),
            (self.address.is_some() == (self.count == 1), "address"),
            (self.address.is_none_or(|one| addresses_root(&[one]) == self.root), "root"),
        ];
        claims.into_iter().find(|(holds, _)| !holds).map(|(_, field)| field)
    }
}

/// The Merkle root over addresses in their order (RFC 6962 with sha-256, the 20 bytes of each as entry).
pub fn addresses_root(addresses: &[Address]) -> B256 {
    // Complete subtrees, the largest first: each with the number of its leaves.
    let mut trees: Vec<(u64, B256)> = Vec::new();
    for address in addresses {
        let mut tree = (1u64, hash(0, &[address.as_slice()]));
        while let Some((leaves, left)) = trees.last().copied().filter(|(n, _)| *n == tree.0) {
            trees.pop();
            let both = leaves.saturating_mul(2);
            tree = (both, hash(1, &[left.as_slice(), tree.1.as_slice()]));
        }
        trees.push(tree);
    }
    let mut root = trees.pop().map(|(_, hash)| hash);
    while let (Some((_, left)), Some(right)) = (trees.pop(), root) {
        root = Some(hash(1, &[left.as_slice(), right.as_slice()]));
    }
    root.unwrap_or_else(|| B256::from_slice(Sha256::digest([]).as_slice()))
}

/// RFC 6962, 2.1: leaves and nodes differ in their first byte.
fn hash(prefix: u8, parts: &[&[u8]]) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([prefix]);
    for part in parts {
        hasher.update(part);
    }
    B256::from_slice(hasher.finalize().as_slice())
}
