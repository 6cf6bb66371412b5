//! A key that replaces another one is signed for by it: who can write the database, and has another key, cannot put
//! theirs in its place.

use topupd::domain::journal::{Cause, LogKey, LogResumed};
use topupd::domain::log::checkpoint::Checkpoint;
use topupd::domain::log::history::{first_key, handed_over};
use topupd::domain::log::tiles::append;
use topupd::domain::log::tree::Hash;

use super::*;

fn key(name: &str, seed: u8) -> PrivateKey {
    PrivateKey::from_seed(name.parse().unwrap(), [seed; 32]).unwrap()
}

/// The record of somebody's key in the place of ours.
fn replaced(signature: Option<String>) -> LogKey {
    LogKey {
        public_key: key(ORIGIN, 9).public().to_string(),
        origin: ORIGIN.into(),
        replaces: Some(key(ORIGIN, 1).public().to_string()),
        signature,
    }
}

/// The records that somebody without the key might write, and why they do not hold.
fn forged() -> Vec<(Vec<Cause>, &'static str)> {
    let theirs = handed_over(&key(ORIGIN, 9), key(ORIGIN, 9).public()).signature;
    let of_theirs = handed_over(&key(ORIGIN, 9), key(ORIGIN, 8).public());
    let next = "example.com/topupd/2";
    let resumed = |before: &str| {
        Cause::LogResumed(LogResumed {
            origin: next.into(),
            before: before.into(),
            reason: "a test".into(),
            checkpoint: None,
            size: 3,
        })
    };
    let renamed = LogKey {
        public_key: key(next, 9).public().to_string(),
        origin: next.into(),
        ..replaced(theirs.clone())
    };
    vec![
        (vec![Cause::LogKey(replaced(None))], "did not sign that"),
        (vec![Cause::LogKey(replaced(theirs))], "did not sign that"),
        (vec![Cause::LogKey(of_theirs)], "does not replace"),
        (vec![Cause::LogKey(first_key(key(ORIGIN, 9).public()))], "does not replace"),
        (vec![resumed(ORIGIN), Cause::LogKey(renamed.clone())], "did not sign that"),
        (vec![Cause::LogKey(renamed)], "the log is called"),
        (vec![resumed(ORIGIN)], "not registered under that name"),
        (vec![resumed("example.com/other")], "the log is called"),
    ]
}

async fn some() -> Logged {
    let house = Logged::new().await;
    house.write(1, 20).await;
    house.goes_on().await;
    house
}

/// Nothing is added to the log, by anybody; and whoever looks sees why.
async fn is_named(house: &Logged, why: &str) {
    let verified = house.verify().await.unwrap_err();
    assert!(verified.contains(why), "{verified}");
    let health = house.health().await;
    assert!(health.iter().any(|said| said.contains(why)), "{why}: {health:?}");
    assert!(house.store.log_keys().await.unwrap_err().to_string().contains(why));
}

#[tokio::test]
async fn a_record_that_nobody_signed_gets_no_leaf() {
    for (causes, why) in forged() {
        let house = some().await;
        let before = house.state().await;
        for cause in &causes {
            sealed(&mut house.meddle().await, cause).await;
        }
        for closely in [false, true] {
            let done = sequence(&house.store, house.signer.as_ref(), closely).await.unwrap();
            match done.last {
                Round::Stopped(stop) => assert_eq!(stop.code(), "damaged", "{why}: {stop}"),
                other => panic!("{why}: {other:?}"),
            }
        }
        assert_eq!(house.state().await, before, "{why}");
        assert_eq!(house.findings().await, ["log_stopped damaged"]);
        is_named(&house, why).await;
        house.store.close().await;
    }
}

/// All of it by hand: the record, its leaf, the tiles, the root, and a checkpoint that their key signs.
async fn taken_over(house: &Logged, cause: &Cause) {
    let mut sql = house.meddle().await;
    let record = sealed(&mut sql, cause).await;
    sql.execute("DELETE FROM unlogged").await.unwrap();
    let mut edge = house.state().await.edge;
    let leaf = i64::try_from(edge.size()).unwrap();
    let place = [leaf, 0, record.seq].map(Cell::Int).to_vec();
    values(&mut sql, "log_leaves (leaf_index, journal_id, seq)", vec![place]).await;
    let hash = Hash::of_leaf(record.seal.as_slice());
    // Less than a full tile: the hash stands at its end.
    for made in append(&mut edge, &[hash]).unwrap() {
        assert_eq!((made.id.level, made.id.index), (0, 0));
        let stored = "SELECT hashes FROM log_tiles WHERE level = 0 AND idx = 0";
        let Cell::Bytes(mut hashes) = sql.rows(stored).await.remove(0).remove(0) else { panic!() };
        hashes.extend(made.hashes.iter().flat_map(|hash| hash.0));
        let update = "UPDATE log_tiles SET hashes = $1 WHERE level = 0 AND idx = 0";
        sql.execute_with(update, &[Cell::Bytes(hashes)]).await.unwrap();
    }
    let head = edge.head();
    let theirs = key(ORIGIN, 9);
    let signed = Checkpoint { origin: ORIGIN.parse().unwrap(), head }.signed(&theirs).unwrap();
    let update =
        "UPDATE log_state SET size = $1, root = $2, edge = $3, checkpoint = $4, public_key = $5";
    let cells = [
        Cell::Int(leaf + 1),
        Cell::Bytes(head.root.0.0.to_vec()),
        Cell::Bytes(edge.to_bytes()),
        Cell::Text(signed.to_string()),
        Cell::Text(theirs.public().to_string()),
    ];
    sql.execute_with(update, &cells).await.unwrap();
}

#[tokio::test]
async fn a_log_that_was_taken_over_with_another_key() {
    let mut house = some().await;
    let known = house.store.log_checkpoint().await.unwrap();
    let theirs = handed_over(&key(ORIGIN, 9), key(ORIGIN, 9).public()).signature;
    taken_over(&house, &Cause::LogKey(replaced(theirs))).await;
    is_named(&house, "did not sign that").await;
    // The configured key is another one too.
    let health = house.health().await;
    assert!(
        health.iter().any(|said| said.contains("the log is signed with the key")),
        "{health:?}"
    );
    let may = house.store.may_sequence(house.signer.as_ref()).await.unwrap();
    assert_eq!(may.unwrap().code(), "key");
    let wrong = house.store.expect_checkpoint(&known).await.unwrap().unwrap_err();
    assert!(wrong.contains("did not sign that"), "{wrong}");
    // A daemon in their hands does not go on either.
    house.signer = Some(house.key(9));
    std::fs::write(house.kept(), house.state().await.checkpoint.unwrap().to_string()).unwrap();
    house.write(1, 1).await;
    assert_eq!(house.stopped().await, "damaged");
}

/// The same by its holder holds, so that what is above shows the signature and nothing else.
#[tokio::test]
async fn a_log_that_was_handed_over_by_hand() {
    let mut house = some().await;
    let cause = handed_over(&key(ORIGIN, 1), key(ORIGIN, 9).public());
    taken_over(&house, &Cause::LogKey(cause)).await;
    house.verify().await.unwrap();
    house.signer = Some(house.key(9));
    std::fs::write(house.kept(), house.state().await.checkpoint.unwrap().to_string()).unwrap();
    assert_eq!(house.health().await, [""; 0]);
    house.write(1, 1).await;
    house.goes_on().await;
    house.verify().await.unwrap();
}
