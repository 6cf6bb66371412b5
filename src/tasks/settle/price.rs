//! Confirmed deposits get their price, and priced ones their credit.

use crate::chain::source::ChainSource;
use crate::domain::deposit::{HoldReason, MARKET_HOLDS, Stage};
use crate::domain::finality::Verify;
use crate::domain::ids::{BlockRef, DepositId};
use crate::store::{Answer, Demanded, Pricing};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::legs::priced;
use crate::tasks::prices::market::Prices;
use crate::tasks::settle::confirming::Settled;
use crate::tasks::settle::dust::{Dusts, is_dust};
use crate::tasks::settle::pages::Pages;

/// Credits in one commit.
const CREDIT_BATCH: usize = 1_024;

/// Stages of deposits whose price may have come since they were looked at.
pub(in crate::tasks) fn held_for_a_price() -> impl Iterator<Item = Stage> {
    let held = [HoldReason::NoEpoch, HoldReason::NoToken].into_iter().chain(MARKET_HOLDS);
    held.map(Stage::Held)
}

/// Deposits in these stages get the price of their block's time, or a reason why not; dust among them
/// is only noted.
pub(in crate::tasks) async fn assign_prices<S: ChainSource>(
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

/// Priced deposits become credits, or are to be confirmed again first: both are added to what was done.
pub(in crate::tasks) async fn credit<S: ChainSource>(
    prices: &Prices<'_, S>,
    head: BlockRef,
    done: &mut Settled,
) -> Result<(), SettleError> {
    let Prices { rules, market, store, clock, .. } = *prices;
    let ways: Vec<Verify> = std::iter::once(rules.verify).chain(rules.fallback).collect();
    let mut pages = Pages::of(rules, store, Stage::Priced, head);
    while let Some(page) = pages.next().await? {
        for batch in page.chunks(CREDIT_BATCH) {
            // What was clear when it was confirmed may be a hit by now.
            let checks = match &rules.screening {
                Some(asked) => market.screener.ask(asked, batch, store, clock).await?.0,
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
