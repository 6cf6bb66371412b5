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

#[derive(Debug, Clone)]
enum State {
    Ready,
    Degraded { since: Instant, said: Instant, why: String },
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::Ready)))
    }
}

impl Health {
    /// The database did not answer.
    pub(super) fn lost(&self, error: &StoreError) {
        let (now, text) = (Instant::now(), error.to_string());
        self.0.send_if_modified(|state| {
            let mut began = now;
            if let State::Degraded { since, said, why } = state {
                // Another reason is worth a word too, but not at every turn.
                if *why == text || said.elapsed() < SAY_AGAIN {
                    return false;
                }
                began = *since;
            }
            tracing::warn!(error = %error,
                "degraded: the database cannot be used; payments wait on the chain, nothing is lost; trying again");
            *state = State::Degraded { since: began, said: now, why: text };
            true
        });
    }

    /// The database answered.
    pub(super) fn found(&self) {
        self.0.send_if_modified(|state| {
            let State::Degraded { since, .. } = state else { return false };
            tracing::info!(elapsed_ms = since.elapsed().as_millis(), "the database is back");
            *state = State::Ready;
            true
        });
    }

    /// Returns as soon as the database answers.
    pub(super) async fn ready(&self) {
        let mut state = self.0.subscribe();
        // Fails only when nobody can send any more, which this value itself prevents.
        let _ = state.wait_for(|state| matches!(state, State::Ready)).await;
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
