//! Stablecoins converted at market prices: parity with tokens, and everything that must be held.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{I256, U256};
use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::money::RawAmount;
use topupd::domain::terms::Valuation;
use topupd::tasks::prices::capture::capture;
use topupd::tasks::prices::market::Market;

use super::feeds::*;
use super::support::*;

const TOKEN: u128 = 1_000_000_000_000_000_000;

async fn fair(feeds: usize) -> Fair {
    Fair::new(market_rules(1, fixed(), feeds)).await
}

#[tokio::test]
async fn a_stablecoin_gives_what_the_tokens_it_converts_to_give() {
    // By the dollar, with a token that has a rate and one that has a market price; and directly.
    for (valuation, direct) in
        [(fixed(), false), (market(), false), (fixed(), true), (market(), true)]
    {
        let mut rules = market_rules(1, valuation.clone(), 3);
        if direct {
            let mut policies: Vec<_> = rules.oracle.pairs().cloned().collect();
            policies.push(policy(RTITY_USDC, 1, &[DIRECT_FEED]));
            rules.oracle = oracle(policies);
        }
        let mut fair = Fair::new(rules).await;
        fair.all_say("0.0211");
        fair.say(DIRECT_FEED, "0.0213");
        fair.say(USDC_FEED, "0.9987");
        // By hand: 1,234.567891 dollars at 0.9987 over 0.0211, or at 0.0213, in units of 10^-18.
        let paid = 1_234_567_891u128;
        let tokens = match direct {
            false => paid * 1_000_000_000_000 * 9_987 / 211,
            true => paid * 1_000_000_000_000 * 10_000 / 213,
        };
        fair.mine(vec![pay(1, USDC, 0, paid), pay(2, RTITY, 1, tokens)]).await;
        assert_eq!(fair.house.stages().await, ["credited", "credited"], "{valuation:?} {direct}");
        let into = fair.conversion("acme").await.into.unwrap();
        assert_eq!(into.tokens, RawAmount(U256::from(tokens)));
        let [converted, tokens] = [fair.credits("acme").await, fair.credits("bolt").await]
            .map(|credits| (credits[0].block_hash, credits[0].credits_nano));
        assert_eq!(converted, tokens, "{valuation:?} {direct}");
        assert_eq!(fair.house.balance("acme").await, fair.house.balance("bolt").await);
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn the_blocks_time_decides_between_par_and_conversion() {
    let mut fair = Fair::before_tge(market_rules(1, fixed(), 3)).await;
    fair.all_say("0.02");
    fair.say(USDC_FEED, "1");
    mine_empty(&fair.chain, 3);
    let last = fair.mine(vec![ten(1)]).await;
    let first = fair.mine(vec![pay(2, USDC, 1, 10 * DOLLAR)]).await;
    assert_eq!((last.time_ms, first.time_ms), (TGE_MS - BLOCK_MS, TGE_MS));
    assert_eq!(fair.house.balance("acme").await, "10000");
    assert_eq!(fair.house.balance("bolt").await, "25250", "500 RTITY at 50.5");
    let rules = [fair.credits("acme").await, fair.credits("bolt").await]
        .map(|credits| (credits[0].epoch.clone(), credits[0].rule.clone()));
    let expected = [("before", "par"), ("after", "convert")];
    assert_eq!(rules, expected.map(|(epoch, rule)| (epoch.to_owned(), rule.to_owned())));
    assert_eq!(fair.price(RTITY_USD, last.hash).await, None, "nobody needed one");
    assert_eq!(fair.house.sql("SELECT COUNT(*) FROM quotes").await, [[4]]);
    fair.house.verify().await;
}

#[tokio::test]
async fn what_is_no_price_is_rejected_and_the_others_decide() {
    let nonsense: [(I256, &str); 3] = [
        (I256::ZERO, "not_positive"),
        (I256::MINUS_ONE, "not_positive"),
        (I256::unchecked_from(2_000_000_000), "outlier"), // 20 dollars instead of 2 cents
    ];
    for (answer, why) in nonsense {
        let mut fair = fair(3).await;
        fair.answer(RTITY_FEEDS[1], answer);
        let block = fair.mine(vec![ten(1)]).await;
        let price = fair.price(RTITY_USD, block.hash).await.unwrap();
        assert_eq!(price.accepted.price, rate("0.02"));
        let body = price.body().unwrap();
        let rejected: Vec<Option<String>> = body.parts.into_iter().map(|p| p.rejected).collect();
        assert!(rejected[0].is_none() && rejected[2].is_none());
        assert!(rejected[1].as_ref().unwrap().starts_with(why), "{rejected:?}");
        assert_eq!(fair.house.balance("acme").await, "25250");
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn a_feed_is_too_old_after_its_heartbeat_and_a_tenth() {
    for (blocks, stage) in [(BLOCKS_FRESH, "credited"), (BLOCKS_FRESH + 1, "held (no_price)")] {
        let mut fair = fair(3).await;
        // Of three, two are frozen; the third and the stablecoin's are updated all the time.
        mine_empty(&fair.chain, blocks);
        fair.say(RTITY_FEEDS[2], "0.02");
        fair.say(USDC_FEED, "1");
        fair.mine(vec![ten(1)]).await;
        assert_eq!(fair.house.stages().await, [stage], "{blocks}");
        // A frozen feed does not become younger; the deposit waits for a person.
        fair.all_say("0.02");
        fair.rest_long().await;
        assert_eq!(fair.house.stages().await, [stage], "{blocks}");
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn two_sources_that_disagree_hold_what_is_paid() {
    let mut fair = fair(2).await;
    fair.say(RTITY_FEEDS[1], "20");
    let block = fair.mine(vec![ten(1)]).await;
    for _ in 0..3 {
        fair.rest_long().await;
        assert_eq!(fair.house.stages().await, ["held (prices_disagree)"]);
    }
    assert_eq!(fair.price(RTITY_USD, block.hash).await, None);
    let tries = fair.house.store.price_tries(CHAIN, block.hash).await.unwrap();
    assert!(tries[0].0.held.as_ref().unwrap().contains("bp apart"), "{tries:?}");
    // The next block is another one; what is held stays so.
    fair.say(RTITY_FEEDS[1], "0.02");
    fair.mine(vec![pay(2, USDC, 1, 10 * DOLLAR)]).await;
    assert_eq!(fair.house.stages().await, ["held (prices_disagree)", "credited"]);
    assert_eq!(fair.house.balance("acme").await, "0");
    fair.house.verify().await;
}

#[tokio::test]
async fn a_stablecoin_counts_for_its_price_but_a_dollar_at_most() {
    for (price, expected) in [
        ("0.88", Err("held (depegged)")),
        ("0.96999999", Err("held (depegged)")),
        ("0.97", Ok("24492.5")),
        ("0.98", Ok("24745")),
        ("1", Ok("25250")),
        ("1.01", Ok("25250")),
    ] {
        let mut fair = fair(3).await;
        fair.say(USDC_FEED, price);
        fair.mine(vec![ten(1)]).await;
        match expected {
            Ok(credits) => {
                assert_eq!(fair.house.balance("acme").await, credits, "{price}");
                let leg = fair.conversion("acme").await.legs[0].clone();
                assert_eq!((leg.pair.as_str(), leg.price), (USDC_USD, rate(price)));
                assert_eq!(leg.applied, rate(price).min(rate("1")));
            }
            Err(stage) => assert_eq!(fair.house.stages().await, [stage], "{price}"),
        }
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn a_jump_latches_until_it_is_let_pass_and_each_payment_has_its_own_price() {
    let mut fair = fair(3).await;
    fair.mine(vec![ten(1)]).await;
    fair.all_say("0.022"); // 10 %: just allowed
    fair.mine(vec![ten(2)]).await;
    assert_eq!(fair.house.stages().await, ["credited", "credited"]);
    fair.all_say("0.0245");
    let jump = fair.mine(vec![ten(3)]).await;
    let open = fair.house.store.breaker(RTITY_USD).await.unwrap().unwrap();
    assert_eq!((open.price, open.instant_ms), (rate("0.0245"), jump.time_ms));
    // Whatever it says now, payments wait: also at the price of before.
    fair.all_say("0.022");
    fair.mine(vec![pay(4, USDC, 1, 10 * DOLLAR)]).await;
    fair.all_say("0.025");
    fair.mine(vec![pay(5, USDC, 2, 10 * DOLLAR)]).await;
    fair.rest_long().await;
    let held = "held (breaker)";
    assert_eq!(fair.house.stages().await, ["credited", "credited", held, held, held]);
    assert_eq!(fair.house.store.breaker(RTITY_USD).await.unwrap(), Some(open));
    fair.house.verify().await;

    assert_eq!(fair.pass(RTITY_USD).await.price, rate("0.0245"));
    fair.rest().await;
    // The price of before is a jump from the one that was let pass: it latches again.
    assert_eq!(fair.house.stages().await[2], "credited");
    let open = fair.house.store.breaker(RTITY_USD).await.unwrap().unwrap();
    assert_eq!(open.price, rate("0.022"));
    fair.pass(RTITY_USD).await;
    fair.rest().await;
    let open = fair.house.store.breaker(RTITY_USD).await.unwrap().unwrap();
    assert_eq!(open.price, rate("0.025"), "13 % above");
    fair.pass(RTITY_USD).await;
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"; 5]);
    let credited: Vec<String> = fair
        .credits("acme")
        .await
        .iter()
        .chain(&fair.credits("bolt").await)
        .chain(&fair.credits("cafe").await)
        .map(|c| c.conversion.as_ref().unwrap().legs[1].price.to_string())
        .collect();
    assert_eq!(credited, ["0.02", "0.022", "0.0245", "0.022", "0.025"]);
    fair.house.verify().await;
}

#[tokio::test]
async fn after_a_jump_is_let_pass_payments_near_it_go_on_by_themselves() {
    let mut fair = fair(3).await;
    fair.mine(vec![ten(1)]).await;
    fair.all_say("0.04");
    fair.mine(vec![ten(2)]).await;
    fair.all_say("0.041");
    fair.mine(vec![ten(3)]).await;
    fair.all_say("0.042");
    fair.mine(vec![ten(4)]).await;
    let held = "held (breaker)";
    assert_eq!(fair.house.stages().await, ["credited", held, held, held]);
    fair.pass(RTITY_USD).await;
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"; 4]);
    let prices: Vec<String> = fair
        .credits("acme")
        .await
        .iter()
        .map(|c| c.conversion.as_ref().unwrap().legs[1].price.to_string())
        .collect();
    assert_eq!(prices, ["0.02", "0.04", "0.041", "0.042"]);
    fair.house.verify().await;
}

#[tokio::test]
async fn a_source_that_comes_back_lets_held_payments_go_on() {
    let mut fair = Fair::before_tge(market_rules(1, fixed(), 2)).await;
    mine_empty(&fair.chain, 4);
    fair.say(RTITY_FEEDS[0], "0.02");
    fair.say(USDC_FEED, "1");
    let block = fair.mine(vec![ten(1)]).await;
    assert_eq!(fair.house.stages().await, ["confirmed"], "it may still answer");
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["held (no_price)"]);
    // Prices move on, and the block of the payment keeps its own.
    fair.say(RTITY_FEEDS[0], "0.021");
    fair.chain.mine(Vec::new());
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["held (no_price)"]);
    let cents = I256::unchecked_from(2_000_000);
    fair.chain.set_answer(RTITY_FEEDS[1], block.time_ms, round_of(cents, block.time_ms));
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    assert_eq!(fair.house.balance("acme").await, "25250");
    fair.house.verify().await;
}

#[tokio::test]
async fn a_provider_that_is_behind_says_nothing_of_a_later_instant() {
    let mut fair = Fair::before_tge(market_rules(1, fixed(), 2)).await;
    mine_empty(&fair.chain, 4);
    // Bob is at the block before the payment. He knows the feeds, and the one that has the payment
    // does not.
    let bob = ScriptedChain::named("bob", GENESIS_MS);
    mine_empty(&bob, 4);
    let cents = round_of(I256::unchecked_from(2_000_000), GENESIS_MS);
    for feed in RTITY_FEEDS.into_iter().chain([USDC_FEED]) {
        bob.set_answer(feed, GENESIS_MS, cents.clone());
    }
    let block = fair.chain.mine(vec![ten(1)]);
    fair.watch().await;
    let market = Market {
        chains: BTreeMap::from([(
            CHAIN,
            (fair.house.rules.clone(), Arc::new(Pool::admitted([fair.chain.clone(), bob]))),
        )]),
        ..Market::default()
    };
    let (rules, store, clock) = (&fair.house.rules, &fair.house.store, &fair.house.clock);
    assert_eq!(capture(rules, &market, store, clock).await.unwrap().done, 0);
    for feed in RTITY_FEEDS {
        fair.chain.set_answer(feed, block.time_ms, cents.clone());
    }
    let dollar = round_of(I256::unchecked_from(100_000_000), block.time_ms);
    fair.chain.set_answer(USDC_FEED, block.time_ms, dollar);
    fair.rest_long().await;
    assert_eq!(fair.house.balance("acme").await, "25250");
    fair.house.verify().await;
}

#[tokio::test]
async fn what_was_captured_before_a_crash_prices_the_payment_after_it() {
    let mut fair = fair(3).await;
    let block = fair.chain.mine(vec![ten(1)]);
    fair.watch().await;
    assert_eq!(fair.capture().await.done, 4);
    fair.house.restart().await;
    // No node keeps the state of that block: whoever asks now is told something else.
    for feed in RTITY_FEEDS {
        let other = I256::unchecked_from(9_000_000);
        fair.chain.set_answer(feed, 0, round_of(other, block.time_ms));
    }
    fair.rest().await;
    assert_eq!(fair.price_text(RTITY_USD, block.hash).await.as_deref(), Some("0.02"));
    assert_eq!(fair.house.balance("acme").await, "25250");
    fair.house.restart().await;
    fair.rest_long().await;
    assert_eq!(fair.credits("acme").await.len(), 1);
    fair.house.verify().await;
}

#[tokio::test]
async fn a_payment_in_another_block_has_the_price_of_that_block() {
    let mut fair = Fair::new(market_rules(3, fixed(), 3)).await;
    let old = fair.mine(vec![ten(1)]).await;
    assert_eq!(fair.house.stages().await, ["pending"]);
    let txs = fair.chain.rewind(1);
    fair.chain.mine(Vec::new());
    fair.all_say("0.0205");
    let new = fair.mine(txs).await;
    mine_empty(&fair.chain, 3);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    assert_eq!(fair.credits("acme").await[0].block_hash, new.hash);
    assert_eq!(fair.price_text(RTITY_USD, new.hash).await.as_deref(), Some("0.0205"));
    assert_eq!(fair.price(RTITY_USD, old.hash).await, None, "no payment of it was final");
    fair.house.verify().await;
}

#[tokio::test]
async fn dust_accumulates_and_each_payment_has_its_own_price() {
    let mut fair = fair(3).await;
    let cents = |id, amount| pay(id, USDT, 0, amount * DOLLAR / 100);
    let first = fair.mine(vec![cents(1, 40)]).await;
    fair.all_say("0.021");
    let second = fair.mine(vec![cents(2, 40)]).await;
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["held (dust)", "held (dust)"]);
    assert_eq!(fair.price(RTITY_USD, first.hash).await, None, "not before it is needed");
    fair.all_say("0.022");
    let third = fair.mine(vec![cents(3, 40)]).await;
    assert_eq!(fair.house.stages().await, ["credited"; 3]);
    let mut expected = U256::ZERO;
    for (block, price, millis) in [(first, "0.02", 20), (second, "0.021", 21), (third, "0.022", 22)]
    {
        assert_eq!(fair.price_text(RTITY_USD, block.hash).await.as_deref(), Some(price));
        let tokens = U256::from(400 * TOKEN / millis);
        expected += tokens * U256::from(505) / U256::from(10_000_000_000u64);
    }
    let nano = fair.house.store.balance(&name("acme")).await.unwrap().0;
    assert_eq!(U256::from(nano), expected);
    fair.house.verify().await;
}

#[tokio::test]
async fn dust_waits_together_for_the_price_of_one_of_them() {
    let mut fair = fair(2).await;
    let cents = |id, amount| pay(id, USDT, 0, amount * DOLLAR / 100);
    fair.say(RTITY_FEEDS[0], "20");
    fair.mine(vec![cents(1, 60)]).await;
    fair.all_say("0.02");
    fair.mine(vec![cents(2, 60)]).await;
    fair.rest_long().await;
    assert_eq!(fair.house.stages().await, ["held (prices_disagree)", "held (dust)"]);
    assert_eq!(fair.house.balance("acme").await, "0");
    fair.house.verify().await;
}

#[tokio::test]
async fn a_token_that_is_not_priced_holds_what_would_be_converted_into_it() {
    // The rules of a house are checked when they are read; one that slipped through holds.
    let mut rules = market_rules(1, Valuation::Par { credits_per_usd: rate("1") }, 3);
    rules.oracle = oracle(vec![policy(USDC_USD, 1, &[USDC_FEED])]);
    let mut fair = Fair::new(rules).await;
    fair.mine(vec![ten(1)]).await;
    assert_eq!(fair.house.stages().await, ["held (no_price)"]);
    fair.house.verify().await;
}

#[tokio::test]
async fn a_price_that_an_operator_rejects_is_never_used_and_stops_nobody_else() {
    let mut fair = fair(3).await;
    fair.mine(vec![ten(1)]).await;
    fair.all_say("0.04"); // an empty order book
    fair.mine(vec![ten(2)]).await;
    fair.all_say("0.0201");
    fair.mine(vec![ten(3)]).await;
    let held = "held (breaker)";
    assert_eq!(fair.house.stages().await, ["credited", held, held]);
    let store = fair.house.store.clone();
    fair.reject(RTITY_USD).await;
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited", held, "credited"]);
    assert_eq!(store.breaker(RTITY_USD).await.unwrap(), None);

    // For that one payment, two people say what it was worth.
    let id = fair.house.deposits().await[1].id;
    let propose = price_by_hand(RTITY_USD, "0.02");
    let proposal = fair.house.act(id, &propose, "ann").await.unwrap();
    let approve = approval(&store, proposal).await;
    let same = fair.house.act(id, &approve, " Ann ").await.unwrap_err().to_string();
    assert!(same.contains("another operator"), "{same}");
    fair.house.act(id, &approve, "bob").await.unwrap();
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"; 3]);
    fair.house.verify().await;
}
