//! Who answered, and who did not, when others were asked for what one provider shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::pool::Pool;
use crate::chain::source::{ChainSource, SourceError};

/// The first pause of one that did not answer whether it has a block; it doubles.
pub(in crate::tasks) const MUTE_MS: i64 = 500;

/// The longest such pause.
pub(in crate::tasks) const MUTE_MAX_MS: i64 = 30_000;

/// What the others say of blocks that one provider shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tasks) enum Said {
    /// Another one has so many of them, the oldest, and all if it is their number.
    Has(usize),
    /// Nobody who answered has any.
    Lacks,
    /// Nobody answered.
    Silent,
}

/// An answer, and who gave none.
#[derive(Debug)]
pub(in crate::tasks) struct Asked<T> {
    pub(in crate::tasks) said: T,
    answered: BTreeSet<String>,
    silent: BTreeSet<String>,
}

/// What is kept between activations of whether others have what one shows.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Company {
    /// Who did not answer lately, how often, and until when it is left alone.
    mute: BTreeMap<String, (u32, i64)>,
    /// The height of the last block that two had.
    pub(in crate::tasks) two_had: Option<u64>,
    /// Since when nobody else answers.
    pub(in crate::tasks) silent_since: Option<i64>,
    /// Two agree, and whatever was found while they did not is closed.
    pub(in crate::tasks) agreed: bool,
    /// Since when a provider shows blocks that nobody else has.
    pub(in crate::tasks) ahead_since: BTreeMap<String, i64>,
}

impl Company {
    /// Who is not asked at this moment, because it did not answer.
    pub(in crate::tasks) fn mute(&self, now_ms: i64) -> BTreeSet<String> {
        let mute = |(_, until): &&(u32, i64)| {
            *until > now_ms && *until <= now_ms.saturating_add(MUTE_MAX_MS)
        };
        self.mute.iter().filter(|(_, m)| mute(m)).map(|(name, _)| name.clone()).collect()
    }

    /// Keeps who answered and who did not.
    pub(in crate::tasks) fn note<T>(&mut self, asked: Asked<T>, now_ms: i64) -> T {
        for name in &asked.answered {
            self.mute.remove(name);
        }
        for name in asked.silent.difference(&asked.answered) {
            let (times, until) = self.mute.entry(name.clone()).or_insert((0, 0));
            let doubled = MUTE_MS.saturating_mul(1i64.wrapping_shl((*times).min(20)));
            *until = now_ms.saturating_add(doubled.min(MUTE_MAX_MS));
            *times = times.saturating_add(1);
        }
        asked.said
    }
}

impl<T> Asked<T> {
    pub(in crate::tasks) fn of(said: T) -> Self {
        Self { said, answered: BTreeSet::new(), silent: BTreeSet::new() }
    }

    pub(in crate::tasks) fn heard<S: ChainSource, A>(
        &mut self,
        pool: &Pool<S>,
        other: &S,
        now_ms: i64,
        answer: Result<A, SourceError>,
    ) -> Option<A> {
        match answer {
            Ok(answer) => {
                self.answered.insert(other.provider().to_owned());
                Some(answer)
            }
            Err(error) => {
                pool.record_failure(other, &error, now_ms);
                self.silent.insert(other.provider().to_owned());
                None
            }
        }
    }
}
