//! What people ask for, one file a topic: the command line and HTTP call these, and show the view that they
//! return.
//!
//! An error has a `code` that stays as it is, and a sentence without options or commands: how to do it right is
//! said by whoever talks to people.

pub mod clock;

use crate::store::StoreError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It is asked for in a way, or of something, that does not allow it: nothing was changed.
    #[error("{why}")]
    Refused {
        /// What is wrong, for programs: it never changes.
        code: &'static str,
        /// What is wrong, for people.
        why: String,
    },
    /// Somebody who is needed does not answer: the same may work later.
    #[error("{why}")]
    Unavailable {
        /// Who, for programs: it never changes.
        code: &'static str,
        /// What does not answer, for people.
        why: String,
    },
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// Refuses what was asked for.
    pub(crate) fn refused(code: &'static str, why: impl Into<String>) -> Self {
        Self::Refused { code, why: why.into() }
    }
}
