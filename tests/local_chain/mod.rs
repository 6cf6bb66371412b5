//! The whole house on a real chain: anvil, the test contracts, and the real binary.

mod backup;
mod binary;
mod kills;
mod odd_logs;
pub mod outages;
mod reorgs;
mod schema;
mod steady;
pub mod support;
