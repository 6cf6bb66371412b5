//! Prices of the market that an operator lets pass, by the real binary: each is seen before, with what
//! it comes to, and its number is repeated.

use super::binary::{text, topupd};
use super::json::spoken as json;
use super::market_cli::{USDC, configured, has, is_refused, said};
use super::support::*;

fn rtity(price: &str) -> String {
    format!(
        "[oracle]\nprice_every_s = 0\n[oracle.pairs.\"RTITY/USD\"]\nquorum = 1\nsources = [{{ kind = \"fixed\", name = \"listed\", price = \"{price}\" }}]\n"
    )
}

/// What it prints, and why it refuses.
fn refuses(net: &Net, arguments: &[&str], part: &str) -> String {
    is_refused(net, arguments, 2, &[part])
}

/// A payment is credited while a token of ours is at two cents. No daemon runs.
async fn one_credited_at_two_cents() -> (Net, topupd::store::Store) {
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[&rtity("0.02"), USDC]);
    net.register(&config).await;
    let store = net.store().await;
    let daemon = start(&config).await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    daemon.shutdown().await;
    (net, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_markets_price_below_the_floor_is_seen_and_repeated() {
    let low = USDC.replace("price = \"1\"", "price = \"0.93\"");
    let mut net = Net::new().await;
    let config = configured(&net, &Wants::default(), &[&rtity("0.02"), &low]);
    net.register(&config).await;
    let daemon = start(&config).await;
    let store = net.store().await;
    net.pay(0, net.tokens.usdc, net.addresses[0], 10_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_held(&store).await;
    let id = deposits(&store).await[0].id.to_string();
    let accept = ["holds", "resolve", &id, "--accept-market", "--operator", "alice"];
    let accept = [&accept[..], &["--reason", "the issuer redeems"]].concat();
    let comes_to = [
        "amount     10 USDC",
        "quotes     of USDC/USD at its block, as of ",
        "one  0.93  ok (fixed)",
        "accepted   USDC/USD = 0.93: compared with nothing, because the pair has no price yet",
        "for every payment of its block that needs it",
        "price      USDC/USD = 0.93 (of the market, below its floor, this one)",
        "credits    23250, rounded down",
    ];
    has(&refuses(&net, &accept, "repeat the number: --beyond-the-bound 0.93"), &comes_to);
    let typo = [&accept[..], &["--beyond-the-bound", "0.39"]].concat();
    has(&refuses(&net, &typo, "does not repeat the price, 0.93"), &comes_to);
    let twice = [&accept[..], &["--beyond-the-bound", "0.93"]].concat();
    let out = said(&net, &twice);
    has(&out, &comes_to);
    has(&out, &["act 1 is written down", "at its next look"]);
    let act = json(&net, &["holds", "show", "1"])["act"].clone();
    assert_eq!((&act["kind"], &act["price"]), (&"accept_market".into(), &"0.93".into()));
    until_credited(&store, 1).await;
    assert_eq!(balance(&store, "acme").await, "23250");
    verify(&store).await;
    store.close().await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_closed_breaker_lets_pass_is_seen_and_repeated() {
    let (net, store) = one_credited_at_two_cents().await;
    let config = configured(&net, &Wants::default(), &[&rtity("0.04"), USDC]);
    let daemon = start(&config).await;
    let time_s = u64::try_from(net.dev.time_ms().await.unwrap() / 1_000).unwrap();
    net.dev.mine_at(time_s + 2).await.unwrap();
    net.pay(0, net.tokens.usdc, net.addresses[0], 20_000_000).await;
    net.dev.mine(3).await.unwrap();
    let held = async || -> Vec<_> {
        let all = deposits(&store).await;
        all.iter().filter(|d| d.stage.as_str() == "held").map(|d| d.id).collect()
    };
    until("held", async || if held().await.len() == 1 { Ok(()) } else { Err(()) }).await;
    let held = held().await;
    let shown = said(&net, &["holds", "show", &held[0].to_string()]);
    has(
        &shown,
        &[
            "to let RTITY/USD = 0.04 pass, which opened the breaker: topupd prices resume RTITY/USD ",
        ],
    );
    let resume = ["prices", "resume", "RTITY/USD", "--operator", "alice", "--reason", "listed"];
    let payment = format!("payment    {}", held[0]);
    let comes_to = [
        "breaker    of RTITY/USD, open since ",
        "listed  0.04  ok (fixed)",
        "passes     RTITY/USD = 0.04: 100.00 % above 0.02, the last price of the market, of ",
        "at most 25.00 % go without saying it twice",
        &payment,
        "amount     20 USDC",
        "price      RTITY/USD = 0.04 (of the market, this one)",
        "credits    25000, rounded down",
    ];
    has(&refuses(&net, &resume, "repeat the number: --beyond-the-bound 0.04"), &comes_to);
    let typo = [&resume[..], &["--beyond-the-bound", "0.4"]].concat();
    has(&refuses(&net, &typo, "does not repeat the price, 0.04"), &comes_to);
    let both = [&resume[..], &["--beyond-the-bound", "0.04", "--reject"]].concat();
    let output = topupd(&net, &both);
    assert_eq!(output.status.code(), Some(2));
    has(&text(&output.stderr), &["cannot be used with"]);
    let twice = [&resume[..], &["--beyond-the-bound", "0.04"]].concat();
    let out = json(&net, &twice);
    assert_eq!(
        (&out["act"]["kind"], &out["act"]["price"]),
        (&"resume_breaker".into(), &"0.04".into())
    );
    let seen = &out["preview"];
    assert_eq!(
        (&seen["deviation_percent"], &seen["beyond_the_bound"]),
        (&"100.00".into(), &true.into())
    );
    assert_eq!(seen["payments"][0]["credits"], "25000");
    until_credited(&store, 2).await;
    assert_eq!(balance(&store, "acme").await, "50000");
    verify(&store).await;
    store.close().await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_passes_nothing_and_shows_no_credits() {
    let (net, store) = one_credited_at_two_cents().await;
    let config = configured(&net, &Wants::default(), &[&rtity("0.001"), USDC]);
    let daemon = start(&config).await;
    let open = async || match store.breakers().await.unwrap().len() {
        1 => Ok(()),
        other => Err(other),
    };
    let reject = ["prices", "resume", "RTITY/USD", "--operator", "al", "--reason", "x", "--reject"];
    for is_json in [false, true] {
        let time_s = u64::try_from(net.dev.time_ms().await.unwrap() / 1_000).unwrap();
        net.dev.mine_at(time_s + 2).await.unwrap();
        net.pay(0, net.tokens.usdc, net.addresses[0], 20_000_000).await;
        net.dev.mine(3).await.unwrap();
        until("open", open).await;
        if is_json {
            let out = json(&net, &reject);
            assert_eq!(out["act"]["kind"], "veto_price");
            let preview = &out["preview"];
            assert_eq!(
                (&preview["price"], &preview["deviation_percent"]),
                (&"0.001".into(), &"-95.00".into())
            );
            let payment = &preview["payments"][0];
            assert_eq!(
                (&payment["credits"], &payment["let_pass"]),
                (&serde_json::Value::Null, &serde_json::Value::Null)
            );
            assert_eq!(payment["missing"], serde_json::json!(["RTITY/USD"]));
        } else {
            let out = said(&net, &reject);
            has(
                &out,
                &[
                    "rejected   RTITY/USD = 0.001: 95.00 % below 0.02, the last price of the market, of ",
                    "it passes for no payment, and no later price is compared with it",
                    "amount     20 USDC",
                    "waits for  a price of RTITY/USD by hand",
                    "is rejected; payments of its block wait for a price by hand",
                ],
            );
            assert!(!out.contains("passes     ") && !out.contains("credits"), "{out}");
            assert!(!out.contains("without saying it twice"), "{out}");
        }
    }
    store.close().await;
    daemon.shutdown().await;
}
