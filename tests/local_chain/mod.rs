//! The whole house on a real chain: anvil, the test contracts, and the real binary.

mod backup;
mod binary;
mod coming_back;
mod demo;
pub mod ganache;
mod json;
mod kills;
mod left_chain;
mod looking;
mod lying;
mod market;
mod market_cli;
mod nobody_listens;
mod odd_logs;
mod oracle;
mod origin;
pub mod outages;
mod proofs;
mod proxied;
pub mod proxy;
mod read_only;
mod reorgs;
mod schema;
mod second_node;
mod start;
mod steady;
pub mod support;
