//! DO. Idempotent functions without input, each one step of the work.
//!
//! A task looks at what is stored and what the chain says, decides with `domain`, and commits. Its
//! next activation is its retry; being killed between two commits changes nothing but the time. It
//! spawns nothing, and takes no hint about what changed, so that the common path and the path after
//! a crash are one.
#![deny(clippy::arithmetic_side_effects)]

pub mod settle;
pub mod watch;

use std::sync::Arc;

use alloy::primitives::Address;

use crate::chain::LogFilter;
use crate::domain::finality::Policy;
use crate::domain::ids::ChainId;
use crate::domain::pricing::{EpochBook, Token, judge};
use crate::domain::transfer::{AddressBook, RawLog, match_logs};
use crate::store::SightingToStore;

/// Above this many addresses a filter by recipient is too large for providers; tokens are asked
/// for instead.
const RECIPIENTS_MAX: usize = 1_000;

/// Where a chain's first scan begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the tip of that moment.
    Tip,
    /// At this block.
    Block(u64),
}

/// Which logs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterKind {
    /// All transfers of the configured tokens; matched here. Constant, however many addresses.
    #[default]
    Tokens,
    /// All transfers to our addresses; shows unlisted tokens too, but not every malformed log.
    Recipients,
}

/// What the tasks of one chain go by. Fixed while the daemon runs.
#[derive(Debug, Clone)]
pub struct ChainRules {
    /// Chain.
    pub id: ChainId,
    /// Its name in the configuration.
    pub name: String,
    /// Where the first scan begins.
    pub start: Start,
    /// Blocks kept to recognise a reorg; also how close to the tip blocks are read one by one.
    pub window: u64,
    /// Most blocks in one request for a range of logs.
    pub range_max: u64,
    /// Which logs are asked for.
    pub filter: FilterKind,
    /// When a payment is deep enough.
    pub policy: Policy,
    /// Tokens that may be credited.
    pub tokens: Vec<Token>,
    /// Pricing rules.
    pub epochs: Arc<EpochBook>,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
}

impl ChainRules {
    /// The token at a contract address.
    #[must_use]
    pub fn token(&self, address: &Address) -> Option<&Token> {
        self.tokens.iter().find(|t| t.address == *address)
    }

    /// The filter for the address book as it is.
    #[must_use]
    pub fn log_filter(&self, book: &AddressBook) -> LogFilter {
        match self.filter {
            FilterKind::Recipients if book.len() <= RECIPIENTS_MAX => {
                LogFilter::Recipients(book.addresses().collect())
            }
            FilterKind::Recipients | FilterKind::Tokens => {
                LogFilter::Tokens(self.tokens.iter().map(|t| t.address).collect())
            }
        }
    }

    /// The sightings among logs, each judged at its block's time.
    fn judged(
        &self,
        logs: &[RawLog],
        book: &AddressBook,
        time_of: impl Fn(u64) -> i64,
    ) -> Vec<SightingToStore> {
        match_logs(self.id, logs, book)
            .into_iter()
            .map(|sighting| {
                let token = self.token(&sighting.deposit.token);
                let time_ms = time_of(sighting.block_number);
                let verdict = judge(&sighting, token, &self.epochs, time_ms);
                SightingToStore { sighting, verdict }
            })
            .collect()
    }
}
