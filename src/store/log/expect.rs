//! A checkpoint that was kept elsewhere, held against the log: is it its beginning?

use super::registered::registered;
use super::same::is_beginning;
use super::state;
use super::verify::{Wrong, wrong};
use crate::domain::log::checkpoint::{Checkpoint, Published};
use crate::domain::log::history::KeyHistory;
use crate::store::db::Tx;
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// What a checkpoint is to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The log that it is of.
    pub origin: String,
    /// Its records.
    pub size: u64,
    /// Whether a registered key signed it.
    pub is_signed: bool,
    /// Records that the log has beyond it, or beyond what it shares with it.
    pub newer: u64,
    /// Records of the checkpoint that are not in this log: it went on under another origin before them. Nothing
    /// proves what they were.
    pub beyond: u64,
}

impl Store {
    /// Proves that a checkpoint is the beginning of this log; where the log went on under another origin since, as far as both
    /// are the same. The inner error says what does not hold.
    pub async fn expect_checkpoint(
        &self,
        known: &Published,
    ) -> Result<Result<Expected, String>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let found = expect(&mut tx, known).await;
        Self::abandon(tx).await?;
        match found {
            Ok(expected) => Ok(Ok(expected)),
            Err(Wrong::Found(what)) => Ok(Err(what)),
            Err(Wrong::Store(error)) => Err(error),
        }
    }
}

async fn expect(tx: &mut Tx, known: &Published) -> Result<Expected, Wrong> {
    let log = state::read(&mut *tx).await?;
    let history = registered(&mut *tx).await?;
    let claimed = match history.signed(known, &log.origin) {
        Ok(claimed) => claimed,
        Err(why) => return wrong(why),
    };
    let Checkpoint { origin, head } = claimed;
    let same = |size: u64| Expected {
        origin: origin.to_string(),
        size: head.size,
        is_signed: known.is_signed(),
        newer: log.head.size.saturating_sub(size),
        beyond: head.size.saturating_sub(size),
    };
    let shared =
        if *origin == log.origin { None } else { Some(forked_at(&history, origin.as_str())?) };
    let most = shared.map_or(log.head.size, |shared| shared.most);
    if head.size <= most {
        if is_beginning(tx, &log, head).await? {
            return Ok(same(head.size));
        }
        if shared.is_some_and(|shared| !shared.was_this) {
            return Ok(same(0));
        }
        return wrong(format!(
            "the first {} records of the log are not those of the checkpoint: it is another history",
            head.size
        ));
    }
    match shared {
        Some(shared) => Ok(same(if shared.was_this { most } else { 0 })),
        None => wrong(format!(
            "the checkpoint has {} records and the log {most}: the last {} are missing, as after an older backup was restored, or the end was deleted",
            head.size,
            head.size.saturating_sub(most)
        )),
    }
}

/// What this log shares with an earlier origin.
#[derive(Clone, Copy)]
struct Shared {
    /// At most so many records.
    most: u64,
    /// Whether this log had that origin itself. Otherwise it is only known that there was one, and nothing of where
    /// it parted.
    was_this: bool,
}

/// As far as the log was the same when it went on under another origin.
fn forked_at(history: &KeyHistory, origin: &str) -> Result<Shared, Wrong> {
    let mut found: Option<Shared> = None;
    for resumed in history.resumed() {
        let was_this = resumed.before == origin;
        let named = resumed.checkpoint.as_deref().and_then(|text| text.parse::<Published>().ok());
        let is_named = named.is_some_and(|named| named.claimed().origin.as_str() == origin);
        if was_this || (is_named && found.is_none()) {
            found = Some(Shared { most: resumed.size, was_this });
        }
        if was_this {
            break;
        }
    }
    match found {
        Some(shared) => Ok(shared),
        None => {
            wrong(format!("this log was never called {origin}: the checkpoint is of another log"))
        }
    }
}
