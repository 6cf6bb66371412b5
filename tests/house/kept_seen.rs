//! A database that is put back while no daemon runs: what was seen of it is kept beside the log's key.

use std::path::{Path, PathBuf};

use topupd::domain::finding::FindingKind;
use topupd::domain::ids::Network;
use topupd::domain::wallet::AccountXpub;
use topupd::store::{Store, StoreError, seen_beside};

use crate::database::TestDatabase;
use crate::local_chain::support::XPUB;

async fn open(database: &TestDatabase, key: &Path) -> Store {
    let store = Store::open(&database.database(), Network::Testnet, 0).await.unwrap();
    store.recall(key).await.unwrap();
    store
}

fn key(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("log.key")
}

async fn went_back(store: &Store) -> Vec<i64> {
    let found = store.findings(100).await.unwrap();
    let kind = FindingKind::DatabaseWentBack.as_str();
    found.iter().filter(|f| f.kind == kind && f.state == "open").map(|f| f.id).collect()
}

/// The older copy is one of the first moment, in which nothing is registered yet.
#[tokio::test]
async fn who_starts_on_an_older_copy_knows_it_and_gives_nothing_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let (acme, bolt, late) =
        ("acme".parse().unwrap(), "bolt".parse().unwrap(), "late".parse().unwrap());
    let now = TestDatabase::new(crate::ENGINE).await;
    let store = open(&now, &key).await;
    store.look_at_server("one", 0).await.unwrap();
    for name in [&acme, &bolt] {
        store.add_namespace(name, 0).await.unwrap();
    }
    let mut given = Vec::new();
    for _ in 0..3 {
        given.push(store.new_address(&bolt, &xpub, 0).await.unwrap().address);
    }
    store.compare_now().await.unwrap();
    store.keep_seen().await.unwrap();
    store.close().await;
    assert!(went_back(&open(&now, &key).await).await.is_empty());

    // A command, before any daemon looked: refused, and nothing is written.
    let older = TestDatabase::new(crate::ENGINE).await;
    let command = open(&older, &key).await;
    let refused = command.add_namespace(&late, 0).await.unwrap_err();
    assert!(matches!(refused, StoreError::WentBack(_)), "{refused}");
    assert!(refused.to_string().contains("topupd run"), "{refused}");
    command.close().await;

    // The daemon that starts notes it, once, and says what is missing.
    let daemon = open(&older, &key).await;
    daemon.look_at_server("two", 1_000).await.unwrap();
    let finding = went_back(&daemon).await;
    assert_eq!(finding.len(), 1);
    let detail = daemon.finding(finding[0]).await.unwrap().unwrap().detail;
    let missing = detail["missing"].to_string();
    for what in ["record ", "namespace bolt (id 2)", &format!("address {} (id 3)", given[2])] {
        assert!(missing.contains(what), "{what}: {missing}");
    }
    daemon.compare_now().await.unwrap();
    daemon.keep_seen().await.unwrap();
    daemon.close().await;

    // From now on others write; addresses wait until somebody has explained it.
    let command = open(&older, &key).await;
    command.add_namespace(&late, 0).await.unwrap();
    let refused = command.new_address(&late, &xpub, 0).await.unwrap_err().to_string();
    assert!(refused.contains("no address is derived now"), "{refused}");
    command.compare_now().await.unwrap();
    command.keep_seen().await.unwrap();
    command.close().await;
    // Another start notes nothing new.
    let again = open(&older, &key).await;
    again.look_at_server("three", 2_000).await.unwrap();
    assert_eq!(went_back(&again).await, finding);
    again.explain_finding(finding[0], "alice", "a copy was put back", 3_000).await.unwrap();
    let new = again.new_address(&late, &xpub, 0).await.unwrap().address;
    assert!(!given.contains(&new), "{new}");
    let mut sql = older.sql().await;
    let ids = sql.ints("SELECT address_id, namespace_id FROM addresses").await;
    assert_eq!(ids, [[4, 3]]);
}

/// Whoever restores the same copy again, and registers before any daemon runs.
#[tokio::test]
async fn the_same_copy_put_back_twice_is_noticed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let (acme, late) = ("acme".parse().unwrap(), "late".parse().unwrap());
    let now = TestDatabase::new(crate::ENGINE).await;
    let store = open(&now, &key).await;
    store.add_namespace(&acme, 0).await.unwrap();
    store.new_address(&acme, &xpub, 0).await.unwrap();
    store.compare_now().await.unwrap();
    store.keep_seen().await.unwrap();
    store.close().await;
    for _ in 0..2 {
        let older = TestDatabase::new(crate::ENGINE).await;
        let command = open(&older, &key).await;
        let refused = command.add_namespace(&late, 0).await.unwrap_err().to_string();
        assert!(refused.contains("indexes 0 to"), "{refused}");
        command.close().await;
        let daemon = open(&older, &key).await;
        daemon.look_at_server("a", 1_000).await.unwrap();
        assert_eq!(went_back(&daemon).await.len(), 1);
        daemon.compare_now().await.unwrap();
        daemon.keep_seen().await.unwrap();
        daemon.close().await;
    }
    // It goes along to another key.
    let other = dir.path().join("other.key");
    let older = TestDatabase::new(crate::ENGINE).await;
    let store = open(&older, &dir.path().join("none.key")).await;
    store.take_seen_along(&key, &other).await.unwrap();
    assert_eq!(
        std::fs::read(seen_beside(&other)).unwrap(),
        std::fs::read(seen_beside(&key)).unwrap()
    );
    store.recall(&other).await.unwrap();
    let refused = store.add_namespace(&late, 0).await.unwrap_err();
    assert!(matches!(refused, StoreError::WentBack(_)), "{refused}");
}

#[tokio::test]
async fn what_is_kept_is_for_its_owner_and_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = open(&database, &key).await;
    store.add_namespace(&"acme".parse().unwrap(), 0).await.unwrap();
    store.compare_now().await.unwrap();
    store.keep_seen().await.unwrap();
    let file = seen_beside(&key);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(&file, "{\"records\": 1, \"newest").unwrap();
    let error = store.recall(&key).await.unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("delete it"), "{error}");
}
