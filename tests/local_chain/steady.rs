//! What following the chain costs when nothing happens.

use topupd::domain::ids::ChainId;

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
    assert_eq!(requests, blocks);

    // A payment costs its receipt, once it is deep enough.
    let before = daemon.requests();
    net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
    for _ in 0..3 {
        net.dev.mine(1).await.unwrap();
        scanned(net.dev.height().await.unwrap()).await;
    }
    until_credited(&store, 1).await;
    assert_eq!(daemon.requests() - before, 3 + 1);
    daemon.shutdown().await;
}
