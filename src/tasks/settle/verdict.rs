//! What is said of a payment once it was looked at: it stands, it is gone, or nobody knows yet.

use crate::chain::source::SourceError;
use crate::domain::deposit::HoldReason;
use crate::domain::finality::Verify;
use crate::domain::receipt_proof::ReceiptProof;
use crate::domain::transfer::Sighting;
use crate::planted::{Fault, planted};
use crate::store::OpenDeposit;
use crate::tasks::settle::confirming::Group;
use crate::tasks::settle::witness::{Testimony, transfers_json};

/// What the witnesses say together.
pub(in crate::tasks) enum Verdict {
    /// These deposits are as recorded, says this provider, whose receipt shows so many transfers;
    /// and those it does not show, nobody does.
    Confirmed {
        by: String,
        shown: usize,
        yes: Group,
        no: Group,
        proof: Option<ReceiptProof>,
        answers: serde_json::Value,
    },
    /// Nobody could say.
    NotYet,
    /// More was recorded: decide anew.
    ReadAnew,
    /// Somebody shows the block, it hashes in no way that is known, and nobody has proved it.
    Unproved { cannot: CannotProve, answers: serde_json::Value },
    /// Held, with every answer.
    Hold { reason: HoldReason, why: &'static str, answers: serde_json::Value },
    /// Deep enough, and the transaction is not in the block, says everybody who could be asked; two
    /// of them, where it is `certain`.
    Missing { certain: bool, answers: serde_json::Value },
}

/// A verdict about deposits, and how they were checked.
pub(in crate::tasks) struct Judged {
    pub(in crate::tasks) group: Group,
    pub(in crate::tasks) mode: Verify,
    pub(in crate::tasks) verdict: Verdict,
}

pub(in crate::tasks) const OTHER_BLOCK: &str = "its block has another time or height";

/// What was recorded and what each provider says, as it is kept.
pub(in crate::tasks) fn answers(
    recorded: &[Sighting],
    shower: Option<&str>,
    said: &[(&str, Testimony)],
    more: Option<(&str, &Testimony)>,
) -> serde_json::Value {
    let mut answers: Vec<_> = vec![serde_json::json!({
        "provider": shower, "asked": "logs", "answer": transfers_json(recorded),
    })];
    let said = said.iter().map(|(name, testimony)| (*name, testimony));
    answers.extend(said.chain(more).map(|(name, testimony)| {
        serde_json::json!({ "provider": name, "asked": "receipt", "answer": testimony.json() })
    }));
    answers.into()
}

pub(in crate::tasks) fn shows(sighting: &Sighting, deposit: &OpenDeposit) -> bool {
    sighting.deposit == deposit.key
        && sighting.key.log_index == deposit.log_index
        && sighting.amount() == deposit.raw
}

/// Who could not prove a block.
pub(in crate::tasks) struct CannotProve {
    /// So many show it, and it hashes in no way that is known.
    pub(in crate::tasks) shown_by: usize,
    /// So many must say so.
    pub(in crate::tasks) needed: usize,
    /// Somebody proves it, and that it does not hold the transaction.
    pub(in crate::tasks) proved_without: bool,
    /// The first of those who could not be asked.
    pub(in crate::tasks) failure: Option<SourceError>,
}

impl CannotProve {
    /// True when everybody answered, and nobody who shows the block can prove it: two at least, where
    /// there are several. Who fails may be the one who could.
    pub(in crate::tasks) fn is_beyond_doubt(&self) -> bool {
        planted(Fault::FallbackOfOne)
            || (self.failure.is_none() && !self.proved_without && self.shown_by >= self.needed)
    }
}
