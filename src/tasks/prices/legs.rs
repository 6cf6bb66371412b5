//! The market prices that a payment's conversion needs, each decided or waited for.

use crate::chain::source::ChainSource;
use crate::domain::conversion::Leg;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::oracle::reading::PriceInstant;
use crate::domain::pricing::{Token, price};
use crate::domain::terms::NoPrice;
use crate::store::{OpenDeposit, Pricing};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::market::{Priced, Prices};

/// The price of a deposit, or why it has none; `None` while something may still come, and for one that
/// stays on hold for the same reason.
pub(in crate::tasks) async fn priced<S: ChainSource>(
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
pub(in crate::tasks) enum Legs {
    All(Vec<Leg>),
    Wait,
    Held(HoldReason),
}

pub(in crate::tasks) async fn legs<S: ChainSource>(
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
    let at = PriceInstant { chain: rules.id, block: deposit.block, time_ms };
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
