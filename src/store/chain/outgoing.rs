//! What left our addresses, and what follows from it: which deposits are no new money, as far as a
//! machine can tell.
//!
//! The same coins must not be credited twice. A deposit is held when it comes from an address that is
//! registered here; when its own address has sent money on to another one of ours before it was
//! registered itself, or that money was credited there; and when money left its address before it
//! came, though somebody else controls that one, who could pass the same coins round.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use crate::domain::deposit::{Event, HoldReason};
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::money::RawAmount;
use crate::domain::screening::{Outcome, Wanted};
use crate::planted::{Fault, planted};
use crate::store::acts::kinds::HELD_REST_MS;
use crate::store::chain::scanned::Seen;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, Value, bulk};
use crate::store::deposits::open_deposit::{OpenDeposit, unmoved};
use crate::store::deposits::screenings::{screened, verdict};
use crate::store::deposits::stages::set_stages;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::gone_in;
use crate::store::leases::LeasedStore;
use crate::store::rows::{amount_bytes, to_int};

/// A transfer that left one of our addresses, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Outflow {
    /// Who paid.
    pub address: Address,
    /// Who received.
    pub recipient: Address,
    /// Of which token.
    pub token: Address,
    /// How much.
    pub raw_amount: RawAmount,
    /// Transaction.
    pub tx_hash: B256,
    /// Height of its block.
    pub block_number: u64,
}

/// That the transfer `o` left the address `a` may hold what comes to it: what is not certain about it is
/// asked for, and waited for, by this one condition.
macro_rules! matters {
    () => {
        "(a.origin = 'imported'
          OR EXISTS (SELECT 1 FROM addresses t WHERE t.address = o.recipient))
         AND o.accepted_by IS NULL"
    };
}
pub(in crate::store) use matters;

/// What is known of where a deposit's money comes from.
pub(in crate::store) enum Origin {
    /// Nothing speaks against it.
    New,
    /// Old blocks are still being read for its address or its token.
    NotYet,
    /// Nothing else speaks against it, and a check has not let it pass yet.
    Unscreened,
    /// One provider alone says that money left its address.
    Unchecked,
    /// A person must look.
    Doubtful(HoldReason),
}

impl Store {
    /// What left the address of a deposit on its chain and no operator has accepted yet, oldest first.
    pub async fn open_outflows(&self, deposit: DepositId) -> Result<Vec<Outflow>, StoreError> {
        query(
            "SELECT a.address, o.recipient, o.token, o.raw_amount, o.tx_hash, o.block_number
             FROM deposits d
             JOIN addresses a ON a.address_id = d.address_id
             JOIN outgoing o ON o.chain_id = d.chain_id AND o.address_id = d.address_id
             JOIN blocks b ON b.chain_id = o.chain_id AND b.block_hash = o.block_hash
             WHERE d.deposit_id = $1 AND b.canonical = 1 AND COALESCE(o.checked, '') <> 'refuted'
               AND o.accepted_by IS NULL
             ORDER BY o.block_number, o.log_index",
        )
        .bind(deposit.0)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(outflow)
        .collect()
    }
}

fn outflow(row: &Row) -> Result<Outflow, StoreError> {
    Ok(Outflow {
        address: row.address("addresses", "address")?,
        recipient: row.address("outgoing", "recipient")?,
        token: row.address("outgoing", "token")?,
        raw_amount: row.amount("outgoing", "raw_amount")?,
        tx_hash: row.b256("outgoing", "tx_hash")?,
        block_number: row.uint("outgoing", "block_number")?,
    })
}

impl LeasedStore {
    /// Looks again at deposits that are held because their money may be credited already, or may not be
    /// taken. Those of which nothing speaks against any more go on, when these checks let them pass. Returns
    /// how many do, and those that lack nothing but an answer of the checks.
    pub async fn commit_reconsidered(
        &self,
        deposits: &[OpenDeposit],
        checks: &[Wanted],
        now_ms: i64,
    ) -> Result<(usize, BTreeSet<DepositId>), StoreError> {
        if deposits.is_empty() {
            return Ok((0, BTreeSet::new()));
        }
        let mut tx = self.begin_held().await?;
        let unmoved = unmoved(&mut tx, deposits.iter()).await?;
        let ids: Vec<DepositId> = unmoved.keys().copied().collect();
        let origins = origins(&mut tx, &ids, checks, now_ms).await?;
        let fixed = have_prices(&mut tx, unmoved.keys().copied()).await?;
        let (mut stages, mut released, mut unscreened) = (Vec::new(), 0usize, BTreeSet::new());
        for (id, stage) in unmoved {
            let event = match origins.get(&id) {
                // What spoke against it came when its price was fixed already.
                Some(Origin::New) if fixed.contains(&id) => Event::PriceFixed,
                Some(Origin::New) => Event::ReceiptAgreed,
                Some(Origin::Doubtful(reason)) => Event::Hold(*reason),
                Some(Origin::Unscreened) => {
                    unscreened.insert(id);
                    continue;
                }
                Some(Origin::NotYet | Origin::Unchecked) | None => continue,
            };
            if !matches!(event, Event::Hold(_)) {
                released = released.saturating_add(1);
            }
            stages.push((id, stage.next(event)?));
        }
        set_stages(&mut tx, &stages, now_ms).await?;
        Store::commit(tx).await?;
        Ok((released, unscreened))
    }
}

/// Those whose price is fixed where they stand.
async fn have_prices(
    tx: &mut Tx,
    ids: impl Iterator<Item = DepositId>,
) -> Result<BTreeSet<DepositId>, StoreError> {
    bulk(
        "SELECT d.deposit_id FROM deposits d
         JOIN prices p ON p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash
                      AND p.log_index = d.log_index AND p.raw_amount = d.raw_amount
         WHERE d.deposit_id {keys}",
        ids.map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| Ok(DepositId(row.b256("deposits", "deposit_id")?)))
    .collect()
}

/// Records what left our addresses, once; who shows it as well is noted. Returns what somebody should
/// look at.
pub(in crate::store) async fn record_outgoing(
    tx: &mut Tx,
    chain: i64,
    seen: Seen<'_>,
    now_ms: i64,
) -> Result<Vec<NewFinding>, StoreError> {
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    for o in seen.outgoing {
        let mut row: Vec<Value> = vec![
            chain.into(),
            o.key.block_hash.into(),
            o.tx_hash.into(),
            o.token.into(),
            i64::from(o.address_id.0).into(),
            o.recipient.into(),
            amount_bytes(o.amount).into(),
            i64::from(o.n).into(),
        ];
        keys.push(row.clone());
        row.extend([
            to_int(o.key.log_index, "log index")?.into(),
            to_int(o.block_number, "block")?.into(),
            seen.provider.into(),
            now_ms.into(),
        ]);
        rows.push(row);
    }
    bulk(
        "INSERT INTO outgoing (chain_id, block_hash, tx_hash, token, address_id, recipient,
                               raw_amount, n, log_index, block_number, provider, seen_at_ms) {rows}
         ON CONFLICT (chain_id, block_hash, tx_hash, token, address_id, recipient, raw_amount, n)
         DO UPDATE SET checked = 'shown', second_provider = excluded.provider
         WHERE outgoing.provider <> excluded.provider
           AND COALESCE(outgoing.checked, '') <> 'shown'",
        rows,
    )
    .execute(tx)
    .await?;
    bulk(
        "SELECT a.address, o.recipient, o.token, o.raw_amount, o.tx_hash, o.block_number
         FROM {each}
         JOIN outgoing o ON o.chain_id = r.column1 AND o.block_hash = r.column2
                        AND o.tx_hash = r.column3 AND o.token = r.column4
                        AND o.address_id = r.column5 AND o.recipient = r.column6
                        AND o.raw_amount = r.column7 AND o.n = r.column8
         JOIN addresses a ON a.address_id = o.address_id
         WHERE a.origin = 'imported' AND o.checked = 'shown' AND o.accepted_by IS NULL",
        keys,
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let outflow = outflow(row)?;
        let subject = outflow.address.to_string();
        let detail = serde_json::json!(outflow);
        let chain = Some(ChainId(u64::try_from(chain).unwrap_or_default()));
        Ok(NewFinding { chain, kind: FindingKind::OutflowOfImportedAddress, subject, detail })
    })
    .collect()
}

/// What is known of where the money of deposits comes from, a count for each question.
const ORIGINS: &str = concat!(
    "WITH d AS MATERIALIZED (
       SELECT deposits.*, (SELECT COALESCE(MAX(o.to_number), -1) FROM (
            SELECT f.to_number FROM backfills f
             WHERE f.chain_id = deposits.chain_id AND f.kind = 'address'
               AND f.subject = deposits.recipient
            UNION ALL
            SELECT f.to_number FROM backfills f
             WHERE f.chain_id = deposits.chain_id AND f.kind = 'address'
               AND f.last_id >= deposits.address_id
               AND f.first_id <= deposits.address_id) o) AS ours_since
       FROM deposits WHERE deposit_id {keys})
     SELECT d.deposit_id,
       (SELECT COUNT(*) FROM operator_acts p JOIN operator_acts q ON q.approves = p.act_id
         WHERE p.kind = 'propose_release' AND p.latch IS NULL
           AND p.deposit_id = d.deposit_id
           AND p.block_hash = d.block_hash) AS released,
       (SELECT COUNT(*) FROM backfills f
         WHERE f.chain_id = d.chain_id AND f.finished_at_ms IS NULL
           AND ((f.kind IN ('address', 'newer') AND (f.subject = d.recipient
                 OR d.address_id BETWEEN f.first_id AND f.last_id))
                OR (f.kind = 'token' AND f.subject = d.token
                    AND f.to_number >= d.block_number)))
       -- What was scanned without its address is not even asked for yet.
       + (SELECT COUNT(*) FROM cursors c
          WHERE c.chain_id = d.chain_id AND c.known_address_id < d.address_id) AS reading,
       (SELECT COUNT(*) FROM sightings s JOIN addresses a ON a.address = s.sender
         WHERE s.chain_id = d.chain_id AND s.block_hash = d.block_hash
           AND s.log_index = d.log_index) AS from_us,
       (SELECT COUNT(*) FROM outgoing o
          JOIN blocks b ON b.chain_id = o.chain_id AND b.block_hash = o.block_hash
          JOIN addresses a ON a.address = o.recipient
         WHERE o.chain_id = d.chain_id AND o.address_id = d.address_id AND b.canonical = 1
           AND o.checked IN ('shown', 'disputed') AND o.block_number >= d.block_number
           AND (o.block_number <= d.ours_since
                OR EXISTS (SELECT 1 FROM deposits y WHERE y.chain_id = o.chain_id
                   AND y.block_hash = o.block_hash AND y.tx_hash = o.tx_hash
                   AND y.token = o.token AND y.recipient = o.recipient
                   AND y.raw_amount = o.raw_amount
                   AND (y.stage IN ('confirmed', 'priced', 'credited')
                        OR (y.stage = 'held' AND y.reason NOT IN
                            ('receipt_mismatch', 'receipt_missing', 'providers_disagree',
                             'unproved', 'internal_transfer', 'custody_doubt',
                             'screening')))))) AS sent_on,
       (SELECT COUNT(*) FROM outgoing o
          JOIN blocks b ON b.chain_id = o.chain_id AND b.block_hash = o.block_hash
          JOIN addresses a ON a.address_id = o.address_id AND a.origin = 'imported'
         WHERE o.chain_id = d.chain_id AND o.address_id = d.address_id AND b.canonical = 1
           AND o.checked IN ('shown', 'disputed')
           AND (o.block_number <= d.block_number OR o.block_number <= d.ours_since)
           AND o.accepted_by IS NULL) AS left_us,
       (SELECT COUNT(*) FROM outgoing o
          JOIN blocks b ON b.chain_id = o.chain_id AND b.block_hash = o.block_hash
          JOIN addresses a ON a.address_id = o.address_id
         WHERE o.chain_id = d.chain_id AND o.address_id = d.address_id AND b.canonical = 1
           AND o.checked IS NULL AND ",
    matters!(),
    ") AS unchecked
     FROM d"
);

/// Where the money of deposits comes from, by what is known now, and whether these checks have let it
/// pass. What two people released passes.
pub(in crate::store) async fn origins(
    tx: &mut Tx,
    ids: &[DepositId],
    checks: &[Wanted],
    now_ms: i64,
) -> Result<BTreeMap<DepositId, Origin>, StoreError> {
    let screened = screened(tx, ids).await?;
    let rows =
        bulk(ORIGINS, ids.iter().map(|id| vec![id.0.into()]).collect()).fetch_all(tx).await?;
    rows.iter()
        .map(|row| {
            let any = |column| Ok::<_, StoreError>(row.int("deposits", column)? > 0);
            let id = DepositId(row.b256("deposits", "deposit_id")?);
            let said = verdict(screened.get(&id), checks, now_ms);
            let passes = any("released")? || planted(Fault::InternalMoney);
            // What people must look at in any case needs nobody's answer; only a hit comes before.
            let origin = if said == Some(Outcome::Hit) {
                Origin::Doubtful(HoldReason::Screening)
            } else if !passes && any("reading")? {
                Origin::NotYet
            } else if !passes && (any("from_us")? || any("sent_on")?) {
                Origin::Doubtful(HoldReason::InternalTransfer)
            } else if !passes && any("left_us")? {
                Origin::Doubtful(HoldReason::CustodyDoubt)
            } else if said == Some(Outcome::NoAnswer) {
                Origin::Doubtful(HoldReason::Screening)
            } else if said.is_none() {
                Origin::Unscreened
            } else if !passes && any("unchecked")? {
                Origin::Unchecked
            } else {
                Origin::New
            };
            Ok((id, origin))
        })
        .collect()
}

/// Accepts what has left a deposit's address by now, and has every deposit that waited for it looked
/// at again.
pub(in crate::store) async fn accept_outflows(
    tx: &mut Tx,
    deposit: DepositId,
    act: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let row = query("SELECT chain_id, recipient FROM deposits WHERE deposit_id = $1")
        .bind(deposit.0)
        .fetch_one(&mut *tx)
        .await?;
    let gone = Gone {
        chain: Some(ChainId(row.uint("deposits", "chain_id")?)),
        kind: FindingKind::OutflowOfImportedAddress,
        subject: row.address("deposits", "recipient")?.to_string(),
    };
    gone_in(tx, &[gone], now_ms).await?;
    query(
        "UPDATE outgoing SET accepted_by = $2
         WHERE accepted_by IS NULL
           AND (chain_id, address_id) IN (SELECT chain_id, address_id FROM deposits
                                          WHERE deposit_id = $1)",
    )
    .bind(deposit.0)
    .bind(act)
    .execute(&mut *tx)
    .await?;
    query(
        "UPDATE deposits SET updated_at_ms = $2
         WHERE stage = 'held' AND reason = 'custody_doubt'
           AND (chain_id, address_id) IN (SELECT chain_id, address_id FROM deposits
                                          WHERE deposit_id = $1)",
    )
    .bind(deposit.0)
    .bind(now_ms.saturating_sub(HELD_REST_MS))
    .execute(&mut *tx)
    .await?;
    Ok(())
}
