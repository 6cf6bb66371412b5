//! Coins that go round between our own addresses on a real node are credited once.

use alloy::primitives::U256;
use topupd::devnet::TestToken;

use super::support::*;

const UNITS: u64 = 1_000_000_000; // 1,000 USDC, 1,000,000 credits

async fn stages(net: &Net) -> Vec<String> {
    let store = net.store().await;
    let mut all = deposits(&store).await;
    all.sort_by_key(|d| (d.block_number, d.tx_hash));
    all.iter().map(|d| d.stage.to_string()).collect()
}

async fn until_stages(net: &Net, wanted: &[&str]) {
    until("as wanted", async || {
        let now = stages(net).await;
        if now == wanted { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn passed_round(filter: &'static str) {
    let mut net = Net::new().await;
    let wants = Wants { confirmations: 1, filter, ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let (ann, bob, late) = (net.dev.accounts[1], net.dev.accounts[2], net.dev.accounts[3]);
    let usdc = net.tokens.usdc;
    for to in [ann, bob, late] {
        let value = U256::from(UNITS);
        net.dev.transact(usdc, TestToken::mintCall { to, value }).await.unwrap();
    }
    let store = net.store().await;
    store.import_address(&"acme".parse().unwrap(), ann, 0).await.unwrap();
    store.import_address(&"bolt".parse().unwrap(), bob, 0).await.unwrap();
    let daemon = start(&config).await;
    // What they were given before is theirs: it arrived, and is credited.
    net.dev.mine(2).await.unwrap();
    until_credited(&store, 2).await;
    let before = (balance(&store, "acme").await, balance(&store, "bolt").await);

    for turn in 0..6 {
        let (sender, to) = if turn % 2 == 0 { (1, bob) } else { (2, ann) };
        net.pay(sender, usdc, to, UNITS).await;
    }
    net.dev.mine(2).await.unwrap();
    let held = ["held (internal_transfer)"; 6];
    let mut wanted = vec!["credited"; 2];
    wanted.extend(held);
    until_stages(&net, &wanted).await;
    assert_eq!((balance(&store, "acme").await, balance(&store, "bolt").await), before);

    // Somebody's wallet pays us, and is registered afterwards: what it had been given before is
    // with us already.
    net.pay(3, usdc, net.addresses[0], UNITS).await;
    net.dev.mine(2).await.unwrap();
    wanted.push("credited");
    until_stages(&net, &wanted).await;
    store.import_address(&"bolt".parse().unwrap(), late, 0).await.unwrap();
    until("held", async || {
        let all = deposits(&store).await;
        let found: Vec<String> =
            all.iter().filter(|d| d.recipient == late).map(|d| d.stage.to_string()).collect();
        if found == ["held (internal_transfer)"] { Ok(()) } else { Err(found) }
    })
    .await;
    assert_eq!(balance(&store, "bolt").await, before.1);
    verify(&store).await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_that_go_round_are_credited_once_by_tokens() {
    passed_round("tokens").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_that_go_round_are_credited_once_by_addresses() {
    passed_round("recipients").await;
}
