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
        assert!(refused.contains("missing from index 0 on"), "{refused}");
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

async fn keep(store: &Store) {
    store.compare_now().await.unwrap();
    assert!(store.keep_seen().await.unwrap());
}

/// Puts an older copy, the first moment's, in the place: as a daemon that starts finds it, and its operator.
async fn put_back(key: &Path, times: &mut i64) -> (TestDatabase, Store) {
    let older = TestDatabase::new(crate::ENGINE).await;
    let daemon = open(&older, key).await;
    *times += 1_000;
    daemon.look_at_server("daemon", *times).await.unwrap();
    let finding = went_back(&daemon).await;
    assert_eq!(finding.len(), 1);
    keep(&daemon).await;
    daemon.explain_finding(finding[0], "alice", "a copy was put back", *times).await.unwrap();
    daemon.add_namespace(&"late".parse().unwrap(), *times).await.unwrap();
    (older, daemon)
}

/// What somebody gave out who has no memory, after the last look, is lost each time: the gap is above all that is
/// remembered, however often the copy is put back, and however many were given out.
#[tokio::test]
async fn what_nobody_remembers_is_not_given_out_again_either() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let late = "late".parse().unwrap();
    let mut times = 0;
    let now = TestDatabase::new(crate::ENGINE).await;
    let store = open(&now, &key).await;
    store.add_namespace(&late, 0).await.unwrap();
    store.new_addresses(&late, &xpub, false, 3, 0).await.unwrap();
    let without = Store::open(&now.database(), Network::Testnet, 0).await.unwrap();
    let mut given = vec![without.new_address(&late, &xpub, 0).await.unwrap().address];
    store.close().await;
    let mut kept = vec![now];
    for _ in 0..3 {
        let (older, daemon) = put_back(&key, &mut times).await;
        let new = daemon.new_address(&late, &xpub, times).await.unwrap().address;
        assert!(!given.contains(&new), "{new}");
        given.push(new);
        let without = Store::open(&older.database(), Network::Testnet, 0).await.unwrap();
        let new = without.new_address(&late, &xpub, 0).await.unwrap().address;
        assert!(!given.contains(&new), "{new}");
        given.push(new);
        without.close().await;
        daemon.close().await;
        kept.push(older);
    }
}

/// A daemon that was frozen while a command gave something out, and thaws on an older copy.
#[tokio::test]
async fn what_somebody_else_keeps_is_compared_and_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let acme = "acme".parse().unwrap();
    let older = TestDatabase::new(crate::ENGINE).await;
    let first = open(&older, &key).await;
    first.add_namespace(&acme, 0).await.unwrap();
    first.close().await;
    // The same database as it goes on, where a command is.
    let newer = older.copy().await;
    let frozen = open(&older, &key).await;
    frozen.look_at_server("frozen", 0).await.unwrap();
    keep(&frozen).await;
    let before = std::fs::read(seen_beside(&key)).unwrap();
    let command = Store::open(&newer.database(), Network::Testnet, 0).await.unwrap();
    command.recall(&key).await.unwrap();
    let given = command.new_address(&acme, &xpub, 0).await.unwrap().address;
    command.close().await;
    let kept = std::fs::read(seen_beside(&key)).unwrap();
    assert_ne!(kept, before, "it was kept before it was said");
    // It may write before it looks. Then it compares, and keeps nothing before that.
    frozen.import_address(&acme, alloy::primitives::Address::repeat_byte(7), 1).await.unwrap_err();
    assert!(matches!(frozen.compare_now().await, Err(StoreError::WentBack(_))));
    assert!(!frozen.keep_seen().await.unwrap());
    assert_eq!(std::fs::read(seen_beside(&key)).unwrap(), kept);
    frozen.look_at_server("frozen", 1_000).await.unwrap();
    let finding = went_back(&frozen).await;
    assert_eq!(finding.len(), 1);
    keep(&frozen).await;
    frozen.explain_finding(finding[0], "alice", "it thawed", 2_000).await.unwrap();
    let new = frozen.new_address(&acme, &xpub, 0).await.unwrap().address;
    assert_ne!(new, given);
}

/// Nothing is lost where a wrong copy stood for a while: what was left out there was given to nobody.
#[tokio::test]
async fn the_right_one_after_a_wrong_one_is_no_database_that_went_back() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let acme = "acme".parse().unwrap();
    let wrong = TestDatabase::new(crate::ENGINE).await;
    let first = open(&wrong, &key).await;
    first.add_namespace(&acme, 0).await.unwrap();
    first.new_address(&acme, &xpub, 0).await.unwrap();
    first.close().await;
    let right = wrong.copy().await;
    let store = open(&right, &key).await;
    store.add_namespace(&"bolt".parse().unwrap(), 0).await.unwrap();
    store.close().await;
    let mistaken = open(&wrong, &key).await;
    mistaken.look_at_server("one", 1_000).await.unwrap();
    assert_eq!(went_back(&mistaken).await.len(), 1);
    keep(&mistaken).await;
    mistaken.close().await;
    let store = open(&right, &key).await;
    store.look_at_server("two", 2_000).await.unwrap();
    assert!(went_back(&store).await.is_empty());
    store.compare_now().await.unwrap();
}

#[tokio::test]
async fn nothing_is_given_out_that_cannot_be_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let acme = "acme".parse().unwrap();
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = open(&database, &key).await;
    store.add_namespace(&acme, 0).await.unwrap();
    // Nobody writes where a folder stands, root neither.
    let new = dir.path().join("log.key.seen.new");
    std::fs::create_dir(&new).unwrap();
    let before = std::fs::read(seen_beside(&key)).unwrap();
    let error = store.new_address(&acme, &xpub, 0).await.unwrap_err().to_string();
    assert!(error.contains("cannot be kept") && error.contains("log.key.seen"), "{error}");
    assert!(store.addresses(None, 9).await.unwrap().is_empty());
    // A namespace is there, and its command says what is wrong.
    let error = store.add_namespace(&"bolt".parse().unwrap(), 0).await.unwrap_err().to_string();
    assert!(error.contains("namespace bolt is registered, but"), "{error}");
    assert_eq!(std::fs::read(seen_beside(&key)).unwrap(), before);
    std::fs::remove_dir(&new).unwrap();
    store.new_address(&acme, &xpub, 0).await.unwrap();
    // It stops to work later: what was registered is not said, so that nobody pays there.
    std::fs::create_dir(&new).unwrap();
    let error = store.new_address(&acme, &xpub, 0).await.unwrap_err().to_string();
    assert!(error.contains("topupd address list") && error.contains("registered, but"), "{error}");
    std::fs::remove_dir(&new).unwrap();
    keep(&store).await;
    // Who may not read it gives nothing out.
    let other = Store::open(&database.database(), Network::Testnet, 0).await.unwrap();
    other.cannot_recall(&key);
    let error = other.new_address(&acme, &xpub, 0).await.unwrap_err().to_string();
    assert!(error.contains("as the user of the daemon"), "{error}");
    // An index that no address has.
    let text = std::fs::read_to_string(seen_beside(&key)).unwrap();
    std::fs::write(seen_beside(&key), text.replace(":2}", ":9223372036854775807}")).unwrap();
    let error = other.recall(&key).await.unwrap_err().to_string();
    assert!(error.contains("is damaged") && error.contains("no address has"), "{error}");
}

/// Somebody who is frozen while it writes the memory.
#[tokio::test]
async fn who_holds_the_memory_for_good_stops_no_daemon_and_is_named_to_who_gives_out() {
    let dir = tempfile::tempdir().unwrap();
    let key = key(&dir);
    let xpub = AccountXpub::parse(XPUB).unwrap();
    let acme = "acme".parse().unwrap();
    let database = TestDatabase::new(crate::ENGINE).await;
    let store = open(&database, &key).await;
    store.add_namespace(&acme, 0).await.unwrap();
    let lock = dir.path().join("log.key.seen.lock");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let frozen = std::fs::File::open(&lock).unwrap();
    frozen.lock().unwrap();
    // A daemon goes on, and keeps later what somebody has done who has no memory.
    let without = Store::open(&database.database(), Network::Testnet, 0).await.unwrap();
    without.add_namespace(&"bolt".parse().unwrap(), 0).await.unwrap();
    without.close().await;
    store.compare_now().await.unwrap();
    assert!(!store.keep_seen().await.unwrap());
    let error = store.new_address(&acme, &xpub, 0).await.unwrap_err().to_string();
    assert!(error.contains("another process holds the lock"), "{error}");
    assert!(store.addresses(None, 9).await.unwrap().is_empty());
    drop(frozen);
    store.new_address(&acme, &xpub, 0).await.unwrap();
    keep(&store).await;
}
