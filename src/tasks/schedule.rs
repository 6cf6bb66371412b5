//! Prices that are taken though nobody pays, so that the next payment's price is compared with
//! something, and people see when sources fail or a breaker opens before a payment does.
//!
//! Such a price is one like any other, of a block of the chain: asked about at once, accepted when
//! the block is final. A block that gives none is not held on to: the next one comes.

use std::collections::BTreeSet;

use super::ChainRules;
use super::market::{Priced, Prices};
use super::settle::SettleError;
use crate::chain::ChainSource;
use crate::clock::Clock;
use crate::domain::finality::{Finality, Heads};
use crate::domain::ids::BlockRef;
use crate::domain::oracle::Instant;
use crate::store::{LeasedStore, QuoteBlock, StoreError};

/// A block older than this is not chosen: the chain is being caught up with. Nor is one that is so far
/// in the future: then its time is wrong, or ours.
const LIVE_MS: i64 = 300_000;
/// Pause between two looks at a block that is not final, or whose sources have not answered.
const REST_MS: i64 = 60_000;

/// The pairs that payments in any token would need at a time.
pub(super) fn scheduled_pairs(rules: &ChainRules, time_ms: i64) -> Vec<String> {
    let Some(epoch) = rules.epochs.at(time_ms) else { return Vec::new() };
    let pairs = rules.tokens.iter().filter_map(|token| {
        let terms = epoch.accept.get(&token.asset)?;
        Some(rules.oracle.needed(&token.asset, terms, &epoch.accept))
    });
    pairs.flatten().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The block whose prices are due: the one that was chosen, or the newest one when it is time for
/// another.
pub(super) async fn open_block(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<Option<QuoteBlock>, StoreError> {
    let every_ms = rules.oracle.every_ms();
    let now = clock.now_ms();
    if every_ms == 0 || scheduled_pairs(rules, now).is_empty() {
        return Ok(None);
    }
    let last = store.scheduled(rules.id).await?;
    let live_ms = now.saturating_sub(LIVE_MS);
    let due_ms = last.map_or(live_ms, |s| s.block.time_ms.saturating_add(every_ms).max(live_ms));
    let span = (due_ms, now.saturating_add(LIVE_MS));
    if due_ms <= now
        && let Some(chosen) = store.schedule(rules.id, span, now).await?
    {
        if let Some(left) = last.filter(|s| !s.done) {
            tracing::warn!(
                chain.name = rules.name,
                block.number = left.block.block.number,
                "the sources gave no price that was due; a payment then would be held"
            );
        }
        return Ok(Some(chosen));
    }
    Ok(last.filter(|s| !s.done).map(|s| s.block))
}

/// Accepts the prices of the block that was chosen, once it is final.
pub(super) async fn price_scheduled<S: ChainSource>(
    prices: &mut Prices<'_, S>,
    head: BlockRef,
) -> Result<(), SettleError> {
    let (rules, store, now) = (prices.rules, prices.store, prices.clock.now_ms());
    if rules.oracle.every_ms() == 0 || rules.oracle.pairs().next().is_none() {
        return Ok(());
    }
    let Some(due) = store.scheduled(rules.id).await?.filter(|s| !s.done) else { return Ok(()) };
    let QuoteBlock { block, time_ms } = due.block;
    let heads = Heads { latest: head.number, safe: None, finalized: None };
    let finality = rules.policy.tiers().last().map(|tier| tier.finality);
    let is_count = matches!(finality, Some(Finality::Confirmations(_)));
    let is_deep = finality.is_some_and(|f| f.reached(block.number, heads));
    let rests = (1..=REST_MS).contains(&due.next_try_at_ms.saturating_sub(now));
    if rests || (is_count && !is_deep) {
        return Ok(());
    }
    match prices.is_final(rules.id, block).await {
        // Its time, one provider may have told alone.
        Some(true) if !is_known(prices, block, time_ms).await => {
            return Ok(store.forget_scheduled(rules.id).await?);
        }
        Some(true) => {}
        Some(false) => return Ok(store.forget_scheduled(rules.id).await?),
        None => return Ok(store.rest_scheduled(rules.id, now.saturating_add(REST_MS)).await?),
    }
    let at = Instant { chain: rules.id, block, time_ms };
    for pair in scheduled_pairs(rules, time_ms) {
        match prices.of(&pair, &at).await? {
            Priced::Yes(_) => {}
            Priced::Wait => {
                return Ok(store.rest_scheduled(rules.id, now.saturating_add(REST_MS)).await?);
            }
            Priced::Held(reason) => {
                tracing::warn!(
                    chain.name = rules.name,
                    pair,
                    why = reason.as_str(),
                    "no price could be taken on schedule; a payment now would be held"
                );
            }
        }
    }
    Ok(store.end_scheduled(rules.id, block.hash).await?)
}

/// True when as many providers as are believed know a block, and that it is of this time.
async fn is_known<S: ChainSource>(prices: &Prices<'_, S>, block: BlockRef, time_ms: i64) -> bool {
    let (market, chain, now) = (prices.market, prices.rules.id, prices.clock.now_ms());
    let Some((_, pool)) = market.chains.get(&chain) else { return false };
    let mut missing = market.witnesses(chain);
    for source in pool.order(now) {
        match source.header(block.hash).await {
            Ok(Some(header)) if header.time_ms == time_ms => missing = missing.saturating_sub(1),
            Ok(_) => {}
            Err(error) => pool.bad(source, &error, now),
        }
        if missing == 0 {
            return true;
        }
    }
    false
}
