//! A provider that sees the world in its own way: late, on and off, odd, or as a liar.
//!
//! What it does wrong follows from the seed, the step and the question, so that the same story is
//! told in every run. What it answers is in `source.rs`, what it says of a block in `lies.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alloy::primitives::{Address, B256, Bloom, keccak256};
use topupd::chain::source::SourceError;
use topupd::domain::chain::Header;
use topupd::domain::ids::NamespaceName;
use topupd::store::Store;

use super::faults::{Faults, Lie, Quirks};
use super::world::{BLOCK_MS, Block, Payment, STRANGER, Shared, Tx, World, build};

#[derive(Debug)]
pub struct SimProvider {
    pub name: String,
    pub seed: u64,
    pub world: Shared,
    pub quirks: Quirks,
    /// What it says when it lies.
    pub lies: Vec<Lie>,
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
    /// The step in which it last did not answer a question.
    pub failed_in: Option<u64>,
    /// The highest tip that it ever showed.
    pub top: u64,
}

impl SimProvider {
    pub fn new(
        name: &str,
        seed: u64,
        world: Shared,
        quirks: Quirks,
        lies: Vec<Lie>,
        victims: Vec<(Address, Address)>,
    ) -> Self {
        Self { name: name.into(), seed, world, quirks, lies, state: Mutex::default(), victims }
    }

    /// A number below `of`, the same for the same words.
    pub(super) fn dice(&self, words: &str, of: u64) -> u64 {
        self.rolled(&self.name, words, of)
    }

    /// The same for every provider.
    pub(super) fn common_dice(&self, words: &str, of: u64) -> u64 {
        self.rolled("all", words, of)
    }

    fn rolled(&self, who: &str, words: &str, of: u64) -> u64 {
        // FNV-1a: asked so often that a good hash would take most of the time.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let seed = self.seed.to_be_bytes();
        for byte in seed.iter().chain(who.as_bytes()).chain(words.as_bytes()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17) % of
    }

    /// Whether it answers a question at all.
    pub(super) fn ask(&self, method: &'static str, args: &str) -> Result<(), SourceError> {
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let answer = self.answers(&state, method, args);
        if answer.is_err() {
            state.failed_in = Some(state.step);
        }
        answer
    }

    fn answers(&self, state: &State, method: &'static str, args: &str) -> Result<(), SourceError> {
        let faults = &state.faults;
        let (provider, why) = (self.name.clone(), "as simulated".to_owned());
        if faults.away || state.step < self.quirks.away_until {
            return Err(SourceError::Unavailable { provider, method, why });
        }
        let dice = self.dice(&format!("{} {method} {args}", state.step), 100);
        if dice < faults.failing {
            return Err(self.failure(method, dice));
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

    /// One of the ways in which an answer can fail.
    pub(super) fn failure(&self, method: &'static str, dice: u64) -> SourceError {
        let (provider, why) = (self.name.clone(), "as simulated".to_owned());
        match dice % 3 {
            0 => SourceError::Unavailable { provider, method, why },
            1 => SourceError::Refused { provider, method, why },
            _ => SourceError::Invalid { provider, method, why },
        }
    }

    /// The newest block that it has; claims come on top.
    fn base(&self, world: &World) -> B256 {
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
            let parent =
                Arc::clone(state.own.get(&tip).or_else(|| world.blocks.get(&tip)).unwrap());
            let (token, to) = self.victims
                [self.dice(&format!("{tip} victim"), 1_000) as usize % self.victims.len()];
            let hash = keccak256(format!("{} invents {tip} {i}", self.name));
            let payments = vec![Payment { token, from: STRANGER, to, amount: 7_000_000 }];
            let salt = keccak256(format!("{} {i}", self.name));
            let salt = u64::from_be_bytes(salt[..8].try_into().unwrap());
            let block = build(&parent, vec![Tx { hash, payments }], salt);
            state.children.insert(tip, block.header.hash);
            tip = block.header.hash;
            state.own.insert(tip, Arc::new(block));
        }
        tip
    }

    /// The tip as it sees it.
    pub(super) fn tip(&self, world: &World) -> Arc<Block> {
        let base = self.block(world, self.base(world)).unwrap();
        let claims = self.state.lock().unwrap().faults.claims;
        if claims == 0 {
            return base;
        }
        self.claimed(&base, base.header.number.saturating_add(claims))
    }

    /// A block that it only claims to be there. Nothing is in it.
    fn claimed(&self, base: &Arc<Block>, number: u64) -> Arc<Block> {
        let on = &base.header;
        if number == on.number {
            return Arc::clone(base);
        }
        let hash_of = |number: u64| match number {
            number if number == on.number => on.hash,
            number => keccak256(format!("{} claims {number} on {}", self.name, on.hash)),
        };
        let mut state = self.state.lock().unwrap();
        let after = i64::try_from(number - on.number).unwrap_or(i64::MAX / BLOCK_MS);
        let later_ms = if state.faults.claims_future { after.saturating_mul(BLOCK_MS) } else { 0 };
        let header = Header {
            number,
            hash: hash_of(number),
            parent_hash: hash_of(number - 1),
            time_ms: on.time_ms.saturating_add(later_ms),
            bloom: Bloom::ZERO,
        };
        let (tick, tick_sum) = (base.tick, base.tick_sum);
        let block = Block { header, txs: Vec::new(), logs: Vec::new(), tick, tick_sum, salt: 0 };
        Arc::clone(state.own.entry(header.hash).or_insert_with(|| Arc::new(block)))
    }

    pub(super) fn block(&self, world: &World, hash: B256) -> Option<Arc<Block>> {
        let state = self.state.lock().unwrap();
        state.own.get(&hash).or_else(|| world.blocks.get(&hash)).cloned()
    }

    /// Its block at a height.
    pub(super) fn canonical(&self, world: &World, number: u64) -> Option<Arc<Block>> {
        let mut at = self.block(world, self.base(world))?;
        if number > at.header.number {
            return (number <= self.tip(world).header.number).then(|| self.claimed(&at, number));
        }
        while at.header.number > number {
            at = self.block(world, at.header.parent_hash)?;
        }
        (at.header.number == number).then_some(at)
    }

    /// Its blocks of a range that can hold anything, in order.
    pub(super) fn range(&self, world: &World, from: u64, to: u64) -> Vec<Arc<Block>> {
        let mut blocks = Vec::new();
        let mut at = self.block(world, self.base(world));
        while let Some(block) = at.filter(|b| b.header.number >= from) {
            at = self.block(world, block.header.parent_hash);
            if block.header.number <= to {
                blocks.push(block);
            }
        }
        blocks.reverse();
        blocks
    }

    /// It has no block above its tip.
    pub(super) fn knows(&self, world: &World, block: &Block) -> bool {
        block.header.number <= self.tip(world).header.number
    }

    /// Notes how far it is, for what nobody may go beyond.
    pub fn begin_step(&self, step: u64) {
        let top = self.tip(&self.world.get()).header.number;
        let mut state = self.state.lock().unwrap();
        state.step = step;
        state.top = top.max(state.top);
    }
}
