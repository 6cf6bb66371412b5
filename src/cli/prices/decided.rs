//! A price that was decided, and how its sources came to it, as people read it.

use crate::cli::error::CliError;
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::domain::oracle::policy::{Body, Part};
use crate::store::{Breaker, Store};

/// A pair must be configured, or have had a price when it was.
pub(in crate::cli) async fn known_pair(
    config: &Config,
    store: &Store,
    pair: &str,
) -> Result<(), CliError> {
    let is_known = config.oracle.oracle.pair(pair).is_some()
        || !store.market_prices(Some(pair), i64::MAX, 1).await?.is_empty();
    if is_known {
        return Ok(());
    }
    let names: Vec<&str> = config.oracle.oracle.pairs().map(|p| p.pair.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(CliError::BadInput(format!("no pair is called {pair:?}; the configuration has: {names}")))
}

/// What was decided, source by source.
pub(in crate::cli) fn decided(body: &Body) -> String {
    let mut text = String::new();
    if let Some(hand) = &body.manual {
        let (one, two) = (&hand.proposed_by, &hand.approved_by);
        text.push_str(&format!("  by hand: proposed by {one}, approved by {two}\n"));
    }
    let rows: Vec<Vec<String>> = body.parts.iter().map(part_row).collect();
    for line in table(&rows).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for via in &body.via {
        text.push_str(&format!("  multiplied by {} = {}\n", via.pair, via.price));
    }
    if let Some(act) = body.waived_by {
        text.push_str(&format!("  below its floor: accepted by act {act}\n"));
    }
    text
}

/// A sentence for each open breaker, with what to do about it.
pub(in crate::cli) fn sentences(breakers: &[Breaker]) -> String {
    breakers.iter().map(|b| sentence(b) + "\n").collect()
}

/// Source, price and verdict.
pub(in crate::cli) fn part_row(part: &Part) -> Vec<String> {
    let verdict = match (&part.rejected, &part.detail) {
        (Some(why), _) => why.clone(),
        (None, _) if part.guard => "guard".to_owned(),
        (None, Some(detail)) => format!("ok ({detail})"),
        (None, None) => "ok".to_owned(),
    };
    let price = part.price.map_or_else(|| "-".into(), |p| p.to_string());
    vec![part.source.clone(), price, verdict]
}

/// What an open breaker means.
pub(in crate::cli) fn sentence(breaker: &Breaker) -> String {
    let Breaker { pair, reason, opened_at_ms, .. } = breaker;
    format!(
        "the breaker of {pair} is open since {}: {reason}; payments that need it are held. To see its price, and how to let it pass: topupd prices resume {pair} --operator NAME --reason TEXT",
        time(*opened_at_ms)
    )
}
