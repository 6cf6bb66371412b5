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
use crate::tasks::screen::Screener;
use crate::tasks::witness::Witnesses;

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
pub(super) type Group = Vec<OpenDeposit>;

/// Takes pending deposits that are deep enough to `Confirmed`, when their receipts agree.
pub(super) struct Confirming<'a, S> {
    pub(super) rules: &'a ChainRules,
    pub(super) pool: &'a Pool<S>,
    pub(super) witnesses: &'a Witnesses<'a, S>,
    pub(super) store: &'a LeasedStore,
    pub(super) screener: &'a Screener,
    pub(super) clock: &'a dyn Clock,
    pub(super) head: BlockRef,
    pub(super) done: Settled,
    /// The first failure of a source.
    pub(super) failure: Option<SourceError>,
    /// What payments that are deep enough wait for, each with the failure that was met.
    pub(super) waits: BTreeMap<DepositId, (Wait, String)>,
    /// Old blocks that are being read.
    pub(super) reading: Vec<Backfill>,
    /// What is recorded of the transactions of the batch at hand.
    pub(super) recorded: Mutex<RecordedOf>,
}
