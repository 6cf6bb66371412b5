//! Prices that are read late: nobody keeps the state of the payment's block, and one provider lies about
//! the time of the block that is asked about instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{I256, U256};
use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::Verify;
use topupd::domain::oracle::source::Evidence;
use topupd::planted::{Fault, plant};
use topupd::tasks::prices::capture::capture;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::watch;

use super::feeds::*;
use super::support::*;

/// How many answers two providers gave with the time that one of them made up, and what was credited.
async fn told(liar: usize) -> (usize, String) {
    let mut rules = market_rules(3, fixed(), 3);
    rules.verify = Verify::SecondProvider;
    let mut house = House::new(rules).await;
    let chains = ["ann", "bob", "cyd"].map(|name| ScriptedChain::named(name, GENESIS_MS));
    for chain in &chains {
        mine_empty(chain, 4);
        let paid = chain.mine(vec![pay(1, USDC, 0, 10_000_000)]).time_ms;
        mine_empty(chain, 6);
        // The feeds are there in the state of later blocks only; their round is the payment's.
        let [rtity, dollar] = [2_000_000u64, 100_000_000].map(|p| I256::from_raw(U256::from(p)));
        for feed in RTITY_FEEDS {
            chain.set_answer(feed, paid + BLOCK_MS, round_of(rtity, paid));
        }
        chain.set_answer(USDC_FEED, paid + BLOCK_MS, round_of(dollar, paid));
    }
    chains[liar].shift_latest(2_400_000);
    let pool = Arc::new(Pool::admitted(chains.clone()));
    let market = Market {
        chains: BTreeMap::from([(CHAIN, (house.rules.clone(), Arc::clone(&pool)))]),
        ..Market::default()
    };
    for _ in 0..6 {
        house.clock.advance_ms(61_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        let _ = watch(rules, &pool, store, clock, &mut house.cache).await;
        capture(rules, &market, store, clock).await.unwrap();
        settle(rules, &pool, &market, store, clock).await.unwrap();
        chains.iter().for_each(|chain| mine_empty(chain, 1));
    }
    house.verify().await;
    let quotes = house.store.quotes_of(CHAIN, house.deposits().await[0].block_hash).await.unwrap();
    assert!(!quotes.is_empty());
    let blocks = chains[0].canonical();
    let made_up = quotes.iter().filter(|q| {
        let Evidence::Calls(calls) = q.evidence().unwrap() else { panic!("{q:?}") };
        let truth = blocks.iter().find(|(block, _)| block.hash == calls.block_hash).unwrap().0;
        q.providers.len() > 1 && calls.block_time_ms != truth.time_ms
    });
    (made_up.count(), house.balance("acme").await)
}

#[tokio::test]
async fn one_provider_fixes_no_time_of_a_late_reading() {
    for liar in 0..3 {
        assert_eq!(told(liar).await, (0, "25250".to_owned()), "500 RTITY at 50.5, liar {liar}");
    }
}

#[tokio::test]
async fn a_late_time_of_one_would_be_noticed() {
    plant(Some(Fault::LateTimeOfOne));
    let (made_up, _) = told(0).await;
    plant(None);
    assert!(made_up > 0);
}
