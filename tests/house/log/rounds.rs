//! What waits gets its place: in rounds, in order, once; and what is told stays told.

use alloy::primitives::B256;
use sha2::{Digest, Sha256};
use topupd::domain::log::tree::{Hash, Root};
use topupd::store::{ROUND_MAX, Round, StoreError};

use super::*;

/// RFC 6962 §2.1 as it stands there, over all leaves: the yardstick.
pub fn naive_root(entries: &[Vec<u8>]) -> [u8; 32] {
    match entries {
        [] => Sha256::digest([]).into(),
        [one] => Sha256::new_with_prefix([0]).chain_update(one).finalize().into(),
        more => {
            let half = (more.len() - 1).ilog2();
            let (left, right) = more.split_at(1 << half);
            let both = Sha256::new_with_prefix([1]).chain_update(naive_root(left));
            both.chain_update(naive_root(right)).finalize().into()
        }
    }
}

#[tokio::test]
async fn records_get_leaves_in_rounds_and_the_root_is_the_one_of_the_rfc() {
    let house = Logged::new().await;
    let before = house.goes_on().await.head.size;
    for (journal, count) in [(0, 700), (1, 3_300), (2, 5_000)] {
        house.write(journal, count).await;
    }
    let signer = house.signer.as_ref();
    let mut sizes = Vec::new();
    loop {
        match house.store.sequence(signer, false).await.unwrap() {
            Round::Went(went) => sizes.push(i64::try_from(went.records).unwrap()),
            Round::Idle => break,
            Round::Stopped(why) => panic!("{why}"),
        }
    }
    assert_eq!(sizes, [ROUND_MAX, ROUND_MAX, 9_000 - 2 * ROUND_MAX]);
    let state = house.state().await;
    assert_eq!(state.head.size, before + 9_000);
    let leaves = leaves(&house.database).await;
    in_their_order(&leaves);
    let seals: Vec<Vec<u8>> = leaves.into_iter().map(|(_, _, seal)| seal).collect();
    assert_eq!(state.head.root, Root(Hash(naive_root(&seals))));
    let verified = house.verify().await.unwrap();
    assert_eq!(
        (verified.size, verified.looked_at, verified.waiting),
        (before + 9_000, before + 9_000, 0)
    );
    assert!(verified.is_signed);
    assert_eq!(house.store.log_waiting().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn nothing_to_do_writes_nothing_and_signs_nothing_again() {
    let house = Logged::new().await;
    house.write(1, 3).await;
    let state = house.goes_on().await;
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    for closely in [false, true] {
        let round = house.store.sequence(house.signer.as_ref(), closely).await.unwrap();
        assert_eq!(round, Round::Idle);
    }
    assert_eq!(house.state().await, state);
    assert_eq!(std::fs::read_to_string(house.kept()).unwrap(), kept);
    assert_eq!(kept, state.checkpoint.unwrap().to_string());
}

/// The places say nothing against the numbers of a journal.
#[tokio::test]
async fn a_journal_keeps_its_order_whatever_the_places_say() {
    let house = Logged::unsigned().await;
    house.goes_on().await;
    house.write(1, 40).await;
    house.write(2, 40).await;
    let mut sql = house.meddle().await;
    let places = sql.ints("SELECT position, journal_id, seq FROM unlogged").await;
    sql.execute("DELETE FROM unlogged").await.unwrap();
    let shuffled = places.iter().rev().map(|row| row[1..].iter().copied().map(Cell::Int).collect());
    values(&mut sql, "unlogged (journal_id, seq)", shuffled.collect()).await;
    house.goes_on().await;
    in_their_order(&leaves(&house.database).await);
    house.verify().await.unwrap();
}

/// Someone who began earlier commits later: with places before those that were taken already.
#[tokio::test]
async fn what_is_committed_late_is_not_passed_over() {
    let house = Logged::new().await;
    house.goes_on().await;
    let late = house.write(1, 2).await;
    let mut sql = house.meddle().await;
    let places = sql.ints("SELECT position, journal_id, seq FROM unlogged").await;
    // Not committed yet, as far as anybody can see.
    sql.execute("DELETE FROM unlogged WHERE journal_id = 1").await.unwrap();
    house.write(2, 10).await;
    let size = house.goes_on().await.head.size;
    let rows = places.iter().map(|row| row.iter().copied().map(Cell::Int).collect());
    values(&mut sql, "unlogged (position, journal_id, seq)", rows.collect()).await;
    let state = house.goes_on().await;
    assert_eq!(state.head.size, size + u64::try_from(late.len()).unwrap());
    in_their_order(&leaves(&house.database).await);
    house.verify().await.unwrap();
}

#[tokio::test]
async fn events_get_numbers_without_gaps_and_none_twice() {
    let house = Logged::unsigned().await;
    house.goes_on().await;
    let began = house.state().await.feed_no;
    let mut sql = house.database.sql().await;
    let event = |n: u8| {
        let text = |text: &str| Cell::Text(text.to_owned());
        let mut row = vec![Cell::Bytes(vec![n; 32]), text("deposit.seen"), Cell::Null, Cell::Null];
        row.extend([text(&format!("event {n}")), text("{}"), Cell::Int(GENESIS_MS)]);
        row
    };
    let into = "events_new (event_id, kind, namespace_id, chain_id, subject, payload, at_ms)";
    values(&mut sql, into, (1..=5).map(event).collect()).await;
    house.goes_on().await;
    // One that was told already is told again, between two new ones.
    values(&mut sql, into, [6, 3, 7].map(event).to_vec()).await;
    house.goes_on().await;
    let fed = sql
        .rows(&format!(
            "SELECT feed_no, event_id FROM events WHERE feed_no > {began} ORDER BY feed_no"
        ))
        .await;
    let ids: Vec<u8> = fed
        .iter()
        .map(|row| match &row[1] {
            Cell::Bytes(id) => id[0],
            _ => 0,
        })
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7]);
    let numbers: Vec<Cell> = fed.into_iter().map(|mut row| row.remove(0)).collect();
    let expected: Vec<Cell> = (1..=7).map(|n| Cell::Int(began + n)).collect();
    assert_eq!(numbers, expected);
    assert_eq!(sql.ints("SELECT COUNT(*) FROM events_new").await, [[0]]);
}

#[tokio::test]
async fn sums_by_day_are_those_of_the_entries() {
    let house = Logged::unsigned().await;
    let first = house.write(1, 100).await;
    house.goes_on().await;
    let second = house.write(1, 50).await;
    house.goes_on().await;
    let mut expected: BTreeMap<(String, i64), (i128, i128)> = BTreeMap::new();
    for record in first.iter().chain(&second) {
        for entry in &record.entries {
            let day = record.recorded_at_ms / 86_400_000;
            let sums = expected.entry((entry.account.clone(), day)).or_default();
            match entry.side {
                topupd::domain::journal::Side::Debit => sums.0 += i128::from(entry.amount.nano()),
                topupd::domain::journal::Side::Credit => sums.1 += i128::from(entry.amount.nano()),
            }
        }
    }
    assert!(expected.len() > 2, "of more than a day");
    let rows = house
        .database
        .sql()
        .await
        .rows("SELECT account, day, debit, credit FROM account_days")
        .await;
    let found: BTreeMap<(String, i64), (i128, i128)> = rows
        .into_iter()
        .map(|row| match row.as_slice() {
            [Cell::Text(account), Cell::Int(day), Cell::Bytes(debit), Cell::Bytes(credit)] => {
                let sum = |bytes: &[u8]| i128::from_be_bytes(bytes.try_into().unwrap());
                ((account.clone(), *day), (sum(debit), sum(credit)))
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, expected);
}

/// The two rounds wait for each other, and each record gets one leaf.
#[tokio::test(flavor = "multi_thread")]
async fn two_rounds_at_once_are_one_after_the_other() {
    let house = Logged::new().await;
    house.goes_on().await;
    for _ in 0..8 {
        for journal in [0, 1, 2] {
            house.write(journal, 20).await;
        }
        let signer = house.signer.as_ref();
        let round = || house.store.sequence(signer, false);
        let (one, two) = tokio::join!(round(), round());
        for round in [one, two] {
            match round {
                Ok(Round::Stopped(why)) => panic!("{why}"),
                Ok(_) => {}
                Err(error) => assert!(error.is_collision(), "{error}"),
            }
        }
    }
    house.goes_on().await;
    house.verify().await.unwrap();
    in_their_order(&leaves(&house.database).await);
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing_when_it_wakes() {
    let house = Logged::new().await;
    house.write(1, 5).await;
    let state = house.goes_on().await;
    house.write(1, 5).await;
    let plain =
        Store::open(&house.database.database(), Network::Testnet, GENESIS_MS).await.unwrap();
    let taken_over = held(plain, "another").await;
    let woken = house.store.sequence(house.signer.as_ref(), false).await;
    assert!(matches!(woken, Err(StoreError::Fenced { .. })), "{woken:?}");
    assert_eq!(house.state().await, state);
    let round = taken_over.sequence(house.signer.as_ref(), true).await.unwrap();
    assert!(matches!(round, Round::Went(went) if went.records == 5));
    house.verify().await.unwrap();
    taken_over.close().await;
}

/// What a leaf is over is what the record says now, not what the log remembers.
#[tokio::test]
async fn a_seal_is_the_entry_of_a_leaf() {
    let house = Logged::new().await;
    let [record] = house.write(1, 1).await.try_into().unwrap();
    house.goes_on().await;
    let place = topupd::store::RecordPlace { journal: record.journal, seq: record.seq };
    let proved = house.store.prove_record(place).await.unwrap();
    assert_eq!(proved.record, record);
    assert!(proved.file.verify_unsigned(record.seal.as_slice()).is_ok());
    assert!(proved.file.verify_unsigned(B256::ZERO.as_slice()).is_err());
}
