//! A simulated provider's answers to the questions of a chain's source.

use std::sync::Arc;

use alloy::primitives::{Address, B256, TxHash};
use topupd::chain::BlockProof;
use topupd::chain::read::{RangeLogs, Receipt};
use topupd::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use topupd::domain::chain::Header;
use topupd::domain::ids::BlockRef;
use topupd::domain::log_filter::LogFilter;
use topupd::domain::oracle::reading::{Call, CallAnswer};
use topupd::domain::transfer::{AddressBook, RawLog};

use super::market;
use super::provider::SimProvider;
use super::world::World;

impl SimProvider {
    /// Somebody registers an address at the worst moment.
    async fn meanwhile(&self) {
        let registers = self.state.lock().unwrap().registers.take();
        if let Some((store, name, address)) = registers {
            // Fails where topupd was restarted meanwhile; then it is registered later.
            let _ = store.import_address(&name, address, 0).await;
        }
    }

    /// What a contract answers in the state after a block.
    fn answer(&self, world: &World, hash: B256, call: &Call) -> CallOutcome {
        let Some(block) = self.block(world, hash).filter(|b| self.knows(world, b)) else {
            return CallOutcome::Failed("unknown block".into());
        };
        let keeps = self.quirks.keeps;
        let doubles = self.state.lock().unwrap().faults.doubles;
        let tip = self.tip(world).header.number;
        if keeps > 0 && tip.saturating_sub(block.header.number) >= keeps {
            return CallOutcome::NoState("pruned".into());
        }
        let block_of = |hash| self.block(world, hash);
        if call.to == market::POOL {
            return CallOutcome::Answered(market::pool_answer(call, &block, block_of));
        }
        let number = market::asked(call).unwrap_or(block.header.number + 1);
        let mut at = Arc::clone(&block);
        while at.header.number + 1 > number {
            let Some(parent) = block_of(at.header.parent_hash) else {
                return CallOutcome::Answered(CallAnswer::Reverted("No data present".into()));
            };
            at = parent;
        }
        if at.header.number + 1 != number {
            return CallOutcome::Answered(CallAnswer::Reverted("No data present".into()));
        }
        let header = &at.header;
        let honest = market::answer(call.to, header.hash);
        let doubled = self.dice(&format!("doubles {}", header.hash), 100) < doubles;
        let said = if doubled { 2 * honest } else { honest };
        CallOutcome::Answered(market::round(said, number, header.time_ms))
    }

    /// Refuses a range that is too large for it, in its own words.
    fn bears(&self, from: u64, to: u64) -> Result<(), SourceError> {
        match self.quirks.refuses_above {
            Some((most, _)) if to.saturating_sub(from) >= most => {
                Err(self.failure("logs_in_range", self.dice("refuses", 3)))
            }
            _ => Ok(()),
        }
    }
}

/// Nobody can prove the receipts of this block, where stories have such blocks.
pub(super) fn unprovable(seed: u64, hash: B256) -> bool {
    (u64::from(hash[1]) ^ seed).is_multiple_of(3)
}

impl ChainSource for SimProvider {
    fn provider(&self) -> &str {
        &self.name
    }

    fn announced(&self) -> Option<Header> {
        None
    }

    async fn chain_id(&self) -> Result<u64, SourceError> {
        self.ask("chain_id", "")?;
        Ok(31_337)
    }

    async fn latest(&self) -> Result<Header, SourceError> {
        self.ask("latest", "")?;
        let tip = self.tip(&self.world.get());
        Ok(self.header_of(&tip, "latest"))
    }

    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        self.ask("tagged", "")?;
        let world = self.world.get();
        let tip = self.tip(&world).header;
        let all_final = self.state.lock().unwrap().faults.all_final;
        let behind = match tag {
            _ if all_final => 0,
            Tag::Safe => 4,
            Tag::Finalized => super::FINAL,
        };
        let number = tip.number.saturating_sub(behind);
        Ok(self.canonical(&world, number).map(|b| self.header_of(&b, "tag")))
    }

    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        self.ask("header_at", &number.to_string())?;
        let world = self.world.get();
        Ok(self.canonical(&world, number).map(|b| self.header_of(&b, "header")))
    }

    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        self.ask("header", &hash.to_string())?;
        let world = self.world.get();
        let block = self.block(&world, hash).filter(|b| self.knows(&world, b));
        Ok(block.map(|b| self.header_of(&b, "header")))
    }

    async fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        self.ask("logs_in_block", &block.hash.to_string())?;
        self.meanwhile().await;
        let world = self.world.get();
        let known = self.block(&world, block.hash).filter(|b| self.knows(&world, b));
        let Some(known) = known else {
            if self.quirks.empty_for_unknown {
                return Ok(Vec::new());
            }
            return Err(SourceError::Refused {
                provider: self.name.clone(),
                method: "logs_in_block",
                why: "unknown block".into(),
            });
        };
        if self.has_no_logs(&world, block.hash) {
            return Ok(Vec::new());
        }
        let logs = self.logs_of(&world, &known, "logs").into_iter();
        Ok(logs.filter(|l| filter.passes(l)).collect())
    }

    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        self.ask("logs_in_range", &format!("{from} {to}"))?;
        self.bears(from, to)?;
        self.meanwhile().await;
        let world = self.world.get();
        let mut found = RangeLogs::default();
        // Past its own head a node says nothing, as if there were nothing.
        for block in self.range(&world, from, to) {
            if self.has_no_logs(&world, block.header.hash) {
                continue;
            }
            let logs = self.logs_of(&world, &block, "range").into_iter();
            for log in logs.filter(|l| filter.passes(l)) {
                found.seen += 1;
                let ours = |word: B256| book.get(&Address::from_word(word)).is_some();
                if ours(log.topics[1]) || ours(log.topics[2]) {
                    if self.quirks.tells_time {
                        let unit = if self.quirks.log_times_ms { 1_000 } else { 1 };
                        let time = self.header_of(&block, "time").time_ms;
                        found.times.insert(block.header.number, time.saturating_mul(unit));
                    }
                    found.logs.push(log);
                }
            }
        }
        Ok(found)
    }

    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        self.ask("receipt", &tx.to_string())?;
        if self.quirks.no_receipts {
            return Ok(None);
        }
        Ok(self.found(&self.world.get(), tx).map(|(block, logs)| Receipt {
            block_hash: block.header.hash,
            succeeded: true,
            logs,
        }))
    }

    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        self.ask("receipts_in_block", &block.hash.to_string())?;
        if self.quirks.no_block_receipts {
            return Err(self.failure("receipts_in_block", 1));
        }
        let world = self.world.get();
        let known = self.block(&world, block.hash).filter(|b| self.knows(&world, b));
        let Some(block) = known else { return Ok(None) };
        let block_hash = block.header.hash;
        let mut receipts: Vec<(TxHash, Receipt)> = Vec::new();
        for log in self.logs_of(&world, &block, "receipts") {
            let tx = log.tx_hash;
            match receipts.iter_mut().find(|(of, _)| *of == tx) {
                Some((_, receipt)) => receipt.logs.push(log),
                None => {
                    receipts.push((tx, Receipt { block_hash, succeeded: true, logs: vec![log] }))
                }
            }
        }
        Ok(Some(receipts))
    }

    async fn proof(&self, hash: B256) -> Result<Option<BlockProof>, SourceError> {
        self.ask("proof", &hash.to_string())?;
        let unproved = |why: &str| {
            let (provider, why) = (self.name.clone(), why.to_owned());
            Err(SourceError::Unproved { provider, why })
        };
        if self.quirks.per_tx_index {
            return unproved("a log of the block has another index");
        }
        let world = self.world.get();
        // Whatever else it says, this hashes to the block's hash, or is refused.
        let Some(block) = self.block(&world, hash).filter(|b| self.knows(&world, b)) else {
            return Ok(None);
        };
        // Who lies may also say that it cannot.
        let refuses = || self.lie(&block, "proof").is_some() && hash[0].is_multiple_of(2);
        if self.quirks.unproved && (unprovable(self.seed, hash) || refuses()) {
            return unproved("as simulated");
        }
        let receipts = block
            .txs
            .iter()
            .map(|tx| {
                let logs = block.logs.iter().filter(|l| l.tx_hash == tx.hash).cloned().collect();
                (tx.hash, Receipt { block_hash: hash, succeeded: true, logs })
            })
            .collect();
        let sealing = block.sealing();
        if sealing.hash() != hash {
            return unproved("it does not hash to the block's hash");
        }
        Ok(Some(sealing.proves(block.header, receipts)))
    }

    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        let first = calls.first().map(|(block, _)| block.to_string()).unwrap_or_default();
        self.ask("call_at", &first)?;
        let world = self.world.get();
        Ok(calls.iter().map(|(block, call)| self.answer(&world, *block, call)).collect())
    }

    async fn code(&self, _: Address) -> Result<TokenCode, SourceError> {
        self.ask("code", "")?;
        Ok(TokenCode { hash: B256::ZERO, implementation: Address::ZERO, flags: Vec::new() })
    }
}
