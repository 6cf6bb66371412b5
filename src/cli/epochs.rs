//! `epochs`: the configured pricing rules, and what a payment would give under them.
//!
//! It computes with the same function as the daemon, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use alloy::primitives::{Address, B256};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::open::{clock_of, open};
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::domain::conversion::Leg;
use crate::domain::deposit::IgnoreReason;
use crate::domain::ids::ChainId;
use crate::domain::money::{MoneyError, Rate, TOKEN_DECIMALS_MAX};
use crate::domain::pricing::{Epoch, Price, Token, price};
use crate::domain::terms::{Dust, NoPrice, Terms, Valuation};

#[derive(Debug, Subcommand)]
pub(super) enum EpochsCommand {
    /// List the configured epochs; * marks the one in force now.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// What a payment would give. Writes nothing.
    #[command(
        after_help = "Examples:\n  topupd epochs preview --asset USDC --amount 100\n  topupd epochs preview --asset USDC --amount 100 --at 2027-01-15T08:00:00Z --price RTITY/USD=0.02 --price USDC/USD=1"
    )]
    Preview(PreviewArgs),
}

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// What is paid, as the epochs name it.
    #[arg(long)]
    asset: String,
    /// How much of it, in whole tokens.
    #[arg(long)]
    amount: String,
    /// When it is paid; otherwise now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// A market price; of pairs without one, the newest accepted price at or before the time.
    #[arg(long, value_name = "PAIR=PRICE")]
    price: Vec<String>,
    /// Decimals of the token; otherwise those of the configured tokens of that asset.
    #[arg(long)]
    decimals: Option<u8>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn epochs(config: Config, command: EpochsCommand) -> Result<ExitCode, CliError> {
    match command {
        EpochsCommand::List { output } => list(&config, clock_of(&config).await?.now_ms(), output),
        EpochsCommand::Preview(args) => preview(&config, args).await,
    }
}

fn list(config: &Config, now_ms: i64, output: Output) -> Result<ExitCode, CliError> {
    let now = config.epochs.at(now_ms).map(|e| e.id.as_str());
    let in_force = |epoch: &Epoch| now == Some(epoch.id.as_str());
    if output.is_data() {
        let all: Vec<Value> = config
            .epochs
            .all()
            .iter()
            .map(|e| {
                json!({
                    "epoch": e.id, "starts_at": time(e.starts_at_ms), "phase": e.phase,
                    "in_force": in_force(e), "accept": e.accept,
                })
            })
            .collect();
        return print_data(output, json!({ "epochs": all }));
    }
    let head = ["", "EPOCH", "STARTS", "PHASE", "ASSET", "VALUATION", "RATE", "MINIMUM", "DUST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for epoch in config.epochs.all() {
        let mark = if in_force(epoch) { "*" } else { "" };
        let mut first = [mark, epoch.id.as_str(), &time(epoch.starts_at_ms), epoch.phase.as_str()]
            .map(str::to_owned);
        for (asset, terms) in &epoch.accept {
            let mut row = first.to_vec();
            row.extend([
                asset.clone(),
                terms.valuation.rule().as_str().to_owned(),
                rate(&terms.valuation),
                terms.minimum.map_or_else(|| "-".to_owned(), |m| m.to_string()),
                terms.dust.as_str().to_owned(),
            ]);
            rows.push(row);
            first = Default::default();
        }
    }
    let mut text = table(&rows);
    if now.is_none() {
        text.push_str("\nno epoch is in force now: payments are held until one is\n");
    }
    print(&text)
}

fn rate(valuation: &Valuation) -> String {
    match valuation {
        Valuation::Par { credits_per_usd: rate } | Valuation::Fixed { credits_per_token: rate } => {
            format!("{rate} credits a token")
        }
        Valuation::Market { credits_per_usd: rate } => format!("{rate} credits a dollar"),
        Valuation::Convert { into, .. } => format!("into {into}"),
    }
}

/// An instant as it is given on the command line.
pub(super) fn parse_time(option: &str, text: &str) -> Result<i64, CliError> {
    text.parse::<jiff::Timestamp>().map(|t| t.as_millisecond()).map_err(|_| {
        CliError::BadInput(format!(
            "{option} {text:?} is not a time; expected RFC 3339 such as 2027-01-15T08:00:00Z"
        ))
    })
}

/// A pair and its price, as they are given on the command line.
pub(super) fn parse_price(text: &str) -> Result<(String, Rate), CliError> {
    let wrong = |why: &str| {
        CliError::BadInput(format!(
            "--price {text:?}: {why}; give PAIR=PRICE, such as RTITY/USD=0.02"
        ))
    };
    let (pair, number) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
    let price: Rate = number.parse().map_err(|why| match why {
        MoneyError::TooLong(_) => wrong("the price has too many digits; at most 28 are exact"),
        _ => wrong("the price is not a decimal number"),
    })?;
    if price.is_zero() {
        return Err(wrong("a price is not 0"));
    }
    Ok((pair.to_owned(), price))
}

async fn preview(config: &Config, args: PreviewArgs) -> Result<ExitCode, CliError> {
    let at_ms = match args.at.as_deref() {
        Some(text) => parse_time("--at", text)?,
        None => clock_of(config).await?.now_ms(),
    };
    let epoch = config.epochs.at(at_ms).ok_or_else(|| {
        let first = config.epochs.all().first();
        let first = first.map_or_else(
            || "none is configured".to_owned(),
            |e| format!("the first one, {:?}, starts at {}", e.id, time(e.starts_at_ms)),
        );
        CliError::BadInput(format!("no epoch is in force at {}: {first}", time(at_ms)))
    })?;
    let terms = epoch.accept.get(&args.asset).ok_or_else(|| {
        let accepted: Vec<_> = epoch.accept.keys().map(String::as_str).collect();
        CliError::BadInput(format!(
            "--asset {:?} is not accepted by epoch {:?}, which is in force at {}; it accepts: {}",
            args.asset,
            epoch.id,
            time(at_ms),
            accepted.join(", ")
        ))
    })?;
    let decimals = decimals(config, &args)?;
    let amount: Rate =
        args.amount.parse().map_err(|e| CliError::BadInput(format!("--amount: {e}")))?;
    let raw = amount.to_raw(decimals).map_err(|e| CliError::BadInput(format!("--amount: {e}")))?;
    let needed = config.oracle.oracle.needed(&args.asset, terms, &epoch.accept);
    let used = prices(config, &needed, &args.price, at_ms).await?;
    let legs: Vec<Leg> = used.iter().map(|u| u.leg.clone()).collect();
    let token = Token {
        chain: ChainId(0),
        address: Address::ZERO,
        symbol: args.asset.clone(),
        asset: args.asset.clone(),
        decimals,
    };
    let priced = price(raw, &token, &config.epochs, at_ms, &legs);
    let answer = Preview { epoch, terms, amount, asset: &args.asset, at_ms, used };
    if args.output.is_data() {
        return print_data(args.output, answer.json(&priced));
    }
    let dust = terms.dust == Dust::Accumulate && terms.is_dust(raw, decimals);
    print(&answer.text(&priced, dust))
}

fn decimals(config: &Config, args: &PreviewArgs) -> Result<u8, CliError> {
    if let Some(decimals) = args.decimals {
        let problem = || format!("--decimals {decimals}: at most {TOKEN_DECIMALS_MAX}");
        return (decimals <= TOKEN_DECIMALS_MAX)
            .then_some(decimals)
            .ok_or_else(|| CliError::BadInput(problem()));
    }
    let tokens = config.chains.iter().flat_map(|c| &c.rules.tokens);
    let all: BTreeSet<u8> = tokens.filter(|t| t.asset == args.asset).map(|t| t.decimals).collect();
    match (all.first(), all.len()) {
        (Some(decimals), 1) => Ok(*decimals),
        (None, _) => Err(CliError::BadInput(format!(
            "no chain has a token of {}: say its decimals with --decimals",
            args.asset
        ))),
        (Some(_), _) => {
            let all: Vec<_> = all.iter().map(u8::to_string).collect();
            Err(CliError::BadInput(format!(
                "the tokens of {} have {} decimals: say which with --decimals",
                args.asset,
                all.join(" or ")
            )))
        }
    }
}

/// A price, and where it is from.
struct Used {
    leg: Leg,
    /// Instant of the accepted price; none for a given one.
    of_ms: Option<i64>,
    /// A stablecoin's floor, where the price is below it.
    below: Option<Rate>,
}

async fn prices(
    config: &Config,
    needed: &[String],
    given: &[String],
    at_ms: i64,
) -> Result<Vec<Used>, CliError> {
    let mut by_pair = BTreeMap::new();
    for text in given {
        let (pair, price) = parse_price(text)?;
        if !needed.contains(&pair) {
            let problem = match needed {
                [] => "this payment needs no market price".to_owned(),
                all => format!("this payment needs the prices of {}", all.join(", ")),
            };
            return Err(CliError::BadInput(format!("--price {text:?} is not used: {problem}")));
        }
        if by_pair.insert(pair, price).is_some() {
            return Err(CliError::BadInput(format!("--price {text:?}: the pair is given twice")));
        }
    }
    let mut store = None;
    let mut used = Vec::with_capacity(needed.len());
    for pair in needed {
        let Some(policy) = config.oracle.oracle.pair(pair) else {
            return Err(CliError::BadInput(format!("the pair {pair} is not configured")));
        };
        let (price, hash, of_ms) = match by_pair.get(pair) {
            Some(price) => (*price, B256::ZERO, None),
            None => {
                if store.is_none() {
                    store = Some(open(config).await?);
                }
                let found = match &store {
                    Some(store) => store.last_market_price(pair, at_ms).await?,
                    None => None,
                };
                let accepted = found.map(|p| p.accepted).ok_or_else(|| {
                    CliError::BadInput(format!(
                        "no price of {pair} was accepted at or before {}: give one with --price {pair}=PRICE",
                        time(at_ms)
                    ))
                })?;
                (accepted.price, accepted.hash, Some(accepted.instant_ms))
            }
        };
        let below = policy.hold_below.filter(|floor| price < *floor);
        used.push(Used { leg: policy.leg(price, hash), of_ms, below });
    }
    Ok(used)
}

struct Preview<'a> {
    epoch: &'a Epoch,
    terms: &'a Terms,
    amount: Rate,
    asset: &'a str,
    at_ms: i64,
    used: Vec<Used>,
}

impl Preview<'_> {
    fn text(&self, priced: &Result<Price, NoPrice>, dust: bool) -> String {
        let (asset, valuation) = (self.asset, &self.terms.valuation);
        let rule = format!("{}, {}", valuation.rule().as_str(), rate(valuation));
        let mut rows = vec![
            ("payment", format!("{} {asset} at {}", self.amount, time(self.at_ms))),
            ("epoch", format!("{} ({})", self.epoch.id, self.epoch.phase.as_str())),
            ("rule", rule),
        ];
        for used in &self.used {
            let leg = &used.leg;
            let counts = if leg.applied == leg.price {
                String::new()
            } else {
                format!(", counts as {}", leg.applied)
            };
            let from = match used.of_ms {
                None => "as given".to_owned(),
                Some(at) => format!("the newest accepted price, of {}", time(at)),
            };
            rows.push(("price", format!("{} = {}{counts} ({from})", leg.pair, leg.price)));
        }
        match priced {
            Ok(price) => {
                if let Some(into) = price.conversion.as_ref().and_then(|c| c.into.as_ref()) {
                    let tokens = into.tokens.display(into.decimals);
                    rows.push(("converts to", format!("{tokens} {}", into.asset)));
                    let per = if into.rule == "fixed" { "token" } else { "dollar" };
                    rows.push(("rate", format!("{} credits a {per}", price.rate)));
                }
                rows.push(("credits", format!("{}, rounded down", price.credits)));
            }
            Err(reason) => rows.push(("credits", self.none(*reason))),
        }
        for Used { leg, below, .. } in &self.used {
            if let Some(floor) = below {
                let why = format!(
                    "{} is below {floor}: such a payment is held until an operator decides",
                    leg.pair
                );
                rows.push(("held", why));
            }
        }
        if let (true, Some(minimum)) = (dust, self.terms.minimum) {
            let why = format!("it is less than {minimum} {asset}: waits until more of it came");
            rows.push(("held", why));
        }
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        table(&rows)
    }

    fn none(&self, reason: NoPrice) -> String {
        match (reason, self.terms.minimum) {
            (NoPrice::Ignore(IgnoreReason::BelowMinimum), Some(minimum)) => {
                format!("none: the least that is credited is {minimum} {}", self.asset)
            }
            (NoPrice::Ignore(reason), _) => format!("none: {}", reason.as_str()),
            (NoPrice::Hold(reason), _) => format!("none: it would be held, {}", reason.as_str()),
        }
    }

    fn json(&self, priced: &Result<Price, NoPrice>) -> Value {
        let into = priced.as_ref().ok().and_then(|p| p.conversion.as_ref()?.into.as_ref());
        let prices: Vec<Value> = self
            .used
            .iter()
            .map(|u| {
                json!({
                    "pair": u.leg.pair, "price": u.leg.price, "applied": u.leg.applied,
                    "price_at": u.of_ms.map(time), "below_floor": u.below,
                })
            })
            .collect();
        json!({
            "asset": self.asset, "amount": self.amount, "paid_at": time(self.at_ms),
            "epoch": self.epoch.id, "rule": self.terms.valuation.rule().as_str(),
            "prices": prices,
            "tokens": into.map(|i| i.tokens.display(i.decimals)),
            "into": into.map(|i| &i.asset),
            "rate": priced.as_ref().ok().map(|p| p.rate),
            "credits": priced.as_ref().ok().map(|p| p.credits.to_string()),
            "none_because": priced.as_ref().err().map(|e| self.none(*e)),
        })
    }
}
