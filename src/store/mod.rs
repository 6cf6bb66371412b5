//! REMEMBER. The only SQL in the tree.
//!
//! Each method that writes is one transaction: it takes a change that was decided elsewhere,
//! checks in the same transaction that the facts it was decided on still hold, and commits all of
//! it or nothing. No method waits for the network. What a task of a chain writes, it writes through
//! [`LeasedStore`], which checks the chain's lease in the same transaction. One text for both
//! engines: what differs between them is in `db`.
//!
//! Every method fails when the database does, or when a row is not one that this code writes; nothing is written
//! then. `# Errors` names what else a method refuses.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod acts;
mod chain;
mod clock;
mod copy;
mod db;
mod deposits;
mod engine;
mod errors;
mod events;
mod findings;
mod leases;
mod ledger;
mod log;
mod open;
mod prices;
mod registry;
mod rows;
mod time;
mod treasury;
mod verify;
mod went_back;
mod whole_journals;

pub use crate::store::acts::breakers::Breaker;
pub use crate::store::acts::checks::is_from_another_hold;
pub use crate::store::acts::kinds::{Act, HELD_REST_MS, ManualPrice, Resume, Waiver};
pub use crate::store::chain::backfills::{Backfill, BackfillKind};
pub use crate::store::chain::coverage::{RecordedAt, ScanRow};
pub use crate::store::chain::frozen::{FrozenTurn, PaidAddress};
pub use crate::store::chain::halts::Halt;
pub use crate::store::chain::outflow_checks::{Checked, DoubtfulOutflow, OutflowCheck};
pub use crate::store::chain::outgoing::Outflow;
pub use crate::store::chain::rescan::{LookOutcome, Progress, SecondLook};
pub use crate::store::chain::scanned::{
    ChainState, ScanChange, ScanOutcome, ScanRecord, Seen, SightingToStore,
};
pub use crate::store::chain::tokens::TokenPin;
pub use crate::store::chain::under_way::LeftChain;
pub use crate::store::deposits::due::{DueBy, PaidTogether};
pub use crate::store::deposits::dust::{Dusty, Place, StoredSum, SumState};
pub use crate::store::deposits::open_deposit::{
    Confirmation, Held, OpenDeposit, Pricing, RecordedOf,
};
pub use crate::store::deposits::reverse::{Undo, Unfounded};
pub use crate::store::deposits::screenings::{Screened, Screening};
pub use crate::store::deposits::views::{
    ConfirmationRow, DepositDetail, DepositFilter, DepositRow, SightingRow, StatusRow,
};
pub use crate::store::deposits::waits::Waits;
pub use crate::store::ledger::correct::{Correcting, CorrectionDone, SeenCorrection};
pub use crate::store::ledger::corrections::CreditedAs;
pub use crate::store::ledger::credit::{Answer, Credited, Demanded, Posted};
pub use crate::store::ledger::instead::NewCorrection;
pub use crate::store::open::kept_open::KeptOpen;
pub use crate::store::prices::conversions::ConversionRow;
pub use crate::store::prices::market::{AcceptOutcome, MarketPrice};
pub use crate::store::prices::quotes::{Capture, NewQuote, QuoteBlock, RETRY_MAX_MS, StoredQuote};
pub use crate::store::prices::schedule::Scheduled;
pub use crate::store::registry::imports::{Imported, NewAddress};
pub use crate::store::registry::wallets::{InUse, KnownKey, Standing};
pub use crate::store::registry::{AddressRow, NamespaceRow};
pub use crate::store::went_back::memory_file::seen_beside;
pub use clock::{CLOCK_OFFSET_MAX_MS, MovedClock};
pub use copy::Snapshot;
pub use db::{Again, DaemonLock, DatabaseUrl};
pub use engine::{Begin, Database, Store};
pub use errors::StoreError;
pub use findings::{ChainFinding, ProviderRow};
pub use leases::{Acquired, DaemonRow, Lease, LeaseRow, LeasedStore, chain_task};
pub use ledger::{HistoryRow, JournalStart, RecordPlace};
pub use log::{
    Expected, FeedEvent, LogResume, LogSigner, LogState, ProvedConsistency, ProvedRecord,
    ROUND_MAX, Round, Stop, VerifiedLog, Went, kept_beside,
};
pub use treasury::{Obligation, Settled as TreasurySettled, SettledPart};
pub use verify::{Finding, Findings, PriceAgain, Priced, Remedy, Verification, Verified};
