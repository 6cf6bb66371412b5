//! Which transfers are asked for, and what a block's bloom filter says of them.

use alloy::primitives::{Address, Bloom, BloomInput};

use crate::domain::transfer::{RawLog, TRANSFER_TOPIC};

/// Which logs to ask for. All of them have the ERC-20 `Transfer` topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFilter {
    /// Of these contracts, whoever receives.
    Tokens(Vec<Address>),
    /// To these recipients, whatever contract emits.
    Recipients(Vec<Address>),
    /// From these senders, of these contracts.
    Senders {
        /// Who pays.
        senders: Vec<Address>,
        /// Of which contracts: of others, anybody can emit transfers in anybody's name.
        tokens: Vec<Address>,
    },
}

impl LogFilter {
    /// The word stored with a scan record.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tokens(_) => "tokens",
            Self::Recipients(_) => "recipients",
            Self::Senders { .. } => "senders",
        }
    }

    /// True when a log is one that this filter asks for.
    pub fn passes(&self, log: &RawLog) -> bool {
        let to = || log.topics.get(2);
        log.topics.first() == Some(&TRANSFER_TOPIC)
            && match self {
                Self::Tokens(tokens) => tokens.contains(&log.address),
                Self::Recipients(all) => {
                    to().is_some_and(|to| all.iter().any(|a| a.into_word() == *to))
                }
                Self::Senders { senders, tokens } => {
                    let from = log.topics.get(1);
                    tokens.contains(&log.address)
                        && from.is_some_and(|from| senders.iter().any(|a| a.into_word() == *from))
                }
            }
    }

    /// True when a block's bloom filter (Ethereum yellow paper, 4.3.1) says that it should hold
    /// logs which this filter asks for: an answer without any is then doubtful.
    ///
    /// A full filter says yes to everything, and an empty one, as some chains send, says nothing;
    /// neither can decide.
    pub fn expects_logs(&self, bloom: &Bloom) -> bool {
        decides(bloom) && self.is_in(bloom)
    }

    /// True unless a block's bloom filter says that it holds no log which this filter asks for.
    pub fn allows_logs(&self, bloom: &Bloom) -> bool {
        !decides(bloom) || self.is_in(bloom)
    }

    fn is_in(&self, bloom: &Bloom) -> bool {
        let has = |raw: &[u8]| bloom.contains_input(BloomInput::Raw(raw));
        let contract = |tokens: &[Address]| tokens.iter().any(|t| has(t.as_slice()));
        let party = |all: &[Address]| all.iter().any(|a| has(a.into_word().as_slice()));
        has(TRANSFER_TOPIC.as_slice())
            && match self {
                Self::Tokens(tokens) => contract(tokens),
                Self::Recipients(to) => party(to),
                Self::Senders { senders, tokens } => contract(tokens) && party(senders),
            }
    }
}

/// The bloom filter of a block with these logs (Ethereum yellow paper, 4.3.1).
pub fn bloom_of(logs: &[RawLog]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in logs {
        bloom.accrue(BloomInput::Raw(log.address.as_slice()));
        log.topics.iter().for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_slice())));
    }
    bloom
}

/// A full filter says yes to everything, and an empty one, as some chains send, says nothing.
pub(super) fn decides(bloom: &Bloom) -> bool {
    let set: u32 = bloom.iter().map(|byte| byte.count_ones()).sum();
    (1..=BLOOM_FULL).contains(&set)
}

/// Of its 2,048 bits: above this, a filter answers yes by chance too often.
pub(super) const BLOOM_FULL: u32 = 700;
