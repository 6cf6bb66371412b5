//! `ledger correct`: two people undo a credit and give it again at another amount.
//!
//! Whoever proposes or approves is shown what it comes to, each time: the credits before and after, what was used of
//! them, and the balance. The record is written with the approval.

use std::process::ExitCode;

use alloy::primitives::B256;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::cli::dialect::with;
use crate::cli::epochs::parse_price;
use crate::cli::error::CliError;
use crate::cli::holds::acts::{act_json, can_be_approved, replaced, stands, what};
use crate::cli::holds::preview::{given_json, given_text, not_said_twice};
use crate::cli::ledger::records::place;
use crate::cli::payment::{amount, payment_json};
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::time;
use crate::config::Config;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::compared::Compared;
use crate::domain::conversion::Leg;
use crate::domain::correction::ProposedCorrection;
use crate::domain::ids::DepositId;
use crate::domain::journal::Valued;
use crate::domain::money::{Nanocredits, Rate, RawAmount};
use crate::store::{
    Correcting, CorrectionDone, DepositRow, NewCorrection, RecordPlace, SeenCorrection, Store,
    StoreError,
};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("proposal").multiple(true).conflicts_with("approve").args(["price", "epoch"]),
    group = ArgGroup::new("correction").required(true).multiple(true).args(["price", "epoch", "approve"]),
    after_help = "Examples:\n  topupd ledger correct acme/2 --price RTITY/USD=0.02 --operator alice --reason \"0.002 was typed\" --evidence \"ticket 4711\"\n  topupd ledger correct 0x… --epoch after --operator alice --reason \"paid after the TGE\" --evidence \"ticket 4712\"\n  topupd holds show 7           what alice proposed, what it comes to, and its hash\n  topupd ledger correct acme/2 --approve 7 --hash 0x… --operator bob --reason \"seen the ticket\"\n  topupd holds withdraw 7 --operator alice --reason \"one zero too many\""
)]
pub(in crate::cli) struct CorrectArgs {
    /// The credit: its record, NAMESPACE/NUMBER or its id; or the id of its deposit.
    #[arg(value_name = "RECORD|DEPOSIT")]
    what: String,
    /// Propose a price by hand; the other prices stay as they were. It takes the place of what was proposed for
    /// the same deposit and is not approved.
    #[arg(long, value_name = "PAIR=PRICE", requires = "evidence")]
    price: Option<String>,
    /// Propose to value the payment by the rules of this epoch.
    #[arg(long, value_name = "ID", requires = "evidence")]
    epoch: Option<String>,
    /// What shows that the credit is wrong: a text, such as the address of a page or of a ticket.
    #[arg(long, value_name = "TEXT", conflicts_with = "approve")]
    evidence: Option<String>,
    /// Repeat the price by hand, where it differs from the market by more than the pair may jump. Both who
    /// proposes and who approves must repeat it.
    #[arg(long, value_name = "PRICE")]
    beyond_the_bound: Option<Rate>,
    /// Approve what another operator proposed by this act.
    #[arg(long, value_name = "ACT", requires = "hash")]
    approve: Option<i64>,
    /// The hash of that act, as `topupd holds show ACT` prints it.
    #[arg(long, value_name = "HASH", requires = "approve")]
    hash: Option<B256>,
    /// Who decides.
    #[arg(long)]
    operator: String,
    /// Why.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) async fn correct(
    config: &Config,
    store: &Store,
    args: CorrectArgs,
) -> Result<ExitCode, CliError> {
    let (id, credit) = named(store, &args.what).await?;
    let deposit = deposit(store, id).await?;
    match args.approve.zip(args.hash) {
        Some(act) => approve(config, store, &deposit, act, &args).await,
        None => propose(config, store, &deposit, credit, &args).await,
    }
}

async fn deposit(store: &Store, id: DepositId) -> Result<DepositRow, CliError> {
    let none = || CliError::BadInput(format!("there is no deposit {id}"));
    Ok(store.deposit(id).await?.ok_or_else(none)?.deposit)
}

/// A deposit and the record of its credit, by the name of either.
async fn named(store: &Store, what: &str) -> Result<(DepositId, Option<RecordPlace>), CliError> {
    if let Ok(id) = what.parse::<DepositId>()
        && store.deposit(id).await?.is_some()
    {
        return Ok((id, store.standing_credit(id).await?));
    }
    let place = place(store, what).await?;
    let deposit = store.credited_deposit(place).await?;
    let deposit = deposit.ok_or_else(|| {
        CliError::BadInput(format!(
            "{what} is no credit; topupd ledger history NAMESPACE lists the records of one"
        ))
    })?;
    Ok((deposit, Some(place)))
}

async fn propose(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    credit: Option<RecordPlace>,
    args: &CorrectArgs,
) -> Result<ExitCode, CliError> {
    let id = deposit.id;
    let place = credit.ok_or_else(|| {
        CliError::BadInput(format!(
            "deposit {id} is {}: it has no credit that could be corrected",
            deposit.stage
        ))
    })?;
    let price = args.price.as_deref().map(parse_price).transpose()?;
    let new = NewCorrection {
        place,
        price: price.as_ref().map(|(pair, price)| (pair.as_str(), *price)),
        epoch: args.epoch.as_deref(),
        evidence: args.evidence.as_deref().unwrap_or_default(),
    };
    let oracle = &config.oracle.oracle;
    let seen = store.preview_correction(oracle, Correcting::New(new)).await?;
    let before = store.acts_of(id).await?;
    let who = (args.operator.as_str(), args.reason.as_str());
    let number = match store.propose_correction(oracle, &new, args.beyond_the_bound, who).await {
        Err(StoreError::NotSaidTwice { compared, repeated }) => {
            return not_said(config, deposit, &seen, args.output, &compared, repeated);
        }
        done => done?,
    };
    let acts = store.acts_of(id).await?;
    let written = acts.iter().find(|act| act.id == number);
    let gone: String = replaced(&before, &acts, number)
        .map(|old| format!("it takes the place of act {old}, which cannot be approved any more\n"))
        .collect();
    let next = written.map(|act| waits(&seen, act)).unwrap_or_default();
    let text = format!("act {number} is written down\n{gone}{next}\n");
    let act = written.map(|act| act_json(act, stands(act, &acts, deposit).as_ref()));
    answer(config, deposit, Some(&seen), args.output, json!({ "act": act }), &text)
}

async fn approve(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    (number, hash): (i64, B256),
    args: &CorrectArgs,
) -> Result<ExitCode, CliError> {
    let oracle = &config.oracle.oracle;
    let named = store.act_by_id(number).await?;
    if named.as_ref().is_some_and(|act| act.deposit != Some(deposit.id)) {
        let problem = format!("act {number} does not propose anything for {}", args.what);
        return Err(CliError::BadInput(problem));
    }
    let waits = match &named {
        Some(act) => act.standing(&store.acts_of(deposit.id).await?) == Some(Standing::Waits),
        None => false,
    };
    let seen = match waits {
        true => Some(store.preview_correction(oracle, Correcting::Proposed(number)).await?),
        false => None,
    };
    let (repeated, who) = (args.beyond_the_bound, (args.operator.as_str(), args.reason.as_str()));
    let done = match store.approve_correction(oracle, (number, hash), repeated, who).await {
        Err(StoreError::NotSaidTwice { compared, repeated }) => {
            let Some(seen) = &seen else {
                return Err(CliError::BadInput(not_said_twice(&compared, repeated)));
            };
            return not_said(config, deposit, seen, args.output, &compared, repeated);
        }
        done => done?,
    };
    let acts = store.acts_of(deposit.id).await?;
    let act = acts.iter().find(|act| act.id == done.act).map(|act| act_json(act, None));
    let record = format!("{}/{}", deposit.namespace, done.place.seq);
    let text = done_text(&done, &record);
    let more = json!({ "act": act, "record": record, "before": done.before });
    answer(config, deposit, seen.as_ref(), args.output, more, &text)
}

fn done_text(done: &CorrectionDone, record: &str) -> String {
    match done.before {
        true => {
            format!("it was approved before, by act {}; record {record} corrects it\n", done.act)
        }
        false => format!("act {} is written down\nrecord {record} corrects it\n", done.act),
    }
}

/// What was looked at, so that the number can be checked and repeated; nothing was written.
fn not_said(
    config: &Config,
    deposit: &DepositRow,
    seen: &SeenCorrection,
    output: Output,
    compared: &Compared,
    repeated: Option<Rate>,
) -> Result<ExitCode, CliError> {
    answer(config, deposit, Some(seen), output, json!({ "act": null }), "")?;
    Err(CliError::BadInput(not_said_twice(compared, repeated)))
}

/// A preview, and what was written.
fn answer(
    config: &Config,
    deposit: &DepositRow,
    seen: Option<&SeenCorrection>,
    output: Output,
    more: Value,
    text: &str,
) -> Result<ExitCode, CliError> {
    if output.is_data() {
        let preview = seen.map(|seen| seen_json(config, deposit, seen));
        return print_data(output, with(json!({ "preview": preview }), more));
    }
    match seen {
        Some(seen) => print(&format!("{}\n{text}", seen_text(config, deposit, seen))),
        None => print(text),
    }
}

/// `holds show` of an act that proposes a correction.
pub(in crate::cli) async fn show_act(
    config: &Config,
    store: &Store,
    act: &ActRow,
    output: Output,
) -> Result<ExitCode, CliError> {
    let id = act.deposit.ok_or_else(|| {
        CliError::Failed(format!("act {} is about no deposit: see topupd ledger verify", act.id))
    })?;
    let deposit = deposit(store, id).await?;
    let acts = store.acts_of(id).await?;
    let standing = stands(act, &acts, &deposit);
    let oracle = &config.oracle.oracle;
    let seen = match can_be_approved(act, &acts, &deposit) {
        true => Some(store.preview_correction(oracle, Correcting::Proposed(act.id)).await?),
        false => None,
    };
    if output.is_data() {
        let preview = seen.as_ref().map(|seen| seen_json(config, &deposit, seen));
        return print_data(
            output,
            json!({ "act": act_json(act, standing.as_ref()), "preview": preview }),
        );
    }
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    line("act", format!("{}, {}", act.id, what(act)));
    line("by", format!("{}, at {}: {}", act.operator, time(act.at_ms), act.reason));
    let proposed = ProposedCorrection::of(act);
    proposed.into_iter().for_each(|proposed| line("evidence", proposed.evidence));
    line("hash", act.hash().to_string());
    standing.into_iter().for_each(|standing| line("stands", standing.text));
    match &seen {
        Some(seen) => {
            text.push_str(&seen_text(config, &deposit, seen));
            text.push_str(&format!("\n{}\n", waits(seen, act)));
        }
        None => line("deposit", format!("{id}, {}", deposit.stage)),
    }
    print(&text)
}

/// What the second operator does about a correction, and how it is undone.
fn waits(seen: &SeenCorrection, act: &ActRow) -> String {
    let again = match (&seen.given, &act.price) {
        (Some(given), Some(price)) if given.is_beyond_the_bound() => {
            format!(" --beyond-the-bound {price}")
        }
        _ => String::new(),
    };
    let (number, hash, who) = (act.id, act.hash(), "--operator NAME --reason TEXT");
    let record = record(seen);
    format!(
        "the correction is proposed by {}; another operator looks at it with: topupd holds show {number}\nand approves it with: topupd ledger correct {record} --approve {number} --hash {hash}{again} {who}\nto withdraw it: topupd holds withdraw {number} {who}",
        act.operator
    )
}

fn record(seen: &SeenCorrection) -> String {
    format!("{}/{}", seen.credit.namespace, seen.credit.place.seq)
}

/// Where a price of a correction comes from.
fn from(seen: &SeenCorrection, leg: &Leg) -> &'static str {
    let by_hand = seen.given.as_ref().is_some_and(|given| given.pair == leg.pair);
    match by_hand {
        true => "this",
        false if seen.credit.valued.legs().contains(leg) => "credited",
        false => "market",
    }
}

fn by(valued: &Valued) -> String {
    format!("{}, of epoch {}", valued.rule, valued.epoch)
}

fn seen_text(config: &Config, deposit: &DepositRow, seen: &SeenCorrection) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    let (before, again) = (&seen.credit.valued, &seen.again);
    line("corrects", format!("{}, deposit {}", record(seen), deposit.id));
    line("namespace", deposit.namespace.clone());
    line("amount", amount(config, deposit, deposit.raw));
    line("paid in", format!("{}, transfer {}, {}", deposit.tx_hash, deposit.n, deposit.chain));
    match by(before) == by(again) {
        true => line("rule", by(again)),
        false => line("rule", format!("{} before; {} instead", by(before), by(again))),
    }
    if let Some(given) = &seen.given {
        text.push_str(&given_text(given));
    }
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    for leg in again.legs() {
        let counts = match leg.applied == leg.price {
            true => String::new(),
            false => format!(", counts as {}", leg.applied),
        };
        let from = match from(seen, leg) {
            "this" => "by hand, this one",
            "credited" => "as it was credited",
            _ => "accepted at its block",
        };
        line("price", format!("{} = {}{counts} ({from})", leg.pair, leg.price));
    }
    let credits = (seen.credit.credits, again.credits_nano);
    line("credits", format!("{} before; {} instead, rounded down", credits.0, credits.1));
    let (undone, given) = (&seen.did.reversed, &seen.did.credited);
    if undone.debt_added_nano > Nanocredits::ZERO {
        line("used", format!("{} of those before: they are owed first", undone.debt_added_nano));
    }
    if given.repaid_nano > Nanocredits::ZERO {
        line("repays", format!("{} of what is owed", given.repaid_nano));
    }
    if let Some(owed) = owed(seen) {
        line("treasury", owed);
    }
    line("balance", format!("{} before; {} then", seen.balance, seen.after.balance_nano));
    if (seen.debt, seen.after.debt_nano) != (Nanocredits::ZERO, Nanocredits::ZERO) {
        line("debt", format!("{} before; {} then", seen.debt, seen.after.debt_nano));
    }
    text
}

/// What the treasury owes for the payment; none where nothing is converted.
fn owed(seen: &SeenCorrection) -> Option<String> {
    let tokens = |valued: &Valued| {
        let into = valued.conversion.as_ref()?.into.as_ref()?;
        Some(format!("{} {}", into.tokens.display(into.decimals), into.asset))
    };
    let said = |tokens: Option<String>| tokens.unwrap_or_else(|| "nothing".to_owned());
    let (before, again) = (tokens(&seen.credit.valued), tokens(&seen.again));
    if (&before, &again) == (&None, &None) {
        return None;
    }
    let bought = seen.did.reversed.settled_tokens.filter(|tokens| *tokens > RawAmount::ZERO);
    let decimals = seen.credit.valued.conversion.as_ref().and_then(|c| c.into.as_ref());
    let bought = bought
        .zip(decimals)
        .map(|(tokens, into)| format!("; {} are bought already", tokens.display(into.decimals)))
        .unwrap_or_default();
    Some(format!("{} before; {} instead{bought}", said(before), said(again)))
}

fn seen_json(config: &Config, deposit: &DepositRow, seen: &SeenCorrection) -> Value {
    let (before, again) = (&seen.credit.valued, &seen.again);
    let prices: Vec<Value> = again
        .legs()
        .iter()
        .map(|leg| {
            json!({
                "pair": leg.pair, "price": leg.price, "applied": leg.applied, "from": from(seen, leg),
            })
        })
        .collect();
    let valued = |valued: &Valued| {
        json!({
            "epoch": valued.epoch, "rule": valued.rule, "credits": valued.credits_nano.to_string(),
        })
    };
    let stand = |balance: Nanocredits, debt: Nanocredits| json!({ "credits": balance.to_string(), "debt": debt.to_string() });
    let (undone, given) = (&seen.did.reversed, &seen.did.credited);
    let more = json!({
        "corrects": record(seen),
        "credited": valued(before),
        "instead": valued(again),
        "by_hand": seen.given.as_ref().map(given_json),
        "prices": prices,
        "used_credits": undone.debt_added_nano.to_string(),
        "repaid_credits": given.repaid_nano.to_string(),
        "balance_before": stand(seen.balance, seen.debt),
        "balance_after": stand(seen.after.balance_nano, seen.after.debt_nano),
    });
    with(payment_json(config, deposit), more)
}
