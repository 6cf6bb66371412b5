//! The clock that dates what a store writes: the database's, followed between two readings by what has
//! passed since; or one that a test sets.
//!
//! Daemons on several machines write to one database and compare what they find there with the time. So
//! all of them go by its clock, and what somebody does to a machine's clock changes nothing that is stored.
//! Where one reading decides, it is made in the transaction itself ([`super::clock`]).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::clock::{Clock, SystemClock};

/// A clock that moves so much more or less than time passes was set.
const JUMP_MS: i64 = 5_000;

/// The clock of a store.
pub(super) struct StoreClock {
    set: Option<Arc<dyn Clock>>,
    /// The database may say that testers moved the time.
    can_be_moved: AtomicBool,
    /// How far they have moved it, as it was read last.
    ahead_ms: AtomicI64,
    began: Instant,
    followed: Mutex<Option<Followed>>,
    /// The last record of a journal is of a time that is still to come, and that was said.
    said_behind: AtomicBool,
    /// The time of the newest record that was in hand.
    newest_ms: AtomicI64,
}

impl Default for StoreClock {
    fn default() -> Self {
        let (began, said_behind) = (Instant::now(), AtomicBool::new(false));
        let (newest_ms, ahead_ms) = (AtomicI64::new(0), AtomicI64::new(0));
        let (can_be_moved, followed) = (AtomicBool::new(false), Mutex::new(None));
        Self { set: None, can_be_moved, ahead_ms, began, followed, said_behind, newest_ms }
    }
}

impl fmt::Debug for StoreClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreClock").field("followed", &self.followed).finish_non_exhaustive()
    }
}

impl Clock for StoreClock {
    fn now_ms(&self) -> i64 {
        if let Some(set) = &self.set {
            return set.now_ms();
        }
        self.server_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl StoreClock {
    /// The time of a clock that is set.
    pub(super) fn set(clock: Arc<dyn Clock>) -> Self {
        Self { set: Some(clock), ..Self::default() }
    }

    /// True for a clock that is set: the database's says nothing then.
    pub(super) fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// The database server's own time.
    pub(super) fn server_ms(&self) -> i64 {
        let followed = *self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        // Connecting reads it, so that there is one.
        followed.map_or_else(|| SystemClock.now_ms(), |f| f.offset_ms.saturating_add(self.passed()))
    }

    /// From now on the database is asked whether testers moved the time.
    pub(super) fn allow_moving(&self) {
        self.can_be_moved.store(true, Ordering::Relaxed);
    }

    /// Whether the database is asked that.
    pub(super) fn can_be_moved(&self) -> bool {
        self.can_be_moved.load(Ordering::Relaxed)
    }

    /// Takes how far testers have moved the time. That is no jump of anybody's clock.
    pub(super) fn be_ahead(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    /// Milliseconds since this process opened the store, by a clock that nobody sets.
    pub(super) fn passed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes a reading that was asked for then and answered now. How far the clock jumped since the one
    /// before, if it did.
    pub(super) fn read(&self, reading_ms: i64, asked: i64) -> Option<i64> {
        let answered = self.passed();
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        match followed.as_mut() {
            Some(followed) => followed.read(reading_ms, asked, answered),
            None => {
                *followed = Some(Followed::first(reading_ms, asked, answered));
                None
            }
        }
    }

    /// Compares the time with that of the newest record in hand. A clock that was set back is said once.
    pub(super) fn compare_with(&self, now_ms: i64, newest_ms: i64) {
        let newest_ms = self.newest_ms.fetch_max(newest_ms, Ordering::Relaxed).max(newest_ms);
        let ahead_ms = newest_ms.saturating_sub(now_ms);
        let is_behind = ahead_ms > JUMP_MS;
        if self.said_behind.swap(is_behind, Ordering::Relaxed) != is_behind && is_behind {
            tracing::warn!(
                clock.behind_ms = ahead_ms,
                "the database's clock is behind the last record of a journal, as if it was set back: records bear the time of that one until the clock has passed it; set the clock right"
            );
        }
    }
}

/// What a clock says, against one that nobody sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Followed {
    offset_ms: i64,
    /// How far off that may be: a reading is of some moment between question and answer.
    slack_ms: i64,
}

impl Followed {
    fn first(reading_ms: i64, asked: i64, answered: i64) -> Self {
        let offset_ms = reading_ms.saturating_sub(answered);
        Self { offset_ms, slack_ms: answered.saturating_sub(asked) }
    }

    /// Moves only as far as the reading shows for certain: a slow answer moves nothing.
    fn read(&mut self, reading_ms: i64, asked: i64, answered: i64) -> Option<i64> {
        let least = reading_ms.saturating_sub(answered);
        let most = reading_ms.saturating_sub(asked);
        let width_ms = most.saturating_sub(least);
        let offset_ms = self.offset_ms.max(least).min(most);
        let moved_ms = offset_ms.saturating_sub(self.offset_ms);
        let has_jumped = moved_ms.saturating_abs() > JUMP_MS.saturating_add(self.slack_ms);
        let slack_ms = if moved_ms == 0 { self.slack_ms.min(width_ms) } else { width_ms };
        *self = Self { offset_ms, slack_ms };
        has_jumped.then_some(moved_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_jump_is_told_once_and_neither_a_slow_answer_nor_drift_is_one() {
        let mut clock = Followed::first(HOUR, 0, 10);
        assert_eq!(clock.offset_ms, HOUR - 10);
        // An answer that takes 30 s says nothing new, before and after another one.
        assert_eq!(clock.read(HOUR + 1_000, 1_000, 31_000), None);
        assert_eq!(clock.read(HOUR + 32_000, 32_000, 32_001), None);
        assert_eq!(clock.offset_ms, HOUR - 1);
        // A clock that goes wrong by 1 in 1,000 is followed.
        for second in 1..=100 {
            let (passed, drifted) = (second * 100_000, second * 100);
            assert_eq!(clock.read(HOUR + passed + drifted, passed, passed + 1), None, "{second}");
        }
        assert_eq!(clock.offset_ms, HOUR + 9_999);
        // Set back by an hour, and forth again by two.
        assert_eq!(clock.read(20_000_000, 20_000_000, 20_000_001), Some(-HOUR - 9_999));
        assert_eq!(clock.read(20_001_000, 20_001_000, 20_001_001), None);
        assert_eq!(clock.read(2 * HOUR + 20_002_000, 20_002_000, 20_002_001), Some(2 * HOUR - 1));
        assert_eq!(clock.read(2 * HOUR + 20_003_000, 20_003_000, 20_003_001), None);
        // A first reading that took long is no jump when a better one comes.
        let mut late = Followed::first(HOUR, 0, 20_000);
        assert_eq!(late.read(HOUR + 21_000, 21_000, 21_001), None);
        assert_eq!(late.offset_ms, HOUR - 1);
    }

    #[test]
    fn a_clock_that_is_behind_the_last_record_is_said_once() {
        let clock = StoreClock::default();
        let said = |now_ms, newest_ms| {
            clock.compare_with(now_ms, newest_ms);
            clock.said_behind.load(Ordering::Relaxed)
        };
        assert!(!said(7, 5));
        assert!(!said(7, JUMP_MS));
        assert!(said(7, HOUR));
        // Other journals have older records.
        assert!(said(8, 5));
        assert!(!said(HOUR, HOUR));
    }
}
