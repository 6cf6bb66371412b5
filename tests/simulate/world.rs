//! What is true: a tree of blocks, one of them the head, and everything that was ever paid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::{Address, B256, Bloom, BloomInput, Bytes, TxHash, U256, keccak256};
use topupd::domain::chain::Header;
use topupd::domain::transfer::{RawLog, TRANSFER_TOPIC};

/// Milliseconds between two blocks.
pub const BLOCK_MS: i64 = 12_000;

/// A transfer before it stands in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub token: Address,
    pub to: Address,
    pub amount: u64,
}

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
}

#[derive(Debug)]
pub struct World {
    pub blocks: BTreeMap<B256, Arc<Block>>,
    pub head: B256,
    /// The greatest height that there ever was.
    pub highest: u64,
    salt: u64,
}

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
        let block = Block { header, txs: Vec::new(), logs: Vec::new() };
        let world = World {
            blocks: BTreeMap::from([(header.hash, Arc::new(block))]),
            head: header.hash,
            highest: 0,
            salt: 0,
        };
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn get(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// The block that follows a parent.
pub fn build(parent: &Header, txs: Vec<Tx>, salt: &str) -> Block {
    let number = parent.number + 1;
    let hash = keccak256(format!("{}/{number}/{salt}", parent.hash));
    let mut logs = Vec::new();
    let mut bloom = Bloom::ZERO;
    for tx in &txs {
        for payment in &tx.payments {
            let log = log(payment, hash, number, tx.hash, logs.len() as u64);
            bloom.accrue(BloomInput::Raw(log.address.as_slice()));
            for topic in &log.topics {
                bloom.accrue(BloomInput::Raw(topic.as_slice()));
            }
            logs.push(log);
        }
    }
    let time_ms = parent.time_ms + BLOCK_MS;
    let header = Header { number, hash, parent_hash: parent.hash, time_ms, bloom };
    Block { header, txs, logs }
}

pub fn log(payment: &Payment, block_hash: B256, number: u64, tx: TxHash, index: u64) -> RawLog {
    RawLog {
        address: payment.token,
        topics: vec![
            TRANSFER_TOPIC,
            Address::repeat_byte(0xee).into_word(),
            payment.to.into_word(),
        ],
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
        let block = build(&self.head().header, txs, &self.salt.to_string());
        self.head = block.header.hash;
        self.highest = self.highest.max(block.header.number);
        self.blocks.insert(block.header.hash, Arc::new(block));
    }

    /// Takes the newest blocks off the chain and returns their transactions, oldest first.
    pub fn rewind(&mut self, depth: u64) -> Vec<Tx> {
        let mut dropped = Vec::new();
        for _ in 0..depth.min(self.head().header.number) {
            let (parent, txs) = (self.head().header.parent_hash, self.head().txs.clone());
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
        let Some(block) = self.blocks.get(&hash) else { return false };
        self.at(self.head, block.header.number).is_some_and(|b| b.header.hash == hash)
    }
}
