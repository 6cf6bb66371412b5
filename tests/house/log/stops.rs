//! What is wrong is found before it is signed: nothing is written then, a finding says it, and crediting does not wait.

use super::*;

/// Does something to the database, and says what stops the sequencer; nothing of the log may have changed.
async fn stops(house: &Logged, sql: &str) -> &'static str {
    let before = house.state().await;
    let changed = house.meddle().await.execute(sql).await.unwrap();
    assert!(changed > 0, "{sql}");
    house.write(2, 3).await;
    let code = house.stopped().await;
    let after = house.store.log_state().await;
    if let Ok(after) = after {
        assert_eq!(after.head.size, before.head.size);
    }
    assert_eq!(house.findings().await, [format!("log_stopped {code}")]);
    assert!(house.store.log_waiting().await.unwrap().0 > 0);
    code
}

async fn some() -> Logged {
    let house = Logged::new().await;
    house.write(1, 300).await;
    house.write(2, 7).await;
    house.goes_on().await;
    house
}

/// A hexadecimal literal of the engine.
fn bytes(hex: &str) -> String {
    match crate::ENGINE {
        crate::database::Engine::Sqlite => format!("X'{hex}'"),
        crate::database::Engine::Postgres => format!("'\\x{hex}'::bytea"),
    }
}

#[tokio::test]
async fn a_bit_that_was_flipped_in_the_log() {
    let other = bytes(&"ab".repeat(32));
    for column in ["root", "edge"] {
        let house = some().await;
        let edge = house.state().await.edge.hashes().len();
        let value = if column == "edge" { bytes(&"ab".repeat(32 * edge)) } else { other.clone() };
        let sql = format!("UPDATE log_state SET {column} = {value}");
        assert_eq!(stops(&house, &sql).await, "damaged", "{column}");
        assert!(house.verify().await.is_err(), "{column}");
    }
    // The tiles that are not full, of two levels.
    for (level, index) in [(0, 1), (1, 0)] {
        let house = some().await;
        let width = house.state().await.head.size;
        let width = if level == 0 { width % 256 } else { width / 256 };
        let hashes = bytes(&"cd".repeat(32 * usize::try_from(width).unwrap()));
        let sql = format!(
            "UPDATE log_tiles SET hashes = {hashes} WHERE level = {level} AND idx = {index}"
        );
        assert_eq!(stops(&house, &sql).await, "damaged", "tile {level}/{index}");
        assert!(house.verify().await.is_err());
    }
    let house = some().await;
    assert_eq!(stops(&house, "DELETE FROM log_tiles WHERE level = 0 AND idx = 1").await, "damaged");
}

/// In a tile that is full, no round looks again: `ledger verify` does.
#[tokio::test]
async fn a_bit_that_was_flipped_in_a_full_tile() {
    let house = some().await;
    let known = house.store.log_checkpoint().await.unwrap();
    let hashes = bytes(&"cd".repeat(32 * 256));
    let sql = format!("UPDATE log_tiles SET hashes = {hashes} WHERE level = 0 AND idx = 0");
    house.meddle().await.execute(&sql).await.unwrap();
    house.write(2, 3).await;
    house.goes_on().await;
    let wrong = house.verify().await.unwrap_err();
    assert_eq!(wrong, "tile 0 of level 0 of the log does not follow from the records");
    let place = topupd::store::RecordPlace { journal: JournalId(1), seq: 5 };
    let error = house.store.prove_record(place).await.unwrap_err();
    assert!(error.to_string().contains("does not lead to the root"), "{error}");
    // A checkpoint whose proof needs that tile: the tiles are damaged, and it is no other history.
    house.store.expect_checkpoint(&known).await.unwrap().unwrap();
    let width = house.state().await.head.size / 256;
    let hashes = bytes(&"cd".repeat(32 * usize::try_from(width).unwrap()));
    let sql = format!("UPDATE log_tiles SET hashes = {hashes} WHERE level = 1 AND idx = 0");
    house.meddle().await.execute(&sql).await.unwrap();
    let wrong = house.store.expect_checkpoint(&known).await.unwrap().unwrap_err();
    assert!(wrong.contains("damaged") && !wrong.contains("another history"), "{wrong}");
}

#[tokio::test]
async fn a_record_that_was_changed_before_it_got_a_leaf() {
    for change in [
        "UPDATE records SET cause = '{}' WHERE journal_id = 1 AND seq = 303",
        "UPDATE records SET outcome = '[]' WHERE journal_id = 1 AND seq = 303",
        "UPDATE records SET operator = 'mallory' WHERE journal_id = 1 AND seq = 303",
        "UPDATE records SET recorded_at_ms = 5 WHERE journal_id = 1 AND seq = 303",
        "UPDATE records SET kind = 'unheard_of' WHERE journal_id = 1 AND seq = 303",
        "UPDATE entries SET amount = 1 WHERE journal_id = 1 AND seq = 304",
        "UPDATE entries SET account = 'namespace/9' WHERE journal_id = 1 AND seq = 304 AND leg = 1",
        "DELETE FROM entries WHERE journal_id = 1 AND seq = 304",
        "DELETE FROM records WHERE journal_id = 1 AND seq = 304",
    ] {
        let house = some().await;
        let first =
            house.database.sql().await.ints("SELECT seq FROM journals WHERE journal_id = 1").await;
        let offset = first[0][0] - 300;
        house.write(1, 5).await;
        let change = change
            .replace("303", &(303 + offset).to_string())
            .replace("304", &(304 + offset + offset % 2).to_string());
        assert_eq!(stops(&house, &change).await, "record", "{change}");
    }
}

/// All of it was made anew, and the chain of the journal does not fit any more.
#[tokio::test]
async fn a_record_that_does_not_follow_the_one_before() {
    let house = some().await;
    let mut sql = house.meddle().await;
    let other = bytes(&"ef".repeat(32));
    sql.execute(&format!("UPDATE journals SET seal = {other} WHERE journal_id = 2")).await.unwrap();
    house.write(2, 1).await;
    assert_eq!(house.stopped().await, "record");
    let why = house.store.findings(10).await.unwrap().remove(0).detail.to_string();
    assert!(why.contains("not that of the record before"), "{why}");
}

#[tokio::test]
async fn a_gap_in_a_journal() {
    let house = some().await;
    let written = house.write(1, 5).await;
    let (journal, seq) = (written[2].journal.0, written[2].seq);
    let mut sql = house.meddle().await;
    let sql_text = format!("DELETE FROM unlogged WHERE journal_id = {journal} AND seq = {seq}");
    sql.execute(&sql_text).await.unwrap();
    assert_eq!(house.stopped().await, "gap");
    let why = house.verify().await.unwrap_err();
    assert!(why.contains("has no leaf in the log, and does not wait for one"), "{why}");
    // It is put back, and the log goes on: the finding is gone.
    let row = vec![vec![Cell::Int(journal), Cell::Int(seq)]];
    values(&mut sql, "unlogged (journal_id, seq)", row).await;
    house.goes_on().await;
    house.verify().await.unwrap();
    assert_eq!(house.findings().await, [""; 0]);
}

#[tokio::test]
async fn a_record_that_waits_twice() {
    let house = some().await;
    let written = house.write(1, 2).await;
    let row = vec![vec![Cell::Int(1), Cell::Int(written[1].seq)]];
    values(&mut house.database.sql().await, "unlogged (journal_id, seq)", row).await;
    assert!(house.verify().await.unwrap_err().contains("waits twice"));
    assert_eq!(house.stopped().await, "gap");
}

#[tokio::test]
async fn a_record_that_has_a_leaf_and_waits_again() {
    let house = some().await;
    let row = vec![vec![Cell::Int(1), Cell::Int(3)]];
    values(&mut house.database.sql().await, "unlogged (journal_id, seq)", row).await;
    assert!(house.verify().await.unwrap_err().contains("and has one"));
    assert_eq!(house.stopped().await, "gap");
}

/// What only the whole walk sees.
#[tokio::test]
async fn what_verify_names() {
    let zero = bytes(&"00".repeat(16));
    for (change, named) in [
        (
            "DELETE FROM log_leaves WHERE leaf_index = 17".to_owned(),
            "leaf 17 of the log is missing",
        ),
        (
            "UPDATE log_leaves SET seq = seq + 1000 WHERE leaf_index = 17".to_owned(),
            "which is missing",
        ),
        (
            "UPDATE records SET cause = '{}' WHERE journal_id = 1 AND seq = 7".to_owned(),
            "is not the hash of what it says",
        ),
        (format!("UPDATE account_days SET debit = {zero}"), "are not those of its entries"),
        ("DELETE FROM account_days".to_owned(), "are not those of its entries"),
        (
            "UPDATE log_state SET public_key = NULL, checkpoint = NULL".to_owned(),
            "key is not the one",
        ),
        (
            "UPDATE log_state SET origin = 'example.com/other', checkpoint = NULL".to_owned(),
            "origin",
        ),
        ("UPDATE log_state SET checkpoint = NULL, size = size - 1".to_owned(), ""),
    ] {
        let house = some().await;
        house.verify().await.unwrap();
        house.meddle().await.execute(&change).await.unwrap();
        let wrong = match house.store.verify_log(None).await {
            Ok(Ok(verified)) => panic!("{change}: {verified:?}"),
            Ok(Err(wrong)) => wrong,
            Err(error) => error.to_string(),
        };
        assert!(wrong.contains(named), "{change}: {wrong}");
        let both = house.store.verify_all().await.unwrap();
        assert_eq!(both.log, Err(wrong), "{change}");
    }
}

/// No room beside the key: nothing is signed that could not be kept, and nothing is half kept.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_is_full_beside_the_key() {
    let mut house = some().await;
    let before = house.state().await;
    let first = std::fs::read_to_string(house.kept()).unwrap();
    let mut new = house.kept().into_os_string();
    new.push(format!(".new-{}", std::process::id()));
    for times in 1..=2 {
        // "No space left on device", to whoever writes to it.
        std::os::unix::fs::symlink("/dev/full", &new).unwrap();
        house.write(1, 5).await;
        for _ in 0..2 {
            assert_eq!(house.stopped().await, "kept");
        }
        // Nobody has seen more than what is kept, also after a start.
        house.reopen().await;
        assert_eq!(house.stopped().await, "kept");
        let after = house.state().await;
        assert_eq!((after.head, &after.checkpoint), (before.head, &before.checkpoint), "{times}");
        assert_eq!(std::fs::read_to_string(house.kept()).unwrap(), first);
        assert_eq!(house.findings().await, ["log_stopped kept"]);
        let why = house.store.findings(10).await.unwrap().remove(0).detail.to_string();
        assert!(why.contains("No space left on device"), "{why}");
        assert_eq!(house.store.log_waiting().await.unwrap().0, 5 * times);
        house.verify().await.unwrap();
        std::fs::remove_file(&new).unwrap();
    }
    // There is room: all of it is logged, signed and kept.
    let after = house.goes_on().await;
    assert_eq!(after.head.size, before.head.size + 10);
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    assert_eq!(kept, after.checkpoint.unwrap().to_string());
    assert!(!std::path::Path::new(&new).exists());
    assert_eq!(house.findings().await, [""; 0]);
    house.verify().await.unwrap();
}

/// The end of the log, with all that shows it; the checkpoint outside of the database remembers.
#[tokio::test]
async fn the_last_record_deleted_with_all_traces() {
    let mut house = some().await;
    house.store.close().await;
    let copy = house.database.copy().await;
    house.reopen().await;
    house.write(2, 1).await;
    house.goes_on().await;
    house.store.close().await;
    house.database = copy;
    house.reopen().await;
    // Nothing in the file shows it.
    house.verify().await.unwrap();
    house.write(1, 1).await;
    assert_eq!(house.stopped().await, "fork");
    assert_eq!(house.findings().await, ["log_fork fork"]);
}
