//! `holds`: deposits that wait, what is missing, and what an operator decides about them.
//!
//! A decision is written down; the daemon acts on it at its next look.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::deposits::amount;
use super::epochs::parse_price;
use super::prices::{decided, sentences};
use super::{CliError, Output, now_ms, open, print, print_json, table, time, token_at};
use crate::config::Config;
use crate::domain::conversion::in_usd;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::ids::DepositId;
use crate::domain::oracle::policy::Body;
use crate::store::{Act, ActRow, Breaker, DepositDetail, DepositFilter, DepositRow, Outflow};

#[derive(Debug, Subcommand)]
pub(super) enum HoldsCommand {
    /// List deposits on hold, newest first, with what is missing.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show why a deposit is held, what its sources said, and what can be done.
    Show {
        /// Its id, 0x and 64 hexadecimal digits, as listed.
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Decide about a deposit on hold. The daemon acts on it at its next look.
    #[command(
        after_help = "Examples:\n  topupd holds resolve 0x… --retry --operator alice --reason \"the source is back\"\n  topupd holds resolve 0x… --accept-market --operator alice --reason \"the issuer redeems at 0.95\"\n  topupd holds resolve 0x… --price RTITY/USD=0.02 --operator alice --reason \"two exchanges, by hand\"\n  topupd holds resolve 0x… --approve 7 --operator bob --reason \"checked the same two\"\n  topupd holds resolve 0x… --release --operator alice --reason \"never credited where it came from\"\n  topupd holds resolve 0x… --accept-outflows --operator alice --reason \"the owner moved it to a cold wallet\""
    )]
    Resolve(ResolveArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true).args(["retry", "accept_market", "price", "release", "accept_outflows", "approve"]))]
pub(super) struct ResolveArgs {
    /// Its id, 0x and 64 hexadecimal digits, as listed.
    id: String,
    /// Who decides.
    #[arg(long)]
    operator: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Ask its sources again now.
    #[arg(long)]
    retry: bool,
    /// Take the market's price of its stablecoin, though it is below the floor.
    #[arg(long)]
    accept_market: bool,
    /// Propose a price by hand; another operator must approve it.
    #[arg(long, value_name = "PAIR=PRICE")]
    price: Option<String>,
    /// Propose to let it go on, though it may be credited already (then it counts as new money), or
    /// though its block cannot be proved (then its providers' word decides); another operator must
    /// approve it.
    #[arg(long)]
    release: bool,
    /// Accept what has left its address by now: later payments to it are credited again.
    #[arg(long)]
    accept_outflows: bool,
    /// Approve the price or the release that another operator proposed by this act.
    #[arg(long, value_name = "ACT")]
    approve: Option<i64>,
}

pub(super) async fn holds(config: Config, command: HoldsCommand) -> Result<ExitCode, CliError> {
    match command {
        HoldsCommand::List { limit, output } => list(&config, limit, output).await,
        HoldsCommand::Show { id, output } => show(&config, &id, output).await,
        HoldsCommand::Resolve(args) => resolve(&config, args).await,
    }
}

/// Why it is held; none for a deposit that is not.
fn reason(deposit: &DepositRow) -> Option<HoldReason> {
    match deposit.stage {
        Stage::Held(reason) => Some(reason),
        _ => None,
    }
}

/// Since when it stands where it stands. After `--retry` that is not known any more: then when it
/// was first seen.
fn since(deposit: &DepositRow) -> i64 {
    deposit.updated_at_ms.max(deposit.first_seen_at_ms)
}

/// What was tried and is not there, in a sentence for each pair.
fn missing(tries: &[(Body, i64)]) -> Vec<String> {
    tries.iter().filter_map(|(body, _)| body.held.clone()).collect()
}

async fn list(config: &Config, limit: i64, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let filter = DepositFilter { stage: Some("held".into()), limit, ..DepositFilter::default() };
    let mut held = Vec::new();
    for deposit in store.deposits(&filter).await? {
        let about_market = reason(&deposit).is_some_and(HoldReason::is_about_market);
        let missing = match about_market {
            true => missing(&store.price_tries(deposit.chain, deposit.block_hash).await?),
            false => Vec::new(),
        };
        held.push((deposit, missing));
    }
    let breakers = store.breakers().await?;
    store.close().await;
    if output.json {
        let all: Vec<Value> =
            held.iter().map(|(deposit, missing)| held_json(config, deposit, missing)).collect();
        return print_json(json!(all));
    }
    if held.is_empty() {
        return print(&("no deposit is on hold\n".to_owned() + &sentences(&breakers)));
    }
    let head = ["SINCE", "NAMESPACE", "AMOUNT", "REASON", "DEPOSIT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(held.iter().map(|(deposit, _)| {
        vec![
            time(since(deposit)),
            deposit.namespace.clone(),
            amount(config, deposit, deposit.raw),
            deposit.stage.reason().unwrap_or_default().to_owned(),
            deposit.id.to_string(),
        ]
    }));
    // Under each line, what is missing.
    let listed = table(&rows);
    let mut lines = listed.lines();
    let mut text = String::new();
    text.extend(lines.next().map(|line| format!("{line}\n")));
    for (line, (_, missing)) in lines.zip(&held) {
        text.push_str(&format!("{line}\n"));
        text.extend(missing.iter().map(|why| format!("    {why}\n")));
    }
    print(&(text + &sentences(&breakers)))
}

fn held_json(config: &Config, deposit: &DepositRow, missing: &[String]) -> Value {
    let token = token_at(config, deposit.chain.0, deposit.token);
    json!({
        "id": deposit.id,
        "namespace": deposit.namespace,
        "chain": deposit.chain.to_string(),
        "symbol": token.map(|t| &t.symbol),
        "raw_amount": deposit.raw,
        "amount": token.map(|t| deposit.raw.display(t.decimals)),
        "reason": deposit.stage.reason(),
        "since": time(since(deposit)),
        "missing": missing,
    })
}

/// A deposit by what was given as its id.
async fn detail(store: &crate::store::Store, id: &str) -> Result<DepositDetail, CliError> {
    let id: DepositId = id.parse().map_err(CliError::BadInput)?;
    let none = || CliError::BadInput(format!("there is no deposit {id}"));
    store.deposit(id).await?.ok_or_else(none)
}

async fn show(config: &Config, id: &str, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let detail = detail(&store, id).await?;
    let deposit = &detail.deposit;
    let tries = store.price_tries(deposit.chain, deposit.block_hash).await?;
    let acts = store.acts_of(deposit.id).await?;
    let outflows = match reason(deposit).is_some_and(HoldReason::is_about_origin) {
        true => store.open_outflows(deposit.id).await?,
        false => Vec::new(),
    };
    let mut breakers = store.breakers().await?;
    store.close().await;
    let needed = needed(config, &detail);
    breakers.retain(|b| needed.contains(&b.pair));
    let lacking = lacking(&needed, &tries);
    let can = can_be_done(deposit, &lacking, &acts, &breakers);
    if output.json {
        let mut value = held_json(config, deposit, &missing(&tries));
        let tries: Vec<Value> = tries
            .iter()
            .map(|(body, at)| json!({ "tried_at": time(*at), "pair": body.pair, "body": body }))
            .collect();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("stage".into(), json!(deposit.stage.as_str()));
            fields.insert("needs".into(), json!(needed));
            fields.insert("tries".into(), json!(tries));
            fields.insert("acts".into(), json!(acts));
            fields.insert("outflows".into(), json!(outflows));
            fields.insert("breakers".into(), json!(breakers));
            fields.insert("can_be_done".into(), json!(can));
        }
        return print_json(value);
    }
    let mut text = format!("deposit    {}\n", deposit.id);
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    line("namespace", deposit.namespace.clone());
    line("amount", amount(config, deposit, deposit.raw));
    line("stage", deposit.stage.to_string());
    if let Some(reason) = reason(deposit) {
        line("why", why(reason).to_owned());
        line("since", time(since(deposit)));
    }
    if let Some(at) = paid_at(&detail) {
        line("paid at", format!("{}, block {}", time(at), deposit.block_number));
    }
    if !needed.is_empty() {
        line("needs", needed.join(", "));
    }
    for (body, at) in &tries {
        let held = body.held.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "\n{}, tried at {}: {held}\n{}",
            body.pair,
            time(*at),
            decided(body)
        ));
    }
    if !outflows.is_empty() {
        let rows: Vec<Vec<String>> =
            outflows.iter().map(|o| outflow_row(config, deposit, o)).collect();
        text.push_str(&format!("\nleft its address\n{}", table(&rows)));
    }
    if !acts.is_empty() {
        let rows: Vec<Vec<String>> = acts.iter().map(act_row).collect();
        text.push_str(&format!("\nacts\n{}", table(&rows)));
    }
    text.push('\n');
    text.extend(can.iter().map(|can| format!("{can}\n")));
    print(&text)
}

fn outflow_row(config: &Config, deposit: &DepositRow, outflow: &Outflow) -> Vec<String> {
    let amount = match token_at(config, deposit.chain.0, outflow.token) {
        Some(token) => format!("{} {}", outflow.raw_amount.display(token.decimals), token.symbol),
        None => format!("{} of {}", outflow.raw_amount.0, outflow.token.to_checksum(None)),
    };
    let to = outflow.recipient.to_checksum(None);
    let block = format!("block {}", outflow.block_number);
    vec![block, amount, format!("to {to}"), outflow.tx_hash.to_string()]
}

fn act_row(act: &ActRow) -> Vec<String> {
    let what = match (&act.pair, &act.price, act.approves) {
        (Some(pair), Some(price), _) => format!("{} {pair}={price}", act.kind),
        (_, _, Some(approved)) => format!("{} of act {approved}", act.kind),
        _ => act.kind.clone(),
    };
    vec![act.id.to_string(), time(act.at_ms), act.operator.clone(), what, act.reason.clone()]
}

/// Of the pairs that it needs, those that were tried and have no price; all before any was tried.
fn lacking(needed: &[String], tries: &[(Body, i64)]) -> Vec<String> {
    let mut lacking = needed.to_vec();
    lacking.retain(|pair| tries.is_empty() || tries.iter().any(|(body, _)| body.pair == *pair));
    lacking
}

/// Time of the block that the deposit stands in.
fn paid_at(detail: &DepositDetail) -> Option<i64> {
    let block = detail.deposit.block_hash;
    detail.sightings.iter().find(|s| s.block_hash == block).map(|s| s.block_time_ms)
}

/// The pairs that its price needs, by the rules of its block's time.
fn needed(config: &Config, detail: &DepositDetail) -> Vec<String> {
    let deposit = &detail.deposit;
    let needed = || {
        let at_ms = paid_at(detail)?;
        let token = token_at(config, deposit.chain.0, deposit.token)?;
        let epoch = config.epochs.at(at_ms)?;
        let terms = epoch.accept.get(&token.asset)?;
        Some(config.oracle.oracle.needed(&token.asset, terms, &epoch.accept))
    };
    needed().unwrap_or_default()
}

/// The reason in a sentence.
const fn why(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::ReceiptMismatch => "its receipt does not show what was recorded",
        HoldReason::ReceiptMissing => "it is deep enough, and no provider shows its receipt",
        HoldReason::ProvidersDisagree => "providers contradict each other; see topupd findings",
        HoldReason::Unproved => {
            "no provider shows its block in a way that hashes to the block's hash; see topupd findings"
        }
        HoldReason::NoEpoch => "no epoch is in force at its block's time",
        HoldReason::NoToken => "its token is not configured any more",
        HoldReason::Overflow => "its credits would not fit",
        HoldReason::Dust => "it is below the minimum; more of it must come",
        HoldReason::Conflict => "its posting exists with other contents: somebody changed a row",
        HoldReason::NoPrice => "too few sources gave a price of its block's time",
        HoldReason::PricesDisagree => "its sources are too far apart",
        HoldReason::Breaker => "the price moved too far from those accepted before",
        HoldReason::Depegged => "its stablecoin is below the floor",
        HoldReason::InternalTransfer => {
            "it comes from an address of ours, or its address has sent money on to another one of ours: it may be credited already"
        }
        HoldReason::CustodyDoubt => {
            "money has left its imported address, whose owner could pass the same coins round"
        }
        HoldReason::Screening => {
            "a check that is asked before a credit says no, or does not answer; topupd deposits show says which"
        }
    }
}

/// What an operator can do now, each with its command.
fn can_be_done(
    deposit: &DepositRow,
    lacking: &[String],
    acts: &[ActRow],
    breakers: &[Breaker],
) -> Vec<String> {
    let Some(reason) = reason(deposit) else {
        return vec![format!("it is {}: nothing has to be done", deposit.stage)];
    };
    let id = deposit.id;
    let who = "--operator NAME --reason TEXT";
    let resolve = |how: &str| format!("topupd holds resolve {id} {how} {who}");
    let mut can = Vec::new();
    match reason {
        HoldReason::NoEpoch => can.push("it goes on when an epoch covers its time".to_owned()),
        HoldReason::NoToken => can.push("it goes on when its token is configured again".to_owned()),
        HoldReason::Dust => can.push("it goes on when enough has come".to_owned()),
        _ => {}
    }
    can.push(format!("to have it looked at again now: {}", resolve("--retry")));
    let approved = |act: &&ActRow| acts.iter().any(|a| a.approves == Some(act.id));
    let proposals = acts.iter().filter(|a| a.kind.starts_with("propose_") && !approved(a));
    can.extend(proposals.map(|act| waits_for_approval(id, act)));
    if reason == HoldReason::CustodyDoubt {
        let how = resolve("--accept-outflows");
        can.push(format!("to accept what has left its address by now: {how}"));
    }
    if reason.is_about_origin() {
        let how = resolve("--release");
        can.push(format!(
            "to propose to credit it all the same, which another operator approves: {how}"
        ));
    }
    if reason == HoldReason::Unproved {
        let how = resolve("--release");
        can.push(format!(
            "to propose to check it by its providers' word, without a proof, which another operator approves: {how}"
        ));
    }
    if !reason.is_about_market() {
        return can;
    }
    can.extend(breakers.iter().map(|breaker| {
        format!(
            "to let the price pass that opened the breaker: topupd prices resume {} {who}",
            breaker.pair
        )
    }));
    if reason == HoldReason::Depegged {
        let how = resolve("--accept-market");
        can.push(format!("to take the market's price, though it is below the floor: {how}"));
    }
    for pair in lacking {
        let how = resolve(&format!("--price {pair}=PRICE"));
        can.push(format!("to propose a price by hand, which another operator approves: {how}"));
    }
    can
}

fn waits_for_approval(id: DepositId, act: &ActRow) -> String {
    let what = match (&act.pair, &act.price) {
        (Some(pair), Some(price)) => format!("{pair} = {price}"),
        _ => "its release".to_owned(),
    };
    format!(
        "{what} is proposed by {}; another operator approves it with: topupd holds resolve {id} --approve {} --operator NAME --reason TEXT",
        act.operator, act.id
    )
}

async fn resolve(config: &Config, args: ResolveArgs) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let detail = detail(&store, &args.id).await?;
    let id = detail.deposit.id;
    let act = match (args.retry, args.accept_market, &args.price, args.approve) {
        (true, ..) => Act::Retry,
        (_, true, ..) => {
            let deposit = &detail.deposit;
            let token = token_at(config, deposit.chain.0, deposit.token).ok_or_else(|| {
                CliError::BadInput(format!("the token of deposit {id} is not configured"))
            })?;
            Act::AcceptMarket { pair: in_usd(&token.asset) }
        }
        (_, _, Some(text), _) => {
            let (pair, price) = parse_price(text)?;
            let needed = needed(config, &detail);
            if !needed.contains(&pair) {
                let needs = match needed.as_slice() {
                    [] => "no market price".to_owned(),
                    all => format!("the price of {}", all.join(" and of ")),
                };
                let problem = format!("--price {text:?}: deposit {id} needs {needs}");
                return Err(CliError::BadInput(problem));
            }
            Act::ProposePrice { pair, price }
        }
        (_, _, None, Some(proposal)) => Act::Approve { proposal },
        _ if args.release => Act::ProposeRelease,
        _ if args.accept_outflows => Act::AcceptOutflows,
        // clap asks for exactly one of them.
        (false, false, None, None) => {
            return Err(CliError::BadInput("say what is decided; see --help".into()));
        }
    };
    let number = store.act(id, &act, &args.operator, &args.reason, now_ms()).await?;
    let written = store.act_by_id(number).await?;
    store.close().await;
    let next = match (&act, &written) {
        (Act::ProposePrice { .. } | Act::ProposeRelease, Some(act)) => waits_for_approval(id, act),
        (Act::Retry, _) => {
            "the daemon asks its sources again and looks at the deposit at its next look".to_owned()
        }
        _ => "the daemon acts on it at its next look".to_owned(),
    };
    print(&format!("act {number} is written down\n{next}\n"))
}
