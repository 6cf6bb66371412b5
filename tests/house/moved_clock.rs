//! The clock that testers move, as the store has it.

use std::time::Duration;

use topupd::domain::ids::Network;
use topupd::store::{Acquired, CLOCK_OFFSET_MAX_MS, Store};

use crate::database::TestDatabase;

const DAY: i64 = 86_400_000;

async fn open(database: &TestDatabase, network: Network) -> Store {
    Store::open(&database.database(), network, 0).await.unwrap()
}

#[tokio::test]
async fn all_stores_on_a_testnet_go_by_the_moved_clock_and_leases_do_not() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let one = open(&database, Network::Testnet).await;
    let two = open(&database, Network::Testnet).await;
    let hour = Duration::from_secs(3_600);
    let taken = one.acquire("a task", "one", hour, false).await.unwrap();
    let Acquired::Ours(lease) = taken else { panic!("{taken:?}") };

    let before = two.clock_ms().await.unwrap();
    let moved = one.advance_clock(2 * DAY).await.unwrap();
    assert_eq!(moved.offset_ms, 2 * DAY);
    assert!(moved.now_ms >= before + 2 * DAY, "{moved:?} {before}");
    assert_eq!(moved.now_ms - moved.server_ms, 2 * DAY);
    // Whoever reads it knows of it, without opening the database anew; also a writing transaction does.
    assert!(two.clock_ms().await.unwrap() >= moved.now_ms);
    assert!(two.clock().now_ms() >= moved.now_ms);
    assert!(two.server_ms().await.unwrap() < moved.now_ms - DAY);
    two.add_namespace(&"acme".parse().unwrap(), 0).await.unwrap();
    let mut sql = database.sql().await;
    let recorded =
        sql.ints("SELECT recorded_at_ms FROM records WHERE kind = 'namespace_created'").await;
    assert!(recorded.iter().all(|row| row[0] >= moved.now_ms), "{recorded:?}");

    // The lease of an hour has not run out in two days that nobody waited for.
    let taken = two.acquire("a task", "two", hour, false).await.unwrap();
    assert!(matches!(taken, Acquired::Taken { .. }), "{taken:?}");
    assert!(one.renew(&lease, hour).await.unwrap());
    two.seen("two", true).await.unwrap();
    let seen = two.daemons().await.unwrap()[0].seen_at_ms;
    assert!(seen < moved.now_ms - DAY, "{seen}");

    // It adds up, to an end, and never goes back.
    assert_eq!(two.advance_clock(DAY).await.unwrap().offset_ms, 3 * DAY);
    for too_far in [CLOCK_OFFSET_MAX_MS, i64::MAX] {
        let error = two.advance_clock(too_far).await.unwrap_err().to_string();
        assert!(error.contains("hundred years"), "{error}");
    }
    let error = two.advance_clock(-1).await.unwrap_err().to_string();
    assert!(error.contains("never goes back"), "{error}");
    assert_eq!(two.moved_clock().await.unwrap().offset_ms, 3 * DAY);
    let back = sql.execute("UPDATE installation SET clock_offset_ms = 0").await;
    let back = back.unwrap_err().to_string();
    assert!(back.contains("never goes back"), "{back}");
    // A new process is in the moved time at once.
    one.close().await;
    let three = open(&database, Network::Testnet).await;
    assert!(three.clock().now_ms() >= moved.now_ms + DAY);
}

#[tokio::test]
async fn on_mainnet_there_is_no_such_clock() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = open(&database, Network::Mainnet).await;
    let error = store.advance_clock(DAY).await.unwrap_err().to_string();
    assert!(error.contains("only be moved on a testnet"), "{error}");
    let mut sql = database.sql().await;
    let refused = sql.execute("UPDATE installation SET clock_offset_ms = 1").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("check"), "{refused}");
    let clock = store.moved_clock().await.unwrap();
    assert_eq!((clock.offset_ms, clock.now_ms), (0, clock.server_ms));
}
