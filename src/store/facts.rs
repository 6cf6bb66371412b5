//! What a database held when a process looked: what never goes away by itself. Only the facts; who compares them is
//! `went_back`.

use std::collections::BTreeMap;

use alloy::primitives::Address;

use super::own_commits::SeenRecord;
use crate::domain::ids::AddressId;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// When the server's process began, and which table it is; empty on SQLite. A server that is another
    /// one, or another time the same, differs, and a database that was loaded from a dump.
    pub(super) serving: Option<String>,
    /// Its system identifier, timeline and table, as `Store::server` says them.
    pub(super) server: String,
    /// The newest record, as the log is fed.
    pub(super) head: Option<SeenRecord>,
    /// The newest record that this process wrote.
    pub(super) wrote: Option<SeenRecord>,
    /// How many records there are; looked at less often than the others.
    pub(super) records: Option<i64>,
    /// The newest address.
    pub(super) address: Option<(AddressId, Address)>,
    /// The newest namespace.
    pub(super) namespace: Option<(i64, String)>,
    /// The children of each account key.
    pub(super) children: BTreeMap<String, Children>,
}

/// Which children of an account key are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Children {
    /// The index that follows the last one that is registered.
    pub(super) registered: i64,
    /// The next one that is given out: higher, where some were left out.
    pub(super) next: i64,
}

impl Facts {
    /// Takes over the ids and indexes of somebody else's memory, which are never given out again.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.address = self.address.max(other.address);
        self.namespace = self.namespace.take().max(other.namespace.clone());
        self.absorb_children(&other.children);
    }

    /// The higher one of each index.
    pub(super) fn absorb_children(&mut self, others: &BTreeMap<String, Children>) {
        for (xpub, other) in others {
            let known = self.children.entry(xpub.clone()).or_default();
            known.registered = known.registered.max(other.registered);
            known.next = known.next.max(other.next);
        }
    }
}

/// What is there, and what of the memory is not.
pub(super) struct There {
    pub(super) facts: Facts,
    pub(super) missing: Vec<String>,
}
