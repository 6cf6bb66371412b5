//! Market prices: what a source is asked, what its raw answer says, and what several of them say
//! together.
//!
//! A source's answer is kept raw, as [`Evidence`]; [`read`] turns it into a [`Reading`] or says why
//! it is none; [`policy::decide`] makes one price of several readings, or says why there is none.
//! All of it is pure, so that a conversion can be computed again from what was stored. Asking is
//! done elsewhere: here is only what to ask.

pub mod body;
pub mod chainlink;
pub mod policy;
pub mod pyth;
pub mod rounds;
pub mod samples;
pub mod tick_math;
pub mod ticker;
pub mod uniswap_after;
pub mod uniswap_v3;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::SolCall;
use serde::{Deserialize, Serialize};

use self::policy::PairPolicy;
use super::conversion;
use super::ids::{BlockRef, ChainId};
use super::money::Rate;
use super::pricing::Terms;
use super::seal::Canonical;

/// The configured pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Oracle {
    pairs: BTreeMap<String, PairPolicy>,
    patience_ms: i64,
    every_ms: i64,
}

impl Oracle {
    /// Pairs by name. A source that does not answer is waited for so long, from when it was first
    /// asked, before a payment is priced without it or held.
    #[must_use]
    pub fn new(pairs: BTreeMap<String, PairPolicy>, patience_ms: i64) -> Self {
        Self { pairs, patience_ms, every_ms: 0 }
    }

    /// Pairs are priced this often though nobody pays; never, when it is 0.
    #[must_use]
    pub fn with_schedule(self, every_ms: i64) -> Self {
        Self { every_ms, ..self }
    }

    /// Pause between two prices that are taken though nobody paid; 0 for none.
    #[must_use]
    pub fn every_ms(&self) -> i64 {
        self.every_ms
    }

    /// How long a source that does not answer is waited for.
    #[must_use]
    pub fn patience_ms(&self) -> i64 {
        self.patience_ms
    }

    /// The policy of a pair.
    #[must_use]
    pub fn pair(&self, name: &str) -> Option<&PairPolicy> {
        self.pairs.get(name)
    }

    /// All policies, by name.
    pub fn pairs(&self) -> impl Iterator<Item = &PairPolicy> {
        self.pairs.values()
    }

    /// The pairs that a payment in an asset needs ([`conversion::needed`]), not counting those that
    /// their sources are multiplied by.
    #[must_use]
    pub fn needed(
        &self,
        asset: &str,
        terms: &Terms,
        accept: &BTreeMap<String, Terms>,
    ) -> Vec<String> {
        conversion::needed(asset, terms, accept, |pair| self.pairs.contains_key(pair))
    }

    /// The sources behind pairs, with those behind the pairs that they are multiplied by.
    #[must_use]
    pub fn sources<'a>(&'a self, pairs: &[String]) -> Vec<&'a SourceSpec> {
        let named = pairs.iter().filter_map(|pair| self.pair(pair));
        let all: Vec<&PairPolicy> = named
            .flat_map(|policy| {
                let via = policy.needs().into_iter().filter_map(|pair| self.pair(pair));
                [policy].into_iter().chain(via)
            })
            .collect();
        let mut seen = BTreeSet::new();
        let sources = all.into_iter().flat_map(|policy| &policy.sources);
        sources.filter(|source| seen.insert(source.hash())).collect()
    }
}

/// Where a price comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Its name, unique within a pair.
    pub name: String,
    /// The market behind it: two sources of one venue count once.
    pub venue: String,
    /// The pair, such as `USDC/USD`, whose accepted price its answer is multiplied by: for a pool
    /// that prices a token in a stablecoin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// It can hold the price that others make, and never moves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guard: bool,
    /// How it is read.
    pub reads: Reads,
}

/// How a source is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reads {
    /// A Chainlink feed, through its proxy.
    Chainlink(chainlink::Feed),
    /// The time-weighted average price of a Uniswap v3 pool.
    UniswapV3(uniswap_v3::Pool),
    /// The same pool in the minutes after an instant at which its price of the moment was off. Never
    /// configured: see [`SourceSpec::after`].
    UniswapV3After(uniswap_v3::Pool),
    /// A Pyth feed, over Hermes.
    Pyth(pyth_source::Feed),
    /// A ticker over HTTP.
    Http(ticker::Ticker),
    /// A number that somebody wrote down.
    Fixed {
        /// The number.
        price: Rate,
    },
}

/// A Pyth feed over Hermes: what its answer must hold. The blob itself is read by [`pyth`].
pub mod pyth_source;

impl SourceSpec {
    /// The hash under which its answers are kept: another address, window or URL is another source.
    #[must_use]
    pub fn hash(&self) -> B256 {
        let mut bytes = Canonical::new("topupd/price-source/v1");
        bytes.text(&serde_json::to_string(self).unwrap_or_default());
        bytes.finish()
    }

    /// The chain it is read on, for those that are.
    #[must_use]
    pub fn chain(&self) -> Option<ChainId> {
        match &self.reads {
            Reads::Chainlink(feed) => Some(feed.chain_id),
            Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => Some(pool.chain_id),
            Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => None,
        }
    }

    /// True when its answers say of when they are.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        !matches!(&self.reads, Reads::Http(ticker) if ticker.time.is_none())
    }

    /// The word for its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.reads {
            Reads::Chainlink(_) => "chainlink",
            Reads::UniswapV3(_) => "uniswap_v3",
            Reads::UniswapV3After(_) => "uniswap_v3_after",
            Reads::Pyth(_) => "pyth",
            Reads::Http(_) => "http",
            Reads::Fixed { .. } => "fixed",
        }
    }

    /// The source that says how this one went on after an instant at which its answer was in doubt;
    /// none for those that are never looked at again.
    #[must_use]
    pub fn after(&self) -> Option<Self> {
        match &self.reads {
            Reads::UniswapV3(pool) => {
                Some(Self { reads: Reads::UniswapV3After(pool.clone()), ..self.clone() })
            }
            _ => None,
        }
    }

    /// True for a source that is made by [`Self::after`]: it is read late only.
    #[must_use]
    pub const fn is_after(&self) -> bool {
        matches!(self.reads, Reads::UniswapV3After(_))
    }

    /// What is asked of a contract at the block of the instant.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        match &self.reads {
            Reads::Chainlink(feed) => feed.calls(),
            Reads::UniswapV3(pool) => pool.calls(),
            Reads::UniswapV3After(_) | Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => {
                Vec::new()
            }
        }
    }
}

/// The instant that a payment is priced at: its block's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
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
    #[must_use]
    pub fn name(&self) -> String {
        let functions = [
            ("latestRoundData", chainlink::Aggregator::latestRoundDataCall::SELECTOR),
            ("getRoundData", chainlink::Aggregator::getRoundDataCall::SELECTOR),
            ("observe", uniswap_v3::UniswapV3Pool::observeCall::SELECTOR),
            ("slot0", uniswap_v3::UniswapV3Pool::slot0Call::SELECTOR),
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
    #[must_use]
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

/// A source's raw answer, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "read", rename_all = "snake_case")]
pub enum Evidence {
    /// Of contracts, in the state after a block.
    Calls(Calls),
    /// Of a server.
    Body(Body),
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
    #[must_use]
    pub fn refusal(&self) -> String {
        match self.body.trim() {
            "" => format!("http status {}", self.status),
            _ => format!("http status {}: {}", self.status, self.start()),
        }
    }

    /// How the answer begins.
    pub(crate) fn start(&self) -> String {
        ticker::start(&self.body)
    }
}

impl Evidence {
    /// The text that is stored and hashed.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The id of a stored answer: source, the payment's block (none for a sample) and contents, whoever
/// delivered it.
#[must_use]
pub fn quote_id(source: B256, block: Option<(ChainId, B256)>, text: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/quote/v1");
    bytes.bytes(source.as_slice());
    if let Some((chain, block)) = block {
        bytes.u64(chain.0).bytes(block.as_slice());
    }
    bytes.text(text);
    bytes.finish()
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
    #[must_use]
    pub fn fixed(price: Rate, at: &Instant) -> Self {
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
    #[must_use]
    pub fn is_of_the_questions(&self) -> bool {
        ["phase", "missing", "unreadable", "wrong_block"].contains(&self.code)
    }

    /// A contract's function reverted, for this reason, if it gave one.
    fn reverted(function: &str, why: &str) -> Self {
        match why.trim() {
            "" => Self::new("reverted", format!("{function} reverted without a reason")),
            why => Self::new("reverted", format!("{function} reverted: {}", ticker::start(why))),
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

/// Reads a source's raw answer for an instant.
///
/// # Errors
/// [`Reject`], where it is no price of that instant.
pub fn read(spec: &SourceSpec, evidence: &Evidence, at: &Instant) -> Result<Reading, Reject> {
    let wrong = || Reject::new("unreadable", "the answer is not of this kind of source");
    let reading = match (&spec.reads, evidence) {
        (Reads::Chainlink(feed), Evidence::Calls(calls)) => {
            of_instant(calls, at)?;
            feed.read(calls, at)?
        }
        (Reads::UniswapV3(pool), Evidence::Calls(calls)) => {
            of_instant(calls, at)?;
            pool.read(calls, at)?
        }
        (Reads::UniswapV3After(pool), Evidence::Calls(calls)) => {
            of_instant(calls, at)?;
            pool.read_after(calls, at)?
        }
        (Reads::Pyth(feed), Evidence::Body(body)) => feed.read(body, at)?,
        (Reads::Http(ticker), Evidence::Body(body)) => ticker.read(body, at)?,
        _ => return Err(wrong()),
    };
    if reading.price.is_zero() {
        return Err(Reject::new("not_positive", "the price is zero"));
    }
    Ok(reading)
}

/// The block read is the one that the instant names on this chain.
fn of_instant(calls: &Calls, at: &Instant) -> Result<(), Reject> {
    let same_chain = calls.chain_id == at.chain;
    let right = if calls.late {
        calls.block_time_ms >= at.time_ms
    } else if same_chain {
        // What was asked while a provider alone had told the block's time, and wrongly, counts not.
        (calls.block_hash, calls.block_time_ms) == (at.block.hash, at.time_ms)
    } else {
        calls.block_time_ms <= at.time_ms && calls.next_time_ms.is_some_and(|t| t > at.time_ms)
    };
    if right {
        Ok(())
    } else {
        Err(Reject::new("wrong_block", format!("block {} is not of the instant", calls.block_hash)))
    }
}

/// The time that answers of these calls stand for.
fn as_of(calls: &Calls, at: &Instant) -> i64 {
    if calls.late { at.time_ms } else { calls.block_time_ms }
}

/// A price that was accepted, as other things name it.
#[must_use]
pub fn price_hash(body: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/market-price/v1");
    bytes.text(body);
    bytes.finish()
}

/// The hash under which a price names its policy.
#[must_use]
pub fn policy_hash(body: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/price-policy/v1");
    bytes.text(body);
    bytes.finish()
}
