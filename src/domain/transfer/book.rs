//! Whose address is it: every deposit address, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use alloy::primitives::Address;
use alloy::primitives::map::FbBuildHasher;

use crate::domain::ids::AddressId;

/// Parts of a table for millions; one for a few has one.
const SHARDS: usize = 256;

type Shard = HashMap<Address, AddressId, FbBuildHasher<20>>;

/// Deposit addresses: 25 bytes an entry and the room that a hash table leaves free, and one probe a log.
///
/// A book shows a table that only grows, as of a moment: what is added to another [`AddressBook::view`]
/// of the same table later, it does not show. So all tasks of all chains have one table, which nobody
/// ever copies, and each decides by a book that stands still.
#[derive(Debug)]
pub struct AddressBook {
    /// In parts: while one grows, it is there twice, and keeps those waiting who look there.
    shards: Arc<[RwLock<Shard>]>,
    newest: u32,
    len: usize,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self::of(1)
    }
}

impl AddressBook {
    /// An empty one, for millions.
    pub fn large() -> Self {
        Self::of(SHARDS)
    }

    fn of(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| RwLock::default()).collect(), newest: 0, len: 0 }
    }

    /// The same table as it is now.
    pub fn view(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), newest: self.newest, len: self.len }
    }

    /// Adds an address. Only one view of a table is added to, and ids only grow.
    pub fn insert(&mut self, address: Address, id: AddressId) {
        let Some(shard) = self.shard(&address) else { return };
        let before = shard.write().unwrap_or_else(PoisonError::into_inner).insert(address, id);
        if before.is_none() {
            self.len = self.len.saturating_add(1);
        }
        self.newest = self.newest.max(id.0);
    }

    /// Our id for an address, if it is ours.
    pub fn get(&self, address: &Address) -> Option<AddressId> {
        let shard = self.shard(address)?.read().unwrap_or_else(PoisonError::into_inner);
        shard.get(address).copied().filter(|id| id.0 <= self.newest)
    }

    /// The highest id known, so that a commit can tell whether the book was complete.
    pub fn newest(&self) -> AddressId {
        AddressId(self.newest)
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without addresses.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All addresses, in no order.
    pub fn addresses(&self) -> Vec<Address> {
        let mut all = Vec::with_capacity(self.len);
        for shard in self.shards.iter() {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().filter(|(_, id)| id.0 <= self.newest).map(|(a, _)| *a));
        }
        all
    }

    fn shard(&self, address: &Address) -> Option<&RwLock<Shard>> {
        // By a byte in the middle: people choose how an address begins and ends.
        let byte = usize::from(*address.0.get(10)?);
        self.shards.get(byte.checked_rem(self.shards.len())?)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;

    use super::*;

    fn address(i: u32) -> Address {
        Address::from_word(keccak256(i.to_be_bytes()))
    }

    #[test]
    fn a_view_shows_what_was_there_when_it_was_taken() {
        for mut book in [AddressBook::large(), AddressBook::default()] {
            assert!(book.is_empty() && book.get(&address(1)).is_none());
            for i in 1..=1_000 {
                book.insert(address(i), AddressId(i));
            }
            let before = book.view();
            for i in 1_001..=2_000 {
                book.insert(address(i), AddressId(i));
            }
            for i in 1..=2_000 {
                assert_eq!(before.get(&address(i)), (i <= 1_000).then_some(AddressId(i)));
                assert_eq!(book.get(&address(i)), Some(AddressId(i)));
            }
            assert_eq!(book.get(&address(2_001)), None);
            for (book, count) in [(&before, 1_000u32), (&book, 2_000), (&book.view(), 2_000)] {
                let addresses = book.addresses();
                assert_eq!(u32::try_from(addresses.len()), Ok(count));
                assert!(addresses.iter().all(|a| book.get(a).is_some()));
                assert_eq!((book.len(), book.newest()), (addresses.len(), AddressId(count)));
            }
        }
    }
}
