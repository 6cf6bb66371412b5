//! The same coins are credited once: what moves between our own addresses, or goes out and comes
//! back, is no new money until people say so.

use alloy::primitives::Address;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog, ScriptedTx};
use topupd::domain::chain_rules::FilterKind;
use topupd::planted::{Fault, plant};
use topupd::store::Act;
use topupd::tasks::rescan::backfill;
use topupd::tasks::rescan::outcome::{LookCache, Looked};

use super::support::*;

const UNITS: u128 = 1_000_000_000; // 1,000 USDC
const ALL: [FilterKind; 3] = [FilterKind::Tokens, FilterKind::Recipients, FilterKind::Auto];

fn moves(id: u64, from: Address, to: Address) -> ScriptedTx {
    tx(id, vec![ScriptedLog::transfer(USDC, from, to, UNITS)])
}

async fn house(confirmations: u64, filter: FilterKind) -> House {
    let mut rules = rules(confirmations);
    rules.filter = filter;
    House::new(rules).await
}

pub async fn read_old_blocks(house: &mut House, chain: &ScriptedChain) {
    let mut cache = LookCache::new(&house.rules);
    for _ in 0..100 {
        let (rules, store) = (&house.rules, &house.store);
        let looked = backfill(rules, &only(chain), store, &house.clock, &mut cache).await.unwrap();
        // Whatever is settled in between must not be more than it may be.
        house.settle(chain).await;
        if looked == Looked::Idle {
            return;
        }
    }
    panic!("never ends");
}

/// Credits of all namespaces, in thousands: one for each USDC that was credited.
async fn credited(house: &House) -> i64 {
    house
        .sql("SELECT CAST(COALESCE(SUM(posted_nano), 0) / 1000000000000 AS BIGINT) FROM journals")
        .await[0][0]
}

/// 1,000 units arrive once, and move six times between two imported addresses.
async fn passed_round(house: &mut House, chain: &ScriptedChain) {
    chain.mine(vec![pay(0, USDC, 0, UNITS)]);
    for id in 1..=6 {
        let (from, to) = if id % 2 == 1 { (0, 1) } else { (1, 0) };
        chain.mine(vec![moves(id, address(from), address(to))]);
        house.quiesce(chain).await;
    }
    mine_empty(chain, 2);
    house.quiesce(chain).await;
}

#[tokio::test]
async fn coins_that_move_between_our_addresses_are_credited_once() {
    for filter in ALL {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = house(1, filter).await;
        passed_round(&mut house, &chain).await;
        assert_eq!(credited(&house).await, 1_000, "{filter:?}");
        let held = ["held (internal_transfer)"; 6].to_vec();
        assert_eq!(house.stages().await, [vec!["credited"], held].concat(), "{filter:?}");
        assert_eq!(house.sql("SELECT COUNT(*) FROM outgoing").await, [[6]], "{filter:?}");
        let findings = house.store.findings(9).await.unwrap();
        assert!(findings.iter().all(|f| f.kind == "outflow_of_imported_address"));
        // What the other one received was held by its sender: nobody asked what left it.
        assert_eq!(findings.len(), 1, "{filter:?}");
        house.verify().await;
    }
}

#[tokio::test]
async fn without_the_hold_they_would_be_credited_each_time() {
    plant(Some(Fault::InternalMoney));
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(1, FilterKind::Tokens).await;
    passed_round(&mut house, &chain).await;
    plant(None);
    assert_eq!(credited(&house).await, 7_000);
}

#[tokio::test]
async fn two_people_release_what_a_machine_cannot_tell_from_credited_money() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(1, FilterKind::Tokens).await;
    chain.mine(vec![moves(1, address(0), address(1))]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (internal_transfer)"]);
    let id = house.deposits().await[0].id;
    let act = async |act: Act, who: &str| house.act(id, &act, who).await;
    let proposal = act(Act::ProposeRelease, "alice").await.unwrap();
    let approve = approval(&house.store, proposal).await;
    let same = act(approve.clone(), "Alice").await.unwrap_err();
    assert!(same.to_string().contains("another operator"), "{same}");
    let useless = act(Act::AcceptOutflows, "alice").await.unwrap_err();
    assert!(useless.to_string().contains("would not help"), "{useless}");
    act(approve, "bob").await.unwrap();
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(house.balance("bolt").await, "1000000");
    house.verify().await;
}

#[tokio::test]
async fn a_release_is_for_one_block_and_one_mined_again_is_held_again() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(2, FilterKind::Recipients).await;
    mine_empty(&chain, 1);
    chain.mine(vec![moves(1, address(0), address(1))]);
    mine_empty(&chain, 1);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (internal_transfer)"]);
    let id = house.deposits().await[0].id;
    house.act(id, &Act::ProposeRelease, "alice").await.unwrap();
    let moved = chain.rewind(2);
    mine_empty(&chain, 2);
    chain.mine(moved);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (internal_transfer)"]);
    let proposal = house.store.acts_of(id).await.unwrap()[0].id;
    let approve = approval(&house.store, proposal).await;
    let stale = house.act(id, &approve, "bob").await.unwrap_err();
    assert!(stale.to_string().contains("another block"), "{stale}");
    // The row of the orphaned block is a fact of that block; the canonical one counts.
    let rows = house
        .sql(
            "SELECT b.canonical FROM outgoing o JOIN blocks b ON b.block_hash = o.block_hash
             ORDER BY b.canonical",
        )
        .await;
    assert_eq!(rows, [[0], [1]]);
    assert_eq!(credited(&house).await, 0);
    house.verify().await;
}

#[tokio::test]
async fn deposit_addresses_that_are_swept_together_are_credited_once() {
    for filter in ALL {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = house(1, filter).await;
        let mut derived = Vec::new();
        for _ in 0..3 {
            derived.push(house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap().address);
        }
        chain.mine(vec![moves(1, PAYER, derived[0]), moves(2, PAYER, derived[1])]);
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        chain.mine(vec![moves(3, derived[0], derived[2]), moves(4, derived[1], derived[2])]);
        // Far behind from here on.
        mine_empty(&chain, 200);
        house.quiesce(&chain).await;
        // Its key is ours: what leaves it raises no doubt about what comes later.
        chain.mine(vec![moves(5, PAYER, derived[0])]);
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        assert_eq!(credited(&house).await, 3_000, "{filter:?}");
        let mut stages = house.stages().await;
        stages.sort();
        let held = "held (internal_transfer)";
        assert_eq!(stages, ["credited", "credited", "credited", held, held], "{filter:?}");
        // The blocks of outgoing transfers are kept.
        assert_eq!(house.sql("SELECT COUNT(*) FROM outgoing").await, [[2]], "{filter:?}");
        assert!(house.store.findings(9).await.unwrap().is_empty());
        house.verify().await;
    }
}

#[tokio::test]
async fn an_address_registered_before_a_payment_is_final_is_a_sender_of_ours() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(3, FilterKind::Tokens).await;
    let wallet = address(40);
    chain.mine(vec![moves(1, wallet, address(0))]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["pending"]);
    house.store.import_address(&name("bolt"), wallet, 0).await.unwrap();
    read_old_blocks(&mut house, &chain).await;
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (internal_transfer)"]);
}

#[tokio::test]
async fn a_backfill_credits_nothing_that_was_credited_further_on() {
    for filter in ALL {
        for step in [1, 1_000] {
            let chain = ScriptedChain::new(GENESIS_MS);
            let mut house = house(1, filter).await;
            house.rules.range_max = step;
            let wallet = address(40);
            chain.mine(vec![moves(1, PAYER, wallet)]);
            mine_empty(&chain, 3);
            chain.mine(vec![moves(2, wallet, address(0))]);
            mine_empty(&chain, 3);
            chain.mine(vec![moves(3, PAYER, wallet)]);
            mine_empty(&chain, 80);
            house.quiesce(&chain).await;
            assert_eq!(credited(&house).await, 1_000);
            house.store.import_address(&name("bolt"), wallet, 0).await.unwrap();
            read_old_blocks(&mut house, &chain).await;
            house.quiesce(&chain).await;
            // What it was paid first is at acme already; what came later may be passed round.
            assert_eq!(credited(&house).await, 1_000, "{filter:?} {step}");
            let mut deposits = house.deposits().await;
            deposits.sort_by_key(|d| d.block_number);
            let stages: Vec<_> = deposits.iter().map(|d| d.stage.to_string()).collect();
            let held = ["held (internal_transfer)", "credited", "held (custody_doubt)"];
            assert_eq!(stages, held, "{filter:?} {step}");
            // One operator accepts what left it; that is not enough for the first.
            let accept = Act::AcceptOutflows;
            let id = deposits[2].id;
            house.act(id, &accept, "alice").await.unwrap();
            house.clock.advance_ms(100_000);
            house.quiesce(&chain).await;
            assert_eq!(credited(&house).await, 2_000, "{filter:?} {step}");
            assert_eq!(
                house.deposits().await.iter().filter(|d| d.stage.to_string() == held[0]).count(),
                1
            );
            house.verify().await;
        }
    }
}

#[tokio::test]
async fn coins_that_an_owner_passes_round_through_outside_wallets_are_held() {
    for filter in ALL {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = house(1, filter).await;
        let outside = Address::repeat_byte(0xdd);
        // A stranger can move nothing in its name, or anything of a worthless contract: no doubt.
        let zero = ScriptedLog::transfer(USDC, address(0), outside, 0);
        let worthless = ScriptedLog::transfer(UNLISTED, address(0), outside, UNITS);
        chain.mine(vec![tx(90, vec![zero, worthless])]);
        for round in 0..3 {
            chain.mine(vec![moves(10 + round, outside, address(0))]);
            mine_empty(&chain, 1);
            house.quiesce(&chain).await;
            chain.mine(vec![moves(20 + round, address(0), outside)]);
        }
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        assert_eq!(credited(&house).await, 1_000, "{filter:?}");
        let held = "held (custody_doubt)";
        assert_eq!(house.stages().await, ["credited", held, held], "{filter:?}");
        assert_eq!(house.sql("SELECT COUNT(*) FROM outgoing").await, [[3]], "{filter:?}");
        // An operator looks, once: what waits goes on, and what leaves after that is new.
        let id = house.deposits().await[1].id;
        house.act(id, &Act::AcceptOutflows, "alice").await.unwrap();
        house.quiesce(&chain).await;
        assert_eq!(credited(&house).await, 3_000, "{filter:?}");
        chain.mine(vec![moves(30, address(0), outside)]);
        chain.mine(vec![moves(31, outside, address(0))]);
        mine_empty(&chain, 1);
        house.quiesce(&chain).await;
        assert_eq!(house.stages().await[3], held, "{filter:?}");
        house.verify().await;
    }
}
