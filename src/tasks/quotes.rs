//! Asks the sources of market prices about the blocks of payments, as soon as one is seen: nodes
//! forget the state after a block within minutes. What they answer is stored raw, and used only if
//! the payment confirms.
//!
//! Questions about many blocks go into one request. An answer of a contract counts when as many
//! providers give it as the chain's `verify` asks for. A source on another chain than the payment's
//! is read at the last block of its chain at or before the payment's time. Where the state is gone,
//! contracts that remember are asked in the state of today (`late`).

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use super::ChainRules;
use super::late::read_late;
use super::market::Market;
use super::settle::SettleError;
use crate::chain::{CallOutcome, ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::ids::ChainId;
use crate::domain::oracle::{Call, Called, Calls, Evidence, Reads, SourceSpec, quote_id};
use crate::domain::pricing::Valuation;
use crate::domain::seal::Canonical;
use crate::store::{Capture, LeasedStore, NewQuote, QuoteBlock};

/// Blocks that are asked about between two commits.
const BLOCKS: i64 = 64;
/// The first pause of a source that did not answer; it doubles each time.
const RETRY_MS: i64 = 1_000;
/// The longest.
const RETRY_MAX_MS: i64 = 300_000;
/// Headers looked at to find the block of a time.
const SEARCH_MAX: u32 = 64;

/// What an activation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captured {
    /// Sources that were read, of one block each.
    pub done: usize,
    /// There is more to do at once.
    pub more: bool,
}

/// A source to be asked about a payment's block.
struct Ask<'a> {
    block: QuoteBlock,
    source: &'a SourceSpec,
    hash: B256,
    tries: u32,
    first_try_at_ms: i64,
    /// Answers with who gave them.
    answers: Vec<(Evidence, String)>,
    /// A node said that the state is gone.
    no_state: bool,
    why: Option<String>,
    done: bool,
}

impl Ask<'_> {
    /// As many providers as are wanted gave one answer.
    fn agreed(&self, chain: ChainId, wanted: usize) -> bool {
        let mut by: BTreeMap<B256, BTreeSet<&str>> = BTreeMap::new();
        for (evidence, provider) in &self.answers {
            let id = quote_id(self.hash, Some((chain, self.block.block.hash)), &evidence.text());
            by.entry(id).or_default().insert(provider);
        }
        by.values().any(|providers| providers.len() >= wanted)
    }
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
        let done = one_round(rules, market, store, clock, (token.address, plan), found, &mut asked);
        let done = done.await?;
        captured.done = captured.done.saturating_add(done);
        captured.more |= full && done > 0;
    }
    Ok(captured)
}

/// The hash of all sources that payments in an asset may need; none where it has no market price.
fn plan(rules: &ChainRules, asset: &str) -> Option<B256> {
    let mut bytes = Canonical::new("topupd/capture-plan/v1");
    let mut any = false;
    for epoch in rules.epochs.all() {
        let Some(terms) = epoch.accept.get(asset) else { continue };
        let pairs = rules.oracle.needed(asset, terms, &epoch.accept);
        any |= matches!(terms.valuation, Valuation::Market { .. } | Valuation::Convert { .. });
        for source in rules.oracle.sources(&pairs) {
            bytes.bytes(source.hash().as_slice());
        }
    }
    any.then(|| bytes.finish())
}

/// The sources that a payment at a time needs to be captured.
fn wanted<'r>(rules: &'r ChainRules, token: &Address, time_ms: i64) -> Vec<&'r SourceSpec> {
    let Some((token, terms)) = rules.terms(token, time_ms) else { return Vec::new() };
    let Some(epoch) = rules.epochs.at(time_ms) else { return Vec::new() };
    let pairs = rules.oracle.needed(&token.asset, terms, &epoch.accept);
    let mut sources = rules.oracle.sources(&pairs);
    sources.retain(|s| !matches!(s.reads, Reads::Http(_) | Reads::Fixed { .. }));
    sources
}

async fn one_round<S: ChainSource>(
    rules: &ChainRules,
    market: &Market<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    (token, plan): (Address, B256),
    blocks: Vec<QuoteBlock>,
    asked: &mut BTreeSet<(B256, B256)>,
) -> Result<usize, SettleError> {
    let now = clock.now_ms();
    let (mut asks, mut captures) = (Vec::new(), Vec::new());
    // Whether everything that a block's payments in this token need is there.
    let mut complete: BTreeMap<B256, bool> = BTreeMap::new();
    for block in &blocks {
        let known = store.captures(rules.id, block.block.hash).await?;
        complete.insert(block.block.hash, true);
        for source in wanted(rules, &token, block.time_ms) {
            let hash = source.hash();
            let before = known.iter().find(|c| c.source_hash == hash);
            let ready = before.is_some_and(|c| c.done_at_ms.is_some());
            let rests = before.is_some_and(|c| c.next_try_at_ms > now);
            if !ready && (rests || !asked.insert((block.block.hash, hash))) {
                complete.insert(block.block.hash, false);
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
    let chains: BTreeSet<ChainId> = asks.iter().filter_map(|a| a.source.chain()).collect();
    for chain in chains {
        on_chain(rules, market, clock, chain, &mut asks).await;
    }
    over_http(market, clock, &mut asks).await;

    let mut quotes = Vec::new();
    let mut done = 0usize;
    for ask in asks {
        let tries = ask.tries.saturating_add(1);
        let pause = RETRY_MS.saturating_mul(1i64.wrapping_shl(tries.saturating_sub(1).min(20)));
        let next = clock.now_ms().saturating_add(pause.min(RETRY_MAX_MS));
        if ask.done {
            done = done.saturating_add(1);
        } else {
            complete.insert(ask.block.block.hash, false);
            if tries == 1 {
                tracing::warn!(
                    chain.name = rules.name,
                    price.source = ask.source.name,
                    block.number = ask.block.block.number,
                    why = ask.why.as_deref().unwrap_or_default(),
                    "a price source does not answer"
                );
            }
        }
        captures.push(Capture {
            block_hash: ask.block.block.hash,
            source_hash: ask.hash,
            tries,
            why: if ask.done { None } else { ask.why },
            first_try_at_ms: ask.first_try_at_ms,
            next_try_at_ms: next,
            done_at_ms: ask.done.then(|| clock.now_ms()),
        });
        quotes.extend(ask.answers.into_iter().map(|(evidence, provider)| NewQuote {
            source: ask.source.name.clone(),
            source_hash: ask.hash,
            block: Some((rules.id, ask.block.block.hash)),
            at_ms: ask.block.time_ms,
            evidence,
            provider,
        }));
    }
    for (block_hash, complete) in complete {
        // The plan itself rests as long as the source that is asked again first.
        let next = captures
            .iter()
            .filter(|c| c.block_hash == block_hash && c.done_at_ms.is_none())
            .map(|c| c.next_try_at_ms)
            .min();
        captures.push(Capture {
            block_hash,
            source_hash: plan,
            tries: 0,
            why: None,
            first_try_at_ms: now,
            next_try_at_ms: next.unwrap_or_else(|| now.saturating_add(RETRY_MS)),
            done_at_ms: complete.then_some(now),
        });
    }
    store.commit_quotes(rules.id, &quotes, &captures, clock.now_ms()).await?;
    Ok(done)
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
        if open.is_empty() {
            break;
        }
        match at_blocks(source, rules.id, chain, &mut open).await {
            Ok(()) => pool.good(source),
            Err(error) => {
                for ask in &mut open {
                    ask.why = Some(error.to_string());
                }
                pool.bad(source, &error, clock.now_ms());
            }
        }
    }
    // Nobody keeps the state of that block: what the contracts remember will do.
    for ask in &mut here {
        if ask.no_state && !ask.agreed(rules.id, wanted) {
            match read_late(pool, clock, ask.source, chain, ask.block.time_ms, wanted).await {
                Ok(answers) => ask.answers.extend(answers),
                Err(why) => ask.why = Some(why),
            }
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

/// Asks one provider about a source in the state after one block of its chain; why there is no
/// answer, otherwise. Stores nothing: for whoever looks at a price now.
///
/// # Errors
/// When the provider does not answer at all.
pub async fn asked_at<S: ChainSource>(
    source: &S,
    spec: &SourceSpec,
    chain: ChainId,
    header: &Header,
) -> Result<Result<Evidence, String>, SourceError> {
    let asked = spec.calls();
    let questions: Vec<_> = asked.iter().map(|call| (header.hash, call.clone())).collect();
    let outcomes = source.call_at(&questions).await?;
    Ok(answered(asked, outcomes)
        .map(|calls| {
            Evidence::Calls(Calls {
                chain_id: chain,
                block_number: header.number,
                block_hash: header.hash,
                block_time_ms: header.time_ms,
                next_time_ms: None,
                late: false,
                calls,
            })
        })
        .map_err(|(_, why)| why))
}

/// Questions with their answers, if each has one; else whether the state is gone, and why.
pub(super) fn answered(
    asked: Vec<Call>,
    outcomes: Vec<CallOutcome>,
) -> Result<Vec<Called>, (bool, String)> {
    if asked.len() != outcomes.len() {
        return Err((false, "answers are missing".into()));
    }
    asked
        .into_iter()
        .zip(outcomes)
        .map(|(call, outcome)| match outcome {
            CallOutcome::Answered(answer) => Ok(Called { to: call.to, data: call.data, answer }),
            CallOutcome::NoState(why) => Err((true, why)),
            CallOutcome::Failed(why) => Err((false, why)),
        })
        .collect()
}

/// The last block of a chain at or before a time, with the time of the block after it; why there is
/// none yet, otherwise.
async fn last_block_at<S: ChainSource>(
    source: &S,
    time_ms: i64,
) -> Result<Result<(Header, i64), String>, SourceError> {
    let tip = source.latest().await?;
    if tip.time_ms <= time_ms {
        return Ok(Err("its chain has no block after the payment yet".into()));
    }
    let missing = || format!("{} does not show its blocks", source.provider());
    // Between a block at or before the time and one after it; where to look is guessed by time.
    let (mut low, mut high) = (None::<Header>, tip);
    let mut step = 1u64;
    for _ in 0..SEARCH_MAX {
        let at = match &low {
            Some(low) if high.number == low.number.saturating_add(1) => {
                return Ok(Ok((*low, high.time_ms)));
            }
            Some(low) => between(low, &high, time_ms),
            None if high.number == 0 => return Ok(Err("its chain began later".into())),
            None => {
                let back = high.number.saturating_sub(step);
                step = step.saturating_mul(4);
                back
            }
        };
        let Some(header) = source.header_at(at).await? else { return Ok(Err(missing())) };
        if header.time_ms <= time_ms {
            low = Some(header);
        } else {
            high = header;
        }
    }
    Ok(Err("its block of that time was not found".into()))
}

/// A height strictly between two, where the time should be if blocks come evenly.
fn between(low: &Header, high: &Header, time_ms: i64) -> u64 {
    let part = |ms: i64| u128::from(u64::try_from(ms).unwrap_or(0));
    let span = part(high.time_ms.saturating_sub(low.time_ms)).max(1);
    let into = part(time_ms.saturating_sub(low.time_ms));
    let blocks = high.number.saturating_sub(low.number);
    let guess = u128::from(blocks).saturating_mul(into).checked_div(span).unwrap_or(0);
    let guess = low.number.saturating_add(u64::try_from(guess).unwrap_or(u64::MAX));
    guess.clamp(low.number.saturating_add(1), high.number.saturating_sub(1))
}

/// Asks what is asked over HTTP about an instant.
async fn over_http<S>(market: &Market<S>, clock: &dyn Clock, asks: &mut [Ask<'_>]) {
    // Payments of one second share an answer.
    let mut given: BTreeMap<(B256, i64), Result<Evidence, String>> = BTreeMap::new();
    for ask in asks.iter_mut() {
        let key = (ask.hash, ask.block.time_ms);
        if let std::collections::btree_map::Entry::Vacant(entry) = given.entry(key) {
            let Some(answer) = market.web.ask(ask.source, ask.block.time_ms, clock).await else {
                continue;
            };
            entry.insert(match answer {
                Ok(body) if body.status == 200 => Ok(Evidence::Body(body)),
                Ok(body) => Err(format!("http status {}", body.status)),
                Err(why) => Err(why),
            });
        }
        match given.get(&key) {
            Some(Ok(evidence)) => {
                ask.answers.push((evidence.clone(), ask.source.venue.clone()));
                ask.done = true;
            }
            Some(Err(why)) => ask.why = Some(why.clone()),
            None => {}
        }
    }
}
