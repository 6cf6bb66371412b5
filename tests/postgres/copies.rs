//! `db copy`: a whole installation from SQLite to PostgreSQL and back, value by value.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::Verify;
use topupd::store::Store;

use crate::database::{Engine, TestDatabase};
use crate::differential::rows;
use crate::house::support::*;
use crate::local_chain::support::until;

fn copy(from: &TestDatabase, to: &TestDatabase) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["db", "copy", "--from", from.url(), "--to", to.url()])
        .output()
        .unwrap()
}

async fn same(one: &TestDatabase, other: &TestDatabase) {
    let (mut one, mut other) = (one.sql().await, other.sql().await);
    // Each says on which server it is, and only one of them signs the log.
    for table in Store::tables().filter(|table| !["database_server", "log_state"].contains(table)) {
        assert_eq!(rows(&mut one, table).await, rows(&mut other, table).await, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_grows_from_sqlite_to_postgresql_and_goes_back() {
    let chain = ScriptedChain::new(GENESIS_MS);
    chain.seal_blocks();
    let mut rules = rules(2);
    rules.verify = Verify::ReceiptsRoot;
    let mut house = House::on(Engine::Sqlite, rules).await;
    house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap();
    for i in 0..700u64 {
        let token = [USDC, USDT, RTITY, UNLISTED][(i % 4) as usize];
        chain.mine(vec![pay(i, token, (i % 6) as usize, 900_000 + u128::from(i))]);
    }
    house.quiesce(&chain).await;
    let proofs = house.sql("SELECT COUNT(*) FROM receipt_proofs").await[0][0];
    assert!(proofs > 300, "{proofs} proofs");
    chain.mine(vec![pay(9_001, USDC, 0, 5)]); // one that is under way
    house.watch(&chain).await.unwrap();

    // Somebody is at work on it: refused, and nothing is written.
    let postgres = TestDatabase::new(Engine::Postgres).await;
    let out = copy(&house.database, &postgres);
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("is at work on") && error.contains("stop it first"), "{error}");

    house.store.release(house.store.lease()).await.unwrap();
    house.store.close().await;
    let out = copy(&house.database, &postgres);
    let (text, error) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{text}{error}");
    assert!(text.contains("the same in both") && text.contains("credits given"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("deposits") && l.ends_with(" rows")), "{text}");
    same(&house.database, &postgres).await;

    // Twice is refused: the target holds somebody's installation by now.
    let again = copy(&house.database, &postgres);
    let error = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(error.contains("is not empty"), "{error}");
    same(&house.database, &postgres).await;

    // It goes on there, and back again.
    let sqlite = TestDatabase::new(Engine::Sqlite).await;
    house.database = postgres;
    house.restart().await;
    for i in 0..40u64 {
        chain.mine(vec![pay(2_000 + i, USDC, (i % 6) as usize, 1_000_000)]);
        house.quiesce(&chain).await;
    }
    house.verify().await;
    house.store.release(house.store.lease()).await.unwrap();
    house.store.close().await;
    let out = copy(&house.database, &sqlite);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    same(&house.database, &sqlite).await;
    house.database = sqlite;
    house.restart().await;
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    house.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_anything_while_an_installation_is_moved() {
    let house = House::on(Engine::Postgres, rules(1)).await;
    house.store.release(house.store.lease()).await.unwrap();
    let target = TestDatabase::new(Engine::Postgres).await;
    let prepared = Store::open(&target.database(), topupd::domain::ids::Network::Testnet, 0).await;
    prepared.unwrap().close().await;
    // The copy comes to a halt in its middle, at a table that somebody else looks at.
    let mut halt = target.sql().await;
    halt.execute("BEGIN").await.unwrap();
    halt.execute("LOCK TABLE deposits IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut copying = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["db", "copy", "--from", house.database.url(), "--to", target.url()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Once it waits there, it holds what it moves.
    let mut sql = target.sql().await;
    let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("halted", async || {
        let waiting = sql.ints(waits).await;
        if waiting == [[0]] { Err(waiting) } else { Ok(()) }
    })
    .await;
    let late = name("late");
    let registered = house.store.add_namespace(&late, 0);
    // However slow the machine is, it cannot come to its end before the copy does.
    let waited = tokio::time::timeout(Duration::from_millis(1_500), registered).await;
    assert!(waited.is_err(), "it was registered in the middle of the move: {waited:?}");
    halt.execute("COMMIT").await.unwrap();
    assert!(copying.wait().unwrap().success());
    same(&house.database, &target).await;
    house.store.add_namespace(&late, 0).await.unwrap(); // the old one is free again
}
