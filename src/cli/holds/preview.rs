//! What a decision about a deposit on hold comes to, as people and programs read it.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::cli::dialect::with;
use crate::cli::payment::{amount, payment_json};
use crate::cli::prices::decided::decided;
use crate::cli::screened::{screened_lines, screening_json};
use crate::cli::words::time;
use crate::config::Config;
use crate::domain::compared::{Base, Compared, Passes};
use crate::domain::deposit::{HoldReason, IgnoreReason};
use crate::domain::money::Rate;
use crate::domain::terms::NoPrice;
use crate::store::DepositRow;
use crate::tasks::by_hand::{From, Preview};

/// Why a number that was not said often enough passes nothing.
pub(in crate::cli) fn not_said_twice(compared: &Compared, repeated: Option<Rate>) -> String {
    let (pair, price) = (&compared.pair, compared.price);
    match repeated {
        Some(other) => format!(
            "--beyond-the-bound {other} does not repeat the price, {price}: nothing was written"
        ),
        None => format!(
            "{pair} = {price} is {}: nothing was written; if that is meant, repeat the number: --beyond-the-bound {price}",
            far(compared)
        ),
    }
}

/// How far it is, and how far it may be.
fn far(compared: &Compared) -> String {
    let bound = percent(u64::from(compared.bound_bps));
    let most = match compared.base {
        Some(_) => format!("; at most {bound} % go without saying it twice"),
        None => String::new(),
    };
    apart(compared) + &most
}

/// How far it is.
fn apart(compared: &Compared) -> String {
    match (compared.base, compared.apart_bps()) {
        (Some(base), Some(apart)) => {
            let side = match compared.price.cmp(&base.price()) {
                Ordering::Less => "below",
                Ordering::Equal => "from",
                Ordering::Greater => "above",
            };
            format!(
                "{} % {side} {}, {}",
                percent(apart),
                base.price(),
                base_text(base, compared.passes)
            )
        }
        _ => "compared with nothing, because the pair has no price yet".to_owned(),
    }
}

fn base_text(base: Base, passes: Passes) -> String {
    match base {
        Base::Accepted(_) => "the price that was accepted at its block".to_owned(),
        Base::Median(_) => "the median of the quotes at its block".to_owned(),
        Base::Last(_, at) => {
            let why = match passes {
                Passes::ByHand => ", because no quotes of its block can be used",
                Passes::Market | Passes::Breaker => "",
            };
            format!("the last price of the market, of {}{why}", time(at))
        }
        Base::Day(_) => "the median of the day before".to_owned(),
    }
}

/// Basis points as percent.
fn percent(bps: u64) -> String {
    let (whole, rest) =
        (bps.checked_div(100).unwrap_or_default(), bps.checked_rem(100).unwrap_or_default());
    format!("{whole}.{rest:02}")
}

pub(in crate::cli) fn preview_text(
    config: &Config,
    deposit: &DepositRow,
    preview: &Preview,
) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    line("deposit", deposit.id.to_string());
    line("namespace", deposit.namespace.clone());
    line("amount", amount(config, deposit, deposit.raw));
    line("token", deposit.token.to_checksum(None));
    line("paid in", format!("{}, transfer {}, {}", deposit.tx_hash, deposit.n, deposit.chain));
    let (number, hash) = (deposit.block_number, deposit.block_hash);
    line("block", format!("{number}, of {}, {hash}", time(deposit.block_time_ms)));
    screened_lines(&preview.said).into_iter().for_each(|(key, value)| line(key, value));
    if let Some(given) = &preview.given {
        text.push_str(&given_text(given));
    }
    text.push_str(&worth_text(preview));
    text
}

/// The prices that a deposit's credits rest on, and the credits.
pub(in crate::cli) fn worth_text(preview: &Preview) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    for (leg, from) in &preview.legs {
        let counts = match leg.applied == leg.price {
            true => String::new(),
            false => format!(", counts as {}", leg.applied),
        };
        let from = from_text(*from, preview.given.as_ref());
        line("price", format!("{} = {}{counts} ({from})", leg.pair, leg.price));
    }
    line("credits", credits(preview));
    text
}

/// A price that passes, and what sources say.
pub(in crate::cli) fn given_text(given: &Compared) -> String {
    let mut text = quotes_text(given);
    let how = match given.passes {
        Passes::ByHand => "by hand",
        Passes::Market => "accepted",
        Passes::Breaker => "passes",
    };
    text.push_str(&format!("{how:<10} {} = {}: {}\n", given.pair, given.price, far(given)));
    if given.passes == Passes::Market {
        text.push_str("           for every payment of its block that needs it\n");
    }
    text
}

/// A price that is rejected, what sources say, and what follows.
pub(in crate::cli) fn rejected_text(given: &Compared) -> String {
    let mut text = quotes_text(given);
    text.push_str(&format!("rejected   {} = {}: {}\n", given.pair, given.price, apart(given)));
    text.push_str("           it passes for no payment, and no later price is compared with it\n");
    text
}

fn quotes_text(given: &Compared) -> String {
    let pair = &given.pair;
    let mut text = match &given.quotes {
        None => format!("quotes     there are none of {pair} at its block\n"),
        Some((body, at)) => {
            let quotes = decided(body);
            let quotes = if quotes.is_empty() { "  none\n".to_owned() } else { quotes };
            format!("quotes     of {pair} at its block, as of {}\n{quotes}", time(*at))
        }
    };
    if given.rejected {
        text.push_str("           an operator rejected what they say together\n");
    }
    text
}

fn from_text(from: From, given: Option<&Compared>) -> String {
    match (from, given.map(|given| given.passes)) {
        (From::This, Some(Passes::Market)) => "of the market, below its floor, this one".to_owned(),
        (From::This, Some(Passes::Breaker)) => "of the market, this one".to_owned(),
        (From::This, _) => "by hand, this one".to_owned(),
        (From::Approved([proposal, approval]), _) => {
            format!("by hand, acts {proposal} and {approval}")
        }
        (From::Market, _) => "accepted at its block".to_owned(),
        (From::Proposed(act), _) => format!("proposed by act {act}, not approved yet"),
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

pub(in crate::cli) fn preview_json(
    config: &Config,
    deposit: &DepositRow,
    preview: &Preview,
) -> Value {
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
    let passes = |how| preview.given.as_ref().filter(|given| given.passes == how).map(given_json);
    let more = json!({
        "by_hand": passes(Passes::ByHand),
        "accepted": passes(Passes::Market),
        "let_pass": passes(Passes::Breaker),
        "prices": prices,
        "screenings": preview.said.iter().map(screening_json).collect::<Vec<_>>(),
        "missing": preview.missing,
        "credits": priced.and_then(|p| p.as_ref().ok()).map(|p| p.credits.to_string()),
        "none_because": priced.and_then(|p| p.as_ref().err()).map(|e| none_because(*e)),
    });
    with(payment_json(config, deposit), more)
}

pub(in crate::cli) fn given_json(given: &Compared) -> Value {
    let quotes: Vec<Value> = given
        .quotes
        .iter()
        .flat_map(|(body, _)| &body.parts)
        .map(|p| {
            json!({
                "source": p.source, "price": p.price, "guard": p.guard, "rejected": p.rejected,
            })
        })
        .collect();
    let base = given.base.map(|base| {
        let (what, at) = match base {
            Base::Accepted(_) => ("accepted_at_its_block", None),
            Base::Median(_) => ("median_of_quotes", None),
            Base::Last(_, at) => ("last_market_price", Some(time(at))),
            Base::Day(_) => ("median_of_the_day_before", None),
        };
        json!({ "what": what, "price": base.price(), "price_at": at })
    });
    let below = given.base.is_some_and(|base| given.price < base.price());
    let sign = if below { "-" } else { "" };
    json!({
        "pair": given.pair,
        "price": given.price,
        "quotes": quotes,
        "quotes_at": given.quotes.as_ref().map(|(_, at)| time(*at)),
        "quotes_rejected": given.rejected,
        "compared_with": base,
        "deviation_percent": given.apart_bps().map(|bps| format!("{sign}{}", percent(bps))),
        "bound_percent": percent(u64::from(given.bound_bps)),
        "beyond_the_bound": given.is_beyond_the_bound(),
    })
}
