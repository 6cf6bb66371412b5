//! Prices of a past instant where no node keeps its state: what contracts remember of it.
//!
//! A Chainlink feed remembers its rounds: the one in force is looked for in each of its phases, and
//! what follows on it is the proof. A Uniswap pool remembers its observations: the window that ended at the instant is
//! asked about. Both are read in the state of the newest block, whose hash is part of the evidence,
//! and every provider is asked the same questions at the same block.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use crate::chain::pool::Pool;
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::ids::ChainId;
use crate::domain::oracle::reading::{Call, CallAnswer, Called, Calls, PriceInstant};
use crate::domain::oracle::round::{Round, Since, decode, latest_round, round, round_id};
use crate::domain::oracle::rounds::{PHASES_MAX, beyond, up_to};
use crate::domain::oracle::source::{Evidence, Reads, SourceSpec, read};
use crate::domain::oracle::uniswap_after::AFTER_MS;
use crate::planted::{Fault, planted};
use crate::tasks::prices::ask::answered;

/// Rounds asked for in one request while looking for the one in force.
const ROUNDS: u64 = 16;
/// Such requests at most: enough for any number of rounds, 17-fold fewer each time.
const SEARCHES: u32 = 24;

/// Reads a source about a past instant, from as many providers as are wanted.
///
/// The questions follow from one provider's newest block. What an answer rests on, each witness says
/// for itself: it reads the header of that block by its hash, and a time or height of its own makes its
/// answer another one. Where too few agree, or what they agree on says nothing, the next provider's
/// newest block is asked about: the first one may lie, or be alone with it.
///
/// # Errors
/// Why it cannot be read.
pub(in crate::tasks) async fn read_late<S: ChainSource>(
    pool: &Pool<S>,
    clock: &dyn Clock,
    source: &SourceSpec,
    chain: ChainId,
    at: &PriceInstant,
    wanted: usize,
) -> Result<Vec<(Evidence, String)>, String> {
    let mut order = pool.order(clock.now_ms());
    let mut answers: Vec<(Evidence, String)> = Vec::new();
    let mut why = "no provider answers".to_owned();
    let hash = source.hash();
    order.retain(|provider| {
        let contradicted = pool.contradicts(provider, hash);
        contradicted.map(|said| why = said).is_none()
    });
    for first in &order {
        let asked = match proposed(*first, source, at.time_ms).await {
            Ok(Some(asked)) => asked,
            Ok(None) => {
                why = match source.is_after() {
                    true => format!("{} has no block yet that is as late", first.provider()),
                    false => format!("{}: it is behind", first.provider()),
                };
                continue;
            }
            Err(error) => {
                why = error.to_string();
                pool.record_failure(*first, &error, clock.now_ms());
                continue;
            }
        };
        let mut by: BTreeMap<String, (usize, Evidence)> = BTreeMap::new();
        let others = order.iter().filter(|other| other.provider() != first.provider());
        for witness in std::iter::once(first).chain(others) {
            let evidence = match testimony(*witness, chain, &asked).await {
                Ok(Ok(evidence)) => evidence,
                Ok(Err(said)) => {
                    why = format!("{}: {said}", witness.provider());
                    continue;
                }
                Err(error) => {
                    why = error.to_string();
                    pool.record_failure(*witness, &error, clock.now_ms());
                    continue;
                }
            };
            // Who proposed the questions may have left some out: with others there may be an answer.
            if let Err(reject) = read(source, &evidence, at)
                && reject.is_of_the_questions()
            {
                why = format!("{}: {reject}", first.provider());
                break;
            }
            answers.push((evidence.clone(), witness.provider().to_owned()));
            let (said_by, evidence) = by.entry(evidence.text()).or_insert((0, evidence));
            *said_by = said_by.saturating_add(1);
            if *said_by >= wanted {
                if read(source, evidence, at).is_ok() {
                    return Ok(answers);
                }
                break;
            }
        }
    }
    if answers.is_empty() { Err(why) } else { Ok(answers) }
}

/// The newest block of a provider, and what must be asked there; `None` where it lies before the
/// instant, or before what is to be looked at is over.
async fn proposed<S: ChainSource>(
    provider: &S,
    source: &SourceSpec,
    at_ms: i64,
) -> Result<Option<(Header, Vec<Call>)>, SourceError> {
    let block = provider.latest().await?;
    let after_ms = if source.is_after() { AFTER_MS } else { 0 };
    if block.time_ms < at_ms.saturating_add(after_ms) {
        return Ok(None);
    }
    Ok(Some((block, questions(provider, source, &block, at_ms).await?)))
}

/// What a provider answers to the questions at a block, with its own header of it; why it does not,
/// otherwise.
async fn testimony<S: ChainSource>(
    provider: &S,
    chain: ChainId,
    (block, questions): &(Header, Vec<Call>),
) -> Result<Result<Evidence, String>, SourceError> {
    let own = match planted(Fault::LateTimeOfOne) {
        true => Some(*block),
        false => provider.header(block.hash).await?,
    };
    let Some(own) = own.filter(|own| own.hash == block.hash) else {
        return Ok(Err("it does not have the block asked about".into()));
    };
    let asked: Vec<_> = questions.iter().map(|call| (own.hash, call.clone())).collect();
    let outcomes = provider.call_at(&asked).await?;
    Ok(answered(questions.clone(), outcomes).map_err(|(_, why)| why).map(|calls| {
        Evidence::Calls(Calls {
            chain_id: chain,
            block_number: own.number,
            block_hash: own.hash,
            block_time_ms: own.time_ms,
            next_time_ms: None,
            late: true,
            calls,
        })
    }))
}

/// What must be asked at a block to know what the source said at the instant.
async fn questions<S: ChainSource>(
    provider: &S,
    source: &SourceSpec,
    block: &Header,
    at_ms: i64,
) -> Result<Vec<Call>, SourceError> {
    let ended = block.time_ms.saturating_sub(at_ms).checked_div(1_000).unwrap_or(0);
    let ended = u32::try_from(ended).unwrap_or(u32::MAX);
    match &source.reads {
        Reads::UniswapV3(pool) => Ok(pool.late_calls(ended)),
        Reads::UniswapV3After(pool) => Ok(vec![pool.after_call(ended)]),
        Reads::Chainlink(feed) => {
            let mut calls = Vec::new();
            for (address, since) in feed.feeds() {
                let of_feed = questions_of_feed(provider, address, since, block.hash, at_ms);
                calls.extend(of_feed.await?);
            }
            Ok(calls)
        }
        Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => Ok(Vec::new()),
    }
}

/// The questions that show which round of a feed was in force ([`crate::domain::oracle::rounds`]): the newest round, and of
/// every phase the one in force then with the one after it, its last, or its first.
async fn questions_of_feed<S: ChainSource>(
    provider: &S,
    feed: Address,
    since: Since,
    block: B256,
    at_ms: i64,
) -> Result<Vec<Call>, SourceError> {
    let ask = Asking { provider, feed, block, since };
    let mut calls = vec![latest_round(feed)];
    let Some(latest) = ask.one(latest_round(feed)).await? else { return Ok(calls) };
    let newest = latest.phase();
    if newest > PHASES_MAX {
        return Ok(calls);
    }
    for phase in newest.min(1)..=newest {
        let known =
            if phase == newest { Some(latest.number()) } else { ask.some_of(phase).await? };
        // Nothing is found of it, and that will be said.
        let Some(known) = known else { continue };
        let last = if phase == newest { known } else { ask.last_after(phase, known).await? };
        let mut in_force = ask.last_until(phase, 0, last, at_ms).await?;
        let mut numbers = Vec::new();
        if in_force.is_none() {
            let first = ask.first_before(phase, known).await?;
            in_force = ask.last_until(phase, first.saturating_sub(1), last, at_ms).await?;
            numbers.extend(up_to(first));
        }
        if let Some(number) = in_force {
            let next = number.saturating_add(1);
            numbers.extend([number, next]);
            if number == last && phase < newest {
                numbers.extend(beyond(number));
            }
        }
        calls.extend(numbers.into_iter().map(|number| round(feed, round_id(phase, number))));
    }
    Ok(calls)
}

struct Asking<'a, S> {
    provider: &'a S,
    feed: Address,
    block: B256,
    /// Since when a round is in force.
    since: Since,
}

impl<S: ChainSource> Asking<'_, S> {
    async fn one(&self, call: Call) -> Result<Option<Round>, SourceError> {
        Ok(self.many(vec![call]).await?.pop().flatten())
    }

    /// Rounds that are there and answered; `None` for others.
    async fn many(&self, calls: Vec<Call>) -> Result<Vec<Option<Round>>, SourceError> {
        let at: Vec<_> = calls.iter().map(|c| (self.block, c.clone())).collect();
        let outcomes = self.provider.call_at(&at).await?;
        let called = answered(calls, outcomes).map_err(|(_, why)| SourceError::Refused {
            provider: self.provider.provider().to_owned(),
            method: "eth_call",
            why,
        })?;
        let read = |called: &Called| match &called.answer {
            CallAnswer::Returned(bytes) => decode(bytes).ok().filter(|r| r.updated_ms > 0),
            CallAnswer::Reverted(_) => None,
        };
        Ok(called.iter().map(read).collect())
    }

    /// The number of the last round after `before_first` and up to `end` that was answered at or before the instant. Rounds
    /// of a phase are numbered in order of time, and some may be missing.
    async fn last_until(
        &self,
        phase: u16,
        before_first: u64,
        end: u64,
        at_ms: i64,
    ) -> Result<Option<u64>, SourceError> {
        let (mut low, mut high) = (before_first, end.saturating_add(1));
        let mut spread = true;
        for _ in 0..SEARCHES {
            let span = high.saturating_sub(low);
            if span <= 1 {
                break;
            }
            let step =
                if spread { span.checked_div(ROUNDS.saturating_add(1)).unwrap_or(0) } else { 1 };
            let numbers: Vec<u64> = (1..=ROUNDS)
                .map(|i| low.saturating_add(step.max(1).saturating_mul(i)))
                .filter(|n| *n < high)
                .collect();
            let found = self.numbers(phase, &numbers).await?;
            let known = || numbers.iter().zip(&found).filter_map(|(n, r)| Some((*n, (*r)?)));
            let above = known().find(|(_, r)| (self.since)(r) > at_ms).map(|(n, _)| n);
            high = above.unwrap_or(high);
            let below = known().rfind(|(n, r)| *n < high && (self.since)(r) <= at_ms);
            low = below.map_or(low, |(n, _)| n);
            if above.is_none() && below.is_none() {
                // All of them are missing: those next to what is known decide.
                if !spread || step <= 1 {
                    break;
                }
                spread = false;
            }
        }
        Ok((low > before_first).then_some(low))
    }

    /// Rounds of a phase by their numbers.
    async fn numbers(
        &self,
        phase: u16,
        numbers: &[u64],
    ) -> Result<Vec<Option<Round>>, SourceError> {
        let calls = numbers.iter().map(|n| round(self.feed, round_id(phase, *n)));
        self.many(calls.collect()).await
    }

    /// The number of some round of an earlier phase: the highest power of two that is one.
    async fn some_of(&self, phase: u16) -> Result<Option<u64>, SourceError> {
        let powers: Vec<u64> = (0..32u32).map(|bit| 1u64.wrapping_shl(bit)).collect();
        let found = self.numbers(phase, &powers).await?;
        Ok(powers.into_iter().zip(found).filter_map(|(n, round)| round.map(|_| n)).next_back())
    }

    /// The last of the rounds that follow on one that is there, where twice its number is not.
    async fn last_after(&self, phase: u16, known: u64) -> Result<u64, SourceError> {
        let (mut low, mut high) = (known, known.saturating_mul(2));
        while let Some(numbers) = between(low, high) {
            let found = self.numbers(phase, &numbers).await?;
            match numbers.iter().zip(&found).find(|(_, round)| round.is_none()) {
                Some((missing, _)) => high = *missing,
                None => low = numbers.last().copied().unwrap_or(high),
            }
            low = numbers.into_iter().filter(|n| *n < high).fold(low, u64::max);
        }
        Ok(low)
    }

    /// The first of the rounds that lead without a gap to one that is there.
    async fn first_before(&self, phase: u16, known: u64) -> Result<u64, SourceError> {
        let (mut low, mut high) = (0, known);
        while let Some(numbers) = between(low, high) {
            let found = self.numbers(phase, &numbers).await?;
            match numbers.iter().zip(&found).rfind(|(_, round)| round.is_none()) {
                Some((missing, _)) => low = *missing,
                None => high = numbers.first().copied().unwrap_or(low),
            }
            high = numbers.into_iter().filter(|n| *n > low).fold(high, u64::min);
        }
        Ok(high)
    }
}

/// Up to so many numbers between two others, spread evenly; `None` where there is none.
fn between(low: u64, high: u64) -> Option<Vec<u64>> {
    let inner = high.saturating_sub(low).checked_sub(1).filter(|inner| *inner > 0)?;
    let step = inner.checked_div(ROUNDS)?.saturating_add(1);
    let numbers = (1..=ROUNDS).map(|i| low.saturating_add(step.saturating_mul(i)));
    Some(numbers.filter(|n| *n < high).collect())
}
