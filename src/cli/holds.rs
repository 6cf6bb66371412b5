//! `holds`: deposits that wait, what is missing, and what an operator decides about them.
//!
//! A decision is written down; the daemon acts on it at its next look.

pub(in crate::cli) mod acts;
pub(in crate::cli) mod preview;
pub(in crate::cli) mod proposals;
pub(in crate::cli) mod resolve;

use std::process::ExitCode;

use alloy::primitives::B256;
use clap::Subcommand;
use serde_json::{Value, json};

use super::dialect::with;
use super::screened::{screened_lines, screening_json};
use crate::cli::error::CliError;
use crate::cli::holds::acts::{act_json, can_be_approved, stands, what};
use crate::cli::holds::proposals::{Proposal, proposals, proposals_text};
use crate::cli::holds::resolve::{ResolveArgs, WithdrawArgs, detail, needed, waits_for_approval};
use crate::cli::open::{chain_name, open, token_at};
use crate::cli::payment::amount;
use crate::cli::prices::decided::{decided, sentences};
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::{cut, table, time};
use crate::config::Config;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::oracle::policy::Body;
use crate::domain::screening;
use crate::domain::screening::Said;
use crate::store::{Breaker, DepositFilter, DepositRow, Outflow};
use crate::tasks::by_hand::said_last;

#[derive(Debug, Subcommand)]
pub(super) enum HoldsCommand {
    /// List deposits on hold, newest first, with what is missing, and what was proposed and waits for a second
    /// person: corrections of credits too.
    List {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Show why a deposit is held, what its sources said, and what can be done; or an act, with its hash
    /// and what it comes to.
    Show {
        /// A deposit's id, 0x and 64 hexadecimal digits, as listed; or the number of an act.
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Decide about a deposit on hold. The daemon acts on it at its next look.
    #[command(
        after_help = "Examples:\n  topupd holds resolve 0x… --retry --operator alice --reason \"the source is back\"\n  topupd holds resolve 0x… --accept-market --operator alice --reason \"the issuer redeems at 0.95\"\n  topupd holds resolve 0x… --price RTITY/USD=0.02 --operator alice --reason \"two exchanges, by hand\"\n  topupd holds show 7           what alice proposed, what it comes to, and its hash\n  topupd holds resolve 0x… --approve 7 --hash 0x… --operator bob --reason \"checked the same two\"\n  topupd holds resolve 0x… --release --operator alice --reason \"never credited where it came from\"\n  topupd holds resolve 0x… --accept-outflows --operator alice --reason \"the owner moved it to a cold wallet\""
    )]
    Resolve(ResolveArgs),
    /// Withdraw a proposal that nobody approved yet.
    #[command(
        after_help = "Example:\n  topupd holds withdraw 7 --operator alice --reason \"one zero too many\""
    )]
    Withdraw(WithdrawArgs),
}

pub(super) async fn holds(config: Config, command: HoldsCommand) -> Result<ExitCode, CliError> {
    match command {
        HoldsCommand::List { limit, output } => list(&config, limit, output).await,
        HoldsCommand::Show { id, output } => match id.parse::<i64>() {
            Ok(act) => resolve::show_act(&config, act, output).await,
            Err(_) => show(&config, &id, output).await,
        },
        HoldsCommand::Resolve(args) => resolve::resolve(&config, args).await,
        HoldsCommand::Withdraw(args) => resolve::withdraw(&config, args).await,
    }
}

/// Why it is held; none for a deposit that is not.
fn reason(deposit: &DepositRow) -> Option<HoldReason> {
    match deposit.stage {
        Stage::Held(reason) => Some(reason),
        _ => None,
    }
}

/// Since when it stands where it stands; of what was put on hold before that was noted, when it was last
/// looked at.
fn since(deposit: &DepositRow) -> i64 {
    deposit.since_ms.unwrap_or(deposit.updated_at_ms).max(deposit.first_seen_at_ms)
}

/// What was tried and is not there, in a sentence for each pair.
fn missing(tries: &[(Body, i64)]) -> Vec<String> {
    tries.iter().filter_map(|(body, _)| body.held.clone()).collect()
}

async fn list(config: &Config, limit: i64, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let asked = limit.saturating_add(1);
    let filter =
        DepositFilter { stage: Some("held".into()), limit: asked, ..DepositFilter::default() };
    let mut deposits = store.deposits(&filter).await?;
    let truncated = cut(&mut deposits, limit);
    let is_screened = |d: &&DepositRow| reason(d) == Some(HoldReason::Screening);
    let asked: Vec<_> = deposits.iter().filter(is_screened).map(|d| d.id).collect();
    let screened = store.screened(&asked).await?;
    let mut held = Vec::new();
    for deposit in deposits {
        let missing = match reason(&deposit) {
            Some(reason) if reason.is_about_market() => {
                missing(&store.price_tries(deposit.chain, deposit.block_hash).await?)
            }
            Some(HoldReason::Screening) => screened.get(&deposit.id).map_or_else(Vec::new, |s| {
                let said = |s: &Said| format!("{}: {}", s.by.asked.as_str(), s.outcome.as_str());
                screening::said_last(&s.said).into_iter().map(said).collect()
            }),
            _ => Vec::new(),
        };
        held.push((deposit, missing));
    }
    let breakers = store.breakers().await?;
    let open = proposals(&store).await?;
    store.close().await;
    if output.is_data() {
        let open: Vec<Value> = open.iter().map(Proposal::json).collect();
        let all: Vec<Value> =
            held.iter().map(|(deposit, missing)| held_json(config, deposit, missing)).collect();
        let value = json!({
            "holds": all, "proposals": open, "breakers": breakers, "truncated": truncated,
        });
        return print_data(output, value);
    }
    if held.is_empty() {
        let none = "no deposit is on hold\n".to_owned();
        return print(&(none + &sentences(&breakers) + &proposals_text(&open)));
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
    print(&(text + &sentences(&breakers) + &proposals_text(&open)))
}

fn held_json(config: &Config, deposit: &DepositRow, missing: &[String]) -> Value {
    let token = token_at(config, deposit.chain.0, deposit.token);
    json!({
        "deposit_id": deposit.id,
        "namespace": deposit.namespace,
        "chain": deposit.chain,
        "chain_name": chain_name(config, deposit.chain),
        "symbol": token.map(|t| &t.symbol),
        "raw_amount": deposit.raw,
        "amount": token.map(|t| deposit.raw.display(t.decimals)),
        "reason": deposit.stage.reason(),
        "since_at": time(since(deposit)),
        "missing": missing,
    })
}

async fn show(config: &Config, id: &str, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let detail = detail(&store, id).await?;
    let deposit = &detail.deposit;
    let tries = match reason(deposit) {
        Some(_) => store.price_tries(deposit.chain, deposit.block_hash).await?,
        None => Vec::new(),
    };
    let acts = store.acts_of(deposit.id).await?;
    let outflows = match reason(deposit).is_some_and(HoldReason::is_about_origin) {
        true => store.open_outflows(deposit.id).await?,
        false => Vec::new(),
    };
    let mut breakers = store.breakers().await?;
    let said = said_last(&store, deposit).await?;
    store.close().await;
    let needed = needed(config, deposit);
    breakers.retain(|b| needed.contains(&b.pair));
    let lacking = lacking(&needed, &tries, &acts, deposit.block_hash);
    let can = can_be_done(deposit, &lacking, &acts, &breakers);
    if output.is_data() {
        let held = held_json(config, deposit, &missing(&tries));
        let tries: Vec<Value> = tries
            .iter()
            .map(|(body, at)| json!({ "tried_at": time(*at), "pair": body.pair, "body": body }))
            .collect();
        let act = |act| act_json(act, stands(act, &acts, deposit).as_ref());
        let shown: Vec<Value> = acts.iter().map(act).collect();
        let more = json!({
            "stage": deposit.stage.as_str(), "needs": needed, "tries": tries, "acts": shown,
            "outflows": outflows, "breakers": breakers, "can_be_done": can,
            "screenings": said.iter().map(screening_json).collect::<Vec<_>>(),
        });
        return print_data(output, with(held, more));
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
    line("paid at", format!("{}, block {}", time(deposit.block_time_ms), deposit.block_number));
    if !needed.is_empty() {
        line("needs", needed.join(", "));
    }
    screened_lines(&said).into_iter().for_each(|(key, value)| line(key, value));
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
        text.push_str(&format!("\nacts\n{}", act_rows(&acts, deposit)));
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

/// All acts; under each proposal, where it stands and its hash.
fn act_rows(acts: &[ActRow], deposit: &DepositRow) -> String {
    let rows: Vec<Vec<String>> = acts.iter().map(act_row).collect();
    let mut text = String::new();
    for (line, act) in table(&rows).lines().zip(acts) {
        text.push_str(&format!("{line}\n"));
        if let Some(standing) = stands(act, acts, deposit) {
            text.push_str(&format!("    {}, hash {}\n", standing.text, act.hash()));
        }
    }
    text
}

fn act_row(act: &ActRow) -> Vec<String> {
    vec![act.id.to_string(), time(act.at_ms), act.operator.clone(), what(act), act.reason.clone()]
}

/// Of the pairs that it needs, those that were tried and have no price; all before any was tried.
fn lacking(needed: &[String], tries: &[(Body, i64)], acts: &[ActRow], block: B256) -> Vec<String> {
    let by_hand = |pair: &String| {
        acts.iter().any(|act| {
            act.proposed().is_some_and(|(proposed, _)| proposed == pair)
                && act.block_hash == block
                && matches!(act.standing(acts), Some(Standing::Approved(_)))
        })
    };
    let mut lacking = needed.to_vec();
    lacking.retain(|pair| tries.is_empty() || tries.iter().any(|(body, _)| body.pair == *pair));
    lacking.retain(|pair| !by_hand(pair));
    lacking
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
            "a check that is asked before a credit says no, or does not answer"
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
    if matches!(reason, HoldReason::Overflow | HoldReason::Conflict) {
        // To look again would find the same.
        return vec![format!(
            "no command finishes it: docs/holds/{}.md says what to look at",
            reason.as_str()
        )];
    }
    can.push(format!("to have it looked at again now: {}", resolve("--retry")));
    let waits = |act: &&ActRow| can_be_approved(act, acts, deposit);
    // What a price comes to, and whether it must be said twice, the act itself shows.
    let looked_at = |act: &ActRow| match act.price {
        Some(_) => format!(
            "act {}, proposed by {}: another operator looks at it, and is told how to approve it: topupd holds show {}",
            act.id, act.operator, act.id
        ),
        None => waits_for_approval(id, act, false),
    };
    can.extend(acts.iter().filter(waits).map(looked_at));
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
            "to let {} = {} pass, which opened the breaker: topupd prices resume {} {who}    (shows it first, and how to say that it passes)",
            breaker.pair, breaker.price, breaker.pair
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
