//! Prices that are taken though nobody pays, so that the next payment's price is compared with
//! something, and people see when sources fail or a breaker opens before a payment does.
//!
//! Such a price is one like any other, of a block of the chain: asked about at once, accepted when
//! the block is final. A block that gives none is not held on to: the next one comes.

use std::collections::BTreeSet;

use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finality::{Finality, Heads};
use crate::domain::ids::BlockRef;
use crate::domain::oracle::reading::PriceInstant;
use crate::store::{LeasedStore, QuoteBlock, StoreError};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::market::{Priced, Prices};

/// A block older than this is not chosen: the chain is being caught up with. Nor is one that is so far
/// in the future: then its time is wrong, or ours.
const LIVE_MS: i64 = 300_000;
/// A block that is not done with is kept for this long, or until the next one is due if that is later.
const GIVE_UP_MS: i64 = 7_200_000;
/// Pause between two looks at a block that is not final, or whose sources have not answered.
const REST_MS: i64 = 60_000;

/// The pairs that payments in any token would need at a time.
pub(in crate::tasks) fn scheduled_pairs(rules: &ChainRules, time_ms: i64) -> Vec<String> {
    let pairs = rules.tokens.iter().flat_map(|token| rules.needed(&token.address, time_ms));
    pairs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The block whose prices are due: the one that was chosen, or the newest one when it is time for
/// another.
pub(in crate::tasks) async fn open_block(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<Option<QuoteBlock>, StoreError> {
    let every_ms = rules.oracle.every_ms();
    let now = clock.now_ms();
    let Some(epoch) = rules.epochs.at(now) else { return Ok(None) };
    if every_ms == 0 || scheduled_pairs(rules, now).is_empty() {
        return Ok(None);
    }
    let last = store.scheduled(rules.id).await?;
    // An epoch has a price as soon as it begins, and of its own time.
    let of_epoch = last.filter(|s| s.block.time_ms >= epoch.starts_at_ms);
    let earliest_ms = now.saturating_sub(LIVE_MS).max(epoch.starts_at_ms);
    let from_ms = of_epoch.map_or(earliest_ms, |s| s.again_at_ms.max(earliest_ms));
    let span = (from_ms, now.saturating_add(LIVE_MS));
    let open = last.filter(|s| !s.done).map(|s| s.block);
    if from_ms > now {
        return Ok(open);
    }
    let give_up_ms = every_ms.max(GIVE_UP_MS);
    let Some(chosen) = store.schedule(rules.id, span, give_up_ms, now).await? else {
        return Ok(open);
    };
    if let Some(left) = open {
        store.end_scheduled(rules.id, left.block.hash, now).await?;
        tracing::warn!(
            chain.name = rules.name,
            block.number = left.block.number,
            "no price could be taken on schedule: the block did not become final, or a source did not answer"
        );
    }
    Ok(Some(chosen))
}

/// Accepts the prices of the block that was chosen, once it is final.
pub(in crate::tasks) async fn price_scheduled<S: ChainSource>(
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
    let finality = rules.policy.strictest();
    // Where blocks are counted, nobody need be asked.
    let is_shallow =
        matches!(finality, Finality::Confirmations(_)) && !finality.reached(block.number, heads);
    let rests = (1..=REST_MS).contains(&due.next_try_at_ms.saturating_sub(now));
    if rests || is_shallow {
        return Ok(());
    }
    let later_ms = now.saturating_add(REST_MS);
    let mut stands = prices.is_final(rules.id, block).await;
    if stands == Some(true) {
        stands = is_of_time(prices, block, time_ms).await;
    }
    match stands {
        Some(true) => {}
        // Another one, but not at once: whoever says so may say it of the next one too.
        Some(false) => return Ok(store.end_scheduled(rules.id, block.hash, later_ms).await?),
        None => return Ok(store.rest_scheduled(rules.id, block.hash, later_ms).await?),
    }
    let at = PriceInstant { chain: rules.id, block, time_ms };
    let mut waits = false;
    for pair in scheduled_pairs(rules, time_ms) {
        match prices.of(&pair, &at).await? {
            Priced::Yes(_) => {}
            Priced::Wait => waits = true,
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
    if waits {
        return Ok(store.rest_scheduled(rules.id, block.hash, later_ms).await?);
    }
    let again_at_ms = time_ms.saturating_add(rules.oracle.every_ms());
    Ok(store.end_scheduled(rules.id, block.hash, again_at_ms).await?)
}

/// True when as many providers as are believed say that a block is of this time, which one may have
/// told alone; false when one says otherwise, `None` when too few say anything.
async fn is_of_time<S: ChainSource>(
    prices: &Prices<'_, S>,
    block: BlockRef,
    time_ms: i64,
) -> Option<bool> {
    let (market, chain, now) = (prices.market, prices.rules.id, prices.clock.now_ms());
    let (_, pool) = market.chains.get(&chain)?;
    let (mut missing, mut said_otherwise) = (market.witnesses(chain), false);
    for source in pool.order(now) {
        match source.header(block.hash).await {
            Ok(Some(header)) if header.time_ms == time_ms => missing = missing.saturating_sub(1),
            Ok(Some(_)) => said_otherwise = true,
            Ok(None) => {}
            Err(error) => pool.record_failure(source, &error, now),
        }
        if missing == 0 {
            return Some(true);
        }
    }
    said_otherwise.then_some(false)
}
