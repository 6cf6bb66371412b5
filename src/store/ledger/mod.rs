//! The ledger: journals, their records, and what follows from them.
//!
//! Written through a [`Batch`]: journals are taken, what the causes need is loaded, each record is decided in memory,
//! and all rows are written at the end, table by table. Read here, as people ask for it.

mod batch;
pub(in crate::store) mod correct;
pub(in crate::store) mod corrections;
pub(in crate::store) mod credit;
pub(in crate::store) mod grounds;
pub(in crate::store) mod instead;
mod journals;
mod load;
mod made;
mod records;
mod rows;

pub(super) use batch::Batch;
pub use journals::JournalStart;
pub(super) use journals::{Taking, create, installation_id};
pub(super) use load::{load_credits, load_deposits, load_records, look_at_credits};
pub use records::HistoryRow;
pub(super) use records::records_after;
pub use rows::RecordPlace;
pub(super) use rows::{
    cause_hash, entry_row, lot_columns, lot_row, obligation_row, record_row, select_records,
};
