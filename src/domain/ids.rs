//! Names for things: chains, blocks, deposits, sightings, namespaces.
//!
//! Ids that protect money are hashes of facts of the chain, so that every daemon, every restart
//! and every restore computes the same one. Nothing here is random or counted by us.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::seal::Canonical;

/// Whether credits of this database are worth money. Stamped at creation, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Real payments.
    Mainnet,
    /// Test payments; their credits never carry over.
    Testnet,
}

impl Network {
    /// The word used in SQL, configuration and the ledger's genesis.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mainnet" => Ok(Self::Mainnet),
            "testnet" => Ok(Self::Testnet),
            other => Err(format!("{other:?} is not a network; allowed: mainnet, testnet")),
        }
    }
}

/// An EIP-155 chain id. Displayed as CAIP-2 (`eip155:1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub u64);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eip155:{}", self.0)
    }
}

/// One block of one chain: its height and its hash. Only the hash identifies it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
}

/// How far a chain has been scanned. A failed read is an error, never [`Cursor::Fresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// This chain has never been scanned by this database.
    Fresh,
    /// Everything up to and including this block is in the database.
    At(BlockRef),
}

/// Where one log stands: unique per chain, because a block hash names one list of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SightingKey {
    /// Chain.
    pub chain: ChainId,
    /// Hash of the block the log stands in.
    pub block_hash: B256,
    /// Index of the log within the *block*; changes when the transaction is mined elsewhere.
    pub log_index: u64,
}

/// Whether a log is the `Transfer` that ERC-20 describes, or only resembles one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Three clean topics and 32 bytes of data (EIP-20).
    Transfer,
    /// Same first topic, anything else wrong. Recorded, never credited.
    Malformed,
}

impl Shape {
    /// The word used in SQL and in ids.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Malformed => "malformed",
        }
    }
}

/// What is credited once: the n-th transfer of a token to an address within a transaction.
///
/// Neither block, log index nor amount are part of it, because all three may differ when the
/// transaction is mined again after a reorg. `n` counts well-formed transfers only, so that every
/// filter that shows them yields the same number; malformed logs are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DepositKey {
    /// Chain.
    pub chain: ChainId,
    /// Transaction.
    pub tx_hash: B256,
    /// Contract that emitted the log.
    pub token: Address,
    /// Our deposit address.
    pub recipient: Address,
    /// Well-formed or not.
    pub shape: Shape,
    /// Position among the transaction's logs with the same token, recipient and shape, from 0.
    pub n: u32,
}

impl DepositKey {
    /// The deposit's id: sha-256 over the canonical bytes of the key.
    pub fn id(&self) -> DepositId {
        let mut bytes = Canonical::new("topupd/deposit/v1");
        bytes
            .u64(self.chain.0)
            .bytes(self.tx_hash.as_slice())
            .bytes(self.token.as_slice())
            .bytes(self.recipient.as_slice())
            .text(self.shape.as_str())
            .u64(u64::from(self.n));
        DepositId(bytes.finish())
    }
}

/// Identifies a deposit for ever; see [`DepositKey::id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DepositId(pub B256);

impl fmt::Display for DepositId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for DepositId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        B256::from_str(text).map(Self).map_err(|_| {
            format!("{text:?} is not a deposit id; expected 0x and 64 hexadecimal digits")
        })
    }
}

/// The row id of a namespace. 64 bits because that is what both databases store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NamespaceId(pub i64);

/// The row id of a deposit address. 32 bits, so that an address book entry is 24 bytes: four
/// billion addresses are more than one installation derives from one account (2³¹).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct AddressId(pub u32);

/// What the house's journal is called where a namespace's name could stand: none is called so.
pub const HOUSE: &str = "house";

/// A namespace's name: 1 to 63 of `a-z 0-9 . _ -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespaceName(String);

impl NamespaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NamespaceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NamespaceName> for String {
    fn from(name: NamespaceName) -> Self {
        name.0
    }
}

impl FromStr for NamespaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let starts_well = text.chars().next().is_some_and(allowed);
        let rest_is_fine = text.chars().all(|c| allowed(c) || matches!(c, '.' | '_' | '-'));
        if text == HOUSE {
            return Err(format!("{text:?} is what the house's own journal is called"));
        }
        if starts_well && rest_is_fine && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is not a namespace name; allowed: 1 to 63 of a-z 0-9 . _ -, starting with a letter or digit"
            ))
        }
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DepositKey {
        DepositKey {
            chain: ChainId(31337),
            tx_hash: B256::repeat_byte(0x11),
            token: Address::repeat_byte(0x22),
            recipient: Address::repeat_byte(0x33),
            shape: Shape::Transfer,
            n: 0,
        }
    }

    /// Computed apart, by a script over the documented encoding: if this changes, every deposit of every installation changes its id.
    #[test]
    fn deposit_id_is_pinned() {
        assert_eq!(
            key().id().to_string(),
            "0x01d2e4764ab97c7886fcf5657f58b1bdced374c8120e059154b8d3a07ed6dffa"
        );
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let base = key().id();
        let others = [
            DepositKey { chain: ChainId(1), ..key() },
            DepositKey { tx_hash: B256::ZERO, ..key() },
            DepositKey { token: Address::ZERO, ..key() },
            DepositKey { recipient: Address::ZERO, ..key() },
            DepositKey { shape: Shape::Malformed, ..key() },
            DepositKey { n: 1, ..key() },
        ];
        for other in others {
            assert_ne!(other.id(), base, "{other:?}");
        }
    }

    #[test]
    fn namespace_names() {
        for good in ["a", "acme", "acme-2.eu_x", "0x"] {
            assert!(good.parse::<NamespaceName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "Acme", "a b", "ä", &long, "a/b", "house"] {
            assert!(bad.parse::<NamespaceName>().is_err(), "{bad}");
        }
    }
}
