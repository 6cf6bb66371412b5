//! DO. Idempotent functions without input, each one step of the work.
//!
//! A task looks at what is stored and what the chain says, decides with `domain`, and commits. Its
//! next activation is its retry; being killed between two commits changes nothing but the time. It
//! spawns nothing, and takes no hint about what changed, so that the common path and the path after
//! a crash are one.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod admit;
mod after;
mod again;
pub mod ask;
pub mod by_hand;
mod capture;
mod catch_up;
mod company;
pub mod confirming;
mod contradicted;
mod correct;
mod doubted;
mod doubts;
mod dust;
pub mod errors;
mod follow;
pub mod frozen;
mod heard;
mod judge;
mod kept;
mod late;
mod legs;
mod locate;
pub(super) mod logs;
pub mod look;
pub mod looked;
mod lost;
pub mod market;
mod outflows;
mod pages;
mod price;
mod prove;
pub mod quotes;
pub mod recompute;
mod reverse;
pub mod sample;
mod schedule;
pub mod screen;
pub mod sequence;
pub mod settle;
pub mod step;
pub mod survey;
pub mod tokens;
mod unread;
mod verdict;
pub mod waiting;
pub mod watch;
mod witness;

/// Requests under way at once.
const CONCURRENCY: usize = 8;
