//! DECIDE. Plain functions over facts: which logs are transfers to us, which blocks are canonical,
//! which stage follows, what a payment is worth, what it does to an account, how a record is sealed.
//!
//! Uses `std`, `serde`, `alloy::primitives`, `sha2`, `ring` (signatures) and `rust_decimal` only. It knows no clock, no
//! SQL, no HTTP and no async; whoever calls it brings the facts and commits what comes back.
//!
//! The invariants everything else relies on:
//!
//! * **I1** a deposit has at most one unreversed credit;
//! * **I2** a credit's amount equals its fixed price times the raw amount, rounded down;
//! * **I3** the cursor's block is canonical in the kept window;
//! * **I4** every sighting's block is known, canonical or orphaned;
//! * **I5** records are never updated or deleted;
//! * **I6** a credit has a canonical sighting, at policy depth *at the time it was confirmed*;
//! * **I7** a namespace's balance is the sum of its entries, and what its lots have left without its debt;
//! * **I8** every credit has exactly one event.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod account;
pub mod act_kind;
pub mod acts;
pub mod chain;
pub mod chain_rules;
pub mod compared;
pub mod conversion;
pub mod correction;
pub mod deposit;
pub mod finality;
pub mod finding;
pub mod frozen;
pub mod ids;
pub mod journal;
pub mod log;
pub mod log_filter;
pub mod money;
pub mod oracle;
pub mod pricing;
pub mod rate;
pub mod receipt_proof;
pub mod rounding;
pub mod said;
pub mod screening;
pub mod screening_rules;
pub mod seal;
pub mod secrets;
pub mod terms;
pub mod transfer;
pub mod waiting;
pub mod wallet;
