//! Confirmed deposits get their price, and priced ones their credit.

use super::ChainRules;
use super::dust::{Dusts, is_dust};
use super::market::{Priced, Prices};
use super::pages::Pages;
use super::settle::{SettleError, Settled};
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::conversion::Leg;
use crate::domain::deposit::{HoldReason, MARKET_HOLDS, Stage};
use crate::domain::finality::Verify;
use crate::domain::ids::{BlockRef, DepositId};
use crate::domain::oracle::reading::Instant;
use crate::domain::pricing::{Token, price};
use crate::domain::terms::NoPrice;
use crate::store::{Answer, Demanded, LeasedStore, OpenDeposit, Pricing};

/// Credits in one commit.
const CREDIT_BATCH: usize = 1_024;

/// Stages of deposits whose price may have come since they were looked at.
pub(super) fn held_for_a_price() -> impl Iterator<Item = Stage> {
    let held = [HoldReason::NoEpoch, HoldReason::NoToken].into_iter().chain(MARKET_HOLDS);
    held.map(Stage::Held)
}

/// Deposits in these stages get the price of their block's time, or a reason why not; dust among them
/// is only noted.
pub(super) async fn assign_prices<S: ChainSource>(
    prices: &mut Prices<'_, S>,
    stages: impl Iterator<Item = Stage>,
    head: BlockRef,
    dusts: &mut Dusts,
) -> Result<(), SettleError> {
    let (rules, store, clock) = (prices.rules, prices.store, prices.clock);
    for stage in stages {
        let mut pages = Pages::of(rules, store, stage, head);
        while let Some(page) = pages.next().await? {
            let (dust, enough): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|d| is_dust(rules, d));
            for deposit in &dust {
                dusts.saw(deposit)?;
            }
            let mut pricings: Vec<Pricing> = Vec::with_capacity(enough.len());
            for deposit in enough {
                pricings.extend(priced(prices, deposit).await?);
            }
            store.commit_priced(&pricings, rules.epochs.all().len(), clock.now_ms()).await?;
        }
    }
    Ok(())
}

/// The price of a deposit, or why it has none; `None` while something may still come, and for one that
/// stays on hold for the same reason.
pub(super) async fn priced<S: ChainSource>(
    prices: &mut Prices<'_, S>,
    deposit: OpenDeposit,
) -> Result<Option<Pricing>, SettleError> {
    let rules = prices.rules;
    let Some(token) = rules.token(&deposit.key.token) else {
        return Ok(Some(Pricing { deposit, outcome: Err(NoPrice::Hold(HoldReason::NoToken)) }));
    };
    let outcome = match legs(prices, &deposit, token).await? {
        Legs::Wait => return Ok(None),
        Legs::Held(reason) => Err(NoPrice::Hold(reason)),
        Legs::All(legs) => price(deposit.raw, token, &rules.epochs, deposit.block_time_ms, &legs),
    };
    if let Err(NoPrice::Hold(reason)) = outcome
        && deposit.stage == Stage::Held(reason)
    {
        return Ok(None);
    }
    Ok(Some(Pricing { deposit, outcome }))
}

/// The market prices that a deposit needs.
enum Legs {
    All(Vec<Leg>),
    Wait,
    Held(HoldReason),
}

async fn legs<S: ChainSource>(
    prices: &mut Prices<'_, S>,
    deposit: &OpenDeposit,
    token: &Token,
) -> Result<Legs, SettleError> {
    let rules = prices.rules;
    let time_ms = deposit.block_time_ms;
    let needed = rules.needed(&token.address, time_ms);
    let mut legs = Vec::with_capacity(needed.len());
    let (mut waits, mut held) = (false, None);
    if needed.is_empty() {
        return Ok(Legs::All(legs));
    }
    // Two operators may have priced what no rule can.
    let by_hand = match deposit.stage {
        Stage::Held(reason)
            if reason.is_about_market() && prices.is_acted_on(deposit.block.hash).await? =>
        {
            prices.store.manual_prices(deposit.id, deposit.block.hash).await?
        }
        _ => Vec::new(),
    };
    let at = Instant { chain: rules.id, block: deposit.block, time_ms };
    for pair in needed {
        if let Some(given) = by_hand.iter().find(|given| given.pair == pair) {
            match prices.by_hand(given, &at).await? {
                Some(leg) => legs.push(leg),
                None => waits = true,
            }
            continue;
        }
        match prices.of(&pair, &at).await? {
            Priced::Yes(leg) => legs.push(leg),
            Priced::Wait => waits = true,
            Priced::Held(reason) => held = held.or(Some(reason)),
        }
    }
    Ok(match held {
        // What is held already stays so while its other prices are waited for.
        Some(reason) => Legs::Held(reason),
        None if waits => Legs::Wait,
        None => Legs::All(legs),
    })
}

/// Priced deposits become credits, or are to be confirmed again first: both are added to what was done.
pub(super) async fn credit(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
    head: BlockRef,
    done: &mut Settled,
) -> Result<(), SettleError> {
    let ways: Vec<Verify> = std::iter::once(rules.verify).chain(rules.fallback).collect();
    let mut pages = Pages::of(rules, store, Stage::Priced, head);
    while let Some(page) = pages.next().await? {
        for batch in page.chunks(CREDIT_BATCH) {
            // What was clear when it was confirmed may be a hit by now.
            let checks = match &rules.screen {
                Some(screen) => screen.ask(batch, store, clock).await?.0,
                None => Vec::new(),
            };
            let ids: Vec<DepositId> = batch.iter().map(|d| d.id).collect();
            let demanded = Demanded { ways: &ways, checks: &checks, epochs: &rules.epochs };
            let credited = store.commit_credits(&ids, demanded).await?;
            done.more |= credited.again > 0;
            for posted in credited.posted {
                match posted.answer {
                    Answer::Created { seq } => {
                        done.credited = done.credited.saturating_add(1);
                        tracing::info!(deposit.id = %posted.deposit, namespace = posted.namespace,
                            credits = %posted.credits, record.seq = seq, "credited");
                    }
                    Answer::Exists { seq } => {
                        tracing::warn!(deposit.id = %posted.deposit, record.seq = seq,
                            "was credited already");
                    }
                    Answer::Conflict { field } => {
                        tracing::error!(deposit.id = %posted.deposit, why = field,
                            "held: its record exists with other contents");
                    }
                }
            }
        }
    }
    Ok(())
}
