//! Prices on the simulated chain: feeds that answer otherwise in every block, and a pool whose tick is
//! another one after every block, so that a credit at the price of another block or time, or at a
//! liar's price, is not the one that is expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::aliases::{I24, I56, U80, U160};
use alloy::primitives::{Address, B256, I256, U256};
use alloy::sol_types::SolCall;
use topupd::domain::ids::BlockRef;
use topupd::domain::money::{Rate, RawAmount};
use topupd::domain::oracle::Oracle;
use topupd::domain::oracle::abi::Aggregator;
use topupd::domain::oracle::abi::UniswapV3Pool;
use topupd::domain::oracle::chainlink::Feed;
use topupd::domain::oracle::policy::pair::PairPolicy;
use topupd::domain::oracle::reading::{Call, CallAnswer, Called, Calls, PriceInstant};
use topupd::domain::oracle::round::round_id;
use topupd::domain::oracle::source::{Evidence, Reads, SourceSpec, read};
use topupd::domain::oracle::tick_math::sqrt_ratio_at_tick;
use topupd::domain::oracle::uniswap_v3::Pool;
use topupd::domain::pricing::{Epoch, EpochBook, Phase};
use topupd::domain::terms::{Dust, Terms, Valuation};

use super::plan::Valued;
use super::rules::token;
use super::story::{CHAIN, GENESIS_MS};
use super::world::{BLOCK_MS, Block, Payment, World};

const USDC: Address = Address::repeat_byte(0xf1);
const USDT: Address = Address::repeat_byte(0xf2);
pub const POOL: Address = Address::repeat_byte(0xf5);
const RTITY: [Address; 2] = [Address::repeat_byte(0xf3), Address::repeat_byte(0xf4)];

/// What a feed answers in the state after a block, with eight digits: within a hundredth of a dollar
/// or of two cents. Even, so that the median of two is one of the same digits.
pub fn answer(feed: Address, block: B256) -> u64 {
    let around = if RTITY.contains(&feed) { 1_000_000 } else { 50_000_000u64 };
    let mut word = [0; 8];
    word.copy_from_slice(&block[..8]);
    let wobble = u64::from_be_bytes(word).rotate_left(u32::from(feed[0])) % 20_000;
    2 * (around * (990_000 + wobble) / 1_000_000)
}

/// By what a payment is valued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// The first epoch, or the second, which gives twice as much.
    pub epoch: u8,
    /// A price of the token by hand, with eight digits.
    pub price: Option<u64>,
}

impl Default for By {
    fn default() -> Self {
        Self { epoch: 1, price: None }
    }
}

/// What a payment is worth in a block, in nanocredits. By hand: not one line of it is topupd's, but
/// for the reading of a pool.
pub fn worth(world: &World, payment: &Payment, block: &Block, valued: Valued, by: By) -> u128 {
    let times = u128::from(by.epoch);
    let amount = u128::from(payment.amount);
    let hash = block.header.hash;
    let dollars = |feed| u128::from(answer(feed, hash).min(100_000_000));
    if payment.token != token(0) {
        return amount * dollars(USDT) * 1_000 * times * 10u128.pow(9) / 10u128.pow(14);
    }
    let dollars = U256::from(amount * 10u128.pow(12) * dollars(USDC));
    let tokens = if let Some(price) = by.price {
        dollars / U256::from(price)
    } else if valued == Valued::Pool {
        // As decimal digits behind a point: tokens = dollars / price.
        let price = pool_price(world, block).to_string();
        let (whole, digits) = price.split_once('.').unwrap();
        let price: U256 = format!("{whole}{digits}").parse().unwrap();
        dollars * U256::from(10).pow(U256::from(digits.len())) / (price * U256::from(100_000_000))
    } else {
        let rtity = RTITY.map(|feed| u128::from(answer(feed, hash)));
        dollars / U256::from((rtity[0] + rtity[1]) / 2)
    };
    (tokens * U256::from(50 * times) / U256::from(10u64.pow(9))).to()
}

/// The pool's mean at a block, by the answers of somebody who knows everything.
fn pool_price(world: &World, block: &Block) -> Rate {
    let header = &block.header;
    let spec = pool();
    let block_of = |hash| world.blocks.get(&hash).cloned();
    let calls = spec.calls().into_iter().map(|call| Called {
        answer: pool_answer(&call, block, block_of),
        to: call.to,
        data: call.data,
    });
    let evidence = Evidence::Calls(Calls {
        chain_id: CHAIN,
        block_number: header.number,
        block_hash: header.hash,
        block_time_ms: header.time_ms,
        next_time_ms: None,
        late: false,
        calls: calls.collect(),
    });
    let block = BlockRef { number: header.number, hash: header.hash };
    let at = PriceInstant { chain: CHAIN, block, time_ms: header.time_ms };
    read(&spec, &evidence, &at).unwrap().price
}

/// What the pool answers in the state after a block.
pub fn pool_answer(
    call: &Call,
    block: &Block,
    block_of: impl Fn(B256) -> Option<Arc<Block>>,
) -> CallAnswer {
    let Ok(observe) = UniswapV3Pool::observeCall::abi_decode(&call.data) else {
        let tick = TICK + block.tick;
        let slot0 = UniswapV3Pool::slot0Return {
            sqrtPriceX96: U160::from(sqrt_ratio_at_tick(tick).unwrap()),
            tick: I24::try_from(tick).unwrap(),
            observationIndex: 0,
            observationCardinality: 1_000,
            observationCardinalityNext: 1_000,
            feeProtocol: 0,
            unlocked: true,
        };
        let bytes = UniswapV3Pool::slot0Call::abi_encode_returns(&slot0);
        return CallAnswer::Returned(bytes.into());
    };
    let now_s = block.header.time_ms / 1_000;
    let times: Vec<i64> = observe.secondsAgos.iter().map(|ago| now_s - i64::from(*ago)).collect();
    let ticks = times.iter().map(|time_s| {
        let (mut at_s, mut tick, mut sum) = (now_s, block.tick, block.tick_sum);
        let mut parent = block.header.parent_hash;
        while at_s > *time_s {
            let Some(older) = block_of(parent) else { break };
            (at_s, tick, sum) = (older.header.time_ms / 1_000, older.tick, older.tick_sum);
            parent = older.header.parent_hash;
        }
        let since = time_s - GENESIS_MS / 1_000;
        I56::try_from(sum + i64::from(tick) * (time_s - at_s) + i64::from(TICK) * since).unwrap()
    });
    let ticks = ticks.collect();
    // A liquidity of 2^64, ever.
    let liquidity = times.iter().map(|time_s| U160::from(*time_s) << 64).collect();
    let observed = UniswapV3Pool::observeReturn {
        tickCumulatives: ticks,
        secondsPerLiquidityCumulativeX128s: liquidity,
    };
    let bytes = UniswapV3Pool::observeCall::abi_encode_returns(&observed);
    CallAnswer::Returned(bytes.into())
}

/// Two cents, where both tokens have 18 decimals.
const TICK: i32 = -39_122;

fn pool() -> SourceSpec {
    SourceSpec {
        name: "pool".into(),
        venue: "pool".into(),
        via: None,
        guard: false,
        reads: Reads::UniswapV3(Pool {
            chain_id: CHAIN,
            address: POOL,
            base: RTITY[0],
            base_decimals: 18,
            quote: RTITY[1],
            quote_decimals: 18,
            window_s: u32::try_from(BLOCK_MS / 1_000).unwrap() * 3,
            history_s: 60,
            min_cardinality: 2,
            min_liquidity: RawAmount(U256::from(1)),
            spot_max_bps: 500,
        }),
    }
}

/// The question and its answer: each block has a round of its own, numbered by its height and one.
pub fn asked(call: &Call) -> Option<u64> {
    let id = Aggregator::getRoundDataCall::abi_decode(&call.data).ok()?.roundId;
    Some((id & U80::from(u64::MAX)).to::<u64>())
}

pub fn round(answer: u64, number: u64, time_ms: i64) -> CallAnswer {
    let time = U256::from(time_ms / 1_000);
    let id = round_id(1, number);
    let answer = I256::try_from(answer).unwrap();
    let round = Aggregator::latestRoundDataReturn {
        roundId: id,
        answer,
        startedAt: time,
        updatedAt: time,
        answeredInRound: id,
    };
    CallAnswer::Returned(Aggregator::latestRoundDataCall::abi_encode_returns(&round).into())
}

fn policy(pair: &str, feeds: &[Address]) -> PairPolicy {
    let source = |(i, address): (u8, &Address)| SourceSpec {
        name: format!("feed {i}"),
        venue: format!("feed {i}"),
        via: None,
        guard: false,
        reads: Reads::Chainlink(Feed {
            chain_id: CHAIN,
            address: *address,
            decimals: 8,
            description: String::new(),
            heartbeat_s: 3_600,
            sequencer: None,
        }),
    };
    PairPolicy {
        pair: pair.into(),
        hold_below: pair.starts_with("USD").then(|| "0.97".parse::<Rate>().unwrap()),
        quorum: u32::try_from(feeds.len()).unwrap(),
        outlier_floor_bps: 500,
        dispersion_max_bps: 500,
        spread_max_s: 60,
        jump_max_bps: 1_000,
        jump_window_s: 3_600,
        day_max_bps: 1_000,
        sources: (0..).zip(feeds).map(source).collect(),
    }
}

pub fn oracle(valued: Valued) -> Arc<Oracle> {
    let mut rtity = policy("RTITY/USD", &RTITY);
    if valued == Valued::Pool {
        rtity = PairPolicy { quorum: 1, sources: vec![pool()], ..rtity };
    }
    let pairs = [policy("USDC/USD", &[USDC]), policy("USDT/USD", &[USDT]), rtity];
    let pairs: BTreeMap<_, _> = pairs.into_iter().map(|p| (p.pair.clone(), p)).collect();
    Arc::new(Oracle::new(pairs, 60_000).with_schedule(120_000))
}

/// One coin is converted, the other one is worth its dollars. Much later, all of it gives more.
pub fn epochs() -> EpochBook {
    let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
    let epoch = |id: &str, starts_at_ms, per_usd: &str, per_token: &str| {
        let convert = Valuation::Convert { into: "RTITY".into(), into_decimals: 18 };
        let usdt = Valuation::Market { credits_per_usd: per_usd.parse().unwrap() };
        let rtity = Valuation::Fixed { credits_per_token: per_token.parse().unwrap() };
        let accept = [("USDC", convert), ("USDT", usdt), ("RTITY", rtity)];
        let accept = accept.map(|(asset, valuation)| (asset.to_owned(), terms(valuation))).into();
        Epoch { id: id.into(), starts_at_ms, phase: Phase::PostTge, accept }
    };
    let far = GENESIS_MS + 3_600_000 * 24 * 100;
    let two = [epoch("one", GENESIS_MS, "1000", "50"), epoch("two", far, "2000", "100")];
    EpochBook::new(two.into()).unwrap()
}
