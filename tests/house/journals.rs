//! Journals and their records, as the commits write them: what is asked again is answered again, what was used of an
//! undone credit is owed, everything that is registered has its record, and what happens is told once.

use topupd::chain::scripted::ScriptedChain;
use topupd::domain::deposit::HoldReason;
use topupd::domain::journal::{AddressesBound, addresses_root};
use topupd::store::{Act, NewAddress};

use super::support::*;

/// One payment of 1,000 credits to acme, credited.
async fn credited() -> (House, ScriptedChain) {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    (house, chain)
}

async fn run(house: &House, statement: &str) {
    house.database.sql().await.execute(statement).await.unwrap();
}

#[tokio::test]
async fn what_is_asked_again_is_answered_with_what_was_written() {
    let (mut house, chain) = credited().await;
    let records = house.sql("SELECT journal_id, seq FROM records ORDER BY journal_id, seq").await;
    // As if the stage had been lost: its receipt is read again, and it is the same cause.
    run(&house, "UPDATE deposits SET stage = 'priced', record_seq = NULL").await;
    assert_eq!(house.settle(&chain).await.credited, 0);
    assert_eq!(house.stages().await, ["pending"]);
    assert_eq!(house.settle(&chain).await.credited, 0, "it is there");
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(
        house.sql("SELECT journal_id, seq FROM records ORDER BY journal_id, seq").await,
        records
    );
    assert_eq!(house.balance("acme").await, "1000");
    // Another cause under the same id is held.
    run(&house, "UPDATE deposits SET stage = 'priced', record_seq = NULL").await;
    house.rules.policy = rules(1).policy;
    house.settle(&chain).await;
    house.settle(&chain).await;
    let held = format!("held ({})", HoldReason::Conflict.as_str());
    assert_eq!(house.stages().await, [held]);
    assert_eq!(house.balance("acme").await, "1000");
}

#[tokio::test]
async fn what_was_used_of_an_undone_credit_is_owed_and_the_next_one_repays_it() {
    let (mut house, chain) = credited().await;
    // Nothing uses credits yet: 600 of these 1,000 are gone.
    let used = 600_000_000_000i64;
    run(&house, &format!("UPDATE lots SET remaining_nano = remaining_nano - {used}")).await;
    run(
        &house,
        &format!("UPDATE journals SET posted_nano = posted_nano - {used} WHERE journal_id = 1"),
    )
    .await;
    chain.rewind(4);
    mine_empty(&chain, 6);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["reversed"]);
    assert_eq!(house.balance("acme").await, "-600");
    assert_eq!(house.sql("SELECT debt_nano FROM journals WHERE journal_id = 1").await, [[used]]);
    chain.mine(vec![pay(2, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "400");
    assert_eq!(house.sql("SELECT debt_nano FROM journals WHERE journal_id = 1").await, [[0]]);
    let lots = "SELECT amount_nano, remaining_nano FROM lots ORDER BY lot_seq";
    let (all, left) = (1_000_000_000_000, 400_000_000_000);
    assert_eq!(house.sql(lots).await, [[all, 0], [all, left]]);
    // What was left of the first went back, and of the second the debt was repaid.
    let moves = "SELECT amount_nano FROM lot_moves ORDER BY seq, n";
    assert_eq!(house.sql(moves).await, [[-left], [-used]]);
    let reasons = "SELECT reason FROM lot_moves ORDER BY seq, n";
    let reasons = house.database.sql().await.texts(reasons).await;
    assert_eq!(reasons, ["reversal", "debt"]);
}

#[tokio::test]
async fn everything_that_is_registered_or_decided_has_its_record() {
    let house = House::new(rules(2)).await;
    house.store.new_addresses(&name("acme"), &xpub(), false, 3, GENESIS_MS).await.unwrap();
    let file: Vec<NewAddress> = (100..110)
        .map(|i| NewAddress { namespace: name(["acme", "bolt"][i % 2]), address: address(i) })
        .collect();
    house.store.import_addresses(&file, &[], GENESIS_MS).await.unwrap();
    let kinds =
        "SELECT kind || ' ' || CAST(COUNT(*) AS TEXT) FROM records GROUP BY kind ORDER BY kind";
    let kinds = house.database.sql().await.texts(kinds).await;
    // Two single ones each, three derived together, and one of each namespace in the file.
    let expected =
        ["addresses_bound 9", "epoch_added 1", "namespace_opened 3", "xpub_registered 1"];
    assert_eq!(kinds, expected);
    let first = "SELECT COUNT(*) FROM records WHERE seq = 1 AND kind = 'namespace_opened' AND journal_id > 0";
    assert_eq!(house.sql(first).await, [[3]]);
    // Each row names its record, which has the root over them.
    let mut sql = house.database.sql().await;
    let bound = "SELECT cause FROM records WHERE kind = 'addresses_bound' ORDER BY journal_id, seq";
    let (mut counted, causes) = (0, sql.texts(bound).await);
    let places = "SELECT journal_id, seq FROM records WHERE kind = 'addresses_bound' ORDER BY journal_id, seq";
    for (cause, place) in causes.iter().zip(sql.ints(places).await) {
        let bound: AddressesBound = serde_json::from_str(cause).unwrap();
        let rows = house.store.addresses(None, 1_000).await.unwrap();
        let ids = format!(
            "SELECT address_id FROM addresses WHERE namespace_id = {} AND record_seq = {} ORDER BY address_id",
            place[0], place[1]
        );
        let addresses: Vec<_> = sql
            .ints(&ids)
            .await
            .iter()
            .map(|id| rows[usize::try_from(id[0]).unwrap() - 1].address)
            .collect();
        assert_eq!(addresses_root(&addresses), bound.root, "{cause}");
        assert_eq!(addresses.len() as u64, bound.count);
        counted += bound.count;
    }
    assert_eq!(counted, 19);
    let sums = "SELECT addresses FROM journals ORDER BY journal_id";
    assert_eq!(house.sql(sums).await, [[0], [10], [7], [2]]);
    // Every record waits for the log.
    let waiting = "SELECT (SELECT COUNT(*) FROM records) - (SELECT COUNT(*) FROM unlogged)";
    assert_eq!(house.sql(waiting).await, [[0]]);
}

#[tokio::test]
async fn acts_are_records_of_the_house_with_their_operator() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(vec![pay(1, USDT, 0, 2_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    let id = house.deposits().await[0].id;
    run(&house, "UPDATE deposits SET stage = 'held', reason = 'no_epoch', record_seq = NULL").await;
    house.act(id, &Act::Retry, "alice").await.unwrap();
    let acts =
        "SELECT operator || ' ' || subject FROM records WHERE journal_id = 0 AND kind = 'act'";
    assert_eq!(house.database.sql().await.texts(acts).await, ["alice 1"]);
}

#[tokio::test]
async fn what_happens_to_a_payment_is_told_once() {
    let (mut house, chain) = credited().await;
    chain.rewind(4);
    mine_empty(&chain, 6);
    house.quiesce(&chain).await;
    let told = "SELECT kind FROM events_new ORDER BY position";
    let told = house.database.sql().await.texts(told).await;
    let expected = [
        "deposit.seen",
        "deposit.confirmed",
        "deposit.credited",
        "deposit.reversed",
        "finding.opened",
    ];
    let mut sorted = told.clone();
    sorted.sort();
    let mut wanted = expected.map(str::to_owned).to_vec();
    wanted.sort();
    assert_eq!(sorted, wanted, "{told:?}");
    house.quiesce(&chain).await;
    assert_eq!(house.sql("SELECT COUNT(*) FROM events_new").await, [[5]]);
}
