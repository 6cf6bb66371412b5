//! What `ledger verify` finds: which row does not hold, why, and what to do about it.

use std::fmt;

use crate::store::errors::StoreError;

/// Findings that are named; the others are counted. One change can make thousands.
const NAMED_MAX: usize = 100;

/// What somebody should do about a row that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A sealed line was changed, removed or added.
    Sealed,
    /// A row is other than what its record says of it, or is gone.
    PutBack,
    /// No record made this row.
    NotOurs,
    /// A sum that is kept beside the rows it is of.
    Recount,
    /// What a price rests on was changed or is gone.
    Reprice,
    /// A payment that the rules would credit is kept from it.
    Withheld,
}

impl Remedy {
    /// The sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => {
                "nothing after it in this journal is proved: compare it with a backup that holds, and with the last checkpoint that was kept elsewhere"
            }
            Self::PutBack => {
                "the record stands: put the row back as a backup that holds has it, and find out who can write to this database"
            }
            Self::NotOurs => {
                "no record made it: look for it in a backup that holds; where it is not there either, find out who can write to this database"
            }
            Self::Recount => {
                "the records stand: write what they sum to, and find out who can write to this database"
            }
            Self::Withheld => {
                "put the row back as a backup that holds has it: as pending, it is looked at again. Where none has it otherwise, ask who changed the epochs or the tokens since, and who can write to this database"
            }
            Self::Reprice => {
                "take the row from a backup that holds; topupd conversions verify names all payments that rest on it"
            }
        }
    }
}

/// A row that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Table.
    pub table: &'static str,
    /// Which row.
    pub row: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: Remedy,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.table, self.row, self.problem)
    }
}

/// All that does not hold. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    named: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Those that are named, in the order in which they were found.
    pub fn named(&self) -> &[Finding] {
        &self.named
    }

    /// How many were found besides.
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// True when everything holds.
    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    pub(super) fn add(
        &mut self,
        table: &'static str,
        row: impl fmt::Display,
        problem: impl fmt::Display,
        remedy: Remedy,
    ) {
        let (row, problem) = (row.to_string(), problem.to_string());
        self.put(Finding { table, row, problem, remedy });
    }

    pub(super) fn put(&mut self, finding: Finding) {
        match self.named.len() < NAMED_MAX {
            true => self.named.push(finding),
            false => self.more = self.more.saturating_add(1),
        }
    }

    /// Notes what a check found. A value that cannot be read is a finding too; a database that fails is
    /// an error.
    pub(super) fn take<T>(&mut self, check: Check<T>) -> Result<Option<T>, StoreError> {
        match check {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(finding)) => {
                self.put(finding);
                Ok(None)
            }
            Err(error) => self.unreadable(error).map(|()| None),
        }
    }

    /// A value that topupd does not write is a finding; any other error is one.
    pub(super) fn unreadable(&mut self, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::Corrupt { table, column, why } => {
                self.add(table, format!("column {column}"), why, Remedy::PutBack);
                Ok(())
            }
            error => Err(error),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.named.split_first() else { return Ok(()) };
        write!(f, "{first}")?;
        let others = u64::try_from(others.len()).unwrap_or(u64::MAX).saturating_add(self.more);
        if others > 0 { write!(f, "; and {others} more") } else { Ok(()) }
    }
}

/// Leaves with the first thing that does not hold.
pub(in crate::store) type Check<T> = Result<Result<T, Finding>, StoreError>;

/// Leaves with a finding unless the claim holds.
macro_rules! claim {
    ($holds:expr, $table:literal, $row:expr, $problem:expr) => {
        if !$holds {
            return Ok(Err($crate::store::verify::Finding {
                table: $table,
                row: $row.to_string(),
                problem: $problem.to_string(),
                remedy: $crate::store::verify::Remedy::PutBack,
            }));
        }
    };
}

pub(in crate::store) use claim;
