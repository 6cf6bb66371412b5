//! What is true: a tree of blocks, one of them the head, and everything that was ever paid.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::{Address, B256, Bloom, Bytes, Log, TxHash, U256, keccak256};
use topupd::chain::scripted::{Sealing, seal};
use topupd::domain::chain::Header;
use topupd::domain::log_filter::bloom_of;
use topupd::domain::transfer::{RawLog, TRANSFER_TOPIC};

/// Milliseconds between two blocks.
pub const BLOCK_MS: i64 = 12_000;

/// A transfer before it stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub token: Address,
    pub from: Address,
    pub to: Address,
    pub amount: u64,
}

/// Somebody who has nothing to do with us.
pub const STRANGER: Address = Address::repeat_byte(0xee);

/// A transaction: its hash stays the same wherever it is mined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tx {
    pub hash: TxHash,
    pub payments: Vec<Payment>,
}

#[derive(Debug, Clone)]
pub struct Block {
    pub header: Header,
    pub txs: Vec<Tx>,
    pub logs: Vec<RawLog>,
    /// What a pool's tick is after it, and the sum of ticks by seconds up to it.
    pub tick: i32,
    pub tick_sum: i64,
    /// What tells it from others of its parent.
    pub salt: u64,
}

impl Block {
    /// Header and receipts, as they are hashed.
    pub fn sealing(&self) -> Sealing {
        let of = |tx: &Tx| {
            let logs = self.logs.iter().filter(|log| log.tx_hash == tx.hash);
            logs.map(|l| Log::new_unchecked(l.address, l.topics.clone(), l.data.clone())).collect()
        };
        let h = &self.header;
        seal((h.number, h.parent_hash, h.time_ms), self.salt, self.txs.iter().map(of))
    }
}

#[derive(Debug)]
pub struct World {
    pub blocks: BTreeMap<B256, Arc<Block>>,
    pub head: B256,
    /// The greatest height that there ever was.
    pub highest: u64,
    /// For each block the height of the highest head that ever stood on it: how deep it ever was.
    pub deepest: BTreeMap<B256, u64>,
    /// Blocks that were taken off the chain at some time, for ever or not.
    pub taken_off: BTreeSet<B256>,
    /// The step of the story in which a block was first seen.
    pub mined_in: BTreeMap<B256, u64>,
    /// The step of the story.
    pub step: u64,
    salt: u64,
}

/// So far below a head nobody asks any more how deep a block is.
const DEPTH_KEPT: u64 = 40;

/// The world, as all providers share it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(genesis_ms: i64) -> Self {
        let header = Header {
            number: 0,
            hash: keccak256("genesis"),
            parent_hash: B256::ZERO,
            time_ms: genesis_ms,
            bloom: Bloom::ZERO,
        };
        let block =
            Block { header, txs: Vec::new(), logs: Vec::new(), tick: 0, tick_sum: 0, salt: 0 };
        let world = World {
            blocks: BTreeMap::from([(header.hash, Arc::new(block))]),
            head: header.hash,
            highest: 0,
            deepest: BTreeMap::from([(header.hash, 0)]),
            taken_off: BTreeSet::new(),
            mined_in: BTreeMap::new(),
            step: 0,
            salt: 0,
        };
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn get(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// The block that follows a parent.
pub fn build(before: &Block, txs: Vec<Tx>, salt: u64) -> Block {
    let parent = &before.header;
    let (number, time_ms) = (parent.number + 1, parent.time_ms + BLOCK_MS);
    let mut logs = Vec::new();
    for tx in &txs {
        for payment in &tx.payments {
            logs.push(log(payment, B256::ZERO, number, tx.hash, logs.len() as u64));
        }
    }
    let bloom = bloom_of(&logs);
    let header = Header { number, hash: B256::ZERO, parent_hash: parent.hash, time_ms, bloom };
    let tick_sum = before.tick_sum + i64::from(before.tick) * (BLOCK_MS / 1_000);
    let mut block = Block { header, txs, logs, tick: 0, tick_sum, salt };
    let hash = block.sealing().hash();
    block.header.hash = hash;
    block.logs.iter_mut().for_each(|log| log.block_hash = hash);
    block.tick = i32::from(hash[0]) - 128;
    block
}

pub fn log(payment: &Payment, block_hash: B256, number: u64, tx: TxHash, index: u64) -> RawLog {
    RawLog {
        address: payment.token,
        topics: vec![TRANSFER_TOPIC, payment.from.into_word(), payment.to.into_word()],
        data: Bytes::copy_from_slice(&U256::from(payment.amount).to_be_bytes::<32>()),
        block_hash,
        block_number: number,
        tx_hash: tx,
        log_index: index,
    }
}

impl World {
    pub fn head(&self) -> &Block {
        &self.blocks[&self.head]
    }

    pub fn mine(&mut self, txs: Vec<Tx>) {
        self.salt += 1;
        let block = build(self.head(), txs, self.salt);
        self.mined_in.insert(block.header.hash, self.step);
        let hash = block.header.hash;
        self.blocks.insert(hash, Arc::new(block));
        self.stand_on(hash);
    }

    /// Another block is the head now.
    fn stand_on(&mut self, hash: B256) {
        self.head = hash;
        let height = self.head().header.number;
        self.highest = self.highest.max(height);
        let mut at = hash;
        for _ in 0..DEPTH_KEPT {
            let Some(block) = self.blocks.get(&at) else { return };
            let deepest = self.deepest.entry(at).or_default();
            *deepest = height.max(*deepest);
            at = block.header.parent_hash;
        }
    }

    /// Goes back to a block that was the head once: what was mined beside it is off the chain.
    pub fn return_to(&mut self, hash: B256) {
        let mut at = Arc::clone(&self.blocks[&self.head]);
        while !self.is_on(hash, at.header.hash) {
            self.taken_off.insert(at.header.hash);
            let Some(parent) = self.blocks.get(&at.header.parent_hash) else { break };
            at = Arc::clone(parent);
        }
        self.stand_on(hash);
    }

    /// True for a block on the branch of a tip.
    fn is_on(&self, tip: B256, hash: B256) -> bool {
        let number = self.blocks[&hash].header.number;
        self.at(tip, number).is_some_and(|b| b.header.hash == hash)
    }

    /// Takes the newest blocks off the chain and returns their transactions, oldest first.
    pub fn rewind(&mut self, depth: u64) -> Vec<Tx> {
        let mut dropped = Vec::new();
        for _ in 0..depth.min(self.head().header.number) {
            let (parent, txs) = (self.head().header.parent_hash, self.head().txs.clone());
            self.taken_off.insert(self.head);
            self.head = parent;
            dropped.splice(0..0, txs);
        }
        dropped
    }

    /// The ancestor of a block, so many blocks below it.
    pub fn below(&self, tip: B256, blocks: u64) -> B256 {
        let mut at = &self.blocks[&tip];
        for _ in 0..blocks {
            match self.blocks.get(&at.header.parent_hash) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at.header.hash
    }

    /// The block at a height on the branch of a tip.
    pub fn at(&self, tip: B256, number: u64) -> Option<&Block> {
        let mut at = self.blocks.get(&tip)?;
        while at.header.number > number {
            at = self.blocks.get(&at.header.parent_hash)?;
        }
        (at.header.number == number).then_some(&**at)
    }

    pub fn is_canonical(&self, hash: B256) -> bool {
        self.blocks.contains_key(&hash) && self.is_on(self.head, hash)
    }
}
