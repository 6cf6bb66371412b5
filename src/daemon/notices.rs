//! What is said once: why something does not get on, again when the reason changes or it lasts, and when it is over.
//!
//! It writes nothing. Whoever keeps it asks whether a line is due.

use std::time::Duration;

use tokio::time::Instant;

/// Another reason, or the same trouble that was over meanwhile, is worth a word after so long, not at every turn.
const CHANGED: Duration = Duration::from_secs(5);
/// The same reason is repeated after so long.
const LASTS: Duration = Duration::from_secs(300);

/// What was said of one trouble after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Since when it lasts, while it does.
    since: Option<Instant>,
    /// The reason that was said last, and when.
    last: Option<(String, Instant)>,
    /// Whether the trouble that lasts was said.
    is_known: bool,
}

impl Said {
    /// There is trouble for this reason. True when that is to be said: not before it has lasted for `patience`.
    pub(super) fn stands(&mut self, why: &str, patience: Duration) -> bool {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < patience {
            return false;
        }
        if let Some((said, at)) = &self.last {
            let pause = if self.is_known && said == why { LASTS } else { CHANGED };
            if now.duration_since(*at) < pause {
                return false;
            }
        }
        self.last = Some((why.to_owned(), now));
        self.is_known = true;
        true
    }

    /// There is none. True when that is to be said: somebody was told of it.
    pub(super) fn over(&mut self) -> bool {
        self.since = None;
        std::mem::take(&mut self.is_known)
    }

    /// The reason that was said last.
    pub(super) fn why(&self) -> Option<&str> {
        self.last.as_ref().map(|(why, _)| why.as_str())
    }

    /// How long it has lasted.
    pub(super) fn lasted(&self) -> Duration {
        self.since.map(|since| since.elapsed()).unwrap_or_default()
    }
}
