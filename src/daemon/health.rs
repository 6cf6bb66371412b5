//! Whether the database answers: what all tasks wait for while it does not.
//!
//! Said once when it goes away and once when it is back, by whoever notices first. It decides
//! nothing about the work: a task that did not hear of it fails, and tries again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::store::StoreError;

/// While degraded, another reason is said after this long.
const SAY_AGAIN: Duration = Duration::from_secs(5);

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
        since: Instant,
        said: Instant,
        why: String,
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
    pub(super) fn lost(&self, error: &StoreError, by: Who) {
        let (now, text) = (Instant::now(), error.to_string());
        self.0.send_if_modified(|state| {
            let (mut began, mut by) = (now, by);
            if let State::Degraded { since, said, why, by: first, open } = state {
                // Another reason is worth a word too, but not at every turn.
                if *why == text || said.elapsed() < SAY_AGAIN {
                    *open = false;
                    return false;
                }
                began = *since;
                if *first == Who::Task {
                    by = Who::Task;
                }
            }
            tracing::warn!(error = %error,
                "degraded: the database cannot be used; payments wait on the chain, nothing is lost; trying again");
            *state = State::Degraded { since: began, said: now, why: text, by, open: false };
            true
        });
    }

    /// The database was used.
    pub(super) fn found(&self, who: Who) {
        self.0.send_if_modified(|state| {
            let State::Degraded { since, by, open, .. } = state else { return false };
            if who == Who::Keeper && *by == Who::Task {
                let opened = !*open;
                *open = true;
                return opened;
            }
            tracing::info!(elapsed_ms = since.elapsed().as_millis(), "the database is back");
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
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Ready => None,
            State::Degraded { why, .. } => Some(why.clone()),
        }
    }
}
