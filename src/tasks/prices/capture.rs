//! Asks the sources of market prices about the blocks of payments, as soon as one is seen: nodes
//! forget the state after a block within minutes. What they answer is stored raw, and used only if
//! the payment confirms.
//!
//! Questions about many blocks go into one request. An answer of a contract counts when as many
//! providers give it as the chain's `verify` asks for. A source on another chain than the payment's
//! is read at the last block of its chain at or before the payment's time. Where the state is gone,
//! contracts that remember are asked in the state of today (`late`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use futures_util::stream;
use futures_util::stream::StreamExt;

use crate::chain::source::{CallOutcome, ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::ChainId;
use crate::domain::oracle::reading::{Call, Calls, PriceInstant};
use crate::domain::oracle::source::{Evidence, Reads, SourceSpec, read};
use crate::domain::seal::Canonical;
use crate::domain::terms::Valuation;
use crate::store::{Capture, LeasedStore, NewQuote, QuoteBlock, RETRY_MAX_MS};
use crate::tasks::CONCURRENCY;
use crate::tasks::errors::SettleError;
use crate::tasks::prices::after;
use crate::tasks::prices::ask::answered;
use crate::tasks::prices::historic::read_late;
use crate::tasks::prices::locate::last_block_at;
use crate::tasks::prices::market::Market;
use crate::tasks::prices::request::Ask;
use crate::tasks::prices::schedule::{open_block, scheduled_pairs};

/// Blocks that are asked about between two commits.
const BLOCKS: i64 = 64;
/// The first pause of a source that did not answer; it doubles each time.
const RETRY_MS: i64 = 1_000;
/// The longest that a round waits for answers over HTTP.
const HTTP_ROUND: Duration = Duration::from_secs(20);

/// What an activation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// Sources that were read, of one block each.
    pub done: usize,
    /// There is more to do at once.
    pub more: bool,
}

/// Asks about the payments of a chain whose sources have not all answered.
///
/// # Errors
/// When the database fails. A source that fails is asked again later.
pub async fn capture<S: ChainSource>(
    rules: &ChainRules,
    market: &Market<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<Captured, SettleError> {
    let mut captured = Captured::default();
    let mut asked = BTreeSet::new();
    for token in &rules.tokens {
        let Some(plan) = plan(rules, &token.asset) else { continue };
        let now = clock.now_ms();
        let found = store.blocks_to_quote(rules.id, token.address, plan, now, BLOCKS).await?;
        let full = i64::try_from(found.len()).is_ok_and(|n| n >= BLOCKS);
        let blocks = found.into_iter().map(|b| (b, wanted(rules, &token.address, b.time_ms)));
        let round = Round::new(rules, store, clock, plan);
        let done = round.ask(market, blocks.collect(), &mut asked).await?;
        captured.done = captured.done.saturating_add(done);
        captured.more |= full && done > 0;
    }
    if let Some(block) = open_block(rules, store, clock).await? {
        let sources = to_be_asked(rules, &scheduled_pairs(rules, block.time_ms));
        let plan = plan_of("topupd/schedule-plan/v1", &sources);
        let known = store.captures(rules.id, block.block.hash).await?;
        let rests = |c: &Capture| c.done_at_ms.is_some() || c.rests(clock.now_ms());
        if !known.iter().any(|c| c.source_hash == plan && rests(c)) {
            let round = Round::new(rules, store, clock, plan);
            let done = round.ask(market, vec![(block, sources)], &mut asked).await?;
            captured.done = captured.done.saturating_add(done);
        }
    }
    Ok(captured)
}

/// The hash of all sources that payments in an asset may need; none where it has no market price.
fn plan(rules: &ChainRules, asset: &str) -> Option<B256> {
    let mut all = Vec::new();
    let mut any = false;
    for epoch in rules.epochs.all() {
        let Some(terms) = epoch.accept.get(asset) else { continue };
        any |= matches!(terms.valuation, Valuation::Market { .. } | Valuation::Convert { .. });
        all.extend(rules.oracle.sources(&rules.oracle.needed(asset, terms, &epoch.accept)));
    }
    any.then(|| plan_of("topupd/capture-plan/v1", &all))
}

fn plan_of(tag: &str, sources: &[&SourceSpec]) -> B256 {
    let mut bytes = Canonical::new(tag);
    for source in sources {
        bytes.bytes(source.hash().as_slice());
    }
    bytes.finish()
}

/// The sources that a payment at a time needs to be captured.
pub(in crate::tasks) fn wanted<'r>(
    rules: &'r ChainRules,
    token: &Address,
    time_ms: i64,
) -> Vec<&'r SourceSpec> {
    to_be_asked(rules, &rules.needed(token, time_ms))
}

/// The sources of pairs that are asked about a block; the others are sampled, or need not be asked.
fn to_be_asked<'r>(rules: &'r ChainRules, pairs: &[String]) -> Vec<&'r SourceSpec> {
    let mut sources = rules.oracle.sources(pairs);
    sources.retain(|s| !matches!(s.reads, Reads::Http(_) | Reads::Fixed { .. }));
    sources
}

/// What one round of questions came to.
struct Round<'a> {
    rules: &'a ChainRules,
    store: &'a LeasedStore,
    clock: &'a dyn Clock,
    /// Whether everything that a block needs is there.
    complete: BTreeMap<B256, bool>,
    /// When the first of a block's sources is asked again.
    next_try_at_ms: BTreeMap<B256, i64>,
    /// The sources of these blocks, all together.
    plan: B256,
    began_ms: i64,
    done: usize,
}

impl<'a> Round<'a> {
    fn new(
        rules: &'a ChainRules,
        store: &'a LeasedStore,
        clock: &'a dyn Clock,
        plan: B256,
    ) -> Self {
        let (complete, next_try_at_ms) = (BTreeMap::new(), BTreeMap::new());
        let began_ms = clock.now_ms();
        Self { rules, store, clock, complete, next_try_at_ms, plan, began_ms, done: 0 }
    }

    /// Asks the sources of each block that have not answered and do not rest. Returns how many were
    /// read.
    async fn ask<S: ChainSource>(
        mut self,
        market: &Market<S>,
        blocks: Vec<(QuoteBlock, Vec<&SourceSpec>)>,
        asked: &mut BTreeSet<(B256, B256)>,
    ) -> Result<usize, SettleError> {
        let now = self.began_ms;
        let mut asks = Vec::new();
        for (block, sources) in &blocks {
            let known = self.store.captures(self.rules.id, block.block.hash).await?;
            self.complete.insert(block.block.hash, true);
            let again = after::under_way(sources, &known).into_iter().map(Cow::Owned);
            for source in sources.iter().map(|s| Cow::Borrowed(*s)).chain(again) {
                let hash = source.hash();
                let before = known.iter().find(|c| c.source_hash == hash);
                let ready = before.is_some_and(|c| c.done_at_ms.is_some());
                let rests = before.is_some_and(|c| c.rests(now));
                if !ready && (rests || !asked.insert((block.block.hash, hash))) {
                    self.again_at(block.block.hash, before.map_or(now, |c| c.next_try_at_ms));
                } else if !ready {
                    asks.push(Ask {
                        block: *block,
                        source,
                        hash,
                        tries: before.map_or(0, |c| c.tries),
                        first_try_at_ms: before.map_or(now, |c| c.first_try_at_ms),
                        answers: Vec::new(),
                        no_state: false,
                        why: None,
                        done: false,
                    });
                }
            }
        }
        // Chains first, and stored before anybody else is waited for: nodes forget.
        let (mut on_chains, mut on_web): (Vec<_>, Vec<_>) =
            asks.into_iter().partition(|a| a.source.chain().is_some());
        let chains: BTreeSet<ChainId> = on_chains.iter().filter_map(|a| a.source.chain()).collect();
        for chain in chains {
            on_chain(self.rules, market, self.clock, chain, &mut on_chains).await;
        }
        self.keep(on_chains).await?;
        over_http(self.rules, market, self.clock, &mut on_web).await;
        self.keep(on_web).await?;
        self.finish().await
    }

    /// A block is not complete: somebody is asked about it again, at this time.
    fn again_at(&mut self, block: B256, at_ms: i64) {
        self.complete.insert(block, false);
        let first = self.next_try_at_ms.entry(block).or_insert(at_ms);
        *first = at_ms.min(*first);
    }

    /// Stores what was answered, and how far each source has been asked.
    async fn keep(&mut self, asks: Vec<Ask<'_>>) -> Result<(), SettleError> {
        let (mut quotes, mut captures) = (Vec::new(), Vec::new());
        let mut said: BTreeSet<B256> = BTreeSet::new();
        for ask in asks {
            let block_hash = ask.block.block.hash;
            let tries = ask.tries.saturating_add(1);
            let doublings = tries.saturating_sub(1).min(20);
            let pause = RETRY_MS.saturating_mul(1i64.wrapping_shl(doublings));
            let next = self.clock.now_ms().saturating_add(pause.min(RETRY_MAX_MS));
            if ask.done {
                self.done = self.done.saturating_add(1);
            } else {
                self.again_at(block_hash, next);
                // Of many blocks at once, one is enough to say so.
                if tries == 1 && said.insert(ask.hash) {
                    tracing::warn!(
                        chain.name = self.rules.name,
                        price.source = ask.source.name,
                        block.number = ask.block.block.number,
                        why = ask.why.as_deref().unwrap_or_default(),
                        "a price source does not answer"
                    );
                }
            }
            if let Some(again) = after::to_look_at(self.rules.id, &ask, self.clock.now_ms()) {
                self.again_at(block_hash, again.next_try_at_ms);
                captures.push(again);
            }
            captures.push(Capture {
                block_hash,
                source_hash: ask.hash,
                tries,
                why: if ask.done { None } else { ask.why },
                first_try_at_ms: ask.first_try_at_ms,
                next_try_at_ms: next,
                done_at_ms: ask.done.then(|| self.clock.now_ms()),
            });
            quotes.extend(ask.answers.into_iter().map(|(evidence, provider)| NewQuote {
                source: ask.source.name.clone(),
                source_hash: ask.hash,
                block: Some((self.rules.id, block_hash)),
                at_ms: ask.block.time_ms,
                evidence,
                provider,
            }));
        }
        let (chain, now) = (self.rules.id, self.clock.now_ms());
        Ok(self.store.commit_quotes(chain, &quotes, &captures, now).await?)
    }

    /// Notes which blocks need nothing more. Returns how many sources were read.
    async fn finish(self) -> Result<usize, SettleError> {
        let began_ms = self.began_ms;
        let captures: Vec<Capture> = self
            .complete
            .iter()
            .map(|(block_hash, complete)| Capture {
                block_hash: *block_hash,
                source_hash: self.plan,
                tries: 0,
                why: None,
                first_try_at_ms: began_ms,
                next_try_at_ms: self
                    .next_try_at_ms
                    .get(block_hash)
                    .copied()
                    .unwrap_or_else(|| began_ms.saturating_add(RETRY_MS)),
                done_at_ms: complete.then_some(began_ms),
            })
            .collect();
        self.store.commit_quotes(self.rules.id, &[], &captures, self.clock.now_ms()).await?;
        Ok(self.done)
    }
}

/// Asks the providers of one chain, one after the other, until enough of them say the same.
async fn on_chain<S: ChainSource>(
    rules: &ChainRules,
    market: &Market<S>,
    clock: &dyn Clock,
    chain: ChainId,
    asks: &mut [Ask<'_>],
) {
    let mut here: Vec<&mut Ask<'_>> =
        asks.iter_mut().filter(|a| a.source.chain() == Some(chain)).collect();
    let Some((_, pool)) = market.chains.get(&chain) else {
        for ask in &mut here {
            ask.why = Some(format!("chain {chain} is not configured"));
        }
        return;
    };
    let wanted = market.witnesses(chain);
    for source in pool.order(clock.now_ms()) {
        let mut open: Vec<&mut Ask<'_>> =
            here.iter_mut().map(|a| &mut **a).filter(|a| !a.agreed(rules.id, wanted)).collect();
        open.retain(|ask| !ask.source.is_after());
        if open.is_empty() {
            break;
        }
        open.retain_mut(|ask| match pool.contradicts(source, ask.hash) {
            Some(why) => {
                ask.why = Some(why);
                false
            }
            None => true,
        });
        if open.is_empty() {
            continue;
        }
        match at_blocks(source, rules.id, chain, &mut open).await {
            Ok(()) => pool.good(source),
            Err(error) => {
                for ask in &mut open {
                    ask.why = Some(error.to_string());
                }
                pool.record_failure(source, &error, clock.now_ms());
            }
        }
    }
    // Nobody keeps the state of that block: what the contracts remember will do.
    let is_late = |ask: &Ask<'_>| ask.no_state || ask.source.is_after();
    let late = here.iter().enumerate().filter(|(_, a)| is_late(a) && !a.agreed(rules.id, wanted));
    // Owned, because a stream of borrowed ones cannot cross threads.
    let instant =
        |b: &QuoteBlock| PriceInstant { chain: rules.id, block: b.block, time_ms: b.time_ms };
    let late: Vec<_> =
        late.map(|(i, a)| (i, a.source.clone().into_owned(), instant(&a.block))).collect();
    let mut late: BTreeMap<usize, Result<Vec<(Evidence, String)>, String>> = stream::iter(late)
        .map(|(i, source, at)| async move {
            (i, read_late(pool, clock, &source, chain, &at, wanted).await)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    for (i, ask) in here.iter_mut().enumerate() {
        match late.remove(&i) {
            Some(Ok(answers)) => ask.answers.extend(answers),
            Some(Err(why)) => ask.why = Some(why),
            None => {}
        }
        ask.done = ask.agreed(rules.id, wanted);
        if !ask.done && ask.why.is_none() {
            ask.why = Some(format!(
                "{} of {wanted} providers answer, or they contradict each other",
                ask.answers.len()
            ));
        }
    }
}

/// Asks one provider everything that is open, in as few requests as it takes.
async fn at_blocks<S: ChainSource>(
    source: &S,
    payments: ChainId,
    chain: ChainId,
    asks: &mut [&mut Ask<'_>],
) -> Result<(), SourceError> {
    let mut located: BTreeMap<i64, Result<(Header, i64), String>> = BTreeMap::new();
    let mut questions: Vec<(B256, Call)> = Vec::new();
    let mut parts = Vec::new();
    for ask in asks.iter_mut() {
        let (block, time_ms, next_time_ms) = if chain == payments {
            (ask.block.block, ask.block.time_ms, None)
        } else {
            let at = ask.block.time_ms;
            if let std::collections::btree_map::Entry::Vacant(entry) = located.entry(at) {
                entry.insert(last_block_at(source, at).await?);
            }
            match located.get(&at) {
                Some(Ok((header, next))) => (header.block(), header.time_ms, Some(*next)),
                Some(Err(why)) => {
                    ask.why = Some(why.clone());
                    parts.push(None);
                    continue;
                }
                None => continue,
            }
        };
        let calls = ask.source.calls();
        parts.push(Some((block, time_ms, next_time_ms, calls.len())));
        questions.extend(calls.into_iter().map(|call| (block.hash, call)));
    }
    let mut outcomes = source.call_at(&questions).await?.into_iter();
    let mut questions = questions.into_iter();
    for (ask, part) in asks.iter_mut().zip(parts) {
        let Some((block, block_time_ms, next_time_ms, many)) = part else { continue };
        let asked: Vec<_> = questions.by_ref().take(many).map(|(_, call)| call).collect();
        let answers: Vec<CallOutcome> = outcomes.by_ref().take(many).collect();
        match answered(asked, answers) {
            Ok(calls) => {
                let calls = Calls {
                    chain_id: chain,
                    block_number: block.number,
                    block_hash: block.hash,
                    block_time_ms,
                    next_time_ms,
                    late: false,
                    calls,
                };
                ask.answers.push((Evidence::Calls(calls), source.provider().to_owned()));
            }
            Err((no_state, why)) => {
                ask.no_state |= no_state;
                ask.why = Some(format!("{}: {why}", source.provider()));
            }
        }
    }
    Ok(())
}

/// Asks what is asked over HTTP about an instant: a few at once, and no longer than a round may last.
async fn over_http<S>(
    rules: &ChainRules,
    market: &Market<S>,
    clock: &dyn Clock,
    asks: &mut [Ask<'_>],
) {
    // Payments of one instant share an answer; a server that wants to be left alone is.
    let mut wanted: BTreeMap<(B256, i64), SourceSpec> = BTreeMap::new();
    for ask in asks.iter() {
        wanted.insert((ask.hash, ask.block.time_ms), ask.source.clone().into_owned());
    }
    let limited: Mutex<BTreeSet<B256>> = Mutex::default();
    let limited = &limited;
    let over = tokio::time::sleep(HTTP_ROUND);
    let given: BTreeMap<(B256, i64), Result<Evidence, String>> = stream::iter(wanted)
        .map(|((hash, time_ms), source)| async move {
            let limits = || limited.lock().unwrap_or_else(PoisonError::into_inner);
            if limits().contains(&hash) {
                return ((hash, time_ms), Err("http status 429".to_owned()));
            }
            let answer = match market.web.ask(&source, time_ms, clock).await {
                Some(Ok(body)) if body.status == 200 => Ok(Evidence::Body(body)),
                Some(Ok(body)) => {
                    if body.status == 429 {
                        limits().insert(hash);
                    }
                    Err(body.refusal())
                }
                Some(Err(why)) => Err(why),
                None => Err("it is not asked over HTTP".to_owned()),
            };
            ((hash, time_ms), answer)
        })
        .buffer_unordered(CONCURRENCY)
        .take_until(over)
        .collect()
        .await;
    for ask in asks.iter_mut() {
        let time_ms = ask.block.time_ms;
        match given.get(&(ask.hash, time_ms)) {
            Some(Ok(evidence)) => {
                let at = PriceInstant { chain: rules.id, block: ask.block.block, time_ms };
                let reading = read(&ask.source, evidence, &at);
                // What is no answer to the question may be one when it is asked again.
                let again = |code: &str| ["unreadable", "wrong_feed", "future"].contains(&code);
                match reading {
                    Err(reject) if again(reject.code) => ask.why = Some(reject.to_string()),
                    _ => ask.done = true,
                }
                // Of answers that are none, the first is kept.
                if ask.done || ask.tries == 0 {
                    ask.answers.push((evidence.clone(), ask.source.venue.clone()));
                }
            }
            Some(Err(why)) => ask.why = Some(why.clone()),
            None => ask.why = Some("it did not answer in time".to_owned()),
        }
    }
}
