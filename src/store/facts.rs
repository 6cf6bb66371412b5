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
    /// The newest namespace, and the next index of each account key.
    pub(super) namespace: Option<(i64, String)>,
    pub(super) next_indexes: BTreeMap<String, i64>,
}

/// What is there, and what of the memory is not.
pub(super) struct There {
    pub(super) facts: Facts,
    pub(super) missing: Vec<String>,
}
