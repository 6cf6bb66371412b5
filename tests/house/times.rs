//! Block times that cannot be, or that logs and headers tell differently.

use topupd::chain::scripted::ScriptedChain;
use topupd::tasks::errors::WatchError;

use super::support::*;

/// When records that move credits were written, in the order of their journals.
const RECORDED: &str = "SELECT recorded_at_ms FROM records
                        WHERE kind LIKE 'deposit_%' ORDER BY journal_id, seq";
/// When they were told.
const TOLD: &str = "SELECT at_ms FROM events_new
                    WHERE kind IN ('deposit.credited', 'deposit.reversed') ORDER BY position";

#[tokio::test]
async fn a_block_of_the_future_is_refused_and_one_of_a_clock_that_was_moved_is_not() {
    for (ahead_ms, time_ms, refused) in [
        (900_000, GENESIS_MS * 1_000, true),
        (315_360_000_000, GENESIS_MS * 1_000, true),
        (900_000, GENESIS_MS + 1_000_000, true),
        (315_360_000_000, GENESIS_MS + 86_400_000 * 365, false),
    ] {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut rules = rules(1);
        rules.time_ahead_max_ms = ahead_ms;
        let mut house = House::new(rules).await;
        chain.mine_at(time_ms, vec![pay(1, USDC, 0, 1_000_000)]);
        match house.watch(&chain).await {
            Err(WatchError::Source(error)) if refused => {
                assert!(error.to_string().contains("ahead of our clock"), "{error}");
            }
            Ok(_) if !refused => {}
            other => panic!("{time_ms}: {other:?}"),
        }
        assert_eq!(house.deposits().await.is_empty(), refused);
    }
}

#[tokio::test]
async fn blocks_that_go_back_in_time_are_refused() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine_at(GENESIS_MS + 50_000, Vec::new());
    chain.mine_at(GENESIS_MS + 40_000, vec![pay(1, USDC, 0, 1_000_000)]);
    match house.watch(&chain).await {
        Err(WatchError::Source(error)) => {
            assert!(error.to_string().contains("before the time of a block below"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// In catch-up the logs tell the times; the header of the one provider there is decides.
#[tokio::test]
async fn a_time_told_by_logs_is_compared_with_the_header_before_anything_is_credited() {
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.shift_log_times(5_000);
    let mut house = House::new(rules(1)).await;
    let header = chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 200);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    let times = house.sql("SELECT block_time_ms FROM blocks WHERE block_number = 1").await;
    assert_eq!(times, [[header.time_ms]]);
    let findings = house.store.findings(10).await.unwrap();
    assert!(findings.iter().any(|f| f.kind == "block_time_was_wrong"), "{findings:?}");
    house.verify().await;
}

/// The daemon's clock is the store's, and somebody sets it back by a day.
#[tokio::test]
async fn a_clock_that_is_set_back_dates_no_record_before_another_and_stops_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    house.clock.advance_ms(-86_400_000);
    // One is credited, and another one credited and reversed: each is recorded when the first one was.
    chain.mine(vec![pay(2, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    chain.rewind(4);
    mine_empty(&chain, 6);
    house.quiesce(&chain).await;
    let rows = house.sql(RECORDED).await;
    assert!(rows.len() == 3 && rows.iter().all(|row| *row == rows[0]), "{rows:?}");
    let events = house.sql(TOLD).await;
    assert_eq!(events, rows);
    // When the clock has passed it, time goes on.
    house.clock.advance_ms(2 * 86_400_000);
    chain.mine(vec![pay(3, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    let rows = house.sql(RECORDED).await;
    assert!(rows[3][0] > rows[2][0] + 80_000_000, "{rows:?}");
    house.verify().await;
}

/// A daemon's own clock, whatever it says, dates no record.
#[tokio::test]
async fn records_are_dated_by_the_stores_clock() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let of_store = topupd::clock::ManualClock::at(GENESIS_MS + 7_000);
    let lease = house.store.lease().clone();
    let store = topupd::store::Store::clone(&house.store);
    house.store = store.timed_by(std::sync::Arc::new(of_store)).holding(lease);
    house.clock.advance_ms(86_400_000);
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    let rows = house.sql(RECORDED).await;
    assert_eq!(rows, [[GENESIS_MS + 7_000]]);
}
