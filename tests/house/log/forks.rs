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

/// A database from before a key was replaced, and every file beside the keys as it is now.
#[tokio::test]
async fn a_replaced_key_does_not_go_on_with_an_older_database() {
    for elsewhere in [false, true] {
        let (mut house, older) = with_a_copy().await;
        let (old, new) = (house.key(1), house.key(2));
        let signed_by_it = std::fs::read(house.kept()).unwrap();
        house.store.rotate_log_key(&old, &new, "alice").await.unwrap();
        if elsewhere {
            // A daemon on another machine learns of it from the database.
            std::fs::write(house.kept(), &signed_by_it).unwrap();
            let stop = house.store.may_sequence(Some(&old)).await.unwrap();
            assert_eq!(stop.unwrap().code(), "key");
        }
        assert_ne!(std::fs::read(house.kept()).unwrap(), signed_by_it);
        house.signer = Some(new);
        let known = house.goes_on().await.checkpoint.unwrap();
        house.store.close().await;
        house.database = older;
        house.reopen().await;
        house.write(1, 3).await;
        assert_eq!(house.stopped().await, "key", "the new key");
        house.signer = Some(old);
        assert_eq!(house.stopped().await, "kept", "the old key");
        // An operator says that it was restored, and puts the mark aside: under the next name.
        house.store.note_restored(GENESIS_MS).await.unwrap();
        std::fs::remove_file(house.kept()).unwrap();
        house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap();
        let again = house.goes_on().await.checkpoint.unwrap();
        assert_ne!(again.claimed().origin, known.claimed().origin);
    }
}

/// The very same backup a second time: a name that was used is not used again.
#[tokio::test]
async fn the_same_backup_restored_twice() {
    let (mut house, copy) = with_a_copy().await;
    let again = copy.copy().await;
    house.write(1, 5).await;
    house.goes_on().await;
    let mut of_the_first = None;
    for (database, origin) in [(copy, "example.com/topupd/2"), (again, "example.com/topupd/3")] {
        house.store.close().await;
        house.database = database;
        house.reopen().await;
        assert_eq!(house.stopped().await, "fork");
        let resumed = house.store.resume_log(house.signer.as_ref(), &why()).await.unwrap();
        assert_eq!(resumed.origin.as_str(), origin);
        house.write(2, 2).await;
        house.goes_on().await;
        assert_eq!(house.health().await, [""; 0]);
        house.verify().await.unwrap();
        // The second one names what the first one signed, and knows that key by its secret.
        let signed = checkpoint(&house).await;
        if let Some(first) = of_the_first.replace(signed) {
            let expected = expect(&house, &first).await.unwrap();
            assert_eq!(expected.origin, "example.com/topupd/2");
            assert!(expected.beyond > 0, "{expected:?}");
            let other = rewritten(&first, 9);
            assert!(expect(&house, &other).await.is_err());
        }
    }
}

/// The same text, signed by somebody else.
fn rewritten(known: &Published, seed: u8) -> Published {
    let name = known.claimed().origin.clone();
    let key = PrivateKey::from_seed(name, [seed; 32]).unwrap();
    known.claimed().clone().signed(&key).unwrap()
}

fn text(origin: &str, size: u64) -> Published {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    format!("{origin}\n{size}\n{root}\n").parse().unwrap()
}

/// What an operator names as the last checkpoint is written for ever: so it must be one of this log.
#[tokio::test]
async fn a_checkpoint_that_is_not_of_this_log_is_not_written() {
    let house = Logged::new().await;
    house.write(1, 5).await;
    house.goes_on().await;
    let signed = checkpoint(&house).await;
    house.meddle().await.execute("UPDATE log_state SET paused = 'a test'").await.unwrap();
    let wrong = signed.to_string();
    let wrong =
        wrong.split_once("\n\n").unwrap().0.to_owned() + "\n\n— example.com/topupd AAAAAAAA\n";
    for (known, said) in [
        (text(ORIGIN, 99_999), "not signed"),
        (text("example.com/topupd/7", 99_999), "not signed"),
        (signed.claimed().clone().unsigned().unwrap(), "not signed"),
        (wrong.parse().unwrap(), "not signed by a key that is known"),
        // Of another installation with the same name, and of another one.
        (rewritten(&text(ORIGIN, 99_999), 9), "not signed by a key that is known"),
        (rewritten(&text("example.com/topupd/7", 99_999), 9), "not signed by a key that is known"),
        (rewritten(&text("example.com/other", 99_999), 1), "no key of it is known"),
    ] {
        let resume = LogResume { known: Some(known), ..why() };
        let refused = house.store.resume_log(house.signer.as_ref(), &resume).await.unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(house.state().await.paused.is_some());
    }
    let resumed = "SELECT COUNT(*) FROM records WHERE kind = 'log_resumed'";
    assert_eq!(house.database.sql().await.ints(resumed).await[0], [0]);
    // Signed under a later name with the same secret: another copy went on there, and that name is used.
    let known = Some(rewritten(&text("example.com/topupd/7", 99_999), 1));
    let resume = LogResume { known, ..why() };
    let state = house.store.resume_log(house.signer.as_ref(), &resume).await.unwrap();
    assert_eq!(state.origin.as_str(), "example.com/topupd/8");
    house.goes_on().await;
    house.verify().await.unwrap();
}

/// Without a key, a name is all that there is: it must be one of this log's.
#[tokio::test]
async fn a_log_without_a_key_takes_no_other_logs_checkpoint() {
    let house = Logged::unsigned().await;
    house.write(1, 3).await;
    let own = house.goes_on().await.origin;
    house.meddle().await.execute("UPDATE log_state SET paused = 'a test'").await.unwrap();
    let name = own.as_str().strip_suffix("/1").unwrap();
    let last = format!("{name}/{}", u32::MAX);
    for known in [text(ORIGIN, 9), rewritten(&text(own.as_str(), 9), 1), text(&last, 9)] {
        let resume = LogResume { known: Some(known), ..why() };
        house.store.resume_log(None, &resume).await.unwrap_err();
    }
    let known = Some(text(&format!("{name}/4"), 9));
    let state = house.store.resume_log(None, &LogResume { known, ..why() }).await.unwrap();
    assert!(state.origin.as_str().ends_with("/5"), "{}", state.origin);
    house.goes_on().await;
    house.verify().await.unwrap();
    assert_eq!(house.health().await, [""; 0]);
}

/// `--since` takes what `--expect` takes.
#[tokio::test]
async fn what_is_verified_from_a_checkpoint_on_is_from_a_signed_one() {
    let house = Logged::new().await;
    house.write(1, 5).await;
    house.goes_on().await;
    let known = checkpoint(&house).await;
    house.write(1, 5).await;
    house.goes_on().await;
    let since = async |known: &Published| house.store.verify_log(Some(known)).await;
    assert_eq!(since(&known).await.unwrap().unwrap().looked_at, 5);
    let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for known in [
        known.claimed().clone().unsigned().unwrap(),
        rewritten(&known, 9),
        format!("{ORIGIN}\n0\n{empty}\n").parse().unwrap(),
    ] {
        let refused = since(&known).await.unwrap_err();
        assert!(refused.to_string().contains("not signed"), "{refused}");
        assert!(expect(&house, &known).await.is_err());
        house.store.known_checkpoint(&known).await.unwrap_err();
    }
    house.store.known_checkpoint(&known).await.unwrap();
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
    let older = std::fs::read_to_string(house.kept()).unwrap();
    house.write(1, 4).await;
    let size = house.goes_on().await.head.size;
    house.store.close().await;
    house.database = copy;
    house.reopen().await;
    // Signed by somebody who has the key, and an older file.
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    std::fs::write(house.kept(), &older).unwrap();
    house.write(2, 4).await;
    assert_eq!(house.goes_on().await.head.size, size);
    std::fs::write(house.kept(), &kept).unwrap();
    let why = house.health().await;
    assert!(why.len() == 1 && why[0].contains("two histories"), "{why:?}");
    assert_eq!(house.stopped().await, "fork");
    // A longer one is no better: its beginning differs.
    house.meddle().await.execute("UPDATE log_state SET paused = NULL").await.unwrap();
    std::fs::write(house.kept(), &older).unwrap();
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
