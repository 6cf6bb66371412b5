//! What a correction rests on: the credit as it stands, and the cause that two people's acts give.
//!
//! The commit that corrects a credit builds the cause here, and so does `ledger verify`, from the same rows: where the
//! two differ, a row was changed since. Nothing is written here, and no amount is decided: what the payment is worth
//! instead is computed again by the functions that price every payment.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::acts::ActRow;
use crate::domain::conversion::Leg;
use crate::domain::correction::{ProposedCorrection, by_hand_hash, counts_for, value_again};
use crate::domain::ids::{BlockRef, ChainId, DepositId};
use crate::domain::journal::{
    Cause, DepositCorrection, JournalId, Kind, RecordId, Valued, first_difference,
};
use crate::domain::money::Nanocredits;
use crate::domain::oracle::reading::PriceInstant;
use crate::domain::pricing::{Epoch, epoch_hash};
use crate::store::acts::rows::acts_by_number;
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::errors::StoreError;
use crate::store::ledger::RecordPlace;
use crate::store::rows::{corrupt, to_int};

/// A credit, as a correction finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditedAs {
    /// Place of its record.
    pub place: RecordPlace,
    /// Id of that record.
    pub record_id: RecordId,
    /// Its seal.
    pub seal: B256,
    /// Whose credit.
    pub namespace: String,
    /// The deposit.
    pub deposit: DepositId,
    /// Its block.
    pub at: PriceInstant,
    /// That block is canonical.
    pub canonical: bool,
    /// What the payment was taken as, and why.
    pub valued: Valued,
    /// What it gave.
    pub credits: Nanocredits,
    /// The record that undid it, and its kind.
    pub undone: Option<(i64, Kind)>,
}

/// The credit of a record; `None` where the record is no credit, or is not there.
pub(in crate::store) async fn credited_as(
    tx: &mut Tx,
    place: RecordPlace,
) -> Result<Option<CreditedAs>, StoreError> {
    let row = query(
        "SELECT q.record_id, q.seal, q.kind, q.cause, n.name, k.deposit_id, k.reversed_by,
                d.chain_id, b.block_number, b.block_hash, b.block_time_ms, b.canonical,
                l.amount_nano, u.kind AS undone_by
         FROM credits k
         JOIN records q ON q.journal_id = k.journal_id AND q.seq = k.seq
         JOIN lots l ON l.journal_id = k.journal_id AND l.lot_seq = k.seq
         JOIN namespaces n ON n.namespace_id = k.journal_id
         JOIN deposits d ON d.deposit_id = k.deposit_id AND d.namespace_id = k.journal_id
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = k.block_hash
         LEFT JOIN records u ON u.journal_id = k.journal_id AND u.seq = k.reversed_by
         WHERE k.journal_id = $1 AND k.seq = $2",
    )
    .bind(place.journal.0)
    .bind(place.seq)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let kind = |column: &str| -> Result<Kind, StoreError> {
        Kind::parse(&row.text("records", column)?)
            .map_err(|unknown| corrupt("records", column, &unknown.to_string()))
    };
    let cause = Cause::from_json(kind("kind")?, &row.text("records", "cause")?)
        .map_err(|e| corrupt("records", "cause", &e.to_string()))?;
    let valued = match cause {
        Cause::DepositCredited(credit) => Valued::of(&credit),
        Cause::DepositCorrected(correction) => correction.again,
        _ => return Err(corrupt("records", "kind", "is not that of a credit")),
    };
    let undone = match row.opt_int("credits", "reversed_by")? {
        Some(by) => Some((by, kind("undone_by")?)),
        None => None,
    };
    let at = PriceInstant {
        chain: ChainId(row.uint("deposits", "chain_id")?),
        block: BlockRef {
            number: row.uint("blocks", "block_number")?,
            hash: row.b256("blocks", "block_hash")?,
        },
        time_ms: row.int("blocks", "block_time_ms")?,
    };
    Ok(Some(CreditedAs {
        place,
        record_id: RecordId(row.b256("records", "record_id")?),
        seal: row.b256("records", "seal")?,
        namespace: row.text("namespaces", "name")?,
        deposit: DepositId(row.b256("credits", "deposit_id")?),
        at,
        canonical: row.int("blocks", "canonical")? == 1,
        valued,
        credits: Nanocredits(row.int("lots", "amount_nano")?),
        undone,
    }))
}

/// The journal of a deposit's namespace.
pub(in crate::store) async fn journal_of_deposit(
    tx: &mut Tx,
    deposit: DepositId,
) -> Result<Option<JournalId>, StoreError> {
    query("SELECT namespace_id FROM deposits WHERE deposit_id = $1")
        .bind(deposit.0)
        .fetch_optional(tx)
        .await?
        .map(|row| Ok(JournalId(row.int("deposits", "namespace_id")?)))
        .transpose()
}

/// An epoch, with the hash of its text; `None` where there is none of this name.
pub(in crate::store) async fn epoch_of(
    tx: &mut Tx,
    id: &str,
) -> Result<Option<(Epoch, B256)>, StoreError> {
    let row = query("SELECT body, body_hash FROM epochs WHERE epoch_id = $1")
        .bind(id)
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (body, hash) = (row.text("epochs", "body")?, row.b256("epochs", "body_hash")?);
    if epoch_hash(&body) != hash {
        return Err(corrupt("epochs", "body", "body_hash is not the hash of body"));
    }
    let epoch =
        serde_json::from_str(&body).map_err(|e| corrupt("epochs", "body", &e.to_string()))?;
    Ok(Some((epoch, hash)))
}

/// Why acts give no cause of a correction: the table that is to blame, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct NoCause {
    pub(in crate::store) table: &'static str,
    pub(in crate::store) problem: String,
}

impl NoCause {
    fn of(table: &'static str, problem: impl Into<String>) -> Self {
        Self { table, problem: problem.into() }
    }
}

/// The causes of corrections, each by the number of the act that approved it.
pub(in crate::store) async fn correction_causes(
    tx: &mut Tx,
    approvals: impl Iterator<Item = i64>,
) -> Result<BTreeMap<i64, Result<DepositCorrection, NoCause>>, StoreError> {
    let approvals = acts_by_number(tx, approvals).await?;
    let named = approvals.values().filter_map(|act| act.approves);
    let proposals = acts_by_number(tx, named).await?;
    let mut causes = BTreeMap::new();
    for (number, approval) in &approvals {
        let proposal = approval.approves.and_then(|named| proposals.get(&named));
        let cause = match proposal {
            Some(proposal) => correction_cause(tx, proposal, approval).await?,
            None => Err(NoCause::of("operator_acts", "approves no act that is there")),
        };
        causes.insert(*number, cause);
    }
    Ok(causes)
}

/// The cause that a proposal and its approval give, of rows that agree with each other.
pub(in crate::store) async fn correction_cause(
    tx: &mut Tx,
    proposal: &ActRow,
    approval: &ActRow,
) -> Result<Result<DepositCorrection, NoCause>, StoreError> {
    const ACTS: &str = "operator_acts";
    let (Some(proposed), Some(deposit)) = (ProposedCorrection::of(proposal), proposal.deposit)
    else {
        return Ok(Err(NoCause::of(ACTS, "proposes no correction that can be read")));
    };
    let Some(journal) = journal_of_deposit(tx, deposit).await? else {
        return Ok(Err(NoCause::of(ACTS, "is about a deposit that is not there")));
    };
    let place = RecordPlace { journal, seq: proposed.corrects_seq };
    let Some(credit) = credited_as(tx, place).await? else {
        return Ok(Err(NoCause::of("credits", "the credit that is corrected is not there")));
    };
    let same = credit.deposit == deposit
        && credit.record_id == proposed.corrects_record_id
        && credit.seal == proposed.corrects_seal
        && credit.credits == proposed.credited_nano
        && (credit.at.chain, credit.at.block.hash) == (proposal.chain, proposal.block_hash);
    if !same {
        return Ok(Err(NoCause::of("credits", "the credit that is corrected is another one")));
    }
    if let Some(why) = follows(tx, &credit, proposal, &proposed).await? {
        return Ok(Err(why));
    }
    let cause = proposed.cause(credit.namespace, proposal, approval);
    Ok(cause.ok_or_else(|| NoCause::of(ACTS, "was not approved as it is, by its hash")))
}

/// Why what is given instead does not follow from the epoch, the prices, and what was paid.
async fn follows(
    tx: &mut Tx,
    credit: &CreditedAs,
    proposal: &ActRow,
    proposed: &ProposedCorrection,
) -> Result<Option<NoCause>, StoreError> {
    let again = &proposed.again;
    let by_hand = proposal.named_price();
    for leg in again.legs() {
        let named = by_hand.filter(|(pair, _)| *pair == leg.pair);
        let known = match named {
            Some((pair, price)) => {
                leg.price == price
                    && leg.price_hash == by_hand_hash(credit.record_id, pair, price)
                    && counts_for(leg, &credit.valued)
            }
            None => {
                credit.valued.legs().contains(leg)
                    || (is_accepted(tx, leg, &credit.at).await? && counts_for(leg, &credit.valued))
            }
        };
        if !known {
            let table = if named.is_some() { "operator_acts" } else { "market_prices" };
            let problem = format!("no price of {} that was accepted, or given by hand", leg.pair);
            return Ok(Some(NoCause::of(table, problem)));
        }
    }
    if by_hand.is_some_and(|(pair, _)| !again.legs().iter().any(|leg| leg.pair == pair)) {
        let problem = "names a price that has no part in what it gives";
        return Ok(Some(NoCause::of("operator_acts", problem)));
    }
    let Some((epoch, hash)) = epoch_of(tx, &again.epoch).await? else {
        return Ok(Some(NoCause::of("epochs", format!("there is no epoch {}", again.epoch))));
    };
    let computed = value_again(&credit.valued, (&epoch, hash), again.legs());
    if computed.as_ref() == Ok(again) {
        return Ok(None);
    }
    let text = |valued: &Valued| serde_json::to_string(valued).unwrap_or_default();
    let differs = computed.ok().and_then(|other| first_difference(&text(&other), &text(again)));
    let problem = match differs {
        Some(field) => format!("epoch {} and these prices give another {field}", again.epoch),
        None => format!("epoch {} and these prices give nothing", again.epoch),
    };
    Ok(Some(NoCause::of("epochs", problem)))
}

/// True for a price of the market that was accepted at this block, as it stands there.
async fn is_accepted(tx: &mut Tx, leg: &Leg, at: &PriceInstant) -> Result<bool, StoreError> {
    let row = query(
        "SELECT 1 AS one FROM market_prices
         WHERE price_hash = $1 AND pair = $2 AND price = $3 AND manual = 0
           AND chain_id = $4 AND block_hash = $5",
    )
    .bind(leg.price_hash)
    .bind(&leg.pair)
    .bind(leg.price.to_string())
    .bind(to_int(at.chain.0, "chain id")?)
    .bind(at.block.hash)
    .fetch_optional(tx)
    .await?;
    Ok(row.is_some())
}
