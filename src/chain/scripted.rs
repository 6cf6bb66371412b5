//! A chain written in a test: a tree of blocks in memory, one of them the head.
//!
//! It answers as a correct node would, also for blocks of abandoned forks, and can be told to stop
//! answering. It is not a model of any client's faults.

mod sealing;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::{Address, B256, Bloom, Bytes, Log, TxHash, keccak256};

use super::BlockProof;
use crate::chain::read::{RangeLogs, Receipt};
use crate::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use crate::domain::chain::Header;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::oracle::reading::{Call, CallAnswer};
use crate::domain::transfer::{AddressBook, RawLog, TRANSFER_TOPIC};

pub use sealing::{Sealing, seal};

/// A log before it stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedLog {
    /// Emitting contract.
    pub address: Address,
    /// Topics.
    pub topics: Vec<B256>,
    /// Data.
    pub data: Bytes,
}

impl ScriptedLog {
    /// A clean ERC-20 transfer.
    pub fn transfer(token: Address, from: Address, to: Address, amount: u128) -> Self {
        let amount = alloy::primitives::U256::from(amount);
        Self {
            address: token,
            topics: vec![TRANSFER_TOPIC, from.into_word(), to.into_word()],
            data: Bytes::copy_from_slice(&amount.to_be_bytes::<32>()),
        }
    }
}

/// A transaction: its hash stays the same wherever it is mined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedTx {
    /// Hash.
    pub hash: TxHash,
    /// What it emits.
    pub logs: Vec<ScriptedLog>,
}

#[derive(Debug, Clone)]
struct Block {
    header: Header,
    txs: Vec<ScriptedTx>,
    /// What tells it from others of its parent.
    salt: u64,
}

#[derive(Debug)]
struct World {
    blocks: HashMap<B256, Block>,
    head: B256,
    announced: Option<Header>,
    salt: u64,
    failing: u32,
    /// Logs are numbered within each transaction, as some nodes do.
    per_tx: bool,
    /// New blocks hash as those of Ethereum do.
    sealed: bool,
    /// No receipt is found by its transaction.
    no_index: bool,
    /// The time of the newest block is told so much too late, where the newest one is asked for.
    latest_shift_ms: i64,
    /// Logs of ranges tell the times of their blocks, so much too late.
    log_shift_ms: Option<i64>,
    /// What the tokens' contracts are.
    code: TokenCode,
    /// What contracts answer to every call, each from a time on, in that order.
    feeds: BTreeMap<Address, Vec<(i64, CallAnswer)>>,
    /// What they answer to one call, whatever else they answer.
    calls: Vec<(Call, CallAnswer)>,
    /// How many calls were answered.
    called: u64,
}

/// The chain. A clone is the same one.
#[derive(Debug, Clone)]
pub struct ScriptedChain {
    name: String,
    world: Arc<Mutex<World>>,
}

/// Milliseconds between two blocks.
const BLOCK_MS: i64 = 12_000;

impl ScriptedChain {
    /// A chain of one block, mined at the given time.
    pub fn new(genesis_ms: i64) -> Self {
        Self::named("scripted", genesis_ms)
    }

    /// The same, by another provider's name.
    pub fn named(name: &str, genesis_ms: i64) -> Self {
        let header = Header {
            number: 0,
            hash: keccak256("genesis"),
            parent_hash: B256::ZERO,
            time_ms: genesis_ms,
            bloom: Bloom::ZERO,
        };
        let blocks = HashMap::from([(header.hash, Block { header, txs: Vec::new(), salt: 0 })]);
        let code =
            TokenCode { hash: keccak256("code"), implementation: Address::ZERO, flags: Vec::new() };
        let world = World {
            blocks,
            head: header.hash,
            announced: None,
            salt: 0,
            failing: 0,
            per_tx: false,
            sealed: false,
            no_index: false,
            latest_shift_ms: 0,
            log_shift_ms: None,
            code,
            feeds: BTreeMap::new(),
            calls: Vec::new(),
            called: 0,
        };
        Self { name: name.to_owned(), world: Arc::new(Mutex::new(world)) }
    }

    /// Mines a block on the head, announces it, and returns its header.
    pub fn mine(&self, txs: Vec<ScriptedTx>) -> Header {
        let time_ms = self.world().head_header().time_ms.saturating_add(BLOCK_MS);
        self.mine_at(time_ms, txs)
    }

    /// The same, at a time.
    pub fn mine_at(&self, time_ms: i64, txs: Vec<ScriptedTx>) -> Header {
        let mut world = self.world();
        let parent = world.head_header();
        world.salt = world.salt.wrapping_add(1);
        let number = parent.number.saturating_add(1);
        let salt = world.salt;
        let hash = match world.sealed {
            true => seal((number, parent.hash, time_ms), salt, logs_by_tx(&txs)).hash(),
            false => keccak256(format!("{}/{number}/{salt}", parent.hash)),
        };
        let header = Header { number, hash, parent_hash: parent.hash, time_ms, bloom: Bloom::ZERO };
        world.blocks.insert(hash, Block { header, txs, salt });
        world.head = hash;
        world.announced = Some(header);
        header
    }

    /// Takes the newest blocks off the chain (they stay known by hash), down to but not including
    /// the first one, and returns their transactions, oldest first.
    pub fn rewind(&self, depth: u64) -> Vec<ScriptedTx> {
        let mut world = self.world();
        let mut dropped = Vec::new();
        for _ in 0..depth {
            let Some(block) = world.blocks.get(&world.head).cloned() else { break };
            if block.header.number == 0 {
                break;
            }
            world.head = block.header.parent_hash;
            dropped.splice(0..0, block.txs);
        }
        dropped
    }

    /// Takes over blocks of another chain, each the child of the one before, and makes the last one
    /// the head.
    pub fn adopt(&self, blocks: &[(Header, Vec<ScriptedTx>)]) {
        let mut world = self.world();
        for (header, txs) in blocks {
            world.blocks.insert(header.hash, Block { header: *header, txs: txs.clone(), salt: 0 });
            world.head = header.hash;
        }
    }

    /// Makes every token's contract another one.
    pub fn set_code(&self, code: TokenCode) {
        self.world().code = code;
    }

    /// Lets a contract answer every call with this, in the state of blocks from this time on.
    pub fn set_answer(&self, contract: Address, from_ms: i64, answer: CallAnswer) {
        self.world().feeds.entry(contract).or_default().push((from_ms, answer));
    }

    /// Lets a contract answer one call with this, from now on, whatever else it answers.
    pub fn set_call(&self, call: Call, answer: CallAnswer) {
        self.world().calls.push((call, answer));
    }

    /// How many calls of contracts it answered.
    pub fn called(&self) -> u64 {
        self.world().called
    }

    /// Announces any header, such as an old one.
    pub fn announce(&self, header: Header) {
        self.world().announced = Some(header);
    }

    /// Lets the next `requests` fail.
    pub fn fail(&self, requests: u32) {
        self.world().failing = requests;
    }

    /// Numbers logs within each transaction from now on, instead of within the block.
    pub fn number_logs_per_tx(&self) {
        self.world().per_tx = true;
    }

    /// Lets the hashes of new blocks follow from their header and receipts, as those of Ethereum do, so
    /// that receipts are proved. The others, and those of another chain, cannot be.
    pub fn seal_blocks(&self) {
        self.world().sealed = true;
    }

    /// Finds no receipt by its transaction from now on; all of a block still.
    pub fn lose_index(&self) {
        self.world().no_index = true;
    }

    /// Tells the newest block's time so much too late from now on, where the newest one is asked for.
    pub fn shift_latest(&self, ms: i64) {
        self.world().latest_shift_ms = ms;
    }

    /// Lets logs of ranges tell the times of their blocks from now on, so much too late.
    pub fn shift_log_times(&self, ms: i64) {
        self.world().log_shift_ms = Some(ms);
    }

    /// The canonical blocks, oldest first.
    pub fn canonical(&self) -> Vec<(Header, Vec<ScriptedTx>)> {
        let world = self.world();
        let mut chain = Vec::new();
        let mut at = world.blocks.get(&world.head);
        while let Some(block) = at {
            chain.push((block.header, block.txs.clone()));
            at = world.blocks.get(&block.header.parent_hash);
        }
        chain.reverse();
        chain
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world, unless it was told to fail.
    fn ask(&self, method: &'static str) -> Result<MutexGuard<'_, World>, SourceError> {
        let mut world = self.world();
        if let Some(left) = world.failing.checked_sub(1) {
            world.failing = left;
            return Err(SourceError::Unavailable {
                provider: self.provider().to_owned(),
                method,
                why: "told to fail".into(),
            });
        }
        Ok(world)
    }
}

impl World {
    fn head_header(&self) -> Header {
        self.blocks.get(&self.head).map_or(
            Header {
                number: 0,
                hash: self.head,
                parent_hash: B256::ZERO,
                time_ms: 0,
                bloom: Bloom::ZERO,
            },
            |b| b.header,
        )
    }

    fn canonical_at(&self, number: u64) -> Option<&Block> {
        let mut at = self.blocks.get(&self.head)?;
        while at.header.number > number {
            at = self.blocks.get(&at.header.parent_hash)?;
        }
        (at.header.number == number).then_some(at)
    }
}

/// All logs of a block, numbered within it, or within each transaction.
fn logs_of(block: &Block, per_tx: bool) -> Vec<RawLog> {
    let numbered =
        block.txs.iter().flat_map(|tx| (0u64..).zip(&tx.logs).map(move |l| (tx.hash, l)));
    (0u64..)
        .zip(numbered)
        .map(|(in_block, (tx_hash, (in_tx, log)))| RawLog {
            address: log.address,
            topics: log.topics.clone(),
            data: log.data.clone(),
            block_hash: block.header.hash,
            block_number: block.header.number,
            tx_hash,
            log_index: if per_tx { in_tx } else { in_block },
        })
        .collect()
}

fn logs_by_tx(txs: &[ScriptedTx]) -> impl Iterator<Item = Vec<Log>> {
    let of =
        |log: &ScriptedLog| Log::new_unchecked(log.address, log.topics.clone(), log.data.clone());
    txs.iter().map(move |tx| tx.logs.iter().map(of).collect())
}

fn receipts_of(block: &Block, per_tx: bool) -> Vec<(TxHash, Receipt)> {
    let block_hash = block.header.hash;
    let of = |tx: TxHash| logs_of(block, per_tx).into_iter().filter(|l| l.tx_hash == tx).collect();
    let receipt =
        |tx: &ScriptedTx| (tx.hash, Receipt { block_hash, succeeded: true, logs: of(tx.hash) });
    block.txs.iter().map(receipt).collect()
}

impl ChainSource for ScriptedChain {
    fn provider(&self) -> &str {
        &self.name
    }

    async fn chain_id(&self) -> Result<u64, SourceError> {
        self.ask("chain_id").map(|_| 31_337)
    }

    fn announced(&self) -> Option<Header> {
        self.world().announced.take()
    }

    async fn latest(&self) -> Result<Header, SourceError> {
        let world = self.ask("latest")?;
        let header = world.head_header();
        Ok(Header { time_ms: header.time_ms.saturating_add(world.latest_shift_ms), ..header })
    }

    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        let world = self.ask("tagged")?;
        let behind = match tag {
            Tag::Safe => 32,
            Tag::Finalized => 64,
        };
        let number = world.head_header().number.saturating_sub(behind);
        Ok(world.canonical_at(number).map(|b| b.header))
    }

    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        Ok(self.ask("header_at")?.canonical_at(number).map(|b| b.header))
    }

    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        Ok(self.ask("header")?.blocks.get(&hash).map(|b| b.header))
    }

    async fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        let world = self.ask("logs_in_block")?;
        let block = world.blocks.get(&block.hash).ok_or_else(|| SourceError::Unavailable {
            provider: self.provider().to_owned(),
            method: "logs_in_block",
            why: "unknown block".into(),
        })?;
        Ok(logs_of(block, world.per_tx).into_iter().filter(|log| filter.passes(log)).collect())
    }

    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        _book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let world = self.ask("logs_in_range")?;
        let blocks = (from..=to).filter_map(|n| world.canonical_at(n));
        let logs: Vec<RawLog> = blocks
            .flat_map(|b| logs_of(b, world.per_tx))
            .filter(|log| filter.passes(log))
            .collect();
        let seen = u64::try_from(logs.len()).unwrap_or(u64::MAX);
        let of_log = |log: &RawLog| {
            let header = world.blocks.get(&log.block_hash)?.header;
            Some((header.number, header.time_ms.saturating_add(world.log_shift_ms?)))
        };
        let times = logs.iter().filter_map(of_log).collect();
        Ok(RangeLogs { seen, logs, times })
    }

    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        let world = self.ask("receipt")?;
        let mut at = world.blocks.get(&world.head);
        while let Some(block) = at.filter(|_| !world.no_index) {
            let found = receipts_of(block, world.per_tx).into_iter().find(|(hash, _)| *hash == tx);
            if let Some((_, receipt)) = found {
                return Ok(Some(receipt));
            }
            at = world.blocks.get(&block.header.parent_hash);
        }
        Ok(None)
    }

    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        let world = self.ask("receipts_in_block")?;
        Ok(world.blocks.get(&block.hash).map(|b| receipts_of(b, world.per_tx)))
    }

    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        let world = self.ask("proof")?;
        let Some(block) = world.blocks.get(&hash) else { return Ok(None) };
        let (header, receipts) = (block.header, receipts_of(block, world.per_tx));
        let place = (header.number, header.parent_hash, header.time_ms);
        let sealing = seal(place, block.salt, logs_by_tx(&block.txs));
        if sealing.hash() != header.hash {
            let why = "it does not hash to the block's hash".to_owned();
            return Err(SourceError::Unproved { provider: self.name.clone(), why });
        }
        Ok(Some(sealing.proves(header, receipts)))
    }

    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        let mut world = self.ask("call_at")?;
        world.called = world.called.saturating_add(u64::try_from(calls.len()).unwrap_or(u64::MAX));
        let outcome = |(block, call): &(B256, Call)| {
            let Some(block) = world.blocks.get(block) else {
                return CallOutcome::Failed("unknown block".into());
            };
            if let Some((_, answer)) = world.calls.iter().rfind(|(known, _)| known == call) {
                return CallOutcome::Answered(answer.clone());
            }
            let mut answers = world.feeds.get(&call.to).into_iter().flatten();
            match answers.rfind(|(from_ms, _)| *from_ms <= block.header.time_ms) {
                Some((_, answer)) => CallOutcome::Answered(answer.clone()),
                None => CallOutcome::NoState("there is no such contract".into()),
            }
        };
        Ok(calls.iter().map(outcome).collect())
    }

    async fn code(&self, _: Address) -> Result<TokenCode, SourceError> {
        Ok(self.ask("code")?.code.clone())
    }
}

/// The head, for a test that wants to say where it is.
impl From<&ScriptedChain> for BlockRef {
    fn from(chain: &ScriptedChain) -> Self {
        chain.world().head_header().block()
    }
}
