//! Why a cause is not written: one variant for each different reaction.

use crate::domain::journal::{Kind, Unreadable};
use crate::domain::money::MoneyError;

/// Why a cause cannot be written now. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A number does not fit. The deposit is held.
    #[error("{0} does not fit")]
    Overflow(&'static str),
    /// The deposit has a credit that stands.
    #[error("the deposit was credited by record {seq} already, and that credit stands")]
    Standing {
        /// Place of that credit.
        seq: i64,
    },
    /// The cause counts other reversals of the deposit than there were.
    #[error("the deposit was reversed {found} times, not {asked}")]
    Reversals {
        /// What the cause says.
        asked: u32,
        /// What the account says.
        found: u32,
    },
    /// There is no such credit.
    #[error("record {seq} is not a credit of this journal")]
    NoCredit {
        /// The place named.
        seq: i64,
    },
    /// The credit was undone before.
    #[error("the credit of record {seq} was undone by record {by}")]
    Undone {
        /// Place of the credit.
        seq: i64,
        /// Place of the record that undid it.
        by: i64,
    },
    /// The credit whose conversion owes was undone: nothing is owed any more.
    #[error("the credit of record {seq} was undone: its conversion owes nothing any more")]
    Void {
        /// Place of the credit, in its journal.
        seq: i64,
    },
    /// More tokens than are owed, or than the purchase has left.
    #[error("{0} has fewer tokens left than that")]
    TooMany(&'static str),
    /// Less than a billionth of a dollar on both sides.
    #[error("these tokens are worth less than a billionth of a dollar")]
    MovesNothing,
    /// The treasury bought for a conversion what its correction does not owe.
    #[error("the treasury has bought for this conversion what its correction would not owe")]
    Bought,
    /// A field contradicts another one, or the account.
    #[error("{0} does not follow from the rest")]
    Contradiction(&'static str),
    /// Kinds of the house's journal do not stand in a namespace's, nor the other way round.
    #[error("a record of kind {0} does not belong to this journal")]
    WrongJournal(Kind),
    /// A namespace's journal begins with `namespace_opened`, and has one only.
    #[error("a journal of a namespace begins with namespace_opened, and nothing else does")]
    NotTheFirst,
    /// An operator or a key without a name.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// There is no number for one more record.
    #[error("the journal has no sequence number left")]
    Full,
    /// The same cause stands at this place, and only its place is known.
    #[error("record {seq} has the same id")]
    Twice {
        /// Its place.
        seq: i64,
    },
    /// A piece of the account that this cause needs was not loaded: a fault of the caller, never taken for
    /// "there is none".
    #[error("{what} {key} was not loaded")]
    NotLoaded {
        /// What sort of piece.
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// What is stored cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Refusal {
    /// A number that could not be computed.
    pub(super) fn of_money(what: &'static str) -> impl Fn(MoneyError) -> Self {
        move |_| Self::Overflow(what)
    }
}
