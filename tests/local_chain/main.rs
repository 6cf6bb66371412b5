//! The whole house on a real chain: anvil, the test contracts, SQLite, and the real binary.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as expected"
)]

mod binary;
mod kills;
mod odd_logs;
mod outages;
mod reorgs;
mod steady;
mod support;
