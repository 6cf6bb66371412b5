//! A chain with a market, whose time the test sets, and the tasks of one chain, taken step by step.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, TxHash};
use topupd::chain::pool::Pool;
use topupd::chain::rpc::node::RpcSource;
use topupd::clock::{Clock, ManualClock};
use topupd::config::Config;
use topupd::daemon::admit_providers;
use topupd::daemon::parts::{market, pool, web};
use topupd::devnet::{AnvilOptions, Devnet, Feed, Pool as DexPool};
use topupd::domain::ids::ChainId;
use topupd::store::{Acquired, DepositRow, LeasedStore, Store, chain_task};
use topupd::tasks::prices::capture::capture;
use topupd::tasks::prices::market::Market;
use topupd::tasks::prices::sample::sample;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

use crate::database::TestDatabase;
use crate::local_chain::proxy::Proxy;
use crate::local_chain::support::*;

/// When the scenes play, in seconds; the market is set up before.
pub const BASE: u64 = 1_900_000_000;
/// The TGE.
pub const TGE: u64 = BASE;
pub const CHAIN: ChainId = ChainId(31_337);
pub const ONE_USDC: u64 = 1_000_000;

/// What tickers are asked with.
pub const TICKER_KEY: &str = "Bearer tok_abcdef+/123456==";

/// What a scene is made of.
pub struct Scene {
    pub net: Net,
    pub proxies: Vec<Proxy>,
    pub usdc_usd: Feed,
    pub rtity_usd: Feed,
    pub dex: DexPool,
    pub config: Config,
    pub store: LeasedStore,
    pub pool: Arc<Pool<RpcSource>>,
    pub market: Market<RpcSource>,
    pub clock: ManualClock,
    cache: WatchCache,
}

/// The tables under `[oracle]`, with names for what the scene has: `{usdc}`, `{rtity}`, `{pool}`.
pub const TWO_FEEDS: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{rtity}", description = "RTITY / USD", heartbeat_s = 3600 }]
"#;

impl Scene {
    pub async fn new(oracle: &str) -> Self {
        Self::with(oracle, 1, true).await
    }

    /// With so many providers; `rtity_first` says which of the two tokens has the lower address.
    pub async fn with(oracle: &str, providers: usize, rtity_first: bool) -> Self {
        let options = AnvilOptions { timestamp: Some(BASE - 20_000), ..AnvilOptions::default() };
        let dev = Devnet::start(options).await.unwrap();
        let database = TestDatabase::new(crate::ENGINE).await;
        let mut net = Net::over(dev, database).await;
        while (net.tokens.rtity < net.tokens.usdc) != rtity_first {
            net.tokens.rtity = net.dev.deploy_token("Resultity", "RTITY", 18).await.unwrap();
        }
        net.fill_purses().await;
        let usdc_usd = net.dev.deploy_feed(8, "USDC / USD").await.unwrap();
        let rtity_usd = net.dev.deploy_feed(8, "RTITY / USD").await.unwrap();
        let (rtity, usdc) = (net.tokens.rtity, net.tokens.usdc);
        let dex = net.dev.deploy_two_cent_pool(rtity, usdc).await.unwrap();
        net.dev.automine(false).await.unwrap();

        let mut proxies = Vec::new();
        for _ in 0..providers {
            proxies.push(Proxy::to(&net.dev.http).await.unwrap());
        }
        let listed: Vec<String> = (0..)
            .zip(&proxies)
            .map(|(i, proxy): (u8, _)| {
                format!("{{ name = \"p{i}\", http = \"{}\" }}", proxy.http())
            })
            .collect();
        let wants = Wants { providers: Some(listed.join(", ")), ..Wants::default() };
        let text = net.config_text(&wants)
            + &format!(
                r#"
[[epochs]]
id = "after"
starts_at = "{}"
phase = "post_tge"
[epochs.accept]
RTITY = {{ valuation = "fixed", credits_per_token = "50" }}
USDC = {{ valuation = "convert", into = "RTITY" }}
{}"#,
                jiff::Timestamp::from_second(i64::try_from(TGE).unwrap()).unwrap(),
                oracle
                    .replace("{usdc}", &usdc_usd.proxy.to_string())
                    .replace("{rtity}", &rtity_usd.proxy.to_string())
                    .replace("{pool}", &dex.address.to_string()),
            );
        std::fs::write(net.config_path(), text).unwrap();
        let environment = [("TICKER_KEY".to_owned(), TICKER_KEY.to_owned())];
        let config = Config::load(&net.config_path(), environment).unwrap();
        net.register(&config).await;
        let clock = ManualClock::at(ms(BASE - 10_000));
        let store = Store::open(&net.database.database(), config.network, 0).await.unwrap();
        let store = store.timed_by(Arc::new(clock.clone()));
        store.sync_epochs(&config.epochs, 0).await.unwrap();
        let store = lease(&store, &chain_task(CHAIN)).await;
        let mut chains = Vec::new();
        for chain in &config.chains {
            chains.push((chain.clone(), Arc::new(pool(chain).unwrap())));
        }
        let market = market(&chains, web(&config).unwrap());
        let (chain, pool) = chains[0].clone();
        let cache = WatchCache::new(&chain.rules);
        let scene = Self {
            net,
            proxies,
            usdc_usd,
            rtity_usd,
            dex,
            config,
            store,
            pool,
            market,
            clock: clock.clone(),
            cache,
        };
        scene.answers(BASE - 9_000, 99_990_000, 2_000_000).await;
        for (chain, pool) in &chains {
            admit_providers(chain, pool, &clock).await.unwrap();
        }
        scene.at(BASE - 8_000).await;
        scene
    }

    /// Both feeds answer, with eight digits after the point, in a block of this time.
    pub async fn answers(&self, at: u64, usdc: i128, rtity: i128) {
        let answer = |value: i128| topupd::devnet::TestAggregator::submitCall {
            answer: alloy::primitives::I256::try_from(value).unwrap(),
        };
        let dev = &self.net.dev;
        dev.send(self.usdc_usd.aggregator, answer(usdc)).await.unwrap();
        dev.send(self.rtity_usd.aggregator, answer(rtity)).await.unwrap();
        self.at(at).await;
    }

    /// Mines a block of this time, and sets the clock to it.
    pub async fn at(&self, seconds: u64) {
        self.net.dev.mine_at(seconds).await.unwrap();
        self.clock_at(seconds);
    }

    pub fn clock_at(&self, seconds: u64) {
        self.clock.advance_ms(ms(seconds) - self.clock.now_ms());
    }

    /// So many empty blocks, a second apart.
    pub async fn blocks(&self, from: u64, many: u64) {
        for i in 0..many {
            self.at(from + i).await;
        }
    }

    /// Pays from a sender to `acme`, in a block of this time.
    pub async fn pay(&self, at: u64, token: Address, amount: u64) -> TxHash {
        let tx = self.net.pay(1, token, self.net.addresses[0], amount).await;
        self.at(at).await;
        tx
    }

    /// Takes samples once.
    pub async fn sample(&self) -> Vec<(String, String)> {
        let store = lease(&self.store, topupd::tasks::prices::sample::SAMPLE_TASK).await;
        let oracle = &self.config.oracle.oracle;
        sample(oracle, &self.market.web, &store, &self.clock).await.unwrap().1
    }

    pub async fn watch(&mut self) {
        let rules = &self.config.chains[0].rules;
        for _ in 0..1_000 {
            let step = watch(rules, &self.pool, &self.store, &self.clock, &mut self.cache);
            if step.await.unwrap() == Watched::Idle {
                return;
            }
        }
        panic!("does not catch up");
    }

    pub async fn capture(&self) -> usize {
        let rules = &self.config.chains[0].rules;
        let mut done = 0;
        loop {
            let step = capture(rules, &self.market, &self.store, &self.clock).await.unwrap();
            done += step.done;
            if !step.more {
                return done;
            }
        }
    }

    pub async fn settle(&self) {
        let rules = &self.config.chains[0].rules;
        for _ in 0..3 {
            settle(rules, &self.pool, &self.market, &self.store, &self.clock).await.unwrap();
        }
    }

    /// Everything once: what a daemon does between two blocks.
    pub async fn turn(&mut self) {
        self.watch().await;
        self.capture().await;
        self.settle().await;
    }

    pub async fn deposits(&self) -> Vec<DepositRow> {
        let mut all = deposits(&self.store).await;
        all.sort_by_key(|d| (d.block_number, d.tx_hash));
        all
    }

    /// `credited 49.995`, `held (no_price)` and so on, in the order of blocks.
    pub async fn stages(&self) -> Vec<String> {
        let shown = |d: &DepositRow| match d.credits {
            Some(credits) => format!("{} {credits}", d.stage),
            None => d.stage.to_string(),
        };
        self.deposits().await.iter().map(shown).collect()
    }

    /// What the newest try of a deposit's block lacked.
    pub async fn lacking(&self, deposit: &DepositRow) -> String {
        let tries = self.store.price_tries(CHAIN, deposit.block_hash).await.unwrap();
        tries.iter().filter_map(|(body, _)| body.held.clone()).collect::<Vec<_>>().join("; ")
    }

    pub async fn verify(&self) {
        verify(&self.store).await;
    }
}

/// The store with a lease of its own, from whoever has it.
async fn lease(store: &Store, task: &str) -> LeasedStore {
    let holder = format!("scene-{:08x}", fastrand::u32(..));
    match store.acquire(task, &holder, Duration::from_secs(3_600), true).await.unwrap() {
        Acquired::Ours(lease) => store.holding(lease),
        taken => panic!("{taken:?}"),
    }
}

pub fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap() * 1_000
}
