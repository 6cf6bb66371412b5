//! What the settle task reads, and the commits that take a deposit to `Confirmed` and `Priced`.
//!
//! Each commit looks again at the deposits it changes: one that was moved or orphaned since the
//! decision is passed over, and the next activation decides anew.

use std::collections::BTreeSet;

use alloy::primitives::{B256, TxHash};

use crate::domain::deposit::{Event, HoldReason, Stage};
use crate::domain::finding::{FindingKind, Gone, of_deposit};
use crate::domain::ids::{AddressId, ChainId, DepositId, DepositKey, Shape, SightingKey};
use crate::domain::screening::Wanted;
use crate::domain::terms::NoPrice;
use crate::domain::transfer::{Content, Sighting};
use crate::store::chain::outgoing::{Origin, origins};
use crate::store::db::bulk;
use crate::store::db::query::query;
use crate::store::deposits::attempts::{forget_rereads, undone};
use crate::store::deposits::open_deposit::{
    Confirmation, Held, OpenDeposit, Pricing, RecordedOf, open_deposit, unmoved,
};
use crate::store::deposits::proofs::keep;
use crate::store::deposits::stages::{look_elsewhere, set_stages, shown};
use crate::store::deposits::waits::went_on_in;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in, undisputed};
use crate::store::leases::LeasedStore;
use crate::store::registry::registers::same_epochs;
use crate::store::rows::{amount_bytes, to_int};

/// Rows in one page of open deposits.
pub(in crate::store) const PAGE: i64 = 1_024;

/// The columns of an open deposit, followed by the given conditions.
macro_rules! select_open {
    ($($conditions:literal),+) => {
        concat!(
            "SELECT d.deposit_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n,
                    d.namespace_id, d.address_id, d.block_number, d.block_hash, d.log_index, d.raw_amount,
                    d.stage, d.reason, d.updated_at_ms, d.due_number, b.block_time_ms, s.provider
             FROM deposits d
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
             LEFT JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                                  AND s.log_index = d.log_index
                                  AND s.deposit_id = d.deposit_id ",
            $($conditions),+
        )
    };
}
pub(in crate::store) use select_open;

impl Store {
    /// A page of a chain's deposits in one stage whose block is at `up_to` or below, in the order
    /// of height and id, after the given one.
    pub async fn open_deposits(
        &self,
        chain: ChainId,
        stage: Stage,
        up_to: u64,
        after: Option<&OpenDeposit>,
    ) -> Result<Vec<OpenDeposit>, StoreError> {
        let (number, id) = match after {
            None => (-1, Vec::new()),
            Some(last) => (to_int(last.block.number, "block")?, last.id.0.to_vec()),
        };
        // Each by the same index: it holds stages and reasons apart.
        let sql = match stage.reason() {
            None => select_open!(
                "WHERE d.chain_id = $1 AND d.stage = $2 AND d.stage IN ('pending', 'confirmed',
                   'priced', 'held') AND d.reason IS NULL AND $3 IS NULL
                 AND d.block_number <= $4 AND (d.block_number, d.deposit_id) > ($5, $6)
                 ORDER BY d.block_number, d.deposit_id LIMIT $7"
            ),
            Some(_) => select_open!(
                "WHERE d.chain_id = $1 AND d.stage = $2 AND d.stage IN ('pending', 'confirmed',
                   'priced', 'held') AND d.reason = $3
                 AND d.block_number <= $4 AND (d.block_number, d.deposit_id) > ($5, $6)
                 ORDER BY d.block_number, d.deposit_id LIMIT $7"
            ),
        };
        query(sql)
            .bind(to_int(chain.0, "chain id")?)
            .bind(stage.as_str())
            .bind(stage.reason())
            .bind(to_int(up_to, "block")?)
            .bind(number)
            .bind(id)
            .bind(PAGE)
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(open_deposit)
            .collect()
    }

    /// What is recorded of transactions, each in one block.
    pub async fn sightings_of(
        &self,
        chain: ChainId,
        places: impl IntoIterator<Item = (B256, TxHash)>,
    ) -> Result<RecordedOf, StoreError> {
        let mut recorded: RecordedOf =
            places.into_iter().map(|place| (place, Vec::new())).collect();
        let blocks: BTreeSet<B256> = recorded.keys().map(|(block, _)| *block).collect();
        let rows = blocks
            .into_iter()
            .map(|block| Ok(vec![to_int(chain.0, "chain id")?.into(), block.into()]))
            .collect::<Result<_, StoreError>>()?;
        let mut tx = self.db.begin_read().await?;
        let found = bulk(
            "SELECT s.block_hash, s.tx_hash, s.log_index, s.block_number, s.token, s.recipient,
                    s.sender, s.raw_amount, d.n, d.address_id
             FROM {each}
             JOIN sightings s ON s.chain_id = r.column1 AND s.block_hash = r.column2
             JOIN deposits d ON d.deposit_id = s.deposit_id
             WHERE s.malformed IS NULL ORDER BY s.log_index",
            rows,
        )
        .fetch_all(&mut tx)
        .await?;
        Self::abandon(tx).await?;
        for row in &found {
            let block_hash = row.b256("sightings", "block_hash")?;
            let tx_hash = row.b256("sightings", "tx_hash")?;
            let Some(of_tx) = recorded.get_mut(&(block_hash, tx_hash)) else { continue };
            let log_index = row.uint("sightings", "log_index")?;
            of_tx.push(Sighting {
                key: SightingKey { chain, block_hash, log_index },
                block_number: row.uint("sightings", "block_number")?,
                deposit: DepositKey {
                    chain,
                    tx_hash,
                    token: row.address("sightings", "token")?,
                    recipient: row.address("sightings", "recipient")?,
                    shape: Shape::Transfer,
                    n: row.uint32("deposits", "n")?,
                },
                address_id: AddressId(row.uint32("deposits", "address_id")?),
                content: Content::Transfer {
                    sender: row.address("sightings", "sender")?,
                    amount: row.amount("sightings", "raw_amount")?,
                },
            });
        }
        Ok(recorded)
    }
}

impl LeasedStore {
    /// Commit A of settling: these are final, and their receipts agree. What is no new money, as far
    /// as a machine can tell, is held by the same commit. Returns how many were still as decided, and
    /// those that wait for what is said to have left their addresses to be checked. What
    /// one of these checks has not let pass stays where it is.
    pub async fn commit_confirmed(
        &self,
        confirmations: &[Confirmation],
        checks: &[Wanted],
        now_ms: i64,
    ) -> Result<(usize, BTreeSet<DepositId>), StoreError> {
        if confirmations.is_empty() {
            return Ok((0, BTreeSet::new()));
        }
        let mut tx = self.begin_held().await?;
        let mut unmoved = unmoved(&mut tx, confirmations.iter().map(|c| &c.deposit)).await?;
        let shown = shown(&mut tx, confirmations.iter().map(|c| c.deposit.id)).await?;
        for Confirmation { deposit, .. } in confirmations {
            // What the sighting says, or who showed it, was corrected since: decide anew.
            let is_known = shown.get(&deposit.id).is_some_and(|shown| {
                shown.provider == deposit.log_provider && shown.raw == deposit.raw
            });
            if !is_known {
                unmoved.remove(&deposit.id);
            }
        }
        let undone = undone(&mut tx, unmoved.keys()).await?;
        let ids: Vec<DepositId> = unmoved.keys().copied().collect();
        let origins = origins(&mut tx, &ids, checks, now_ms).await?;
        let (mut rows, mut stages) = (Vec::new(), Vec::new());
        for confirmation in confirmations {
            let deposit = &confirmation.deposit;
            let Some(stage) = unmoved.get(&deposit.id) else { continue };
            let event = match origins.get(&deposit.id) {
                Some(Origin::New) => Event::ReceiptAgreed,
                Some(Origin::Doubtful(reason)) => {
                    tracing::warn!(deposit.id = %deposit.id, tx.hash = %deposit.key.tx_hash,
                        "held: {}", reason.as_str());
                    Event::Hold(*reason)
                }
                Some(Origin::Unchecked | Origin::NotYet | Origin::Unscreened) | None => continue,
            };
            let mut next = stage.next(event)?;
            let is_priced = shown.get(&deposit.id).is_some_and(|shown| shown.is_priced);
            if next == Stage::Confirmed && is_priced {
                // Confirmed again where it stands: its price stays.
                next = next.next(Event::PriceFixed)?;
            }
            stages.push((deposit.id, next));
            rows.push(vec![
                deposit.id.0.into(),
                deposit.block.hash.into(),
                to_int(deposit.log_index, "log index")?.into(),
                confirmation.policy.to_string().into(),
                to_int(confirmation.head.number, "block")?.into(),
                confirmation.head.hash.into(),
                (&confirmation.receipt_provider).into(),
                to_int(confirmation.receipt_transfers, "number of transfers")?.into(),
                now_ms.into(),
                deposit.log_provider.as_deref().into(),
                confirmation.verify.as_str().into(),
                undone.get(&deposit.id).copied().unwrap_or(0).into(),
            ]);
        }
        bulk(
            "INSERT INTO confirmations
               (deposit_id, block_hash, log_index, policy, head_number, head_hash,
                receipt_provider, receipt_transfers, confirmed_at_ms, log_provider, verify,
                reversals) {rows}
             ON CONFLICT (deposit_id, block_hash, log_index, reversals) DO UPDATE SET
               policy = excluded.policy, head_number = excluded.head_number,
               head_hash = excluded.head_hash, receipt_provider = excluded.receipt_provider,
               receipt_transfers = excluded.receipt_transfers,
               confirmed_at_ms = excluded.confirmed_at_ms,
               log_provider = excluded.log_provider, verify = excluded.verify",
            rows,
        )
        .execute(&mut tx)
        .await?;
        let written: BTreeSet<DepositId> = stages.iter().map(|(id, _)| *id).collect();
        let proved = confirmations.iter().filter(|c| written.contains(&c.deposit.id));
        keep(&mut tx, proved).await?;
        forget_rereads(&mut tx, stages.iter().map(|(id, _)| id)).await?;
        set_stages(&mut tx, &stages, now_ms).await?;
        if let Some(chain) = confirmations.first().map(|c| c.deposit.key.chain) {
            let chain = to_int(chain.0, "chain id")?;
            undisputed(&mut tx, chain, stages.iter().map(|(id, _)| *id), now_ms).await?;
            if !stages.is_empty() {
                went_on_in(&mut tx, chain, now_ms).await?;
            }
        }
        Store::commit(tx).await?;
        let confirmed = confirmations.iter().map(|c| &c.deposit);
        self.confirmed.remember(confirmed.filter(|d| written.contains(&d.id)), &shown);
        let unchecked = origins.into_iter().filter(|(_, o)| matches!(o, Origin::Unchecked));
        Ok((stages.len(), unchecked.map(|(id, _)| id).collect()))
    }

    /// Holds deposits whose receipt disagrees or is missing, and notes when they were looked at.
    pub async fn commit_held(&self, deposits: &[Held], now_ms: i64) -> Result<(), StoreError> {
        if deposits.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        let unmoved = unmoved(&mut tx, deposits.iter().map(|held| &held.deposit)).await?;
        let (mut stages, mut findings, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for Held { deposit, reason, finding } in deposits {
            let Some(stage) = unmoved.get(&deposit.id) else { continue };
            if *reason != HoldReason::Unproved && *stage == Stage::Held(HoldReason::Unproved) {
                let (chain, kind) = (Some(deposit.key.chain), FindingKind::BlockUnproved);
                gone.push(Gone { chain, kind, subject: of_deposit(deposit.id) });
            }
            stages.push((deposit.id, stage.next(Event::Hold(*reason))?));
            findings.extend(finding.clone());
        }
        set_stages(&mut tx, &stages, now_ms).await?;
        look_elsewhere(&mut tx, &stages).await?;
        gone_in(&mut tx, &gone, now_ms).await?;
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }

    /// Commit 2: fixes prices before they are used, or says why there is none. `epochs` is the
    /// number of epochs that the prices were decided with.
    ///
    /// # Errors
    /// When the database fails, or knows an epoch that this daemon does not: nothing is written
    /// then.
    pub async fn commit_priced(
        &self,
        pricings: &[Pricing],
        epochs: usize,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        if pricings.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        same_epochs(&mut tx, epochs).await?;
        let unmoved = unmoved(&mut tx, pricings.iter().map(|p| &p.deposit)).await?;
        let (mut rows, mut conversions, mut stages) = (Vec::new(), Vec::new(), Vec::new());
        for Pricing { deposit, outcome } in pricings {
            let Some(stage) = unmoved.get(&deposit.id) else { continue };
            let event = match outcome {
                Ok(price) => {
                    if let Some(conversion) = &price.conversion {
                        let body = serde_json::to_string(conversion)?;
                        conversions.push(vec![
                            deposit.id.0.into(),
                            deposit.block.hash.into(),
                            to_int(deposit.log_index, "log index")?.into(),
                            body.into(),
                        ]);
                    }
                    rows.push(vec![
                        deposit.id.0.into(),
                        deposit.block.hash.into(),
                        to_int(deposit.log_index, "log index")?.into(),
                        (&price.epoch_id).into(),
                        price.rule.as_str().into(),
                        (&price.asset).into(),
                        amount_bytes(price.raw).into(),
                        i64::from(price.decimals).into(),
                        price.rate.to_string().into(),
                        "down".into(),
                        price.credits.0.into(),
                        now_ms.into(),
                    ]);
                    Event::PriceFixed
                }
                // Held for the same reason as before: nothing to say.
                Err(NoPrice::Hold(reason)) if *stage == Stage::Held(*reason) => continue,
                Err(NoPrice::Hold(reason)) => Event::Hold(*reason),
                Err(NoPrice::Ignore(reason)) => Event::Ignore(*reason),
            };
            stages.push((deposit.id, stage.next(event)?));
        }
        // A price that is there already stays: the same block in the same epoch has one price.
        bulk(
            "INSERT INTO prices
               (deposit_id, block_hash, log_index, epoch_id, rule, asset, raw_amount, decimals,
                credits_per_token, rounding, credits_nano, priced_at_ms) {rows}
             ON CONFLICT DO NOTHING",
            rows,
        )
        .execute(&mut tx)
        .await?;
        bulk(
            "INSERT INTO conversions (deposit_id, block_hash, log_index, body) {rows}
             ON CONFLICT DO NOTHING",
            conversions,
        )
        .execute(&mut tx)
        .await?;
        set_stages(&mut tx, &stages, now_ms).await?;
        Store::commit(tx).await
    }
}
