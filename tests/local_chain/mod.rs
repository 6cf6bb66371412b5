//! The whole house on a real chain: anvil, the test contracts, and the real binary.

mod backup;
pub mod binary;
mod by_hand;
#[cfg(target_os = "linux")]
pub mod clock;
mod coming_back;
mod configured;
mod demo;
mod frozen;
pub mod ganache;
mod import_file;
mod json;
mod kills;
mod left_chain;
mod let_pass;
mod looking;
mod lying;
mod market;
pub mod market_cli;
mod nobody_listens;
mod odd_logs;
mod oracle;
mod origin;
pub mod outages;
mod proofs;
mod proxied;
pub mod proxy;
mod read_only;
mod reading;
mod reorgs;
mod schema;
mod screening;
mod second_node;
mod signals;
pub mod start;
mod steady;
pub mod support;
