//! SENSE. Blocks, logs and receipts of one chain, from whoever can answer.
//!
//! A source reports; it decides nothing and stores nothing. It checks only that an answer is an
//! answer to the question asked. It does not retry: the next activation of a task is the retry.

pub mod check;
pub mod rpc;
pub mod scripted;

use std::future::Future;

use alloy::primitives::{Address, B256, TxHash};

use crate::domain::chain::Header;
use crate::domain::ids::BlockRef;
use crate::domain::transfer::RawLog;

/// Which logs to ask for. All of them have the ERC-20 `Transfer` topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFilter {
    /// Of these contracts, whoever receives.
    Tokens(Vec<Address>),
    /// To these recipients, whatever contract emits.
    Recipients(Vec<Address>),
}

/// A block tag of the Ethereum execution API that stands for a degree of finality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Unlikely to be reorganised.
    Safe,
    /// Cannot be reorganised without slashing.
    Finalized,
}

/// A transaction's receipt, reduced to what a credit rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Block it is in.
    pub block_hash: B256,
    /// True when the transaction succeeded (status 1).
    pub succeeded: bool,
    /// All logs of the transaction.
    pub logs: Vec<RawLog>,
}

/// Why a source has no answer, by what the caller does about it. No variant carries a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not reached, timed out, refused or rate-limited: wait and ask again.
    #[error("{provider} did not answer {method}: {why}")]
    Unavailable {
        /// Who.
        provider: String,
        /// Asked what.
        method: &'static str,
        /// Said what.
        why: String,
    },
    /// It answered that it will not or cannot: a verdict about the question when checking, a reason
    /// to wait when following.
    #[error("{provider} refused {method}: {why}")]
    Refused {
        /// Who.
        provider: String,
        /// Asked what.
        method: &'static str,
        /// Said what.
        why: String,
    },
    /// Too many blocks or results for one request: ask for fewer.
    #[error("{provider} finds the range too large: {why}")]
    RangeTooLarge {
        /// Who.
        provider: String,
        /// Said what.
        why: String,
    },
    /// An answer that contradicts the question or itself: do not use it, ask again.
    #[error("{provider} answered {method} with nonsense: {why}")]
    Invalid {
        /// Who.
        provider: String,
        /// Asked what.
        method: &'static str,
        /// What is wrong with the answer.
        why: String,
    },
}

/// One chain, as somebody sees it.
pub trait ChainSource: Send + Sync {
    /// Who answers, for scan records and evidence.
    fn provider(&self) -> &str;

    /// The newest header announced since this was last asked, if any. A hint: it saves the request
    /// for the tip when it extends what is known, and is ignored otherwise.
    fn announced(&self) -> Option<Header>;

    /// The canonical tip, asked for now.
    fn latest(&self) -> impl Future<Output = Result<Header, SourceError>> + Send;

    /// The block a tag stands for; `None` where the chain has none yet.
    fn tagged(&self, tag: Tag) -> impl Future<Output = Result<Option<Header>, SourceError>> + Send;

    /// The canonical header at a height; `None` above the tip.
    fn header_at(
        &self,
        number: u64,
    ) -> impl Future<Output = Result<Option<Header>, SourceError>> + Send;

    /// A header by hash; `None` where the source does not know it.
    fn header(
        &self,
        hash: B256,
    ) -> impl Future<Output = Result<Option<Header>, SourceError>> + Send;

    /// The logs of one block, named by its hash, so that a source that does not have this very
    /// block must say so. [`SourceError::RangeTooLarge`] when even one block has too many.
    fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> impl Future<Output = Result<Vec<RawLog>, SourceError>> + Send;

    /// The logs of a range of heights, both inclusive.
    fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
    ) -> impl Future<Output = Result<Vec<RawLog>, SourceError>> + Send;

    /// A transaction's receipt; `None` where it is not mined on the chain the source sees.
    fn receipt(
        &self,
        tx: TxHash,
    ) -> impl Future<Output = Result<Option<Receipt>, SourceError>> + Send;
}
