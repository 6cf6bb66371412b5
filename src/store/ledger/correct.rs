//! A credit is corrected by two people: one proposes what the payment is worth instead, another one approves it.
//!
//! The approval and the record that it gives are one commit, in two journals: the house's act, and the namespace's
//! `deposit_corrected`, which undoes the credit and gives it again. What that comes to is shown before, decided by the
//! same function on the same rows. A credit that was undone meanwhile, or whose block is not canonical, is refused.

use std::collections::BTreeSet;

use alloy::primitives::B256;

use crate::domain::account::{Refusal, Written, correct};
use crate::domain::act_kind::ActKind;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::compared::Compared;
use crate::domain::correction::ProposedCorrection;
use crate::domain::ids::DepositId;
use crate::domain::journal::{Cause, Corrected, JournalId, Kind, Moved, Valued};
use crate::domain::money::{Nanocredits, Rate};
use crate::domain::oracle::Oracle;
use crate::domain::said;
use crate::domain::said::is_same_person;
use crate::planted::{Fault, planted};
use crate::store::acts::checks::waiting_proposal;
use crate::store::acts::compared::{by_hand, must_be_said, policy_of};
use crate::store::acts::insert::{NewAct, insert};
use crate::store::acts::rows::{act_by_id, acts_of};
use crate::store::db::Tx;
use crate::store::db::query::{Lock, query};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::corrections::{
    CreditedAs, correction_cause, credited_as, journal_of_deposit,
};
use crate::store::ledger::instead::{NewCorrection, instead, name, refused};
use crate::store::ledger::{
    Batch, RecordPlace, Taking, load_credits, load_records, look_at_credits,
};
use crate::store::rows::{corrupt, to_int};

/// A correction that is looked at: a new one, or one that an act proposes.
#[derive(Debug, Clone, Copy)]
pub enum Correcting<'a> {
    /// Nobody proposed it yet.
    New(NewCorrection<'a>),
    /// The act of this number proposes it.
    Proposed(i64),
}

/// What a correction comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCorrection {
    /// The credit as it stands.
    pub credit: CreditedAs,
    /// What the payment is worth instead.
    pub again: Valued,
    /// The price by hand, beside what the market said.
    pub given: Option<Compared>,
    /// What undoing the credit and giving it again does.
    pub did: Corrected,
    /// Balance before.
    pub balance: Nanocredits,
    /// Debt before.
    pub debt: Nanocredits,
    /// Balance and debt after.
    pub after: Moved,
}

/// A correction that was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorrectionDone {
    /// The act that approved it.
    pub act: i64,
    /// The record that corrects the credit.
    pub place: RecordPlace,
    /// It was done before, just as asked.
    pub before: bool,
}

impl Store {
    /// The record whose credit of a deposit stands; `None` where none does.
    pub async fn standing_credit(
        &self,
        deposit: DepositId,
    ) -> Result<Option<RecordPlace>, StoreError> {
        query("SELECT journal_id, seq FROM credits WHERE deposit_id = $1 AND reversed_by IS NULL")
            .bind(deposit.0)
            .fetch_optional(&self.db)
            .await?
            .map(|row| {
                Ok(RecordPlace {
                    journal: JournalId(row.int("credits", "journal_id")?),
                    seq: row.int("credits", "seq")?,
                })
            })
            .transpose()
    }

    /// The deposit that a record credits; `None` where the record is no credit.
    pub async fn credited_deposit(
        &self,
        place: RecordPlace,
    ) -> Result<Option<DepositId>, StoreError> {
        query("SELECT deposit_id FROM credits WHERE journal_id = $1 AND seq = $2")
            .bind(place.journal.0)
            .bind(place.seq)
            .fetch_optional(&self.db)
            .await?
            .map(|row| Ok(DepositId(row.b256("credits", "deposit_id")?)))
            .transpose()
    }

    /// What a correction comes to as everything stands now. Writes nothing, and keeps nobody waiting.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for one that could not be written.
    pub async fn preview_correction(
        &self,
        oracle: &Oracle,
        what: Correcting<'_>,
    ) -> Result<SeenCorrection, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let seen = self.looked_at(&mut tx, oracle, what).await;
        Self::abandon(tx).await?;
        seen
    }

    async fn looked_at(
        &self,
        tx: &mut Tx,
        oracle: &Oracle,
        what: Correcting<'_>,
    ) -> Result<SeenCorrection, StoreError> {
        let (place, proposed) = match what {
            Correcting::New(new) => (new.place, None),
            Correcting::Proposed(act) => {
                let act = act_by_id(&mut *tx, act).await?;
                let act = act.ok_or_else(|| StoreError::Refused("there is no such act".into()))?;
                let (place, proposed) = named_by(tx, &act).await?;
                (place, Some((act, proposed)))
            }
        };
        let credit = standing(tx, place).await?;
        let mut batch = Batch::take(tx, self, [place.journal], Taking::OnlyLooking).await?;
        look_at_credits(tx, &mut batch, &BTreeSet::from([place])).await?;
        let (again, price) = match (&what, &proposed) {
            (_, Some((act, proposed))) => (proposed.again.clone(), act.named_price()),
            (Correcting::New(new), None) => (instead(tx, oracle, &credit, new).await?, new.price),
            (Correcting::Proposed(_), None) => return refused("there is no such act".into()),
        };
        let given = match price {
            Some((pair, price)) => {
                Some(by_hand(tx, policy_of(oracle, pair)?, &credit.at, price).await?)
            }
            None => None,
        };
        seen(&mut batch, credit, again, given)
    }

    /// Writes down what one operator proposes; another one must approve it. The same again, while it waits, is
    /// the same act. Returns its number.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what could not be written once it is approved;
    /// [`StoreError::NotSaidTwice`] for a price that must be repeated.
    pub async fn propose_correction(
        &self,
        oracle: &Oracle,
        new: &NewCorrection<'_>,
        repeated: Option<Rate>,
        (operator, reason): (&str, &str),
    ) -> Result<i64, StoreError> {
        said::evidence(new.evidence).map_err(StoreError::Refused)?;
        let mut tx = self.begin_registering().await?;
        let by = (operator, reason);
        let id = self.propose_correction_in(&mut tx, oracle, new, repeated, by).await?;
        Self::commit(tx).await?;
        Ok(id)
    }

    /// The same in a transaction of whoever registers.
    pub(in crate::store) async fn propose_correction_in(
        &self,
        tx: &mut Tx,
        oracle: &Oracle,
        new: &NewCorrection<'_>,
        repeated: Option<Rate>,
        (operator, reason): (&str, &str),
    ) -> Result<i64, StoreError> {
        let both = [JournalId::HOUSE, new.place.journal];
        let mut batch = Batch::take(tx, self, both, Taking::ASecond).await?;
        let credit = standing(tx, new.place).await?;
        load_credits(tx, &mut batch, &BTreeSet::from([new.place])).await?;
        let again = instead(tx, oracle, &credit, new).await?;
        let given = match new.price {
            Some((pair, price)) => {
                let given = by_hand(tx, policy_of(oracle, pair)?, &credit.at, price).await?;
                must_be_said(given.clone(), repeated)?;
                Some(given)
            }
            None => None,
        };
        let seen = seen(&mut batch, credit, again, given)?;
        let (credit, again) = (seen.credit, seen.again);
        let proposed = ProposedCorrection {
            corrects_seq: credit.place.seq,
            corrects_record_id: credit.record_id,
            corrects_seal: credit.seal,
            credited_nano: credit.credits,
            evidence: new.evidence.trim().to_owned(),
            again,
        };
        let text = proposed.to_text().map_err(|e| StoreError::Impossible(e.to_string()))?;
        let act = NewAct {
            kind: ActKind::ProposeCorrection,
            operator,
            reason,
            deposit: Some(credit.deposit),
            block: (credit.at.chain, credit.at.block.hash),
            pair: new.price.map(|(pair, _)| pair),
            price: new.price.map(|(_, price)| price.to_string()),
            instant_ms: None,
            approves: None,
            latch: None,
            withdraws: None,
            correction: Some(text),
        };
        if let Some(waits) = same_that_waits(tx, credit.deposit, &act).await? {
            return Ok(waits);
        }
        let id = insert(tx, &mut batch, act).await?;
        batch.write(tx, self).await?;
        Ok(id)
    }

    /// Approves what another operator proposed, and corrects the credit, in one commit. The same again is
    /// answered with what was done.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a proposal that cannot be approved, or a credit that does not stand any
    /// more; [`StoreError::NotSaidTwice`] for a price that must be repeated.
    pub async fn approve_correction(
        &self,
        oracle: &Oracle,
        (number, hash): (i64, B256),
        repeated: Option<Rate>,
        (operator, reason): (&str, &str),
    ) -> Result<CorrectionDone, StoreError> {
        let mut tx = self.begin_registering().await?;
        let by = (operator, reason);
        let done =
            self.approve_correction_in(&mut tx, oracle, (number, hash), repeated, by).await?;
        Self::commit(tx).await?;
        Ok(done)
    }

    /// The same in a transaction of whoever registers.
    pub(in crate::store) async fn approve_correction_in(
        &self,
        tx: &mut Tx,
        oracle: &Oracle,
        (number, hash): (i64, B256),
        repeated: Option<Rate>,
        (operator, reason): (&str, &str),
    ) -> Result<CorrectionDone, StoreError> {
        let Some(proposal) = act_by_id(&mut *tx, number).await? else {
            return Err(StoreError::Refused(format!("there is no proposal {number}")));
        };
        let (place, _) = named_by(tx, &proposal).await?;
        if proposal.hash() != hash {
            return Err(StoreError::Refused(format!(
                "act {number} is not what was named: its hash is {}, and not {hash}; look at it again",
                proposal.hash()
            )));
        }
        if let Some(done) = done_before(tx, &proposal, place, operator).await? {
            return Ok(done);
        }
        waiting_proposal(tx, number).await?;
        if is_same_person(&proposal.operator, operator) {
            return Err(StoreError::Refused(format!(
                "{operator} proposed this correction: another operator must approve it"
            )));
        }
        let both = [JournalId::HOUSE, place.journal];
        let mut batch = Batch::take(tx, self, both, Taking::ASecond).await?;
        let credit = standing(tx, place).await?;
        hold_block(tx, &credit).await?;
        load_credits(tx, &mut batch, &BTreeSet::from([place])).await?;
        if let Some((pair, price)) = proposal.named_price() {
            let given = by_hand(tx, policy_of(oracle, pair)?, &credit.at, price).await?;
            must_be_said(given, repeated)?;
        }
        let act = approve(tx, &mut batch, &proposal, (operator, reason)).await?;
        let seq = write(tx, &mut batch, &proposal, act, &credit).await?;
        batch.write(tx, self).await?;
        let place = RecordPlace { journal: place.journal, seq };
        Ok(CorrectionDone { act, place, before: false })
    }
}

/// What a correction of a standing credit comes to, by what is loaded of its account.
fn seen(
    batch: &mut Batch,
    credit: CreditedAs,
    again: Valued,
    given: Option<Compared>,
) -> Result<SeenCorrection, StoreError> {
    let account = batch.account(credit.place.journal)?;
    let (balance, debt) = (account.balance(), account.debt());
    match correct(account, credit.place.seq, &again) {
        Ok((did, after)) => Ok(SeenCorrection { credit, again, given, did, balance, debt, after }),
        Err(why @ (Refusal::NotLoaded { .. } | Refusal::Unreadable(_))) => {
            Err(StoreError::Impossible(why.to_string()))
        }
        Err(why) => refused(cannot(&credit, &why)),
    }
}

fn cannot(credit: &CreditedAs, why: &Refusal) -> String {
    format!("the credit of record {} cannot be corrected like this: {why}", name(credit))
}

/// The credit of a record, which must stand, in a canonical block.
async fn standing(tx: &mut Tx, place: RecordPlace) -> Result<CreditedAs, StoreError> {
    let Some(credit) = credited_as(tx, place).await? else {
        return refused(format!("record {} of {} is no credit", place.seq, place.journal));
    };
    let (name, namespace) = (name(&credit), &credit.namespace);
    match credit.undone {
        Some((by, Kind::DepositCorrected)) => refused(format!(
            "the credit of record {name} was corrected already, by record {namespace}/{by}: that is the one to correct now"
        )),
        Some((by, _)) => refused(format!(
            "the credit of record {name} was undone by record {namespace}/{by}: there is nothing to correct"
        )),
        None if !credit.canonical && !planted(Fault::CorrectedOrphan) => refused(format!(
            "the block of record {name} is not canonical any more: its credit is undone unless the block comes back"
        )),
        None => Ok(credit),
    }
}

/// Whoever orphans the block waits until this transaction has ended, and finds the new credit then.
async fn hold_block(tx: &mut Tx, credit: &CreditedAs) -> Result<(), StoreError> {
    let row = query("SELECT canonical FROM blocks WHERE chain_id = $1 AND block_hash = $2")
        .bind(to_int(credit.at.chain.0, "chain id")?)
        .bind(credit.at.block.hash)
        .locked(Lock::NoKeyUpdate)
        .fetch_one(tx)
        .await?;
    if row.int("blocks", "canonical")? == 1 || planted(Fault::CorrectedOrphan) {
        return Ok(());
    }
    refused(format!("the block of record {} is not canonical any more", name(credit)))
}

/// The credit that an act proposes to correct, and how.
async fn named_by(
    tx: &mut Tx,
    act: &ActRow,
) -> Result<(RecordPlace, ProposedCorrection), StoreError> {
    let (Some(proposed), Some(deposit)) = (ProposedCorrection::of(act), act.deposit) else {
        return refused(format!("act {} proposes no correction: it is {}", act.id, act.kind));
    };
    let journal = journal_of_deposit(tx, deposit).await?;
    let journal = journal.ok_or_else(|| corrupt("operator_acts", "deposit_id", "is not there"))?;
    Ok((RecordPlace { journal, seq: proposed.corrects_seq }, proposed))
}

/// The proposal that says just this already, and still waits.
async fn same_that_waits(
    tx: &mut Tx,
    deposit: DepositId,
    new: &NewAct<'_>,
) -> Result<Option<i64>, StoreError> {
    let acts = acts_of(&mut *tx, deposit).await?;
    let same = |act: &&ActRow| {
        act.kind == new.kind
            && act.operator == new.operator.trim()
            && act.reason == new.reason.trim()
            && (act.pair.as_deref(), &act.price, &act.correction)
                == (new.pair, &new.price, &new.correction)
            && act.standing(&acts) == Some(Standing::Waits)
    };
    Ok(acts.iter().find(same).map(|act| act.id))
}

/// What came of a proposal that this operator approved before.
async fn done_before(
    tx: &mut Tx,
    proposal: &ActRow,
    corrected: RecordPlace,
    operator: &str,
) -> Result<Option<CorrectionDone>, StoreError> {
    let Some(deposit) = proposal.deposit else { return Ok(None) };
    let acts = acts_of(&mut *tx, deposit).await?;
    let by = acts.iter().find(|act| act.approves == Some(proposal.id));
    let Some(act) = by.filter(|act| act.operator == operator.trim()) else { return Ok(None) };
    let undone = credited_as(tx, corrected).await?.and_then(|credit| credit.undone);
    Ok(undone.map(|(seq, _)| CorrectionDone {
        act: act.id,
        place: RecordPlace { journal: corrected.journal, seq },
        before: true,
    }))
}

/// Writes the act that approves a proposal. Returns its number.
async fn approve(
    tx: &mut Tx,
    batch: &mut Batch,
    proposal: &ActRow,
    (operator, reason): (&str, &str),
) -> Result<i64, StoreError> {
    let act = NewAct {
        kind: ActKind::ApproveCorrection,
        operator,
        reason,
        deposit: proposal.deposit,
        block: (proposal.chain, proposal.block_hash),
        pair: None,
        price: None,
        instant_ms: None,
        approves: Some((proposal.id, proposal.hash())),
        latch: None,
        withdraws: None,
        correction: None,
    };
    insert(tx, batch, act).await
}

/// Adds the record that two acts give, and has the deposit name it. Returns its place.
async fn write(
    tx: &mut Tx,
    batch: &mut Batch,
    proposal: &ActRow,
    act: i64,
    credit: &CreditedAs,
) -> Result<i64, StoreError> {
    let none = || corrupt("operator_acts", "act_id", "is not there");
    let approval = act_by_id(&mut *tx, act).await?.ok_or_else(none)?;
    let cause = match correction_cause(tx, proposal, &approval).await? {
        Ok(cause) => Cause::DepositCorrected(Box::new(cause)),
        Err(why) => return refused(format!("act {}: {}", proposal.id, why.problem)),
    };
    let journal = credit.place.journal;
    let draft = batch.draft(journal, cause, Some(&approval.operator))?;
    load_records(tx, batch, [(journal, &draft)].into_iter()).await?;
    let seq = match batch.add(journal, &draft)? {
        Ok(Written::Created(new)) => new.record.seq,
        Ok(Written::Exists { seq, .. } | Written::Conflict { seq, .. }) => {
            return refused(format!("record {}/{seq} has the same id", credit.namespace));
        }
        Err(why) => return refused(cannot(credit, &why)),
    };
    query("UPDATE deposits SET record_seq = $2, updated_at_ms = $3 WHERE deposit_id = $1")
        .bind(credit.deposit.0)
        .bind(seq)
        .bind(batch.now_ms)
        .execute(&mut *tx)
        .await?;
    // Its block had been orphaned, and came back before anybody looked.
    query("DELETE FROM unfounded WHERE journal_id = $1 AND seq = $2")
        .bind(journal.0)
        .bind(credit.place.seq)
        .execute(&mut *tx)
        .await?;
    Ok(seq)
}
