//! Block times that cannot be, or that logs and headers tell differently.

use topupd::chain::scripted::ScriptedChain;
use topupd::tasks::watch::WatchError;

use super::support::*;

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
