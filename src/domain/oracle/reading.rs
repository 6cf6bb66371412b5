//! What a source is asked, what it answers, and the price that is read from it or why there is none.

use std::fmt;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::money::Rate;
use crate::domain::oracle::abi::{Aggregator, UniswapV3Pool};

/// The instant that a payment is priced at: its block's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceInstant {
    /// Chain of the payment.
    pub chain: ChainId,
    /// Its block.
    pub block: BlockRef,
    /// That block's time, epoch milliseconds.
    pub time_ms: i64,
}

/// A question to a contract (`eth_call`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Contract.
    pub to: Address,
    /// ABI-encoded function and arguments.
    pub data: Bytes,
}

impl Call {
    /// What is asked of whom, for people.
    pub fn name(&self) -> String {
        let functions = [
            ("latestRoundData", Aggregator::latestRoundDataCall::SELECTOR),
            ("getRoundData", Aggregator::getRoundDataCall::SELECTOR),
            ("observe", UniswapV3Pool::observeCall::SELECTOR),
            ("slot0", UniswapV3Pool::slot0Call::SELECTOR),
        ];
        let known = functions.iter().find(|(_, selector)| self.data.starts_with(selector));
        format!("{} of {}", known.map_or("a call", |(name, _)| name), self.to)
    }
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Contract.
    pub to: Address,
    /// What was asked.
    pub data: Bytes,
    /// What it returned, or the reason it gave for reverting.
    pub answer: CallAnswer,
}

impl Called {
    /// True where it answers this question.
    pub fn asks(&self, call: &Call) -> bool {
        (self.to, &self.data) == (call.to, &call.data)
    }
}

/// What a contract answered. That a node could not run the call is not an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallAnswer {
    /// ABI-encoded values.
    Returned(Bytes),
    /// It reverted, with this reason.
    Reverted(String),
}

/// Answers of contracts in the state after one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// Chain.
    pub chain_id: ChainId,
    /// Height of the block.
    pub block_number: u64,
    /// Its hash.
    pub block_hash: B256,
    /// Its time.
    pub block_time_ms: i64,
    /// Time of the block after it, where that shows that no later block is at or before the
    /// instant: for blocks of another chain than the payment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time_ms: Option<i64>,
    /// Read after the fact, in the state of a later block, of what the contracts remember.
    pub late: bool,
    /// Questions and answers.
    pub calls: Vec<Called>,
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// The instant it was asked about, or, for a ticker, when it was asked.
    pub at_ms: i64,
    /// When it was there.
    pub fetched_at_ms: i64,
    /// HTTP status.
    pub status: u16,
    /// The body, as far as it is kept.
    pub body: String,
    /// sha-256 of the whole body; of what is kept, where a key was taken out of it.
    pub sha256: B256,
    /// The body was longer than what is kept: it is never read.
    pub cut: bool,
}

impl Body {
    /// What a server answered that did not answer with 200, for people.
    pub fn refusal(&self) -> String {
        match self.body.trim() {
            "" => format!("http status {}", self.status),
            _ => format!("http status {}: {}", self.status, self.start()),
        }
    }

    /// How the answer begins.
    pub(crate) fn start(&self) -> String {
        start(&self.body)
    }
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The price, in the source's own unit.
    pub price: Rate,
    /// The time it stands for.
    pub as_of_ms: i64,
    /// When the source itself was last updated.
    pub updated_ms: i64,
    /// What else identifies it: a round, a tick.
    pub detail: String,
}

impl Reading {
    /// What a fixed source says at any instant.
    pub fn fixed(price: Rate, at: &PriceInstant) -> Self {
        let (as_of_ms, updated_ms) = (at.time_ms, at.time_ms);
        Self { price, as_of_ms, updated_ms, detail: "fixed".to_owned() }
    }
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// A stable word.
    pub code: &'static str,
    /// What is wrong, for people.
    pub why: String,
    /// What it says all the same, where that may count once it is known how it went on.
    pub mean: Option<Box<Reading>>,
}

impl Reject {
    pub(crate) fn new(code: &'static str, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), mean: None }
    }

    /// The questions left something out, or were about another instant: other ones may have an answer.
    pub fn is_of_the_questions(&self) -> bool {
        ["phase", "missing", "unreadable", "wrong_block"].contains(&self.code)
    }

    /// A contract's function reverted, for this reason, if it gave one.
    pub(super) fn reverted(function: &str, why: &str) -> Self {
        match why.trim() {
            "" => Self::new("reverted", format!("{function} reverted without a reason")),
            why => Self::new("reverted", format!("{function} reverted: {}", start(why))),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.why)
    }
}

/// An answer may be this far ahead of the instant it is used for: clocks differ.
pub(super) const AHEAD_MAX_MS: i64 = 60_000;

/// The time that answers of these calls stand for.
pub(super) fn as_of(calls: &Calls, at: &PriceInstant) -> i64 {
    if calls.late { at.time_ms } else { calls.block_time_ms }
}

/// Characters of a strange answer that are shown: enough to tell a missing key from a wrong symbol.
pub(super) const START_CHARS: usize = 80;

/// The first part of what somebody answered, on one line. What a terminal obeys is escaped where it is
/// shown; but a database takes no NUL.
pub(in crate::domain) fn start(text: &str) -> String {
    let text = text.trim();
    let kept = text.chars().take(START_CHARS).map(|c| match c {
        '\0' => char::REPLACEMENT_CHARACTER,
        c if c.is_whitespace() => ' ',
        c => c,
    });
    let more = text.chars().nth(START_CHARS).map(|_| '…');
    kept.chain(more).collect()
}
