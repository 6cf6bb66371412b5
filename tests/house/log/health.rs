//! One answer to whether somebody should look at the log, whatever it is that is wrong.

use topupd::domain::log::checkpoint::Published;

use super::*;

async fn some() -> Logged {
    let house = Logged::new().await;
    house.write(1, 20).await;
    house.goes_on().await;
    assert_eq!(house.health().await, [""; 0]);
    house
}

/// Does this to the database, and looks.
async fn after(sql: &str) -> (Logged, Vec<String>) {
    let house = some().await;
    assert!(house.meddle().await.execute(sql).await.unwrap() > 0, "{sql}");
    let health = house.health().await;
    (house, health)
}

#[tokio::test]
async fn what_was_changed_in_its_row_is_told() {
    for (sql, told) in [
        ("UPDATE log_state SET checkpoint = NULL", &["is not signed"][..]),
        (
            "UPDATE log_state SET public_key = NULL, checkpoint = NULL",
            &["is not the one that the house's records register", "and none is registered"],
        ),
        (
            "UPDATE log_state SET origin = 'example.com/topupd/2', checkpoint = NULL",
            &["its origin is not the one", "is not signed"],
        ),
        (
            "UPDATE log_state SET origin = 'example.com/other', checkpoint = NULL",
            &["its origin is not the one", "this is the log example.com/other"],
        ),
        ("UPDATE log_state SET size = size - 1", &["damaged"]),
        ("UPDATE log_state SET paused = 'a test'", &["the log is paused: a test"]),
        ("DELETE FROM log_tiles", &["damaged"]),
    ] {
        let (house, health) = after(sql).await;
        for told in told {
            assert!(health.iter().any(|said| said.contains(told)), "{sql}: {health:?}");
        }
        // Without a key too: whoever has none may ask.
        assert!(!house.store.log_health(None).await.unwrap().is_empty(), "{sql}");
        house.store.close().await;
    }
}

/// What was taken away comes back with the next record, as the same signature.
#[tokio::test]
async fn a_signature_that_was_taken_away_comes_back() {
    let (house, health) = after("UPDATE log_state SET checkpoint = NULL").await;
    assert_eq!(health.len(), 1, "{health:?}");
    assert!(!house.store.log_checkpoint().await.unwrap().is_signed());
    house.write(1, 1).await;
    house.goes_on().await;
    assert_eq!(house.health().await, [""; 0]);
}

/// A log that stands still looks like that also between the sequencer's tries.
#[tokio::test]
async fn what_stopped_it_is_told_in_its_words() {
    let house = some().await;
    let mut sql = house.meddle().await;
    values(&mut sql, "unlogged (journal_id, seq)", vec![vec![Cell::Int(1), Cell::Int(500)]]).await;
    assert_eq!(house.stopped().await, "gap");
    let health = house.health().await;
    assert!(health.len() == 1 && health[0].contains("a record is missing"), "{health:?}");
    let finding = house.store.findings(10).await.unwrap().remove(0);
    // Explained by somebody, it stands still all the same.
    let id = finding.id;
    assert!(house.store.explain_finding(id, "alice", "a test", GENESIS_MS).await.unwrap());
    assert_eq!(house.health().await, health);
    sql.execute("DELETE FROM unlogged").await.unwrap();
    house.goes_on().await;
    assert_eq!(house.health().await, [""; 0]);
}

#[tokio::test]
async fn another_key_than_the_registered_one_is_told() {
    let mut house = some().await;
    for (other, told) in [
        (PrivateKey::from_seed(ORIGIN.parse().unwrap(), [2; 32]), "the log is signed with the key"),
        (PrivateKey::from_seed("example.org/log".parse().unwrap(), [1; 32]), "example.org/log"),
    ] {
        let file = house.dir.path().join("other.key");
        house.signer = Some(LogSigner::new(other.unwrap(), file));
        let health = house.health().await;
        assert!(health.len() == 1 && health[0].contains(told), "{health:?}");
    }
    // Whoever has none configured does not sign.
    house.signer = None;
    assert_eq!(house.health().await, [""; 0]);
}

#[tokio::test]
async fn a_key_that_is_not_registered_yet_is_told() {
    let mut house = Logged::unsigned().await;
    assert_eq!(house.health().await, [""; 0]);
    house.write(1, 3).await;
    house.goes_on().await;
    assert_eq!(house.health().await, [""; 0], "it has no key, and needs none");
    house.signer = Some(house.key(1));
    let health = house.health().await;
    assert!(health.len() == 1 && health[0].contains("none is registered"), "{health:?}");
    house.goes_on().await;
    assert_eq!(house.health().await, [""; 0]);
}

#[tokio::test]
async fn what_is_kept_beside_the_key_is_compared() {
    let house = some().await;
    let older = std::fs::read_to_string(house.kept()).unwrap();
    house.write(1, 3).await;
    let newer: Published = house.goes_on().await.checkpoint.unwrap();
    std::fs::write(house.kept(), &older).unwrap();
    assert_eq!(house.health().await, [""; 0], "an older one is its beginning");
    for (text, told) in [
        (None, "is missing"),
        (Some(String::new()), "is no checkpoint"),
        (
            Some(newer.to_string().replacen(ORIGIN, "example.com/topupd/2", 1)),
            "not signed by a key",
        ),
        (Some(newer.claimed().to_string()), "the checkpoint is not signed"),
    ] {
        match text {
            None => std::fs::remove_file(house.kept()).unwrap(),
            Some(text) => std::fs::write(house.kept(), text).unwrap(),
        }
        let health = house.health().await;
        assert!(health.len() == 1 && health[0].contains(told), "{health:?}");
    }
}
