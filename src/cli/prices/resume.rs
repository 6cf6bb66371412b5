//! `prices resume`: a pair's breaker is closed, and what passes by that is shown, each time.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::dialect::with;
use crate::cli::error::CliError;
use crate::cli::holds::acts::act_json;
use crate::cli::holds::preview::{
    given_json, given_text, not_said_twice, preview_json, rejected_text, worth_text,
};
use crate::cli::holds::resolve::{needed, previewed};
use crate::cli::open::open;
use crate::cli::payment::amount;
use crate::cli::prices::decided::{known_pair, sentences};
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::time;
use crate::config::Config;
use crate::domain::compared::Compared;
use crate::domain::deposit::HoldReason;
use crate::domain::money::Rate;
use crate::store::{Breaker, DepositRow, Resume, Store, StoreError};
use crate::tasks::by_hand::Preview;

/// Payments of the block that are shown.
const SHOWN: i64 = 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct ResumeArgs {
    /// The pair.
    pair: String,
    /// The price that opened it was wrong: the payments of its block are left to be priced by
    /// hand, and later prices are compared with what came before.
    #[arg(long, conflicts_with = "beyond_the_bound")]
    reject: bool,
    /// Repeat the price that opened it, and it passes. Without this, the price is only shown.
    #[arg(long, value_name = "PRICE")]
    beyond_the_bound: Option<Rate>,
    /// Who decides.
    #[arg(long)]
    operator: String,
    /// Why.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    output: Output,
}

/// What would pass, or is rejected, and what it comes to.
struct Seen {
    breaker: Breaker,
    /// Nothing passes: no payment is worth anything by this price.
    is_rejected: bool,
    /// None for a pair that is not configured any more.
    price: Option<Compared>,
    /// Payments of its block that wait for it.
    payments: Vec<(DepositRow, Option<Preview>)>,
    truncated: bool,
}

pub(in crate::cli) async fn resume(
    config: &Config,
    args: ResumeArgs,
) -> Result<ExitCode, CliError> {
    let (pair, oracle) = (&args.pair, &config.oracle.oracle);
    let store = open(config).await?;
    known_pair(config, &store, pair).await?;
    let seen = match store.breaker(pair).await? {
        Some(breaker) => Some(seen(config, &store, breaker, args.reject).await?),
        None => None,
    };
    let how = match args.reject {
        true => Resume::Reject,
        false => Resume::Pass { repeated: args.beyond_the_bound },
    };
    let by = (args.operator.as_str(), args.reason.as_str());
    let (number, closed) = match store.resume_breaker(oracle, pair, how, by).await {
        Err(StoreError::NotSaidTwice { compared, repeated }) => {
            // What was looked at is shown, so that the number can be checked and repeated.
            if let Some(seen) = &seen {
                answer(config, args.output, seen, None, "")?;
            }
            return Err(CliError::BadInput(not_said_twice(&compared, repeated)));
        }
        done => done?,
    };
    let act = store.act_by_id(number).await?.map(|act| act_json(&act, None));
    let open = store.breakers().await?;
    store.close().await;
    let (price, of) = (closed.price, time(closed.instant_ms));
    let mut text = format!("act {number} is written down\n");
    text.push_str(&if args.reject {
        format!(
            "the breaker of {pair} is closed: {price} of {of} is rejected; payments of its block wait for a price by hand, see: topupd holds list\n"
        )
    } else {
        format!(
            "the breaker of {pair} is closed: {price} passes, of {of}; later prices are compared with it, and not with those before it\nthe daemon prices what is held at its next look\n"
        )
    });
    text.push_str(&sentences(&open));
    match &seen {
        Some(seen) => answer(config, args.output, seen, act, &text),
        None if args.output.is_data() => print_data(args.output, json!({ "act": act })),
        None => print(&text),
    }
}

async fn seen(
    config: &Config,
    store: &Store,
    breaker: Breaker,
    is_rejected: bool,
) -> Result<Seen, CliError> {
    let price = match config.oracle.oracle.pair(&breaker.pair) {
        Some(policy) => Some(store.compared_breaker(policy, &breaker).await?),
        None => None,
    };
    let (chain, block, reason) = (breaker.chain, breaker.block_hash, HoldReason::Breaker);
    let mut held = store.held_in(chain, block, reason, SHOWN.saturating_add(1)).await?;
    let most = usize::try_from(SHOWN).unwrap_or_default();
    let truncated = held.len() > most;
    held.truncate(most);
    held.retain(|deposit| needed(config, deposit).contains(&breaker.pair));
    let mut payments = Vec::new();
    for deposit in held {
        let given = price.clone().filter(|_| !is_rejected);
        let mut preview = previewed(config, store, &deposit, given).await?;
        if let (true, Some(preview)) = (is_rejected, &mut preview) {
            without(preview, &breaker.pair);
        }
        payments.push((deposit, preview));
    }
    Ok(Seen { breaker, is_rejected, price, payments, truncated })
}

/// What is known without a price of this pair: no credits follow from that.
fn without(preview: &mut Preview, pair: &str) {
    preview.priced = None;
    preview.legs.retain(|(leg, _)| leg.pair != pair);
    if preview.missing.iter().all(|missing| missing != pair) {
        preview.missing.push(pair.to_owned());
    }
}

/// What was seen, and what was written.
fn answer(
    config: &Config,
    output: Output,
    seen: &Seen,
    act: Option<Value>,
    text: &str,
) -> Result<ExitCode, CliError> {
    if output.is_data() {
        let payments: Vec<Value> = seen
            .payments
            .iter()
            .filter_map(|(deposit, preview)| Some(preview_json(config, deposit, preview.as_ref()?)))
            .collect();
        let more = json!({ "payments": payments, "truncated": seen.truncated });
        let price = seen.price.as_ref().map(given_json).unwrap_or_else(|| json!({}));
        return print_data(
            output,
            json!({ "act": act, "breaker": seen.breaker, "preview": with(price, more) }),
        );
    }
    print(&format!("{}\n{text}", seen_text(config, seen)))
}

fn seen_text(config: &Config, seen: &Seen) -> String {
    let Breaker { pair, reason, chain, block_hash, instant_ms, opened_at_ms, .. } = &seen.breaker;
    let mut text = format!("breaker    of {pair}, open since {}: {reason}\n", time(*opened_at_ms));
    text.push_str(&format!("block      {block_hash}, of {}, {chain}\n", time(*instant_ms)));
    match &seen.price {
        Some(price) if seen.is_rejected => text.push_str(&rejected_text(price)),
        Some(price) => text.push_str(&given_text(price)),
        None => text.push_str(&format!("price      {pair} is not configured any more\n")),
    }
    if seen.payments.is_empty() {
        text.push_str("payments   none of its block waits for it\n");
    }
    for (deposit, preview) in &seen.payments {
        let of = (&deposit.namespace, amount(config, deposit, deposit.raw));
        text.push_str(&format!("\npayment    {}\n", deposit.id));
        text.push_str(&format!("namespace  {}\namount     {}\n", of.0, of.1));
        if seen.is_rejected {
            text.push_str(&format!("waits for  a price of {pair} by hand\n"));
        } else {
            text.extend(preview.as_ref().map(worth_text));
        }
    }
    if seen.truncated {
        text.push_str(&format!("\nmore than {SHOWN} payments of its block are held\n"));
    }
    text
}
