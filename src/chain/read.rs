//! What is read of a transaction or a range of blocks.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::transfer::RawLog;

/// The logs of a range of heights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeLogs {
    /// How many there are.
    pub seen: u64,
    /// Those that may concern the addresses asked about.
    pub logs: Vec<RawLog>,
    /// The times of their blocks, epoch milliseconds, where the logs tell (`blockTimestamp`).
    pub times: BTreeMap<u64, i64>,
}

/// A transaction's receipt, reduced to what a credit rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Block it is in.
    pub block_hash: B256,
    /// True when the transaction succeeded (status 1).
    pub succeeded: bool,
    /// All logs of the transaction.
    pub logs: Vec<RawLog>,
}
