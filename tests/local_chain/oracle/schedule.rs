//! Prices that are taken though nobody pays.

use topupd::store::Resume;

use super::proofs::{said, topupd};
use super::scene::*;
use crate::local_chain::proxy::Fault;

/// With a price of each pair every ten minutes.
fn every_ten_minutes() -> String {
    format!("[oracle]\nprice_every_s = 600\npatience_s = 5\n{TWO_FEEDS}")
}

/// The prices of RTITY that were accepted, oldest first.
async fn history(scene: &Scene) -> Vec<(i64, String)> {
    let all = scene.store.market_prices(Some("RTITY/USD"), i64::MAX, 99).await.unwrap();
    let shown = all.iter().rev().map(|p| (p.accepted.instant_ms, p.accepted.price.to_string()));
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_day_has_prices_and_the_next_payment_is_compared_with_them() {
    let mut scene = Scene::new(&every_ten_minutes()).await;
    let usdc = scene.net.tokens.usdc;
    scene.turn().await;
    assert!(history(&scene).await.is_empty(), "before the TGE nothing has a market price");
    scene.answers(BASE + 10, 100_000_000, 2_000_000).await;
    scene.turn().await;
    assert!(history(&scene).await.is_empty(), "its block has one confirmation of three");
    scene.blocks(BASE + 11, 2).await;
    scene.turn().await;
    assert_eq!(history(&scene).await, [(ms(BASE + 10), "0.02".to_owned())]);

    // Nothing for ten minutes, then the block that is the newest one, when it is deep enough.
    for (at, many) in [(600, 1), (620, 1), (640, 2)] {
        scene.blocks(BASE + at, 3).await;
        scene.turn().await;
        assert_eq!(history(&scene).await.len(), many, "{at}");
    }
    assert_eq!(history(&scene).await[1].0, ms(BASE + 622));

    // Nobody has paid yet, and the price is five times as high.
    scene.answers(BASE + 1_500, 100_000_000, 10_000_000).await;
    scene.pay(BASE + 1_501, usdc, ONE_USDC).await;
    scene.blocks(BASE + 1_502, 3).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["held (breaker)"]);
    assert!(scene.store.breaker("RTITY/USD").await.unwrap().is_some());
    scene.verify().await;
    let verified = topupd(&scene, &["conversions", "verify", "--online"]);
    let text = said(&verified);
    assert!(verified.status.success(), "{text}");
    assert!(text.starts_with("holds: 0 conversions at "), "{text}");
}

/// The first turn after the TGE sees a block before it: that one has no price, and is not taken for
/// the one of this hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_block_of_an_epoch_is_priced_at_once() {
    let mut scene = Scene::new(&every_ten_minutes()).await;
    scene.answers(TGE - 2, 100_000_000, 2_000_000).await;
    scene.clock_at(TGE + 1);
    scene.turn().await;
    assert_eq!(scene.store.scheduled(CHAIN).await.unwrap(), None);
    scene.blocks(TGE + 5, 1).await;
    scene.turn().await;
    scene.blocks(TGE + 6, 2).await;
    scene.turn().await;
    assert_eq!(history(&scene).await, [(ms(TGE + 5), "0.02".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_moves_too_far_opens_the_breaker_before_anybody_pays() {
    let mut scene = Scene::new(&every_ten_minutes()).await;
    for (at, rtity) in [(10, 2_000_000), (700, 10_000_000)] {
        scene.answers(BASE + at, 100_000_000, rtity).await;
        scene.turn().await;
        scene.blocks(BASE + at + 1, 3).await;
        scene.turn().await;
    }
    assert_eq!(history(&scene).await.len(), 1);
    let open = scene.store.breaker("RTITY/USD").await.unwrap().unwrap();
    assert_eq!((open.instant_ms, open.price.to_string()), (ms(BASE + 700), "0.1".to_owned()));
    // A person looks, and lets it pass: the next block's price is that.
    let (oracle, passes) =
        (&scene.config.oracle.oracle, Resume::Pass { repeated: Some(open.price) });
    let by = ("ann", "listed");
    scene.store.resume_breaker(oracle, "RTITY/USD", passes, by).await.unwrap();
    for at in [1_400, 1_410] {
        scene.blocks(BASE + at, 4).await;
        scene.turn().await;
    }
    assert_eq!(history(&scene).await.last().unwrap().1, "0.1");
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_replaced_or_gives_no_price_is_not_held_on_to() {
    let mut scene = Scene::new(&every_ten_minutes()).await;
    scene.answers(BASE + 5, 100_000_000, 2_000_000).await;
    scene.blocks(BASE + 10, 2).await;
    scene.turn().await;
    let chosen = scene.store.scheduled(CHAIN).await.unwrap().unwrap().block.block;
    // The block is replaced: another one is chosen, after a minute.
    scene.net.dev.reorg(1, &[]).await.unwrap();
    for at in [20, 30, 90, 100] {
        scene.blocks(BASE + at, 3).await;
        scene.turn().await;
    }
    let priced = history(&scene).await;
    assert_eq!(priced, [(ms(BASE + 92), "0.02".to_owned())]);
    let now = scene.store.scheduled(CHAIN).await.unwrap().unwrap();
    assert!(now.done && now.block.block.hash != chosen.hash, "{now:?}");

    // Nobody can be asked about contracts for longer than is waited for: no price, and no rest.
    let away = scene.proxies[0].set(Fault::Error(-32_000, "away").on("eth_call"));
    scene.at(BASE + 700).await;
    scene.turn().await;
    scene.blocks(BASE + 701, 3).await;
    scene.turn().await;
    for later in [710, 780] {
        scene.at(BASE + later).await;
        scene.turn().await;
    }
    away.lift();
    let left = scene.store.scheduled(CHAIN).await.unwrap().unwrap();
    assert!(left.done && left.block.time_ms == ms(BASE + 700), "{left:?}");
    let tries = scene.store.price_tries(CHAIN, left.block.block.hash).await.unwrap();
    assert!(tries.is_empty(), "no payment lacks it");
    assert_eq!(history(&scene).await.len(), 1);
    // The next one is taken when it is due.
    scene.at(BASE + 1_400).await;
    scene.turn().await;
    scene.blocks(BASE + 1_401, 3).await;
    scene.turn().await;
    assert_eq!(history(&scene).await.len(), 2);
    scene.verify().await;
}
