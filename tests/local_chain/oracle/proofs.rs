//! `conversions verify`: what was stored gives what was credited, and a changed value is named.

use std::process::{Command, Output};

use super::super::proxy::{Fault, Proxy};
use super::scene::*;
use crate::database::Engine;

pub(super) fn topupd(scene: &Scene, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topupd"))
        .arg("--config")
        .arg(scene.net.config_path())
        .args(args)
        .env("TICKER_KEY", TICKER_KEY)
        .output()
        .unwrap()
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Takes the trigger away that keeps a table from being changed.
pub(super) async fn without_guard(scene: &Scene, trigger: &str, table: &str) {
    let on = if crate::ENGINE == Engine::Postgres { format!(" ON {table}") } else { String::new() };
    let mut sql = scene.net.database.sql().await;
    sql.execute(&format!("DROP TRIGGER {trigger}{on}")).await.unwrap();
}

const THREE: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
quorum = 1
sources = [{ kind = "chainlink", name = "feed", chain = "local", address = "{usdc}", description = "USDC / USD", heartbeat_s = 86400 }]
[oracle.pairs."RTITY/USD"]
quorum = 2
sources = [
  { kind = "chainlink", name = "feed", chain = "local", address = "{rtity}", description = "RTITY / USD", heartbeat_s = 86400 },
  { kind = "uniswap_v3", name = "pool", chain = "local", pool = "{pool}", via = "USDC/USD", window_s = 600, min_liquidity = "1000000000" },
  { kind = "fixed", name = "two cents", price = "0.02" },
]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_a_conversion_is_computed_again_and_any_change_is_named() {
    let mut scene = super::pools::aged(THREE, 1, true).await;
    let usdc = scene.net.tokens.usdc;
    scene.answers(BASE + 5, 99_990_000, 2_001_000).await;
    for i in 0..5 {
        scene.pay(BASE + 10 + 10 * i, usdc, ONE_USDC + i).await;
    }
    scene.blocks(BASE + 60, 4).await;
    scene.turn().await;
    assert!(scene.stages().await.iter().all(|s| s.starts_with("credited 24")));
    scene.verify().await;

    let verified = topupd(&scene, &["conversions", "verify", "--online"]);
    let text = said(&verified);
    assert!(verified.status.success(), "{text}");
    assert!(text.starts_with("holds: 5 conversions at 10 prices"), "{text}");
    assert!(text.contains("answers of contracts read again"), "{text}");
    // That nobody can be asked is no difference.
    scene.proxies.iter().for_each(|proxy| drop(proxy.set(Fault::Drop)));
    let verified = topupd(&scene, &["conversions", "verify", "--online"]);
    let text = said(&verified);
    assert_eq!(verified.status.code(), Some(3), "{text}");
    assert!(text.starts_with("holds: 5 conversions at 10 prices"), "{text}");
    assert!(text.contains("could not be asked about"), "{text}");
    scene.proxies.iter().for_each(Proxy::heal);
    // One liar is contradicted, and named.
    let liar = scene.proxies[0].set(Fault::Doubled);
    let verified = topupd(&scene, &["conversions", "verify", "--online"]);
    let text = said(&verified);
    assert!(liar.hits() > 0);
    assert_eq!(verified.status.code(), Some(3), "{text}");
    assert!(text.contains("answers something else now"), "{text}");
    scene.proxies[0].heal();
    let id = scene.deposits().await[0].id.to_string();
    let shown = said(&topupd(&scene, &["conversions", "show", &id]));
    for part in
        ["survived", "round 1/", "mean tick", "tokens out", "remainder", "topupd/conversion/v1"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let listed = said(&topupd(&scene, &["conversions", "list"]));
    assert_eq!(listed.lines().count(), 6, "{listed}");

    // One value at a time; what is written is written, so the guards come off first.
    for (trigger, table) in [
        ("quotes_are_facts", "quotes"),
        ("market_prices_are_not_updated", "market_prices"),
        ("price_policies_are_not_updated", "price_policies"),
        ("conversions_are_not_updated", "conversions"),
        ("epochs_are_not_updated", "epochs"),
    ] {
        without_guard(&scene, trigger, table).await;
    }
    let mut sql = scene.net.database.sql().await;
    for (change, back, named) in [
        (
            "UPDATE quotes SET evidence = replace(evidence, 'late\":false', 'late\":true')",
            "UPDATE quotes SET evidence = replace(evidence, 'late\":true', 'late\":false')",
            "quote_id is not the hash of evidence",
        ),
        (
            "UPDATE market_prices SET price = price || '1'",
            "UPDATE market_prices SET price = substr(price, 1, length(price) - 1)",
            "pair, instant or price differ from body",
        ),
        (
            "UPDATE price_policies SET body = replace(body, '\"quorum\":2', '\"quorum\":1')",
            "UPDATE price_policies SET body = replace(body, '\"quorum\":1,\"outlier_floor_bps\":50', '\"quorum\":2,\"outlier_floor_bps\":50')",
            "policy_hash is not the hash of body",
        ),
        (
            "UPDATE conversions SET body = replace(body, '\"path\":\"usd\"', '\"path\":\"direct\"')",
            "UPDATE conversions SET body = replace(body, '\"path\":\"direct\"', '\"path\":\"usd\"')",
            "do not follow from its prices",
        ),
        // What the payment was priced by is another epoch, or says another thing.
        (
            "UPDATE prices SET epoch_id = 'one'",
            "UPDATE prices SET epoch_id = 'after'",
            "is not what the epoch of its block says of it",
        ),
        (
            "UPDATE epochs SET body = replace(body, '\"50\"', '\"51\"')",
            "UPDATE epochs SET body = replace(body, '\"51\"', '\"50\"')",
            "body_hash is not the hash of body",
        ),
    ] {
        sql.execute(change).await.unwrap();
        let verified = topupd(&scene, &["conversions", "verify"]);
        let text = said(&verified);
        assert_eq!(verified.status.code(), Some(3), "{change}: {text}");
        assert!(text.contains(named), "{change}: {text}");
        sql.execute(back).await.unwrap();
    }
    assert!(topupd(&scene, &["conversions", "verify"]).status.success());
}

/// The command of docs/scenarios.md, with fewer payments.
#[test]
fn the_demo_crosses_the_tge_and_proves_every_conversion() {
    let args = ["demo", "--tge", "--payments", "15", "--block-ms", "200", "--seed", "2"];
    let demo = Command::new(env!("CARGO_BIN_EXE_topupd")).args(args).output().unwrap();
    let text = said(&demo);
    assert!(demo.status.success(), "{text}");
    for part in [
        "TGE: from now on",
        "held (no_price)",
        "conversions verify --online: holds: ",
        "parity: ",
        "all 15 payments were credited exactly once",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
