//! A provider of a scripted chain that is odd or lies, in ways that a test switches.

use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, Bloom, BloomInput, TxHash, keccak256};
use topupd::chain::BlockProof;
use topupd::chain::read::{RangeLogs, Receipt};
use topupd::chain::scripted::ScriptedChain;
use topupd::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use topupd::domain::chain::Header;
use topupd::domain::ids::BlockRef;
use topupd::domain::log_filter::{LogFilter, bloom_of};
use topupd::domain::oracle::reading::Call;
use topupd::domain::transfer::{AddressBook, RawLog};

/// What it says when asked for the receipts of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Receipts {
    #[default]
    True,
    NotKept,
    /// None, as if the block were empty.
    Empty,
}

/// What it says when asked to prove a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Proof {
    #[default]
    Given,
    /// It shows the block, which hashes in no way that is known.
    Unproved,
    /// It does not answer.
    Fails,
    /// It does not know the block.
    NotThere,
    /// It proves the block, and says that its receipts are those of other transactions.
    Without,
}

#[derive(Debug, Clone, Default)]
pub struct Odd {
    /// So many blocks more than there are, each the child of the one before.
    pub future: u64,
    /// So many blocks less than there are.
    pub lag: u64,
    /// Answers that there are no logs.
    pub hides: bool,
    pub receipts: Receipts,
    /// Has no logs of this block yet.
    pub unread: Option<u64>,
    /// Refuses more blocks than so many, in words that nobody knows.
    pub range: Option<u64>,
    /// Refuses every question about a range.
    pub no_ranges: bool,
    /// Says nothing at all.
    pub away: bool,
    /// Changes logs that it answers with.
    pub edits: Option<fn(&mut Vec<RawLog>)>,
    /// In a range, each log stands so many blocks from where it does.
    pub shift: i64,
    /// Bits that nothing accounts for, in the blooms of these blocks.
    pub expects: Vec<(u64, Address)>,
    pub proof: Proof,
    pub asked: u64,
}

/// A clone is the same provider.
#[derive(Clone)]
pub struct OddSource {
    name: &'static str,
    chain: ScriptedChain,
    odd: Arc<Mutex<Odd>>,
}

impl OddSource {
    pub fn new(name: &'static str, chain: &ScriptedChain) -> Self {
        Self { name, chain: chain.clone(), odd: Arc::default() }
    }

    pub fn is(&self, change: impl FnOnce(&mut Odd)) {
        change(&mut self.odd.lock().unwrap());
    }

    pub fn asked(&self) -> u64 {
        self.odd.lock().unwrap().asked
    }

    fn refused(&self, method: &'static str, why: &str) -> SourceError {
        SourceError::Refused { provider: self.name.into(), method, why: why.into() }
    }

    fn ask(&self, method: &'static str) -> Result<Odd, SourceError> {
        let mut odd = self.odd.lock().unwrap();
        odd.asked += 1;
        if odd.away { Err(self.refused(method, "away")) } else { Ok(odd.clone()) }
    }

    /// A header with the bloom filter that its logs have.
    async fn seen(&self, odd: &Odd, header: Header) -> Header {
        let receipts = self.chain.receipts_in_block(header.block()).await.unwrap().unwrap();
        let logs: Vec<RawLog> = receipts.into_iter().flat_map(|(_, r)| r.logs).collect();
        let mut bloom = bloom_of(&logs);
        for (_, contract) in odd.expects.iter().filter(|(number, _)| *number == header.number) {
            bloom.accrue(BloomInput::Raw(contract.as_slice()));
            let topic = topupd::domain::transfer::TRANSFER_TOPIC;
            bloom.accrue(BloomInput::Raw(topic.as_slice()));
        }
        Header { bloom, ..header }
    }

    async fn at(&self, odd: &Odd, number: u64) -> Option<Header> {
        let head = self.chain.latest().await.unwrap();
        let top = head.number.saturating_sub(odd.lag);
        if number <= top {
            let header = self.chain.header_at(number).await.unwrap()?;
            return Some(self.seen(odd, header).await);
        }
        let hash = |n: u64| if n == top { head.hash } else { keccak256(format!("future {n}")) };
        (number <= top.saturating_add(odd.future)).then(|| Header {
            number,
            hash: hash(number),
            parent_hash: hash(number - 1),
            time_ms: head.time_ms + 12_000,
            bloom: Bloom::ZERO,
        })
    }
}

impl ChainSource for OddSource {
    fn provider(&self) -> &str {
        self.name
    }
    async fn chain_id(&self) -> Result<u64, SourceError> {
        self.chain.chain_id().await
    }
    fn announced(&self) -> Option<Header> {
        None
    }
    async fn latest(&self) -> Result<Header, SourceError> {
        let odd = self.ask("latest")?;
        let head = self.chain.latest().await?.number.saturating_sub(odd.lag);
        Ok(self.at(&odd, head.saturating_add(odd.future)).await.unwrap())
    }
    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        self.chain.tagged(tag).await
    }
    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        let odd = self.ask("header_at")?;
        Ok(self.at(&odd, number).await)
    }
    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        let odd = self.ask("header")?;
        match self.chain.header(hash).await? {
            Some(header) => Ok(Some(self.seen(&odd, header).await)),
            None => Ok(None),
        }
    }
    async fn logs_in_block(&self, b: BlockRef, f: &LogFilter) -> Result<Vec<RawLog>, SourceError> {
        let odd = self.ask("logs_in_block")?;
        if odd.unread == Some(b.number) {
            return Err(self.refused("logs_in_block", "header not found"));
        }
        let mut logs = self.chain.logs_in_block(b, f).await.unwrap_or_default();
        if let Some(edit) = odd.edits {
            edit(&mut logs);
        }
        Ok(if odd.hides { Vec::new() } else { logs })
    }
    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        f: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let odd = self.ask("logs_in_range")?;
        if odd.no_ranges || odd.range.is_some_and(|most| to - from + 1 > most) {
            return Err(self.refused("logs_in_range", "context deadline exceeded"));
        }
        if odd.hides {
            return Ok(RangeLogs::default());
        }
        let mut found = self.chain.logs_in_range(from, to, f, book).await?;
        if let Some(edit) = odd.edits {
            edit(&mut found.logs);
        }
        let shifted = |number: u64| number.saturating_add_signed(odd.shift);
        found.logs.iter_mut().for_each(|log| log.block_number = shifted(log.block_number));
        found.times = found.times.into_iter().map(|(n, ms)| (shifted(n), ms)).collect();
        Ok(found)
    }
    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        self.ask("receipt")?;
        self.chain.receipt(tx).await
    }
    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        match self.ask("receipts_in_block")?.receipts {
            Receipts::True => self.chain.receipts_in_block(block).await,
            Receipts::NotKept => Ok(None),
            Receipts::Empty => Ok(Some(Vec::new())),
        }
    }
    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        let (provider, why) = (self.name.to_owned(), "it hashes otherwise".to_owned());
        match self.ask("proof")?.proof {
            Proof::Given => self.chain.proof(hash).await,
            Proof::Unproved => Err(SourceError::Unproved { provider, why }),
            Proof::Fails => {
                Err(SourceError::Unavailable { provider, method: "proof", why: "away".into() })
            }
            Proof::NotThere => Ok(None),
            Proof::Without => Ok(self.chain.proof(hash).await?.map(|mut proof| {
                proof.receipts.clear();
                proof
            })),
        }
    }
    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        self.chain.call_at(calls).await
    }
    async fn code(&self, contract: Address) -> Result<TokenCode, SourceError> {
        self.chain.code(contract).await
    }
}
