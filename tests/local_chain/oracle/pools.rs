//! Uniswap v3: real pools, real swaps, and what counts as a price there.

use super::scene::*;

const POOL: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "uniswap_v3", name = "pool", chain = "local", pool = "{pool}", via = "USDC/USD", window_s = 600, min_liquidity = "1000000000" }]
"#;

/// What a dollar of USDC gives at 0.02 USDC a token: 50 credits for each of 50 tokens, but for the
/// half of a basis point that a tick is wide.
fn about_2500(stage: &str) -> bool {
    let credits = stage.strip_prefix("credited ").and_then(|c| c.parse::<f64>().ok());
    credits.is_some_and(|c| (2_499.0..2_501.0).contains(&c))
}

const ONE_DOLLAR: u128 = 1_000_000;

/// Buys tokens for so much USDC, and sells them again in the same transaction or not.
async fn trade(scene: &Scene, amount: u128, back: bool) {
    let (dev, dex) = (&scene.net.dev, &scene.dex);
    let zero_for_one = dex.token0 == scene.net.tokens.usdc;
    dev.automine(true).await.unwrap();
    if back {
        dev.there_and_back(dex, zero_for_one, amount).await.unwrap();
    } else {
        dev.swap(dex, zero_for_one, amount).await.unwrap();
    }
    dev.automine(false).await.unwrap();
}

/// The pool's clock must have run for a while before it remembers a window.
pub(super) async fn aged(oracle: &str, providers: usize, rtity_first: bool) -> Scene {
    let scene = Scene::with(oracle, providers, rtity_first).await;
    for at in [7_000, 6_000, 5_000] {
        scene.at(BASE - at).await;
        trade(&scene, 1_000 * ONE_DOLLAR, true).await;
    }
    scene.answers(BASE, 100_000_000, 2_000_000).await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_prices_a_token_whichever_of_the_two_it_is() {
    let mut given = Vec::new();
    for rtity_first in [true, false] {
        let mut scene = aged(POOL, 1, rtity_first).await;
        let usdc = scene.net.tokens.usdc;
        scene.pay(BASE + 10, usdc, ONE_USDC).await;
        scene.blocks(BASE + 11, 4).await;
        scene.turn().await;
        let stages = scene.stages().await;
        assert!(about_2500(&stages[0]), "{stages:?}");
        given.push(stages);
        scene.verify().await;
    }
    println!("{given:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_moves_the_spot_price_holds_and_one_that_lasts_moves_the_mean() {
    let mut scene = aged(POOL, 1, true).await;
    let usdc = scene.net.tokens.usdc;
    // There and back within one transaction: neither price moves.
    trade(&scene, 20_000 * ONE_DOLLAR, true).await;
    scene.pay(BASE + 100, usdc, ONE_USDC).await;
    // A fifth more for a token, a moment before the payment: spot has moved, the mean not.
    trade(&scene, 14_000 * ONE_DOLLAR, false).await;
    scene.pay(BASE + 110, usdc, ONE_USDC).await;
    // Later the mean is where spot is.
    scene.pay(BASE + 2_000, usdc, ONE_USDC).await;
    scene.blocks(BASE + 2_001, 4).await;
    scene.turn().await;
    let stages = scene.stages().await;
    assert!(about_2500(&stages[0]), "{stages:?}");
    assert_eq!(stages[1], "held (no_price)");
    let lacking = scene.lacking(&scene.deposits().await[1]).await;
    assert!(lacking.contains("spot_off"), "{lacking}");
    let later = stages[2].strip_prefix("credited ").unwrap().parse::<f64>().unwrap();
    assert!((1_000.0..2_400.0).contains(&later), "{stages:?}");
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_too_young_or_too_thin_is_none() {
    for (from, to, why) in [
        ("window_s = 600", "window_s = 86400", "too_young"),
        ("min_liquidity = \"1000000000\"", "min_liquidity = \"9000000000000000000\"", "illiquid"),
        ("window_s = 600", "window_s = 600, min_cardinality = 5000", "low_cardinality"),
    ] {
        let mut scene = aged(&POOL.replace(from, to), 1, true).await;
        scene.pay(BASE + 10, scene.net.tokens.usdc, ONE_USDC).await;
        scene.blocks(BASE + 11, 4).await;
        scene.turn().await;
        let lacking = scene.lacking(&scene.deposits().await[0]).await;
        assert!(lacking.contains(why), "{lacking}");
    }
}

/// The state of the payment's block is gone; the pool's own observations are not. What is read of
/// them later gives the very price that was there.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_state_is_pruned_a_pool_tells_the_same_price_from_its_observations() {
    let mut stages = Vec::new();
    for pruned in [false, true] {
        let mut scene = aged(POOL, 1, true).await;
        let usdc = scene.net.tokens.usdc;
        trade(&scene, 1_000 * ONE_DOLLAR, false).await;
        scene.pay(BASE + 300, usdc, ONE_USDC).await;
        scene.at(BASE + 302).await;
        trade(&scene, 20_000 * ONE_DOLLAR, false).await;
        scene.blocks(BASE + 400, 10).await;
        if pruned {
            scene.proxies[0].set(crate::local_chain::proxy::Fault::Pruned(5));
        }
        scene.turn().await;
        scene.blocks(BASE + 410, 4).await;
        scene.turn().await;
        stages.push(scene.stages().await);
        let block = scene.deposits().await[0].block_hash;
        let late = scene.store.quotes_of(CHAIN, block).await.unwrap();
        assert_eq!(late.iter().any(|q| q.evidence.contains("\"late\":true")), pruned);
        scene.verify().await;
    }
    assert!(stages[0][0].starts_with("credited"), "{stages:?}");
    assert_eq!(stages[0], stages[1]);
}

const DIRECT: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USDC"]
quorum = 1
sources = [{ kind = "uniswap_v3", name = "pool", chain = "local", pool = "{pool}", window_s = 600, min_liquidity = "1000000000" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_between_the_two_is_the_direct_path_and_a_depeg_still_holds() {
    let mut scene = aged(DIRECT, 1, true).await;
    let usdc = scene.net.tokens.usdc;
    scene.pay(BASE + 10, usdc, ONE_USDC).await;
    scene.answers(BASE + 20, 96_000_000, 2_000_000).await;
    scene.pay(BASE + 30, usdc, ONE_USDC).await;
    scene.blocks(BASE + 31, 4).await;
    scene.turn().await;
    let stages = scene.stages().await;
    assert!(about_2500(&stages[0]), "{stages:?}");
    assert_eq!(stages[1], "held (depegged)");
    scene.verify().await;
}
