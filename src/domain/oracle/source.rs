//! One source of a pair: what it reads, and how an answer of it is read again.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::domain::ids::ChainId;
use crate::domain::money::Rate;
use crate::domain::oracle::reading::{Body, Call, Calls, PriceInstant, Reading, Reject};
use crate::domain::oracle::{chainlink, pyth_source, ticker, uniswap_v3};
use crate::domain::seal::Canonical;

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

impl SourceSpec {
    /// The hash under which its answers are kept: another address, window or URL is another source.
    pub fn hash(&self) -> B256 {
        let mut bytes = Canonical::new("topupd/price-source/v1");
        bytes.text(&serde_json::to_string(self).unwrap_or_default());
        bytes.finish()
    }

    /// The chain it is read on, for those that are.
    pub fn chain(&self) -> Option<ChainId> {
        match &self.reads {
            Reads::Chainlink(feed) => Some(feed.chain_id),
            Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => Some(pool.chain_id),
            Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => None,
        }
    }

    /// True when its answers say of when they are.
    pub fn is_dated(&self) -> bool {
        !matches!(&self.reads, Reads::Http(ticker) if ticker.time.is_none())
    }

    /// The word for its kind.
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
    pub fn after(&self) -> Option<Self> {
        match &self.reads {
            Reads::UniswapV3(pool) => {
                Some(Self { reads: Reads::UniswapV3After(pool.clone()), ..self.clone() })
            }
            _ => None,
        }
    }

    /// True for a source that is made by [`Self::after`]: it is read late only.
    pub const fn is_after(&self) -> bool {
        matches!(self.reads, Reads::UniswapV3After(_))
    }

    /// What is asked of a contract at the block of the instant.
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

/// A source's raw answer, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "read", rename_all = "snake_case")]
pub enum Evidence {
    /// Of contracts, in the state after a block.
    Calls(Calls),
    /// Of a server.
    Body(Body),
}

impl Evidence {
    /// The text that is stored and hashed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The id of a stored answer: source, the payment's block (none for a sample) and contents, whoever
/// delivered it.
pub fn quote_id(source: B256, block: Option<(ChainId, B256)>, text: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/quote/v1");
    bytes.bytes(source.as_slice());
    if let Some((chain, block)) = block {
        bytes.u64(chain.0).bytes(block.as_slice());
    }
    bytes.text(text);
    bytes.finish()
}

/// Reads a source's raw answer for an instant.
///
/// # Errors
/// [`Reject`], where it is no price of that instant.
pub fn read(spec: &SourceSpec, evidence: &Evidence, at: &PriceInstant) -> Result<Reading, Reject> {
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
pub(super) fn of_instant(calls: &Calls, at: &PriceInstant) -> Result<(), Reject> {
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
