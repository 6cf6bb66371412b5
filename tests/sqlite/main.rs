//! Everything on SQLite.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as expected"
)]

mod begun;
mod damaged;
#[path = "../support/database.rs"]
mod database;
mod disk;
mod elsewhere;
mod files;
#[path = "../house/mod.rs"]
mod house;
#[path = "../local_chain/mod.rs"]
mod local_chain;
mod marked;
mod meddled;
mod older;

/// What this binary runs on.
pub const ENGINE: database::Engine = database::Engine::Sqlite;
