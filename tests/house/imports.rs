//! Many addresses at once: all or none of them, once, and as careful with old money as one at a time.

use alloy::primitives::{Address, keccak256};
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::chain_rules::FilterKind;
use topupd::domain::ids::AddressId;
use topupd::store::{BackfillKind, Imported, LookOutcome, NewAddress, Progress, SecondLook};
use topupd::tasks::rescan::backfill;
use topupd::tasks::rescan::outcome::{LookCache, Looked};

use super::origin::read_old_blocks;
use super::support::*;

const UNITS: u128 = 1_000_000_000; // 1,000 USDC

fn many(namespace: &str, ids: std::ops::Range<u32>) -> Vec<NewAddress> {
    let address = |i: u32| Address::from_word(keccak256(i.to_be_bytes()));
    ids.map(|i| NewAddress { namespace: name(namespace), address: address(i) }).collect()
}

async fn imported(house: &House, batch: &[NewAddress]) -> Imported {
    house.store.import_addresses(batch, &[], GENESIS_MS).await.unwrap()
}

#[tokio::test]
async fn many_are_bound_once_and_all_of_them_or_none() {
    let house = House::new(rules(1)).await;
    let before = house.store.book().await.unwrap();
    let mut batch = many("acme", 0..9_001);
    batch.extend(many("bolt", 9_001..9_010));
    assert_eq!(imported(&house, &batch).await, Imported::All { new: 9_010 });
    assert_eq!(imported(&house, &batch).await, Imported::All { new: 0 }, "again");
    // A namespace that is not there, one of another's, and one that is named twice: none is bound.
    let mut wrong = many("acme", 9_010..9_015);
    wrong.extend(many("nobody", 9_015..9_016));
    wrong.extend(many("bolt", 5..6));
    wrong.extend(many("bolt", 9_010..9_011));
    let Imported::Refused(why) = imported(&house, &wrong).await else { panic!() };
    let places: Vec<usize> = why.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [5, 6, 7], "{why:?}");
    assert!(why[0].1.contains("nobody") && why[1].1.contains("another namespace"), "{why:?}");
    wrong.truncate(5);
    wrong.extend(many("acme", 3..8));
    assert_eq!(imported(&house, &wrong).await, Imported::All { new: 5 });

    // All tasks have one table of them, and each sees what there was when it looked.
    let all = house.sql("SELECT COUNT(*), MAX(address_id) FROM addresses").await[0].clone();
    let book = house.store.clone().book().await.unwrap();
    assert_eq!(vec![i64::try_from(book.len()).unwrap(), i64::from(book.newest().0)], all);
    assert_eq!(all[0], all[1], "ids have no gaps");
    for NewAddress { address, .. } in &batch {
        assert!(book.get(address).is_some() && before.get(address).is_none());
        assert_eq!(book.get(address), house.store.book().await.unwrap().get(address));
    }
}

#[tokio::test]
async fn old_blocks_are_read_for_all_of_them_and_what_was_passed_on_is_not_credited_again() {
    for filter in [FilterKind::Tokens, FilterKind::Recipients, FilterKind::Auto] {
        for step in [1, 1_000] {
            let chain = ScriptedChain::new(GENESIS_MS);
            let mut rules = rules(1);
            (rules.filter, rules.range_max) = (filter, step);
            let mut house = House::new(rules).await;
            let late = many("bolt", 0..300);
            let wallet = late[7].address;
            let moves = |id, from, to| tx(id, vec![ScriptedLog::transfer(USDC, from, to, UNITS)]);
            chain.mine(vec![moves(1, PAYER, wallet)]);
            mine_empty(&chain, 3);
            chain.mine(vec![moves(2, wallet, address(0))]);
            chain.mine(vec![moves(3, PAYER, late[8].address)]);
            mine_empty(&chain, 80);
            house.quiesce(&chain).await;
            assert_eq!(house.stages().await, ["credited"]);
            assert_eq!(imported(&house, &late).await, Imported::All { new: 300 });
            // What comes to one of them meanwhile waits until it is known where its money went.
            chain.mine(vec![moves(4, PAYER, wallet)]);
            chain.mine(vec![moves(5, PAYER, address(1))]);
            mine_empty(&chain, 3);
            house.quiesce(&chain).await;
            let mut stages = house.stages().await;
            stages.sort();
            assert_eq!(stages, ["credited", "credited", "pending"], "{filter:?} {step}");
            read_old_blocks(&mut house, &chain).await;
            house.quiesce(&chain).await;
            let mut deposits = house.deposits().await;
            deposits.sort_by_key(|d| d.block_number);
            let stages: Vec<_> = deposits.iter().map(|d| d.stage.to_string()).collect();
            let (passed_on, doubt) = ("held (internal_transfer)", "held (custody_doubt)");
            let expected = [passed_on, "credited", "credited", doubt, "credited"];
            assert_eq!(stages, expected, "{filter:?} {step}");
            house.verify().await;
        }
    }
}

#[tokio::test]
async fn what_comes_while_old_blocks_are_read_is_read_with_it_and_missed_by_nobody() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut rules = rules(1);
    rules.range_max = 10;
    let mut house = House::new(rules).await;
    let late = many("bolt", 0..30);
    chain.mine(vec![
        pay(1, USDC, 0, 1),
        tx(2, late.iter().map(|l| ScriptedLog::transfer(USDC, PAYER, l.address, UNITS)).collect()),
    ]);
    mine_empty(&chain, 200);
    house.quiesce(&chain).await;

    // Two batches, nothing read in between: one backfill.
    imported(&house, &late[..5]).await;
    let old = house.store.open_backfills(CHAIN).await.unwrap();
    imported(&house, &late[5..10]).await;
    let open = house.store.open_backfills(CHAIN).await.unwrap();
    let [only_one] = open.as_slice() else { panic!("{open:?}") };
    let BackfillKind::Addresses { first, first_id, last_id } = only_one.kind else { panic!() };
    assert_eq!((first, last_id), (late[0].address, AddressId(first_id.0 + 9)));
    // Whoever read for the first five alone has not read for all.
    let look = SecondLook {
        chain: CHAIN,
        progress: Progress::Backfill(&old),
        to: 5,
        headers: Vec::new(),
        sightings: Vec::new(),
        outgoing: Vec::new(),
        logs_seen: 0,
        provider: "ann".into(),
        epochs: house.rules.epochs.all().len(),
        book_newest: AddressId(0),
        unlisted_per_day: 1,
        findings: Vec::new(),
    };
    let outcome = house.store.commit_second_look(&look, GENESIS_MS).await.unwrap();
    assert_eq!(outcome, LookOutcome::Stale);

    // One that comes when it is under way begins at the beginning, and both go on from where they meet.
    let pool = only(&chain);
    let mut cache = LookCache::new(&house.rules);
    let mut steps = 0;
    for number in 0.. {
        if [2, 4].contains(&number) {
            let ours = if number == 2 { 10..20 } else { 20..30 };
            imported(&house, &late[ours]).await;
            assert_eq!(house.store.open_backfills(CHAIN).await.unwrap().len(), number / 2 + 1);
        }
        let (rules, store) = (&house.rules, &house.store);
        if backfill(rules, &pool, store, &house.clock, &mut cache).await.unwrap() == Looked::Idle {
            break;
        }
        steps += 1;
    }
    // One pass takes some fourteen ranges of ten blocks, and a few of the newest blocks.
    assert!(steps < 30, "{steps}");
    house.quiesce(&chain).await;
    assert_eq!(house.balance("bolt").await, "30000000", "30 times 1,000 dollars");
    house.verify().await;
}

#[tokio::test]
async fn many_are_derived_in_one_go() {
    let house = House::new(rules(1)).await;
    house.store.import_address(&name("bolt"), xpub().address(2).unwrap(), 0).await.unwrap();
    let acme = name("acme");
    let made = house.store.new_addresses(&acme, &xpub(), false, 4, 0).await.unwrap();
    let indexes: Vec<_> = made.iter().filter_map(|row| row.derivation_index).collect();
    assert_eq!(indexes, [0, 1, 3, 4], "what is bound already is passed over");
    let next = house.store.new_address(&acme, &xpub(), 0).await.unwrap();
    assert_eq!(next.derivation_index, Some(5));
}
