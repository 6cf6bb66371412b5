//! Reorgs one to six deep that drop, move and re-order the paying transactions before credit.

use alloy::primitives::{Bytes, TxHash};

use super::support::*;

/// Pays from five senders in so many blocks; returns the transactions block by block.
async fn pay_in_blocks(net: &Net, blocks: usize) -> Vec<Vec<TxHash>> {
    let mut all = Vec::new();
    for block in 0..blocks {
        let mut txs = Vec::new();
        for sender in 0..net.dev.accounts.len() {
            let token = [net.tokens.usdc, net.tokens.usdt][sender % 2];
            let to = net.addresses[(sender + block) % 2];
            txs.push(net.pay(sender, token, to, 1_000_000).await);
        }
        net.dev.mine(1).await.unwrap();
        all.push(txs);
    }
    all
}

async fn log_index(net: &Net, tx: TxHash) -> u64 {
    let receipt = net.dev.receipt(tx).await.unwrap().unwrap();
    let text = receipt.logs[0]["logIndex"].as_str().unwrap().to_owned();
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reorgs_one_to_six_deep_before_credit_lose_nothing_and_double_nothing() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    net.dev.automine(false).await.unwrap();
    let wants = Wants { confirmations: 8, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    let mut paid = 0;
    for depth in 1..=6u64 {
        let blocks = pay_in_blocks(&net, usize::try_from(depth).unwrap()).await;
        let txs: Vec<TxHash> = blocks.concat();
        paid += txs.len();
        // Seen before it is torn up.
        until("seen", async || {
            let seen = deposits(&store).await.len();
            if seen == paid { Ok(()) } else { Err(seen) }
        })
        .await;
        let first = txs[0];
        let before = log_index(&net, first).await;

        // The senders in reverse order (log indexes change), everything one block later or in the
        // last one (blocks change), the last sender's newest payment left out (dropped).
        let mut queue: Vec<(Bytes, u64)> = Vec::new();
        let mut dropped: Vec<Bytes> = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            for (sender, tx) in block.iter().enumerate().rev() {
                let raw = net.raw(*tx).await;
                if i + 1 == blocks.len() && sender + 1 == block.len() {
                    dropped.push(raw);
                } else {
                    queue.push((raw, (i as u64 + 1).min(depth - 1)));
                }
            }
        }
        net.dev.reorg(depth, &queue).await.unwrap();
        let after = log_index(&net, first).await;
        assert_ne!(before, after, "depth {depth}: the log index is meant to change");
        for raw in &dropped {
            assert!(net.dev.receipt(net.dev.send_raw(raw).await.unwrap()).await.unwrap().is_none());
        }
        net.dev.mine(1).await.unwrap();
        // And once more, before anything is credited: back and forth.
        net.dev.reorg(1, &[(dropped[0].clone(), 0)]).await.unwrap();
        net.dev.mine(1).await.unwrap();
        until("all pending again", async || {
            let seen = deposits(&store).await;
            let open = seen.iter().filter(|d| d.stage.as_str() == "orphaned").count();
            if seen.len() == paid && open == 0 { Ok(()) } else { Err((seen.len(), open)) }
        })
        .await;
        net.dev.mine(8).await.unwrap();
        until_credited(&store, paid).await;
    }
    assert_eq!(deposits(&store).await.len(), paid);
    verify(&store).await;
    let credits = async |name: &str| balance(&store, name).await.parse::<u64>().unwrap();
    assert_eq!(credits("acme").await + credits("bolt").await, paid as u64 * 1_000);
    daemon.shutdown().await;
}
