//! Whether the database answers: what all tasks wait for while it does not.
//!
//! Said once when it goes away and once when it is back, by whoever notices first. It decides
//! nothing about the work: a task that did not hear of it fails, and tries again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::daemon::notices::Said;

/// The state of the database, shared by all tasks of a daemon.
#[derive(Debug, Clone)]
pub struct Health(Arc<watch::Sender<State>>);

/// Whose success means that it works again. The keeper writes one small row, which may succeed where a task's commit does not,
/// as on a full disk: then the tasks try again, and only their success is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Keeper,
    Task,
}

#[derive(Debug, Clone)]
enum State {
    Ready,
    Degraded {
        said: Said,
        by: Who,
        /// Whether the tasks may try again.
        open: bool,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Ready)))
    }
}

impl Health {
    /// The database could not be used.
    pub(super) fn lost(&self, error: &str, by: Who) {
        self.0.send_if_modified(|state| {
            let (mut said, mut by) = (Said::default(), by);
            if let State::Degraded { said: before, by: first, open } = state {
                *open = false;
                said = before.clone();
                if *first == Who::Task {
                    by = Who::Task;
                }
            }
            // Another reason is worth a word too, but not at every turn.
            if !said.stands(error, Duration::ZERO) {
                return false;
            }
            tracing::warn!(error,
                "degraded: the database cannot be used; payments wait on the chain, nothing is lost; trying again");
            *state = State::Degraded { said, by, open: false };
            true
        });
    }

    /// The database was used.
    pub(super) fn found(&self, who: Who) {
        self.0.send_if_modified(|state| {
            let State::Degraded { said, by, open } = state else { return false };
            if who == Who::Keeper && *by == Who::Task {
                let opened = !*open;
                *open = true;
                return opened;
            }
            tracing::info!(elapsed_ms = said.lasted().as_millis(), "the database is back");
            *state = State::Ready;
            true
        });
    }

    /// Returns as soon as the database may be tried.
    pub(super) async fn ready(&self) {
        let mut state = self.0.subscribe();
        let usable =
            |state: &State| matches!(state, State::Ready | State::Degraded { open: true, .. });
        // Fails only when nobody can send any more, which this value itself prevents.
        let _ = state.wait_for(usable).await;
    }

    /// Why the daemon is degraded, if it is.
    pub fn degraded(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Ready => None,
            State::Degraded { said, .. } => said.why().map(str::to_owned),
        }
    }
}
