//! What is said of a payment once it was looked at: it stands, it is gone, or nobody knows yet.

use crate::chain::source::SourceError;
use crate::domain::deposit::HoldReason;
use crate::domain::finality::Verify;
use crate::domain::receipt_proof::ReceiptProof;
use crate::domain::transfer::Sighting;
use crate::planted::{Fault, planted};
use crate::store::OpenDeposit;
use crate::tasks::confirming::Group;
use crate::tasks::witness::{Testimony, transfers_json};

/// What the witnesses say together.
pub(super) enum Verdict {
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
pub(super) struct Judged {
    pub(super) group: Group,
    pub(super) mode: Verify,
    pub(super) verdict: Verdict,
}

pub(super) const OTHER_BLOCK: &str = "its block has another time or height";

/// What was recorded and what each provider says, as it is kept.
pub(super) fn answers(
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

pub(super) fn shows(sighting: &Sighting, deposit: &OpenDeposit) -> bool {
    sighting.deposit == deposit.key
        && sighting.key.log_index == deposit.log_index
        && sighting.amount() == deposit.raw
}

/// Who could not prove a block.
pub(super) struct CannotProve {
    /// So many show it, and it hashes in no way that is known.
    pub(super) shown_by: usize,
    /// So many must say so.
    pub(super) needed: usize,
    /// Somebody proves it, and that it does not hold the transaction.
    pub(super) proved_without: bool,
    /// The first of those who could not be asked.
    pub(super) failure: Option<SourceError>,
}

impl CannotProve {
    /// True when everybody answered, and nobody who shows the block can prove it: two at least, where
    /// there are several. Who fails may be the one who could.
    pub(super) fn is_beyond_doubt(&self) -> bool {
        planted(Fault::FallbackOfOne)
            || (self.failure.is_none() && !self.proved_without && self.shown_by >= self.needed)
    }
}
