//! A provider that sees the world in its own way: late, on and off, or as a liar.
//!
//! What it does wrong follows from the seed, the step and the question, so that the same story is
//! told in every run. A liar keeps to its story most of the time: what it says of a block's logs it
//! says of its receipts, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, Bytes, TxHash, U256, keccak256};
use topupd::chain::{
    BlockProof, CallOutcome, ChainSource, LogFilter, RangeLogs, Receipt, SourceError, Tag,
    TokenCode,
};
use topupd::domain::chain::Header;
use topupd::domain::ids::{BlockRef, NamespaceName};
use topupd::domain::oracle::{Call, CallAnswer};
use topupd::domain::transfer::{AddressBook, RawLog, TRANSFER_TOPIC};
use topupd::store::Store;

use super::market;
use super::world::{Block, Payment, Shared, Tx, World, build, log};

/// What is wrong with a provider at the moment.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// So many blocks behind.
    pub lag: u64,
    /// Stands still at this block.
    pub stuck: Option<B256>,
    /// Of a hundred answers, so many fail.
    pub failing: u64,
    /// Of a hundred answers about logs, so many say that the range is too large.
    pub too_large: u64,
    /// Of a hundred answers, so many ask for patience.
    pub limiting: u64,
    /// Answers `[]` for a block that it does not know, as some nodes do.
    pub empty_for_unknown: bool,
    /// Says in its logs when the block was mined.
    pub tells_time: bool,
    /// Of a hundred blocks, it lies about so many.
    pub lies: u64,
    /// Blocks of its own making, on top of the true chain.
    pub inventing: u64,
    /// Calls its tip final.
    pub all_final: bool,
    /// Keeps the state of so many blocks only; of all, when 0.
    pub keeps: u64,
    /// Of a hundred blocks, it doubles the prices in so many.
    pub doubles: u64,
}

#[derive(Debug)]
pub struct SimProvider {
    pub name: String,
    pub seed: u64,
    pub world: Shared,
    pub state: Mutex<State>,
    /// Whom it invents payments to.
    pub victims: Vec<(Address, Address)>,
}

#[derive(Debug, Default)]
pub struct State {
    pub faults: Faults,
    /// The step of the story, so that the same question may be answered otherwise later.
    pub step: u64,
    /// Blocks of its own making.
    pub own: BTreeMap<B256, Arc<Block>>,
    children: BTreeMap<B256, B256>,
    /// Registered while the next logs are on their way.
    pub registers: Option<(Store, NamespaceName, Address)>,
    pub asked: u64,
}

/// What a liar does to a block.
#[derive(Debug, Clone, Copy)]
enum Lie {
    HideAll,
    HideOne,
    Invent,
    InventFirst,
    Amount,
    Twice,
    Shift,
    Time,
    OtherHash,
}

impl SimProvider {
    pub fn new(name: &str, seed: u64, world: Shared, victims: Vec<(Address, Address)>) -> Self {
        Self { name: name.into(), seed, world, state: Mutex::default(), victims }
    }

    /// A number below `of`, the same for the same words.
    fn dice(&self, words: &str, of: u64) -> u64 {
        // FNV-1a: asked so often that a good hash would take most of the time.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let seed = self.seed.to_be_bytes();
        for byte in seed.iter().chain(self.name.as_bytes()).chain(words.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17) % of
    }

    fn ask(&self, method: &'static str, args: &str) -> Result<(), SourceError> {
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let (step, faults) = (state.step, state.faults.clone());
        drop(state);
        let dice = self.dice(&format!("{step} {method} {args}"), 100);
        let (provider, why) = (self.name.clone(), "as simulated".to_owned());
        if dice < faults.failing {
            return Err(match dice % 3 {
                0 => SourceError::Unavailable { provider, method, why },
                1 => SourceError::Refused { provider, method, why },
                _ => SourceError::Invalid { provider, method, why },
            });
        }
        if dice < faults.failing + faults.limiting {
            let retry_after_ms = dice.is_multiple_of(2).then_some(1_500);
            return Err(SourceError::RateLimited { provider, why, retry_after_ms });
        }
        if method.starts_with("logs_in_range")
            && dice < faults.failing + faults.limiting + faults.too_large
        {
            return Err(SourceError::RangeTooLarge { provider, why });
        }
        Ok(())
    }

    /// The tip as it sees it, and the blocks that only it knows.
    fn tip(&self, world: &World) -> B256 {
        let mut state = self.state.lock().unwrap();
        let base = match state.faults.stuck {
            Some(block) => block,
            None => world.below(world.head, state.faults.lag),
        };
        let mut tip = base;
        for i in 0..state.faults.inventing {
            if let Some(known) = state.children.get(&tip) {
                tip = *known;
                continue;
            }
            let parent = state.own.get(&tip).or_else(|| world.blocks.get(&tip)).unwrap().header;
            let (token, to) = self.victims
                [self.dice(&format!("{tip} victim"), 1_000) as usize % self.victims.len()];
            let hash = keccak256(format!("{} invents {tip} {i}", self.name));
            let payments = vec![Payment { token, to, amount: 7_000_000 }];
            let block = build(&parent, vec![Tx { hash, payments }], &format!("{} {i}", self.name));
            state.children.insert(tip, block.header.hash);
            tip = block.header.hash;
            state.own.insert(tip, Arc::new(block));
        }
        tip
    }

    fn block(&self, world: &World, hash: B256) -> Option<Arc<Block>> {
        let state = self.state.lock().unwrap();
        state.own.get(&hash).or_else(|| world.blocks.get(&hash)).cloned()
    }

    fn canonical(&self, world: &World, number: u64) -> Option<Arc<Block>> {
        let mut at = self.block(world, self.tip(world))?;
        while at.header.number > number {
            at = self.block(world, at.header.parent_hash)?;
        }
        (at.header.number == number).then_some(at)
    }

    /// Whether it lies about a block this time, and how.
    fn lie(&self, block: &Block, question: &str) -> Option<Lie> {
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
        use Lie::*;
        let all =
            [HideAll, HideOne, Invent, InventFirst, Amount, Twice, Shift, Time, OtherHash, HideAll];
        Some(all[self.dice(&format!("kind {hash}"), all.len() as u64) as usize])
    }

    /// A block's logs by its word.
    fn logs_of(&self, block: &Block, question: &str) -> Vec<RawLog> {
        let mut logs = block.logs.clone();
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
                let payment = Payment { token, to, amount: 5_000_000 };
                let first = matches!(lie, Lie::InventFirst);
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
            Lie::OtherHash => {
                for log in &mut logs {
                    log.block_hash = keccak256(log.block_hash);
                }
            }
            Lie::Time => {}
        }
        logs
    }

    fn header_of(&self, block: &Block, question: &str) -> Header {
        let mut header = block.header;
        if let Some(Lie::Time) = self.lie(block, question) {
            header.time_ms += 3_600_000 * 24 * 365;
        }
        header
    }

    /// Somebody registers an address at the worst moment.
    async fn meanwhile(&self) {
        let registers = self.state.lock().unwrap().registers.take();
        if let Some((store, name, address)) = registers {
            // Fails where topupd was restarted meanwhile; then it is registered later.
            let _ = store.import_address(&name, address, 0).await;
        }
    }

    /// What a feed answers in the state after a block.
    fn answer(&self, world: &World, hash: B256, call: &Call) -> CallOutcome {
        let Some(block) = self.block(world, hash).filter(|b| self.knows(world, b)) else {
            return CallOutcome::Failed("unknown block".into());
        };
        let faults = self.state.lock().unwrap().faults.clone();
        let tip = self.block(world, self.tip(world)).map_or(0, |b| b.header.number);
        if faults.keeps > 0 && tip.saturating_sub(block.header.number) >= faults.keeps {
            return CallOutcome::NoState("pruned".into());
        }
        let number = market::asked(call).unwrap_or(block.header.number + 1);
        let mut at = Arc::clone(&block);
        while at.header.number + 1 > number {
            let Some(parent) = self.block(world, at.header.parent_hash) else {
                return CallOutcome::Answered(CallAnswer::Reverted("No data present".into()));
            };
            at = parent;
        }
        if at.header.number + 1 != number {
            return CallOutcome::Answered(CallAnswer::Reverted("No data present".into()));
        }
        let header = &at.header;
        let honest = market::answer(call.to, header.hash);
        let doubled = self.dice(&format!("doubles {}", header.hash), 100) < faults.doubles;
        let said = if doubled { 2 * honest } else { honest };
        CallOutcome::Answered(market::round(said, number, header.time_ms))
    }

    fn knows(&self, world: &World, block: &Block) -> bool {
        let tip = self.tip(world);
        let height = self.block(world, tip).map_or(0, |b| b.header.number);
        block.header.number <= height
    }
}

fn passes(filter: &LogFilter, log: &RawLog) -> bool {
    log.topics.first() == Some(&TRANSFER_TOPIC)
        && match filter {
            LogFilter::Tokens(tokens) => tokens.contains(&log.address),
            LogFilter::Recipients(to) => to.iter().any(|a| a.into_word() == log.topics[2]),
        }
}

impl ChainSource for SimProvider {
    fn provider(&self) -> &str {
        &self.name
    }

    fn announced(&self) -> Option<Header> {
        None
    }

    async fn chain_id(&self) -> Result<u64, SourceError> {
        Ok(31_337)
    }

    async fn latest(&self) -> Result<Header, SourceError> {
        self.ask("latest", "")?;
        let world = self.world.get();
        let tip = self.tip(&world);
        Ok(self.header_of(&self.block(&world, tip).unwrap(), "latest"))
    }

    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        self.ask("tagged", "")?;
        let world = self.world.get();
        let tip = self.block(&world, self.tip(&world)).unwrap().header;
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
            if self.state.lock().unwrap().faults.empty_for_unknown {
                return Ok(Vec::new());
            }
            return Err(SourceError::Refused {
                provider: self.name.clone(),
                method: "logs_in_block",
                why: "unknown block".into(),
            });
        };
        let logs = self.logs_of(&known, "logs").into_iter().filter(|l| passes(filter, l));
        Ok(logs.collect())
    }

    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        self.ask("logs_in_range", &format!("{from} {to}"))?;
        self.meanwhile().await;
        let world = self.world.get();
        let tells_time = self.state.lock().unwrap().faults.tells_time;
        let mut found = RangeLogs::default();
        // Past its own head a node says nothing, as if there were nothing.
        for block in (from..=to).filter_map(|number| self.canonical(&world, number)) {
            for log in self.logs_of(&block, "range").into_iter().filter(|l| passes(filter, l)) {
                found.seen += 1;
                if book.get(&Address::from_word(log.topics[2])).is_some() {
                    if tells_time {
                        let time = self.header_of(&block, "time").time_ms;
                        found.times.insert(block.header.number, time);
                    }
                    found.logs.push(log);
                }
            }
        }
        Ok(found)
    }

    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        self.ask("receipt", &tx.to_string())?;
        let world = self.world.get();
        let mut at = self.block(&world, self.tip(&world));
        let lies = self.state.lock().unwrap().faults.lies > 0;
        while let Some(block) = at {
            let holds = block.txs.iter().any(|t| t.hash == tx);
            if !holds && !lies {
                at = self.block(&world, block.header.parent_hash);
                continue;
            }
            let logs = self.logs_of(&block, "receipt");
            let of_tx: Vec<RawLog> = logs.into_iter().filter(|l| l.tx_hash == tx).collect();
            let real = block.txs.iter().any(|t| t.hash == tx);
            if real || !of_tx.is_empty() {
                let block_hash = block.header.hash;
                let hidden = matches!(self.lie(&block, "receipt"), Some(Lie::HideAll));
                if hidden && self.dice(&format!("null {block_hash}"), 2) == 0 {
                    return Ok(None);
                }
                return Ok(Some(Receipt { block_hash, succeeded: true, logs: of_tx }));
            }
            at = self.block(&world, block.header.parent_hash);
        }
        Ok(None)
    }

    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        self.ask("receipts_in_block", &block.hash.to_string())?;
        let world = self.world.get();
        let known = self.block(&world, block.hash).filter(|b| self.knows(&world, b));
        let Some(block) = known else { return Ok(None) };
        let block_hash = block.header.hash;
        let mut receipts: Vec<(TxHash, Receipt)> = Vec::new();
        for log in self.logs_of(&block, "receipts") {
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
        let world = self.world.get();
        // Whatever else it says, this hashes to the block's hash, or is refused.
        let Some(block) = world.blocks.get(&hash).filter(|b| self.knows(&world, b)) else {
            return Ok(None);
        };
        let receipts = block
            .txs
            .iter()
            .map(|tx| {
                let logs = block.logs.iter().filter(|l| l.tx_hash == tx.hash).cloned().collect();
                (tx.hash, Receipt { block_hash: hash, succeeded: true, logs })
            })
            .collect();
        Ok(Some(BlockProof::unsealed(block.header, receipts)))
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
