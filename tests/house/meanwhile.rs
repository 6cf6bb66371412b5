//! An address is registered while a step is under way that does not know it: what came to it in the blocks of that
//! step is found all the same, once.

use alloy::primitives::Address;
use topupd::chain::pool::Pool;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::chain_rules::FilterKind;
use topupd::planted::{Fault, crash_after, plant};
use topupd::store::Store;
use topupd::tasks::errors::WatchError;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::watch;

use super::odd_logs::Bent;
use super::origin::read_old_blocks;
use super::support::*;

const UNITS: u128 = 1_000_000_000; // 1,000 USDC

impl House {
    /// A step, while whose logs are read this address is registered.
    pub async fn watch_while(
        &mut self,
        chain: &ScriptedChain,
        (namespace, address): (&str, Address),
    ) -> Result<Watched, WatchError> {
        self.clock.advance_ms(1_000);
        let registers = (Store::clone(&self.store), name(namespace), address);
        let pool = Pool::admitted([Bent::while_read(chain, registers)]);
        watch(&self.rules, &pool, &self.store, &self.clock, &mut self.cache).await
    }

    /// Everything is scanned, also what is asked for again.
    pub async fn read_all(&mut self, chain: &ScriptedChain) {
        self.quiesce(chain).await;
        read_old_blocks(self, chain).await;
        self.quiesce(chain).await;
    }
}

/// How a step comes to know only some of the addresses.
const WAYS: [(FilterKind, u64); 3] = [
    // Near the tip, and only logs to those known are asked for.
    (FilterKind::Recipients, 3),
    // Far behind: by range.
    (FilterKind::Recipients, 100),
    (FilterKind::Tokens, 100),
];

/// Pays an address in blocks that a step scans while it is registered, before and after. Returns the balance.
async fn told((filter, blocks): (FilterKind, u64)) -> String {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    (rules.filter, rules.window) = (filter, 8);
    let mut house = House::new(rules).await;
    mine_empty(&chain, 2);
    chain.mine(vec![pay(1, USDC, 20, UNITS)]);
    house.quiesce(&chain).await;
    chain.mine(vec![pay(2, USDC, 20, UNITS)]);
    mine_empty(&chain, blocks);
    chain.mine(vec![pay(3, USDC, 20, UNITS), pay(4, USDC, 0, UNITS)]);
    let before = house.store.cursor(CHAIN).await.unwrap();
    let watched = house.watch_while(&chain, ("bolt", address(20))).await.unwrap();
    assert!(matches!(watched, Watched::Advanced { .. }), "it does not stop for that: {watched:?}");
    assert_ne!(before, house.store.cursor(CHAIN).await.unwrap());
    chain.mine(vec![pay(5, USDC, 20, UNITS)]);
    mine_empty(&chain, 2);
    house.read_all(&chain).await;
    assert_eq!(house.balance("acme").await, "1000000");
    house.verify().await;
    // Once it is known, nothing more is read for it.
    let known = "SELECT known_address_id - (SELECT MAX(address_id) FROM addresses) FROM cursors";
    assert_eq!(house.sql(known).await, [[0]]);
    assert!(house.store.open_backfills(CHAIN).await.unwrap().is_empty());
    house.balance("bolt").await
}

#[tokio::test]
async fn what_a_step_scans_without_an_address_is_read_again_for_it() {
    for way in WAYS {
        assert_eq!(told(way).await, "4000000", "{way:?}");
    }
}

#[tokio::test]
async fn what_is_not_read_again_would_be_noticed() {
    plant(Some(Fault::NewerUnread));
    let mut balances = Vec::new();
    for way in WAYS {
        balances.push(told(way).await);
    }
    plant(None);
    assert!(balances.iter().all(|balance| balance != "4000000"), "{balances:?}");
}

#[tokio::test]
async fn whoever_dies_between_a_step_and_the_next_one_has_missed_nothing() {
    for commits in 0..3 {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut rules = rules(1);
        rules.filter = FilterKind::Recipients;
        let mut house = House::new(rules).await;
        mine_empty(&chain, 2);
        house.quiesce(&chain).await;
        chain.mine(vec![pay(1, USDC, 20, UNITS)]);
        // The import, the step, and the request for what it scanned.
        crash_after(Some(commits));
        let _ = house.watch_while(&chain, ("bolt", address(20))).await;
        let _ = house.watch(&chain).await;
        crash_after(None);
        house.restart().await;
        if commits == 0 {
            house.store.import_address(&name("bolt"), address(20), GENESIS_MS).await.unwrap();
        }
        house.read_all(&chain).await;
        assert_eq!(house.balance("bolt").await, "1000000", "{commits}");
        house.verify().await;
    }
}

#[tokio::test]
async fn the_first_steps_of_a_chain_are_read_again_too() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    rules.filter = FilterKind::Recipients;
    let mut house = House::new(rules).await;
    chain.mine(vec![pay(1, USDC, 20, UNITS)]);
    house.watch_while(&chain, ("bolt", address(20))).await.unwrap();
    // Another one, of which it is noted where the chain stands, explains nothing about the first.
    house.store.import_address(&name("bolt"), address(21), GENESIS_MS).await.unwrap();
    house.read_all(&chain).await;
    assert_eq!(house.balance("bolt").await, "1000000");
    house.verify().await;
}

#[tokio::test]
async fn a_fork_that_is_scanned_without_an_address_is_read_again_from_where_it_begins() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(3);
    rules.filter = FilterKind::Recipients;
    let mut house = House::new(rules).await;
    mine_empty(&chain, 6);
    house.quiesce(&chain).await;
    // The cursor of the import lies above the blocks that are scanned anew.
    chain.rewind(2);
    chain.mine(vec![pay(1, USDC, 20, UNITS)]);
    mine_empty(&chain, 2);
    house.watch_while(&chain, ("bolt", address(20))).await.unwrap();
    mine_empty(&chain, 4);
    house.read_all(&chain).await;
    assert_eq!(house.balance("bolt").await, "1000000");
    house.verify().await;
}

#[tokio::test]
async fn no_payment_goes_on_before_it_is_known_what_was_scanned_without_its_address() {
    // 1,000 come to an address before it is registered, and are passed on while it is.
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    rules.filter = FilterKind::Recipients;
    let mut house = House::new(rules).await;
    let wallet = address(20);
    let moves = |id, from, to| tx(id, vec![ScriptedLog::transfer(USDC, from, to, UNITS)]);
    chain.mine(vec![moves(1, PAYER, wallet)]);
    house.quiesce(&chain).await;
    chain.mine(vec![moves(2, wallet, address(0))]);
    house.watch_while(&chain, ("bolt", wallet)).await.unwrap();
    // What was asked for when it was imported is read before the next step, and settled at once.
    read_old_blocks(&mut house, &chain).await;
    mine_empty(&chain, 3);
    house.read_all(&chain).await;
    let (acme, bolt) = (house.balance("acme").await, house.balance("bolt").await);
    assert_eq!(
        (acme.as_str(), bolt.as_str()),
        ("0", "1000000"),
        "once, where it came from outside"
    );
    house.verify().await;
}
