//! What a database held when a process looked: what never goes away by itself. Only the facts; who compares them is
//! `went_back`.

use std::collections::BTreeMap;

use alloy::primitives::Address;

use crate::domain::ids::AddressId;
use crate::store::went_back::own_commits::SeenRecord;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Facts {
    /// When the server's process began, and which table it is; empty on SQLite. A server that is another
    /// one, or another time the same, differs, and a database that was loaded from a dump.
    pub(in crate::store) serving: Option<String>,
    /// Its system identifier, timeline and table, as `Store::server` says them.
    pub(in crate::store) server: String,
    /// The newest record, as the log is fed.
    pub(in crate::store) head: Option<SeenRecord>,
    /// The newest record that this process wrote.
    pub(in crate::store) wrote: Option<SeenRecord>,
    /// How many records there are; looked at less often than the others.
    pub(in crate::store) records: Option<i64>,
    /// The newest address.
    pub(in crate::store) address: Option<(AddressId, Address)>,
    /// The newest namespace.
    pub(in crate::store) namespace: Option<(i64, String)>,
    /// The children of each account key.
    pub(in crate::store) children: BTreeMap<String, Children>,
}

/// Which children of an account key are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Children {
    /// The index that follows the last one that is registered.
    pub(in crate::store) registered: i64,
    /// The next one that is given out: higher, where some were left out.
    pub(in crate::store) next: i64,
}

impl Facts {
    /// Takes over the ids and indexes of somebody else's memory, which are never given out again.
    pub(in crate::store) fn absorb(&mut self, other: &Self) {
        self.address = self.address.max(other.address);
        self.namespace = self.namespace.take().max(other.namespace.clone());
        self.absorb_children(&other.children);
    }

    /// The higher one of each index.
    pub(in crate::store) fn absorb_children(&mut self, others: &BTreeMap<String, Children>) {
        for (xpub, other) in others {
            let known = self.children.entry(xpub.clone()).or_default();
            known.registered = known.registered.max(other.registered);
            known.next = known.next.max(other.next);
        }
    }
}

/// What is there, and what of the memory is not.
pub(in crate::store) struct There {
    pub(in crate::store) facts: Facts,
    pub(in crate::store) missing: Vec<String>,
}
