//! What a chain is asked, whoever answers: the trait, its questions and its failures.

use std::future::Future;
use std::sync::Arc;

use alloy::primitives::{Address, B256, TxHash};

use crate::chain::answer::{Answer, CHAIN_ID, Verdict, Wanted};
use crate::chain::proof::BlockProof;
use crate::chain::read::{RangeLogs, Receipt};
use crate::domain::chain::Header;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::oracle::reading::{Call, CallAnswer};
use crate::domain::transfer::{AddressBook, RawLog};

/// A block tag of the Ethereum execution API that stands for a degree of finality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Unlikely to be reorganised.
    Safe,
    /// Cannot be reorganised without slashing.
    Finalized,
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
    /// It wants to be asked less often: wait, and ask others meanwhile.
    #[error("{provider} limits its rate: {why}")]
    RateLimited {
        /// Who.
        provider: String,
        /// Said what.
        why: String,
        /// How long it wants to be left alone, where it says so (RFC 9110, `Retry-After`).
        retry_after_ms: Option<u64>,
    },
    /// Too many blocks or results for one request: ask for fewer.
    #[error("{provider} finds the range too large: {why}")]
    RangeTooLarge {
        /// Who.
        provider: String,
        /// Said what.
        why: String,
    },
    /// It shows a block whose receipts do not hash to the block's hash in any way that is known: ask
    /// somebody else, or check them otherwise.
    #[error("{provider} shows a block that cannot be proved: {why}")]
    Unproved {
        /// Who.
        provider: String,
        /// What does not hash to what.
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

    /// Asks everything that must be true before this source is trusted. Only its chain, where
    /// there is nothing else that could be wrong.
    fn check(&self, wanted: &Wanted<'_>) -> impl Future<Output = Vec<Answer>> + Send {
        async { vec![check_chain_id(self, wanted).await] }
    }

    /// How long answers took lately, in milliseconds; 0 where it is not known.
    fn latency_ms(&self) -> u64 {
        0
    }

    /// Most blocks that it is asked for at once.
    fn range_max(&self) -> u64 {
        u64::MAX
    }

    /// The chain it is on (EIP-155).
    fn chain_id(&self) -> impl Future<Output = Result<u64, SourceError>> + Send;

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

    /// The logs of a range of heights, both inclusive; of those whose sender and recipient are plain
    /// to see, only the ones from or to addresses of the book are kept.
    fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> impl Future<Output = Result<RangeLogs, SourceError>> + Send;

    /// A transaction's receipt; `None` where it is not mined on the chain the source sees.
    fn receipt(
        &self,
        tx: TxHash,
    ) -> impl Future<Output = Result<Option<Receipt>, SourceError>> + Send;

    /// All receipts of a block, in its order, by its hash; `None` where the source does not know the
    /// block or does not keep its receipts. Settles what logs or a receipt by transaction leave in
    /// doubt: they are kept apart from the index of logs and from the index of transactions.
    fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> impl Future<Output = Result<Option<Vec<(TxHash, Receipt)>>, SourceError>> + Send;

    /// The same in one answer; `None` also where the source has no such question.
    fn receipts_at_once(
        &self,
        block: BlockRef,
    ) -> impl Future<Output = Result<Option<Vec<(TxHash, Receipt)>>, SourceError>> + Send {
        self.receipts_in_block(block)
    }

    /// A block's header and receipts, with everything that hashes to its hash; `None` where the
    /// source does not know the block.
    fn proof(
        &self,
        hash: B256,
    ) -> impl Future<Output = Result<Option<BlockProof>, SourceError>> + Send;

    /// Asks contracts, each in the state after the block of this hash. The outcomes are in the order
    /// of the questions.
    fn call_at(
        &self,
        calls: &[(B256, Call)],
    ) -> impl Future<Output = Result<Vec<CallOutcome>, SourceError>> + Send;

    /// What a token's contract is at the moment.
    fn code(
        &self,
        contract: Address,
    ) -> impl Future<Output = Result<TokenCode, SourceError>> + Send;
}

/// What became of a question to a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// The contract answered.
    Answered(CallAnswer),
    /// The node does not keep the state after that block any more.
    NoState(String),
    /// The node could not say.
    Failed(String),
}

/// What a token's contract is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCode {
    /// keccak-256 of its code.
    pub hash: B256,
    /// The implementation that its proxy slot names (EIP-1967, or ZeppelinOS's older slot); zero
    /// where it names none.
    pub implementation: Address,
    /// `paused`, `deprecated`: what it answers yes to, where it has such a question.
    pub flags: Vec<&'static str>,
}

impl SourceError {
    /// Who it is about.
    pub fn provider(&self) -> &str {
        match self {
            Self::Unavailable { provider, .. }
            | Self::Refused { provider, .. }
            | Self::RateLimited { provider, .. }
            | Self::RangeTooLarge { provider, .. }
            | Self::Unproved { provider, .. }
            | Self::Invalid { provider, .. } => provider,
        }
    }
}

/// Whether a source is on this chain.
pub async fn check_chain_id<S: ChainSource + ?Sized>(source: &S, wanted: &Wanted<'_>) -> Answer {
    let verdict = match source.chain_id().await {
        Ok(found) => equal(found, wanted.chain.0, "chain_id"),
        Err(error) => error.into(),
    };
    Answer::new(CHAIN_ID, verdict, true)
}

impl From<SourceError> for Verdict {
    fn from(error: SourceError) -> Self {
        Self::Unknown(error.to_string())
    }
}

pub(super) fn equal<T: PartialEq + std::fmt::Display>(
    found: T,
    configured: T,
    key: &str,
) -> Verdict {
    if found == configured {
        Verdict::Right(found.to_string())
    } else {
        Verdict::Wrong(format!(
            "the chain says {found}, the configuration says {key} = {configured}"
        ))
    }
}

/// A source that somebody else owns.
impl<S: ChainSource> ChainSource for &S {
    fn provider(&self) -> &str {
        (**self).provider()
    }
    async fn check(&self, wanted: &Wanted<'_>) -> Vec<Answer> {
        (**self).check(wanted).await
    }
    fn latency_ms(&self) -> u64 {
        (**self).latency_ms()
    }
    fn range_max(&self) -> u64 {
        (**self).range_max()
    }
    async fn chain_id(&self) -> Result<u64, SourceError> {
        (**self).chain_id().await
    }
    fn announced(&self) -> Option<Header> {
        (**self).announced()
    }
    async fn latest(&self) -> Result<Header, SourceError> {
        (**self).latest().await
    }
    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        (**self).tagged(tag).await
    }
    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        (**self).header_at(number).await
    }
    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        (**self).header(hash).await
    }
    async fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        (**self).logs_in_block(block, filter).await
    }
    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        (**self).logs_in_range(from, to, filter, book).await
    }
    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        (**self).receipt(tx).await
    }
    async fn receipts_at_once(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        (**self).receipts_at_once(block).await
    }
    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        (**self).receipts_in_block(block).await
    }
    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        (**self).proof(hash).await
    }
    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        (**self).call_at(calls).await
    }
    async fn code(&self, contract: Address) -> Result<TokenCode, SourceError> {
        (**self).code(contract).await
    }
}
