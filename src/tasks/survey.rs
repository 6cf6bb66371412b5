//! Compare the providers with each other: who is behind, who is on another fork; and admit those
//! that were not there before.
//!
//! It changes the pool's order and nothing else. Which fork is followed, the majority decides, a few
//! blocks below the tip, where forks are rare; of two that contradict each other none is believed,
//! and the chain is followed no further than can be taken back.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use futures_util::future::join_all;

use super::admit::admit;
use crate::chain::pool::{Aside, Pool};
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::Cursor;
use crate::store::{ChainState, Store, StoreError};
use crate::tasks::settle::waiting::STALLED_MS;

/// Forks that reach no deeper than this are left to settle by themselves.
const DEPTH: u64 = 3;

/// Asks every provider for its tip, and compares them at a block that all should have.
///
/// # Errors
/// When the database fails. A provider that fails is noted in the pool.
pub async fn survey<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &Store,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let answers = join_all(
        pool.all().map(|source| async move { (source, tip(rules, pool, source, clock).await) }),
    );
    let mut tips: Vec<(&S, Header)> = Vec::new();
    for (source, answer) in answers.await {
        match answer {
            Ok(Some(tip)) => {
                pool.good(source);
                pool.saw(source, tip.block());
                tips.push((source, tip));
            }
            Ok(None) => {}
            Err(error) => pool.record_failure(source, &error, clock.now_ms()),
        }
    }
    if tips.is_empty() {
        return Ok(());
    }
    let state = store.chain_state(rules.id, rules.window).await?;
    // Of three or more, a height that only one of them claims proves nothing about the others.
    let mut heights: Vec<u64> = tips.iter().map(|(_, tip)| tip.number).collect();
    heights.sort_unstable_by(|a, b| b.cmp(a));
    let place = usize::from(heights.len() > 2);
    let of = heights.get(place).copied().unwrap_or_default();
    // Who is far below what was scanned cannot say whether it is on that chain.
    let scanned = match state.cursor {
        Cursor::At(at) => at.number,
        Cursor::Fresh => 0,
    };
    let all = tips.clone();
    let (behind, current): (Vec<_>, Vec<_>) = tips.into_iter().partition(|(_, tip)| {
        tip.number.saturating_add(rules.lag_max) < of
            || tip.number.saturating_add(rules.window) < scanned
    });
    for (source, tip) in behind {
        let of = of.max(scanned);
        pool.set_aside(source, Some(Aside::Behind { at: tip.number, of }));
    }
    for (source, tip) in &current {
        let others = all.iter().filter(|(other, _)| other.provider() != source.provider());
        let highest = others.map(|(_, tip)| tip.number.saturating_add(rules.lag_max)).max();
        match pool.aside(*source) {
            Some(Aside::Behind { .. }) => pool.set_aside(*source, None),
            Some(Aside::Ahead { .. }) if highest.is_some_and(|most| tip.number <= most) => {
                pool.set_aside(*source, None);
            }
            _ => {}
        }
    }
    if pool.len() < 2 {
        return Ok(());
    }
    // Of two, the one that is behind has a vote all the same: the other one may have made it up.
    let voters = if pool.len() == 2 { &all } else { &current };
    compare(rules, pool, store, clock, &state, voters).await
}

/// Finds a chain of which no new block was followed for long; with the next one that is over.
pub async fn stands_still<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &Store,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let now = clock.now_ms();
    let Some((cursor, moved_at_ms)) = store.cursor(rules.id).await? else { return Ok(()) };
    let is_still = moved_at_ms <= now.saturating_sub(STALLED_MS);
    let (chain, kind) = (Some(rules.id), FindingKind::ChainStill);
    let stood = store.standing_findings(chain, kind).await?;
    if is_still && stood.is_empty() {
        let providers: BTreeMap<_, _> =
            pool.standings(now).into_iter().map(|s| (s.provider, s.state)).collect();
        let detail = serde_json::json!({
            "block_number": cursor.number, "since_ms": moved_at_ms, "providers": providers,
        });
        let subject = "blocks".to_owned();
        store.note(&NewFinding { chain, kind, subject, detail }, now).await?;
    }
    if !is_still {
        for subject in stood {
            store.gone(&Gone { chain, kind, subject }, now).await?;
        }
    }
    Ok(())
}

/// The tip of a provider that may be asked, or that shows now that it may be. One that is on another
/// chain by now, without having failed, is asked no more.
async fn tip<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    source: &S,
    clock: &dyn Clock,
) -> Result<Option<Header>, SourceError> {
    if !pool.is_admitted(source) && !admit(rules, pool, source, clock).await {
        return Ok(None);
    }
    let is_other = source.chain_id().await? != rules.id.0;
    let again = is_other || pool.is_to_be_checked(source, clock.now_ms());
    if again && !admit(rules, pool, source, clock).await {
        return Ok(None);
    }
    source.latest().await.map(Some)
}

/// Lets the providers vote on a block of the chain followed.
async fn compare<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &Store,
    clock: &dyn Clock,
    state: &ChainState,
    tips: &[(&S, Header)],
) -> Result<(), StoreError> {
    let Cursor::At(cursor) = state.cursor else { return Ok(()) };
    let Some(lowest) = tips.iter().map(|(_, tip)| tip.number).min() else { return Ok(()) };
    // Where everybody is far above the cursor, in catch-up or because two do not have the same, what
    // comes next is compared; at the tip, a few blocks below it.
    let next = cursor.number.saturating_add(1);
    let number = if lowest >= next.saturating_add(DEPTH) {
        next
    } else {
        lowest.min(cursor.number).saturating_sub(DEPTH)
    };
    let ours = state.view.at(number).map(|b| b.hash);
    if ours.is_none() && number != next {
        return Ok(());
    }
    let votes = join_all(
        tips.iter().map(|(source, _)| async move { (*source, source.header_at(number).await) }),
    );
    let mut by_hash: BTreeMap<B256, Vec<&S>> = BTreeMap::new();
    for (source, vote) in votes.await {
        match vote {
            Ok(Some(header)) => by_hash.entry(header.hash).or_default().push(source),
            Ok(None) => {}
            Err(error) => pool.record_failure(source, &error, clock.now_ms()),
        }
    }
    // Of a block that comes next, none is ours yet: then the one that most have is.
    let most = || by_hash.iter().max_by_key(|(_, s)| s.len()).map(|(hash, _)| *hash);
    let ours = ours.or_else(most).unwrap_or_default();
    let support = by_hash.get(&ours).map_or(0, Vec::len);
    let most = by_hash.iter().filter(|(hash, _)| **hash != ours).map(|(_, s)| s.len()).max();
    let against = most.unwrap_or(0);
    let tie = against > 0 && against == support;
    for (hash, sources) in &by_hash {
        let wins = if against > support { sources.len() == against } else { *hash == ours };
        for source in sources {
            if wins || tie {
                if matches!(pool.aside(*source), Some(Aside::OtherFork { .. })) {
                    pool.set_aside(*source, None);
                }
            } else {
                pool.set_aside(*source, Some(Aside::OtherFork { number }));
            }
        }
    }
    // The height where it began, however far the chain is followed since.
    let began = pool.contested().map_or(number, |before| before.min(number));
    let silent = support == 0 && against == 0;
    let before = if silent { pool.contested() } else { pool.contest(tie.then_some(began)) };
    if tie && before.is_none() {
        let answers: BTreeMap<String, Vec<&str>> = by_hash
            .iter()
            .map(|(hash, s)| (hash.to_string(), s.iter().map(|s| s.provider()).collect()))
            .collect();
        tracing::error!(chain.name = rules.name, block.number = number, answers = ?answers,
            "the providers contradict each other and none has a majority: nothing of it is credited, and the chain is followed no further than can be taken back; remove the one that is wrong, or add a third");
        let detail = serde_json::json!({ "block_number": number, "answers": answers });
        let finding = NewFinding {
            chain: Some(rules.id),
            kind: FindingKind::ForkContested,
            subject: format!("block {number}"),
            detail,
        };
        store.note(&finding, clock.now_ms()).await?;
    } else if !tie && !silent {
        if before.is_some() {
            tracing::info!(chain.name = rules.name, "the providers agree again");
        }
        // Also those that another process had found, before this one started.
        let (chain, kind) = (Some(rules.id), FindingKind::ForkContested);
        for subject in store.standing_findings(chain, kind).await? {
            store.gone(&Gone { chain, kind, subject }, clock.now_ms()).await?;
        }
    }
    Ok(())
}
