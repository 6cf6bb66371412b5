//! Blocks whose bloom filter expects logs that nobody showed, and when each is read again.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::chain::Header;
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::RawLog;

/// Then it is read again, first after so long, and each time after twice as long, so many times: until
/// the second pass, which comes a whole window later, nobody else would.
pub(in crate::tasks) const AGAIN_MS: i64 = 4_000;

pub(in crate::tasks) const AGAIN_MAX: u32 = 6;

/// Blocks kept in mind, at most.
pub(in crate::tasks) const KEPT_MAX: usize = 1_024;

/// Blocks in doubt, until they are committed. Each by its own hash: one never forgets another.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Doubts {
    filter: Option<LogFilter>,
    /// What the receipts hold of what the filter asks for, and who showed it.
    pub(in crate::tasks) settled: BTreeMap<B256, (String, Vec<RawLog>)>,
    /// Since when nobody could settle it.
    pub(in crate::tasks) open: BTreeMap<B256, i64>,
    /// Blocks that were committed in doubt: when they are read again, and how often they were.
    pub(in crate::tasks) again: BTreeMap<u64, (i64, u32)>,
}

impl Doubts {
    /// From now on logs are asked for by this filter; what another one left out is not known.
    pub(in crate::tasks) fn by(&mut self, filter: &LogFilter) {
        if self.filter.as_ref() != Some(filter) || self.open.len() > KEPT_MAX {
            let again = std::mem::take(&mut self.again);
            *self = Self { filter: Some(filter.clone()), again, ..Self::default() };
        }
    }

    /// The heights at which it is time to read again.
    pub(in crate::tasks) fn due(&mut self, now_ms: i64) -> Vec<u64> {
        let due: Vec<u64> =
            self.again.iter().filter(|(_, (at, _))| *at <= now_ms).map(|(n, _)| *n).collect();
        for number in &due {
            if let Some((at, times)) = self.again.get_mut(number) {
                *times = times.saturating_add(1);
                *at = now_ms.saturating_add(AGAIN_MS.saturating_mul(1i64.wrapping_shl(*times)));
            }
        }
        self.again.retain(|_, (_, times)| *times < AGAIN_MAX);
        due
    }

    /// They are committed.
    pub(in crate::tasks) fn forget<'h>(&mut self, headers: impl IntoIterator<Item = &'h Header>) {
        for header in headers {
            self.settled.remove(&header.hash);
            self.open.remove(&header.hash);
        }
    }
}
