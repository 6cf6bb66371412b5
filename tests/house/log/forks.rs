//! A database that goes back, and copies: never two histories of one size under one name.

use topupd::domain::log::checkpoint::Published;
use topupd::store::{Begin, Expected, LogResume, Snapshot};

use super::*;

fn why() -> LogResume {
    LogResume { operator: "alice".into(), reason: "the disk was lost".into(), known: None }
}

/// A log of some records with an older copy of its database, closed.
async fn with_a_copy() -> (Logged, TestDatabase) {
    let mut house = Logged::new().await;
    house.write(1, 20).await;
    house.goes_on().await;
    house.store.close().await;
    let copy = house.database.copy().await;
    house.reopen().await;
    (house, copy)
}

async fn checkpoint(house: &Logged) -> Published {
    house.store.log_checkpoint().await.unwrap()
}

async fn expect(house: &Logged, known: &Published) -> Result<Expected, String> {
    house.store.expect_checkpoint(known).await.unwrap()
}

#[tokio::test]
async fn an_older_backup_is_refused_and_goes_on_under_a_new_origin() {
    let (mut house, copy) = with_a_copy().await;
    let early = checkpoint(&house).await;
    house.write(1, 5).await;
    house.goes_on().await;
    let late = checkpoint(&house).await;
    house.store.close().await;
    house.database = copy;
    house.reopen().await;
    // Other records than those that were lost, and as many: a second history of one size.
    house.write(2, 5).await;
    let before = house.state().await;
    assert_eq!(house.stopped().await, "fork");
    assert_eq!(house.stopped().await, "paused", "for everybody, and for good");
    let paused = house.state().await;
    assert_eq!((paused.head, paused.checkpoint), (before.head, before.checkpoint));
    assert_eq!(house.findings().await, ["log_paused paused", "log_fork fork"]);
    assert_eq!(expect(&house, &early).await.unwrap().beyond, 0);
    let missing = expect(&house, &late).await.unwrap_err();
    assert!(missing.contains("the last 5 are missing"), "{missing}");
    // A daemon that kept nothing must not go on either.
    std::fs::rename(house.kept(), house.dir.path().join("aside")).unwrap();
    assert_eq!(house.stopped().await, "paused");
    std::fs::rename(house.dir.path().join("aside"), house.kept()).unwrap();

    let resumed = house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap();
    assert_eq!(resumed.origin.as_str(), "example.com/topupd/2");
    assert_eq!((resumed.incarnation, resumed.feed_no), (before.incarnation + 1, 0));
    let state = house.goes_on().await;
    // Five records, that of the resumption and that of the key's new name.
    assert_eq!(state.head.size, before.head.size + 7);
    assert_eq!(house.findings().await, [""; 0]);
    house.verify().await.unwrap();
    let signed = checkpoint(&house).await;
    assert_eq!(signed.claimed().origin.as_str(), "example.com/topupd/2");
    signed.verify(&house.store.log_keys().await.unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(house.kept()).unwrap(), signed.to_string());
    // What was signed under the old name: a part of it is here, and the rest is named.
    let old = expect(&house, &early).await.unwrap();
    assert_eq!((old.beyond, old.newer), (0, 7));
    let lost = expect(&house, &late).await.unwrap();
    assert_eq!((lost.beyond, lost.newer), (5, 7));
    assert_eq!(expect(&house, &signed).await.unwrap().newer, 0);
    // Again: there is nothing to resume.
    let again = house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap_err();
    assert!(again.to_string().contains("not paused"), "{again}");
}

/// The very same backup a second time: a name that was used is not used again.
#[tokio::test]
async fn the_same_backup_restored_twice() {
    let (mut house, copy) = with_a_copy().await;
    let again = copy.copy().await;
    house.write(1, 5).await;
    house.goes_on().await;
    for (database, origin) in [(copy, "example.com/topupd/2"), (again, "example.com/topupd/3")] {
        house.store.close().await;
        house.database = database;
        house.reopen().await;
        assert_eq!(house.stopped().await, "fork");
        let resumed = house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap();
        assert_eq!(resumed.origin.as_str(), origin);
        house.write(2, 2).await;
        house.goes_on().await;
        house.verify().await.unwrap();
    }
}

/// The newer database comes back after the older one went on: it is the one that forked now.
#[tokio::test]
async fn the_lost_database_is_found_again() {
    let (mut house, copy) = with_a_copy().await;
    house.write(1, 5).await;
    house.goes_on().await;
    house.store.close().await;
    let found = std::mem::replace(&mut house.database, copy);
    house.reopen().await;
    assert_eq!(house.stopped().await, "fork");
    house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap();
    house.goes_on().await;
    house.store.close().await;
    house.database = found;
    house.reopen().await;
    house.write(1, 1).await;
    assert_eq!(house.stopped().await, "fork");
}

#[tokio::test]
async fn a_history_of_the_same_size_is_refused() {
    let (mut house, copy) = with_a_copy().await;
    house.write(1, 4).await;
    let size = house.goes_on().await.head.size;
    house.store.close().await;
    house.database = copy;
    house.reopen().await;
    // Signed by somebody who has the key, and nothing kept.
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    std::fs::remove_file(house.kept()).unwrap();
    house.write(2, 4).await;
    assert_eq!(house.goes_on().await.head.size, size);
    std::fs::write(house.kept(), &kept).unwrap();
    let why =
        house.store.compare_checkpoint(house.signer.as_ref().unwrap()).await.unwrap().unwrap();
    assert!(why.to_string().contains("two histories"), "{why}");
    assert_eq!(house.stopped().await, "fork");
    // A longer one is no better: its beginning differs.
    house.meddle().await.execute("UPDATE log_state SET paused = NULL").await.unwrap();
    std::fs::remove_file(house.kept()).unwrap();
    house.write(2, 9).await;
    house.goes_on().await;
    std::fs::write(house.kept(), &kept).unwrap();
    house.reopen().await;
    assert_eq!(house.stopped().await, "fork");
    let known: Published = kept.parse().unwrap();
    assert!(expect(&house, &known).await.unwrap_err().contains("another history"));
}

/// A copy goes on crediting; its log waits for somebody to say which one is the right one.
#[tokio::test]
async fn a_backup_opens_paused_and_a_moved_installation_does_not() {
    let house = Logged::new().await;
    house.write(1, 3).await;
    house.goes_on().await;
    let size = house.state().await.head.size;
    for what in [Snapshot::Running, Snapshot::Stopped] {
        let target = TestDatabase::new(crate::ENGINE).await;
        let database = target.database();
        let copy = Store::connect(&database, Network::Testnet, Begin::Anywhere).await.unwrap();
        copy.prepare(GENESIS_MS).await.unwrap();
        if what == Snapshot::Stopped {
            house.store.release(house.store.lease()).await.unwrap();
        }
        house.store.copy_to(&copy, what, |_, _, _| {}).await.unwrap();
        copy.verify_log(None).await.unwrap().unwrap();
        let there = copy.log_state().await.unwrap();
        assert_eq!(there.head.size, size);
        let here = house.state().await;
        match what {
            Snapshot::Running => {
                assert!(there.paused.unwrap().contains("backup") && here.paused.is_none());
            }
            Snapshot::Stopped => {
                assert!(there.paused.is_none());
                let why = here.paused.unwrap();
                assert!(why.contains("moved"), "{why}");
            }
        }
        copy.close().await;
    }
}

#[tokio::test]
async fn what_a_person_says_was_restored_waits() {
    let house = Logged::new().await;
    house.write(1, 3).await;
    house.goes_on().await;
    house.store.note_restored(GENESIS_MS).await.unwrap();
    house.write(1, 3).await;
    assert!(house.state().await.paused.is_some());
}

#[tokio::test]
async fn a_log_without_a_key_has_names_too() {
    let house = Logged::unsigned().await;
    house.write(1, 3).await;
    let first = house.goes_on().await;
    let name = first.origin.as_str().strip_suffix("/1").unwrap();
    assert!(first.checkpoint.is_none());
    house.meddle().await.execute("UPDATE log_state SET paused = 'a test'").await.unwrap();
    let resumed = house.store.resume_log(None, &why()).await.unwrap();
    assert_eq!(resumed.origin.as_str(), format!("{name}/2"));
    house.goes_on().await;
    house.verify().await.unwrap();
}
