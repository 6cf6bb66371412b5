//! A house after the TGE: stablecoins are converted at the prices of scripted feeds.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{Address, B256, I256, U256};
use topupd::chain::scripted::{ScriptedChain, ScriptedTx};
use topupd::domain::chain::Header;
use topupd::domain::chain_rules::ChainRules;
use topupd::domain::conversion::Conversion;
use topupd::domain::journal::DepositCredit;
use topupd::domain::money::Rate;
use topupd::domain::oracle::Oracle;
use topupd::domain::oracle::chainlink::Feed;
use topupd::domain::oracle::policy::pair::PairPolicy;
use topupd::domain::oracle::reading::CallAnswer;
use topupd::domain::oracle::source::{Reads, SourceSpec};
use topupd::domain::pricing::{Epoch, EpochBook, Phase};
use topupd::domain::terms::{Dust, Terms, Valuation};
use topupd::store::{Act, Breaker, MarketPrice, Resume, StoreError};
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::capture::{Captured, capture};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::confirming::Settled;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;

use super::support::*;

pub const BLOCK_MS: i64 = 12_000;
/// The time of block 5.
pub const TGE_MS: i64 = GENESIS_MS + 5 * BLOCK_MS;
/// Feeds are updated at least every ten minutes; 660 s, or 55 blocks, are just not too old.
pub const HEARTBEAT_S: u32 = 600;
pub const BLOCKS_FRESH: u64 = 55;
/// The feeds of RTITY in dollars.
pub const RTITY_FEEDS: [Address; 3] =
    [Address::repeat_byte(0xf1), Address::repeat_byte(0xf2), Address::repeat_byte(0xf3)];
/// The feed of USDC in dollars.
pub const USDC_FEED: Address = Address::repeat_byte(0xf8);
/// A feed of RTITY in USDC.
pub const DIRECT_FEED: Address = Address::repeat_byte(0xf9);
pub const RTITY_USD: &str = "RTITY/USD";
pub const USDC_USD: &str = "USDC/USD";
pub const RTITY_USDC: &str = "RTITY/USDC";

/// In the smallest units of USDC and USDT.
pub const DOLLAR: u128 = 1_000_000;

/// Ten dollars to the namespace `acme`; at 2 cents these are 500 RTITY.
pub fn ten(id: u64) -> ScriptedTx {
    pay(id, USDC, 0, 10 * DOLLAR)
}

pub fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// What RTITY is worth after the TGE.
pub fn fixed() -> Valuation {
    Valuation::Fixed { credits_per_token: rate("50.5") }
}

pub fn market() -> Valuation {
    Valuation::Market { credits_per_usd: rate("1000") }
}

pub fn source(name: &str, address: Address) -> SourceSpec {
    SourceSpec {
        name: name.into(),
        venue: name.into(),
        via: None,
        guard: false,
        reads: Reads::Chainlink(Feed {
            chain_id: CHAIN,
            address,
            decimals: 8,
            description: name.into(),
            heartbeat_s: HEARTBEAT_S,
            sequencer: None,
        }),
    }
}

pub fn policy(pair: &str, quorum: u32, feeds: &[Address]) -> PairPolicy {
    let stablecoin = pair == USDC_USD;
    PairPolicy {
        pair: pair.into(),
        hold_below: stablecoin.then(|| rate("0.97")),
        quorum,
        outlier_floor_bps: 100,
        dispersion_max_bps: 200,
        spread_max_s: 60,
        jump_max_bps: if stablecoin { 2_000 } else { 1_000 },
        jump_window_s: 3_600,
        day_max_bps: 3_000,
        sources: (1..).zip(feeds).map(|(i, feed)| source(&format!("feed-{i}"), *feed)).collect(),
    }
}

pub fn oracle(policies: Vec<PairPolicy>) -> Arc<Oracle> {
    Arc::new(Oracle::new(policies.into_iter().map(|p| (p.pair.clone(), p)).collect(), 60_000))
}

/// Par until the TGE, converted since; dust of USDT accumulates. Two of so many feeds of RTITY must
/// be left.
pub fn market_rules(confirmations: u64, token: Valuation, feeds: usize) -> ChainRules {
    let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
    let convert = || Valuation::Convert { into: "RTITY".into(), into_decimals: 18 };
    let dusty = Terms { minimum: Some(rate("1")), dust: Dust::Accumulate, ..terms(convert()) };
    let mut rules = rules(confirmations);
    let [before, after] = [
        BTreeMap::from([
            ("USDC".into(), terms(Valuation::Par { credits_per_usd: rate("1000") })),
            ("RTITY".into(), terms(fixed())),
        ]),
        BTreeMap::from([
            ("USDC".into(), terms(convert())),
            ("USDT".into(), dusty),
            ("RTITY".into(), terms(token)),
        ]),
    ];
    let epoch = |id: &str, starts_at_ms, phase, accept| Epoch {
        id: id.into(),
        starts_at_ms,
        phase,
        accept,
    };
    rules.epochs = Arc::new(
        EpochBook::new(vec![
            epoch("before", GENESIS_MS, Phase::PreTge, before),
            epoch("after", TGE_MS, Phase::PostTge, after),
        ])
        .unwrap(),
    );
    rules.oracle = oracle(vec![
        policy(RTITY_USD, 2, &RTITY_FEEDS[..feeds]),
        policy(USDC_USD, 1, &[USDC_FEED]),
        policy("USDT/USD", 1, &[USDC_FEED]),
    ]);
    rules
}

/// What `latestRoundData` returns: round 7 of phase 1.
pub fn round_of(answer: I256, updated_ms: i64) -> CallAnswer {
    let id = (U256::from(1) << 64) | U256::from(7);
    let time = U256::from(u64::try_from(updated_ms / 1_000).unwrap());
    let words = [id, answer.into_raw(), time, time, id];
    CallAnswer::Returned(words.iter().flat_map(U256::to_be_bytes::<32>).collect())
}

/// A price by hand, its number said twice.
pub fn price_by_hand(pair: &str, price: &str) -> Act {
    let price = rate(price);
    Act::ProposePrice { pair: pair.into(), price, repeated: Some(price) }
}

/// A house on a market.
pub struct Fair {
    pub chain: ScriptedChain,
    pub house: House,
}

impl Fair {
    pub async fn resume(&self, pair: &str, how: Resume) -> Result<Breaker, StoreError> {
        let (store, oracle) = (&self.house.store, &self.house.rules.oracle);
        Ok(store.resume_breaker(oracle, pair, how, ("ann", "listed")).await?.1)
    }

    /// An operator lets the price pass that opened a breaker.
    pub async fn pass(&self, pair: &str) -> Breaker {
        let open = self.house.store.breaker(pair).await.unwrap().unwrap();
        self.resume(pair, Resume::Pass { repeated: Some(open.price) }).await.unwrap()
    }

    /// An operator rejects it.
    pub async fn reject(&self, pair: &str) {
        self.resume(pair, Resume::Reject).await.unwrap();
    }

    /// The next block is the first one at the TGE. RTITY is at 2 cents and USDC at a dollar, on all
    /// feeds.
    pub async fn new(rules: ChainRules) -> Self {
        let fair = Self::before_tge(rules).await;
        mine_empty(&fair.chain, 4);
        fair.all_say("0.02");
        fair.say(USDC_FEED, "1");
        fair
    }

    pub async fn before_tge(rules: ChainRules) -> Self {
        Self { chain: ScriptedChain::new(GENESIS_MS), house: House::new(rules).await }
    }

    /// The next block updates a feed to this.
    pub fn say(&self, feed: Address, price: &str) {
        let mantissa = rate(price).to_raw(8).unwrap().0;
        self.answer(feed, I256::from_raw(mantissa));
    }

    pub fn answer(&self, feed: Address, answer: I256) {
        let next = self.head().time_ms + BLOCK_MS;
        self.chain.set_answer(feed, next, round_of(answer, next));
    }

    pub fn all_say(&self, price: &str) {
        for feed in RTITY_FEEDS {
            self.say(feed, price);
        }
    }

    pub fn head(&self) -> Header {
        self.chain.canonical().last().unwrap().0
    }

    pub fn market(&self) -> Market<ScriptedChain> {
        let pool = Arc::new(only(&self.chain));
        Market {
            chains: BTreeMap::from([(CHAIN, (self.house.rules.clone(), pool))]),
            ..Market::default()
        }
    }

    pub async fn watch(&mut self) -> Watched {
        loop {
            match self.house.watch(&self.chain).await {
                Ok(watched) => return watched,
                Err(WatchError::Moved(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn capture(&self) -> Captured {
        let house = &self.house;
        house.clock.advance_ms(1_000);
        capture(&house.rules, &self.market(), &house.store, &house.clock).await.unwrap()
    }

    pub async fn settle(&self) -> Settled {
        let (house, pool) = (&self.house, only(&self.chain));
        house.clock.advance_ms(1_000);
        settle(&house.rules, &pool, &self.market(), &house.store, &house.clock).await.unwrap()
    }

    /// Until nothing is left to do without waiting.
    pub async fn rest(&mut self) {
        for _ in 0..1_000 {
            let watched = self.watch().await;
            let captured = self.capture().await;
            let settled = self.settle().await;
            if (watched, captured, settled)
                == (Watched::Idle, Captured::default(), Settled::default())
            {
                return;
            }
        }
        panic!("does not come to rest");
    }

    /// Until nothing is left to do, also after the longest pause.
    pub async fn rest_long(&mut self) {
        for _ in 0..3 {
            self.rest().await;
            self.house.clock.advance_ms(600_000);
        }
        self.rest().await;
    }

    pub async fn mine(&mut self, txs: Vec<ScriptedTx>) -> Header {
        let header = self.chain.mine(txs);
        self.rest().await;
        header
    }

    /// The price that was accepted at a block.
    pub async fn price(&self, pair: &str, block: B256) -> Option<MarketPrice> {
        self.house.store.market_price_at(pair, CHAIN, block).await.unwrap()
    }

    pub async fn price_text(&self, pair: &str, block: B256) -> Option<String> {
        Some(self.price(pair, block).await?.accepted.price.to_string())
    }

    /// The causes of a namespace's credits, oldest first.
    pub async fn credits(&self, namespace: &str) -> Vec<DepositCredit> {
        let history = self.house.store.history(&name(namespace)).await.unwrap();
        history.iter().map(|row| serde_json::from_str(&row.record.cause).unwrap()).collect()
    }

    /// The conversion of a namespace's only credit.
    pub async fn conversion(&self, namespace: &str) -> Conversion {
        let [credit] = self.credits(namespace).await.try_into().unwrap();
        credit.conversion.unwrap()
    }
}
