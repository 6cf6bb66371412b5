//! A world, providers that see it in their own ways, and the stories played on it.

mod calm;
mod faults;
mod invariants;
mod lies;
mod market;
mod money;
mod people;
mod plan;
mod progress;
mod provider;
mod rules;
mod source;
pub mod story;
mod turns;
mod world;

/// Confirmations that small payments wait for.
pub const CONFIRMATIONS: u64 = 4;
/// The `finalized` tag is so many blocks behind the tip.
pub const FINAL: u64 = 8;
/// Blocks kept; no fork of the world reaches deeper.
pub const WINDOW: u64 = 24;
