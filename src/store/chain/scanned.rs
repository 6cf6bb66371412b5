//! What one step of a scan has read, and what is stored of it.

use crate::domain::chain::{ChainView, Header};
use crate::domain::deposit::Verdict;
use crate::domain::finding::NewFinding;
use crate::domain::ids::{AddressId, BlockRef, ChainId, Cursor};
use crate::domain::transfer::{Outgoing, Sighting};
use crate::store::chain::halts::Halt;
use crate::store::chain::newer::Known;

/// What the database knows of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// How far it is scanned.
    pub cursor: Cursor,
    /// The newest canonical blocks.
    pub view: ChainView,
    /// Why the chain stands still until somebody decides, if it does.
    pub halted: Option<Halt>,
    /// Addresses were registered since its last step, or while that was under way.
    pub has_newer: bool,
}

/// Who looked, where, and how much there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRecord {
    /// First block, inclusive.
    pub from: BlockRef,
    /// Last block, inclusive.
    pub to: BlockRef,
    /// `by_hash` at the head, `by_range` in catch-up.
    pub method: &'static str,
    /// Who answered.
    pub provider: String,
    /// Which logs were asked for: `tokens` or `recipients`.
    pub filter: &'static str,
    /// Logs in the answers.
    pub logs_seen: u64,
    /// Logs that concern our addresses.
    pub logs_matched: u64,
}

/// A sighting with what the rules said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightingToStore {
    /// The fact.
    pub sighting: Sighting,
    /// The judgement.
    pub verdict: Verdict,
}

/// One step's findings, decided on `expected` and `book_newest`.
#[derive(Debug, Clone)]
pub struct ScanChange {
    /// Chain.
    pub chain: ChainId,
    /// The cursor the step started from.
    pub expected: Cursor,
    /// The newest address the step knew.
    pub book_newest: AddressId,
    /// It may be committed where newer ones are there by now: what it scanned without them is read again for
    /// them. Otherwise it is to be matched once more, which costs less.
    pub lags: bool,
    /// How many epochs the sightings were judged by.
    pub epochs: usize,
    /// No longer canonical.
    pub orphaned: Vec<BlockRef>,
    /// Newly canonical, oldest first; the last one becomes the cursor.
    pub adopted: Vec<Header>,
    /// What was seen in them.
    pub sightings: Vec<SightingToStore>,
    /// What left our addresses in them.
    pub outgoing: Vec<Outgoing>,
    /// The record of the scan.
    pub scan: ScanRecord,
    /// Blocks kept below the cursor.
    pub window: u64,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// What somebody should look at.
    pub findings: Vec<NewFinding>,
}

impl ScanChange {
    /// Whether it was matched with the addresses that are there. A book that has more was read from a database
    /// which has gone back since; one that has less than the step before is an old one.
    pub(in crate::store) fn fits(&self, book: Known) -> bool {
        let newest = self.book_newest;
        newest == book.newest || (self.lags && newest < book.newest && newest >= book.known)
    }
}

/// Sightings, and who showed them.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What was seen.
    pub sightings: &'a [SightingToStore],
    /// What left our addresses.
    pub outgoing: &'a [Outgoing],
    /// Who showed it.
    pub provider: &'a str,
    /// Two say so: what one alone had shown at the same places is corrected.
    pub overrules: bool,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// What somebody should look at.
    pub findings: &'a [NewFinding],
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanOutcome {
    /// It is durable; this many deposits are new or changed.
    Committed {
        /// Deposits that changed.
        deposits: usize,
    },
    /// An address was registered meanwhile, or the book is of another time: match again.
    StaleBook,
    /// Somebody moved the cursor: look again.
    StaleCursor,
}
