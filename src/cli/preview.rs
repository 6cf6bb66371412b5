//! What a decision about a deposit on hold comes to, as people and programs read it.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::deposits::{amount, payment_json};
use super::dialect::with;
use super::prices::decided;
use super::time;
use crate::config::Config;
use crate::domain::deposit::{HoldReason, IgnoreReason};
use crate::domain::money::Rate;
use crate::domain::pricing::NoPrice;
use crate::store::DepositRow;
use crate::tasks::by_hand::{Base, ByHand, From, Preview};

/// The number has to be repeated beyond the bound, and wherever it is repeated it is the same.
pub(super) fn beyond(by_hand: &ByHand, repeated: Option<Rate>) -> Result<(), String> {
    let (pair, price) = (&by_hand.pair, by_hand.price);
    match repeated {
        Some(other) if other != price => Err(format!(
            "--beyond-the-bound {other} does not repeat the price, {price}: nothing was written"
        )),
        None if by_hand.is_beyond_the_bound() => Err(format!(
            "{pair} = {price} is {}: nothing was written; if that is meant, repeat the number: --beyond-the-bound {price}",
            far(by_hand)
        )),
        _ => Ok(()),
    }
}

/// How far it is, and how far it may be.
fn far(by_hand: &ByHand) -> String {
    let bound = percent(u64::from(by_hand.bound_bps));
    match (by_hand.base, by_hand.apart_bps()) {
        (Some(base), Some(apart)) => {
            let side = match by_hand.price.cmp(&base.price()) {
                Ordering::Less => "below",
                Ordering::Equal => "from",
                Ordering::Greater => "above",
            };
            format!(
                "{} % {side} {}, {}; at most {bound} % go without saying it twice",
                percent(apart),
                base.price(),
                base_text(base)
            )
        }
        _ => "compared with nothing, because the pair has no price yet".to_owned(),
    }
}

fn base_text(base: Base) -> String {
    match base {
        Base::Accepted(_) => "the price that was accepted at its block".to_owned(),
        Base::Median(_) => "the median of the quotes at its block".to_owned(),
        Base::Last(_, at) => {
            format!(
                "the last price of the market, of {}, for want of quotes at its block",
                time(at)
            )
        }
    }
}

/// Basis points as percent.
fn percent(bps: u64) -> String {
    let (whole, rest) =
        (bps.checked_div(100).unwrap_or_default(), bps.checked_rem(100).unwrap_or_default());
    format!("{whole}.{rest:02}")
}

pub(super) fn preview_text(config: &Config, deposit: &DepositRow, preview: &Preview) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    line("deposit", deposit.id.to_string());
    line("namespace", deposit.namespace.clone());
    line("amount", amount(config, deposit, deposit.raw));
    line("token", deposit.token.to_checksum(None));
    line("paid in", format!("{}, transfer {}, {}", deposit.tx_hash, deposit.n, deposit.chain));
    let (number, hash) = (deposit.block_number, deposit.block_hash);
    line("block", format!("{number}, of {}, {hash}", time(deposit.block_time_ms)));
    if let Some(by_hand) = &preview.by_hand {
        text.push_str(&by_hand_text(by_hand));
    }
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    for (leg, from) in &preview.legs {
        let counts = match leg.applied == leg.price {
            true => String::new(),
            false => format!(", counts as {}", leg.applied),
        };
        line("price", format!("{} = {}{counts} ({})", leg.pair, leg.price, from_text(*from)));
    }
    line("credits", credits(preview));
    text
}

fn by_hand_text(by_hand: &ByHand) -> String {
    let pair = &by_hand.pair;
    let mut text = match &by_hand.quotes {
        None => format!("quotes     there are none of {pair} at its block\n"),
        Some((body, at)) => {
            let quotes = decided(body);
            let quotes = if quotes.is_empty() { "  none\n".to_owned() } else { quotes };
            format!("quotes     of {pair} at its block, as of {}\n{quotes}", time(*at))
        }
    };
    if by_hand.rejected {
        text.push_str("           an operator rejected what they say together\n");
    }
    text.push_str(&format!("by hand    {pair} = {}: {}\n", by_hand.price, far(by_hand)));
    text
}

fn from_text(from: From) -> String {
    match from {
        From::This => "by hand, this one".to_owned(),
        From::Approved([proposal, approval]) => {
            format!("by hand, acts {proposal} and {approval}")
        }
        From::Market => "accepted at its block".to_owned(),
        From::Proposed(act) => format!("proposed by act {act}, not approved yet"),
    }
}

/// What it gives, or why nothing.
fn credits(preview: &Preview) -> String {
    match &preview.priced {
        Some(Ok(price)) => format!("{}, rounded down", price.credits),
        Some(Err(none)) => format!("none: {}", none_because(*none)),
        None if preview.missing.is_empty() => "not known: its token is not configured".to_owned(),
        None => format!("not known: there is no price of {} yet", preview.missing.join(", ")),
    }
}

const fn none_because(none: NoPrice) -> &'static str {
    match none {
        NoPrice::Hold(HoldReason::Overflow) => "they would not fit",
        NoPrice::Hold(HoldReason::NoEpoch) => "no epoch is in force at its block's time",
        NoPrice::Hold(_) => "it stays on hold",
        NoPrice::Ignore(IgnoreReason::NotAccepted) => "its epoch does not accept the token",
        NoPrice::Ignore(_) => "it is worth less than the smallest amount that is credited",
    }
}

pub(super) fn preview_json(config: &Config, deposit: &DepositRow, preview: &Preview) -> Value {
    let prices: Vec<Value> = preview
        .legs
        .iter()
        .map(|(leg, from)| {
            let from = match from {
                From::This => "this",
                From::Approved(_) => "by_hand",
                From::Market => "market",
                From::Proposed(_) => "proposed",
            };
            json!({ "pair": leg.pair, "price": leg.price, "applied": leg.applied, "from": from })
        })
        .collect();
    let priced = preview.priced.as_ref();
    let more = json!({
        "by_hand": preview.by_hand.as_ref().map(by_hand_json),
        "prices": prices,
        "missing": preview.missing,
        "credits": priced.and_then(|p| p.as_ref().ok()).map(|p| p.credits.to_string()),
        "none_because": priced.and_then(|p| p.as_ref().err()).map(|e| none_because(*e)),
    });
    with(payment_json(config, deposit), more)
}

fn by_hand_json(by_hand: &ByHand) -> Value {
    let quotes: Vec<Value> = by_hand
        .quotes
        .iter()
        .flat_map(|(body, _)| &body.parts)
        .map(|p| {
            json!({
                "source": p.source, "price": p.price, "guard": p.guard, "rejected": p.rejected,
            })
        })
        .collect();
    let base = by_hand.base.map(|base| {
        let (what, at) = match base {
            Base::Accepted(_) => ("accepted_at_its_block", None),
            Base::Median(_) => ("median_of_quotes", None),
            Base::Last(_, at) => ("last_market_price", Some(time(at))),
        };
        json!({ "what": what, "price": base.price(), "price_at": at })
    });
    let below = by_hand.base.is_some_and(|base| by_hand.price < base.price());
    let sign = if below { "-" } else { "" };
    json!({
        "pair": by_hand.pair,
        "price": by_hand.price,
        "quotes": quotes,
        "quotes_at": by_hand.quotes.as_ref().map(|(_, at)| time(*at)),
        "quotes_rejected": by_hand.rejected,
        "compared_with": base,
        "deviation_percent": by_hand.apart_bps().map(|bps| format!("{sign}{}", percent(bps))),
        "bound_percent": percent(u64::from(by_hand.bound_bps)),
        "beyond_the_bound": by_hand.is_beyond_the_bound(),
    })
}
