//! Names for journals and for their records.
//!
//! A record's id is a hash of the journal and of what caused it, so that every daemon and every restart
//! computes the same one. A journal's genesis has a random salt in it that only its owner gets: a public
//! leaf of the log cannot be guessed. The salt is an argument; nothing here is random.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use crate::domain::ids::{NamespaceId, Network};
use crate::domain::seal::Canonical;

/// Which journal: 0 is the house's, every other one is the namespace's with that row id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct JournalId(pub i64);

impl JournalId {
    /// The house's: treasury, keys, epochs, policies, operators' acts.
    pub const HOUSE: Self = Self(0);

    /// True for the house's.
    pub const fn is_house(self) -> bool {
        self.0 == 0
    }

    /// True when records of this kind stand in this journal.
    pub const fn holds(self, kind: Kind) -> bool {
        kind.is_of_house() == self.is_house()
    }
}

impl From<NamespaceId> for JournalId {
    fn from(namespace: NamespaceId) -> Self {
        Self(namespace.0)
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_house() { f.write_str("the house") } else { write!(f, "journal {}", self.0) }
    }
}

/// What the first record of a journal names as the one before it: binds the journal to its network, its
/// installation and its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Genesis(pub B256);

/// The genesis of a journal. `namespace` is `None` for the house; `salt` is 32 random bytes.
pub fn genesis(
    network: Network,
    installation: &[u8],
    namespace: Option<&str>,
    salt: &[u8; 32],
) -> Genesis {
    let mut bytes = Canonical::new("topupd/journal/v1");
    bytes
        .text(network.as_str())
        .bytes(installation)
        .text(if namespace.is_some() { "namespace" } else { "house" })
        .text(namespace.unwrap_or_default())
        .bytes(salt);
    Genesis(bytes.finish())
}

/// Identifies a record for ever: a hash of its journal and of what caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(pub B256);

impl RecordId {
    /// The id of the record of this kind in the journal with this genesis; `key` appends the natural key
    /// of its subject.
    pub(super) fn new(genesis: Genesis, kind: Kind, key: impl FnOnce(&mut Canonical)) -> Self {
        let mut bytes = Canonical::new("topupd/record/v1");
        bytes.bytes(genesis.0.as_slice()).text(kind.as_str());
        key(&mut bytes);
        Self(bytes.finish())
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RecordId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        B256::from_str(text).map(Self).map_err(|_| {
            format!("{text:?} is not a record id; expected 0x and 64 hexadecimal digits")
        })
    }
}
