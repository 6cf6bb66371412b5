//! What was asked over HTTP in vain, and when it may be asked again.
//!
//! Kept in memory: after a restart everything is asked anew. Nothing of it is evidence.

use std::collections::BTreeMap;

/// What has no answer is asked again after so long, each further time after twice as long, ...
const AGAIN_MS: i64 = 5_000;
/// ... but after this at most.
const AGAIN_MAX_MS: i64 = 60_000;
/// What was asked in vain is forgotten after so long without another attempt.
const FORGOTTEN_MS: i64 = 600_000;
/// That somebody does not answer is said once in so long.
const SAID_EVERY_MS: i64 = 60_000;

/// What has no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    urls: BTreeMap<String, InVain>,
    /// Nobody is there: since when, and why.
    rests: Option<(i64, String)>,
    /// When it was last said in the log.
    said_ms: Option<i64>,
}

/// A question without an answer.
#[derive(Debug)]
struct InVain {
    /// When it was last asked.
    at_ms: i64,
    times: u32,
    why: String,
}

impl Silent {
    /// Forgets what nobody asks any more.
    pub(super) fn forget(&mut self, now_ms: i64) {
        self.urls.retain(|_, asked| lately(asked.at_ms, now_ms, FORGOTTEN_MS));
    }

    /// Why there was no answer lately, of a question that is not to be asked again yet.
    pub(super) fn lately(&self, url: &str, now_ms: i64) -> Option<String> {
        let asked = self.urls.get(url)?;
        let pause_ms = AGAIN_MS.saturating_mul(1 << asked.times.saturating_sub(1).min(10));
        lately(asked.at_ms, now_ms, pause_ms.min(AGAIN_MAX_MS)).then(|| asked.why.clone())
    }

    /// When a question was last asked in vain; long ago, where it never was.
    pub(super) fn last_ms(&self, url: &str) -> i64 {
        self.urls.get(url).map_or(i64::MIN, |asked| asked.at_ms)
    }

    pub(super) fn answered(&mut self, url: &str) {
        self.urls.remove(url);
    }

    /// There was no answer to this, which the log says now and then.
    pub(super) fn in_vain(&mut self, url: &str, now_ms: i64, why: &str) {
        let times = self.urls.get(url).map_or(0, |asked| asked.times).saturating_add(1);
        let asked = InVain { at_ms: now_ms, times, why: why.to_owned() };
        self.urls.insert(url.to_owned(), asked);
        if !self.said_ms.is_some_and(|said| lately(said, now_ms, SAID_EVERY_MS)) {
            self.said_ms = Some(now_ms);
            tracing::warn!(why, "the screening service gives no answer about a payment");
        }
    }

    /// Whoever is away, or says that it is too much, is left alone for a while.
    pub(super) fn is_away(&mut self, now_ms: i64, why: &str) {
        self.rests = Some((now_ms, why.to_owned()));
    }

    /// Why nobody is asked just now.
    pub(super) fn rests(&self, now_ms: i64) -> Option<String> {
        let rests = self.rests.as_ref().filter(|(since, _)| lately(*since, now_ms, AGAIN_MS));
        rests.map(|(_, why)| why.clone())
    }
}

fn lately(at_ms: i64, now_ms: i64, pause_ms: i64) -> bool {
    (0..pause_ms).contains(&now_ms.saturating_sub(at_ms))
}
