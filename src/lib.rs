//! topupd
#![allow(missing_docs)]
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod devnet;
pub mod domain;
pub mod store;
pub mod tasks;
pub mod telemetry;
