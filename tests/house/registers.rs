//! Namespaces, addresses, epochs and the database itself: what people register and may not change.

use topupd::chain::scripted::ScriptedChain;
use topupd::domain::ids::Network;
use topupd::domain::pricing::{Epoch, EpochBook};
use topupd::store::{Store, StoreError};

use super::support::*;

#[tokio::test]
async fn derived_addresses_have_no_gap_and_one_owner_whoever_asks_at_once() {
    let house = House::new(rules(1)).await;
    let mut asking = Vec::new();
    for i in 0..24 {
        // Each from its own pool of connections, as separate processes are.
        let store = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
        asking.push(async move {
            store.new_address(&name(NAMESPACES[i % 3]), &xpub(), 0).await.unwrap()
        });
    }
    let made = futures_util::future::join_all(asking).await;
    let mut indexes: Vec<i64> = made.iter().map(|a| a.derivation_index.unwrap()).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, (0..24).collect::<Vec<_>>());
    for row in &made {
        let index = u32::try_from(row.derivation_index.unwrap()).unwrap();
        assert_eq!(row.address, xpub().address(index).unwrap());
    }
}

#[tokio::test]
async fn a_child_that_was_imported_by_hand_is_passed_over() {
    let house = House::new(rules(1)).await;
    for index in [0, 1] {
        let child = xpub().address(index).unwrap();
        house.store.import_address(&name("bolt"), child, 0).await.unwrap();
    }
    let row = house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap();
    assert_eq!(row.derivation_index, Some(2));
}

#[tokio::test]
async fn an_address_belongs_to_one_namespace_for_ever() {
    let house = House::new(rules(1)).await;
    let again = house.store.import_address(&name("bolt"), address(0), 0).await.unwrap_err();
    assert!(again.to_string().contains("registered already"), "{again}");
    let unknown = house.store.import_address(&name("nobody"), address(50), 0).await.unwrap_err();
    assert!(unknown.to_string().contains("no namespace is called nobody"), "{unknown}");
}

fn with(mut epochs: Vec<Epoch>, id: &str, starts_at_ms: i64) -> EpochBook {
    let mut more = epochs[0].clone();
    more.id = id.into();
    more.starts_at_ms = starts_at_ms;
    epochs.push(more);
    EpochBook::new(epochs).unwrap()
}

#[tokio::test]
async fn epochs_are_appended_and_never_changed() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let paid = chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    let one = epochs().all().to_vec();

    let mut changed = one.clone();
    changed[0].accept.remove("RTITY");
    let error = house.store.sync_epochs(&EpochBook::new(changed).unwrap(), 0).await.unwrap_err();
    assert!(matches!(error, StoreError::EpochChanged { .. }), "{error}");
    // A new one may not cover what was decided without it…
    for start in [GENESIS_MS + 1, paid.time_ms] {
        let error = house.store.sync_epochs(&with(one.clone(), "two", start), 0).await.unwrap_err();
        assert!(error.to_string().contains("must start later"), "{error}");
    }
    // …but may start after it, and also before everything.
    let later = with(one.clone(), "two", paid.time_ms + 1);
    house.store.sync_epochs(&later, 0).await.unwrap();
    let earlier = with(later.all().to_vec(), "zero", 0);
    house.store.sync_epochs(&earlier, 0).await.unwrap();
    let error = house.store.sync_epochs(&later, 0).await.unwrap_err();
    assert!(error.to_string().contains("missing in the configuration"), "{error}");
    house.verify().await;
}

#[tokio::test]
async fn money_that_came_before_the_first_epoch_is_held_until_there_is_one() {
    let chain = ScriptedChain::new(GENESIS_MS - 3_600_000);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["held (no_epoch)"]);
    let book = with(epochs().all().to_vec(), "before", 0);
    house.store.sync_epochs(&book, 0).await.unwrap();
    house.rules.epochs = std::sync::Arc::new(book);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000");
    house.verify().await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = Store::open(&database.database(), Network::Testnet, 0).await.unwrap();
    store.close().await;
    let mut sql = database.sql().await;
    sql.execute("INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1")
        .await
        .unwrap();
    for _ in 0..2 {
        let error = Store::open(&database.database(), Network::Testnet, 0).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    }
}

#[tokio::test]
async fn reading_does_not_create_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("mistyped.db").display());
    let error = Store::open_existing(&url.parse().unwrap(), Network::Testnet).await.unwrap_err();
    assert!(error.to_string().contains("there is no such file"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn one_daemon_a_file() {
    if crate::ENGINE == Engine::Postgres {
        // There is no such lock: each task has its lease, as tests/several shows.
        let house = House::new(rules(1)).await;
        assert!(house.store.lock_for_daemon().unwrap().is_none());
        return;
    }
    let house = House::new(rules(1)).await;
    let lock = house.store.lock_for_daemon().unwrap();
    assert!(lock.is_some());
    let other = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
    assert!(matches!(other.lock_for_daemon(), Err(StoreError::Locked { .. })));
    drop(lock);
    assert!(other.lock_for_daemon().is_ok());
}
