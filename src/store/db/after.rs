//! What is to be done once a transaction is committed, and never if it is not.

use std::fmt;

/// What somebody does.
type Does = Box<dyn FnOnce() + Send>;

/// What is to be done, in this order.
#[derive(Default)]
pub(super) struct After(Vec<Does>);

impl After {
    /// Something more.
    pub(super) fn add(&mut self, does: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(does));
    }

    /// It is committed.
    pub(super) fn happens(self) {
        for does in self.0 {
            does();
        }
    }
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("After").field(&self.0.len()).finish()
    }
}
