//! Two transactions, one place: somebody numbers logs in a way of its own, or puts one transaction in
//! the place of another. Whatever was recorded first stays, and nothing waits without a reason.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::Verify;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::recheck;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::watch;

use super::support::*;

async fn house(verify: Verify) -> House {
    let mut rules = rules(1);
    rules.verify = verify;
    House::new(rules).await
}

fn named(names: &[&str]) -> Vec<ScriptedChain> {
    names.iter().map(|name| ScriptedChain::named(name, GENESIS_MS)).collect()
}

/// Watches, looks again and settles, some times.
async fn go_on(house: &mut House, chains: &[ScriptedChain], times: usize) {
    let pool = Pool::admitted(chains.to_vec());
    let mut look = LookCache::new(&house.rules);
    for _ in 0..times {
        house.clock.advance_ms(61_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        let _ = watch(rules, &pool, store, clock, &mut house.cache).await;
        let _ = recheck(rules, &pool, store, clock, &mut look).await;
        let _ = settle(rules, &pool, &Market::default(), store, clock).await;
    }
}

async fn stages_of(house: &House) -> Vec<(u64, String)> {
    let mut stages: Vec<_> = house
        .deposits()
        .await
        .iter()
        .map(|d| ((0..99).find(|id| tx_hash(*id) == d.tx_hash).unwrap(), d.stage.to_string()))
        .collect();
    stages.sort();
    stages
}

#[tokio::test]
async fn logs_numbered_within_each_transaction_hide_no_payment() {
    for (verify, held) in [
        (Verify::SecondProvider, "held (providers_disagree)"),
        (Verify::ReceiptsRoot, "held (receipt_mismatch)"),
    ] {
        let chains = named(&["ann", "bob", "cyd"]);
        let mut house = house(verify).await;
        for chain in &chains {
            chain.seal_blocks();
            chain.mine(
                (0..4u8).map(|i| pay(i.into(), USDC, usize::from(i % 3), 1_000_000)).collect(),
            );
            mine_empty(chain, 70);
        }
        chains[1].number_logs_per_tx();
        chains[2].number_logs_per_tx();
        go_on(&mut house, &chains, 30).await;
        for (id, stage) in stages_of(&house).await {
            assert_eq!(stage, if id == 0 { "credited" } else { held }, "payment {id}");
        }
        assert_eq!(house.deposits().await.len(), 4);
        let places = house.sql("SELECT log_index FROM sightings ORDER BY log_index").await;
        assert_eq!(places, [[0], [1], [2], [3]], "what was recorded first stays");
        let findings = house.store.findings(10).await.unwrap();
        if verify == Verify::SecondProvider {
            let disagree = findings.iter().filter(|f| f.kind == "providers_disagree").count();
            assert_eq!(disagree, 3, "{findings:?}");
        }
        house.verify().await;
    }
}

#[tokio::test]
async fn the_payment_in_whose_place_another_one_was_put_is_found_and_credited() {
    let chains = named(&["liar", "bob", "cyd"]);
    let mut house = house(Verify::SecondProvider).await;
    for (i, chain) in chains.iter().enumerate() {
        // The same log in the same block, of another transaction.
        chain.mine(vec![pay(if i == 0 { 9 } else { 1 }, USDC, 0, 1_000_000)]);
        mine_empty(chain, 70);
    }
    go_on(&mut house, &chains, 40).await;
    let expected = [(1, "credited".to_owned()), (9, "held (receipt_missing)".to_owned())];
    assert_eq!(stages_of(&house).await, expected);
    assert_eq!(house.balance("acme").await, "1000");
    house.verify().await;
}

/// A log is shown once more, in a later block, by one provider.
#[tokio::test]
async fn a_log_repeated_in_a_later_block_is_the_providers_nonsense() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Verify::SameProvider).await;
    chain.mine(vec![pay(1, USDT, 0, 500_000)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (dust)"]);
    chain.mine(vec![pay(1, USDT, 0, 500_000)]);
    match house.watch(&chain).await {
        Err(WatchError::Source(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(house.stages().await, ["held (dust)"]);
    let blocks = house.sql("SELECT COUNT(*) FROM blocks").await;
    assert_eq!(blocks, [[2]], "nothing of that answer was written");
}

/// Two and two say different things of a payment, and take turns in being away: nobody's answer is
/// recorded more than a few times.
#[tokio::test]
async fn what_is_corrected_again_and_again_is_held() {
    let chains = named(&["ann", "bob", "cyd", "dee", "eve"]);
    let mut house = house(Verify::SecondProvider).await;
    for (i, chain) in chains.iter().enumerate() {
        let amount = [9, 1, 1, 2, 2][i];
        chain.mine(vec![pay(1, USDC, 0, amount * 1_000_000)]);
        mine_empty(chain, 3);
    }
    let pool = Pool::admitted(chains.clone());
    let mut corrected = Vec::new();
    for turn in 0..16 {
        for (i, chain) in chains.iter().enumerate() {
            let here = i == 0 && turn == 0 || [1..=2, 3..=4][turn % 2].contains(&i);
            chain.fail(if here { 0 } else { u32::MAX });
        }
        // Ann shows the log; the depth is believed of those who are here.
        house.clock.advance_ms(61_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        let _ = watch(rules, &pool, store, clock, &mut house.cache).await;
        let _ = settle(rules, &pool, &Market::default(), store, clock).await;
        corrected.push(house.stages().await.concat());
    }
    let held = corrected.iter().position(|s| s == "held (providers_disagree)");
    assert!(held.is_some_and(|turn| turn < 6), "{corrected:?}");
    house.verify().await;
}

#[tokio::test]
async fn a_receipt_that_no_index_has_is_found_among_those_of_its_block() {
    for verify in [Verify::SecondProvider, Verify::SameProvider] {
        let chains = named(&["ann", "bob"]);
        let mut house = house(verify).await;
        for chain in &chains {
            chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
            mine_empty(chain, 3);
            chain.lose_index();
        }
        go_on(&mut house, &chains, 3).await;
        assert_eq!(house.stages().await, ["credited"], "{verify:?}");
    }
    // Of a block that it replaced, a node still has the receipts; they are no testimony.
    let mut rules = rules(3);
    rules.verify = Verify::SecondProvider;
    let (mut house, chains) = (House::new(rules).await, named(&["ann", "bob"]));
    for chain in &chains {
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        mine_empty(chain, 1);
    }
    go_on(&mut house, &chains, 1).await;
    assert_eq!(house.stages().await, ["pending"]);
    mine_empty(&chains[0], 3);
    chains[1].lose_index();
    chains[1].rewind(2);
    mine_empty(&chains[1], 5);
    go_on(&mut house, &chains, 1).await;
    assert_eq!(house.balance("acme").await, "0");
}

/// One provider shows a payment in two blocks. Where it was first, or where it is, others say.
#[tokio::test]
async fn a_payment_that_one_provider_shows_in_two_blocks_is_credited_where_it_is() {
    let (second, root) = (Verify::SecondProvider, Verify::ReceiptsRoot);
    for blocks_above in [10, 90] {
        for (verify, truth) in [(second, 1), (second, 3), (root, 1), (root, 3)] {
            let chains = named(&["liar", "bob", "cyd"]);
            let mut house = house(verify).await;
            let payment = |there| if there { vec![pay(1, USDC, 0, 1_000_000)] } else { Vec::new() };
            let (liar, honest) = chains.split_first().unwrap();
            honest.iter().for_each(ScriptedChain::seal_blocks);
            for number in 1..=3 + blocks_above {
                let mut header = None;
                for chain in honest {
                    header = Some(chain.mine(payment(number == truth)));
                }
                liar.adopt(&[(header.unwrap(), payment(number == 1 || number == 3))]);
            }
            go_on(&mut house, &chains, 20).await;
            let stages = stages_of(&house).await;
            assert_eq!(stages, [(1, "credited".to_owned())], "{verify:?}, in block {truth}");
            assert_eq!(house.deposits().await[0].block_number, truth);
            assert_eq!(house.balance("acme").await, "1000");
            house.verify().await;
        }
    }
}
