//! The account of one journal: what a cause does to it, decided by plain functions.
//!
//! [`decide()`] says what a cause does at this state of the account, or why it cannot; [`effects()`] says what
//! rows that makes, in natural keys; [`Account::apply`] moves the account on. [`Account::write`] does all
//! three and seals the record. [`Fold`] reads a journal from its start and finds what does not follow.
//! Nothing here reads or writes a database, and nothing knows a clock.

mod apply;
mod decide;
mod effects;
mod fold;
mod lot;
mod refusal;
mod state;
mod take;
#[cfg(test)]
mod tests;
mod treasury;
mod write;

pub use decide::{Decided, correct, decide};
pub use effects::{CreditRow, Effects, LotMove, MoveReason, ObligationRow, SettlementRow, effects};
pub use fold::{Broken, Fold, Step};
pub use lot::{Consideration, Lot, LotKind};
pub use refusal::Refusal;
pub use state::{Account, Credit, DepositState, Head, JournalRow, Obligation, Owing, Purchase};
pub use write::{New, Written};
