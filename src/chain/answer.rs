//! What must be true of a chain before a provider of it is trusted, and what it answered.

use alloy::primitives::{Address, B256};

use crate::domain::finality::Policy;
use crate::domain::ids::ChainId;
use crate::domain::oracle::source::SourceSpec;
use crate::domain::pricing::Token;

pub(super) const CHAIN_ID: &str = "chain id";

/// What must be true of a chain before a provider of it is trusted.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its id.
    pub chain: ChainId,
    /// Tokens that may be credited.
    pub tokens: &'a [Token],
    /// Of these tokens the symbol is only shown: their addresses were looked up, and issuers rename
    /// what they issue.
    pub known: &'a [Address],
    /// When a payment is deep enough.
    pub policy: &'a Policy,
    /// The configured first block.
    pub start: Option<u64>,
    /// Whether blocks are proved by their receipts.
    pub proof: bool,
    /// Whether there is another way for those that cannot be.
    pub proof_may_lack: bool,
    /// Sources of prices on this chain.
    pub prices: Vec<&'a SourceSpec>,
    /// The time.
    pub now_ms: i64,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked, such as `chain id` or `token USDC decimals`.
    pub question: String,
    /// The answer.
    pub verdict: Verdict,
    /// Whether the provider is asked nothing else before this is right.
    pub needed: bool,
    /// The source of prices that it is about: where it is wrong, that source is not asked there, and
    /// everything else goes on.
    pub price_source: Option<B256>,
}

impl Answer {
    /// About a provider or its chain, not about a source of prices.
    pub fn new(question: impl Into<String>, verdict: Verdict, needed: bool) -> Self {
        Self { question: question.into(), verdict, needed, price_source: None }
    }
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it is configured.
    Right(String),
    /// Otherwise, and no waiting makes it right.
    Wrong(String),
    /// Not known: the provider cannot say, or not yet.
    Unknown(String),
}

impl Verdict {
    /// What is said, whatever it means.
    pub fn text(&self) -> &str {
        match self {
            Self::Right(text) | Self::Wrong(text) | Self::Unknown(text) => text,
        }
    }
}
