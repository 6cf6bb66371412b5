//! Adds to the log, while this daemon holds that lease.
//!
//! It looks five times a second, and at once when this process has committed something. A daemon that may not sign
//! the log asks for no lease, and says why; nor does one that lacks the checkpoint beside the key: another machine may
//! have it.

use std::time::Duration;

use super::driver::{Failure, Next, Step, Task, Trouble};
use crate::store::{Lease, LogSigner, Round, Stop, Store};
use crate::tasks::sequence::sequence;

/// Between two looks at what waits.
const TICK: Duration = Duration::from_millis(200);
/// The pause after something stopped it.
pub(super) const STOPPED: Duration = Duration::from_secs(2);

/// What a step works with.
pub(super) struct Sequencer {
    pub(super) store: Store,
    pub(super) signer: Option<LogSigner>,
    /// The round after a start or a stop looks closely.
    closely: bool,
    /// The checkpoint beside the key was missing or damaged.
    lacks_checkpoint: bool,
}

impl Sequencer {
    pub(super) const fn new(store: Store, signer: Option<LogSigner>) -> Self {
        Self { store, signer, closely: true, lacks_checkpoint: false }
    }
}

impl Task for Sequencer {
    /// Whether the configured key is the registered one, and the checkpoint beside it is there again.
    async fn may_hold(&mut self) -> Result<(), Failure> {
        let mut stop = self.store.may_sequence(self.signer.as_ref()).await?;
        if let Some(signer) = self.signer.as_ref().filter(|_| self.lacks_checkpoint) {
            stop = stop.or(signer.kept().await.err());
        }
        match stop {
            None => Ok(()),
            Some(why) => Err(Failure::Barred(stopped(&why))),
        }
    }

    fn begin(&mut self) {
        self.closely = true;
    }

    async fn step(&mut self, lease: &Lease) -> Result<Step, Failure> {
        let closely = std::mem::replace(&mut self.closely, true);
        let store = self.store.holding(lease.clone());
        match sequence(&store, self.signer.as_ref(), closely).await?.last {
            // Whoever has the registered key takes it, and the checkpoint beside it.
            Round::Stopped(why @ (Stop::Key { .. } | Stop::OtherName { .. } | Stop::Kept(_))) => {
                self.lacks_checkpoint = matches!(why, Stop::Kept(_));
                Err(Failure::Barred(stopped(&why)))
            }
            Round::Stopped(why) => Err(Failure::Other(stopped(&why))),
            last @ (Round::Idle | Round::Went(_)) => {
                (self.closely, self.lacks_checkpoint) = (false, false);
                Ok(Step::new(Next::Tick(TICK)).committed(matches!(last, Round::Went(_))))
            }
        }
    }
}

fn stopped(why: &Stop) -> Trouble {
    Trouble::new("the log does not go on; crediting does", why)
}
