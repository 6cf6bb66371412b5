//! A world, providers that see it in their own ways, and the stories played on it.

mod invariants;
mod market;
pub mod provider;
mod rules;
pub mod story;
pub mod world;

/// Confirmations that small payments wait for.
pub const CONFIRMATIONS: u64 = 4;
/// The `finalized` tag is so many blocks behind the tip.
pub const FINAL: u64 = 8;
/// Blocks kept; no fork of the world reaches deeper.
pub const WINDOW: u64 = 24;
