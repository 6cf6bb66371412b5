//! Reading a journal from its start: every record is decided again and must say what it says.
//!
//! Records come one at a time, in the order of the journal, so that a journal of any length is read in
//! pages. What it cannot know is what the house's journal settled of a namespace's conversion: that is
//! taken from the outcome, and whoever folds both compares [`Account::owings`] with it.

use alloy::primitives::B256;

use super::decide::{Decided, decide};
use super::effects::{Effects, effects};
use super::refusal::Refusal;
use super::state::Account;
use crate::domain::journal::{Cause, Draft, Genesis, JournalId, Outcome, Record, Unreadable};

/// Why a stored record does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It stands in another journal.
    #[error("the record is of {found}, not of {expected}")]
    Journal {
        /// What was expected.
        expected: JournalId,
        /// What is there.
        found: JournalId,
    },
    /// A number is missing or out of order.
    #[error("seq is {found}, expected {expected}")]
    Sequence {
        /// What was expected.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// It does not name the seal of the record before.
    #[error("prev is not the seal of the record before it")]
    Link,
    /// Its contents do not give its seal.
    #[error("seal does not match its contents: a field was changed")]
    Seal,
    /// It was recorded before the record before it.
    #[error("recorded_at_ms is before that of the record before it")]
    Time,
    /// Its text is not that of its kind.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A field does not follow from the cause, or from the account at that point.
    #[error("{0} does not follow from its cause")]
    Contradiction(&'static str),
    /// Its cause could not be written at that point.
    #[error("its cause cannot stand here: {0}")]
    Refused(#[from] Refusal),
}

/// What a record was found to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What happened.
    pub cause: Cause,
    /// The hash of that.
    pub cause_hash: B256,
    /// What it did.
    pub outcome: Outcome,
    /// The rows that it makes.
    pub effects: Effects,
}

/// A journal that is read from its start.
#[derive(Debug, Clone)]
pub struct Fold {
    pub(super) account: Account,
}

impl Fold {
    /// Begins with an empty journal. `name` is the namespace's; empty for the house.
    pub fn new(journal: JournalId, genesis: Genesis, name: &str) -> Self {
        let mut account = Account::fresh(journal, genesis, name);
        account.answers = false;
        Self { account }
    }

    /// Goes on from an account of which the pieces are loaded that the next records need.
    pub fn of(mut account: Account) -> Self {
        account.answers = false;
        Self { account }
    }

    /// The account after the records so far.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`Broken`]: the first thing that does not hold. The fold is of no use then.
    pub fn next(&mut self, record: &Record) -> Result<Step, Broken> {
        self.linked(record)?;
        let cause = Cause::from_json(record.kind, &record.cause)?;
        let outcome = Outcome::from_json(record.kind, &record.outcome)?;
        let draft = Draft::new(
            self.account.row.genesis,
            cause,
            record.operator.clone(),
            record.key_id.clone(),
        )?;
        let effective = draft.effective_at_ms(record.recorded_at_ms);
        let claims = [
            (draft.id == record.id, "record_id"),
            (draft.subject == record.subject, "subject"),
            (effective == record.effective_at_ms, "effective_at_ms"),
            (record.kind.allows(&record.entries), "entries"),
        ];
        if let Some((_, field)) = claims.into_iter().find(|(holds, _)| !holds) {
            return Err(Broken::Contradiction(field));
        }
        self.told(&draft.cause, &outcome);
        match decide(&self.account, &draft)? {
            Decided::Create(decided) if decided == outcome => {}
            Decided::Create(_) => return Err(Broken::Contradiction("outcome")),
            Decided::Exists { seq, .. } | Decided::Conflict { seq, .. } => {
                return Err(Refusal::Twice { seq }.into());
            }
        }
        let effects = effects(&self.account, &draft, &outcome)?;
        if effects.entries != record.entries {
            return Err(Broken::Contradiction("entries"));
        }
        self.account.apply(record, &effects, draft.cause_hash)?;
        Ok(Step { cause: draft.cause, cause_hash: draft.cause_hash, outcome, effects })
    }

    /// Number, link, seal and time.
    fn linked(&self, record: &Record) -> Result<(), Broken> {
        let row = &self.account.row;
        if record.journal != row.journal {
            return Err(Broken::Journal { expected: row.journal, found: record.journal });
        }
        let expected = row.head.seq.checked_add(1).ok_or(Refusal::Full)?;
        if record.seq != expected {
            return Err(Broken::Sequence { expected, found: record.seq });
        }
        if record.prev != row.head.seal {
            return Err(Broken::Link);
        }
        if record.seal != record.seal_hash() {
            return Err(Broken::Seal);
        }
        if record.recorded_at_ms < row.head.recorded_at_ms {
            return Err(Broken::Time);
        }
        Ok(())
    }

    /// Takes the outcome's word for what the house's journal had settled of the credit that is undone.
    fn told(&mut self, cause: &Cause, outcome: &Outcome) {
        let (seq, settled) = match (cause, outcome) {
            (Cause::DepositReversed(cause), Outcome::Reversed(did, _)) => {
                (cause.reverses_seq, did.settled_tokens)
            }
            (Cause::DepositCorrected(cause), Outcome::Corrected(did, _)) => {
                (cause.corrects_seq, did.reversed.settled_tokens)
            }
            _ => return,
        };
        if let (Some(owed), Some(settled)) = (self.account.obligations.get_mut(&seq), settled)
            && settled <= owed.tokens
        {
            owed.settled = settled;
        }
    }
}
