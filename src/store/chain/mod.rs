//! What is stored of chains: blocks, sightings, scans and what was looked at again.

pub(in crate::store) mod backfills;
pub(in crate::store) mod coverage;
pub(in crate::store) mod frozen;
pub(in crate::store) mod halts;
pub(in crate::store) mod newer;
pub(in crate::store) mod outflow_checks;
pub(in crate::store) mod outgoing;
pub(in crate::store) mod rescan;
pub(in crate::store) mod scan;
pub(in crate::store) mod scanned;
pub(in crate::store) mod tokens;
pub(in crate::store) mod under_way;
