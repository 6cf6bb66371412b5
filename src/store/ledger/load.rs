//! The pieces of accounts that the causes of one commit need.
//!
//! What is loaded here is all that a decision may look at: a piece that nobody loaded is an error there, and never
//! "there is none". Whoever loads what an obligation has settled holds its row until the transaction ends.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::Batch;
use super::rows::{
    RecordPlace, credit_row, lot_columns, lot_row, obligation_row, said_row, select_records,
};
use crate::domain::account::{DepositState, Written};
use crate::domain::ids::DepositId;
use crate::domain::journal::{Cause, Draft, JournalId, RecordId};
use crate::store::db::query::Lock;
use crate::store::db::{Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// What was written under the ids of these drafts before, each with its journal.
pub(in crate::store) async fn load_records(
    tx: &mut Tx,
    batch: &mut Batch,
    drafts: impl Iterator<Item = (JournalId, &Draft)>,
) -> Result<(), StoreError> {
    let wanted: Vec<(JournalId, RecordId)> =
        drafts.map(|(journal, draft)| (journal, draft.id)).collect();
    let keys = wanted.iter().map(|(_, id)| vec![id.0.into()]).collect();
    let mut said = BTreeMap::new();
    for row in bulk(select_records!("WHERE q.record_id {keys}"), keys).fetch_all(tx).await? {
        let place = (row.int("records", "journal_id")?, row.b256("records", "record_id")?);
        said.insert(place, said_row(&row)?);
    }
    for (journal, id) in wanted {
        let said = said.remove(&(journal.0, id.0));
        batch.account(journal)?.load_record(id, said);
    }
    Ok(())
}

/// What became of deposits, each in the journal of its namespace.
pub(in crate::store) async fn load_deposits(
    tx: &mut Tx,
    batch: &mut Batch,
    deposits: impl Iterator<Item = (JournalId, DepositId)>,
) -> Result<(), StoreError> {
    let wanted: BTreeMap<DepositId, JournalId> =
        deposits.map(|(j, deposit)| (deposit, j)).collect();
    let keys = wanted.keys().map(|id| vec![id.0.into()]).collect();
    let mut states: BTreeMap<DepositId, DepositState> = BTreeMap::new();
    for row in bulk(
        "SELECT deposit_id, journal_id, seq, reversed_by FROM credits WHERE deposit_id {keys}",
        keys,
    )
    .fetch_all(tx)
    .await?
    {
        let deposit = DepositId(row.b256("credits", "deposit_id")?);
        let journal = JournalId(row.int("credits", "journal_id")?);
        if wanted.get(&deposit) != Some(&journal) {
            return Err(corrupt("credits", "journal_id", "is not that of its deposit's namespace"));
        }
        let state = states.entry(deposit).or_default();
        match row.opt_int("credits", "reversed_by")? {
            Some(_) => state.reversals = state.reversals.saturating_add(1),
            None => state.standing = Some(row.int("credits", "seq")?),
        }
    }
    for (deposit, journal) in wanted {
        let state = states.remove(&deposit).unwrap_or_default();
        batch.account(journal)?.load_deposit(deposit, state);
    }
    Ok(())
}

/// Credits that are to be undone: each with its deposit, its lot, and what its conversion owes, whose row is taken.
pub(in crate::store) async fn load_credits(
    tx: &mut Tx,
    batch: &mut Batch,
    places: &BTreeSet<RecordPlace>,
) -> Result<(), StoreError> {
    credits(tx, batch, places, Some(Lock::Update)).await
}

/// The same for a batch that only looks: no row is taken.
pub(in crate::store) async fn look_at_credits(
    tx: &mut Tx,
    batch: &mut Batch,
    places: &BTreeSet<RecordPlace>,
) -> Result<(), StoreError> {
    credits(tx, batch, places, None).await
}

async fn credits(
    tx: &mut Tx,
    batch: &mut Batch,
    places: &BTreeSet<RecordPlace>,
    lock: Option<Lock>,
) -> Result<(), StoreError> {
    let keys = || places.iter().map(|place| place.key()).collect::<Vec<_>>();
    let owed = bulk(
        "SELECT o.journal_id, o.seq, o.into_asset, o.tokens, o.token_decimals, o.usd_nano, o.settled_tokens,
                o.carried_tokens, o.carried_usd_nano
         FROM {each}
         JOIN obligations o ON o.journal_id = r.column1 AND o.seq = r.column2
         ORDER BY o.journal_id, o.seq",
        keys(),
    );
    let owed = match lock {
        Some(lock) => owed.locked(lock),
        None => owed,
    };
    let owed = owed.fetch_all(&mut *tx).await?;
    let mut obligations = BTreeMap::new();
    for row in owed {
        let key = (row.int("obligations", "journal_id")?, row.int("obligations", "seq")?);
        obligations.insert(key, obligation_row(&row)?);
    }
    let rows = bulk(
        concat!(
            "SELECT k.journal_id, k.seq, k.deposit_id, k.block_hash, k.log_index, k.reversed_by,
                    q.record_id, q.seal, d.chain_id, ",
            lot_columns!(),
            " FROM {each}
             JOIN credits k ON k.journal_id = r.column1 AND k.seq = r.column2
             JOIN records q ON q.journal_id = k.journal_id AND q.seq = k.seq
             JOIN deposits d ON d.deposit_id = k.deposit_id AND d.namespace_id = k.journal_id
             JOIN lots l ON l.journal_id = k.journal_id AND l.lot_seq = k.seq"
        ),
        keys(),
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut credits = BTreeMap::new();
    for row in rows {
        let journal = JournalId(row.int("credits", "journal_id")?);
        let credit = credit_row(&row)?;
        credits.insert(RecordPlace { journal, seq: credit.seq }, (credit, lot_row(&row)?));
    }
    let deposits: Vec<_> =
        credits.iter().map(|(place, (credit, _))| (place.journal, credit.deposit)).collect();
    load_deposits(tx, batch, deposits.into_iter()).await?;
    for place in places {
        let account = batch.account(place.journal)?;
        let (credit, lot) = credits.remove(place).unzip();
        account.load_credit(place.seq, credit);
        if let Some(lot) = lot {
            account.load_lot(lot);
        }
        account.load_obligation(place.seq, obligations.remove(&(place.journal.0, place.seq)));
    }
    Ok(())
}

impl Batch {
    /// Adds a record of a cause that needs nothing but to be new, and is refused otherwise.
    ///
    /// # Errors
    /// [`StoreError::Refused`], where it cannot be written, or another one was written in its place.
    pub(in crate::store) async fn note(
        &mut self,
        tx: &mut Tx,
        journal: JournalId,
        cause: Cause,
        operator: Option<&str>,
    ) -> Result<RecordPlace, StoreError> {
        let draft = self.draft(journal, cause, operator)?;
        load_records(tx, self, [(journal, &draft)].into_iter()).await?;
        let written =
            self.add(journal, &draft)?.map_err(|why| StoreError::Refused(why.to_string()))?;
        match written {
            Written::Created(new) => Ok(RecordPlace { journal, seq: new.record.seq }),
            Written::Exists { seq, .. } => Ok(RecordPlace { journal, seq }),
            Written::Conflict { seq, field } => Err(StoreError::Refused(format!(
                "record {seq} of {journal} says something else of the same {}: {field} differs; nothing was written",
                draft.subject
            ))),
        }
    }
}
