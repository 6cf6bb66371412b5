//! Addresses that have a part of their own, so that nobody's payments can be meant by them.

use alloy::primitives::Address;

use super::Config;
use crate::domain::oracle::source::Reads;
use crate::presets;

impl Config {
    /// What the address is, when it can never be somebody's deposit address: a token, the treasury, or
    /// a contract that prices are read from.
    pub fn not_for_deposits(&self, address: &Address) -> Option<String> {
        let mut tokens =
            self.chains.iter().flat_map(|c| c.rules.tokens.iter().map(move |t| (c, t)));
        if let Some((chain, token)) = tokens.find(|(_, t)| t.address == *address) {
            return Some(format!("the token {} of {}", token.symbol, chain.rules.name));
        }
        let mut known = presets::all().iter().flat_map(|p| p.tokens.iter().map(move |t| (p, t)));
        if let Some((preset, token)) = known.find(|(_, t)| t.address == *address) {
            return Some(format!("the token {} of {}", token.key, preset.title));
        }
        if self.oracle.treasury == Some(*address) {
            return Some("treasury.address, where what the house buys arrives".to_owned());
        }
        let mut sources = self.oracle.oracle.pairs().flat_map(|pair| &pair.sources);
        let is_read = |reads: &Reads| match reads {
            Reads::Chainlink(feed) => feed.feeds().iter().any(|(at, _)| at == address),
            Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => {
                [pool.address, pool.base, pool.quote].contains(address)
            }
            Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => false,
        };
        let source = sources.find(|source| is_read(&source.reads))?;
        Some(format!("a contract of the price source {}", source.name))
    }
}
