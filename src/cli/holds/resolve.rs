//! `holds resolve`, `holds withdraw` and `holds show ACT`: what people decide about deposits on hold.
//!
//! Whoever proposes or approves is shown what it comes to, each time; a price that is farther off
//! than prices may jump has to be said twice, by both. An approval names what it approves.

use std::process::ExitCode;

use alloy::primitives::B256;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::cli::epochs::parse_price;
use crate::cli::error::CliError;
use crate::cli::holds::acts::{act_json, can_be_approved, replaced, stands, what};
use crate::cli::holds::preview::{not_said_twice, preview_json, preview_text};
use crate::cli::ledger::correct;
use crate::cli::open::{open, rules_of, token_at};
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::time;
use crate::config::Config;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::compared::Compared;
use crate::domain::conversion::in_usd;
use crate::domain::ids::DepositId;
use crate::domain::money::Rate;
use crate::store::{Act, DepositDetail, DepositRow, Store, StoreError};
use crate::tasks::by_hand::{Preview, preview};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true).args(["retry", "accept_market", "price", "release", "accept_outflows", "approve"]))]
pub(in crate::cli) struct ResolveArgs {
    /// Its id, 0x and 64 hexadecimal digits, as listed.
    id: String,
    /// Who decides.
    #[arg(long)]
    operator: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Have it looked at again now: who did not answer is asked again, and what was answered stands.
    #[arg(long)]
    retry: bool,
    /// Take the market's price of its stablecoin, though it is below the floor; for every payment of its
    /// block.
    #[arg(long)]
    accept_market: bool,
    /// Propose a price by hand; another operator must approve it. It takes the place of one that was
    /// proposed for the same pair and is not approved.
    #[arg(long, value_name = "PAIR=PRICE")]
    price: Option<String>,
    /// Repeat the price, by hand or the market's that is accepted. Needed where it differs from the market,
    /// or from the market's last price, by more than the pair may jump, and where there is nothing to compare
    /// it with. Both who proposes and who approves must repeat it.
    #[arg(long, value_name = "PRICE")]
    beyond_the_bound: Option<Rate>,
    /// Propose to let it go on, though it may be credited already (then it counts as new money), or
    /// though its block cannot be proved (then its providers' word decides); another operator must
    /// approve it.
    #[arg(long)]
    release: bool,
    /// Accept what has left its address by now: later payments to it are credited again.
    #[arg(long)]
    accept_outflows: bool,
    /// Approve the price or the release that another operator proposed by this act.
    #[arg(long, value_name = "ACT", requires = "hash")]
    approve: Option<i64>,
    /// The hash of that act, as `topupd holds show ACT` prints it.
    #[arg(long, value_name = "HASH", requires = "approve")]
    hash: Option<B256>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WithdrawArgs {
    /// The number of the act that proposed it.
    act: i64,
    /// Who withdraws it: anybody may.
    #[arg(long)]
    operator: String,
    /// Why.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    output: Output,
}

pub(in crate::cli) async fn resolve(
    config: &Config,
    args: ResolveArgs,
) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let detail = detail(&store, &args.id).await?;
    let (id, deposit) = (detail.deposit.id, &detail.deposit);
    let (act, said) = decided(config, &store, deposit, &args).await?;
    let before = store.acts_of(id).await?;
    let shown = match &act {
        Act::ProposePrice { pair, price, .. } => {
            seen(config, &store, deposit, Some((pair, *price))).await?
        }
        Act::Approve { proposal, hash, .. } => {
            let named = |a: &&ActRow| (a.id, a.hash()) == (*proposal, *hash);
            let waits = |a: &&ActRow| a.standing(&before) == Some(Standing::Waits);
            let proposed = before.iter().find(named).filter(waits).and_then(ActRow::proposed);
            seen(config, &store, deposit, proposed).await?
        }
        Act::ProposeRelease => seen(config, &store, deposit, None).await?,
        Act::AcceptMarket { .. } => previewed(config, &store, deposit, said).await?,
        Act::Retry | Act::AcceptOutflows => None,
    };
    let (oracle, who) = (&config.oracle.oracle, (&args.operator, &args.reason));
    let number = match store.act(oracle, id, &act, who.0, who.1).await {
        Err(StoreError::NotSaidTwice { compared, repeated }) => {
            // What was looked at is shown, so that the number can be checked and repeated.
            if let Some(shown) = &shown {
                answer(args.output, deposit, config, shown, None, "")?;
            }
            return Err(CliError::BadInput(not_said_twice(&compared, repeated)));
        }
        done => done?,
    };
    let acts = store.acts_of(id).await?;
    store.close().await;
    let written = acts.iter().find(|a| a.id == number);
    let beyond = shown.as_ref().is_some_and(is_beyond);
    let next = written.map(|w| what_follows(id, &act, w, beyond)).unwrap_or_default();
    let written_json = |act: &ActRow| act_json(act, stands(act, &acts, deposit).as_ref());
    let gone: String = replaced(&before, &acts, number)
        .map(|old| format!("it takes the place of act {old}, which cannot be approved any more\n"))
        .collect();
    let text = format!("act {number} is written down\n{gone}{next}\n");
    match (&shown, written) {
        (Some(shown), Some(act)) => {
            answer(args.output, deposit, config, shown, Some(written_json(act)), &text)
        }
        (None, Some(act)) if args.output.is_data() => {
            print_data(args.output, json!({ "act": written_json(act) }))
        }
        _ => print(&text),
    }
}

/// True when the price that passes has to be said twice.
fn is_beyond(preview: &Preview) -> bool {
    preview.given.as_ref().is_some_and(Compared::is_beyond_the_bound)
}

/// What happens now that it is written down.
fn what_follows(id: DepositId, decided: &Act, written: &ActRow, beyond: bool) -> String {
    match decided {
        Act::ProposePrice { .. } | Act::ProposeRelease => waits_for_approval(id, written, beyond),
        Act::Retry => {
            "the daemon looks at the deposit again at its next look, and asks again who did not answer; what was answered stands".to_owned()
        }
        _ => "the daemon acts on it at its next look".to_owned(),
    }
}

/// A deposit by what was given as its id.
pub(in crate::cli) async fn detail(store: &Store, id: &str) -> Result<DepositDetail, CliError> {
    let id: DepositId = id.parse().map_err(CliError::BadInput)?;
    let none = || CliError::BadInput(format!("there is no deposit {id}"));
    store.deposit(id).await?.ok_or_else(none)
}

/// The pairs that its price needs, by the rules of its block's time.
pub(in crate::cli) fn needed(config: &Config, deposit: &DepositRow) -> Vec<String> {
    let rules = rules_of(config, deposit.chain);
    rules.map_or_else(Vec::new, |rules| rules.needed(&deposit.token, deposit.block_time_ms))
}

/// What the arguments say.
async fn decided(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    args: &ResolveArgs,
) -> Result<(Act, Option<Compared>), CliError> {
    let (id, repeated) = (deposit.id, args.beyond_the_bound);
    if repeated.is_some() && (args.retry || args.release || args.accept_outflows) {
        let problem = "--beyond-the-bound repeats a price: there is none";
        return Err(CliError::BadInput(problem.into()));
    }
    let act = match (args.retry, args.accept_market, &args.price, args.approve.zip(args.hash)) {
        (true, ..) => Act::Retry,
        (_, true, ..) => {
            let token = token_at(config, deposit.chain.0, deposit.token).ok_or_else(|| {
                CliError::BadInput(format!("the token of deposit {id} is not configured"))
            })?;
            let pair = in_usd(&token.asset);
            let Some(said) = market(config, store, deposit, &pair).await? else {
                let problem = format!(
                    "deposit {id} is {}: its sources say no price of {pair} together that could be accepted",
                    deposit.stage
                );
                return Err(CliError::BadInput(problem));
            };
            let act = Act::AcceptMarket { pair, price: said.price, repeated };
            return Ok((act, Some(said)));
        }
        (_, _, Some(text), _) => {
            let (pair, price) = parse_price(text)?;
            let needed = needed(config, deposit);
            if !needed.contains(&pair) {
                let needs = match needed.as_slice() {
                    [] => "no market price".to_owned(),
                    all => format!("the price of {}", all.join(" and of ")),
                };
                let problem = format!("--price {text:?}: deposit {id} needs {needs}");
                return Err(CliError::BadInput(problem));
            }
            Act::ProposePrice { pair, price, repeated }
        }
        (_, _, None, Some((proposal, hash))) => Act::Approve { proposal, hash, repeated },
        _ if args.release => Act::ProposeRelease,
        _ if args.accept_outflows => Act::AcceptOutflows,
        // clap asks for exactly one of them.
        (false, false, None, None) => {
            return Err(CliError::BadInput("say what is decided; see --help".into()));
        }
    };
    Ok((act, None))
}

/// What the market says of a pair at a deposit's block, where that is held.
async fn market(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    pair: &str,
) -> Result<Option<Compared>, CliError> {
    let Some(policy) = config.oracle.oracle.pair(pair) else { return Ok(None) };
    Ok(store.compared_market(policy, &deposit.instant()).await?)
}

/// What a decision comes to, by a price by hand or without one.
async fn seen(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    given: Option<(&str, Rate)>,
) -> Result<Option<Preview>, CliError> {
    let policy = |(pair, price)| Some((config.oracle.oracle.pair(pair)?, price));
    let compared = match given.and_then(policy) {
        Some((policy, price)) => {
            Some(store.compared_by_hand(policy, &deposit.instant(), price).await?)
        }
        None => None,
    };
    previewed(config, store, deposit, compared).await
}

/// What a decision comes to; none for a deposit of a chain that is not configured.
pub(in crate::cli) async fn previewed(
    config: &Config,
    store: &Store,
    deposit: &DepositRow,
    given: Option<Compared>,
) -> Result<Option<Preview>, CliError> {
    let Some(rules) = rules_of(config, deposit.chain) else { return Ok(None) };
    Ok(Some(preview(store, rules, deposit, given).await?))
}

/// A preview, and what was written.
fn answer(
    output: Output,
    deposit: &DepositRow,
    config: &Config,
    preview: &Preview,
    act: Option<Value>,
    text: &str,
) -> Result<ExitCode, CliError> {
    if output.is_data() {
        let preview = preview_json(config, deposit, preview);
        return print_data(output, json!({ "act": act, "preview": preview }));
    }
    print(&format!("{}\n{text}", preview_text(config, deposit, preview)))
}

pub(in crate::cli) async fn withdraw(
    config: &Config,
    args: WithdrawArgs,
) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let by = (args.operator.as_str(), args.reason.as_str());
    let number = store.withdraw(args.act, by).await?;
    let act = store.act_by_id(number).await?;
    store.close().await;
    if args.output.is_data() {
        return print_data(args.output, json!({ "act": act.map(|act| act_json(&act, None)) }));
    }
    print(&format!(
        "act {number} is written down\nact {} is withdrawn, and cannot be approved any more\n",
        args.act
    ))
}

pub(in crate::cli) async fn show_act(
    config: &Config,
    number: i64,
    output: Output,
) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let none = || CliError::BadInput(format!("there is no act {number}"));
    let act = store.act_by_id(number).await?.ok_or_else(none)?;
    if act.correction.is_some() {
        return correct::show_act(config, &store, &act, output).await;
    }
    let (mut standing, mut about) = (None, None);
    if let Some(id) = act.deposit {
        let acts = store.acts_of(id).await?;
        if let Some(detail) = store.deposit(id).await? {
            let deposit = detail.deposit;
            standing = stands(&act, &acts, &deposit);
            let shown = match can_be_approved(&act, &acts, &deposit) {
                true => seen(config, &store, &deposit, act.proposed()).await?,
                false => None,
            };
            about = Some((deposit, shown));
        }
    }
    store.close().await;
    let shown = about.as_ref().and_then(|(deposit, shown)| Some((deposit, shown.as_ref()?)));
    if output.is_data() {
        let preview = shown.map(|(deposit, shown)| preview_json(config, deposit, shown));
        return print_data(
            output,
            json!({ "act": act_json(&act, standing.as_ref()), "preview": preview }),
        );
    }
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<10} {value}\n"));
    line("act", format!("{}, {}", act.id, what(&act)));
    line("by", format!("{}, at {}: {}", act.operator, time(act.at_ms), act.reason));
    line("hash", act.hash().to_string());
    if let Some(standing) = standing {
        line("stands", standing.text);
    }
    match (&about, shown) {
        (_, Some((deposit, shown))) => {
            let beyond = is_beyond(shown);
            text.push_str(&preview_text(config, deposit, shown));
            text.push_str(&format!("\n{}\n", waits_for_approval(deposit.id, &act, beyond)));
        }
        (Some((deposit, _)), None) => {
            line("deposit", format!("{}, {}", deposit.id, deposit.stage));
            if act.block_hash != deposit.block_hash {
                line("block", format!("{}, where the deposit is not any more", act.block_hash));
            }
        }
        (None, None) => {}
    }
    print(&text)
}

/// What the second operator does about a proposal, and how it is undone.
pub(in crate::cli) fn waits_for_approval(id: DepositId, act: &ActRow, beyond: bool) -> String {
    let subject = match (&act.pair, &act.price) {
        (Some(pair), Some(price)) => format!("{pair} = {price}"),
        _ => "its release".to_owned(),
    };
    let again = match (&act.price, beyond) {
        (Some(price), true) => format!(" --beyond-the-bound {price}"),
        _ => String::new(),
    };
    let (number, hash, who) = (act.id, act.hash(), "--operator NAME --reason TEXT");
    format!(
        "{subject} is proposed by {}; another operator looks at it with: topupd holds show {number}\nand approves it with: topupd holds resolve {id} --approve {number} --hash {hash}{again} {who}\nto withdraw it: topupd holds withdraw {number} {who}",
        act.operator
    )
}
