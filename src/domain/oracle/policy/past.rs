//! What the breaker compares a price with: what was accepted before it, and what people let pass.
//!
//! Which prices those are is read from the store; this says which of them count.

use super::{Accepted, DAY_MS, Passed};
use crate::domain::money::Rate;
use crate::domain::oracle::policy::pair::median;

/// What a price is compared with before it is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// Accepted prices of the pair in the day before the instant, in order of their instants.
    pub day: Vec<Accepted>,
    /// The newest of all accepted prices when this was looked up.
    pub newest_seq: i64,
    /// The latch is open since then, for this reason.
    pub latched: Option<String>,
    /// An operator let a jump to this price pass; what was before it does not count.
    pub passed: Option<Passed>,
    /// The act by which an operator accepts a stablecoin's price at this block, however low.
    pub waived_by: Option<i64>,
    /// Older formulas counted what was accepted of the very instant that was let pass: where two blocks have
    /// one time, the breaker opened again for ever.
    pub counts_same_instant: bool,
}

impl Past {
    /// What a price of an instant is compared with: what was let pass before it, what was accepted in
    /// the day before it and since then, and the median of all of it.
    pub fn base(&self, at_ms: i64) -> (Option<Passed>, Vec<Accepted>, Option<Rate>) {
        let passed = self
            .passed
            .filter(|p| p.instant_ms <= at_ms && at_ms.saturating_sub(p.instant_ms) <= DAY_MS);
        let since = passed.map_or(i64::MIN, |p| p.instant_ms);
        // Of that very instant, the price that was let pass itself; not what it may have jumped from.
        let counts = |a: &&Accepted| {
            a.instant_ms > since
                || a.instant_ms == since
                    && (self.counts_same_instant || passed.is_some_and(|p| p.price == a.price))
        };
        let day: Vec<Accepted> = self.day.iter().filter(counts).copied().collect();
        let prices = day.iter().map(|a| a.price).chain(passed.map(|p| p.price));
        let median = median(prices.collect());
        (passed, day, median)
    }
}
