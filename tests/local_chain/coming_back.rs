//! Providers that go away, move to another chain, and come back.

use serde_json::Value;
use topupd::devnet::{AnvilOptions, Devnet};

use super::binary::{text, topupd};
use super::lying::Scene;
use super::proxy::Fault;
use super::support::*;

/// Of two providers, one is away: the payment says so, wherever one looks, and goes on when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_waits_for_a_second_provider_says_so_until_it_is_back() {
    let mut scene = Scene::new(2).await;
    scene.start().await;
    let away = scene.proxies[1].set(Fault::Drop);
    scene.proxies[1].close_websockets();
    scene.pay(0).await;
    scene.mine(4).await;
    scene.until_stage(&["pending"]).await;
    let id = deposits(&scene.store).await[0].id.to_string();
    let waits = |arguments: &[&str]| text(&topupd(&scene.net, arguments).stdout);
    until("said", async || {
        let shown = waits(&["deposits", "show", &id]);
        let said = shown.contains("a second provider that has its block as deep: bob: ");
        if said { Ok(()) } else { Err(shown) }
    })
    .await;
    let listed = waits(&["deposits", "list"]);
    assert!(listed.contains("waits for a second provider") && listed.contains("bob"), "{listed}");
    let listed: Value = serde_json::from_str(&waits(&["deposits", "list", "--json"])).unwrap();
    assert_eq!(listed["deposits"][0]["waiting_for"]["code"], "second_provider", "{listed}");

    away.lift();
    until_credited(&scene.store, 1).await;
    for command in [&["deposits", "show", &id][..], &["deposits", "list"]] {
        let shown = waits(command);
        assert!(shown.contains("credited") && !shown.contains("waits for"), "{shown}");
    }
    scene.ends_with("1000").await;
}

/// A provider whose name leads to a node of another chain from now on, and that answers all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_moves_to_another_chain_is_asked_no_more() {
    let mut scene = Scene::new(3).await;
    scene.start().await;
    let options = AnvilOptions { chain_id: 31_338, ..AnvilOptions::default() };
    let other = Devnet::start(options).await.unwrap();
    other.mine(50).await.unwrap();
    scene.proxies[1].switch_to(&other.http);
    until("noticed", async || {
        let state = scene.state(1);
        let expected = "not admitted: chain id: the chain says 31338";
        if state.starts_with(expected) { Ok(()) } else { Err(state) }
    })
    .await;
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    scene.proxies[1].switch_to(&scene.net.dev.http);
    until("taken back", async || match scene.state(1) {
        state if state == "ok" => Ok(()),
        state => Err(state),
    })
    .await;
    scene.ends_with("1000").await;
}
