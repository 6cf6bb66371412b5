//! Prices over HTTP: tickers sampled on a schedule, Pyth by the second, and what servers do wrong.

use alloy::primitives::{B256, hex};
use topupd::domain::oracle::pyth::{PriceMessage, encode};
use topupd::store::Act;

use super::proofs::{said, topupd, without_guard};
use super::scene::*;
use super::tickers::Tickers;

fn ticker(url: &str, name: &str) -> String {
    format!(
        r#"{{ kind = "http", name = "{name}", venue = "{name}", url = "{url}/{name}", price = "/price", time = "/time", time_as = "seconds", headers = {{ "x-api-key" = "env:TICKER_KEY" }} }}"#
    )
}

fn pair(name: &str, more: &str, sources: &[String]) -> String {
    format!("[oracle.pairs.\"{name}\"]\n{more}\nsources = [\n{}\n]\n", sources.join(",\n"))
}

fn dollar() -> String {
    let one = r#"{ kind = "fixed", name = "one", price = "1" }"#.to_owned();
    pair("USDC/USD", "stablecoin = true\nquorum = 1", &[one])
}

fn says(price: &str, at: u64) -> String {
    format!(r#"{{"price":{price},"time":{at}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sample_at_or_after_the_payment_counts_whenever_it_is_priced() {
    let web = Tickers::start().await;
    let source = [ticker(&web.url, "a")];
    let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "quorum = 1", &source))).await;
    let usdc = scene.net.tokens.usdc;
    for (at, price) in [(0, "0.01"), (30, "\"0.02\""), (60, "0.022")] {
        if at == 30 {
            scene.pay(BASE + 20, usdc, ONE_USDC).await;
        }
        scene.clock_at(BASE + at);
        web.set("/a", 200, &says(price, BASE + at));
        assert_eq!(scene.sample().await, []);
    }
    // And one that no sample followed within a minute.
    scene.pay(BASE + 70, usdc, ONE_USDC).await;
    scene.blocks(BASE + 75, 4).await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500", "confirmed"]);
    scene.clock_at(BASE + 150);
    web.set("/a", 200, &says("0.03", BASE + 150));
    scene.sample().await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500", "held (no_price)"]);
    let lacking = scene.lacking(&scene.deposits().await[1]).await;
    assert!(lacking.contains("no sample within 60 s"), "{lacking}");
    scene.verify().await;
    // The key went to the server, and nowhere else.
    assert!(web.requests().iter().all(|r| r.contains(&format!("x-api-key: {TICKER_KEY}"))));
    let hash = topupd::tasks::prices::sample::tickers(&scene.config.oracle.oracle)[0].hash();
    let kept = scene.store.samples(hash, 0, i64::MAX, 100).await.unwrap();
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|q| !format!("{q:?}").contains("tok_abcdef")));

    // Who says afterwards that another one was the first is found out.
    assert!(topupd(&scene, &["conversions", "verify"]).status.success());
    without_guard(&scene, "quotes_are_facts", "quotes").await;
    let earlier =
        format!("UPDATE quotes SET at_ms = {} WHERE at_ms = {}", ms(BASE + 25), ms(BASE + 60));
    assert_eq!(scene.net.database.sql().await.execute(&earlier).await.unwrap(), 1);
    let verified = topupd(&scene, &["conversions", "verify"]);
    assert_eq!(verified.status.code(), Some(3));
    assert!(
        said(&verified).contains("a: a valid earlier sample was skipped"),
        "{}",
        said(&verified)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_do_wrong_is_no_price_and_is_kept_with_its_reason() {
    for (status, body, why) in [
        (200, "<html>busy</html>".to_owned(), "not JSON"),
        (200, says("NaN", BASE + 25), "not JSON"),
        (200, says("1e400", BASE + 25), "is not a price"),
        (200, says("-0.02", BASE + 25), "is not a price"),
        (200, says("0", BASE + 25), "not_positive"),
        (200, r#"{"error":"maintenance"}"#.to_owned(), "names an error: \"maintenance\""),
        (200, r#"{"code":-1121}"#.to_owned(), r#"nothing at /price of {"code":-1121}"#),
        (200, says("0.02", BASE - 86_400), "s old when asked"),
        (200, says("0.02", BASE + 8_000), "in the future"),
        (503, says("0.02", BASE + 25), "http status 503: {\"price\""),
        (401, r#"{"message":"no key"}"#.to_owned(), r#"http status 401: {"message":"no key"}"#),
        (200, r#"{"error":["EAPI:Rate limit"],"price":0.02}"#.to_owned(), "names an error"),
        (200, format!("{{\"price\":0.02,\"pad\":\"{}\"}}", "x".repeat(70_000)), "too large"),
    ] {
        let web = Tickers::start().await;
        let sources = ["a", "b"].map(|name| ticker(&web.url, name));
        let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "", &sources))).await;
        scene.pay(BASE + 20, scene.net.tokens.usdc, ONE_USDC).await;
        scene.blocks(BASE + 21, 4).await;
        web.set("/a", 200, &says("\"0.02\"", BASE + 25));
        web.set("/b", status, &body);
        scene.clock_at(BASE + 25);
        let silent = scene.sample().await;
        assert!(silent.len() == 1 && silent[0].1.contains(why), "{silent:?}: {body}");
        scene.clock_at(BASE + 100);
        scene.turn().await;
        assert_eq!(scene.stages().await, ["held (no_price)"], "{body}");
        let lacking = scene.lacking(&scene.deposits().await[0]).await;
        assert!(lacking.contains("1 of 2") && lacking.contains(why), "{lacking}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_waits_names_each_ticker_that_gives_no_price_and_why() {
    let web = Tickers::start().await;
    let sources = ["a", "b", "c"].map(|name| ticker(&web.url, name));
    let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "", &sources))).await;
    scene.pay(BASE + 20, scene.net.tokens.usdc, ONE_USDC).await;
    scene.blocks(BASE + 21, 4).await;
    web.set("/a", 200, &says("\"0.02\"", BASE + 25));
    web.set("/b", 403, &format!("{{\"error\":\"geo\u{1b}[31m block\n{}\"}}", "x".repeat(500)));
    scene.clock_at(BASE + 25);
    scene.sample().await;
    scene.turn().await;
    assert_eq!(scene.stages().await, ["confirmed"]);
    let id = scene.deposits().await[0].id.to_string();
    let shown = said(&topupd(&scene, &["deposits", "show", &id]));
    let line = shown.lines().find(|line| line.starts_with("waits for")).unwrap();
    let b = "b of RTITY/USD: unreadable: http status 403: {\"error\":\"geo\\u001b[31m block";
    assert!(line.contains(b) && line.chars().count() < 500, "{shown}");
    assert!(!line.contains("a of RTITY/USD") && !line.contains("topupd"), "{shown}");
}

/// Neither as it was sent, nor written in another way; and the number beside it counts.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_a_server_repeats_is_not_stored() {
    let web = Tickers::start().await;
    let sources = ["a", "b"].map(|name| ticker(&web.url, name));
    let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "quorum = 1", &sources))).await;
    scene.pay(BASE + 20, scene.net.tokens.usdc, ONE_USDC).await;
    scene.blocks(BASE + 21, 4).await;
    let price = format!(
        r#"{{"you":"{TICKER_KEY}","url":"?k=tok_abcdef%2B%2F123456%3D%3D","price":"0.02","k":"tok_\u0061bcdef+\/123456==","time":{}}}"#,
        BASE + 25
    );
    web.set("/a", 200, &price);
    let error = format!("{}: bad token {}", "x".repeat(58), &TICKER_KEY[7..]);
    web.set("/b", 403, &error);
    scene.clock_at(BASE + 25);
    let silent = scene.sample().await;
    assert!(silent.len() == 1 && silent[0].1.contains("bad token [hidden"), "{silent:?}");
    scene.clock_at(BASE + 100);
    scene.turn().await;
    assert_eq!(scene.stages().await, ["credited 2500"]);
    for source in topupd::tasks::prices::sample::tickers(&scene.config.oracle.oracle) {
        let kept = scene.store.samples(source.hash(), 0, i64::MAX, 100).await.unwrap();
        assert!(kept.len() == 1 && kept[0].evidence.contains("[hidden]"), "{kept:?}");
        for part in ["tok_", "def+", "%2B", "u0061", "=="] {
            assert!(!format!("{kept:?}{silent:?}").contains(part), "{part}: {kept:?}");
        }
    }
    let verified = topupd(&scene, &["conversions", "verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_a_thousand_times_off_is_overruled_by_three_and_stops_two() {
    let web = Tickers::start().await;
    let sources = ["a", "b", "c"].map(|name| ticker(&web.url, name));
    let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "", &sources))).await;
    let usdc = scene.net.tokens.usdc;
    scene.pay(BASE + 20, usdc, ONE_USDC).await;
    web.set("/a", 200, &says("0.02", BASE + 25));
    web.set("/b", 200, &says("20", BASE + 25));
    web.set("/c", 200, &says("0.02", BASE + 25));
    scene.clock_at(BASE + 25);
    scene.sample().await;
    // The third is gone, as it was at Synthetix in 2019.
    scene.pay(BASE + 120, usdc, ONE_USDC).await;
    web.set("/a", 200, &says("0.02", BASE + 125));
    web.set("/b", 200, &says("20", BASE + 125));
    web.set("/c", 500, "");
    scene.clock_at(BASE + 125);
    scene.sample().await;
    // Two are frozen: they say what they said two minutes ago.
    scene.pay(BASE + 300, usdc, ONE_USDC).await;
    web.set("/c", 200, &says("0.02", BASE + 305));
    scene.clock_at(BASE + 305);
    scene.sample().await;
    scene.blocks(BASE + 306, 4).await;
    scene.clock_at(BASE + 400);
    scene.turn().await;
    let expected = ["credited 2500", "held (prices_disagree)", "held (no_price)"];
    assert_eq!(scene.stages().await, expected);
    scene.verify().await;
}

fn update(feed: B256, price: i64, conf: u64, at: u64, before: u64) -> String {
    let seconds = |s: u64| i64::try_from(s).unwrap();
    let blob = encode(&[PriceMessage {
        feed_id: feed,
        price,
        conf,
        exponent: -8,
        publish_time_s: seconds(at),
        prev_publish_time_s: seconds(before),
    }]);
    format!(r#"{{"binary":{{"encoding":"hex","data":["{}"]}}}}"#, hex::encode(blob))
}

#[tokio::test(flavor = "multi_thread")]
async fn pyth_is_asked_for_the_first_update_at_or_after_the_payment() {
    let web = Tickers::start().await;
    let feed = B256::repeat_byte(0xaa);
    let source = format!(
        r#"{{ kind = "pyth", name = "pyth", url = "{}/hermes", feed_id = "{feed}", headers = {{ authorization = "env:TICKER_KEY" }} }}"#,
        web.url
    );
    let mut scene = Scene::new(&(dollar() + &pair("RTITY/USD", "quorum = 1", &[source]))).await;
    let usdc = scene.net.tokens.usdc;
    let path = |at: u64| format!("/hermes/v2/updates/price/{}", BASE + at);
    for (at, body) in [
        (10, update(feed, 2_000_000, 1_000, BASE + 11, BASE + 9)),
        (20, update(feed, 2_000_000, 1_000, BASE + 25, BASE + 22)),
        (30, update(feed, 2_000_000, 50_000, BASE + 30, BASE + 29)),
        (40, update(B256::ZERO, 2_000_000, 1_000, BASE + 40, BASE + 39)),
        (50, update(feed, -1, 0, BASE + 50, BASE + 49)),
        (60, update(feed, 2_000_000, 1_000, BASE + 60, BASE + 59).replace("504e41", "504e42")),
    ] {
        web.set(&path(at), 200, &body);
        scene.pay(BASE + at, usdc, ONE_USDC).await;
    }
    scene.pay(BASE + 70, usdc, ONE_USDC).await;
    scene.blocks(BASE + 71, 4).await;
    scene.turn().await;
    // What is no answer to the question may be one later, and is waited for.
    let held = "held (no_price)".to_owned();
    let stages = scene.stages().await;
    assert_eq!(stages[0], "credited 2500");
    assert!(stages[1..].iter().all(|s| *s == held || s == "confirmed"), "{stages:?}");
    scene.clock_at(BASE + 140);
    scene.settle().await;
    assert!(scene.stages().await[1..].iter().all(|s| *s == held), "{:?}", scene.stages().await);
    let deposits = scene.deposits().await;
    for (deposit, why) in deposits[1..].iter().zip([
        "not the first",
        "confidence",
        "another feed",
        "is -1",
        "unreadable",
        "http status 404",
    ]) {
        let lacking = scene.lacking(deposit).await;
        assert!(lacking.contains(why), "{lacking}");
    }
    // A server that was confused comes to its senses.
    web.set(&path(40), 200, &update(feed, 2_000_000, 1_000, BASE + 40, BASE + 39));
    // The server had nothing for the last one yet; it goes on by itself when it has.
    web.set(&path(70), 200, &update(feed, 2_500_000, 1_000, BASE + 70, BASE + 69));
    scene.clock_at(BASE + 200);
    scene.turn().await;
    let stages = scene.stages().await;
    assert_eq!((stages[3].as_str(), stages[6].as_str()), ("credited 2500", "credited 2000"));
    assert_eq!([&stages[1], &stages[2], &stages[4], &stages[5]], [&held; 4]);
    assert!(web.requests().iter().all(|r| r.contains(&format!("authorization: {TICKER_KEY}"))));
    scene.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stablecoin_far_below_its_dollar_is_held_and_one_above_it_counts_as_one() {
    let web = Tickers::start().await;
    let source = [ticker(&web.url, "usdc")];
    let fixed = r#"{ kind = "fixed", name = "two cents", price = "0.02" }"#.to_owned();
    let text = pair("USDC/USD", "stablecoin = true\nquorum = 1", &source)
        + &pair("RTITY/USD", "quorum = 1", &[fixed]);
    let mut scene = Scene::new(&text).await;
    let usdc = scene.net.tokens.usdc;
    for (at, price) in [(0, "1.013"), (100, "0.98"), (200, "0.97"), (300, "0.9699"), (400, "0.88")]
    {
        scene.pay(BASE + at, usdc, ONE_USDC).await;
        web.set("/usdc", 200, &says(price, BASE + at + 5));
        scene.clock_at(BASE + at + 5);
        scene.sample().await;
    }
    scene.blocks(BASE + 410, 4).await;
    scene.turn().await;
    let held = "held (depegged)";
    let expected = ["credited 2500", "credited 2450", "credited 2425", held, held];
    assert_eq!(scene.stages().await, expected);
    // An operator takes the market's price for one of the two.
    let id = scene.deposits().await[3].id;
    let price = "0.9699".parse().unwrap();
    let accept = Act::AcceptMarket { pair: "USDC/USD".into(), price, repeated: None };
    let oracle = &scene.config.oracle.oracle;
    scene.store.act(oracle, id, &accept, "ann", "the issuer redeems").await.unwrap();
    scene.settle().await;
    assert_eq!(scene.stages().await[3..], ["credited 2424.75", held]);
    scene.verify().await;
}
