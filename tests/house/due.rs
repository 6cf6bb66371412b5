//! Pending payments are read when they are due, and not before, whatever their tier asks.

use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::finality::{Finality, Policy, Tier};
use topupd::store::DueBy;

use super::support::*;

fn tiers(small: u64, large: Finality) -> Policy {
    let up_to = Some("100".parse().unwrap());
    Policy::new(vec![
        Tier { up_to_usd: up_to, finality: Finality::Confirmations(small) },
        Tier { up_to_usd: None, finality: large },
    ])
    .unwrap()
}

/// How many deposits the next look would read.
async fn read_next(house: &House, chain: &ScriptedChain, by: DueBy) -> usize {
    let head = topupd::domain::ids::BlockRef::from(chain).number;
    house.store.due_deposits(CHAIN, by, head, None).await.unwrap().len()
}

#[tokio::test]
async fn what_needs_more_confirmations_is_not_read_at_each_block() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    house.rules.policy = tiers(2, Finality::Confirmations(20));
    chain.mine((0..5).map(|i| pay(i, USDC, 0, 1_000_000_000)).collect());
    mine_empty(&chain, 1);
    house.quiesce(&chain).await;
    for depth in 3..=19 {
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        assert_eq!(read_next(&house, &chain, DueBy::New).await, 0, "{depth}");
        assert_eq!(read_next(&house, &chain, DueBy::Depth).await, 0, "{depth}");
    }
    assert_eq!(house.stages().await, ["pending"; 5]);
    mine_empty(&chain, 1);
    house.watch(&chain).await.unwrap();
    assert_eq!(read_next(&house, &chain, DueBy::Depth).await, 5);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 5]);
    house.verify().await;
}

#[tokio::test]
async fn another_policy_a_fork_and_a_restart_are_no_reason_to_wait_longer() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    house.rules.policy = tiers(2, Finality::Confirmations(20));
    chain.mine(vec![pay(1, USDC, 0, 1_000_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["pending"]);
    // It is mined again, in a later block.
    let txs = chain.rewind(4);
    mine_empty(&chain, 2);
    chain.mine(txs);
    mine_empty(&chain, 18);
    house.restart().await;
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["pending"]);
    mine_empty(&chain, 1);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);

    chain.mine(vec![pay(2, USDC, 1, 1_000_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    house.rules.policy = tiers(2, Finality::Finalized);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", "pending"]);
    house.rules.policy = tiers(2, Finality::Confirmations(4));
    house.restart().await;
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 2]);
    house.verify().await;
}

#[tokio::test]
async fn a_large_payment_gains_nothing_by_parts_that_are_seen_one_after_another() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    house.rules.policy = tiers(2, Finality::Confirmations(6));
    let part = |to: usize| ScriptedLog::transfer(USDC, PAYER, address(to), 60_000_000);
    chain.mine(vec![tx(1, vec![part(0), part(1)])]);
    for depth in 2..=6 {
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        let stage = if depth < 6 { "pending" } else { "credited" };
        assert_eq!(house.stages().await, [stage; 2], "{depth}");
    }
}
