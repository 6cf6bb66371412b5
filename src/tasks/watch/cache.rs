//! What the watch task keeps between activations: only what it would find out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chain::source::SourceError;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::NewFinding;
use crate::domain::transfer::AddressBook;
use crate::planted::{Fault, planted};
use crate::tasks::errors::WatchError;
use crate::tasks::watch::doubted::Doubts;
use crate::tasks::watch::heard::Company;
use crate::tasks::watch::lost::Since;
use crate::tasks::watch::unread::Unread;

/// So many times in a row that a provider's answers do not fit together, others are asked.
const MOVED_MAX: u32 = 3;
/// Activations after which a range that was too large is tried again.
const FORGET: u32 = 64;
/// The same after failures in words that do not say so: they may have had another reason.
const FORGET_GUESS: u32 = 8;
/// Failures of one range, in whatever words, after which it is halved.
const FAILURES_MAX: u32 = 2;
/// Ranges whose failures are remembered.
const FAILED_MAX: usize = 256;
/// Ranges asked for at once, at most.
pub(in crate::tasks) const AT_ONCE_MAX: usize = 4;

/// What the task keeps between activations. Only a cache: rebuilt from the store when lost.
#[derive(Debug)]
pub struct WatchCache {
    pub(in crate::tasks) book: Arc<AddressBook>,
    pub(in crate::tasks) range: Range,
    pub(in crate::tasks) at_once: usize,
    pub(in crate::tasks) doubts: Doubts,
    /// What the next commit says.
    pub(in crate::tasks) findings: Vec<NewFinding>,
    pub(in crate::tasks) company: Company,
    pub(in crate::tasks) lost: Since,
    pub(in crate::tasks) moved: u32,
}

impl WatchCache {
    /// One more time a step found that somebody moved what it stands on: true when that is too often for chance.
    pub(in crate::tasks) fn moves_too_often(&mut self) -> bool {
        self.moved = self.moved.saturating_add(1);
        let often = self.moved >= MOVED_MAX;
        if often {
            self.moved = 0;
        }
        often
    }

    /// An empty one.
    pub fn new(rules: &ChainRules) -> Self {
        Self {
            book: Arc::default(),
            range: Range::new(rules.range_max),
            at_once: AT_ONCE_MAX,
            doubts: Doubts::default(),
            findings: Vec::new(),
            company: Company::default(),
            lost: Since::default(),
            moved: 0,
        }
    }
}

/// How many blocks are asked for at once, by what was refused or failed lately.
#[derive(Debug)]
pub(in crate::tasks) struct Range {
    pub(in crate::tasks) blocks: u64,
    /// The smallest number that was too large, until it is forgotten.
    too_large: Option<u64>,
    /// Times since then that it went well.
    went_well: u32,
    /// How often the range that begins at a block failed: several are read in turns.
    failed: BTreeMap<u64, u32>,
}

impl Range {
    pub(in crate::tasks) fn new(most: u64) -> Self {
        Self { blocks: most, too_large: None, went_well: 0, failed: BTreeMap::new() }
    }

    /// What worked is tried a little larger, up to what is configured, and half-way to what was too
    /// large. That is forgotten after a while: blocks differ.
    pub(in crate::tasks) fn grow(&mut self, most: u64) {
        let step = match self.too_large {
            None => (self.blocks / 4).max(1),
            Some(most) => {
                self.went_well = self.went_well.saturating_add(1);
                if self.went_well >= FORGET {
                    self.too_large = None;
                }
                let gap = most.saturating_sub(self.blocks);
                if gap > self.blocks / 8 { gap / 2 } else { 0 }
            }
        };
        self.blocks = self.blocks.saturating_add(step).min(most);
    }

    /// The range of so many blocks from a block on was not read. True when it is halved: a provider
    /// said that it is too large, or it failed some times. The words of a refusal are endless, so
    /// that the number of failures decides, and after it each one that follows.
    pub(in crate::tasks) fn failed(&mut self, from: u64, blocks: u64, unread: &Unread) -> bool {
        let said = matches!(unread.error, WatchError::Source(SourceError::RangeTooLarge { .. }));
        if !said {
            if self.failed.len() >= FAILED_MAX {
                self.failed.pop_first();
            }
            let times = self.failed.entry(from).or_insert(0);
            *times = times.saturating_add(1);
            let often = *times >= FAILURES_MAX && !planted(Fault::UnknownWords);
            if !unread.at_logs || !often {
                return false;
            }
        }
        if blocks < 2 {
            return false;
        }
        self.too_large = Some(blocks);
        self.went_well = if said { 0 } else { FORGET.saturating_sub(FORGET_GUESS) };
        self.blocks = (blocks / 2).max(1);
        true
    }
}
