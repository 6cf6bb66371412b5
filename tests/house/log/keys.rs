//! The log's key: registered once, replaced by its holder, and nobody signs with another one, or none.

use topupd::domain::log::checkpoint::{Checkpoint, Published};
use topupd::domain::log::note::NoteError;

use super::*;

#[tokio::test]
async fn a_key_that_comes_later_signs_what_is_there() {
    let mut house = Logged::unsigned().await;
    house.write(1, 5).await;
    let unsigned = house.goes_on().await;
    assert!(unsigned.checkpoint.is_none() && unsigned.key.is_none());
    assert!(!house.store.log_checkpoint().await.unwrap().is_signed());
    house.signer = Some(house.key(1));
    let signed = house.goes_on().await;
    // The record of the key is in the log that it signs.
    assert_eq!(signed.head.size, unsigned.head.size + 1);
    assert_eq!(signed.origin.as_str(), ORIGIN);
    let keys = house.store.log_keys().await.unwrap();
    assert_eq!(keys, [house.signer.as_ref().unwrap().public().clone()]);
    signed.checkpoint.unwrap().verify(&keys).unwrap();
    house.verify().await.unwrap();
}

#[tokio::test]
async fn another_key_or_none_is_not_taken() {
    let mut house = Logged::new().await;
    house.write(1, 5).await;
    let state = house.goes_on().await;
    house.write(1, 5).await;
    let mut others = vec![None, Some(house.key(2))];
    let other_name = PrivateKey::from_seed("example.org/log".parse().unwrap(), [1; 32]).unwrap();
    others.push(Some(LogSigner::new(other_name, house.dir.path().join("other.key"))));
    for (other, code) in others.into_iter().zip(["key", "key", "name"]) {
        let may = house.store.may_sequence(other.as_ref()).await.unwrap().unwrap();
        assert_eq!(may.code(), code);
        let right = std::mem::replace(&mut house.signer, other);
        assert_eq!(house.stopped().await, code);
        house.signer = right;
    }
    assert_eq!(house.state().await, state);
    assert_eq!(house.store.may_sequence(house.signer.as_ref()).await.unwrap(), None);
    house.goes_on().await;
    assert_eq!(house.findings().await, [""; 0]);
}

#[tokio::test]
async fn a_key_is_replaced_by_who_holds_it() {
    let mut house = Logged::new().await;
    house.write(1, 5).await;
    let before = house.goes_on().await;
    let (old, new) = (house.key(1), house.key(2));
    let foreign = house.key(3);
    for (held, next, why) in [(&foreign, &new, "registered key"), (&old, &old, "the same key")] {
        let refused = house.store.rotate_log_key(held, next, "alice").await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(house.store.rotate_log_key(&old, &new, " ").await.is_err());
    // One that has signed another log would stop this one: its last checkpoint is beside it.
    let (used, beside) = (house.key(4), topupd::store::kept_beside(house.key(4).file()));
    let mut other = Logged::unsigned().await;
    other.signer = Some(house.key(4));
    other.write(1, 3).await;
    other.goes_on().await;
    assert!(beside.exists());
    let refused = house.store.rotate_log_key(&old, &used, "alice").await.unwrap_err();
    assert!(refused.to_string().contains("has signed another log"), "{refused}");
    assert_eq!(house.state().await, before, "nothing was changed");
    house.store.rotate_log_key(&old, &new, "alice").await.unwrap();
    // The same tree, signed by the new one; and beside it what was signed last.
    let after = house.state().await;
    assert_eq!(after.head, before.head);
    let checkpoint = after.checkpoint.unwrap();
    checkpoint.verify(&[new.public().clone()]).unwrap();
    let error = checkpoint.verify(&[old.public().clone()]).unwrap_err();
    assert_eq!(error.to_string(), NoteError::NoKnownKey.to_string());
    let beside = topupd::store::kept_beside(new.file());
    assert_eq!(std::fs::read_to_string(beside).unwrap(), checkpoint.to_string());
    assert_eq!(house.stopped().await, "key", "the old one");
    // It signs nothing more, whichever database it is given: that says the checkpoint beside it.
    let beside_old = std::fs::read_to_string(topupd::store::kept_beside(old.file())).unwrap();
    assert_eq!(beside_old, checkpoint.to_string());
    house.signer = Some(new);
    house.goes_on().await;
    house.verify().await.unwrap();
    // What the old one signed is still the beginning of this log.
    let expected = house.store.expect_checkpoint(&before.checkpoint.unwrap()).await.unwrap();
    assert_eq!(expected.unwrap().beyond, 0);
}

/// Without the checkpoint beside the old key nobody knows whether the database went back.
#[tokio::test]
async fn a_key_is_not_replaced_without_the_checkpoint_beside_it() {
    let house = Logged::new().await;
    house.write(1, 5).await;
    let before = house.goes_on().await;
    std::fs::remove_file(house.kept()).unwrap();
    let refused = house.store.rotate_log_key(&house.key(1), &house.key(2), "alice").await;
    assert!(refused.unwrap_err().to_string().contains("is missing"));
    assert_eq!(house.state().await, before);
}

/// One key, two installations: the second one finds what the first one signed.
#[tokio::test]
async fn a_key_signs_one_log() {
    let first = Logged::new().await;
    first.write(1, 50).await;
    first.goes_on().await;
    let mut second = Logged::unsigned().await;
    second.write(1, 3).await;
    second.goes_on().await;
    second.signer = Some(first.key(1));
    assert_eq!(second.stopped().await, "fork");
    let state = second.state().await;
    assert!(state.checkpoint.is_none() && state.key.is_none(), "it is not registered either");
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_kept_stops_the_next_one() {
    let house = Logged::new().await;
    house.write(1, 5).await;
    house.goes_on().await;
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    // A folder in its place: neither read nor replaced.
    std::fs::remove_file(house.kept()).unwrap();
    std::fs::create_dir(house.kept()).unwrap();
    house.write(1, 5).await;
    let before = house.state().await;
    assert_eq!(house.stopped().await, "kept");
    assert_eq!(house.state().await, before);
    std::fs::remove_dir(house.kept()).unwrap();
    std::fs::write(house.kept(), "not a checkpoint\n").unwrap();
    assert_eq!(house.stopped().await, "kept");
    std::fs::write(house.kept(), kept).unwrap();
    house.goes_on().await;
    assert_eq!(house.findings().await, [""; 0]);
}

/// Whoever puts an older database in its place takes away first what shows it.
#[tokio::test]
async fn a_checkpoint_that_was_taken_away_stops_the_log() {
    let mut house = Logged::new().await;
    house.write(1, 5).await;
    house.goes_on().await;
    let older = std::fs::read_to_string(house.kept()).unwrap();
    house.write(1, 5).await;
    let before = house.goes_on().await;
    std::fs::remove_file(house.kept()).unwrap();
    house.write(1, 5).await;
    for _ in 0..2 {
        assert_eq!(house.stopped().await, "kept");
        assert_eq!(house.findings().await, ["log_stopped kept"]);
        // Also after a start.
        house.reopen().await;
    }
    assert_eq!(house.state().await, before);
    assert!(!house.kept().exists());
    let why = house.health().await.remove(0);
    assert!(why.contains("1.key.checkpoint, is missing"), "{why}");
    // What nobody signed, or another key, is no better.
    let unsigned = older.split("\n\n").next().unwrap().to_owned() + "\n";
    let other = PrivateKey::from_seed(ORIGIN.parse().unwrap(), [2; 32]).unwrap();
    let wrong = older.parse::<Published>().unwrap().claimed().clone();
    let wrong = wrong.signed(&other).unwrap().to_string();
    for text in [unsigned, wrong, String::new()] {
        std::fs::write(house.kept(), &text).unwrap();
        assert_eq!(house.stopped().await, "kept", "{text}");
    }
    // An older one is enough: it is the beginning of what is there.
    std::fs::write(house.kept(), older).unwrap();
    let after = house.goes_on().await;
    assert!(after.head.size > before.head.size);
    assert_eq!(
        std::fs::read_to_string(house.kept()).unwrap(),
        after.checkpoint.unwrap().to_string()
    );
    assert_eq!(house.findings().await, [""; 0]);
    assert_eq!(house.health().await, [""; 0]);
}

/// Killed between what is kept and the registration: the next one goes on.
#[tokio::test]
async fn a_first_checkpoint_that_was_kept_before_its_key_was_registered() {
    let mut house = Logged::unsigned().await;
    house.write(1, 5).await;
    let unsigned = house.goes_on().await;
    house.signer = Some(house.key(1));
    let key = PrivateKey::from_seed(ORIGIN.parse().unwrap(), [1; 32]).unwrap();
    let claimed = Checkpoint { origin: ORIGIN.parse().unwrap(), head: unsigned.head };
    std::fs::write(house.kept(), claimed.signed(&key).unwrap().to_string()).unwrap();
    house.write(1, 5).await;
    house.goes_on().await;
    assert_eq!(house.store.log_keys().await.unwrap().len(), 1);
    assert_eq!(house.health().await, [""; 0]);
}
