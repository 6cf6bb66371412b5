//! Commit 3: postings.
//!
//! A posting, its entries, lot, balance, event and the deposit's stage are one commit.

use std::collections::BTreeMap;

use super::batch::Batch;
use super::db::{Row, Tx, bulk, query};
use super::engine::Store;
use super::errors::StoreError;
use super::leases::LeasedStore;
use super::ledger::{entry_row, posting_row};
use super::rows::corrupt;
use super::screenings::{acts_about, answers_about, screened, verdict};
use super::stages::stage_of;
use crate::domain::conversion::Conversion;
use crate::domain::deposit::HoldReason;
use crate::domain::ids::{BlockRef, ChainId, DepositId, DepositKey, PostingId, Shape, SightingKey};
use crate::domain::ledger::{CreditFacts, Draft, Posting, Written, draft_credit};
use crate::domain::money::Nanocredits;
use crate::domain::pricing::{Price, Rule};
use crate::domain::screening::{Outcome, Wanted};
use crate::planted::{Fault, planted};

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
    pub written: Written,
}

impl LeasedStore {
    /// Credits priced deposits. One that is priced no more is passed over. One that these checks do not
    /// let pass now is held; where one of them has not said anything, it stays where it is.
    ///
    /// A posting that conflicts with one written before is answered as such and not written; the
    /// others of the batch are.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn commit_credits(
        &self,
        deposits: &[DepositId],
        checks: &[Wanted],
    ) -> Result<Vec<Posted>, StoreError> {
        if deposits.is_empty() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin_held().await?;
        let mut batch = Batch::begin(&mut tx, self).await?;
        let mut ready: Vec<(DepositId, Priced, Draft)> = Vec::new();
        let mut priced = priced(&mut tx, deposits).await?;
        let screened = screened(&mut tx, deposits).await?;
        let asked = screened.iter().filter(|(_, s)| !s.said.is_empty()).map(|(id, _)| *id);
        let mut answers = answers_about(&mut tx, asked).await?;
        let mut acts = acts_about(&mut tx, deposits.iter().copied()).await?;
        for id in deposits {
            let Some(mut deposit) = priced.remove(id) else {
                if is_priced(&mut tx, *id).await? {
                    batch.hold(*id, HoldReason::Conflict)?;
                    tracing::error!(deposit.id = %id, "held: the rows it rests on disagree");
                }
                continue;
            };
            match verdict(screened.get(id), checks, batch.now_ms) {
                Some(Outcome::Clear) => {}
                _ if planted(Fault::OldAnswer) => {}
                Some(Outcome::Hit | Outcome::NoAnswer) => {
                    batch.hold(*id, HoldReason::Screening)?;
                    tracing::warn!(deposit.id = %id, "held: {}", HoldReason::Screening.as_str());
                    continue;
                }
                None => continue,
            }
            let (block, sender) = (deposit.facts.sighting.block_hash, deposit.facts.sender);
            deposit.facts.screenings = answers.remove(&(*id, block, sender));
            deposit.facts.acts = acts.remove(&(*id, block));
            let draft = draft_credit(&deposit.facts, &deposit.price)
                .map_err(|e| StoreError::Refused(format!("cannot write the evidence: {e}")))?;
            ready.push((*id, deposit, draft));
        }
        batch.read_balances(&mut tx, ready.iter().map(|(_, d, _)| &d.facts.namespace)).await?;
        let mut stored = stored_postings(&mut tx, ready.iter().map(|(_, _, d)| d.id)).await?;
        let mut posted = Vec::with_capacity(ready.len());
        for (id, Priced { facts, namespace_id, price }, draft) in ready {
            let written = match stored.remove(&draft.id) {
                Some(stored) => match draft.differs_from(&stored) {
                    Some(field) => {
                        batch.hold(id, HoldReason::Conflict)?;
                        Written::Conflict { field }
                    }
                    None => {
                        batch.credited(id, &facts, stored.seq)?;
                        Written::Exists { seq: stored.seq }
                    }
                },
                None => match batch.post(id, draft, &facts, namespace_id, &price)? {
                    Some(seq) => Written::Created { seq },
                    None => {
                        batch.hold(id, HoldReason::Overflow)?;
                        continue;
                    }
                },
            };
            let (namespace, credits) = (facts.namespace, price.credits);
            posted.push(Posted { deposit: id, namespace, credits, written });
        }
        batch.write(&mut tx).await?;
        Store::commit(tx).await?;
        Ok(posted)
    }
}

struct Priced {
    facts: CreditFacts,
    namespace_id: i64,
    price: Price,
}

/// True when a deposit is priced, and its block canonical: then it should have been readable.
async fn is_priced(tx: &mut Tx, id: DepositId) -> Result<bool, StoreError> {
    let row = query(
        "SELECT 1 AS one FROM deposits d
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE d.deposit_id = $1 AND d.stage = 'priced' AND b.canonical = 1",
    )
    .bind(id.0)
    .fetch_optional(tx)
    .await
    .map_err(StoreError::doing("read a deposit"))?;
    Ok(row.is_some())
}

/// Priced deposits with their fixed prices, read in the transaction that credits them. Every row
/// that one rests on must agree: one that was changed by hand is not credited.
async fn priced(tx: &mut Tx, ids: &[DepositId]) -> Result<BTreeMap<DepositId, Priced>, StoreError> {
    bulk(
        "WITH d AS MATERIALIZED (SELECT * FROM deposits WHERE deposit_id {keys})
         SELECT d.deposit_id, d.namespace_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.n, d.stage, d.reason,
                d.block_hash, d.block_number, d.log_index, n.name, s.sender,
                c.policy, c.head_number, c.head_hash, c.receipt_provider, c.log_provider, c.verify,
                y.receipt_index,
                (SELECT COUNT(*) FROM credits k WHERE k.deposit_id = d.deposit_id
                   AND k.reversed_by IS NOT NULL) AS reversals,
                p.epoch_id, p.rule, p.asset, p.raw_amount, p.decimals, p.credits_per_token,
                p.credits_nano, v.body AS conversion, e.body_hash, b.block_time_ms, b.canonical
         FROM d
         JOIN namespaces n ON n.namespace_id = d.namespace_id
         JOIN addresses a ON a.address_id = d.address_id AND a.address = d.recipient
                         AND a.namespace_id = d.namespace_id
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                         AND s.log_index = d.log_index AND s.deposit_id = d.deposit_id
                         AND s.raw_amount = d.raw_amount AND s.malformed IS NULL
         JOIN confirmations c ON c.deposit_id = d.deposit_id AND c.block_hash = d.block_hash
                             AND c.log_index = d.log_index
                             AND c.reversals = (SELECT COUNT(*) FROM credits z
                               WHERE z.deposit_id = d.deposit_id AND z.reversed_by IS NOT NULL)
         JOIN prices p ON p.deposit_id = d.deposit_id AND p.block_hash = d.block_hash
                      AND p.log_index = d.log_index AND p.raw_amount = d.raw_amount
         LEFT JOIN conversions v ON v.deposit_id = d.deposit_id AND v.block_hash = d.block_hash
                                AND v.log_index = d.log_index
         LEFT JOIN receipt_proofs y ON y.chain_id = d.chain_id AND y.block_hash = d.block_hash
                                   AND y.tx_hash = d.tx_hash AND c.verify = 'receipts-root'
         JOIN epochs e ON e.epoch_id = p.epoch_id
         WHERE d.stage = 'priced' AND b.canonical = 1",
        ids.iter().map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("read priced deposits"))?
    .iter()
    .map(|row| Ok((DepositId(row.b256("deposits", "deposit_id")?), priced_row(row)?)))
    .collect()
}

fn priced_row(row: &Row) -> Result<Priced, StoreError> {
    stage_of(row)?;
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    let block: BlockRef = row.block_ref("deposits")?;
    let rule = Rule::parse(&row.text("prices", "rule")?)
        .ok_or_else(|| corrupt("prices", "rule", "not a rule"))?;
    let conversion = conversion(row)?;
    if rule.is_market() != conversion.is_some() {
        return Err(corrupt("conversions", "body", "is there without a market rule, or missing"));
    }
    Ok(Priced {
        namespace_id: row.int("deposits", "namespace_id")?,
        facts: CreditFacts {
            namespace: row.text("namespaces", "name")?,
            deposit: DepositKey {
                chain,
                tx_hash: row.b256("deposits", "tx_hash")?,
                token: row.address("deposits", "token")?,
                recipient: row.address("deposits", "recipient")?,
                shape: Shape::Transfer,
                n: row.uint32("deposits", "n")?,
            },
            sighting: SightingKey {
                chain,
                block_hash: block.hash,
                log_index: row.uint("deposits", "log_index")?,
            },
            block_number: block.number,
            block_time_ms: row.int("blocks", "block_time_ms")?,
            sender: row.address("sightings", "sender")?,
            finality: row.text("confirmations", "policy")?,
            head: BlockRef {
                number: row.uint("confirmations", "head_number")?,
                hash: row.b256("confirmations", "head_hash")?,
            },
            receipt_provider: row.text("confirmations", "receipt_provider")?,
            log_provider: row.opt_text("confirmations", "log_provider")?,
            verify: row.opt_text("confirmations", "verify")?,
            receipt_index: match row.is_null("receipt_index") {
                true => None,
                false => Some(row.uint("receipt_proofs", "receipt_index")?),
            },
            reversals: row.uint32("credits", "reversals")?,
            epoch_hash: row.b256("epochs", "body_hash")?,
            screenings: None,
            acts: None,
        },
        price: Price {
            epoch_id: row.text("prices", "epoch_id")?,
            rule,
            rate: row.parsed("prices", "credits_per_token")?,
            conversion,
            asset: row.text("prices", "asset")?,
            raw: row.amount("prices", "raw_amount")?,
            decimals: row.uint8("prices", "decimals")?,
            credits: Nanocredits(row.int("prices", "credits_nano")?),
        },
    })
}

/// The arithmetic of a price that rests on the market.
pub(super) fn conversion(row: &Row) -> Result<Option<Conversion>, StoreError> {
    row.opt_text("conversions", "conversion")?
        .map(|text| {
            serde_json::from_str(&text).map_err(|e| corrupt("conversions", "body", &e.to_string()))
        })
        .transpose()
}

/// Postings that were written before, with their entries.
async fn stored_postings(
    tx: &mut Tx,
    ids: impl Iterator<Item = PostingId>,
) -> Result<BTreeMap<PostingId, Posting>, StoreError> {
    const DOING: &str = "look up postings";
    let rows = bulk(
        "SELECT seq, posting_id, kind, deposit_id, effective_at_ms, recorded_at_ms, evidence,
                prev_hash, hash FROM postings WHERE posting_id {keys}",
        ids.map(|id| vec![id.0.into()]).collect(),
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut postings = BTreeMap::new();
    for row in rows {
        let mut posting = posting_row(&row)?;
        posting.entries = query(
            "SELECT account, side, amount_nano FROM entries WHERE posting_seq = $1 ORDER BY leg",
        )
        .bind(posting.seq)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?
        .iter()
        .map(entry_row)
        .collect::<Result<_, _>>()?;
        postings.insert(posting.id, posting);
    }
    Ok(postings)
}
