//! DO. Idempotent functions without input, each one step of the work.
//!
//! A task looks at what is stored and what the chain says, decides with `domain`, and commits. Its
//! next activation is its retry; being killed between two commits changes nothing but the time. It
//! spawns nothing, and takes no hint about what changed, so that the common path and the path after
//! a crash are one.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod admit;
pub mod by_hand;
pub mod errors;
pub mod frozen;
pub(super) mod logs;
pub mod prices;
pub mod rescan;
pub mod sequence;
pub mod settle;
pub mod survey;
pub mod tokens;
pub mod watch;

/// Requests under way at once.
const CONCURRENCY: usize = 8;
