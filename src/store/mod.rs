//! REMEMBER. The only SQL in the tree.
//!
//! Each method that writes is one transaction: it takes a change that was decided elsewhere,
//! checks in the same transaction that the facts it was decided on still hold, and commits all of
//! it or nothing. No method waits for the network. What a task of a chain writes, it writes through
//! [`LeasedStore`], which checks the chain's lease in the same transaction. One text for both
//! engines: what differs between them is in `db`.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod act;
mod act_checks;
mod act_rows;
mod acts;
mod attempts;
mod backfills;
mod book;
mod bound;
mod breakers;
mod clock;
mod compared;
mod confirmed;
mod conversions;
mod copy;
mod correct;
mod corrections;
mod coverage;
mod credit;
mod db;
mod due;
mod dust;
mod engine;
mod epochs;
mod errors;
mod events;
mod facts;
mod files;
mod findings;
mod frozen;
mod given_out;
mod grounds;
mod halts;
mod imports;
mod instead;
mod kept;
mod leases;
mod ledger;
mod log;
mod market;
mod memory;
mod memory_file;
mod new_act;
mod newer;
mod open;
mod open_deposit;
mod outflow_checks;
mod outgoing;
mod own_commits;
mod proofs;
mod quotes;
mod recent;
mod registers;
mod reverse;
mod rows;
mod saving;
mod scan;
mod scanned;
mod schedule;
mod schema;
mod screenings;
mod second;
mod seen;
mod settle;
mod stages;
mod time;
mod tokens;
mod treasury;
mod tries;
mod under_way;
mod verify;
mod views;
mod waits;
mod wallets;
mod went_back;
mod whole_file;
mod whole_journals;

pub use crate::store::act::{Act, HELD_REST_MS, ManualPrice, Resume, Waiver};
pub use crate::store::memory_file::seen_beside;
pub use crate::store::open_deposit::{Confirmation, Held, OpenDeposit, Pricing, RecordedOf};
pub use crate::store::scanned::{
    ChainState, ScanChange, ScanOutcome, ScanRecord, Seen, SightingToStore,
};
pub use act_checks::is_from_another_hold;
pub use backfills::{Backfill, BackfillKind};
pub use book::{AddressRow, NamespaceRow};
pub use breakers::Breaker;
pub use clock::{CLOCK_OFFSET_MAX_MS, MovedClock};
pub use conversions::ConversionRow;
pub use copy::Snapshot;
pub use correct::{Correcting, CorrectionDone, SeenCorrection};
pub use corrections::CreditedAs;
pub use coverage::{RecordedAt, ScanRow};
pub use credit::{Answer, Credited, Demanded, Posted};
pub use db::{Again, DaemonLock, DatabaseUrl};
pub use due::{DueBy, PaidTogether};
pub use dust::{Dusty, Place, StoredSum, SumState};
pub use engine::{Begin, Database, Store};
pub use errors::StoreError;
pub use findings::{ChainFinding, ProviderRow};
pub use frozen::{FrozenTurn, PaidAddress};
pub use halts::Halt;
pub use imports::{Imported, NewAddress};
pub use instead::NewCorrection;
pub use kept::KeptOpen;
pub use leases::{Acquired, DaemonRow, Lease, LeaseRow, LeasedStore, chain_task};
pub use ledger::{HistoryRow, JournalStart, RecordPlace};
pub use log::{
    Expected, FeedEvent, LogResume, LogSigner, LogState, ProvedConsistency, ProvedRecord,
    ROUND_MAX, Round, Stop, VerifiedLog, Went, kept_beside,
};
pub use market::{AcceptOutcome, MarketPrice};
pub use outflow_checks::{Checked, DoubtfulOutflow, OutflowCheck};
pub use outgoing::Outflow;
pub use quotes::{Capture, NewQuote, QuoteBlock, RETRY_MAX_MS, StoredQuote};
pub use reverse::{Undo, Unfounded};
pub use schedule::Scheduled;
pub use screenings::{Screened, Screening};
pub use second::{LookOutcome, Progress, SecondLook};
pub use tokens::TokenPin;
pub use treasury::{Obligation, Settled as TreasurySettled, SettledPart};
pub use under_way::LeftChain;
pub use verify::{Finding, Findings, PriceAgain, Priced, Remedy, Verification, Verified};
pub use views::{
    ConfirmationRow, DepositDetail, DepositFilter, DepositRow, SightingRow, StatusRow,
};
pub use waits::Waits;
pub use wallets::{InUse, KnownKey, Standing};
