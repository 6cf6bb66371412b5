//! What the tasks of one chain go by: the configuration's answer to every question about it.

use std::sync::Arc;

use alloy::primitives::{Address, B256};

use crate::domain::finality::{Finality, Policy, Verify};
use crate::domain::ids::ChainId;
use crate::domain::log_filter::LogFilter;
use crate::domain::money::RawAmount;
use crate::domain::oracle::Oracle;
use crate::domain::pricing::{EpochBook, Token};
use crate::domain::screening_rules::ScreeningRules;
use crate::domain::seal::Canonical;
use crate::domain::terms::{Terms, Valuation};
use crate::domain::transfer::{AddressBook, Outgoing, RawLog, match_outgoing};

/// Above this many addresses a filter by recipient is too large for providers; tokens are asked
/// for instead.
pub(super) const RECIPIENTS_MAX: usize = 1_000;

/// Up to this many addresses, asking by recipient costs less than reading every transfer of a
/// token that everybody uses.
pub(crate) const RECIPIENTS_AUTO: usize = 200;

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
    /// By recipient while there are few addresses, by token when there are many: what costs less.
    #[default]
    Auto,
    /// All transfers of the configured tokens; matched here. Constant, however many addresses.
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
    /// A provider whose tip is this many blocks below that of others is set aside.
    pub lag_max: u64,
    /// Blocks kept to recognise a reorg; also how close to the tip blocks are read one by one.
    pub window: u64,
    /// Most blocks in one request for a range of logs.
    pub range_max: u64,
    /// Which logs are asked for.
    pub filter: FilterKind,
    /// When a payment is deep enough.
    pub policy: Policy,
    /// How a receipt is checked before anything is credited on it.
    pub verify: Verify,
    /// How it is checked where the block cannot be proved; without it, such payments are held.
    pub fallback: Option<Verify>,
    /// Tokens that may be credited.
    pub tokens: Vec<Token>,
    /// Those that are known by a preset: their addresses are, and their symbols may be renamed.
    pub known_tokens: Vec<Address>,
    /// Pricing rules.
    pub epochs: Arc<EpochBook>,
    /// How pairs are priced.
    pub oracle: Arc<Oracle>,
    /// Who is asked before a payment is credited.
    pub screening: Option<Arc<ScreeningRules>>,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// A block whose time lies further ahead of ours is not believed.
    pub time_ahead_max_ms: i64,
}

impl ChainRules {
    /// The configured first block, if there is one.
    pub fn start_block(&self) -> Option<u64> {
        match self.start {
            Start::Tip => None,
            Start::Block(number) => Some(number),
        }
    }

    /// The token at a contract address.
    pub fn token(&self, address: &Address) -> Option<&Token> {
        self.tokens.iter().find(|t| t.address == *address)
    }

    /// The hash of everything in the configuration that says how deep a payment must lie, and what it
    /// is worth.
    pub fn fingerprint(&self) -> serde_json::Result<B256> {
        let mut bytes = Canonical::new("topupd/chain-rules/v1");
        for tier in self.policy.tiers() {
            let up_to = tier.up_to_usd.map_or_else(String::new, |usd| usd.to_string());
            bytes.text(&up_to).text(&tier.finality.to_string());
        }
        for token in &self.tokens {
            bytes.bytes(token.address.as_slice()).text(&token.asset).u64(token.decimals.into());
        }
        for epoch in self.epochs.all() {
            bytes.text(&epoch.body()?);
        }
        Ok(bytes.finish())
    }

    /// The filter for the address book as it is.
    pub fn log_filter(&self, book: &AddressBook) -> LogFilter {
        let most = match self.filter {
            FilterKind::Tokens => return self.tokens_filter(),
            FilterKind::Recipients => RECIPIENTS_MAX,
            FilterKind::Auto => RECIPIENTS_AUTO,
        };
        if book.is_empty() || book.len() > most {
            return self.tokens_filter();
        }
        LogFilter::Recipients(book.addresses())
    }

    pub(crate) fn tokens_filter(&self) -> LogFilter {
        LogFilter::Tokens(self.tokens.iter().map(|t| t.address).collect())
    }

    /// The question for what leaves the addresses that are asked about; none where all transfers of
    /// the tokens are asked for anyway.
    pub(crate) fn sent(&self, filter: &LogFilter) -> Option<LogFilter> {
        let LogFilter::Recipients(ours) = filter else { return None };
        let tokens = self.tokens.iter().map(|t| t.address).collect();
        Some(LogFilter::Senders { senders: ours.clone(), tokens })
    }

    /// What left our addresses, among logs.
    pub(crate) fn outgoing(&self, logs: &[RawLog], book: &AddressBook) -> Vec<Outgoing> {
        match_outgoing(self.id, logs, book, |token| self.token(token).is_some())
    }

    /// The terms for a token's payment at a block's time, if it is accepted then.
    pub fn terms(&self, token: &Address, time_ms: i64) -> Option<(&Token, &Terms)> {
        let token = self.token(token)?;
        let terms = self.epochs.at(time_ms)?.accept.get(&token.asset)?;
        Some((token, terms))
    }

    /// The pairs that a token's payment at a block's time needs; none where it is not accepted then.
    pub fn needed(&self, token: &Address, time_ms: i64) -> Vec<String> {
        let needed = || {
            let (token, terms) = self.terms(token, time_ms)?;
            let accept = &self.epochs.at(time_ms)?.accept;
            Some(self.oracle.needed(&token.asset, terms, accept))
        };
        needed().unwrap_or_default()
    }

    /// The decimals under which one token is one dollar at most: of tokens that are taken at par,
    /// and of stablecoins that are converted.
    pub fn par_decimals(&self, token: &Address, time_ms: i64) -> Option<u8> {
        let (token, terms) = self.terms(token, time_ms)?;
        let dollars = match &terms.valuation {
            Valuation::Par { .. } | Valuation::Convert { .. } => true,
            Valuation::Fixed { .. } | Valuation::Market { .. } => false,
        };
        dollars.then_some(token.decimals)
    }

    /// What a single payment must wait for.
    pub fn finality(&self, raw: RawAmount, token: &Address, time_ms: i64) -> Finality {
        self.policy.finality_for(&[(raw, self.par_decimals(token, time_ms))])
    }
}
