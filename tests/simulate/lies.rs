//! What a provider says of a block: the truth, or its own story. A liar keeps to its story most of
//! the time: what it says of a block's logs it says of its receipts, too.

use std::sync::Arc;

use alloy::primitives::{B256, Bytes, TxHash, U256, keccak256};
use topupd::domain::chain::Header;
use topupd::domain::transfer::RawLog;

use super::faults::Lie;
use super::provider::SimProvider;
use super::world::{Block, Payment, STRANGER, World, log};

/// A log is repeated from so many blocks below, or a few more: it may be credited by then.
const REPEATED_FROM: u64 = 6;

impl SimProvider {
    /// Whether it lies about a block this time, and how.
    pub(super) fn lie(&self, block: &Block, question: &str) -> Option<Lie> {
        let state = self.state.lock().unwrap();
        let (lies, step) = (state.faults.lies, state.step);
        drop(state);
        if lies == 0 {
            return None;
        }
        let hash = block.header.hash;
        if self.dice(&format!("lie {hash}"), 100) >= lies {
            return None;
        }
        // Now and then it answers the same question otherwise.
        if self.dice(&format!("{step} {question} {hash}"), 5) == 0 {
            return None;
        }
        let kind = self.dice(&format!("kind {hash}"), self.lies.len() as u64);
        Some(self.lies[kind as usize])
    }

    /// A block's logs by its word.
    pub(super) fn logs_of(&self, world: &World, block: &Block, question: &str) -> Vec<RawLog> {
        let mut logs = block.logs.clone();
        if self.quirks.per_tx_index {
            per_tx(&mut logs);
        }
        let Some(lie) = self.lie(block, question) else { return logs };
        let hash = block.header.hash;
        let pick = |what: &str, of: usize| self.dice(&format!("{what} {hash}"), of as u64) as usize;
        match lie {
            Lie::HideAll => logs.clear(),
            Lie::HideOne => {
                if !logs.is_empty() {
                    logs.remove(pick("hide", logs.len()));
                }
            }
            Lie::Invent | Lie::InventFirst => {
                let (token, to) = self.victims[pick("victim", self.victims.len())];
                let payment = Payment { token, from: STRANGER, to, amount: 5_000_000 };
                let first = lie == Lie::InventFirst;
                // In somebody's real transaction, before its real transfers; or in one of its own.
                let tx = match block.txs.first() {
                    Some(tx) if first => tx.hash,
                    _ => keccak256(format!("{} invents in {hash}", self.name)),
                };
                let invented = log(&payment, hash, block.header.number, tx, 0);
                if first {
                    for log in &mut logs {
                        log.log_index += 1;
                    }
                    logs.insert(0, invented);
                } else {
                    logs.push(RawLog { log_index: logs.len() as u64, ..invented });
                }
            }
            Lie::Amount => {
                if let Some(log) = logs.first_mut() {
                    log.data =
                        Bytes::copy_from_slice(&U256::from(9_999_999u64).to_be_bytes::<32>());
                }
            }
            Lie::Twice => {
                if let Some(log) = logs.last().cloned() {
                    // The same log at the same place, or as if there were another one.
                    let next = log.log_index + u64::from(pick("twice", 2) == 1);
                    logs.push(RawLog { log_index: next, ..log });
                }
            }
            Lie::Shift => {
                for log in &mut logs {
                    log.log_index += 3;
                }
            }
            Lie::PerTx => per_tx(&mut logs),
            Lie::FarIndex => {
                if let Some(log) = logs.last_mut() {
                    log.log_index = [u64::MAX, 1 << 63, 1 << 40][pick("far", 3)];
                }
            }
            Lie::Repeat => {
                let next = logs.len() as u64;
                logs.extend(self.older(world, block).map(|log| RawLog {
                    block_hash: hash,
                    block_number: block.header.number,
                    log_index: next,
                    ..log
                }));
            }
            Lie::OtherHash => {
                for log in &mut logs {
                    log.block_hash = keccak256(log.block_hash);
                }
            }
            Lie::Time | Lie::TimeNear => {}
        }
        logs
    }

    /// A log of a block far below.
    fn older(&self, world: &World, block: &Block) -> Option<RawLog> {
        let number = block.header.number;
        let mut at = self.block(world, block.header.parent_hash);
        while let Some(older) = at {
            let logs = &older.logs;
            if older.header.number + REPEATED_FROM <= number && !logs.is_empty() {
                let which = self.dice(&format!("older {}", block.header.hash), logs.len() as u64);
                return Some(logs[which as usize].clone());
            }
            at = self.block(world, older.header.parent_hash);
        }
        None
    }

    pub(super) fn header_of(&self, block: &Block, question: &str) -> Header {
        let mut header = block.header;
        let time = &mut header.time_ms;
        match self.lie(block, question) {
            Some(Lie::Time) => {
                *time = match self.dice(&format!("time {}", header.hash), 3) {
                    0 => time.saturating_mul(1_000),
                    1 => time.saturating_add(3_600_000 * 24 * 365),
                    _ => 0,
                }
            }
            Some(Lie::TimeNear) => {
                // Of a block of its own making, the time may be as far as times go.
                *time = time.saturating_add(
                    [24_000, -24_000, 120_000]
                        [self.dice(&format!("time {}", header.hash), 3) as usize],
                );
            }
            _ => {}
        }
        header
    }

    /// An honest node that has no logs of a block, not yet or never, though it has the receipts.
    pub(super) fn has_no_logs(&self, world: &World, hash: B256) -> bool {
        let late = self.quirks.indexes_late;
        let mined = world.mined_in.get(&hash).copied().unwrap_or(0);
        let step = self.state.lock().unwrap().step;
        let omits = self.quirks.omits && self.common_dice(&format!("omits {hash}"), 3) == 0;
        omits || (late > 0 && step < mined + late)
    }

    /// What it says of a transaction: the block it is in, and its logs.
    pub(super) fn found(&self, world: &World, tx: TxHash) -> Option<(Arc<Block>, Vec<RawLog>)> {
        let mut at = Some(self.tip(world));
        let lies = self.state.lock().unwrap().faults.lies > 0;
        while let Some(block) = at {
            let real = block.txs.iter().any(|t| t.hash == tx);
            if real || lies {
                let logs = self.logs_of(world, &block, "receipt");
                let of_tx: Vec<RawLog> = logs.into_iter().filter(|l| l.tx_hash == tx).collect();
                if real || !of_tx.is_empty() {
                    let hash = block.header.hash;
                    let hidden = self.lie(&block, "receipt") == Some(Lie::HideAll);
                    if hidden && self.dice(&format!("null {hash}"), 2) == 0 {
                        return None;
                    }
                    return Some((block, of_tx));
                }
            }
            at = self.block(world, block.header.parent_hash);
        }
        None
    }
}

/// Counts logs from the beginning of each transaction, as ganache does.
fn per_tx(logs: &mut [RawLog]) {
    let (mut tx, mut next) = (TxHash::ZERO, 0);
    for log in logs {
        if log.tx_hash != tx {
            (tx, next) = (log.tx_hash, 0);
        }
        log.log_index = next;
        next += 1;
    }
}
