//! Receipts of a real node, proved by their block's hash: kept, and checked when the node is gone.

use std::process::{Command, Output};

use alloy::primitives::U256;

use super::binary::{text, topupd};
use super::lying::Scene;
use super::proxy::{Fault, Lie};
use super::support::*;

const FALLBACK: &str = r#"["receipts-root", "second-provider"]"#;

/// Two providers, whose blocks are proved.
async fn scene(verify: &'static str) -> Scene {
    let mut scene = Scene::new(2).await;
    scene.wants.verify = Some(verify);
    scene
}

/// How each confirmed payment was checked, oldest first.
async fn ways(scene: &Scene) -> Vec<(String, bool)> {
    let mut ways = Vec::new();
    for deposit in deposits(&scene.store).await.iter().rev() {
        let detail = scene.store.deposit(deposit.id).await.unwrap().unwrap();
        ways.extend(detail.confirmation.map(|c| (c.verify.unwrap(), c.proof_kept)));
    }
    ways
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_is_proved_when_its_chain_is_gone() {
    let mut scene = scene("receipts-root").await;
    scene.start().await;
    scene.pay(0).await;
    scene.mine(1).await;
    // And some in one block, where more nodes lead to a receipt.
    for sender in 0..60 {
        scene.pay(sender % 5).await;
    }
    scene.mine(4).await;
    until_credited(&scene.store, 61).await;
    scene.stop().await;
    let config = scene.net.config_path();
    let run = |args: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
        command.args(args).arg("--config").arg(&config).output().unwrap()
    };
    let id = deposits(&scene.store).await[0].id.to_string();
    let Scene { net, store, .. } = scene;
    let Net { dev, dir, database, .. } = net;
    drop(dev);

    let verified = run(&["ledger", "verify"]);
    let said = text(&verified.stdout);
    assert!(said.contains("61 of the credits are proved by their receipts"), "{said}");
    let shown = text(&run(&["deposits", "show", &id]).stdout);
    assert!(shown.contains("verified by receipts-root: its receipt is proved"), "{shown}");
    let mut sql = database.sql().await;
    let sizes = "SELECT length(header), length(receipt), length(nodes) FROM receipt_proofs
                 ORDER BY length(nodes)";
    let sizes = sql.ints(sizes).await;
    println!("bytes of header, receipt, nodes: {:?} to {:?}", sizes[0], sizes[60]);
    let most: i64 = sizes[60].iter().sum();
    assert!(most < 8_192, "{most} bytes");

    sql.drop_guards().await;
    sql.execute("UPDATE receipt_proofs SET receipt = header").await.unwrap();
    let tampered = run(&["ledger", "verify"]);
    assert_eq!(tampered.status.code(), Some(3));
    let said = text(&tampered.stdout);
    assert!(said.contains("receipt_proofs") && said.contains("receipts root"), "{said}");
    drop((store, dir));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_hashes_in_no_known_way_is_checked_by_two() {
    let mut scene = scene(FALLBACK).await;
    scene.start().await;
    for proxy in &scene.proxies {
        proxy.set(Fault::HashesOtherwise);
    }
    scene.pay(0).await;
    scene.mine(4).await;
    until_credited(&scene.store, 1).await;
    // Then all that holds with a second provider holds here: one that invents is not believed.
    let lie = scene.proxies[1].set(Fault::Receipt(Lie::Amount(U256::from(9_000_000))));
    scene.pay(1).await;
    scene.mine(4).await;
    scene.until_stage(&["credited", "held (providers_disagree)"]).await;
    assert!(lie.hits() > 0);
    scene.proxies.iter().for_each(|proxy| proxy.heal());
    assert_eq!(ways(&scene).await, [("second-provider".to_owned(), false)]);
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_does_not_have_a_payment_checked_otherwise() {
    let mut scene = scene(FALLBACK).await;
    scene.start().await;
    for (liar, sender) in [(0, 0), (1, 1)] {
        let lie = scene.proxies[liar].set(Fault::HashesOtherwise);
        // The honest one does not answer at first, and the liar's word alone is not enough.
        let honest = &scene.proxies[1 - liar];
        let limited = honest.set(Fault::Error(-32_000, "try again").on("eth_getBlockByHash"));
        scene.pay(sender).await;
        scene.mine(4).await;
        until(
            "asked",
            async || {
                if lie.hits() > 0 && limited.hits() > 0 { Ok(()) } else { Err(lie.hits()) }
            },
        )
        .await;
        assert_eq!(credited(&scene.store).await, sender);
        scene.proxies[1 - liar].heal();
        until_credited(&scene.store, sender + 1).await;
        scene.proxies[liar].heal();
    }
    let proved = ("receipts-root".to_owned(), true);
    assert_eq!(ways(&scene).await, [proved.clone(), proved]);
    scene.ends_with("2000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_another_way_a_payment_says_that_it_waits_for_a_proof() {
    let mut scene = scene("receipts-root").await;
    scene.start().await;
    for proxy in &scene.proxies {
        proxy.set(Fault::HashesOtherwise);
    }
    scene.pay(0).await;
    scene.mine(4).await;
    let config = scene.net.config_path();
    until("it says so", async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
        let listed = command.args(["deposits", "list", "--config"]).arg(&config).output().unwrap();
        let said = text(&listed.stdout);
        if said.contains("waits for a proof of its receipt") { Ok(()) } else { Err(said) }
    })
    .await;
    scene.proxies.iter().for_each(|proxy| proxy.heal());
    until_credited(&scene.store, 1).await;
    scene.ends_with("1000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_not_known_of_a_chain_and_what_is_done_instead() {
    for (verify, altered, instead, exit) in [
        ("receipts-root", false, "set verify = [\"receipts-root\", \"second-provider\"]", 0),
        (FALLBACK, false, "is checked by second-provider, as configured", 0),
        ("receipts-root", true, "shows a block that cannot be proved", 1),
        (FALLBACK, true, "it is checked in the other way that is configured", 0),
    ] {
        let scene = scene(verify).await;
        scene.net.write_config(&scene.wants);
        scene.mine(2).await;
        if altered {
            scene.proxies[0].set(Fault::HashesOtherwise);
        }
        let checked = topupd(&scene.net, &["check"]);
        let said = text(&checked.stdout);
        assert!(said.contains("chains.local.verify WARNING = whether"), "{said}");
        assert!(said.contains(instead), "{said}");
        assert_eq!(checked.status.code(), Some(exit), "{said}");
    }
}
