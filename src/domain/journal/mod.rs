//! Journals: sealed lines, numbered without gaps, one line of descent a namespace and one for the house.
//!
//! A [`Record`] holds what happened (its [`Cause`]) and what that did (its [`Outcome`]). The hash of the
//! cause decides whether the same thing is asked again; the seal covers everything and names the record
//! before. What a cause does to an account is decided in [`super::account`]: nothing here knows a balance.
//! Nothing here updates a record: corrections are new records.

mod cause;
mod draft;
mod entry;
mod event;
#[cfg(test)]
pub(crate) mod fixtures;
mod ids;
mod kind;
mod outcome;
mod record;
#[cfg(test)]
mod tests;

pub use cause::{
    Act, AddressesBound, Cause, CreditFacts, DepositCorrection, DepositCredit, DepositReversal,
    Effective, EpochAdded, LogKey, LogResumed, NamespaceOpened, Origin, Owed, PolicyAdded,
    TreasurySettlement, Unreadable, Valued, Worth, XpubRegistered, addresses_root,
};
pub use draft::{Draft, Said, first_difference};
pub use entry::{
    ACCOUNT_ISSUED_PAID, ACCOUNT_TREASURY_OBLIGATIONS, ACCOUNT_TREASURY_PURCHASES,
    ACCOUNT_TREASURY_RECEIVED, ACCOUNT_TREASURY_SLIPPAGE, Amount, Entry, Side, Unit, balanced,
    is_house_account, namespace_account, unit_of,
};
pub use event::{Event, EventKind, event_id};
pub use ids::{Genesis, JournalId, RecordId, genesis};
pub use kind::{Kind, UnknownKind};
pub use outcome::{Bound, Corrected, Credited, Moved, Nothing, Outcome, Reversed, Settled};
pub use record::{Record, cause_hash};
