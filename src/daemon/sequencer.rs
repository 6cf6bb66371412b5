//! The loop of the sequencer, while this daemon holds its lease.
//!
//! It looks five times a second, and at once when this process has committed something. A daemon that may not sign
//! the log asks for no lease, and says why.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Who};
use super::keeper::Seat;
use crate::store::{Lease, LogSigner, Round, Stop, Store, StoreError};
use crate::tasks::sequence::sequence;

/// Between two looks at what waits.
const TICK: Duration = Duration::from_millis(200);
/// The same after something stopped it, and for a daemon that may not sign.
const STOPPED: Duration = Duration::from_secs(2);

/// What the loop works with.
pub(super) struct Sequencer {
    pub(super) store: Store,
    pub(super) signer: Option<Arc<LogSigner>>,
    pub(super) health: Health,
    pub(super) seat: Seat,
    pub(super) stop: CancellationToken,
    /// Told when this process has committed something.
    pub(super) poke: Arc<Notify>,
}

impl Sequencer {
    pub(super) async fn run(self) {
        let stop = self.stop.clone();
        let mut said: Option<String> = None;
        // Another machine may have the checkpoint that is missing or damaged beside the key here.
        let mut lacks = false;
        // The round after a start or a stop looks closely.
        let mut closely_for: Option<Lease> = None;
        while !stop.is_cancelled() {
            let Some(lease) = self.lease(&mut said, lacks).await else { return };
            let closely = closely_for.as_ref() != Some(&lease);
            let signer = self.signer.as_deref();
            let done = sequence(&self.store.holding(lease.clone()), signer, closely).await;
            let pause = match done {
                Ok(done) => match done.last {
                    Round::Stopped(why) => {
                        closely_for = None;
                        lacks = matches!(why, Stop::Kept(_));
                        // Whoever has the registered key takes it, and the checkpoint beside it.
                        if lacks || matches!(why, Stop::Key { .. } | Stop::OtherName { .. }) {
                            self.seat.retired.store(true, Ordering::Relaxed);
                        }
                        self.say(&why, &mut said);
                        STOPPED
                    }
                    last @ (Round::Idle | Round::Went(_)) => {
                        if said.take().is_some() {
                            tracing::info!("the log goes on");
                        }
                        // Who found nothing to do has written nothing.
                        if matches!(last, Round::Went(_)) {
                            self.health.found(Who::Task);
                        }
                        closely_for = Some(lease);
                        TICK
                    }
                },
                Err(error) => {
                    closely_for = None;
                    self.failed(&error);
                    STOPPED
                }
            };
            let wait = async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.poke.notified(), if pause == TICK => {}
                }
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }

    /// The lease, as soon as it is held and the log is ours to sign; `None` when the daemon stops.
    async fn lease(&self, said: &mut Option<String>, lacks: bool) -> Option<Lease> {
        let mut held = self.seat.lease.clone();
        let waiting = async {
            loop {
                self.health.ready().await;
                let may = self.may_sign(said).await && !(lacks && self.lacks_checkpoint().await);
                self.seat.retired.store(!may, Ordering::Relaxed);
                if !may {
                    tokio::time::sleep(STOPPED).await;
                    continue;
                }
                let seen = tokio::time::timeout(STOPPED, held.wait_for(Option::is_some)).await;
                if let Ok(seen) = seen {
                    return seen.ok().and_then(|lease| lease.clone());
                }
            }
        };
        // The log's key is looked at before each lease only.
        if let Some(lease) = self.seat.lease.borrow().clone() {
            return Some(lease);
        }
        self.stop.run_until_cancelled(waiting).await?
    }

    /// Whether the configured key is the registered one. One that cannot be asked for now is no reason to leave it
    /// to others.
    async fn may_sign(&self, said: &mut Option<String>) -> bool {
        match self.store.may_sequence(self.signer.as_deref()).await {
            Ok(None) => true,
            Ok(Some(why)) => {
                self.say(&why, said);
                false
            }
            Err(error) => {
                self.failed(&error);
                true
            }
        }
    }

    /// Whether the checkpoint beside the key is still not there, or cannot be read.
    async fn lacks_checkpoint(&self) -> bool {
        match &self.signer {
            Some(signer) => signer.kept().await.is_err(),
            None => false,
        }
    }

    /// Says it once.
    fn say(&self, why: &Stop, said: &mut Option<String>) {
        let why = why.to_string();
        if said.as_ref() != Some(&why) {
            tracing::warn!(why, "the log does not go on; crediting does");
            *said = Some(why);
        }
    }

    fn failed(&self, error: &StoreError) {
        if error.is_unavailable() {
            let judge = if error.is_away() { Who::Keeper } else { Who::Task };
            self.health.lost(error, judge);
        } else {
            tracing::warn!(error = %error, "the log could not be continued; trying again");
        }
    }
}
