//! From logs to sightings: which `Transfer` logs concern our addresses, and what each one says.
//!
//! The amount is the one in the log, never the call's input (a token may take a fee). Whether a
//! transfer is *credited* is not decided here; a log that only resembles a transfer still becomes
//! a sighting, with the reason.

mod book;

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Address, B256, Bytes, U256, b256};

use super::ids::{AddressId, ChainId, DepositKey, Shape, SightingKey};
use super::money::RawAmount;
pub use book::AddressBook;

/// keccak-256 of `Transfer(address,address,uint256)` (EIP-20; ERC-721 shares it).
pub const TRANSFER_TOPIC: B256 =
    b256!("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");

/// How much of a malformed log's data is kept as evidence.
pub const MALFORMED_DATA_KEPT: usize = 256;

/// One log as a provider answered it, already checked to belong to the block it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLog {
    /// Emitting contract.
    pub address: Address,
    /// Zero to four topics.
    pub topics: Vec<B256>,
    /// Unindexed data.
    pub data: Bytes,
    /// Block.
    pub block_hash: B256,
    /// Height of the block.
    pub block_number: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Index within the block.
    pub log_index: u64,
}

/// Why a log with the right first topic is not an ERC-20 transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformation {
    /// Not exactly three topics: ERC-721 has four, some old tokens index nothing.
    TopicCount,
    /// Not exactly 32 bytes of data.
    DataLength,
    /// An address topic whose upper twelve bytes are not zero.
    DirtyTopic,
}

impl Malformation {
    /// The word stored as a reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TopicCount => "topic_count",
            Self::DataLength => "data_length",
            Self::DirtyTopic => "dirty_topic",
        }
    }
}

impl fmt::Display for Malformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a log to one of our addresses says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A clean ERC-20 transfer.
    Transfer {
        /// Who paid, by the token's word.
        sender: Address,
        /// How much arrived, by the token's word.
        amount: RawAmount,
    },
    /// Something else; the log itself is kept.
    Malformed {
        /// What is wrong with it.
        why: Malformation,
        /// Its topics, all of them.
        topics: Vec<B256>,
        /// Its data, cut at [`MALFORMED_DATA_KEPT`].
        data: Bytes,
    },
}

/// One `Transfer` log to a deposit address in one particular block. A fact; never edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Where the log stands.
    pub key: SightingKey,
    /// Height of its block.
    pub block_number: u64,
    /// Which deposit it shows.
    pub deposit: DepositKey,
    /// Which of our addresses it concerns.
    pub address_id: AddressId,
    /// What it says.
    pub content: Content,
}

impl Sighting {
    /// The amount, zero for a malformed log.
    pub fn amount(&self) -> RawAmount {
        match self.content {
            Content::Transfer { amount, .. } => amount,
            Content::Malformed { .. } => RawAmount::ZERO,
        }
    }
}

/// A transfer of a listed token *from* one of our addresses, to whomever, in one particular block.
/// A fact, like a sighting; known by what it says, wherever in its block it is said to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where the log stands.
    pub key: SightingKey,
    /// Height of its block.
    pub block_number: u64,
    /// Transaction.
    pub tx_hash: B256,
    /// Contract.
    pub token: Address,
    /// Which of our addresses paid.
    pub address_id: AddressId,
    /// Who received.
    pub recipient: Address,
    /// How much left; never zero.
    pub amount: RawAmount,
    /// Which one of those of its transaction that say the same, in log order.
    pub n: u32,
}

/// What one log says, before anybody asks whose address it is.
enum Reading {
    Clean { sender: Address, recipient: Address, amount: RawAmount },
    Odd { why: Malformation, recipient: Address },
    NotForAnyone,
}

fn read(log: &RawLog) -> Reading {
    let [first, rest @ ..] = log.topics.as_slice() else { return Reading::NotForAnyone };
    if *first != TRANSFER_TOPIC {
        return Reading::NotForAnyone;
    }
    match rest {
        [from, to] => {
            let recipient = Address::from_word(*to);
            if dirty(from) || dirty(to) {
                return Reading::Odd { why: Malformation::DirtyTopic, recipient };
            }
            let Ok(word) = <[u8; 32]>::try_from(log.data.as_ref()) else {
                return Reading::Odd { why: Malformation::DataLength, recipient };
            };
            let amount = RawAmount(U256::from_be_bytes(word));
            Reading::Clean { sender: Address::from_word(*from), recipient, amount }
        }
        // The recipient is where `to` would stand if the missing topics had been data.
        [] => odd_in_data(log, 1),
        [_from] => odd_in_data(log, 0),
        [_from, to, ..] => {
            Reading::Odd { why: Malformation::TopicCount, recipient: Address::from_word(*to) }
        }
    }
}

fn odd_in_data(log: &RawLog, word: usize) -> Reading {
    match log.data.chunks_exact(32).nth(word) {
        Some(bytes) => Reading::Odd {
            why: Malformation::TopicCount,
            recipient: Address::from_word(B256::from_slice(bytes)),
        },
        None => Reading::NotForAnyone,
    }
}

fn dirty(topic: &B256) -> bool {
    topic.iter().take(12).any(|byte| *byte != 0)
}

/// A clean ERC-20 transfer: who paid, who received, and how much; `None` for any other log.
pub fn clean_transfer(log: &RawLog) -> Option<(Address, Address, RawAmount)> {
    match read(log) {
        Reading::Clean { sender, recipient, amount } => Some((sender, recipient, amount)),
        Reading::Odd { .. } | Reading::NotForAnyone => None,
    }
}

/// Finds what left our addresses among the logs of any number of blocks, in the order of the chain.
///
/// Only listed tokens, and only what moves something: of others, and of nothing, anybody can emit a
/// transfer in anybody's name, so that a stranger cannot make us store a row. From an address to
/// itself, nothing leaves.
pub fn match_outgoing(
    chain: ChainId,
    logs: &[RawLog],
    book: &AddressBook,
    is_listed: impl Fn(&Address) -> bool,
) -> Vec<Outgoing> {
    let mut outgoing: Vec<Outgoing> = logs
        .iter()
        .filter(|log| is_listed(&log.address))
        .filter_map(|log| {
            let (sender, recipient, amount) = clean_transfer(log)?;
            let moves = amount != RawAmount::ZERO && sender != recipient;
            let address_id = book.get(&sender).filter(|_| moves)?;
            Some(Outgoing {
                key: SightingKey { chain, block_hash: log.block_hash, log_index: log.log_index },
                block_number: log.block_number,
                tx_hash: log.tx_hash,
                token: log.address,
                address_id,
                recipient,
                amount,
                n: 0,
            })
        })
        .collect();
    outgoing.sort_by_key(|o| (o.block_number, o.key.log_index));
    let mut counts = BTreeMap::new();
    for o in &mut outgoing {
        let says = (o.key.block_hash, o.tx_hash, o.token, o.address_id, o.recipient, o.amount);
        let count = counts.entry(says).or_insert(0u32);
        o.n = *count;
        *count = count.saturating_add(1);
    }
    outgoing
}

/// Finds the sightings among the logs of any number of blocks. `n` is counted per transaction and
/// block, in log order, over logs of the same token, recipient and shape; the logs need not come
/// sorted.
pub fn match_logs(chain: ChainId, logs: &[RawLog], book: &AddressBook) -> Vec<Sighting> {
    let mut ours: Vec<(&RawLog, AddressId, Address, Content)> = logs
        .iter()
        .filter_map(|log| {
            let (recipient, content) = match read(log) {
                Reading::NotForAnyone => return None,
                Reading::Clean { sender, recipient, amount } => {
                    (recipient, Content::Transfer { sender, amount })
                }
                Reading::Odd { why, recipient } => (
                    recipient,
                    Content::Malformed {
                        why,
                        topics: log.topics.clone(),
                        data: log.data.slice(..log.data.len().min(MALFORMED_DATA_KEPT)),
                    },
                ),
            };
            book.get(&recipient).map(|id| (log, id, recipient, content))
        })
        .collect();
    ours.sort_by_key(|(log, ..)| (log.block_number, log.log_index));

    let mut counts: BTreeMap<(B256, DepositKey), u32> = BTreeMap::new();
    ours.into_iter()
        .map(|(log, address_id, recipient, content)| {
            let shape = match content {
                Content::Transfer { .. } => Shape::Transfer,
                Content::Malformed { .. } => Shape::Malformed,
            };
            let first = DepositKey {
                chain,
                tx_hash: log.tx_hash,
                token: log.address,
                recipient,
                shape,
                n: 0,
            };
            let count = counts.entry((log.block_hash, first)).or_insert(0);
            let deposit = DepositKey { n: *count, ..first };
            *count = count.saturating_add(1);
            Sighting {
                key: SightingKey { chain, block_hash: log.block_hash, log_index: log.log_index },
                block_number: log.block_number,
                deposit,
                address_id,
                content,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
