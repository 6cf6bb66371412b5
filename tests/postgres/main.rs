//! Everything on PostgreSQL, and what only it can do.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as expected"
)]

mod copies;
#[path = "../support/database.rs"]
mod database;
mod deadlocks;
mod differential;
mod failover;
#[path = "../house/mod.rs"]
mod house;
#[path = "../local_chain/mod.rs"]
mod local_chain;
mod registering;
mod schema;
mod several;
mod writers;

/// What this binary runs on.
pub const ENGINE: database::Engine = database::Engine::Postgres;
