//! A stranger moves the spot price of a pool in the payment's block: who pays then waits for some
//! minutes, and is held only where the pool stays there, or nobody else says what its mean says.

use alloy::primitives::I256;
use alloy::primitives::aliases::U160;
use topupd::chain::rpc::node::RpcSource;
use topupd::devnet::PoolActor;
use topupd::domain::oracle::policy::{Body, FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER};
use topupd::domain::oracle::price_hash;
use topupd::domain::oracle::source::Evidence;
use topupd::tasks::prices::market::Market;
use topupd::tasks::prices::recompute::Recompute;
use topupd::tasks::settle::waiting::what_they_wait_for;

use super::pools::aged;
use super::proofs::{said, topupd};
use super::scene::*;
use crate::database::Cell;

const TWO: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USD"]
quorum = 2
sources = [
  { kind = "chainlink", name = "feed", chain = "local", address = "{rtity}", description = "RTITY / USD", heartbeat_s = 86400 },
  { kind = "uniswap_v3", name = "pool", chain = "local", pool = "{pool}", via = "USDC/USD", window_s = 600, min_liquidity = "1000000000" },
]
"#;

/// A fifth more for a token.
const BUY: u128 = 14_000 * 1_000_000;
/// What that bought, and its fee.
const SELL: u128 = 639_000 * 10u128.pow(18);

/// Puts a swap into the next block.
async fn swap(scene: &Scene, buys: bool, amount: u128) {
    let usdc_first = scene.dex.token0 == scene.net.tokens.usdc;
    let call = PoolActor::swapCall {
        pool: scene.dex.address,
        zeroForOne: usdc_first == buys,
        amountSpecified: I256::try_from(amount).unwrap(),
        sqrtPriceLimitX96: U160::ZERO,
    };
    scene.net.dev.send(scene.dex.actor, call).await.unwrap();
}

/// A payment at `BASE + 100`, with a swap in its block; it is confirmed.
async fn paid_beside_a_swap(scene: &mut Scene, undone: bool) {
    swap(scene, true, BUY).await;
    scene.pay(BASE + 100, scene.net.tokens.usdc, ONE_USDC).await;
    if undone {
        swap(scene, false, SELL).await;
    }
    scene.blocks(BASE + 112, 6).await;
    scene.turn().await;
}

/// The chain goes on until this time, and as long as it takes until that is final.
async fn until(scene: &mut Scene, seconds: u64) {
    scene.at(seconds).await;
    scene.turn().await;
    scene.blocks(seconds + 60, 6).await;
    scene.turn().await;
}

async fn waits_for(scene: &Scene) -> String {
    let rules = [&scene.config.chains[0].rules];
    let waiting = what_they_wait_for(&rules, &scene.store, &scene.deposits().await).await.unwrap();
    waiting[0].as_ref().map(|w| w.text.clone()).unwrap_or_default()
}

async fn stage(scene: &Scene) -> String {
    scene.stages().await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_is_undone_in_the_next_block_costs_the_payer_some_minutes_and_no_person() {
    let mut credited = Vec::new();
    // At once when it can be known, with two providers; or after a night in which nobody looked, and
    // in which the pool went elsewhere.
    for (looked_at, providers) in [(BASE + 401, 2), (BASE + 3_000, 1)] {
        let mut scene = aged(TWO, providers, true).await;
        paid_beside_a_swap(&mut scene, true).await;
        assert_eq!(stage(&scene).await, "confirmed");
        let waits = waits_for(&scene).await;
        for part in ["pool: ", "the price of the moment, 0.024", "looked at again 300 s after"] {
            assert!(waits.contains(part), "{part}: {waits}");
        }
        if looked_at == BASE + 401 {
            // One block too early.
            scene.at(BASE + 399).await;
            scene.turn().await;
            assert_eq!(stage(&scene).await, "confirmed");
        } else {
            swap(&scene, true, 10 * BUY).await;
            scene.at(BASE + 2_900).await;
        }
        until(&mut scene, looked_at).await;
        let given = stage(&scene).await;
        let credits = given.strip_prefix("credited ").and_then(|c| c.parse::<f64>().ok());
        assert!(credits.is_some_and(|c| (2_499.0..2_501.0).contains(&c)), "{given}");
        credited.push(given);
        scene.verify().await;
        // Everything that it was decided by is stored, and can be asked for again.
        let block = scene.deposits().await[0].block_hash;
        let quotes = scene.store.quotes_of(CHAIN, block).await.unwrap();
        let late = |q: &&topupd::store::StoredQuote| match q.evidence().unwrap() {
            Evidence::Calls(calls) => calls.late,
            Evidence::Body(_) => false,
        };
        let later: Vec<_> = quotes.iter().filter(late).collect();
        assert_eq!((later.len(), later[0].providers.len()), (1, providers));
        for args in [vec!["conversions", "verify"], vec!["conversions", "verify", "--online"]] {
            let verified = topupd(&scene, &args);
            let text = said(&verified);
            assert!(verified.status.success(), "{text}");
            assert!(text.starts_with("holds: 1 conversion"), "{text}");
        }
        let id = scene.deposits().await[0].id.to_string();
        let shown = said(&topupd(&scene, &["conversions", "show", &id]));
        assert!(shown.contains("in most of 300 s after it"), "{shown}");
        // Without that answer the price does not follow any more.
        let mut sql = scene.net.database.sql().await;
        for table in ["quote_witnesses", "quotes"] {
            let late = "SELECT quote_id FROM quotes WHERE evidence LIKE '%\"late\":true%'";
            let sql_text = format!("DELETE FROM {table} WHERE quote_id IN ({late})");
            sql.execute(&sql_text).await.unwrap();
        }
        let verified = topupd(&scene, &["conversions", "verify"]);
        assert_eq!(verified.status.code(), Some(3), "{}", said(&verified));
    }
    assert_eq!(credited[0], credited[1], "whenever it is looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_stays_where_a_swap_moved_it_holds_when_the_time_is_over() {
    let mut scene = aged(TWO, 1, true).await;
    paid_beside_a_swap(&mut scene, false).await;
    assert_eq!(stage(&scene).await, "confirmed");
    scene.at(BASE + 399).await;
    scene.turn().await;
    assert_eq!(stage(&scene).await, "confirmed");
    until(&mut scene, BASE + 401).await;
    assert_eq!(stage(&scene).await, "held (no_price)");
    let lacking = scene.lacking(&scene.deposits().await[0]).await;
    assert!(lacking.contains("it was not back in most of the 300 s after"), "{lacking}");
    // What comes later changes nothing any more, and nobody is asked about it again.
    swap(&scene, false, SELL).await;
    let block = scene.deposits().await[0].block_hash;
    let captures = scene.store.captures(CHAIN, block).await.unwrap();
    let found = captures.iter().filter_map(|c| c.why.as_deref().filter(|_| c.done_at_ms.is_some()));
    assert_eq!(found.filter(|why| why.contains("it was not back")).count(), 1, "{captures:?}");
    until(&mut scene, BASE + 1_000).await;
    assert_eq!(stage(&scene).await, "held (no_price)");
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mean_that_the_others_do_not_bear_out_is_not_waited_for() {
    let mut scene = aged(TWO, 1, true).await;
    scene.answers(BASE + 50, 100_000_000, 2_200_000).await;
    paid_beside_a_swap(&mut scene, true).await;
    assert_eq!(stage(&scene).await, "held (no_price)");
    let lacking = scene.lacking(&scene.deposits().await[0]).await;
    assert!(lacking.contains("bp from 0.022; at most 500 are allowed"), "{lacking}");
    until(&mut scene, BASE + 401).await;
    assert_eq!(stage(&scene).await, "held (no_price)");
    scene.verify().await;
}

/// Puts what a price was decided on in the place of what is written; how it differs, computed again.
async fn differs(scene: &Scene, seq: i64, body: &Body) -> Vec<(String, String)> {
    let (text, hash) = (body.text(), price_hash(&body.text()));
    let mut sql = scene.net.database.sql().await;
    let cells = [Cell::Text(text), Cell::Bytes(hash.to_vec()), Cell::Int(seq)];
    let change = "UPDATE market_prices SET body = $1, price_hash = $2 WHERE price_seq = $3";
    sql.execute_with(change, &cells).await.unwrap();
    let mut again = Recompute::new(&scene.store, None::<&Market<RpcSource>>);
    again.price(hash).await.unwrap();
    again.done.differs
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_not_needed_it_is_not_waited_for_and_older_prices_are_computed_as_they_were() {
    let mut scene = aged(&TWO.replace("quorum = 2", "quorum = 1"), 1, true).await;
    paid_beside_a_swap(&mut scene, true).await;
    assert!(stage(&scene).await.starts_with("credited 2500"));
    let block = scene.deposits().await[0].block_hash;
    let price = scene.store.market_price_at("RTITY/USD", CHAIN, block).await.unwrap().unwrap();
    let (seq, mut body) = (price.accepted.seq, price.body().unwrap());
    let pool = body.parts[1].clone();
    assert!(pool.rejected.unwrap().starts_with("spot_off: ") && pool.price.is_some());
    super::proofs::without_guard(&scene, "market_prices_are_not_updated", "market_prices").await;
    assert_eq!(differs(&scene, seq, &body).await, []);
    // The formula before had no price of it.
    for formula in [FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER] {
        body.formula = formula.into();
        body.parts[1].price = pool.price;
        assert_eq!(differs(&scene, seq, &body).await.len(), 1);
        let part = &mut body.parts[1];
        (part.price, part.as_of_ms, part.updated_ms, part.detail) = (None, None, None, None);
        assert_eq!(differs(&scene, seq, &body).await, []);
    }
}
