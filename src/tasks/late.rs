//! Prices of a past instant where no node keeps its state: what contracts remember of it.
//!
//! A Chainlink feed remembers its rounds: the one in force is looked for, and the one after it is
//! the proof. A Uniswap pool remembers its observations: the window that ended at the instant is
//! asked about. Both are read in the state of the newest block, whose hash is part of the evidence,
//! and every provider is asked the same questions at the same block.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};

use super::ask::answered;
use crate::chain::pool::Pool;
use crate::chain::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::ids::ChainId;
use crate::domain::oracle::chainlink::{Round, Since, decode, latest_round, round, round_id};
use crate::domain::oracle::{
    Call, CallAnswer, Called, Calls, Evidence, Instant, Reads, SourceSpec, read,
};
use crate::planted::{Fault, planted};

/// Rounds asked for in one request while looking for the one in force.
const ROUNDS: u64 = 16;
/// Phases looked at, the newest first: a feed has had a few.
const PHASES: u32 = 8;
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
pub(super) async fn read_late<S: ChainSource>(
    pool: &Pool<S>,
    clock: &dyn Clock,
    source: &SourceSpec,
    chain: ChainId,
    at: &Instant,
    wanted: usize,
) -> Result<Vec<(Evidence, String)>, String> {
    let order = pool.order(clock.now_ms());
    let mut answers: Vec<(Evidence, String)> = Vec::new();
    let mut why = "no provider answers".to_owned();
    for first in &order {
        let asked = match proposed(*first, source, at.time_ms).await {
            Ok(Some(asked)) => asked,
            Ok(None) => {
                why = format!("{}: it is behind", first.provider());
                continue;
            }
            Err(error) => {
                why = error.to_string();
                pool.bad(*first, &error, clock.now_ms());
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
                    pool.bad(*witness, &error, clock.now_ms());
                    continue;
                }
            };
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
/// instant.
async fn proposed<S: ChainSource>(
    provider: &S,
    source: &SourceSpec,
    at_ms: i64,
) -> Result<Option<(Header, Vec<Call>)>, SourceError> {
    let block = provider.latest().await?;
    if block.time_ms < at_ms {
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
    match &source.reads {
        Reads::UniswapV3(pool) => {
            let ended = block.time_ms.saturating_sub(at_ms).checked_div(1_000).unwrap_or(0);
            Ok(pool.late_calls(u32::try_from(ended).unwrap_or(u32::MAX)))
        }
        Reads::Chainlink(feed) => {
            let mut calls = Vec::new();
            for (address, since) in feed.feeds() {
                calls.extend(rounds(provider, address, since, block.hash, at_ms).await?);
            }
            Ok(calls)
        }
        Reads::Pyth(_) | Reads::Http(_) | Reads::Fixed { .. } => Ok(Vec::new()),
    }
}

/// The questions that show which round of a feed was in force: the newest round, that round, and
/// what came after it.
async fn rounds<S: ChainSource>(
    provider: &S,
    feed: Address,
    since: Since,
    block: B256,
    at_ms: i64,
) -> Result<Vec<Call>, SourceError> {
    let ask = Asking { provider, block, since };
    let mut calls = vec![latest_round(feed)];
    let Some(latest) = ask.one(latest_round(feed)).await? else { return Ok(calls) };
    if since(&latest) <= at_ms {
        calls.push(round(feed, latest.id));
        return Ok(calls);
    }
    let mut phase = latest.phase();
    let mut end = latest.number();
    for _ in 0..PHASES {
        if let Some(number) = ask.last_until(feed, phase, end, at_ms).await? {
            for next in [number, number.saturating_add(1)] {
                calls.push(round(feed, round_id(phase, next)));
            }
            if phase < latest.phase() {
                calls.push(round(feed, round_id(phase.saturating_add(1), 1)));
            }
            return Ok(calls);
        }
        let Some(before) = phase.checked_sub(1).filter(|p| *p > 0) else { return Ok(calls) };
        phase = before;
        end = ask.last_of(feed, phase).await?;
    }
    Ok(calls)
}

struct Asking<'a, S> {
    provider: &'a S,
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

    /// The number of the last round up to `end` that was answered at or before the instant. Rounds
    /// of a phase are numbered in order of time, and some may be missing.
    async fn last_until(
        &self,
        feed: Address,
        phase: u16,
        end: u64,
        at_ms: i64,
    ) -> Result<Option<u64>, SourceError> {
        let (mut low, mut high) = (0u64, end.saturating_add(1));
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
            let calls = numbers.iter().map(|n| round(feed, round_id(phase, *n))).collect();
            let found = self.many(calls).await?;
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
        Ok((low > 0).then_some(low))
    }

    /// The number of the last round of an earlier phase: doubled until it is missing, then halved.
    async fn last_of(&self, feed: Address, phase: u16) -> Result<u64, SourceError> {
        let calls = (0..32u32).map(|bit| round(feed, round_id(phase, 1u64.wrapping_shl(bit))));
        let found = self.many(calls.collect()).await?;
        let top = found.iter().rposition(Option::is_some).and_then(|bit| u32::try_from(bit).ok());
        let Some(top) = top else { return Ok(0) };
        let (mut low, mut high) =
            (1u64.wrapping_shl(top), 1u64.wrapping_shl(top.saturating_add(1)));
        while high.saturating_sub(low) > 1 {
            let middle = low.saturating_add(high.saturating_sub(low).checked_div(2).unwrap_or(0));
            match self.one(round(feed, round_id(phase, middle))).await? {
                Some(_) => low = middle,
                None => high = middle,
            }
        }
        Ok(low)
    }
}
