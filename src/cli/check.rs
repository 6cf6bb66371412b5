//! `check`: what the configuration means, and whether the live chains agree with it.

pub(in crate::cli) mod database;

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::chain::answer::{Answer, Verdict};
use crate::chain::source::ChainSource;
use crate::cli::check::database::{Found, check_database};
use crate::cli::error::{CliError, LOOK};
use crate::cli::open::clock_of;
use crate::cli::print::print;
use crate::clock::SystemClock;
use crate::config::{ChainConfig, Config, Warning, masked};
use crate::daemon::parts::{pool, screening_ready};
use crate::domain::chain_rules::Start;
use crate::domain::finality::Verify;
use crate::domain::oracle::source::{Reads, SourceSpec};
use crate::domain::screening_rules::ScreeningRules;
use crate::domain::terms::Valuation;
use crate::presets::ReceiptsRoot;
use crate::tasks::settle::screen::Screener;

pub(super) async fn check(config: Config) -> Result<ExitCode, CliError> {
    config.ready()?;
    screening_ready(&config)?;
    print(&effective(&config))?;
    let mut found = Found::default();
    check_database(&config, &mut found).await?;
    // What is wrong with the database was just said.
    let clock = clock_of(&config).await.unwrap_or_else(|_| Arc::new(SystemClock));
    for chain in &config.chains {
        let rules = &chain.rules;
        let pool = pool(chain)?;
        for source in pool.all() {
            let mut answers = source.check(&rules.wanted(clock.now_ms())).await;
            if answers.len() > 1 {
                let verdict = match source.check_websocket().await {
                    Ok(text) => Verdict::Right(text.to_owned()),
                    Err(why) => Verdict::Unknown(why),
                };
                answers.push(Answer::new("websocket", verdict, false));
            }
            for answer in answers {
                let mark = match &answer.verdict {
                    Verdict::Right(_) => "ok   ",
                    Verdict::Wrong(_) => {
                        found.wrong = found.wrong.saturating_add(1);
                        "WRONG"
                    }
                    Verdict::Unknown(_) => {
                        found.unknown = found.unknown.saturating_add(1);
                        "FAIL "
                    }
                };
                let (name, asked) = (&rules.name, source.provider());
                let text = answer.verdict.text();
                print(&format!("{mark}  {name}: {asked}: {}: {text}", answer.question))?;
            }
        }
    }
    match found {
        Found { wrong: 0, unknown: 0, looks: false } => Ok(ExitCode::SUCCESS),
        Found { wrong: 0, unknown: 0, looks: true } => Ok(ExitCode::from(LOOK)),
        Found { wrong: 0, .. } => Err(CliError::Failed(
            "a provider or the database does not answer something; see FAIL above. `run` starts, and waits for what it needs".into(),
        )),
        _ => Err(CliError::BadInput(
            "the live chain or the database is not what is configured; see WRONG above. `run` asks no such provider, and refuses to start where a chain has no other, or where the database contradicts; of a price source it says WRONG of, it takes no price".into(),
        )),
    }
}

/// Every key with its effective value; secrets and the parts of URLs that hold keys are masked.
fn effective(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("network", config.network.to_string());
    line("database.url", config.database.url.to_string());
    line("database.connections", config.database.connections.to_string());
    line("daemon.name", config.daemon.name.clone().unwrap_or_else(|| "(the machine's)".into()));
    line("daemon.lease_ms", config.daemon.lease.as_millis().to_string());
    let xpub = config.account_xpub.as_ref();
    line(
        "wallet.account_xpub",
        xpub.map_or_else(
            || "(none)".into(),
            |x| {
                let (fingerprint, place) = (x.fingerprint(), x.place());
                match x.receiving().and_then(|key| Ok((key.fingerprint(), key.address(0)?))) {
                    Ok((fingerprint, first)) => format!(
                        "(fingerprint {fingerprint}, of {place}, its first address is {first})"
                    ),
                    Err(_) => format!("(fingerprint {fingerprint}, {place})"),
                }
            },
        ),
    );
    for chain in &config.chains {
        chain_lines(chain, &mut line);
    }
    for epoch in config.epochs.all() {
        let at = format!("epochs.{}", epoch.id);
        line(&format!("{at}.starts_at"), crate::cli::words::time(epoch.starts_at_ms));
        line(&format!("{at}.phase"), epoch.phase.as_str().to_owned());
        for (asset, terms) in &epoch.accept {
            let minimum = terms.minimum.map_or_else(String::new, |m| {
                format!(", minimum {m}, dust {}", terms.dust.as_str())
            });
            let rule = terms.valuation.rule().as_str();
            let value = match &terms.valuation {
                Valuation::Par { credits_per_usd: rate } => {
                    format!("{rule}, {rate} credits a token{minimum}")
                }
                Valuation::Fixed { credits_per_token: rate } => {
                    format!("{rule}, {rate} credits a token{minimum}")
                }
                Valuation::Market { credits_per_usd: rate } => {
                    format!("{rule}, {rate} credits a dollar{minimum}")
                }
                Valuation::Convert { into, .. } => format!("{rule} into {into}{minimum}"),
            };
            line(&format!("{at}.accept.{asset}"), value);
        }
    }
    for policy in config.oracle.oracle.pairs() {
        let at = format!("oracle.pairs.{:?}", policy.pair);
        let stable = policy
            .hold_below
            .map_or_else(String::new, |floor| format!("; a stablecoin, held below {floor}"));
        line(&at, format!("{} of {} sources{stable}", policy.quorum, policy.sources.len()));
        for source in &policy.sources {
            let via = source.via.as_ref().map_or_else(String::new, |v| format!(", via {v}"));
            let guard = if source.guard { ", a guard" } else { "" };
            line(&format!("{at}.{}", source.name), format!("{}{via}{guard}", source_text(source)));
        }
        for warning in policy.warnings() {
            line(&format!("{at} WARNING"), warning);
        }
    }
    if let Some(treasury) = config.oracle.treasury {
        line("treasury.address", treasury.to_checksum(None));
    }
    if let Some(screening) = &config.screening {
        screening_lines(&screening.rules, &mut line);
    }
    for Warning { key, text } in config.warnings() {
        line(&format!("{key} WARNING"), text);
    }
    text
}

fn screening_lines(screening: &ScreeningRules, line: &mut impl FnMut(&str, String)) {
    if let (Some(path), Some(Ok(list))) = (&screening.list, Screener::default().list(screening)) {
        line("screening.list", format!("{} ({} addresses)", path.display(), list.count()));
    }
    if let Some(question) = &screening.question {
        let word = |what: &str, word: &Option<String>| {
            word.as_ref().map_or_else(String::new, |word| format!(", {what} {word:?}"))
        };
        let (hit, clear) = (word("hit", &question.hit), word("clear", &question.clear));
        let names: Vec<_> = screening.headers.0.iter().map(|(name, _)| name).collect();
        let headers = match names.is_empty() {
            true => String::new(),
            false => format!(", headers {names:?} (values hidden)"),
        };
        let (url, timeout) = (&question.url, screening.timeout.as_millis());
        let verdict = &question.verdict;
        line(
            "screening.http",
            format!("{verdict} at {url}{hit}{clear}{headers}, timeout {timeout} ms"),
        );
    }
    line("screening.patience_s", screening.patience.as_secs().to_string());
}

fn chain_lines(chain: &ChainConfig, line: &mut impl FnMut(&str, String)) {
    let rules = &chain.rules;
    let at = |field: &str| format!("chains.{}.{field}", rules.name);
    line(&at("chain_id"), rules.id.0.to_string());
    if let Some(preset) = chain.preset {
        line(&at("preset"), format!("{} ({}, {})", preset.name, preset.title, preset.explorer));
    }
    for (provider, priority) in &chain.providers {
        let http = masked(&provider.http);
        let ws = provider.ws.as_ref().map_or_else(|| "none".into(), masked);
        let rate = provider.per_second.map_or_else(|| "any".into(), |n| n.to_string());
        let (timeout, range) = (provider.timeout.as_millis(), provider.range_max);
        let value = format!(
            "http {http}, ws {ws}, priority {priority}, rate_limit {rate}, max_range {range}, timeout {timeout} ms"
        );
        line(&at(&format!("providers.{}", provider.name)), value);
    }
    let fallback = rules.fallback.map_or_else(String::new, |way| {
        format!(", and {} where a block cannot be proved", way.as_str())
    });
    line(&at("verify"), format!("{}{fallback}", rules.verify.as_str()));
    if let Some(warning) = unproved(chain) {
        line(&at("verify WARNING"), warning);
    }
    let start = match rules.start {
        Start::Tip => "(the tip at the first start)".to_owned(),
        Start::Block(number) => number.to_string(),
    };
    line(&at("start_block"), start);
    line(&at("reorg_window"), rules.window.to_string());
    line(&at("lag_max"), rules.lag_max.to_string());
    line(&at("range_max"), rules.range_max.to_string());
    line(&at("poll_ms"), chain.poll.as_millis().to_string());
    line(&at("safety_poll_ms"), chain.safety_poll.as_millis().to_string());
    line(&at("filter"), format!("{:?}", rules.filter).to_lowercase());
    line(&at("unlisted_per_day"), rules.unlisted_per_day.to_string());
    line(&at("time_ahead_max_s"), (rules.time_ahead_max_ms / 1_000).to_string());
    for tier in rules.policy.tiers() {
        let up_to =
            tier.up_to_usd.map_or_else(|| "any value".into(), |usd| format!("up to {usd} USD"));
        line(&at("finality"), format!("{up_to}: {}", tier.finality));
    }
    for token in &rules.tokens {
        line(
            &at(&format!("tokens.{}", token.symbol)),
            format!(
                "{}, {} decimals, taken as {}",
                token.address.to_checksum(None),
                token.decimals,
                token.asset
            ),
        );
    }
}

/// What is to be said of a chain whose receipts shall be proved, and perhaps cannot be.
fn unproved(chain: &ChainConfig) -> Option<String> {
    let rules = &chain.rules;
    let why = match chain.preset.map(|preset| preset.receipts_root) {
        _ if rules.verify != Verify::ReceiptsRoot => return None,
        Some(ReceiptsRoot::Yes) => return None,
        Some(ReceiptsRoot::No(why)) => format!("the receipts of this chain cannot be proved: {why}"),
        Some(ReceiptsRoot::Unknown(why)) => {
            format!("whether the receipts of this chain can be proved is not known: {why}")
        }
        None => "whether the receipts of this chain can be proved is not known: it has no preset. The line \"receipts root\" below is about one block only".to_owned(),
    };
    let other = match chain.providers.len() {
        0 | 1 => Verify::SameProvider,
        _ => Verify::SecondProvider,
    };
    let other = other.as_str();
    Some(match rules.fallback {
        Some(_) => format!("{why}. What cannot be proved is checked by {other}, as configured"),
        None => format!(
            "{why}. What cannot be proved is held; to fall back on another way, set verify = [\"receipts-root\", \"{other}\"]"
        ),
    })
}

/// Where a source is read.
fn source_text(source: &SourceSpec) -> String {
    let place = match &source.reads {
        Reads::Chainlink(feed) => {
            format!(
                "{} ({}) on {}",
                feed.address.to_checksum(None),
                feed.description,
                feed.chain_id
            )
        }
        Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => {
            format!(
                "{} over {} s on {}",
                pool.address.to_checksum(None),
                pool.window_s,
                pool.chain_id
            )
        }
        Reads::Pyth(feed) => {
            let signed = feed.signers.as_ref().map_or_else(
                || "by whoever signs it".to_owned(),
                |s| format!("signed by {} of {}", s.least, s.addresses.len()),
            );
            format!("{} of {}, {signed}", feed.feed_id, feed.url)
        }
        Reads::Http(ticker) => format!("{} at {}", ticker.price, ticker.url),
        Reads::Fixed { price } => price.to_string(),
    };
    format!("{} {place}", source.kind())
}
