//! What following the chain costs when nothing happens.

use topupd::domain::ids::ChainId;

use super::lying::Scene;
use super::proxy::{Fault, Proxy};
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_request_a_block_over_a_live_websocket_for_any_number_of_tokens() {
    let mut net = Net::new().await;
    net.dev.automine(false).await.unwrap();
    let wants = Wants { safety_poll_ms: 60_000, poll_ms: 60_000, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    let scanned = async |height: u64| {
        until("scanned", async || {
            let at = store.cursor(ChainId(31_337)).await.unwrap().map(|(block, _)| block.number);
            if at == Some(height) { Ok(()) } else { Err(at) }
        })
        .await;
    };
    // Connecting the WebSocket asks for the tip once; let that be over.
    for _ in 0..5 {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    let (blocks, before) = (100u64, daemon.requests());
    for _ in 0..blocks {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    let requests = daemon.requests() - before;
    println!("{requests} requests for {blocks} blocks");
    // A machine that is slow adds a poll now and then; tokens that were asked for one by one would
    // treble it.
    assert!((blocks..2 * blocks).contains(&requests), "{requests}");

    // A payment costs its receipt and its block's header, once it is deep enough.
    let before = daemon.requests();
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    for _ in 0..3 {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    until_credited(&store, 1).await;
    let requests = daemon.requests() - before;
    assert!((3 + 2..3 * (3 + 2)).contains(&requests), "{requests}");
    daemon.shutdown().await;
}

/// What a second provider costs: per 1,000 blocks at the tip and far behind it, without payments, and for
/// a payment. Nothing but the survey and the second pass is asked for beside the blocks themselves.
#[tokio::test(flavor = "multi_thread")]
async fn requests_per_thousand_blocks_with_two_providers() {
    let mut net = Net::new().await;
    net.dev.automine(false).await.unwrap();
    let proxies =
        [Proxy::to(&net.dev.http).await.unwrap(), Proxy::to(&net.dev.http).await.unwrap()];
    let listed: Vec<String> = ["ann", "bob"]
        .iter()
        .zip(&proxies)
        .map(|(name, p)| {
            format!(r#"{{ name = "{name}", http = "{}", ws = "{}" }}"#, p.http(), p.ws())
        })
        .collect();
    let wants = Wants {
        providers: Some(listed.join(", ")),
        safety_poll_ms: 60_000,
        poll_ms: 60_000,
        more: "reorg_window = 64".into(),
        ..Wants::default()
    };
    net.dev.mine(3_000).await.unwrap();
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    let scanned = async |height: u64| {
        until("scanned", async || {
            let at = store.cursor(ChainId(31_337)).await.unwrap().map(|(block, _)| block.number);
            if at == Some(height) { Ok(()) } else { Err(at) }
        })
        .await;
    };
    let height = net.dev.height().await.unwrap();
    scanned(height).await;
    let (requests, bytes) = (daemon.requests(), daemon.bytes_received());
    let per_thousand = |n: u64, blocks: u64| n * 1_000 / blocks;
    println!(
        "catch-up: {} requests and {} KiB for 1,000 blocks, of {height}; the last 64 are read one by one",
        per_thousand(requests, height),
        per_thousand(bytes, height) / 1_024,
    );
    // Two headers and the logs of each range of 2,000, and its last header of the other one; the window
    // block by block: header and logs; what `check` asks of each provider at the start; and the second
    // pass.
    // Twice that, for a machine that is slow: the survey is asked by time. Blocks that were read one by
    // one would be 6,000 requests.
    assert!(requests < 2 * (4 * 2 + 2 * 64 + 120), "{requests}");

    for _ in 0..3 {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    let (blocks, requests, bytes) = (100, daemon.requests(), daemon.bytes_received());
    for _ in 0..blocks {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    let (live, bytes) = (daemon.requests() - requests, daemon.bytes_received() - bytes);
    println!(
        "live: {} requests and {} KiB for 1,000 blocks, beside the survey",
        per_thousand(live, blocks),
        per_thousand(bytes, blocks) / 1_024
    );
    // The logs, and from the other one that it has the block.
    assert!(live <= 3 * blocks, "{live}");

    let before = daemon.requests();
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    for _ in 0..3 {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    until_credited(&store, 1).await;
    let payment = daemon.requests() - before - 2 * 3;
    println!("a payment: {payment} requests");
    // The other's tip, receipt and header; and that the first has the block, as deep: its tip, the block.
    // Twice that, as above.
    assert!(payment <= 2 * 3 * 5, "{payment}");
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_pays_us_often_is_asked_once_for_all_its_receipts() {
    let mut scene = Scene::new(2).await;
    scene.start().await;
    let pay_ten = async |scene: &Scene, credited| {
        for sender in 0..10 {
            scene.pay(sender % 5).await;
        }
        scene.mine(4).await;
        until_credited(&scene.store, credited).await;
    };
    let singly = |scene: &Scene| {
        scene.proxies.iter().map(|p| p.requests("eth_getTransactionReceipt")).max().unwrap()
    };
    pay_ten(&scene, 10).await;
    assert_eq!(singly(&scene), 0);
    // Who does not know the question is asked for each.
    for proxy in &scene.proxies {
        proxy.set(Fault::Error(-32_601, "the method does not exist").on("eth_getBlockReceipts"));
    }
    pay_ten(&scene, 20).await;
    assert!(singly(&scene) >= 5);
    scene.ends_with("20000").await;
}
