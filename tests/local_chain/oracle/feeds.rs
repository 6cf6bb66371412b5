//! Chainlink-style feeds: which round counts, and which does not.

use alloy::primitives::I256;
use topupd::devnet::TestFeedProxy::latestRoundDataCall as LatestRound;

use super::scene::*;
use crate::local_chain::proxy::Fault;
use crate::local_chain::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stablecoin_buys_what_its_tokens_are_worth_on_either_side_of_the_tge() {
    let mut scene = Scene::new(TWO_FEEDS).await;
    let (usdc, rtity) = (scene.net.tokens.usdc, scene.net.tokens.rtity);
    scene.answers(BASE - 100, 99_990_000, 2_000_000).await;
    // A second before the TGE, and at its very instant.
    scene.pay(TGE - 1, usdc, 10 * ONE_USDC).await;
    scene.pay(TGE, usdc, 10 * ONE_USDC).await;
    // 10 × 0.9999 ÷ 0.02 RTITY, paid directly.
    let tokens = 499_950_000_000_000_000_000u128;
    scene.net.pay_exactly(1, rtity, tokens).await;
    scene.at(TGE + 1).await;
    scene.blocks(TGE + 2, 3).await;
    scene.turn().await;
    let stages = scene.stages().await;
    assert_eq!(stages, ["credited 10000", "credited 24997.5", "credited 24997.5"]);
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_that_of_the_payments_block_however_late_it_is_settled() {
    let mut scene = Scene::new(TWO_FEEDS).await;
    let usdc = scene.net.tokens.usdc;
    scene.answers(BASE + 10, 100_000_000, 2_000_000).await;
    scene.pay(BASE + 20, usdc, ONE_USDC).await;
    // The daemon is down for an hour, in which the price moves by a quarter.
    scene.answers(BASE + 600, 100_000_000, 2_200_000).await;
    scene.answers(BASE + 1_800, 100_000_000, 2_500_000).await;
    scene.pay(BASE + 3_600, usdc, ONE_USDC).await;
    scene.blocks(BASE + 3_601, 4).await;
    scene.turn().await;
    // 1 ÷ 0.02 × 50, and 1 ÷ 0.025 × 50.
    assert_eq!(scene.stages().await, ["credited 2500", "credited 2000"]);
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_zero_and_negative_answers_hold_and_the_next_good_round_does_not_help_them() {
    let mut scene = Scene::new(TWO_FEEDS).await;
    let usdc = scene.net.tokens.usdc;
    let feed = scene.rtity_usd.aggregator;
    scene.answers(BASE, 100_000_000, 2_000_000).await;
    // The heartbeat is an hour; a tenth of it is forgiven.
    scene.pay(BASE + 3_960, usdc, ONE_USDC).await;
    scene.pay(BASE + 3_961, usdc, ONE_USDC).await;
    for (round, answer, at) in [(100, I256::ZERO, 4_000), (101, I256::MINUS_ONE, 4_010)] {
        scene.net.dev.automine(true).await.unwrap();
        scene.net.dev.set_round(feed, round, answer, BASE + at, BASE + at).await.unwrap();
        scene.net.dev.automine(false).await.unwrap();
        scene.pay(BASE + at + 5, usdc, ONE_USDC).await;
    }
    scene.answers(BASE + 4_100, 100_000_000, 2_000_000).await;
    scene.blocks(BASE + 4_101, 4).await;
    scene.turn().await;
    let held = "held (no_price)";
    assert_eq!(scene.stages().await, ["credited 2500", held, held, held]);
    let deposits = scene.deposits().await;
    for (deposit, why) in deposits[1..].iter().zip(["3961 s old", "answers 0", "answers -1"]) {
        let lacking = scene.lacking(deposit).await;
        assert!(lacking.contains(why), "{lacking}");
    }
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_moves_to_another_phase_goes_on() {
    let mut scene = Scene::new(TWO_FEEDS).await;
    let usdc = scene.net.tokens.usdc;
    scene.answers(BASE + 10, 100_000_000, 2_000_000).await;
    scene.pay(BASE + 20, usdc, ONE_USDC).await;
    scene.net.dev.automine(true).await.unwrap();
    scene.net.dev.next_phase(&mut scene.rtity_usd, 8, "RTITY / USD").await.unwrap();
    scene.net.dev.automine(false).await.unwrap();
    scene.answers(BASE + 100, 100_000_000, 2_500_000).await;
    scene.pay(BASE + 110, usdc, ONE_USDC).await;
    scene.blocks(BASE + 111, 4).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500", "credited 2000"]);
}

/// The state of the payments' blocks is gone when somebody looks: the feed's rounds tell, also those
/// of the phase before; and where they cannot tell which aggregator the feed used, there is no price.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_state_is_pruned_the_rounds_of_a_feed_are_asked() {
    let mut scene = Scene::with(TWO_FEEDS, 2, true).await;
    let usdc = scene.net.tokens.usdc;
    for i in 0..40 {
        scene.answers(BASE + 10 * i, 100_000_000, 2_000_000 + 10_000 * i128::from(i)).await;
        if i == 25 {
            // At 0.0225 dollars, until the next round.
            scene.pay(BASE + 255, usdc, ONE_USDC).await;
        }
    }
    // The next aggregator does not count from 1.
    let dev = &scene.net.dev;
    dev.automine(true).await.unwrap();
    dev.next_phase(&mut scene.rtity_usd, 8, "RTITY / USD").await.unwrap();
    let answer = I256::try_from(2_450_000).unwrap();
    let aggregator = scene.rtity_usd.aggregator;
    dev.set_round(aggregator, 1_000, answer, BASE + 590, BASE + 590).await.unwrap();
    dev.automine(false).await.unwrap();
    scene.answers(BASE + 600, 100_000_000, 2_500_000).await;
    // Both aggregators had answered, and the last answer of the first was still good.
    scene.pay(BASE + 610, usdc, ONE_USDC).await;
    // Now it would be stale.
    scene.answers(BASE + 5_000, 100_000_000, 2_500_000).await;
    scene.pay(BASE + 5_010, usdc, ONE_USDC).await;
    scene.answers(BASE + 5_020, 100_000_000, 5_000_000).await;
    scene.blocks(BASE + 5_100, 10).await;
    for proxy in &scene.proxies {
        proxy.set(Fault::Pruned(5));
    }
    scene.turn().await;
    // What was read late must be final itself, by a block of its own.
    scene.blocks(BASE + 5_110, 4).await;
    scene.clock_at(BASE + 7_000);
    scene.turn().await;
    let stages = scene.stages().await;
    assert_eq!(stages, ["credited 2222.222222222", "held (no_price)", "credited 2000"]);
    let lacking = scene.lacking(&scene.deposits().await[1]).await;
    assert!(lacking.contains("cannot prove which aggregator the feed used"), "{lacking}");
    let quotes = scene.store.quotes_of(CHAIN, scene.deposits().await[0].block_hash).await.unwrap();
    assert!(quotes.iter().all(|q| q.evidence.contains("\"late\":true") && q.providers.len() == 2));
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_provider_that_lies_about_a_price_changes_nothing() {
    let mut scene = Scene::with(TWO_FEEDS, 3, true).await;
    let usdc = scene.net.tokens.usdc;
    scene.answers(BASE + 10, 100_000_000, 2_000_000).await;
    let liar = scene.proxies[0].set(Fault::Doubled);
    scene.pay(BASE + 20, usdc, ONE_USDC).await;
    scene.blocks(BASE + 21, 4).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500"]);
    assert!(liar.hits() > 0);
    // One against one: nothing is credited, and nothing is lost.
    scene.proxies[2].set(Fault::Drop.on("eth_call"));
    scene.pay(BASE + 120, usdc, ONE_USDC).await;
    scene.blocks(BASE + 121, 4).await;
    scene.turn().await;
    scene.clock_at(BASE + 300);
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500", "held (no_price)"]);
    scene.proxies[0].heal();
    scene.clock_at(BASE + 700);
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500", "credited 2500"]);
    scene.verify().await;
}

const L2: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "fixed", name = "fixed", price = "0.02" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_priced_while_the_sequencer_is_down_or_back_for_less_than_its_grace() {
    // The other feed of the scene serves as the uptime feed: 0 is up.
    let with = "heartbeat_s = 86400, sequencer = \"{rtity}\", grace_s = 3600";
    let mut scene = Scene::new(&L2.replace("heartbeat_s = 86400", with)).await;
    let usdc = scene.net.tokens.usdc;
    for (at, state) in [(0, 0), (10_000, 1), (12_000, 0)] {
        scene.answers(BASE + at, 100_000_000, state).await;
    }
    scene.blocks(BASE + 12_001, 1).await;
    for at in [15_600, 15_601] {
        scene.pay(BASE + at, usdc, ONE_USDC).await;
    }
    scene.blocks(BASE + 15_602, 4).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["held (no_price)", "credited 2500"]);
    let lacking = scene.lacking(&scene.deposits().await[0]).await;
    assert!(lacking.contains("sequencer_grace"), "{lacking}");

    scene.answers(BASE + 20_000, 100_000_000, 1).await;
    scene.pay(BASE + 20_010, usdc, ONE_USDC).await;
    scene.blocks(BASE + 20_011, 4).await;
    scene.turn().await;
    let lacking = scene.lacking(&scene.deposits().await[2]).await;
    assert!(lacking.contains("sequencer_down"), "{lacking}");
    until_held(&scene).await;
}

/// On OP-stack chains the uptime feed updates the round of a state while it lasts. Read late, it is
/// the round's start that says what was.
#[tokio::test(flavor = "multi_thread")]
async fn an_uptime_feed_that_refreshes_its_round_is_read_by_its_start() {
    for (state, expected) in [(0, "credited 2500"), (1, "held (no_price)")] {
        let with = "heartbeat_s = 86400, sequencer = \"{rtity}\", grace_s = 3600";
        let mut scene = Scene::new(&L2.replace("heartbeat_s = 86400", with)).await;
        let usdc = scene.net.tokens.usdc;
        // The other state long ago, this one since the beginning.
        for (at, state) in [(0, 1 - state), (10, state)] {
            scene.answers(BASE + at, 100_000_000, state).await;
        }
        scene.pay(BASE + 8_000, usdc, ONE_USDC).await;
        let uptime = scene.rtity_usd.aggregator;
        let round = scene.net.dev.view(scene.rtity_usd.proxy, LatestRound {}).await.unwrap();
        let number: u64 = round.roundId.wrapping_to();
        let answer = I256::try_from(state).unwrap();
        scene.net.dev.automine(true).await.unwrap();
        let dev = &scene.net.dev;
        dev.set_round(uptime, number, answer, BASE + 10, BASE + 8_100).await.unwrap();
        scene.net.dev.automine(false).await.unwrap();
        scene.blocks(BASE + 8_200, 10).await;
        scene.proxies[0].set(Fault::Pruned(5));
        scene.turn().await;
        scene.blocks(BASE + 8_210, 4).await;
        scene.proxies[0].heal();
        scene.turn().await;
        assert_eq!(scene.stages().await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_bears_no_large_batches_is_asked_in_small_ones() {
    let mut scene = Scene::new(TWO_FEEDS).await;
    let usdc = scene.net.tokens.usdc;
    let limit = scene.proxies[0].set(Fault::BatchOf(1));
    scene.answers(BASE, 100_000_000, 2_000_000).await;
    for i in 0..3 {
        scene.pay(BASE + 10 + i, usdc, ONE_USDC).await;
    }
    scene.blocks(BASE + 20, 4).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500"; 3]);
    assert!((1..=3).contains(&limit.hits()), "{}", limit.hits());
}

async fn until_held(scene: &Scene) {
    assert_eq!(scene.stages().await[2], "held (no_price)");
    verify(&scene.store).await;
}
