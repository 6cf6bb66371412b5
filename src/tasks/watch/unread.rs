//! Why a range of blocks was not read, and whether fewer blocks may help.

use crate::tasks::errors::WatchError;

/// Why a range was not read.
pub(in crate::tasks) struct Unread {
    pub(in crate::tasks) error: WatchError,
    /// It was asked for its logs, and refused or failed: fewer blocks may help.
    pub(in crate::tasks) at_logs: bool,
}

impl<E: Into<WatchError>> From<E> for Unread {
    fn from(error: E) -> Self {
        Self { error: error.into(), at_logs: false }
    }
}
