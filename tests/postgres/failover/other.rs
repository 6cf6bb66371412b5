//! The old primary that comes back, a backup restored under a running daemon, and the same with market
//! prices and two providers.

use super::*;
use crate::local_chain::market_cli::{USDC, configured};

/// One price for all the time.
const RTITY: &str = r#"[oracle.pairs."RTITY/USD"]
quorum = 1
sources = [{ kind = "fixed", name = "listed", price = "0.02" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_old_primary_comes_back_and_is_not_written_to() {
    let mut scene = Scene::new().await;
    let mut daemon = scene.daemon("a");
    scene.cut().await;
    let mut paid =
        vec![(scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], 3).await, 3)];
    scene.all_credited(&paid).await;
    let mut old = scene.pair.fail_over().await;
    scene.all_credited(&paid).await;
    scene.noticed_by("a", 1).await;

    // It is started again, and the name leads to it, as when a failover is taken back by mistake.
    old.start_again().await.unwrap();
    scene.pair.front.lead_to(&old);
    scene.pair.primary.stop(StopMode::Fast).await.unwrap();
    until("said", async || {
        let log = scene.log("a");
        if log.contains("an old primary that was left behind") { Ok(()) } else { Err(log) }
    })
    .await;
    paid.push((scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], 4).await, 4));
    scene.net.dev.mine(5).await.unwrap();
    let mut sql = Sql::connect(&old.url(scene.database())).await;
    let at = "SELECT CAST((SELECT COUNT(*) FROM credits) AS BIGINT),
                     (SELECT MAX(block_number) FROM cursors)";
    let before = sql.ints(at).await;
    assert_eq!(before[0][0], 1);

    // The right one is there again.
    scene.pair.primary.start_again().await.unwrap();
    scene.pair.front.lead_to(&scene.pair.primary);
    drop(sql);
    old.stop(StopMode::Fast).await.unwrap();
    scene.all_credited(&paid).await;
    old.start_again().await.unwrap();
    let mut sql = Sql::connect(&old.url(scene.database())).await;
    assert_eq!(sql.ints(at).await, before);
    assert!(daemon.0.try_wait().unwrap().is_none());
    assert_eq!(scene.went_back().len(), 1, "{:?}", scene.went_back());
}

/// The same server, and its data of some time ago: no timeline differs.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_under_a_running_daemon() {
    let mut scene = Scene::new().await;
    let _daemons = [scene.daemon("a"), scene.daemon("b")];
    let mut paid =
        vec![(scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], 3).await, 3)];
    scene.all_credited(&paid).await;
    scene.pair.primary.stop(StopMode::Fast).await.unwrap();
    let backup = scene.pair.primary.copy().unwrap();
    scene.pair.primary.start_again().await.unwrap();
    let lost = scene.derived("acme");
    paid.push((scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[1], 4).await, 4));
    scene.all_credited(&paid).await;
    scene.remembered().await;

    scene.pair.primary.stop(StopMode::Immediate).await.unwrap();
    scene.pair.primary = backup;
    scene.pair.primary.start_again().await.unwrap();
    scene.pair.front.lead_to(&scene.pair.primary);
    scene.all_credited(&paid).await;
    let mut most = 0;
    for name in ["a", "b"] {
        let found = scene.noticed_by(name, 1).await;
        let side = |side: &str| found["detail"][side].clone();
        assert_eq!(side("from")["server"], side("to")["server"]);
        most = most.max(found["detail"]["missing"].as_array().unwrap().len());
        assert_eq!(side("from")["newest_address"]["address"], lost.to_string());
    }
    // A record, the address, and its index, which the first of them has put right.
    assert_eq!(most, 3);
    scene.explain();
    assert_ne!(scene.derived("bolt"), lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_market_prices() {
    let mut scene = Scene::new().await;
    configured(&scene.net, &scene.wants, &[USDC, RTITY]);
    let _daemons = [scene.daemon("a"), scene.daemon("b")];
    let usdc = scene.net.tokens.usdc;
    let mut paid =
        vec![(scene.net.pay(0, usdc, scene.net.addresses[0], 3_000_000).await, 3_000_000)];
    scene.all_credited(&paid).await;
    scene.cut().await;
    for amount in [5_000_000, 6_000_000] {
        paid.push((scene.net.pay(0, usdc, scene.net.addresses[0], amount).await, amount));
    }
    scene.all_credited(&paid).await;
    let credits = balance(&scene.net.store().await, "acme").await;
    drop(scene.pair.fail_over().await);
    scene.all_credited(&paid).await;
    // The same prices are accepted again, and the same credits follow.
    assert_eq!(balance(&scene.net.store().await, "acme").await, credits);
    scene.said(&["conversions", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_providers() {
    let mut scene = Scene::with(|net, wants| {
        let http = net.dev.http.to_string();
        let providers = format!(
            r#"{{ name = "one", http = "{http}" }}, {{ name = "two", http = "{}" }}"#,
            http.replace("127.0.0.1", "localhost")
        );
        Wants { providers: Some(providers), ..wants }
    })
    .await;
    let _daemons = [scene.daemon("a"), scene.daemon("b")];
    let mut paid = Vec::new();
    for amount in 1..=6 {
        if amount == 4 {
            scene.cut().await;
        }
        let tx = scene.net.pay(0, scene.net.tokens.usdc, scene.net.addresses[0], amount).await;
        paid.push((tx, amount));
    }
    scene.all_credited(&paid).await;
    drop(scene.pair.fail_over().await);
    scene.all_credited(&paid).await;
    scene.noticed_by("b", 1).await;
}
