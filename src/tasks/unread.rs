//! Why a range of blocks was not read, and whether fewer blocks may help.

use crate::tasks::errors::WatchError;

/// Why a range was not read.
pub(super) struct Unread {
    pub(super) error: WatchError,
    /// It was asked for its logs, and refused or failed: fewer blocks may help.
    pub(super) at_logs: bool,
}

impl<E: Into<WatchError>> From<E> for Unread {
    fn from(error: E) -> Self {
        Self { error: error.into(), at_logs: false }
    }
}
