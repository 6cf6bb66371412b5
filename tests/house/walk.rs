//! Single deposits walking through the stages, with forks drawn block by block.

use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::chain_rules::{FilterKind, Start};
use topupd::domain::deposit::{HoldReason, Stage};
use topupd::domain::finality::{Finality, Policy, Tier};
use topupd::domain::ids::Network;
use topupd::store::{Store, StoreError};
use topupd::tasks::errors::WatchError;
use topupd::tasks::watch::step::Watched;

use super::support::*;

#[tokio::test]
async fn a_payment_becomes_credits_once_after_the_right_number_of_confirmations() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    chain.mine(vec![pay(1, USDC, 0, 12_500_000)]);
    for (confirmations, stage) in [(1, "pending"), (2, "pending"), (3, "credited")] {
        house.quiesce(&chain).await;
        let deposits = house.deposits().await;
        assert_eq!(deposits.len(), 1);
        assert_eq!(deposits[0].confirmations, confirmations);
        assert_eq!(deposits[0].stage.to_string(), stage);
        chain.mine(Vec::new());
    }
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "12500");
    assert_eq!(house.balance("bolt").await, "0");
    house.verify().await;
}

#[tokio::test]
async fn several_transfers_in_one_transaction_are_each_credited() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let to = |i, amount| ScriptedLog::transfer(USDC, PAYER, address(i), amount);
    // The same token twice to one address, once to another, and another token to the first.
    chain.mine(vec![tx(
        1,
        vec![
            to(0, 1_000_000),
            to(0, 1_000_000),
            to(1, 2_000_000),
            ScriptedLog::transfer(RTITY, PAYER, address(0), 10u128.pow(18)),
        ],
    )]);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "2050.5");
    assert_eq!(house.balance("bolt").await, "2000");
    house.verify().await;
}

#[tokio::test]
async fn a_shallow_reorg_orphans_and_readopts_with_the_same_ids() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(4)).await;
    //  1a(A B) 2a        A then B
    //  1b     2b(B A) 3b B then A: another block, other log indexes
    chain.mine(vec![pay(1, USDC, 0, 1_000_000), pay(2, USDC, 1, 2_000_000)]);
    chain.mine(Vec::new());
    house.quiesce(&chain).await;
    let before: Vec<_> = house.deposits().await.iter().map(|d| d.id).collect();

    let mut txs = chain.rewind(2);
    txs.reverse();
    chain.mine(Vec::new());
    chain.mine(txs);
    chain.mine(Vec::new());
    house.quiesce(&chain).await;
    let mut after: Vec<_> = house.deposits().await.iter().map(|d| (d.id, d.block_number)).collect();
    after.sort();
    let mut expected: Vec<_> = before.iter().map(|id| (*id, 2)).collect();
    expected.sort();
    assert_eq!(after, expected);

    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
    assert_eq!(house.balance("bolt").await, "2000");
    let detail = house.store.deposit(before[0]).await.unwrap().unwrap();
    let canonical: Vec<bool> = detail.sightings.iter().map(|s| s.canonical).collect();
    assert_eq!(canonical, [false, true], "both sightings are kept");
    house.verify().await;
}

#[tokio::test]
async fn a_dropped_payment_is_not_credited_and_not_forgotten() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    let dropped = chain.rewind(1);
    mine_empty(&chain, 6);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["orphaned"]);
    assert_eq!(house.balance("acme").await, "0");
    chain.mine(dropped);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(house.balance("acme").await, "1000");
}

#[tokio::test]
async fn a_remined_transfer_is_credited_with_the_amount_it_has_now() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    chain.rewind(1);
    // The same transaction, but a fee was switched on before it was mined again.
    chain.mine(vec![pay(1, USDC, 0, 900_000)]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "900");
    assert_eq!(house.deposits().await.len(), 1);
    house.verify().await;
}

#[tokio::test]
async fn the_same_head_twice_and_late_heads_of_an_old_fork_change_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    let old = chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    chain.announce(old);
    assert_eq!(house.watch(&chain).await.unwrap(), Watched::Idle);

    let txs = chain.rewind(1);
    chain.mine(Vec::new());
    let new = chain.mine(txs);
    house.quiesce(&chain).await;
    for late in [old, new, old] {
        chain.announce(late);
        assert_eq!(house.watch(&chain).await.unwrap(), Watched::Idle);
    }
    chain.mine(Vec::new());
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
}

#[tokio::test]
async fn a_reorg_deeper_than_the_window_stops_the_chain_and_changes_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(2);
    rules.window = 5;
    let mut house = House::new(rules).await;
    for i in 0..20 {
        chain.mine(vec![pay(i, USDC, 0, 1_000_000)]);
        house.quiesce(&chain).await;
    }
    chain.rewind(10);
    mine_empty(&chain, 12);
    let before = house.store.chain_state(CHAIN, 5).await.unwrap();
    let ledger = house.ledger().await;
    assert!(matches!(house.watch(&chain).await, Err(WatchError::TooDeep { .. })));
    // It stands still, also when the node is repaired, until somebody decides.
    for _ in 0..2 {
        assert_eq!(house.watch(&chain).await.unwrap(), Watched::Halted);
        house.settle(&chain).await;
    }
    let after = house.store.chain_state(CHAIN, 5).await.unwrap();
    assert_eq!((after.cursor, after.view), (before.cursor, before.view));
    let halt = after.halted.unwrap();
    assert_eq!((halt.floor, halt.provider.as_str(), halt.found.number), (15, "scripted", 22));
    assert_eq!(house.ledger().await, ledger);

    // The operator decides for the new fork: everything above is taken back and read again.
    let back_to = chain.canonical()[10].0;
    assert_eq!(house.store.resume(CHAIN, Some(back_to), 0).await.unwrap(), 10);
    house.quiesce(&chain).await;
    house.verify().await;
    assert_eq!(house.store.scan_gap(CHAIN).await.unwrap(), None);
    assert_eq!(house.ledger().await.len(), 10 + 2 * 9, "nine credits of the old fork are undone");
    assert_eq!(house.balance("acme").await, "10000");
}

#[tokio::test]
async fn catch_up_by_range_gives_what_block_by_block_gives() {
    let chain = ScriptedChain::new(GENESIS_MS);
    for i in 0..300u64 {
        chain.mine(vec![pay(i, USDC, (i % 6) as usize, u128::from(i + 1) * 1_000_000)]);
    }
    let mut ranges = House::new(rules(3)).await;
    ranges.rules.window = 10;
    ranges.rules.range_max = 17;
    ranges.quiesce(&chain).await;
    let mut blocks = House::new(rules(3)).await;
    blocks.rules.window = 1_000;
    blocks.quiesce(&chain).await;
    assert_eq!(ranges.ledger().await, blocks.ledger().await);
    assert_eq!(ranges.ledger().await.len(), 298);
    ranges.verify().await;
}

#[tokio::test]
async fn a_reorg_while_the_daemon_was_down_for_longer_than_the_window() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(6)).await;
    house.rules.window = 10;
    mine_empty(&chain, 30);
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    chain.mine(vec![pay(2, USDC, 1, 2_000_000)]);
    house.quiesce(&chain).await;
    let txs = chain.rewind(3);
    chain.mine(Vec::new());
    chain.mine(txs);
    mine_empty(&chain, 50);
    house.restart().await;
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
    assert_eq!(house.balance("bolt").await, "2000");
    house.verify().await;
}

#[tokio::test]
async fn dust_accumulates_until_it_is_worth_crediting() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    for i in 0..3 {
        chain.mine(vec![pay(i, USDT, 0, 300_000)]);
        house.quiesce(&chain).await;
        assert_eq!(house.balance("acme").await, "0");
    }
    // Another namespace's dust does not help.
    chain.mine(vec![pay(10, USDT, 1, 300_000)]);
    house.quiesce(&chain).await;
    let dust = Stage::Held(HoldReason::Dust);
    let stages: Vec<Stage> = house.deposits().await.iter().map(|d| d.stage).collect();
    assert_eq!(count(&stages, dust), 4);
    chain.mine(vec![pay(4, USDT, 0, 100_000)]);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
    let stages: Vec<Stage> = house.deposits().await.iter().map(|d| d.stage).collect();
    assert_eq!((count(&stages, dust), count(&stages, Stage::Credited)), (1, 4));
    house.verify().await;
}

#[tokio::test]
async fn which_dust_is_released_does_not_depend_on_when_somebody_looks() {
    // Found by the interleavings: whoever looked late released one more.
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut often = House::new(rules(1)).await;
    for (i, amount) in (0..).zip([250_000, 500_000, 500_000, 500_000, 300_000]) {
        chain.mine(vec![pay(i, USDT, 0, amount)]);
        often.quiesce(&chain).await;
    }
    let mut once = House::new(rules(1)).await;
    once.quiesce(&chain).await;
    assert_eq!(often.ledger().await, once.ledger().await);
    assert_eq!(once.balance("acme").await, "1250");
}

#[tokio::test]
async fn value_decides_how_deep_is_deep_enough() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    let up_to = |usd: &str| Some(usd.parse().unwrap());
    rules.policy = Policy::new(vec![
        Tier { up_to_usd: up_to("100"), finality: Finality::Confirmations(2) },
        Tier { up_to_usd: up_to("1000"), finality: Finality::Safe },
        Tier { up_to_usd: None, finality: Finality::Finalized },
    ])
    .unwrap();
    let mut house = House::new(rules).await;
    house.rules.window = 200;
    mine_empty(&chain, 40);
    chain.mine(vec![
        pay(1, USDC, 0, 100_000_000),
        pay(2, USDC, 0, 100_000_001),
        pay(3, USDC, 0, 1_000_000_001),
        pay(4, RTITY, 0, 10u128.pow(18)), // its dollars are not known: the strictest
    ]);
    let mut credited = Vec::new();
    for depth in 1..=70 {
        house.quiesce(&chain).await;
        let stages = house.stages().await;
        credited.push((depth, stages.iter().filter(|s| *s == "credited").count()));
        chain.mine(Vec::new());
    }
    credited.dedup_by_key(|(_, n)| *n);
    assert_eq!(credited, [(1, 0), (2, 1), (33, 2), (65, 4)]);
}

#[tokio::test]
async fn a_first_start_at_the_tip_sees_what_comes_after() {
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 5);
    let mut rules = rules(1);
    rules.start = Start::Tip;
    let mut house = House::new(rules).await;
    house.quiesce(&chain).await;
    // The very first block scanned may be replaced.
    chain.rewind(2);
    chain.mine(Vec::new());
    chain.mine(vec![pay(2, USDC, 1, 1_000_000)]);
    chain.mine(vec![pay(3, USDC, 1, 1_000_000)]);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "0");
    assert_eq!(house.balance("bolt").await, "2000");
}

#[tokio::test]
async fn an_address_registered_while_running_is_seen_from_the_next_block_on() {
    for filter in [FilterKind::Tokens, FilterKind::Recipients] {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut rules = rules(1);
        rules.filter = filter;
        let mut house = House::new(rules).await;
        house.quiesce(&chain).await;
        // By another process, behind the daemon's back.
        let other = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
        other.import_address(&name("cafe"), address(77), 0).await.unwrap();
        chain.mine(vec![pay(1, USDC, 77, 1_000_000)]);
        house.quiesce(&chain).await;
        // Seen; what it sent on before, if anything, its old blocks say.
        assert_eq!(house.stages().await, ["pending"]);
        super::origin::read_old_blocks(&mut house, &chain).await;
        house.quiesce(&chain).await;
        assert_eq!(house.balance("cafe").await, "1000");
    }
}

#[tokio::test]
async fn a_source_that_fails_loses_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    for i in 0..30u64 {
        chain.mine(vec![pay(i, USDC, 0, 1_000_000)]);
        for failures in 0..4 {
            chain.fail(failures);
            let _ = house.watch(&chain).await;
            let _ = topupd::tasks::settle::settle(
                &house.rules,
                &only(&chain),
                &topupd::tasks::prices::market::Market::default(),
                &house.store,
                &house.clock,
            )
            .await;
        }
        chain.fail(0);
    }
    chain.mine(Vec::new());
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "30000");
    house.verify().await;
}

#[tokio::test]
async fn a_mainnet_configuration_is_refused_on_a_testnet_database() {
    let house = House::new(rules(1)).await;
    let error = Store::open(&house.database.database(), Network::Mainnet, 0).await.unwrap_err();
    assert!(matches!(error, StoreError::OtherNetwork { .. }), "{error}");
    house.verify().await;
}

#[tokio::test]
async fn every_block_is_covered_by_a_scan_record() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    house.rules.window = 8;
    house.rules.range_max = 7;
    mine_empty(&chain, 40);
    house.quiesce(&chain).await;
    for depth in [1, 3, 5] {
        chain.rewind(depth);
        mine_empty(&chain, depth + 2);
        house.quiesce(&chain).await;
    }
    let tip = chain.canonical().last().unwrap().0;
    let scans = house.sql("SELECT from_number, to_number FROM scans ORDER BY scan_id").await;
    let mut covered = -1;
    for scan in &scans {
        assert!(scan[0] <= covered + 1, "a gap before {}: {scans:?}", scan[0]);
        covered = scan[1];
    }
    assert_eq!(covered, i64::try_from(tip.number).unwrap());
}

#[tokio::test]
async fn blocks_outside_of_the_window_are_forgotten_unless_they_hold_sightings() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    house.rules.window = 10;
    for i in 0..50 {
        chain.mine(if i % 10 == 0 { vec![pay(i, USDC, 0, 1_000_000)] } else { vec![] });
        house.quiesce(&chain).await;
    }
    let kept = house.sql("SELECT COUNT(*) FROM blocks").await[0][0];
    assert_eq!(kept, 11 + 4);
}
