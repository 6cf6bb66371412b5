//! DO. Idempotent functions without input, each one step of the work.
//!
//! A task looks at what is stored and what the chain says, decides with `domain`, and commits. Its
//! next activation is its retry; being killed between two commits changes nothing but the time. It
//! spawns nothing, and takes no hint about what changed, so that the common path and the path after
//! a crash are one.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod admit;
mod after;
mod again;
pub mod ask;
pub mod by_hand;
mod catch_up;
mod company;
mod contradicted;
mod correct;
mod doubts;
mod dust;
mod follow;
pub mod frozen;
mod judge;
mod kept;
mod late;
mod locate;
pub mod look;
mod lost;
pub mod market;
mod outflows;
mod pages;
mod price;
mod prove;
pub mod quotes;
pub mod recompute;
mod reverse;
pub mod sample;
mod schedule;
pub mod screen;
pub mod sequence;
pub mod settle;
pub mod survey;
pub mod tokens;
mod unread;
pub mod waiting;
pub mod watch;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bloom};

use self::screen::Screen;
use crate::chain::read::RangeLogs;
use crate::chain::source::{ChainSource, LogFilter, SourceError};
use crate::domain::chain::Header;
use crate::domain::finality::{Finality, Policy, Verify};
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::money::RawAmount;
use crate::domain::oracle::Oracle;
use crate::domain::pricing::{EpochBook, Token, judge};
use crate::domain::seal::Canonical;
use crate::domain::terms::{Terms, Valuation};
use crate::domain::transfer::{AddressBook, Outgoing, RawLog, match_logs, match_outgoing};
use crate::store::{SightingToStore, StoreError};

/// Above this many addresses a filter by recipient is too large for providers; tokens are asked
/// for instead.
const RECIPIENTS_MAX: usize = 1_000;
/// Up to this many addresses, asking by recipient costs less than reading every transfer of a
/// token that everybody uses.
const RECIPIENTS_AUTO: usize = 200;

/// Requests under way at once.
const CONCURRENCY: usize = 8;

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
    pub screen: Option<Arc<Screen>>,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// A block whose time lies further ahead of ours is not believed.
    pub time_ahead_max_ms: i64,
}

impl ChainRules {
    /// The configured first block, if there is one.
    #[must_use]
    pub fn start_block(&self) -> Option<u64> {
        match self.start {
            Start::Tip => None,
            Start::Block(number) => Some(number),
        }
    }

    /// The token at a contract address.
    #[must_use]
    pub fn token(&self, address: &Address) -> Option<&Token> {
        self.tokens.iter().find(|t| t.address == *address)
    }

    /// The hash of everything in the configuration that says how deep a payment must lie, and what it
    /// is worth.
    ///
    /// # Errors
    /// Never in practice: every epoch serialises.
    pub fn fingerprint(&self) -> Result<B256, StoreError> {
        let mut bytes = Canonical::new("topupd/chain-rules/v1");
        for tier in self.policy.tiers() {
            let up_to = tier.up_to_usd.map_or_else(String::new, |usd| usd.to_string());
            bytes.text(&up_to).text(&tier.finality.to_string());
        }
        for token in &self.tokens {
            bytes.bytes(token.address.as_slice()).text(&token.asset).u64(token.decimals.into());
        }
        for epoch in self.epochs.all() {
            bytes.text(&epoch.body().map_err(|e| StoreError::Refused(e.to_string()))?);
        }
        Ok(bytes.finish())
    }

    /// The filter for the address book as it is.
    #[must_use]
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

    fn tokens_filter(&self) -> LogFilter {
        LogFilter::Tokens(self.tokens.iter().map(|t| t.address).collect())
    }

    /// The logs of one block. Where worthless transfers to our addresses make it too large to
    /// answer, those of the configured tokens.
    async fn logs_in_block<S: ChainSource>(
        &self,
        source: &S,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        match source.logs_in_block(block, filter).await {
            Err(SourceError::RangeTooLarge { .. })
                if matches!(filter, LogFilter::Recipients(_)) =>
            {
                source.logs_in_block(block, &self.tokens_filter()).await
            }
            answer => answer,
        }
    }

    /// The question for what leaves the addresses that are asked about; none where all transfers of
    /// the tokens are asked for anyway.
    fn sent(&self, filter: &LogFilter) -> Option<LogFilter> {
        let LogFilter::Recipients(ours) = filter else { return None };
        let tokens = self.tokens.iter().map(|t| t.address).collect();
        Some(LogFilter::Senders { senders: ours.clone(), tokens })
    }

    /// What leaves the addresses that are asked about in one block. Not asked where the block's bloom
    /// filter says that nothing does: one request a block is enough then.
    async fn sent_in_block<S: ChainSource>(
        &self,
        source: &S,
        block: BlockRef,
        bloom: &Bloom,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        match self.sent(filter).filter(|sent| sent.allows_logs(bloom)) {
            Some(sent) => self.logs_in_block(source, block, &sent).await,
            None => Ok(Vec::new()),
        }
    }

    /// The logs of a range, to and from the addresses that are asked about. Where worthless transfers
    /// make even one block too large to answer, those of the configured tokens.
    async fn logs_in_range<S: ChainSource>(
        &self,
        source: &S,
        (from, to): (u64, u64),
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let Some(sent) = self.sent(filter) else {
            return source.logs_in_range(from, to, filter, book).await;
        };
        let received = source.logs_in_range(from, to, filter, book);
        let sent = source.logs_in_range(from, to, &sent, book);
        match tokio::try_join!(received, sent) {
            Err(SourceError::RangeTooLarge { .. }) if to == from => {
                source.logs_in_range(from, to, &self.tokens_filter(), book).await
            }
            Err(error) => Err(error),
            Ok((received, sent)) => {
                let before = received.logs.len();
                let logs = joined(received.logs, sent.logs);
                let more = u64::try_from(logs.len().saturating_sub(before)).unwrap_or(u64::MAX);
                let mut times = received.times;
                times.extend(sent.times);
                Ok(RangeLogs { seen: received.seen.saturating_add(more), logs, times })
            }
        }
    }

    /// What left our addresses, among logs.
    fn outgoing(&self, logs: &[RawLog], book: &AddressBook) -> Vec<Outgoing> {
        match_outgoing(self.id, logs, book, |token| self.token(token).is_some())
    }

    /// The terms for a token's payment at a block's time, if it is accepted then.
    #[must_use]
    pub fn terms(&self, token: &Address, time_ms: i64) -> Option<(&Token, &Terms)> {
        let token = self.token(token)?;
        let terms = self.epochs.at(time_ms)?.accept.get(&token.asset)?;
        Some((token, terms))
    }

    /// The pairs that a token's payment at a block's time needs; none where it is not accepted then.
    #[must_use]
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
    #[must_use]
    pub fn par_decimals(&self, token: &Address, time_ms: i64) -> Option<u8> {
        let (token, terms) = self.terms(token, time_ms)?;
        let dollars = match &terms.valuation {
            Valuation::Par { .. } | Valuation::Convert { .. } => true,
            Valuation::Fixed { .. } | Valuation::Market { .. } => false,
        };
        dollars.then_some(token.decimals)
    }

    /// What a single payment must wait for.
    #[must_use]
    pub fn finality(&self, raw: RawAmount, token: &Address, time_ms: i64) -> Finality {
        self.policy.finality_for(&[(raw, self.par_decimals(token, time_ms))])
    }

    /// Blocks of one answer, by height, follow each other in time, and none is of the future: a time in
    /// milliseconds where seconds belong would choose another epoch.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for times that cannot be.
    fn possible_times<'h>(
        &self,
        provider: &str,
        headers: impl IntoIterator<Item = &'h Header>,
        now_ms: i64,
    ) -> Result<(), SourceError> {
        let latest_ms = now_ms.saturating_add(self.time_ahead_max_ms);
        let mut before_ms = i64::MIN;
        for header in headers {
            let why = if header.time_ms > latest_ms {
                "too far ahead of our clock"
            } else if header.time_ms < before_ms {
                "before the time of a block below it"
            } else {
                before_ms = header.time_ms;
                continue;
            };
            return Err(SourceError::Invalid {
                provider: provider.to_owned(),
                method: "eth_getBlockByNumber",
                why: format!(
                    "the time of block {}, {} ms, is {why}",
                    header.number, header.time_ms
                ),
            });
        }
        Ok(())
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

/// What arrived and what left, in the order of the chain; what did both, once.
fn joined(mut received: Vec<RawLog>, mut sent: Vec<RawLog>) -> Vec<RawLog> {
    let known: BTreeSet<(B256, u64)> =
        received.iter().map(|log| (log.block_hash, log.log_index)).collect();
    // Another log at the same place stays: such an answer contradicts itself.
    sent.retain(|log| !known.contains(&(log.block_hash, log.log_index)) || !received.contains(log));
    received.append(&mut sent);
    received.sort_by_key(|log| (log.block_number, log.log_index));
    received
}

/// No place may hold two logs, and no height two blocks: otherwise `n` would count what is not
/// there.
///
/// # Errors
/// [`SourceError::Invalid`] for logs that contradict each other.
pub fn consistent(provider: &str, logs: &[RawLog]) -> Result<(), SourceError> {
    let mut places: BTreeSet<(B256, u64)> = BTreeSet::new();
    let mut blocks: BTreeMap<u64, B256> = BTreeMap::new();
    for log in logs {
        if !places.insert((log.block_hash, log.log_index)) {
            let why = format!("log {} of block {} twice", log.log_index, log.block_hash);
            return Err(invalid_logs(provider, why));
        }
        if *blocks.entry(log.block_number).or_insert(log.block_hash) != log.block_hash {
            return Err(invalid_logs(provider, format!("two blocks at {}", log.block_number)));
        }
    }
    Ok(())
}

fn invalid_logs(provider: &str, why: String) -> SourceError {
    SourceError::Invalid { provider: provider.to_owned(), method: "eth_getLogs", why }
}
