//! Whether somebody should look at the log: one answer, which all commands give.

use super::registered::agrees;
use super::same::{follows_kept, sound};
use super::state::{LogSigner, LogState};
use super::stop::{Failed, Stop};
use super::{kept, state};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;

impl Store {
    /// Why somebody should look at the log, a sentence each; none where it goes on and is what was signed before. With
    /// the configured key, also whether that is the registered one, and whether the checkpoint beside it is the beginning
    /// of this log. Records that wait for a daemon are not told here.
    pub async fn log_health(&self, signer: Option<&LogSigner>) -> Result<Vec<String>, StoreError> {
        let mut health = Health::default();
        // What is kept is never newer than the database: so it is read first.
        let kept = match signer {
            Some(signer) => kept::read(signer).await,
            None => Ok(None),
        };
        let mut tx = self.db.begin_read().await?;
        let looked = async {
            let log = state::read(&mut tx).await?;
            standing(&mut tx, &log, &mut health).await?;
            health.note(sound(&mut tx, &log).await)?;
            health.note(agrees(&mut tx, &log).await.map(drop))?;
            if log.key.is_some() && log.checkpoint.is_none() && log.paused.is_none() {
                health.say(NOT_SIGNED);
            }
            let Some(signer) = signer else { return Ok(()) };
            if log.key.is_none() {
                if log.head.size > 0 {
                    health.say(NOT_REGISTERED);
                }
                return Ok(());
            }
            if let Err(other) = log.signing_key(Some(signer)) {
                return health.note(Err(other));
            }
            // The first one is written while it is looked at.
            if matches!(kept, Ok(None)) && kept::read(signer).await.is_ok_and(|kept| kept.is_some())
            {
                return Ok(());
            }
            match &kept {
                Err(stop) => health.note(Err(stop.clone().into())),
                Ok(kept) => health.note(follows_kept(&mut tx, &log, kept.as_ref(), signer).await),
            }
        };
        let looked: Result<(), Failed> = looked.await;
        Self::abandon(tx).await?;
        health.note(looked).map_err(Failed::into_store)?;
        Ok(health.reasons)
    }
}

const NOT_SIGNED: &str = "a key is registered, and the log as it is now is not signed: the daemon that adds to it signs within a second. Where one runs and this stays, somebody took the signature away, and the next record brings it back";
const NOT_REGISTERED: &str = "log.key_file names a key, and none is registered: the next daemon that starts with it registers it. Where one has, somebody took it away: see topupd ledger verify";

#[derive(Default)]
struct Health {
    reasons: Vec<String>,
}

impl Health {
    /// Says it once.
    fn say(&mut self, reason: &str) {
        if !self.reasons.iter().any(|said| said == reason) {
            self.reasons.push(reason.to_owned());
        }
    }

    /// A stop is a reason; what the database does not answer is not.
    fn note(&mut self, checked: Result<(), Failed>) -> Result<(), Failed> {
        match checked {
            Err(Failed::Stop(stop)) => self.say(&stop.to_string()),
            other => return other,
        }
        Ok(())
    }
}

/// That it is paused, and what the sequencer stopped for, in its words.
async fn standing(tx: &mut Tx, log: &LogState, health: &mut Health) -> Result<(), Failed> {
    if let Some(why) = &log.paused {
        health.say(&Stop::Paused(why.clone()).to_string());
    }
    let rows = query(
        "SELECT kind, detail FROM findings
         WHERE kind IN ('log_stopped', 'log_fork') AND state <> 'gone' ORDER BY finding_id",
    )
    .fetch_all(tx)
    .await?;
    for row in &rows {
        // What forked is paused, and says why.
        if log.paused.is_some() && row.text("findings", "kind")? == "log_fork" {
            continue;
        }
        let detail = row.text("findings", "detail")?;
        let read: serde_json::Value = serde_json::from_str(&detail).unwrap_or_default();
        match read.get("why").and_then(serde_json::Value::as_str) {
            Some(why) => health.say(why),
            None => health.say(&detail),
        }
    }
    Ok(())
}
