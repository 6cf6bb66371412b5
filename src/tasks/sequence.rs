//! The sequencer: gives committed records their leaves in the log, and events their numbers, for all daemons.
//!
//! It decides nothing and asks nobody: a round is one transaction, and the next one does what this one did not.

use crate::store::{LeasedStore, LogSigner, Round, StoreError};

/// The name of the task's lease: one daemon at a time adds to the log.
pub const SEQUENCE_TASK: &str = "sequence the log";
/// Most rounds of one activation: a stop is noticed in between.
const ROUNDS_MAX: u32 = 64;

/// What an activation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequenced {
    /// Records that got a leaf.
    pub records: usize,
    /// How the last round ended.
    pub last: Round,
}

/// Rounds until nothing more waits. `closely` as in [`LeasedStore::sequence`].
///
/// # Errors
/// When the database fails, or the lease is another daemon's. What was committed before stays.
pub async fn sequence(
    store: &LeasedStore,
    signer: Option<&LogSigner>,
    closely: bool,
) -> Result<Sequenced, StoreError> {
    let mut done = Sequenced { records: 0, last: Round::Idle };
    for round in 0..ROUNDS_MAX {
        done.last = store.sequence(signer, closely && round == 0).await?;
        match &done.last {
            Round::Went(went) => {
                done.records = done.records.saturating_add(went.records);
                if !went.is_full {
                    break;
                }
            }
            Round::Idle | Round::Stopped(_) => break,
        }
    }
    Ok(done)
}
