//! Credits whose ground is taken away: by one provider's word, by two, and given back.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::Verify;
use topupd::domain::ids::Network;
use topupd::store::{Snapshot, Store};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::confirming::Settled;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::watch;

use super::support::*;

/// Two providers that have seen the same: what is mined in the same order has the same hashes.
fn twins(blocks: u64) -> [ScriptedChain; 2] {
    ["ann", "bob"].map(|name| {
        let chain = ScriptedChain::named(name, GENESIS_MS);
        chain.seal_blocks();
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        mine_empty(&chain, blocks);
        chain
    })
}

const MODES: [Verify; 3] = [Verify::SecondProvider, Verify::ReceiptsRoot, Verify::SameProvider];

async fn house(verify: Verify) -> House {
    let mut rules = rules(3);
    rules.verify = verify;
    House::new(rules).await
}

async fn quiesce(house: &mut House, chains: &[ScriptedChain; 2]) -> Settled {
    let pool = Pool::admitted(chains.clone());
    let mut all = Settled::default();
    for _ in 0..20 {
        house.clock.advance_ms(61_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        let watched = watch(rules, &pool, store, clock, &mut house.cache).await.unwrap();
        let settled = settle(rules, &pool, &Market::default(), store, clock).await.unwrap();
        all.credited += settled.credited;
        all.reversed += settled.reversed;
        if watched == Watched::Idle && settled == Settled::default() {
            return all;
        }
    }
    panic!("does not come to rest");
}

#[tokio::test]
async fn one_provider_alone_takes_no_credit_back() {
    for verify in MODES {
        one_alone(verify).await;
    }
}

async fn one_alone(verify: Verify) {
    let chains = twins(5);
    let mut house = house(verify).await;
    assert_eq!(quiesce(&mut house, &chains).await.credited, 1);
    // The one that is asked first shows a fork without the payment, as deep as one likes.
    let dropped = chains[0].rewind(6);
    mine_empty(&chains[0], 12);
    assert_eq!(quiesce(&mut house, &chains).await, Settled::default());
    // Nobody else has it: it is not followed.
    assert!(house.store.unfounded(CHAIN).await.unwrap().is_empty());
    assert_eq!(house.balance("acme").await, "1000");
    // It comes back to the chain that everybody else has: nothing happened.
    chains[0].rewind(12);
    let blocks: Vec<_> = chains[1].canonical().into_iter().skip(1).collect();
    chains[0].adopt(&blocks);
    assert_eq!(quiesce(&mut house, &chains).await, Settled::default());
    assert_eq!(house.store.unfounded(CHAIN).await.unwrap().len(), 0);
    assert_eq!(dropped.len(), 1);
    house.verify().await;
}

#[tokio::test]
async fn two_take_it_back_and_the_same_deposit_is_credited_again_once() {
    let chains = twins(5);
    let mut house = house(Verify::SecondProvider).await;
    quiesce(&mut house, &chains).await;
    let before = house.deposits().await[0].id;
    let mut dropped = Vec::new();
    for chain in &chains {
        dropped = chain.rewind(6);
        mine_empty(chain, 3);
    }
    // The other block must be as deep as the policy asks before anything is undone.
    for chain in &chains {
        mine_empty(chain, 2);
    }
    assert_eq!(quiesce(&mut house, &chains).await.reversed, 1);
    assert_eq!(house.balance("acme").await, "0");
    assert_eq!(house.stages().await, ["reversed"]);
    house.verify().await;
    for chain in &chains {
        chain.mine(dropped.clone());
        mine_empty(chain, 2);
    }
    assert_eq!(quiesce(&mut house, &chains).await.credited, 1);
    assert_eq!(house.deposits().await[0].id, before, "a deposit keeps its id");
    assert_eq!(house.balance("acme").await, "1000");
    let kinds = house.sql("SELECT COUNT(*) FROM records WHERE kind LIKE 'deposit_%'").await;
    assert_eq!(kinds, [[3]], "credited, reversed, credited again");
    // And once more, back and forth.
    for chain in &chains {
        chain.rewind(4);
        mine_empty(chain, 7);
    }
    assert_eq!(quiesce(&mut house, &chains).await.reversed, 1);
    assert_eq!(house.balance("acme").await, "0");
    house.verify().await;
}

/// A chain leaves its blocks for a fork that is deep enough, and comes back to the very same blocks:
/// credited, undone, and credited again in the same block.
#[tokio::test]
async fn a_chain_that_comes_back_to_its_old_blocks_credits_again_in_the_same_one() {
    let chains = twins(5);
    let mut house = house(Verify::SecondProvider).await;
    assert_eq!(quiesce(&mut house, &chains).await.credited, 1);
    let old: Vec<_> = chains[0].canonical().into_iter().skip(1).collect();
    for turn in 1..=2 {
        for chain in &chains {
            chain.rewind(6);
            mine_empty(chain, 8);
        }
        assert_eq!(quiesce(&mut house, &chains).await.reversed, 1);
        assert_eq!(house.balance("acme").await, "0");
        house.verify().await;
        for chain in &chains {
            chain.rewind(8);
            chain.adopt(&old);
            mine_empty(chain, 9);
        }
        assert_eq!(quiesce(&mut house, &chains).await.credited, 1);
        assert_eq!(house.balance("acme").await, "1000");
        house.verify().await;
        let rows = house.sql("SELECT reversals FROM confirmations ORDER BY reversals").await;
        assert_eq!(rows.len(), turn + 1, "one confirmation a credit");
        for chain in &chains {
            chain.rewind(9);
        }
    }
    // Whoever verifies before a copy or a backup finds nothing wrong, and neither does the copy.
    let copy = TestDatabase::new(crate::ENGINE).await;
    let target = Store::open(&copy.database(), Network::Testnet, GENESIS_MS).await.unwrap();
    house.store.copy_to(&target, Snapshot::Running, |_, _, _| {}).await.unwrap();
    target.verify().await.unwrap().unwrap();
    target.close().await;
}
