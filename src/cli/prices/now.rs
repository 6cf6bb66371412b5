//! `prices now`: every source of every pair is asked, and what follows is decided as for a payment
//! of this moment.
//!
//! Sources on chains are read at the latest block of one provider, which a payment's price would
//! not rest on alone. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use alloy::primitives::B256;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::chain::pool::Pool;
use crate::chain::rpc::node::RpcSource;
use crate::chain::source::ChainSource;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::prices::decided::sentences;
use crate::cli::print::{Output, print, print_data};
use crate::cli::words::table;
use crate::clock::Clock;
use crate::config::{ChainConfig, Config};
use crate::daemon::admit_providers;
use crate::daemon::parts::{pool, web};
use crate::domain::chain::Header;
use crate::domain::deposit::HoldReason;
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::oracle::policy::pair::{Input, Outcome, PairPolicy};
use crate::domain::oracle::policy::{Body, Via, decide};
use crate::domain::oracle::reading::{PriceInstant, Reading};
use crate::domain::oracle::source::{Evidence, Reads, SourceSpec, read};
use crate::domain::oracle::uniswap_after::AFTER_S;
use crate::oracle::Web;
use crate::store::{Breaker, Store};
use crate::tasks::prices::ask::asked_at;

/// Hermes gives the first update at or after an instant: it is asked about one that is past.
const PYTH_BACK_MS: i64 = 5_000;

/// What became of a pair.
struct Looked<'a> {
    policy: &'a PairPolicy,
    body: Body,
    outcome: Outcome,
    breaker: Option<Breaker>,
}

pub(in crate::cli) async fn now(config: &Config, output: Output) -> Result<ExitCode, CliError> {
    let oracle = &config.oracle.oracle;
    let mut policies: Vec<&PairPolicy> = oracle.pairs().collect();
    if policies.is_empty() && !output.is_data() {
        return print("no market price is configured: there is no pair under oracle.pairs");
    }
    let store = open(config).await?;
    let clock = store.clock();
    let answers = ask_all(config, clock.as_ref()).await?;
    // Pairs that others are multiplied by come first; they need none themselves.
    policies.sort_by_key(|policy| !policy.needs().is_empty());
    let mut all: Vec<Looked<'_>> = Vec::with_capacity(policies.len());
    for policy in policies {
        let looked = look(policy, &answers, &all, &store).await?;
        all.push(looked);
    }
    store.close().await;
    all.sort_by(|a, b| a.policy.pair.cmp(&b.policy.pair));
    if output.is_data() {
        let all: Vec<Value> = all.iter().map(Looked::json).collect();
        return print_data(output, json!({ "pairs": all }));
    }
    let head = ["PAIR", "SOURCE", "KIND", "VENUE", "PRICE", "AGE", "VERDICT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().flat_map(Looked::rows));
    let said: String = all.iter().map(|looked| looked.said() + "\n").collect();
    let open: Vec<Breaker> = all.iter().filter_map(|looked| looked.breaker.clone()).collect();
    print(&format!("{}\n{said}{}", table(&rows), sentences(&open)))
}

async fn look<'a>(
    policy: &'a PairPolicy,
    answers: &BTreeMap<B256, Input>,
    before: &[Looked<'_>],
    store: &Store,
) -> Result<Looked<'a>, CliError> {
    let time_ms = store.clock().now_ms();
    let not_asked = || Input::Missing("it was not asked".into());
    let inputs: Vec<Input> = policy
        .sources
        .iter()
        .map(|source| answers.get(&source.hash()).cloned().unwrap_or_else(not_asked))
        .collect();
    let via: Vec<Via> = policy
        .needs()
        .into_iter()
        .filter_map(|pair| {
            let price = before.iter().find(|b| b.policy.pair == pair)?.body.price?;
            Some(Via { pair: pair.to_owned(), price, price_hash: B256::ZERO })
        })
        .collect();
    let at = PriceInstant { chain: ChainId(0), block: BlockRef::default(), time_ms };
    let past = store.past(&policy.pair, time_ms).await?;
    let breaker = store.breaker(&policy.pair).await?;
    let (body, outcome) = decide(policy, &at, &inputs, &via, &past);
    Ok(Looked { policy, body, outcome, breaker })
}

/// One provider of a chain, and its newest block.
struct Node {
    pool: Pool<RpcSource>,
    provider: String,
    header: Header,
}

/// What every source says, by its hash.
async fn ask_all(config: &Config, clock: &dyn Clock) -> Result<BTreeMap<B256, Input>, CliError> {
    let oracle = &config.oracle.oracle;
    let pairs: Vec<String> = oracle.pairs().map(|p| p.pair.clone()).collect();
    let sources = oracle.sources(&pairs);
    let web = web(config)?;
    let chains: BTreeSet<ChainId> = sources.iter().filter_map(|s| s.chain()).collect();
    let wanted = config.chains.iter().filter(|c| chains.contains(&c.rules.id));
    let reached = wanted.map(|chain| async move { (chain.rules.id, reach(chain, clock).await) });
    let nodes: BTreeMap<ChainId, Result<Node, String>> =
        join_all(reached).await.into_iter().collect();
    let asked = sources.into_iter().map(|source| ask(source, &web, &nodes, clock));
    Ok(join_all(asked).await.into_iter().collect())
}

/// The first provider that answers.
async fn reach(chain: &ChainConfig, clock: &dyn Clock) -> Result<Node, String> {
    let pool = pool(chain).map_err(|e| e.to_string())?;
    admit_providers(chain, &pool, clock).await.map_err(|e| e.to_string())?;
    let mut why = format!("no provider of {} answers", chain.rules.name);
    let mut found = None;
    for source in pool.order(clock.now_ms()) {
        match source.latest().await {
            Ok(header) => {
                found = Some((source.provider().to_owned(), header));
                break;
            }
            Err(error) => why = error.to_string(),
        }
    }
    let (provider, header) = found.ok_or(why)?;
    Ok(Node { pool, provider, header })
}

async fn ask(
    source: &SourceSpec,
    web: &Web,
    nodes: &BTreeMap<ChainId, Result<Node, String>>,
    clock: &dyn Clock,
) -> (B256, Input) {
    let answer = match (&source.reads, source.chain()) {
        (Reads::Fixed { price }, _) => {
            let now = clock.now_ms();
            let detail = "fixed".to_owned();
            Ok(Ok(Reading { price: *price, as_of_ms: now, updated_ms: now, detail }))
        }
        (_, Some(chain)) => match nodes.get(&chain) {
            Some(Ok(node)) => node.ask(source, chain).await,
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("chain {chain} is not configured")),
        },
        (_, None) => over_http(source, web, clock).await,
    };
    let later = || Input::NotYet(format!("a payment now would wait {AFTER_S} s for that"));
    let input = answer.map_or_else(Input::Missing, |reading| Input::Read(None, reading));
    (source.hash(), input.with_after(later))
}

type Answer = Result<Result<Reading, crate::domain::oracle::reading::Reject>, String>;

impl Node {
    async fn ask(&self, source: &SourceSpec, chain: ChainId) -> Answer {
        let provider = self.pool.all().find(|s| s.provider() == self.provider);
        let provider = provider.ok_or("its provider is gone")?;
        if let Some(why) = self.pool.contradicts(provider, source.hash()) {
            return Err(why);
        }
        let evidence = asked_at(provider, source, chain, &self.header).await;
        let evidence = evidence.map_err(|e| e.to_string())??;
        let at = PriceInstant { chain, block: self.header.block(), time_ms: self.header.time_ms };
        Ok(read(source, &evidence, &at))
    }
}

async fn over_http(source: &SourceSpec, web: &Web, clock: &dyn Clock) -> Answer {
    let at_ms = match &source.reads {
        Reads::Pyth(_) => clock.now_ms().saturating_sub(PYTH_BACK_MS),
        _ => clock.now_ms(),
    };
    let answer = web.ask(source, at_ms, clock).await;
    let body = answer.ok_or("it is not asked over HTTP")??;
    Ok(match &source.reads {
        Reads::Http(ticker) => ticker.sample(&body),
        _ => {
            let at = PriceInstant { chain: ChainId(0), block: BlockRef::default(), time_ms: at_ms };
            read(source, &Evidence::Body(body), &at)
        }
    })
}

impl Looked<'_> {
    fn rows(&self) -> Vec<Vec<String>> {
        let sources = self.policy.sources.iter().zip(&self.body.parts);
        sources
            .map(|(source, part)| {
                let age = part.updated_ms.map(|updated| {
                    let ms = self.body.instant_ms.saturating_sub(updated).max(0);
                    format!("{} s", ms.checked_div(1_000).unwrap_or(0))
                });
                vec![
                    self.policy.pair.clone(),
                    part.source.clone(),
                    source.kind().to_owned(),
                    part.venue.clone(),
                    part.price.map_or_else(|| "-".into(), |p| p.to_string()),
                    age.unwrap_or_else(|| "-".into()),
                    part.rejected.clone().unwrap_or_else(|| "ok".into()),
                ]
            })
            .collect()
    }

    /// The price, or why a payment would wait.
    fn said(&self) -> String {
        let pair = &self.policy.pair;
        match &self.outcome {
            Outcome::Accepted(price) => {
                let applied = self.policy.applied(*price);
                let counts = match applied == *price {
                    true => String::new(),
                    false => format!(", counts as {applied}"),
                };
                let (left, all) = (self.body.survivors().count(), self.body.parts.len());
                let apart = self.body.dispersion_bps.unwrap_or(0);
                let quorum = self.policy.quorum;
                format!(
                    "{pair} = {price}{counts}: {left} of {all} sources count, {apart} bp apart; {quorum} must"
                )
            }
            Outcome::Wait(why) | Outcome::Later(why) => format!("{pair}: {why}"),
            Outcome::Hold(HoldReason::Breaker, _) if self.breaker.is_some() => {
                let median = self.body.median.map_or_else(|| "-".into(), |m| m.to_string());
                format!("{pair}: sources say {median}; a payment now would be held by the breaker")
            }
            Outcome::Hold(HoldReason::Breaker, why) => {
                format!("{pair}: a payment now would be held and open the breaker: {why}")
            }
            Outcome::Hold(reason, why) => {
                format!("{pair}: a payment now would be held ({}): {why}", reason.as_str())
            }
        }
    }

    fn json(&self) -> Value {
        let held = match &self.outcome {
            Outcome::Accepted(_) => None,
            Outcome::Wait(_) | Outcome::Later(_) => Some("wait"),
            Outcome::Hold(reason, _) => Some(reason.as_str()),
        };
        let sources: Vec<Value> = self
            .policy
            .sources
            .iter()
            .zip(&self.body.parts)
            .map(|(source, part)| {
                json!({
                    "source": part.source, "kind": source.kind(), "venue": part.venue,
                    "price": part.price, "updated_at": part.updated_ms.map(crate::cli::words::time),
                    "detail": part.detail, "rejected": part.rejected,
                })
            })
            .collect();
        json!({
            "pair": self.policy.pair,
            "price": self.body.price,
            "applied": self.body.price.map(|p| self.policy.applied(p)),
            "median": self.body.median,
            "dispersion_bps": self.body.dispersion_bps,
            "quorum": self.policy.quorum,
            "held": held,
            "why": self.body.held,
            "sources": sources,
            "breaker": self.breaker,
        })
    }
}
