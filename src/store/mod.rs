//! REMEMBER. The only SQL in the tree.
//!
//! Each method that writes is one transaction: it takes a change that was decided elsewhere,
//! checks in the same transaction that the facts it was decided on still hold, and commits all of
//! it or nothing. No method waits for the network. SQLite for now; `$n` placeholders, byte ids and
//! epoch milliseconds throughout, so that PostgreSQL can stand behind the same statements.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod book;
mod engine;
mod ledger;
mod rests_on;
mod rows;
mod scan;
mod settle;
mod verify;
mod views;

pub use book::{AddressRow, NamespaceRow};
pub use engine::{Store, StoreError};
pub use ledger::{HistoryRow, Posted};
pub use scan::{ChainState, ScanChange, ScanOutcome, ScanRecord, SightingToStore};
pub use settle::{Confirmation, OpenDeposit, Pricing};
pub use verify::{Finding, Verified};
pub use views::{DepositDetail, DepositFilter, DepositRow, SightingRow};
