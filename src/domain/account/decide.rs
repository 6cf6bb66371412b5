//! What a cause does at this state of the account, or why it is not written.

use super::refusal::Refusal;
use super::state::{Account, Known};
use super::{take, treasury};
use crate::domain::journal::{
    Bound, Cause, Corrected, DepositCorrection, DepositCredit, DepositReversal, Draft, Kind, Moved,
    Outcome, TreasurySettlement, Valued,
};

/// What is to be done with a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// It is new, and does this.
    Create(Outcome),
    /// It was written before, just as asked.
    Exists {
        /// Its place.
        seq: i64,
        /// What it did then.
        outcome: Outcome,
    },
    /// Something else was written under its id before.
    Conflict {
        /// Its place.
        seq: i64,
        /// The first field that differs, such as `cause.raw_amount`.
        field: String,
    },
}

/// Decides what a draft does to an account. Changes nothing.
///
/// # Errors
/// [`Refusal`]: why it cannot be written.
pub fn decide(account: &Account, draft: &Draft) -> Result<Decided, Refusal> {
    let row = &account.row;
    if !row.journal.holds(draft.kind) {
        return Err(Refusal::WrongJournal(draft.kind));
    }
    match account.records.get(&draft.id)? {
        None => {}
        Some(Known::At(seq)) => return Err(Refusal::Twice { seq: *seq }),
        Some(Known::Said(said)) => {
            let seq = said.seq;
            return Ok(match draft.differs_from(said) {
                Some(field) => Decided::Conflict { seq, field },
                None => {
                    Decided::Exists { seq, outcome: Outcome::from_json(said.kind, &said.outcome)? }
                }
            });
        }
    }
    let first = row.head.seq == 0 && !row.journal.is_house();
    if first != (draft.kind == Kind::NamespaceOpened) {
        return Err(Refusal::NotTheFirst);
    }
    let named = [(&draft.operator, "operator"), (&draft.key_id, "key_id")];
    if let Some((_, field)) = named.into_iter().find(|(name, _)| name.as_deref() == Some("")) {
        return Err(Refusal::Empty(field));
    }
    outcome(account, draft).map(Decided::Create)
}

fn outcome(account: &Account, draft: &Draft) -> Result<Outcome, Refusal> {
    match &draft.cause {
        Cause::XpubRegistered(_) | Cause::LogKey(_) | Cause::LogResumed(_) => Ok(Outcome::Noted),
        Cause::EpochAdded(c) => agree(c.contradicts_itself()).map(|()| Outcome::Noted),
        Cause::PolicyAdded(c) => agree(c.contradicts_itself()).map(|()| Outcome::Noted),
        Cause::Act(c) => {
            claim(draft.operator.as_ref() == Some(&c.operator), "operator")?;
            agree(c.contradicts_itself()).map(|()| Outcome::Noted)
        }
        Cause::NamespaceOpened(c) => {
            claim(c.name == account.row.name, "name").map(|()| Outcome::Noted)
        }
        Cause::AddressesBound(c) => {
            claim(c.namespace == account.row.name, "namespace")?;
            agree(c.contradicts_itself())?;
            let addresses = account.row.addresses.checked_add(c.count);
            let addresses = addresses.ok_or(Refusal::Overflow("the number of addresses"))?;
            Ok(Outcome::Bound(Bound { addresses }))
        }
        Cause::TreasurySettled(c) => settlement(account, c),
        Cause::DepositCredited(c) => credit(account, c),
        Cause::DepositReversed(c) => reversal(account, c),
        Cause::DepositCorrected(c) => correction(account, c),
    }
}

fn settlement(account: &Account, cause: &TreasurySettlement) -> Result<Outcome, Refusal> {
    agree(cause.contradicts_itself())?;
    treasury::settle(account, cause).map(Outcome::Settled)
}

fn credit(account: &Account, cause: &DepositCredit) -> Result<Outcome, Refusal> {
    claim(cause.namespace == account.row.name, "namespace")?;
    agree(cause.contradicts_itself())?;
    let deposit = account.deposits.get(&cause.deposit_key().id())?.copied().unwrap_or_default();
    if let Some(seq) = deposit.standing {
        return Err(Refusal::Standing { seq });
    }
    if deposit.reversals != cause.reversals {
        return Err(Refusal::Reversals { asked: cause.reversals, found: deposit.reversals });
    }
    let (did, after) = take::give(take::Stand::of(account), &cause.worth(), None)?;
    Ok(Outcome::Credited(did, after.moved()))
}

fn reversal(account: &Account, cause: &DepositReversal) -> Result<Outcome, Refusal> {
    claim(cause.namespace == account.row.name, "namespace")?;
    agree(cause.contradicts_itself())?;
    let undone = take::standing(account, cause.reverses_seq)?;
    claim(undone.credit.record_id == cause.reverses_record_id, "reverses_record_id")?;
    claim(undone.credit.seal == cause.reverses_seal, "reverses_seal")?;
    claim(undone.credit.deposit == cause.deposit, "deposit")?;
    claim(undone.credit.chain == cause.chain_id, "chain_id")?;
    claim(undone.credit.block_hash == cause.block_hash, "block_hash")?;
    claim(undone.lot.amount == cause.credits_nano, "credits_nano")?;
    let (did, after) = take::back(take::Stand::of(account), &undone)?;
    Ok(Outcome::Reversed(did, after.moved()))
}

fn correction(account: &Account, cause: &DepositCorrection) -> Result<Outcome, Refusal> {
    claim(cause.namespace == account.row.name, "namespace")?;
    agree(cause.contradicts_itself())?;
    let undone = take::standing(account, cause.corrects_seq)?;
    claim(undone.credit.record_id == cause.corrects_record_id, "corrects_record_id")?;
    claim(undone.credit.seal == cause.corrects_seal, "corrects_seal")?;
    claim(undone.credit.deposit == cause.deposit, "deposit")?;
    claim(undone.lot.amount == cause.credited_nano, "credited_nano")?;
    let (did, after) = correct(account, cause.corrects_seq, &cause.again)?;
    Ok(Outcome::Corrected(did, after))
}

/// What undoing the credit at this place, and giving it again, comes to; also before anybody has approved
/// it. Changes nothing.
///
/// # Errors
/// [`Refusal`]: why it cannot be done.
pub fn correct(account: &Account, seq: i64, again: &Valued) -> Result<(Corrected, Moved), Refusal> {
    let undone = take::standing(account, seq)?;
    let paid = undone.lot.consideration.as_ref().map(|paid| paid.raw);
    claim(paid == Some(again.raw_amount), "again.raw_amount")?;
    let (reversed, between) = take::back(take::Stand::of(account), &undone)?;
    let bought = take::bought(&undone)?;
    let (credited, after) = take::give(between, &again.worth(), bought)?;
    Ok((Corrected { reversed, credited }, after.moved()))
}

fn claim(holds: bool, field: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Contradiction(field)) }
}

fn agree(contradicts: Option<&'static str>) -> Result<(), Refusal> {
    contradicts.map_or(Ok(()), |field| Err(Refusal::Contradiction(field)))
}
