//! That the market which tests of prices stand on behaves as the real one: feeds and pools.
//!
//! No daemon here: only what the chain answers.

use alloy::primitives::aliases::{I56, U80};
use alloy::primitives::{Address, Bytes, I256, U256, keccak256};
use serde_json::{Value, json};
use topupd::chain::source::ChainSource;
use topupd::devnet::error::DevnetError;
use topupd::devnet::{
    AnvilOptions, Devnet, IUniswapV3Pool, Pool, PoolOptions, TestFeedProxy, Tokens, sqrt_price_x96,
};

/// One RTITY is 0.05 dollars, in raw units of both.
const RTITY: u64 = 1_000_000_000_000_000_000;
const DOLLARS: u64 = 50_000;
/// 223,607 dollars and as much in RTITY at that price.
const LIQUIDITY: u128 = 1_000_000_000_000_000_000;
const START: u64 = 2_000_000_000;

async fn start() -> (Devnet, Tokens) {
    let options = AnvilOptions { timestamp: Some(START), ..AnvilOptions::default() };
    let dev = Devnet::start(options).await.unwrap();
    let tokens = dev.deploy_tokens().await.unwrap();
    (dev, tokens)
}

async fn now(dev: &Devnet) -> u64 {
    u64::try_from(dev.rpc.latest().await.unwrap().time_ms).unwrap() / 1_000
}

fn id(phase: u64, round: u64) -> U80 {
    (U80::from(phase) << 64) | U80::from(round)
}

/// A pool of RTITY and a dollar; RTITY is deployed until the order of the addresses is as wanted.
async fn pool(dev: &Devnet, dollar: Address, rtity_first: bool) -> Pool {
    let rtity = loop {
        let rtity = dev.deploy_token("Resultity", "RTITY", 18).await.unwrap();
        if (rtity < dollar) == rtity_first {
            break rtity;
        }
    };
    let (amount0, amount1) = if rtity_first { (RTITY, DOLLARS) } else { (DOLLARS, RTITY) };
    let options = PoolOptions {
        fee: 3_000,
        sqrt_price_x96: sqrt_price_x96(amount0, amount1),
        liquidity: LIQUIDITY,
        observations: 20,
    };
    let factory = dev.deploy_factory().await.unwrap();
    dev.deploy_pool(factory, (rtity, dollar), options).await.unwrap()
}

async fn tick(dev: &Devnet, pool: &Pool) -> i32 {
    dev.view(pool.address, IUniswapV3Pool::slot0Call {}).await.unwrap().tick.as_i32()
}

/// The average tick over the last seconds.
async fn average(dev: &Devnet, pool: &Pool, window: u32) -> Result<i64, DevnetError> {
    let call = IUniswapV3Pool::observeCall { secondsAgos: vec![window, 0] };
    let seen = dev.view(pool.address, call).await?.tickCumulatives;
    let window = I56::try_from(window).unwrap();
    assert_eq!((seen[1] - seen[0]) % window, I56::ZERO, "the tick was not the same all the time");
    Ok(((seen[1] - seen[0]) / window).as_i64())
}

/// The square root of the price after each swap in the newest block.
async fn prices_after_swaps(dev: &Devnet, pool: &Pool) -> Vec<U256> {
    let topic = keccak256("Swap(address,address,int256,int256,uint160,uint128,int24)");
    let filter = json!({ "fromBlock": "latest", "address": pool.address, "topics": [topic] });
    let logs: Vec<Value> = dev.rpc.ask("eth_getLogs", (filter,)).await.unwrap();
    let price = |log: &Value| {
        let data: Bytes = serde_json::from_value(log["data"].clone()).unwrap();
        U256::from_be_slice(&data[64..96])
    };
    logs.iter().map(price).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_counts_rounds_by_phase_and_keeps_the_old_ones() {
    let (dev, _) = start().await;
    let mut feed = dev.deploy_feed(8, "RTITY / USD").await.unwrap();
    let latest = TestFeedProxy::latestRoundDataCall {};
    let error = dev.view(feed.proxy, latest.clone()).await.err().unwrap().to_string();
    assert!(error.contains("No data present"), "{error}");

    dev.answer(&feed, 4_999_999).await.unwrap();
    dev.answer(&feed, 5_000_000).await.unwrap();
    let first = dev.view(feed.proxy, latest.clone()).await.unwrap();
    assert_eq!(first.roundId, id(1, 2));
    assert!(first.roundId > U80::from(u64::MAX));
    assert_eq!(first.answeredInRound, first.roundId);
    assert_eq!(first.answer, I256::unchecked_from(5_000_000));
    assert_eq!(first.updatedAt, U256::from(now(&dev).await));

    let old = feed;
    dev.next_phase(&mut feed, 18, "RTITY / USD").await.unwrap();
    assert_eq!(dev.view(feed.proxy, TestFeedProxy::phaseIdCall {}).await.unwrap(), 2);
    assert_eq!(dev.view(feed.proxy, TestFeedProxy::decimalsCall {}).await.unwrap(), 18);
    let call = TestFeedProxy::phaseAggregatorsCall(1);
    assert_eq!(dev.view(feed.proxy, call).await.unwrap(), old.aggregator);
    let call = TestFeedProxy::aggregatorCall {};
    assert_eq!(dev.view(feed.proxy, call).await.unwrap(), feed.aggregator);

    // Any round, and then an earlier one.
    dev.set_round(feed.aggregator, 70, I256::MIN, 10, 20).await.unwrap();
    dev.set_round(feed.aggregator, 7, I256::ZERO, START, 0).await.unwrap();
    let last = dev.view(feed.proxy, latest).await.unwrap();
    assert_eq!((last.roundId, last.startedAt), (id(2, 7), U256::from(START)));
    for (round, answer) in
        [(id(1, 1), 4_999_999), (id(1, 2), 5_000_000), (id(2, 70), i128::MIN), (id(2, 7), 0)]
    {
        let call = TestFeedProxy::getRoundDataCall { id: round };
        let seen = dev.view(feed.proxy, call).await.unwrap();
        let answer = if answer == i128::MIN { I256::MIN } else { I256::unchecked_from(answer) };
        assert_eq!((seen.roundId, seen.answer), (round, answer));
    }
    for (round, why) in [(id(1, 3), "No data present"), (id(3, 1), "revert")] {
        let call = TestFeedProxy::getRoundDataCall { id: round };
        let error = dev.view(feed.proxy, call).await.err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_averages_over_time_in_both_orders_of_its_tokens() {
    for rtity_first in [true, false] {
        let (dev, tokens) = start().await;
        let pool = pool(&dev, tokens.usdc, rtity_first).await;
        assert!(pool.token0 < pool.token1);
        assert_eq!(pool.token1 == tokens.usdc, rtity_first);
        let token0 = dev.view(pool.address, IUniswapV3Pool::token0Call {}).await.unwrap();
        let token1 = dev.view(pool.address, IUniswapV3Pool::token1Call {}).await.unwrap();
        assert_eq!((token0, token1), (pool.token0, pool.token1));
        let liquidity = dev.view(pool.address, IUniswapV3Pool::liquidityCall {}).await.unwrap();
        assert_eq!(liquidity, LIQUIDITY);
        let slot = dev.view(pool.address, IUniswapV3Pool::slot0Call {}).await.unwrap();
        assert_eq!(slot.observationCardinalityNext, 20);
        // ln(5e4 / 1e18) / ln(1.0001) = -306,282.85, or its negative; ticks are rounded down.
        let before = tick(&dev, &pool).await;
        assert_eq!(before, if rtity_first { -306_283 } else { 306_282 });

        // Too young to be asked about ten minutes ago, and then old enough.
        let error = average(&dev, &pool, 600).await.unwrap_err().to_string();
        assert!(error.contains("OLD"), "{error}");
        dev.mine_at(START + 1_000).await.unwrap();
        assert_eq!(average(&dev, &pool, 600).await.unwrap(), i64::from(before));

        // USDC is sold for RTITY, which is dearer then.
        dev.swap(&pool, !rtity_first, 100_000_000_000).await.unwrap();
        let after = tick(&dev, &pool).await;
        assert_eq!(after > before, rtity_first);
        assert!((after - before).abs() > 1_000, "{before} and {after}");
        let swapped = now(&dev).await;
        dev.mine_at(swapped + 300).await.unwrap();
        assert_eq!(average(&dev, &pool, 300).await.unwrap(), i64::from(after));
        let call = IUniswapV3Pool::observeCall { secondsAgos: vec![600, 300, 0] };
        let seen = dev.view(pool.address, call).await.unwrap().tickCumulatives;
        assert_eq!((seen[1] - seen[0]).as_i64(), 300 * i64::from(before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_moved_and_put_back_in_one_transaction_leaves_no_trace_in_the_average() {
    let (dev, tokens) = start().await;
    let pool = pool(&dev, tokens.usdt, true).await;
    let before = dev.view(pool.address, IUniswapV3Pool::slot0Call {}).await.unwrap();
    dev.mine_at(START + 1_000).await.unwrap();
    // As far as prices go, down and up, and by one cent.
    for (zero_for_one, amount) in [(true, u128::MAX), (false, u128::MAX), (false, 10_000)] {
        dev.there_and_back(&pool, zero_for_one, amount).await.unwrap();
        let [there, back] = prices_after_swaps(&dev, &pool).await[..] else { panic!("two swaps") };
        assert_eq!(there < back, zero_for_one);
        assert_eq!(back, U256::from(before.sqrtPriceX96));
        if amount == u128::MAX {
            let away = if zero_for_one { back / there } else { there / back };
            assert!(away > U256::from(1_000_000_000), "{away}");
        }
        let after = dev.view(pool.address, IUniswapV3Pool::slot0Call {}).await.unwrap();
        assert_eq!((after.sqrtPriceX96, after.tick), (before.sqrtPriceX96, before.tick));
        assert_eq!(average(&dev, &pool, 600).await.unwrap(), before.tick.as_i64());
    }
    dev.mine_at(now(&dev).await + 60).await.unwrap();
    assert_eq!(average(&dev, &pool, 600).await.unwrap(), before.tick.as_i64());
}
