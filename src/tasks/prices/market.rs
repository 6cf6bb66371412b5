//! The price of a pair at a payment's block, from what was captured and sampled.
//!
//! Everything is read from the store; a provider is asked only whether a block of another chain, or
//! one that was read after the fact, is still canonical and final. A price that is accepted is
//! written before anything is valued by it, and stays.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::B256;

use crate::chain::pool::Pool;
use crate::chain::source::{ChainSource, SourceError, Tag};
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::conversion::Leg;
use crate::domain::deposit::HoldReason;
use crate::domain::finality::{Finality, Heads, Verify};
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::money::Rate;
use crate::domain::oracle::policy::pair::{Input, Outcome, PairPolicy};
use crate::domain::oracle::policy::{Body, Past, Via, weigh};
use crate::domain::oracle::reading::{PriceInstant, Reading};
use crate::domain::oracle::samples as of_samples;
use crate::domain::oracle::samples::SAMPLES_MAX;
use crate::domain::oracle::source::{Evidence, Reads, SourceSpec, read};
use crate::oracle::Web;
use crate::planted::{Fault, planted};
use crate::store::{
    AcceptOutcome, Capture, LeasedStore, ManualPrice, MarketPrice, Store, StoreError, StoredQuote,
    Waiver,
};
use crate::tasks::errors::SettleError;
use crate::tasks::settle::screen::Screener;

/// A sample is stored when the slowest of those taken with it is there.
const SAMPLE_LAG_MS: i64 = 15_000;
/// A block of another chain that is not final for so long holds what waits for it.
const FINAL_MS: i64 = 3_600_000;
/// A price is decided anew so often when others are accepted meanwhile.
const ACCEPT_TRIES: u32 = 8;

/// Who is asked besides the payment's own chain: for prices all chains with their providers and the web,
/// and the screening.
#[derive(Debug)]
pub struct Market<S> {
    /// Chains that sources live on, with what they are followed by.
    pub chains: BTreeMap<ChainId, (ChainRules, Arc<Pool<S>>)>,
    /// Sources over HTTP.
    pub web: Web,
    /// What asks about payments before they are credited.
    pub screener: Screener,
}

impl<S> Default for Market<S> {
    fn default() -> Self {
        Self { chains: BTreeMap::new(), web: Web::default(), screener: Screener::default() }
    }
}

impl<S: ChainSource> Market<S> {
    /// True when there is any pair to be priced.
    pub fn has_sources(&self) -> bool {
        self.chains.values().any(|(rules, _)| rules.oracle.pairs().next().is_some())
    }

    /// How many providers must give one answer before it is believed.
    pub fn witnesses(&self, chain: ChainId) -> usize {
        match self.chains.get(&chain) {
            _ if planted(Fault::OnePrice) => 1,
            Some((rules, pool)) => match rules.verify {
                Verify::SameProvider => 1,
                Verify::SecondProvider => 2,
                Verify::ReceiptsRoot => pool.len().clamp(1, 2),
            },
            None => 2,
        }
    }
}

/// A pair has a price, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tasks) enum Priced {
    /// It stands.
    Yes(Leg),
    /// Something may still come.
    Wait,
    /// It has none.
    Held(HoldReason),
}

/// Prices of one activation.
pub(in crate::tasks) struct Prices<'a, S> {
    pub(in crate::tasks) rules: &'a ChainRules,
    pub(in crate::tasks) market: &'a Market<S>,
    pub(in crate::tasks) store: &'a LeasedStore,
    pub(in crate::tasks) clock: &'a dyn Clock,
    decided: BTreeMap<(B256, String), Priced>,
    /// Policies of accepted prices, by their hashes.
    policies: BTreeMap<B256, PairPolicy>,
    /// Blocks that operators decided something about, as of the first question.
    acted: Option<BTreeSet<B256>>,
    final_blocks: BTreeMap<(ChainId, u64, B256), Option<bool>>,
}

impl<'a, S: ChainSource> Prices<'a, S> {
    pub(in crate::tasks) fn new(
        rules: &'a ChainRules,
        market: &'a Market<S>,
        store: &'a LeasedStore,
        clock: &'a dyn Clock,
    ) -> Self {
        Self {
            rules,
            market,
            store,
            clock,
            decided: BTreeMap::new(),
            policies: BTreeMap::new(),
            acted: None,
            final_blocks: BTreeMap::new(),
        }
    }

    /// True when operators decided something about a block. Thousands of payments may be on hold, and
    /// few of them ever are decided about.
    pub(in crate::tasks) async fn is_acted_on(&mut self, block: B256) -> Result<bool, StoreError> {
        if self.acted.is_none() {
            self.acted = Some(self.store.blocks_with_acts(self.rules.id).await?);
        }
        Ok(self.acted.as_ref().is_some_and(|blocks| blocks.contains(&block)))
    }

    /// The price of a pair at an instant: once an activation.
    pub(in crate::tasks) async fn of(
        &mut self,
        pair: &str,
        at: &PriceInstant,
    ) -> Result<Priced, SettleError> {
        let block = if planted(Fault::SharedPrice) { B256::ZERO } else { at.block.hash };
        let key = (block, pair.to_owned());
        if let Some(known) = self.decided.get(&key) {
            return Ok(known.clone());
        }
        let priced = self.decided_or_decide(pair, at).await?;
        self.decided.insert(key, priced.clone());
        Ok(priced)
    }

    async fn decided_or_decide(
        &mut self,
        pair: &str,
        at: &PriceInstant,
    ) -> Result<Priced, SettleError> {
        let oracle = Arc::clone(&self.rules.oracle);
        let Some(policy) = oracle.pair(pair) else { return Ok(Priced::Held(HoldReason::NoPrice)) };
        if let Some(stands) = self.store.market_price_at(pair, at.chain, at.block.hash).await? {
            if stands.accepted.instant_ms != at.time_ms {
                // The block's time was corrected since: an operator must decide.
                return Ok(Priced::Held(HoldReason::NoPrice));
            }
            return Ok(Priced::Yes(self.leg(&stands).await?));
        }
        let mut via = Vec::new();
        for name in policy.needs() {
            // A pair that others are multiplied by needs none itself: the configuration says so.
            match Box::pin(self.of(name, at)).await? {
                Priced::Yes(leg) => {
                    via.push(Via { pair: leg.pair, price: leg.price, price_hash: leg.price_hash });
                }
                Priced::Wait => return Ok(Priced::Wait),
                // Sources that need it do not answer then; the others may.
                Priced::Held(_) => {}
            }
        }
        let mut waivers: Vec<Waiver> = Vec::new();
        if self.is_acted_on(at.block.hash).await? {
            if self.store.is_vetoed(pair, at.chain, at.block.hash).await? {
                return Ok(Priced::Held(HoldReason::Breaker)); // an operator must decide
            }
            waivers = self.store.waivers(pair, at.chain, at.block.hash).await?;
        }
        let mut inputs = self.inputs(policy, at).await?;
        let mut weighed = weigh(policy, at, &inputs, &via);
        if weighed.is_later() {
            self.ask_after(policy, &mut inputs, at).await?;
            weighed = weigh(policy, at, &inputs, &via);
        }
        // What an operator accepted is the price that was shown, and no other.
        let median = weighed.body.median;
        let waived_by = waivers
            .iter()
            .find(|waiver| waiver.price.is_none_or(|price| Some(price) == median))
            .map(|waiver| waiver.act);
        let now = self.clock.now_ms();
        for _ in 0..ACCEPT_TRIES {
            let past = match weighed.has_price() {
                true => Past { waived_by, ..self.store.past(pair, at.time_ms).await? },
                false => Past::default(),
            };
            let (body, outcome) = weighed.clone().compared(policy, &past);
            match outcome {
                Outcome::Wait(_) => return Ok(Priced::Wait),
                Outcome::Later(_) => {
                    // It is waited for some minutes, and people see for what.
                    self.note_new(&body, None, at, now).await?;
                    return Ok(Priced::Wait);
                }
                Outcome::Hold(reason, why) => {
                    let trips = match reason {
                        HoldReason::Breaker if past.latched.is_none() => body.median,
                        _ => None,
                    };
                    if trips.is_some() {
                        if self.store.is_vetoed(pair, at.chain, at.block.hash).await? {
                            return Ok(Priced::Held(reason)); // just now
                        }
                        tracing::error!(
                            pair,
                            why,
                            "the breaker opened: no payment is priced by this pair until an operator resumes it"
                        );
                    }
                    self.note_new(&body, trips, at, now).await?;
                    return Ok(Priced::Held(reason));
                }
                Outcome::Accepted(_) => match self.store.accept_price(policy, &body, now).await? {
                    AcceptOutcome::Accepted(price) => {
                        tracing::debug!(pair, price = %price.accepted.price,
                                instant_ms = at.time_ms, "price accepted");
                        return Ok(Priced::Yes(self.leg(&price).await?));
                    }
                    AcceptOutcome::Moved => {}
                },
            }
        }
        Ok(Priced::Wait)
    }

    /// Notes why there is no price, where that says something new: it is looked at again and again.
    async fn note_new(
        &self,
        body: &Body,
        trips: Option<Rate>,
        at: &PriceInstant,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let known = self.store.price_tries(at.chain, at.block.hash).await?;
        if trips.is_some() || !known.iter().any(|(before, _)| before == body) {
            self.store.note_try(body, trips, now_ms).await?;
        }
        Ok(())
    }

    /// The price that two operators gave a deposit: written once, however long the deposit waits for
    /// others. `None` where it has to be tried again.
    pub(in crate::tasks) async fn by_hand(
        &mut self,
        given: &ManualPrice,
        at: &PriceInstant,
    ) -> Result<Option<Leg>, SettleError> {
        let Some(policy) = self.rules.oracle.pair(&given.pair) else { return Ok(None) };
        let (pair, acts) = (&given.pair, given.manual.acts);
        let stands = self.store.manual_price_at(pair, at.chain, at.block.hash, acts).await?;
        if let Some(stands) = stands {
            return Ok(Some(self.leg(&stands).await?));
        }
        for _ in 0..ACCEPT_TRIES {
            let past = self.store.past(&given.pair, at.time_ms).await?;
            let mut body = weigh(policy, at, &[], &[]).body;
            body.after_seq = past.newest_seq;
            body.price = Some(given.price);
            body.manual = Some(given.manual.clone());
            let now = self.clock.now_ms();
            let outcome = self.store.accept_price(policy, &body, now).await?;
            if let AcceptOutcome::Accepted(price) = outcome {
                return Ok(Some(self.leg(&price).await?));
            }
        }
        Ok(None)
    }

    /// An accepted price as a conversion uses it: by the policy of its day, whatever is configured
    /// now.
    async fn leg(&mut self, price: &MarketPrice) -> Result<Leg, SettleError> {
        let hash = price.body()?.policy_hash;
        let policy = match self.policies.entry(hash) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(entry) => {
                let missing = || {
                    StoreError::Refused(format!(
                        "the policy {hash} of an accepted price is missing"
                    ))
                };
                entry.insert(self.store.policy(hash).await?.ok_or_else(missing)?)
            }
        };
        Ok(policy.leg(price.accepted.price, price.accepted.hash))
    }

    /// What is known of each source, in the policy's order.
    async fn inputs(
        &mut self,
        policy: &PairPolicy,
        at: &PriceInstant,
    ) -> Result<Vec<Input>, SettleError> {
        let captures = self.store.captures(at.chain, at.block.hash).await?;
        let quotes = self.store.quotes_of(at.chain, at.block.hash).await?;
        let mut inputs = Vec::with_capacity(policy.sources.len());
        for source in &policy.sources {
            inputs.push(match &source.reads {
                Reads::Fixed { price } => Input::Read(None, Ok(Reading::fixed(*price, at))),
                Reads::Http(ticker) => self.sampled(source, ticker.max_age_ms(), at).await?,
                Reads::Chainlink(_)
                | Reads::UniswapV3(_)
                | Reads::UniswapV3After(_)
                | Reads::Pyth(_) => {
                    let said = self.captured(source, &captures, &quotes, at).await?;
                    said.with_after(|| Input::NotYet("it is looked at again".into()))
                }
            });
        }
        Ok(inputs)
    }

    /// The first valid sample at or after the instant.
    async fn sampled(
        &self,
        source: &SourceSpec,
        max_age_ms: i64,
        at: &PriceInstant,
    ) -> Result<Input, SettleError> {
        let samples = samples(self.store, source, max_age_ms, at).await?;
        let first = first_of(source, &samples, at)?;
        if let Some(input @ Input::Read(_, Ok(_))) = first {
            return Ok(input);
        }
        let until = at.time_ms.saturating_add(max_age_ms);
        if self.clock.now_ms() <= until.saturating_add(SAMPLE_LAG_MS) {
            return Ok(Input::NotYet("no sample since the payment".into()));
        }
        let seconds = max_age_ms.checked_div(1_000).unwrap_or(0);
        let missing = Input::Missing(format!("no sample within {seconds} s of the payment"));
        Ok(first.unwrap_or(missing))
    }

    /// What was captured of a source for this block.
    pub(in crate::tasks) async fn captured(
        &mut self,
        source: &SourceSpec,
        captures: &[Capture],
        quotes: &[StoredQuote],
        at: &PriceInstant,
    ) -> Result<Input, SettleError> {
        let hash = source.hash();
        let Some(capture) = captures.iter().find(|c| c.source_hash == hash) else {
            return Ok(Input::NotYet("it has not been asked".into()));
        };
        let patience_ms = self.rules.oracle.patience_ms();
        let waits = self.clock.now_ms().saturating_sub(capture.first_try_at_ms) <= patience_ms;
        let wanted = source.chain().map_or(1, |chain| self.market.witnesses(chain));
        let mut of_source: Vec<_> = quotes.iter().filter(|q| q.source_hash == hash).collect();
        of_source.sort_by_key(|q| (q.recorded_at_ms, q.id));
        let (mut replaced, mut rejected, mut unfit) = (false, None, None);
        for quote in of_source.iter().filter(|q| q.providers.len() >= wanted) {
            let evidence = quote.evidence()?;
            if let Evidence::Calls(calls) = &evidence
                && calls.block_hash != at.block.hash
            {
                let block = BlockRef { number: calls.block_number, hash: calls.block_hash };
                match self.is_final(calls.chain_id, block).await {
                    Some(true) => {}
                    Some(false) => {
                        replaced = true;
                        continue;
                    }
                    None => {
                        let why = "its block is not final yet".to_owned();
                        let since = capture.done_at_ms.unwrap_or(i64::MAX);
                        let waits = self.clock.now_ms().saturating_sub(since) <= FINAL_MS;
                        return Ok(if waits { Input::NotYet(why) } else { Input::Missing(why) });
                    }
                }
            }
            // Of several answers, such as a server's second one, the first that says something.
            let input = Input::Read(Some(quote.id), read(source, &evidence, at));
            match &input {
                Input::Read(_, Ok(_)) => return Ok(input),
                // Asked for a block's time that was corrected since.
                Input::Read(_, Err(reject)) if reject.is_of_the_questions() => {
                    unfit.get_or_insert(input);
                }
                _ => {
                    rejected.get_or_insert(input);
                }
            }
        }
        if !replaced {
            rejected = rejected.or(unfit);
        }
        if let Some(rejected) = rejected {
            return Ok(match (capture.done_at_ms, &capture.why) {
                (None, Some(why)) if waits => Input::NotYet(why.clone()),
                _ => rejected,
            });
        }
        if replaced && capture.done_at_ms.is_some() {
            let now = self.clock.now_ms();
            self.store.reopen_captures(at.chain, at.block.hash, hash, now).await?;
            return Ok(Input::NotYet("its block was replaced".into()));
        }
        let why = capture.why.clone().unwrap_or_else(|| "it did not answer".into());
        Ok(if waits { Input::NotYet(why) } else { Input::Missing(why) })
    }

    /// True for a block that is canonical and final by the strictest tier of its chain, false for
    /// one that was replaced, `None` while that cannot be said. Where its chain has two providers,
    /// two must say so.
    pub(in crate::tasks) async fn is_final(
        &mut self,
        chain: ChainId,
        block: BlockRef,
    ) -> Option<bool> {
        let key = (chain, block.number, block.hash);
        if let Some(known) = self.final_blocks.get(&key) {
            return *known;
        }
        let (rules, pool) = self.market.chains.get(&chain)?;
        let finality = rules.policy.strictest();
        let wanted = if planted(Fault::DepthOfOne) { 1 } else { pool.len().min(2) };
        let (mut yes, mut no) = (0usize, 0usize);
        for source in pool.order(self.clock.now_ms()) {
            match asked_final(source, block, finality).await {
                Ok(Some(true)) => yes = yes.saturating_add(1),
                Ok(Some(false)) => no = no.saturating_add(1),
                Ok(None) => {}
                Err(error) => pool.record_failure(source, &error, self.clock.now_ms()),
            }
            if yes.max(no) >= wanted {
                break;
            }
        }
        let known = (yes.max(no) >= wanted).then_some(yes >= wanted);
        self.final_blocks.insert(key, known);
        known
    }
}

/// The samples of a ticker that an instant may be priced by, in their order.
pub(in crate::tasks) async fn samples(
    store: &Store,
    source: &SourceSpec,
    max_age_ms: i64,
    at: &PriceInstant,
) -> Result<Vec<StoredQuote>, StoreError> {
    let until = at.time_ms.saturating_add(max_age_ms);
    store.samples(source.hash(), at.time_ms, until, SAMPLES_MAX).await
}

/// Of samples, the first one that says something; else the first one, with what is wrong with it.
pub(in crate::tasks) fn first_of(
    source: &SourceSpec,
    samples: &[StoredQuote],
    at: &PriceInstant,
) -> Result<Option<Input>, StoreError> {
    let read = samples.iter().map(|sample| Ok((sample.id, sample.evidence()?)));
    of_samples::first_of(source, read, at)
}

/// True for a block that a provider sees as canonical and final by this rule, false for one that it
/// has another block in place of, `None` while it cannot say.
///
/// # Errors
/// When the provider does not answer.
pub async fn asked_final<S: ChainSource>(
    source: &S,
    block: BlockRef,
    finality: Finality,
) -> Result<Option<bool>, SourceError> {
    let tag = match finality {
        Finality::Safe => Some(Tag::Safe),
        Finality::Finalized => Some(Tag::Finalized),
        Finality::Confirmations(_) => None,
    };
    let number = match tag {
        Some(tag) => source.tagged(tag).await?.map(|h| h.number),
        None => None,
    };
    let latest = source.latest().await?.number;
    let heads = Heads { latest, safe: number, finalized: number };
    let here = source.header_at(block.number).await?;
    Ok(match here {
        Some(header) if header.hash != block.hash => Some(false),
        Some(_) if finality.reached(block.number, heads) => Some(true),
        _ => None,
    })
}
