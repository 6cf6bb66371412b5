//! `demo --tge`: the market around the demo's chain, the outage in its middle, and the proof at its
//! end.
//!
//! A feed as Chainlink's are, a pool of Uniswap's own code, and a server that stands for an exchange
//! and for Pyth's Hermes. Only the prices are made up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alloy::primitives::{B256, hex};

use crate::cli::conversions::{sentence, verify};
use crate::cli::demo::setup::after_tge;
use crate::cli::error::CliError;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::admit_providers;
use crate::daemon::parts::{market, pool};
use crate::devnet::{Devnet, Feed, Pool, Tokens, WebServer};
use crate::domain::chain_rules::ChainRules;
use crate::domain::money::RawAmount;
use crate::domain::oracle::pyth::{PriceMessage, encode};
use crate::domain::pricing::{Token, price};
use crate::oracle::Web;
use crate::store::{ConversionRow, Store};

/// The chain's time begins this long before now, so that the pool has a past.
pub(in crate::cli) const PAST_S: u64 = 4_000;
/// Payments flow this long before the TGE.
const BEFORE_TGE_MS: i64 = 8_000;
/// Hermes is away from so long after the TGE, ...
const AWAY_FROM_MS: i64 = 4_000;
/// ... for so long, and until a payment is held, ...
const AWAY_FOR_MS: i64 = 7_000;
/// ... but no longer than this.
const AWAY_FOR_MOST_MS: i64 = 30_000;
/// The feeds answer again after so long.
const ANSWERS_EVERY_MS: i64 = 12 * 3_600_000;
/// What the made-up feed of Pyth is called.
const FEED_ID: B256 = B256::repeat_byte(0x17);
/// Two cents, with eight digits after the point.
const RTITY_E8: i64 = 2_000_000;
const USDC_E8: i128 = 99_990_000;

/// The market of a demo.
pub(in crate::cli) struct DemoMarket {
    feeds: [Feed; 3],
    /// When they answered last, in the chain's time.
    answered_ms: i64,
    dex: Pool,
    web: WebServer,
    time: MarketTime,
    tge_ms: i64,
    away: Arc<AtomicBool>,
    act: Act,
}

/// The time that the sources go by: this machine's, until there is a database with a clock that testers move.
#[derive(Clone, Default)]
struct MarketTime(Arc<OnceLock<Arc<dyn Clock>>>);

impl Clock for MarketTime {
    fn now_ms(&self) -> i64 {
        self.0.get().map_or_else(|| SystemClock.now_ms(), |clock| clock.now_ms())
    }
}

/// How far the demo has come.
enum Act {
    Before,
    After {
        since_ms: i64,
    },
    /// Hermes is.
    Away {
        since_ms: i64,
    },
    Over,
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

impl DemoMarket {
    /// Deploys feeds and a pool, trades in it for a while, and starts the server.
    pub(in crate::cli) async fn start(net: &Devnet, tokens: &Tokens) -> Result<Self, CliError> {
        let usdc = net.deploy_feed(8, "USDC / USD").await?;
        let usdt = net.deploy_feed(8, "USDT / USD").await?;
        let rtity = net.deploy_feed(8, "RTITY / USD").await?;
        let dex = net.deploy_two_cent_pool(tokens.rtity, tokens.usdc).await?;
        let dollars_first = dex.token0 == tokens.usdc;
        let now_s =
            || u64::try_from(SystemClock.now_ms()).unwrap_or(0).checked_div(1_000).unwrap_or(0);
        for ago in [3_000, 2_000, 1_000] {
            net.mine_at(now_s().saturating_sub(ago)).await?;
            net.there_and_back(&dex, dollars_first, 1_000_000_000).await?;
        }
        net.mine_at(now_s()).await?;
        let (away, time) = (Arc::new(AtomicBool::new(false)), MarketTime::default());
        let web =
            WebServer::start(handler(Arc::clone(&away), time.clone())).await.map_err(failed)?;
        let feeds = [usdc, usdt, rtity];
        let mut market =
            Self { feeds, answered_ms: 0, dex, web, time, tge_ms: 0, away, act: Act::Before };
        market.keep_fresh(net).await?;
        Ok(market)
    }

    /// Has the feeds answer, as their operators do well before their heartbeat of a day has passed.
    pub(in crate::cli) async fn keep_fresh(&mut self, net: &Devnet) -> Result<(), CliError> {
        let now_ms = net.time_ms().await?;
        if now_ms.saturating_sub(self.answered_ms) < ANSWERS_EVERY_MS {
            return Ok(());
        }
        let [usdc, usdt, rtity] = &self.feeds;
        for (feed, answer) in [(usdc, USDC_E8), (usdt, 100_000_000), (rtity, i128::from(RTITY_E8))]
        {
            net.answer(feed, answer).await?;
        }
        self.answered_ms = now_ms;
        Ok(())
    }

    /// From now on the sources go by this clock.
    pub(in crate::cli) fn go_by(&self, clock: Arc<dyn Clock>) {
        // There is one database for each demo.
        drop(self.time.0.set(clock));
    }

    /// The epoch after the TGE, and where its prices come from. The TGE is a few seconds from now.
    pub(in crate::cli) fn configuration(&mut self) -> String {
        self.tge_ms = self.time.now_ms().saturating_add(BEFORE_TGE_MS);
        let [usdc, usdt, rtity] = &self.feeds;
        let stable = |asset: &str, feed: &Feed| {
            format!(
                r#"
[oracle.pairs."{asset}/USD"]
stablecoin = true
sources = [
  {{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "{asset} / USD", heartbeat_s = 86400 }},
  {{ kind = "http", name = "exchange", url = "{}/ticker/{{base}}", price = "/price", time = "/time", time_as = "milliseconds" }},
]
"#,
                feed.proxy,
                self.web.url()
            )
        };
        format!(
            r#"{}{}{}
[oracle.pairs."RTITY/USD"]
quorum = 3
sources = [
  {{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "RTITY / USD", heartbeat_s = 86400 }},
  {{ kind = "uniswap_v3", name = "pool", chain = "local", pool = "{}", via = "USDC/USD", window_s = 300, min_liquidity = "1000000000" }},
  {{ kind = "pyth", name = "pyth", url = "{}", feed_id = "{FEED_ID}" }},
]
"#,
            after_tge("demo-after-tge", &crate::cli::words::time(self.tge_ms)),
            stable("USDC", usdc),
            stable("USDT", usdt),
            rtity.proxy,
            self.dex.address,
            self.web.url(),
        )
    }

    /// What there is to say at this moment, if anything. Takes Hermes away when the chain's time is
    /// well past the TGE (a reorg sets it back), and brings it back when payments are held for it.
    pub(in crate::cli) fn tick(&mut self, chain_ms: i64, held: usize) -> Option<&'static str> {
        let now = self.time.now_ms();
        let (act, news) = match self.act {
            Act::Before if chain_ms >= self.tge_ms => (
                Act::After { since_ms: now },
                "TGE: from now on a stablecoin is converted into RTITY at market price (feed, pool and pyth, all three wanted)",
            ),
            Act::After { since_ms }
                if chain_ms.saturating_sub(self.tge_ms) >= AWAY_FROM_MS
                    && now.saturating_sub(since_ms) >= AWAY_FROM_MS =>
            {
                self.away.store(true, Ordering::Relaxed);
                let news = "pyth is away: payments are held, and lose nothing";
                (Act::Away { since_ms: now }, news)
            }
            Act::Away { since_ms } => {
                let gone_ms = now.saturating_sub(since_ms);
                if gone_ms < AWAY_FOR_MS || (held == 0 && gone_ms < AWAY_FOR_MOST_MS) {
                    return None;
                }
                self.away.store(false, Ordering::Relaxed);
                let news =
                    "pyth is back: held payments go on by themselves, at their own block's price";
                (Act::Over, news)
            }
            Act::Before | Act::After { .. } | Act::Over => return None,
        };
        self.act = act;
        Some(news)
    }

    /// Of so many payments, those that are kept for later: a third for after the TGE, and a third
    /// for when a source is away.
    pub(in crate::cli) fn kept(&self, payments: u64) -> u64 {
        let third = payments.checked_div(3).unwrap_or(0);
        match self.act {
            Act::Before => third.saturating_mul(2),
            Act::After { .. } => third,
            Act::Away { .. } | Act::Over => 0,
        }
    }

    /// Everything that was to be seen, has been.
    pub(in crate::cli) fn is_over(&self) -> bool {
        matches!(self.act, Act::Over)
    }
}

/// Prices that wander by up to 30 basis points around two cents, and stablecoins near their dollar.
fn handler(away: Arc<AtomicBool>, time: MarketTime) -> crate::devnet::Handler {
    let random = Mutex::new(fastrand::Rng::with_seed(7));
    Arc::new(move |head: &str| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let wander = |most: i64| {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            random.i64(most.saturating_neg()..=most)
        };
        if path.starts_with("/ticker/") {
            let price = 99_990i64.saturating_add(wander(8));
            let body = format!(r#"{{"price":"0.{price:05}","time":{}}}"#, time.now_ms());
            return (200, body);
        }
        let second = path
            .strip_prefix("/v2/updates/price/")
            .and_then(|rest| rest.split('?').next().and_then(|second| second.parse::<i64>().ok()));
        let Some(second) = second else { return (404, "not found".into()) };
        if away.load(Ordering::Relaxed) {
            return (503, "down for maintenance".into());
        }
        if second > time.now_ms().div_euclid(1_000) {
            return (404, "Update data not found".into());
        }
        // The same second has the same price, whoever asks and when.
        let apart = second.rem_euclid(41).saturating_sub(20).saturating_mul(300);
        let blob = encode(&[PriceMessage {
            feed_id: FEED_ID,
            price: RTITY_E8.saturating_add(apart),
            conf: 500,
            exponent: -8,
            publish_time_s: second,
            prev_publish_time_s: second.saturating_sub(1),
        }]);
        let data = hex::encode(blob);
        (200, format!(r#"{{"binary":{{"encoding":"hex","data":["{data}"]}}}}"#))
    })
}

/// Computes every conversion again and reads the contracts again; and what a payment of exactly the
/// tokens would have given. Lines to print, and what is wrong.
pub(in crate::cli) async fn proof(
    config: &Config,
    store: &Store,
) -> Result<(Vec<String>, Vec<String>), CliError> {
    let mut chains = Vec::new();
    for chain in &config.chains {
        let pool = pool(chain)?;
        admit_providers(chain, &pool, store.clock().as_ref()).await?;
        chains.push((chain.clone(), Arc::new(pool)));
    }
    let market = market(&chains, Web::default());
    let done = verify(store, Some(&market), (i64::MIN, i64::MAX), false).await?;
    let mut lines = vec![format!("conversions verify --online: {}", sentence(&done, true))];
    let mut problems: Vec<String> =
        done.differs.iter().map(|(what, how)| format!("{what}: {how}")).collect();

    let Some(chain) = config.chains.first() else { return Ok((lines, problems)) };
    let (mut equal, mut after) = (0usize, None::<ConversionRow>);
    loop {
        let page = store.conversions(i64::MIN, i64::MAX, after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for row in &page {
            match parity(&chain.rules, row) {
                None => equal = equal.saturating_add(1),
                Some(other) => problems.push(other),
            }
        }
    }
    if let Some(ConversionRow { conversion, credits, raw, decimals, asset, .. }) = &after
        && let Some(into) = &conversion.into
    {
        lines.push(format!(
            "parity: {} {asset} was converted into {} {}; both give {credits} credits",
            raw.display(*decimals),
            into.tokens.display(into.decimals),
            into.asset
        ));
    }
    lines.push(format!(
        "parity: {equal} conversions give, to the nanocredit, what a payment of their tokens gives"
    ));
    if equal == 0 {
        problems.push("nothing was converted".into());
    }
    Ok((lines, problems))
}

/// Values the tokens of a conversion as if they had been paid; says so where that differs.
fn parity(rules: &ChainRules, row: &ConversionRow) -> Option<String> {
    let other = || format!("deposit {} was not worth its tokens", row.deposit);
    let Some(into) = &row.conversion.into else { return Some(other()) };
    let is_it = |t: &&Token| t.asset == into.asset && t.decimals == into.decimals;
    let Some(token) = rules.tokens.iter().find(is_it) else { return Some(other()) };
    let tokens: RawAmount = into.tokens;
    let direct = price(tokens, token, &rules.epochs, row.time_ms, &row.conversion.legs);
    let same = direct.is_ok_and(|direct| direct.credits == row.credits);
    (!same).then(other)
}
