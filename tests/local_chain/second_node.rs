//! The daemon on a node that shares no code with anvil.

use alloy::primitives::B256;
use serde_json::{Value, json};
use topupd::devnet::{AnvilOptions, Devnet, LocalChain};

use super::ganache::Ganache;
use super::support::*;
use crate::database::TestDatabase;

#[tokio::test(flavor = "multi_thread")]
async fn payments_on_ganache_are_credited_at_the_tip_and_from_far_behind() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let mut net = Net::over(Ganache::start().await, database).await;
    let (usdc, usdt, rtity) = (net.tokens.usdc, net.tokens.usdt, net.tokens.rtity);
    let daemon = net.daemon(&Wants::default()).await;
    let store = net.store().await;
    net.pay(0, usdc, net.addresses[0], 1_000_000).await;
    net.pay(0, usdt, net.addresses[1], 2_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await;
    daemon.shutdown().await;

    net.pay(0, usdc, net.addresses[0], 3_000_000).await;
    net.dev.mine(400).await.unwrap(); // far behind: read by range
    net.pay(0, rtity, net.addresses[1], 1_000_000_000).await; // worth nothing, and still a deposit
    net.dev.mine(3).await.unwrap();
    let daemon = net.daemon(&Wants::default()).await;
    until_credited(&store, 4).await;
    assert_eq!(balance(&store, "acme").await, "4000");
    verify(&store).await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_ganache_takes_back_is_credited_where_it_comes_again() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let mut net = Net::over(Ganache::start().await, database).await;
    let daemon = net.daemon(&Wants::default()).await;
    let store = net.store().await;
    let (token, to) = (net.tokens.usdc, net.addresses[0]);
    let before: String = net.dev.rpc.ask("evm_snapshot", ()).await.unwrap();
    net.pay(0, token, to, 1_000_000).await;
    until("seen", async || {
        let seen = deposits(&store).await.len();
        if seen == 1 { Ok(()) } else { Err(seen) }
    })
    .await;
    assert!(net.dev.rpc.ask::<bool>("evm_revert", (before,)).await.unwrap());
    net.dev.mine(2).await.unwrap();
    until("gone", async || {
        let stages: Vec<_> = deposits(&store).await.iter().map(|d| d.stage.as_str()).collect();
        if stages == ["orphaned"] { Ok(()) } else { Err(stages) }
    })
    .await;
    net.pay(0, token, to, 2_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    assert_eq!(balance(&store, "acme").await, "2000");
    verify(&store).await;
    daemon.shutdown().await;
}

/// What the comment in `ganache.rs` claims and tests may rely on.
#[tokio::test(flavor = "multi_thread")]
async fn ganache_differs_from_anvil_where_nodes_do() {
    let ganache = Ganache::start().await;
    let anvil = Devnet::start(AnvilOptions::default()).await.unwrap();
    for node in [&ganache, &*anvil] {
        node.mine(5).await.unwrap();
    }
    let logs = async |node: &LocalChain, filter: Value| {
        node.rpc.ask::<Value>("eth_getLogs", (filter,)).await.map_err(|e| e.to_string())
    };
    let unknown = json!({ "blockHash": B256::repeat_byte(0x11) });
    assert_eq!(logs(&ganache, unknown.clone()).await, Ok(json!([])));
    let refused = logs(&anvil, unknown).await.unwrap_err();
    assert!(refused.contains("unknown block"), "{refused}");
    let beyond = json!({ "fromBlock": "0x100" });
    assert_eq!(logs(&ganache, beyond.clone()).await, Ok(json!([])));
    let refused = logs(&anvil, beyond).await.unwrap_err();
    assert!(refused.contains("BlockOutOfRange"), "{refused}");

    let number = async |node: &LocalChain, tag: &'static str| {
        let block: Value = node.rpc.ask("eth_getBlockByNumber", (tag, false)).await.unwrap();
        block["number"].clone()
    };
    for tag in ["safe", "finalized", "pending"] {
        assert_eq!(number(&ganache, tag).await, "0x5", "{tag}");
    }
    assert_eq!(number(&anvil, "finalized").await, "0x0");
    for method in ["eth_getBlockReceipts", "eth_getRawTransactionByHash", "evm_setAutomine"] {
        let refused = ganache.rpc.ask::<Value>(method, (false,)).await.unwrap_err();
        assert!(refused.to_string().contains("does not exist"), "{refused}");
    }
}
