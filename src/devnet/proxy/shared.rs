//! What all connections of a proxy share: its rules, and what was counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use url::Url;

use crate::devnet::proxy::call::Call;
use crate::devnet::proxy::faults::Rule;
use crate::devnet::proxy::order::Socket;

/// What the connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) upstream: watch::Sender<Url>,
    pub(super) rules: watch::Sender<Vec<Arc<Rule>>>,
    pub(super) client: reqwest::Client,
    pub(super) requests: Mutex<BTreeMap<String, u64>>,
    pub(super) sent: AtomicU64,
    pub(super) sockets: Mutex<BTreeMap<u64, Socket>>,
}

impl Shared {
    /// The faults that concern a call and are not used up.
    pub(super) fn rules_for(&self, call: &Call) -> Vec<Arc<Rule>> {
        let rules = self.rules.borrow();
        rules.iter().filter(|rule| rule.concerns(call.names())).cloned().collect()
    }

    pub(super) fn count(&self, call: &Call) {
        let mut requests = lock(&self.requests);
        for name in call.names() {
            let count = requests.entry(name.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fault that was set. Letting go of it changes nothing.
pub struct Injected {
    pub(super) rule: Arc<Rule>,
    pub(super) shared: Arc<Shared>,
}

impl Injected {
    /// How many requests it has spoiled. Not those that it had nothing to change in.
    pub fn hits(&self) -> u64 {
        self.rule.hits.load(Ordering::SeqCst)
    }

    /// Takes this one back.
    pub fn lift(&self) {
        self.shared.rules.send_modify(|rules| rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule)));
    }
}
