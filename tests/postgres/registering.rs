//! Whoever registers and the commits of a chain do not wait for each other, and miss nothing where they pass each
//! other: he notes where the chain stands, the chain goes on without his address, and he commits last.

use std::thread::JoinHandle;

use alloy::primitives::Address;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::ids::Network;
use topupd::planted::{Fault, plant};
use topupd::store::{Store, StoreError};
use topupd::tasks::watch::step::Watched;

use crate::database::Sql;
use crate::house::origin::read_old_blocks;
use crate::house::support::*;

const UNITS: u128 = 1_000_000_000; // 1,000 USDC

/// Keeps every transaction that inserts into a table from going on.
struct Held {
    sql: Sql,
    table: &'static str,
}

impl Held {
    async fn new(house: &House, table: &'static str) -> Self {
        let mut sql = house.database.sql().await;
        sql.execute(
            "CREATE OR REPLACE FUNCTION waits_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
               WHILE EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                             WHERE l.locktype = 'advisory' AND l.objid = 77
                               AND d.datname = current_database())
               LOOP PERFORM pg_sleep(0.005); END LOOP;
               RETURN NULL;
             END $$",
        )
        .await
        .unwrap();
        let trigger = format!(
            "CREATE TRIGGER waits_for_test AFTER INSERT ON {table}
             FOR EACH STATEMENT EXECUTE FUNCTION waits_for_test()"
        );
        sql.execute(&trigger).await.unwrap();
        sql.execute("SELECT pg_advisory_lock(77)").await.unwrap();
        Self { sql, table }
    }

    /// How many wait for it.
    async fn waiting(&mut self) -> i64 {
        let waiting = format!(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
               AND state = 'active' AND query LIKE 'INSERT INTO {}%'",
            self.table
        );
        self.sql.ints(&waiting).await[0][0]
    }

    async fn until_one_waits(&mut self) {
        while self.waiting().await == 0 {}
    }

    async fn let_go(mut self) {
        self.sql.execute("SELECT pg_advisory_unlock(77)").await.unwrap();
        // The database is used again; and whoever waited is done when the table is free.
        let drop = format!("DROP TRIGGER waits_for_test ON {}", self.table);
        self.sql.execute(&drop).await.unwrap();
        self.sql.execute("DROP FUNCTION waits_for_test()").await.unwrap();
    }
}

/// Somebody else's process: a thread and connections of its own.
fn beside<T: Send + 'static, F: Future<Output = Result<T, StoreError>>>(
    house: &House,
    does: impl FnOnce(Store) -> F + Send + 'static,
) -> JoinHandle<T> {
    let database = house.database.database();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let store = Store::open(&database, Network::Testnet, GENESIS_MS).await.unwrap();
            let done = does(store.clone()).await.unwrap();
            store.close().await;
            done
        })
    })
}

fn moves(id: u64, from: Address, to: Address) -> topupd::chain::scripted::ScriptedTx {
    tx(id, vec![ScriptedLog::transfer(USDC, from, to, UNITS)])
}

/// A derived address is paid in a block that the chain commits while the address is being registered. Returns the
/// balance.
async fn paid_meanwhile() -> String {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    let mut held = Held::new(&house, "book_marks").await;
    let registers =
        beside(&house, |store| async move { store.new_address(&name("bolt"), &xpub(), 0).await });
    held.until_one_waits().await;
    let child = xpub().address(0).unwrap();
    chain.mine(vec![moves(1, PAYER, child), moves(2, PAYER, address(0))]);
    let watched = house.watch(&chain).await.unwrap();
    assert!(matches!(watched, Watched::Advanced { .. }), "{watched:?}");
    assert_eq!(held.waiting().await, 1, "the chain has waited for nobody");
    held.let_go().await;
    assert_eq!(registers.join().unwrap().address, child);
    mine_empty(&chain, 2);
    house.read_all(&chain).await;
    assert_eq!(house.balance("acme").await, "1000000");
    house.verify().await;
    house.balance("bolt").await
}

#[tokio::test]
async fn a_chain_goes_on_while_an_address_is_registered_and_misses_nothing() {
    assert_eq!(paid_meanwhile().await, "1000000");
}

#[tokio::test]
async fn what_it_scans_meanwhile_would_be_missed_if_nobody_read_it_again() {
    plant(Some(Fault::NewerUnread));
    let balance = paid_meanwhile().await;
    plant(None);
    assert_eq!(balance, "0");
}

#[tokio::test]
async fn whoever_registers_does_not_wait_for_a_chain_that_commits() {
    let house = House::new(rules(1)).await;
    // All that the longest commit of a chain holds beside journals.
    let mut commits = house.database.sql().await;
    commits.execute("BEGIN").await.unwrap();
    commits.ints("SELECT token FROM leases FOR UPDATE").await;
    commits.ints("SELECT only_row FROM installation FOR SHARE").await;
    commits.ints("SELECT only_row FROM market_head FOR UPDATE").await;
    commits.ints("SELECT chain_id FROM cursors FOR UPDATE").await;
    let store = &house.store;
    store.new_address(&name("bolt"), &xpub(), 0).await.unwrap();
    store.import_address(&name("bolt"), address(30), 0).await.unwrap();
    store.add_namespace(&name("more"), 0).await.unwrap();
    commits.execute("ROLLBACK").await.unwrap();
    house.verify().await;
}

#[tokio::test]
async fn money_that_is_passed_on_while_its_address_is_imported_is_credited_once() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let wallet = address(20);
    chain.mine(vec![moves(1, PAYER, wallet)]);
    mine_empty(&chain, 3);
    house.quiesce(&chain).await;
    // He has read how far is scanned, and asked for that; then the chain goes on.
    let mut held = Held::new(&house, "backfills").await;
    let imports = beside(&house, move |store| async move {
        store.import_address(&name("bolt"), wallet, GENESIS_MS).await
    });
    held.until_one_waits().await;
    chain.mine(vec![moves(2, wallet, address(0))]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.balance("acme").await, "1000000", "nobody knows whose the sender is");
    held.let_go().await;
    imports.join().unwrap();
    // What he asked for is read before the chain takes its next step.
    read_old_blocks(&mut house, &chain).await;
    mine_empty(&chain, 2);
    house.read_all(&chain).await;
    assert_eq!(house.balance("acme").await, "1000000");
    assert_eq!(house.balance("bolt").await, "0");
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", "held (internal_transfer)"]);
    house.verify().await;
}
