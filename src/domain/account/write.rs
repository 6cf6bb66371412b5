//! "Write this": decide, make the rows, seal the record and move the account on.

use super::decide::{Decided, decide};
use super::effects::{Effects, effects};
use super::refusal::Refusal;
use super::state::Account;
use crate::domain::journal::{Draft, Outcome, Record};
use alloy::primitives::B256;

/// A record that was written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// The sealed record.
    pub record: Record,
    /// What it did.
    pub outcome: Outcome,
    /// The rows that it makes.
    pub effects: Effects,
}

/// The answer to "write this".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is new: the rows are to be inserted.
    Created(Box<New>),
    /// It was there already, just as asked.
    Exists {
        /// Its place.
        seq: i64,
        /// What it did then.
        outcome: Outcome,
    },
    /// Something else was written under this id before. Nothing was changed.
    Conflict {
        /// Its place.
        seq: i64,
        /// The first field that differs, such as `cause.raw_amount`.
        field: String,
    },
}

impl Account {
    /// Writes a draft, at this time or that of the last record, whichever is later. On any answer but
    /// [`Written::Created`], and on an error, the account is as it was.
    ///
    /// # Errors
    /// [`Refusal`]: why it cannot be written.
    pub fn write(&mut self, draft: &Draft, now_ms: i64) -> Result<Written, Refusal> {
        let outcome = match decide(self, draft)? {
            Decided::Create(outcome) => outcome,
            Decided::Exists { seq, outcome } => return Ok(Written::Exists { seq, outcome }),
            Decided::Conflict { seq, field } => return Ok(Written::Conflict { seq, field }),
        };
        let effects = effects(self, draft, &outcome)?;
        let record = self.seal(draft, &outcome, &effects, now_ms)?;
        self.apply(&record, &effects, draft.cause_hash)?;
        Ok(Written::Created(Box::new(New { record, outcome, effects })))
    }

    /// The sealed record of a draft, as the next one of this journal.
    ///
    /// # Errors
    /// Never in practice: every outcome serialises.
    pub fn seal(
        &self,
        draft: &Draft,
        outcome: &Outcome,
        effects: &Effects,
        now_ms: i64,
    ) -> Result<Record, Refusal> {
        let recorded_at_ms = self.time(now_ms);
        let mut record = Record {
            journal: self.row.journal,
            seq: effects.seq,
            id: draft.id,
            kind: draft.kind,
            subject: draft.subject.clone(),
            cause: draft.text.clone(),
            outcome: outcome.to_json(draft.kind)?,
            effective_at_ms: draft.effective_at_ms(recorded_at_ms),
            recorded_at_ms,
            operator: draft.operator.clone(),
            key_id: draft.key_id.clone(),
            entries: effects.entries.clone(),
            prev: self.row.head.seal,
            seal: B256::ZERO,
        };
        record.seal = record.seal_hash();
        Ok(record)
    }
}
