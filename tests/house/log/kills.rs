//! The process dies between any two statements of a round, and the next one does what that one did not.

use topupd::planted::die_after;
use topupd::store::StoreError;

use super::*;

/// Each run of the sequencer is killed one statement later than the one before, until one comes to its end. On one
/// thread: that is where it dies.
#[tokio::test]
async fn killed_between_any_two_statements() {
    let mut house = Logged::new().await;
    house.write(1, 250).await;
    let mut died = 0;
    for statements in 0.. {
        for journal in [1, 2] {
            house.write(journal, 3).await;
        }
        let before = house.state().await;
        die_after(Some(statements));
        let done = sequence(&house.store, house.signer.as_ref(), true).await;
        die_after(None);
        match done {
            Ok(Sequenced { last: Round::Stopped(_), .. }) | Err(_) => {
                died += 1;
                assert!(!matches!(done, Err(StoreError::Fenced { .. })), "{done:?}");
                house.reopen().await;
                let after = house.state().await;
                // All of the round, or nothing.
                let waits = house.store.log_waiting().await.unwrap().0;
                assert!(after.head == before.head || waits == 0, "{statements}: {waits} wait");
                if let Some(signed) = &after.checkpoint {
                    assert_eq!(signed.claimed().head, after.head, "{statements}");
                }
                house.verify().await.unwrap_or_else(|e| panic!("after {statements}: {e}"));
            }
            Ok(_) => break,
        }
    }
    assert!(died > 12, "died {died} times");
    let state = house.goes_on().await;
    house.verify().await.unwrap();
    let kept = std::fs::read_to_string(house.kept()).unwrap();
    assert_eq!(kept, state.checkpoint.unwrap().to_string());
    assert_eq!(house.findings().await, [""; 0]);
    // One registration of the key, and each record once.
    assert_eq!(house.store.log_keys().await.unwrap().len(), 1);
    in_their_order(&leaves(&house.database).await);
}

/// After the commit and before the file: the log is ahead of what is kept, and nothing is lost.
#[tokio::test]
async fn killed_between_the_commit_and_the_file() {
    let house = Logged::new().await;
    house.write(1, 3).await;
    house.goes_on().await;
    let older = std::fs::read_to_string(house.kept()).unwrap();
    house.write(1, 3).await;
    let newer = house.goes_on().await.checkpoint.unwrap();
    std::fs::write(house.kept(), older).unwrap();
    house.goes_on().await;
    assert_eq!(std::fs::read_to_string(house.kept()).unwrap(), newer.to_string());
}
