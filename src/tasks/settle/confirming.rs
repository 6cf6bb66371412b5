//! One round of confirming: what it goes by, and what it has done so far.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::chain::pool::Pool;
use crate::chain::source::SourceError;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::{BlockRef, DepositId};
use crate::domain::waiting::Wait;
use crate::store::{Backfill, LeasedStore, OpenDeposit, RecordedOf};
use crate::tasks::settle::screen::Screener;
use crate::tasks::settle::witness::Witnesses;

/// What an activation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Deposits confirmed.
    pub confirmed: usize,
    /// Deposits credited.
    pub credited: usize,
    /// Credits undone.
    pub reversed: usize,
    /// There is more to do at once.
    pub more: bool,
}

/// The deposits of one transaction in one block, shown by one provider: they are final together,
/// and whoever can bear witness to one can to all.
pub(in crate::tasks) type Group = Vec<OpenDeposit>;

/// Takes pending deposits that are deep enough to `Confirmed`, when their receipts agree.
pub(in crate::tasks) struct Confirming<'a, S> {
    pub(in crate::tasks) rules: &'a ChainRules,
    pub(in crate::tasks) pool: &'a Pool<S>,
    pub(in crate::tasks) witnesses: &'a Witnesses<'a, S>,
    pub(in crate::tasks) store: &'a LeasedStore,
    pub(in crate::tasks) screener: &'a Screener,
    pub(in crate::tasks) clock: &'a dyn Clock,
    pub(in crate::tasks) head: BlockRef,
    pub(in crate::tasks) done: Settled,
    /// The first failure of a source.
    pub(in crate::tasks) failure: Option<SourceError>,
    /// What payments that are deep enough wait for, each with the failure that was met.
    pub(in crate::tasks) waits: BTreeMap<DepositId, (Wait, String)>,
    /// Old blocks that are being read.
    pub(in crate::tasks) reading: Vec<Backfill>,
    /// What is recorded of the transactions of the batch at hand.
    pub(in crate::tasks) recorded: Mutex<RecordedOf>,
}
