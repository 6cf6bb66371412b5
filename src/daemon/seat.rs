//! What stands between a task and the keeper: the task sees its lease there, and says whether it wants one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::store::Lease;

/// What a task says of its lease.
#[derive(Debug, Default)]
struct Wish {
    /// Not now: the lease is given back, and not asked for until this is over.
    is_barred: AtomicBool,
    /// Never again.
    is_left: AtomicBool,
}

/// What a task sees of its lease, and may say.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    /// The lease while it is held.
    pub(super) lease: watch::Receiver<Option<Lease>>,
    /// What is left to others without it, for the log.
    pub(super) leaves: &'static str,
    wish: Arc<Wish>,
}

impl Seat {
    /// One without a lease, and who gives it one.
    pub(super) fn new(leaves: &'static str) -> (watch::Sender<Option<Lease>>, Self) {
        let (sender, lease) = watch::channel(None);
        (sender, Self { lease, leaves, wish: Arc::default() })
    }

    /// Whether the task is to be done here.
    pub(super) fn is_wanted(&self) -> bool {
        let Wish { is_barred, is_left } = &*self.wish;
        !is_barred.load(Ordering::Relaxed) && !is_left.load(Ordering::Relaxed)
    }

    /// Leaves the task to other daemons, or asks for it again.
    pub(super) fn bar(&self, is_barred: bool) {
        self.wish.is_barred.store(is_barred, Ordering::Relaxed);
    }

    /// Leaves the task to other daemons for good. True for the first one who does.
    pub(super) fn leave(&self) -> bool {
        !self.wish.is_left.swap(true, Ordering::Relaxed)
    }
}
