//! Commit 3: credits.
//!
//! A record, its entries, lot, event and the deposit's stage are one commit. What a credit rests on is read in
//! [`crate::store::ledger::grounds`]; what it does is decided in the domain. Journals that somebody else holds for longer than a second
//! are left out, and their deposits stay where they are until the next activation.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::account::{Refusal, Written};
use crate::domain::deposit::{Event, HoldReason, Stage};
use crate::domain::finality::Verify;
use crate::domain::ids::DepositId;
use crate::domain::journal::{Cause, Draft, JournalId, Kind};
use crate::domain::money::{Nanocredits, RawAmount};
use crate::domain::pricing::EpochBook;
use crate::domain::screening::{Outcome, Wanted};
use crate::planted::{Fault, planted};
use crate::store::acts::rows::with_unrecorded_acts;
use crate::store::chain::outgoing::{Origin, origins};
use crate::store::db::{Tx, bulk};
use crate::store::deposits::proofs::{not_shown, released_unproved_in};
use crate::store::deposits::screenings::{Screened, screened, verdict};
use crate::store::deposits::stages::set_stages;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::ledger::grounds::{Grounds, Place, SaidAbout, follows, grounds};
use crate::store::ledger::{Batch, Taking, load_deposits, load_records};
use crate::store::registry::registers::knows_epochs;

/// A deposit that was credited by a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Deposit.
    pub deposit: DepositId,
    /// To whom.
    pub namespace: String,
    /// How much.
    pub credits: Nanocredits,
    /// What the ledger answered.
    pub answer: Answer,
}

/// What became of priced deposits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credited {
    /// Those that the ledger answered about.
    pub posted: Vec<Posted>,
    /// So many are to be confirmed again first.
    pub again: usize,
}

/// The answer to "write this", without what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is new, at this place of its journal.
    Created {
        /// Its place.
        seq: i64,
    },
    /// It was there already, just as asked.
    Exists {
        /// Its place.
        seq: i64,
    },
    /// Something else was written under its id before. Nothing was changed.
    Conflict {
        /// The first field that differs.
        field: String,
    },
}

impl LeasedStore {
    /// Credits priced deposits. One that is priced no more is passed over. One that the checks do not
    /// let pass now is held; where one of them has not said anything, it stays where it is, and so does
    /// one whose namespace's journal somebody else holds.
    ///
    /// Nothing is taken over from the stage: one whose receipt this process has not read, or in none of the ways, is
    /// confirmed again unless a proof shows it, its price must be that of its epoch, and money that may be
    /// credited already is held unless two people released it.
    ///
    /// A credit that conflicts with one written before is answered as such and not written; the
    /// others of the batch are.
    pub async fn commit_credits(
        &self,
        deposits: &[DepositId],
        rules: Demanded<'_>,
    ) -> Result<Credited, StoreError> {
        if deposits.is_empty() {
            return Ok(Credited::default());
        }
        match self.credit(deposits, rules, Taking::ASecond).await {
            Err(error) if error.is_collision() => {
                tracing::warn!(error = %error,
                    "a namespace's journal is held by somebody else: the others go on without it");
                self.credit(deposits, rules, Taking::WhatIsFree).await
            }
            done => done,
        }
    }

    async fn credit(
        &self,
        deposits: &[DepositId],
        rules: Demanded<'_>,
        how: Taking,
    ) -> Result<Credited, StoreError> {
        let mut tx = self.begin_held().await?;
        let posted = self.credit_in(&mut tx, deposits, rules, how).await?;
        Store::commit(tx).await?;
        self.confirmed.forget(posted.posted.iter().map(|posted| posted.deposit));
        Ok(posted)
    }

    /// The same in a transaction of whoever holds the chain's lease.
    async fn credit_in(
        &self,
        tx: &mut Tx,
        deposits: &[DepositId],
        rules: Demanded<'_>,
        how: Taking,
    ) -> Result<Credited, StoreError> {
        // Nobody else moves this chain's deposits while the lease's row is held.
        let mut priced = priced(tx, deposits).await?;
        let journals = priced.values().map(|deposit| deposit.journal);
        let mut batch = Batch::take(tx, self, journals, how).await?;
        priced.retain(|_, deposit| batch.has(deposit.journal));
        let (mut ready, mut stages) = self.ready(tx, &priced, rules, &batch).await?;
        let again = stages.iter().filter(|(_, stage)| *stage == Stage::Pending).count();
        let mut drafts: Vec<(DepositId, JournalId, Draft)> = Vec::with_capacity(ready.len());
        for id in deposits {
            if let Some(Grounds { journal, cause, .. }) = ready.remove(id) {
                let cause = Cause::DepositCredited(Box::new(cause));
                drafts.push((*id, journal, batch.draft(journal, cause, None)?));
            }
        }
        let asked = drafts.iter().map(|(_, journal, draft)| (*journal, draft));
        load_records(tx, &mut batch, asked).await?;
        let asked = drafts.iter().map(|(id, journal, _)| (*journal, *id));
        load_deposits(tx, &mut batch, asked).await?;
        let mut posted = Vec::with_capacity(drafts.len());
        let mut credited = Vec::with_capacity(drafts.len());
        for (id, journal, draft) in drafts {
            let answer = match batch.add(journal, &draft)? {
                Ok(Written::Created(new)) => Answer::Created { seq: new.record.seq },
                Ok(Written::Exists { seq, .. }) => Answer::Exists { seq },
                Ok(Written::Conflict { field, .. }) => Answer::Conflict { field },
                Err(refusal) => {
                    let reason = why_held(&refusal);
                    stages.push((id, Stage::Priced.next(Event::Hold(reason))?));
                    tracing::error!(deposit.id = %id, why = %refusal, "held: {}", reason.as_str());
                    continue;
                }
            };
            match answer {
                Answer::Created { seq } | Answer::Exists { seq } => {
                    credited.push(vec![id.0.into(), seq.into(), batch.now_ms.into()]);
                }
                Answer::Conflict { .. } => {
                    stages.push((id, Stage::Priced.next(Event::Hold(HoldReason::Conflict))?));
                }
            }
            let Cause::DepositCredited(cause) = draft.cause else { continue };
            let (namespace, credits) = (cause.namespace, cause.credits_nano);
            posted.push(Posted { deposit: id, namespace, credits, answer });
        }
        set_stages(tx, &stages, batch.now_ms).await?;
        bulk(
            "UPDATE deposits SET stage = 'credited', record_seq = r.column2, updated_at_ms = r.column3
             FROM ({rows}) AS r WHERE deposits.deposit_id = r.column1",
            credited,
        )
        .execute(&mut *tx)
        .await?;
        batch.write(tx, self).await?;
        Ok(Credited { posted, again })
    }

    /// The grounds of those that can be credited now, and the stages of those that are not.
    async fn ready(
        &self,
        tx: &mut Tx,
        priced: &BTreeMap<DepositId, PricedAt>,
        rules: Demanded<'_>,
        batch: &Batch,
    ) -> Result<(BTreeMap<DepositId, Grounds>, Vec<(DepositId, Stage)>), StoreError> {
        let mut found = grounds(tx, priced.values().map(|deposit| deposit.place)).await?;
        found.retain(|place, grounds| {
            priced.get(&place.deposit).is_some_and(|deposit| {
                grounds.journal == deposit.journal
                    && grounds.canonical
                    && grounds.cause.raw_amount == deposit.raw
            })
        });
        let unconfirmed = self.unconfirmed(tx, rules.ways, &found).await?;
        let ids: Vec<DepositId> = priced.keys().copied().collect();
        let screened = screened(tx, &ids).await?;
        let passes = passes(tx, priced, &screened, rules.checks, batch.now_ms).await?;
        let (mut ready, mut stages) = (BTreeMap::new(), Vec::new());
        for (id, deposit) in priced {
            let Some(grounds) = found.remove(&deposit.place) else {
                stages.push((*id, Stage::Priced.next(Event::Hold(HoldReason::Conflict))?));
                tracing::error!(deposit.id = %id, "held: the rows it rests on disagree");
                continue;
            };
            let event = match (unconfirmed.get(id), passes.get(id)) {
                (Some(Unconfirmed::NotShown(why)), _) => {
                    tracing::error!(deposit.id = %id, why, "held: the rows it rests on disagree");
                    Event::Hold(HoldReason::Conflict)
                }
                (Some(Unconfirmed::Again), _) => {
                    tracing::info!(deposit.id = %id,
                        "confirmed again: this process has not read its receipt, or not in a way that is configured");
                    Event::ConfirmAgain
                }
                (None, Some(Passes::Yes)) if follows(rules.epochs, &grounds.cause) => {
                    ready.insert(*id, grounds);
                    continue;
                }
                (None, Some(Passes::Yes)) => {
                    knows_epochs(tx, rules.epochs.all().len()).await?;
                    tracing::error!(deposit.id = %id, "held: its price is not that of its epoch and its block's time");
                    Event::Hold(HoldReason::Conflict)
                }
                (None, Some(Passes::No(reason))) => {
                    tracing::warn!(deposit.id = %id, "held: {}", reason.as_str());
                    Event::Hold(*reason)
                }
                (None, Some(Passes::NotYet) | None) => continue,
            };
            stages.push((*id, Stage::Priced.next(event)?));
        }
        let asked = screened.iter().filter(|(_, s)| !s.said.is_empty()).map(|(id, _)| *id);
        let mut said = SaidAbout::read(tx, ready.keys().copied(), asked).await?;
        for (id, grounds) in &mut ready {
            said.add_to(*id, &mut grounds.cause);
        }
        let decided = ready.iter().filter(|(_, grounds)| grounds.cause.acts.is_some());
        let decided = decided.map(|(id, _)| *id).collect();
        let mut refuted = with_unrecorded_acts(tx, decided).await?;
        let undone =
            ready.keys().filter(|id| priced.get(id).is_some_and(|d| d.place.reversals > 0));
        let undone = undone.copied().collect();
        refuted.extend(with_unrecorded_reversals(tx, undone).await?);
        for id in refuted {
            ready.remove(&id);
            stages.push((id, Stage::Priced.next(Event::Hold(HoldReason::Conflict))?));
            tracing::error!(deposit.id = %id, "held: an act about it, or what undid its credit, has no record");
        }
        Ok((ready, stages))
    }

    /// Of those whose confirmation does not count: why.
    async fn unconfirmed(
        &self,
        tx: &mut Tx,
        ways: &[Verify],
        found: &BTreeMap<Place, Grounds>,
    ) -> Result<BTreeMap<DepositId, Unconfirmed>, StoreError> {
        let (mut proved, mut other, mut not) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (place, Grounds { cause, .. }) in found {
            match cause.verify.as_deref().and_then(Verify::parse) {
                Some(Verify::ReceiptsRoot) if cause.receipt_index.is_some() => proved.push(cause),
                // What nothing proves, this process must have seen.
                _ if !self.confirmed.has(place.deposit, cause) => {
                    not.insert(place.deposit, Unconfirmed::Again);
                }
                Some(way) if way != Verify::ReceiptsRoot && ways.contains(&way) => {}
                _ => other.push(place.deposit),
            }
        }
        let released = released_unproved_in(tx, &other).await?;
        other.retain(|id| !released.contains(id));
        not.extend(other.into_iter().map(|id| (id, Unconfirmed::Again)));
        let shown = not_shown(tx, &proved).await?;
        not.extend(shown.into_iter().map(|(id, why)| (id, Unconfirmed::NotShown(why))));
        Ok(not)
    }
}

/// What is demanded where a payment is credited.
#[derive(Debug, Clone, Copy)]
pub struct Demanded<'a> {
    /// How its receipt may have been checked, beside by a proof.
    pub ways: &'a [Verify],
    /// Who must have let it pass.
    pub checks: &'a [Wanted],
    /// By what it was priced.
    pub epochs: &'a EpochBook,
}

/// Why a payment is not credited on what it was confirmed by.
enum Unconfirmed {
    /// In no way that is configured, nor released by two people; or not by this process, and without a proof.
    Again,
    /// The proof does not show it.
    NotShown(&'static str),
}

/// Whether a payment may be credited now, by where its money comes from and by what the checks say.
enum Passes {
    Yes,
    /// One of the checks has said nothing, or old blocks are read for its address.
    NotYet,
    No(HoldReason),
}

async fn passes(
    tx: &mut Tx,
    priced: &BTreeMap<DepositId, PricedAt>,
    screened: &BTreeMap<DepositId, Screened>,
    checks: &[Wanted],
    now_ms: i64,
) -> Result<BTreeMap<DepositId, Passes>, StoreError> {
    let by_checks = |id| match verdict(screened.get(&id), checks, now_ms) {
        Some(Outcome::Clear) => Passes::Yes,
        _ if planted(Fault::OldAnswer) => Passes::Yes,
        Some(Outcome::Hit | Outcome::NoAnswer) => Passes::No(HoldReason::Screening),
        None => Passes::NotYet,
    };
    let mut passes: BTreeMap<DepositId, Passes> =
        priced.keys().map(|id| (*id, by_checks(*id))).collect();
    // Asked for few: it looks at much.
    let known = priced.iter().filter(|(_, deposit)| deposit.may_be_ours);
    let known: Vec<DepositId> = known.map(|(id, _)| *id).collect();
    if !known.is_empty() {
        let origins = origins(tx, &known, checks, now_ms).await?;
        passes.extend(origins.into_iter().map(|(id, origin)| {
            let passes = match origin {
                Origin::New => Passes::Yes,
                Origin::Doubtful(reason) => Passes::No(reason),
                Origin::NotYet | Origin::Unscreened | Origin::Unchecked => Passes::NotYet,
            };
            (id, passes)
        }));
    }
    Ok(passes)
}

/// Those of these deposits that have a credit which is said to be undone, and no record of it.
async fn with_unrecorded_reversals(
    tx: &mut Tx,
    deposits: Vec<DepositId>,
) -> Result<BTreeSet<DepositId>, StoreError> {
    if deposits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = bulk(
        "SELECT k.deposit_id, COALESCE(r.kind, '') AS kind, COALESCE(r.subject, '') AS subject
         FROM credits k
         LEFT JOIN records r ON r.journal_id = k.journal_id AND r.seq = k.reversed_by
         WHERE k.reversed_by IS NOT NULL AND k.deposit_id {keys}",
        deposits.into_iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut without = BTreeSet::new();
    for row in &rows {
        let id = DepositId(row.b256("credits", "deposit_id")?);
        let undoes = [Kind::DepositReversed, Kind::DepositCorrected].map(Kind::as_str);
        let is_its = row.text("records", "subject")? == id.to_string()
            && undoes.contains(&row.text("records", "kind")?.as_str());
        if !is_its {
            without.insert(id);
        }
    }
    Ok(without)
}

/// What a deposit waits for whose credit is refused.
fn why_held(refusal: &Refusal) -> HoldReason {
    match refusal {
        Refusal::Overflow(_) | Refusal::Full => HoldReason::Overflow,
        _ => HoldReason::Conflict,
    }
}

/// Where a priced deposit stands.
struct PricedAt {
    journal: JournalId,
    place: Place,
    raw: RawAmount,
    /// One of our addresses paid, or something has left its own: it is asked where the money comes from.
    may_be_ours: bool,
}

/// Those of these deposits that are priced, in a canonical block.
async fn priced(
    tx: &mut Tx,
    ids: &[DepositId],
) -> Result<BTreeMap<DepositId, PricedAt>, StoreError> {
    // The stage is looked at here, and each block is looked up: a plan that was made while the tables were small would
    // read the index of all priced deposits for that of the ids, or all blocks.
    let rows = bulk(
        "SELECT d.deposit_id, d.stage, d.namespace_id, d.block_hash, d.log_index, d.raw_amount,
                (SELECT COUNT(*) FROM credits k WHERE k.deposit_id = d.deposit_id
                   AND k.reversed_by IS NOT NULL) AS reversals,
                (SELECT COUNT(*) FROM sightings s JOIN addresses a ON a.address = s.sender
                 WHERE s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                   AND s.log_index = d.log_index)
                + (SELECT COUNT(*) FROM outgoing o
                   WHERE o.chain_id = d.chain_id AND o.address_id = d.address_id) AS ours
         FROM deposits d
         WHERE d.deposit_id {keys}
           AND (SELECT b.canonical FROM blocks b
                WHERE b.chain_id = d.chain_id AND b.block_hash = d.block_hash) = 1",
        ids.iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?;
    let mut priced = BTreeMap::new();
    for row in &rows {
        if row.text("deposits", "stage")? != Stage::Priced.as_str() {
            continue;
        }
        let deposit = DepositId(row.b256("deposits", "deposit_id")?);
        let place = Place {
            deposit,
            block_hash: row.b256("deposits", "block_hash")?,
            log_index: row.uint("deposits", "log_index")?,
            reversals: row.uint32("credits", "reversals")?,
        };
        let journal = JournalId(row.int("deposits", "namespace_id")?);
        let raw = row.amount("deposits", "raw_amount")?;
        let may_be_ours = row.int("deposits", "ours")? > 0;
        priced.insert(deposit, PricedAt { journal, place, raw, may_be_ours });
    }
    Ok(priced)
}
