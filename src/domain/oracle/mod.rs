//! Market prices: what a source is asked, what its raw answer says, and what several of them say
//! together.
//!
//! A source's answer is kept raw, as [`source::Evidence`]; [`source::read`] turns it into a [`reading::Reading`] or says why
//! it is none; [`policy::decide`] makes one price of several readings, or says why there is none.
//! All of it is pure, so that a conversion can be computed again from what was stored. Asking is
//! done elsewhere: here is only what to ask.

pub mod abi;
pub mod body;
pub mod chainlink;
pub mod policy;
pub mod pyth;
pub mod reading;
pub mod round;
pub mod rounds;
pub mod samples;
pub mod source;
pub mod tick_math;
pub mod ticker;
pub mod uniswap_after;
pub mod uniswap_v3;

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::conversion;
use super::seal::Canonical;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::source::SourceSpec;
use crate::domain::terms::Terms;

/// The configured pairs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Oracle {
    pairs: BTreeMap<String, PairPolicy>,
    patience_ms: i64,
    every_ms: i64,
}

impl Oracle {
    /// Pairs by name. A source that does not answer is waited for so long, from when it was first
    /// asked, before a payment is priced without it or held.
    pub fn new(pairs: BTreeMap<String, PairPolicy>, patience_ms: i64) -> Self {
        Self { pairs, patience_ms, every_ms: 0 }
    }

    /// Pairs are priced this often though nobody pays; never, when it is 0.
    pub fn with_schedule(self, every_ms: i64) -> Self {
        Self { every_ms, ..self }
    }

    /// Pause between two prices that are taken though nobody paid; 0 for none.
    pub fn every_ms(&self) -> i64 {
        self.every_ms
    }

    /// How long a source that does not answer is waited for.
    pub fn patience_ms(&self) -> i64 {
        self.patience_ms
    }

    /// The policy of a pair.
    pub fn pair(&self, name: &str) -> Option<&PairPolicy> {
        self.pairs.get(name)
    }

    /// All policies, by name.
    pub fn pairs(&self) -> impl Iterator<Item = &PairPolicy> {
        self.pairs.values()
    }

    /// The pairs that a payment in an asset needs ([`conversion::needed`]), not counting those that
    /// their sources are multiplied by.
    pub fn needed(
        &self,
        asset: &str,
        terms: &Terms,
        accept: &BTreeMap<String, Terms>,
    ) -> Vec<String> {
        conversion::needed(asset, terms, accept, |pair| self.pairs.contains_key(pair))
    }

    /// The sources behind pairs, with those behind the pairs that they are multiplied by.
    pub fn sources<'a>(&'a self, pairs: &[String]) -> Vec<&'a SourceSpec> {
        let named = pairs.iter().filter_map(|pair| self.pair(pair));
        let all: Vec<&PairPolicy> = named
            .flat_map(|policy| {
                let via = policy.needs().into_iter().filter_map(|pair| self.pair(pair));
                [policy].into_iter().chain(via)
            })
            .collect();
        let mut seen = BTreeSet::new();
        let sources = all.into_iter().flat_map(|policy| &policy.sources);
        sources.filter(|source| seen.insert(source.hash())).collect()
    }
}

/// A Pyth feed over Hermes: what its answer must hold. The blob itself is read by [`pyth`].
pub mod pyth_source;

/// A price that was accepted, as other things name it.
pub fn price_hash(body: &str) -> B256 {
    let mut bytes = Canonical::new("topupd/market-price/v1");
    bytes.text(body);
    bytes.finish()
}
