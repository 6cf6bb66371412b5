//! What the watch task keeps between activations: only what it would find out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::B256;

use super::ChainRules;
use super::catch_up::AT_ONCE_MAX;
use crate::domain::transfer::AddressBook;

/// Activations after which a range that was too large is tried again.
const FORGET: u32 = 64;

/// What the task keeps between activations. Only a cache: rebuilt from the store when lost.
#[derive(Debug)]
pub struct WatchCache {
    pub(super) book: Arc<AddressBook>,
    pub(super) range: u64,
    /// The smallest range that was too large, until it is forgotten.
    pub(super) too_large: Option<u64>,
    /// Activations since then that went well.
    pub(super) went_well: u32,
    pub(super) at_once: usize,
    /// Blocks whose logs were doubted, and how often.
    pub(super) doubts: BTreeMap<B256, u8>,
    pub(super) moved: u32,
}

impl WatchCache {
    /// An empty one.
    #[must_use]
    pub fn new(rules: &ChainRules) -> Self {
        Self {
            book: Arc::default(),
            range: rules.range_max,
            too_large: None,
            went_well: 0,
            at_once: AT_ONCE_MAX,
            doubts: BTreeMap::new(),
            moved: 0,
        }
    }
}

impl WatchCache {
    /// What worked is tried a little larger, up to what is configured, and half-way to what was too
    /// large. That is forgotten after a while: blocks differ.
    pub(super) fn grow(&mut self, range_max: u64) {
        let step = match self.too_large {
            None => (self.range / 4).max(1),
            Some(most) => {
                self.went_well = self.went_well.saturating_add(1);
                if self.went_well >= FORGET {
                    self.too_large = None;
                }
                let gap = most.saturating_sub(self.range);
                if gap > self.range / 8 { gap / 2 } else { 0 }
            }
        };
        self.range = self.range.saturating_add(step).min(range_max);
        self.at_once = self.at_once.saturating_add(1).min(AT_ONCE_MAX);
    }

    /// A range of this size was too large.
    pub(super) fn shrink(&mut self, range: u64) {
        self.too_large = Some(range);
        self.went_well = 0;
        self.range = (range / 2).max(1);
    }
}
