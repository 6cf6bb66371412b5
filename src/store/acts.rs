//! What people decide about deposits on hold and about latches: one row an act, never changed,
//! and a record of the house.
//!
//! An act changes no stage. The daemon reads it when it looks at the deposit again, and decides by
//! it. A price by hand, and money that may be credited already, need two people; a price that is far from
//! the market needs its number twice.

pub(in crate::store) mod breakers;
pub(in crate::store) mod checks;
pub(in crate::store) mod compared;
pub(in crate::store) mod insert;
pub(in crate::store) mod kinds;
pub(in crate::store) mod rows;

use std::collections::BTreeSet;

use alloy::primitives::B256;

use super::db::Tx;
use super::engine::Store;
use super::errors::StoreError;
use super::ledger::Batch;
use super::rows::{corrupt, to_int};
use crate::domain::act_kind::ActKind;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::ids::{BlockRef, ChainId, DepositId};
use crate::domain::oracle::Oracle;
use crate::domain::oracle::policy::Manual;
use crate::domain::oracle::reading::PriceInstant;
use crate::store::acts::breakers::{Breaker, breaker};
use crate::store::acts::checks::{check_approval, refuse_useless, released_from, waiting_proposal};
use crate::store::acts::compared::{by_hand, must_be_said, of_breaker, of_market, policy_of};
use crate::store::acts::insert::{NewAct, insert};
use crate::store::acts::kinds::{Act, HELD_REST_MS, ManualPrice, Resume, Waiver};
use crate::store::acts::rows::{acts_about, vetoed};
use crate::store::chain::outgoing::accept_outflows;
use crate::store::db::query::{Lock, query};
use crate::store::deposits::stages::stage_of;

impl Store {
    /// Writes what an operator decided about a deposit on hold. Returns the act's number.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a deposit that is not held, or a second person who is the first;
    /// [`StoreError::NotSaidTwice`] for a price that must be repeated.
    pub async fn act(
        &self,
        oracle: &Oracle,
        deposit: DepositId,
        act: &Act,
        operator: &str,
        reason: &str,
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin_registering().await?;
        let id = self.act_in(&mut tx, oracle, (deposit, act), (operator, reason)).await?;
        Self::commit(tx).await?;
        Ok(id)
    }

    /// The same in a transaction of whoever registers.
    pub(super) async fn act_in(
        &self,
        tx: &mut Tx,
        oracle: &Oracle,
        (deposit, act): (DepositId, &Act),
        (operator, reason): (&str, &str),
    ) -> Result<i64, StoreError> {
        let mut batch = Batch::of_house(tx, self).await?;
        let now_ms = batch.now_ms;
        let (held, at) = held(tx, deposit).await?;
        refuse_useless(deposit, held, act)?;
        let block = (at.chain, at.block.hash);
        let mut new = NewAct {
            kind: ActKind::Retry,
            operator,
            reason,
            deposit: Some(deposit),
            block,
            pair: None,
            price: None,
            instant_ms: None,
            approves: None,
            latch: None,
            withdraws: None,
            correction: None,
        };
        match act {
            Act::Retry => ask_again(tx, deposit, block, now_ms).await?,
            Act::AcceptMarket { pair, price, repeated } => {
                let said = of_market(tx, policy_of(oracle, pair)?, &at).await?;
                let said = said.filter(|said| said.price == *price).ok_or_else(|| {
                    StoreError::Refused(format!(
                        "the market does not say {price} of {pair} at the deposit's block any more: look at it again; nothing was written"
                    ))
                })?;
                must_be_said(said, *repeated)?;
                let price = Some(price.to_string());
                new = NewAct { kind: ActKind::AcceptMarket, pair: Some(pair), price, ..new };
            }
            Act::ProposePrice { pair, price, repeated } => {
                let given = by_hand(tx, policy_of(oracle, pair)?, &at, *price).await?;
                must_be_said(given, *repeated)?;
                let price = Some(price.to_string());
                new = NewAct { kind: ActKind::ProposePrice, pair: Some(pair), price, ..new };
            }
            Act::ProposeRelease => {
                let latch = released_from(held).map(str::to_owned);
                new = NewAct { kind: ActKind::ProposeRelease, latch, ..new };
            }
            Act::AcceptOutflows => new = NewAct { kind: ActKind::AcceptOutflows, ..new },
            Act::Approve { proposal, hash, repeated } => {
                let named = (*proposal, *hash);
                let (proposed, kind) =
                    check_approval(tx, (deposit, held), block, named, operator).await?;
                new = NewAct { kind, approves: Some(named), ..new };
                if kind == ActKind::ApproveRelease {
                    look_again(tx, deposit, now_ms).await?;
                } else {
                    let none = || corrupt("operator_acts", "price", "it proposes none");
                    let (pair, price) = proposed.proposed().ok_or_else(none)?;
                    let given = by_hand(tx, policy_of(oracle, pair)?, &at, price).await?;
                    must_be_said(given, *repeated)?;
                }
            }
        }
        let id = insert(tx, &mut batch, new).await?;
        if *act == Act::AcceptOutflows {
            accept_outflows(tx, deposit, id, now_ms).await?;
        }
        batch.write(tx, self).await?;
        Ok(id)
    }

    /// Withdraws a proposal that nobody approved yet. Returns the act's number.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what is no proposal, or does not wait any more.
    pub async fn withdraw(
        &self,
        proposal: i64,
        (operator, reason): (&str, &str),
    ) -> Result<i64, StoreError> {
        let mut tx = self.begin_registering().await?;
        let mut batch = Batch::of_house(&mut tx, self).await?;
        let act = waiting_proposal(&mut tx, proposal).await?;
        let new = NewAct {
            kind: ActKind::Withdraw,
            operator,
            reason,
            deposit: act.deposit,
            block: (act.chain, act.block_hash),
            pair: None,
            price: None,
            instant_ms: None,
            approves: None,
            latch: None,
            withdraws: Some(proposal),
            correction: None,
        };
        let id = insert(&mut tx, &mut batch, new).await?;
        self.commit_with(tx, batch).await?;
        Ok(id)
    }

    /// Closes a pair's latch. The price that opened it passes, and later ones are compared with it;
    /// or it is rejected, and the payments of its block are left to be priced by hand. Returns the
    /// act's number, and what was open.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a pair whose latch is not open; [`StoreError::NotSaidTwice`] when
    /// another price than the one that opened it, or none, is said to pass.
    pub async fn resume_breaker(
        &self,
        oracle: &Oracle,
        pair: &str,
        how: Resume,
        (operator, reason): (&str, &str),
    ) -> Result<(i64, Breaker), StoreError> {
        let mut tx = self.begin_registering().await?;
        let mut batch = Batch::of_house(&mut tx, self).await?;
        let breaker = breaker(&mut tx, pair).await?.ok_or_else(|| {
            StoreError::Refused(format!(
                "the breaker of {pair} is not open; see: topupd prices now"
            ))
        })?;
        if let Resume::Pass { repeated } = how {
            let passes = of_breaker(&mut tx, policy_of(oracle, pair)?, &breaker).await?;
            must_be_said(passes, repeated)?;
        }
        let latch = serde_json::json!({
            "reason": breaker.reason, "opened_at_ms": breaker.opened_at_ms,
        });
        let act = NewAct {
            kind: match how {
                Resume::Pass { .. } => ActKind::ResumeBreaker,
                Resume::Reject => ActKind::VetoPrice,
            },
            operator,
            reason,
            deposit: None,
            block: (breaker.chain, breaker.block_hash),
            pair: Some(pair),
            price: Some(breaker.price.to_string()),
            instant_ms: Some(breaker.instant_ms),
            approves: None,
            latch: Some(latch.to_string()),
            withdraws: None,
            correction: None,
        };
        let id = insert(&mut tx, &mut batch, act).await?;
        query("DELETE FROM breakers WHERE pair = $1").bind(pair).execute(&mut tx).await?;
        self.commit_with(tx, batch).await?;
        Ok((id, breaker))
    }

    /// True when an operator rejected what sources said of a pair at a block.
    pub async fn is_vetoed(
        &self,
        pair: &str,
        chain: ChainId,
        block: B256,
    ) -> Result<bool, StoreError> {
        vetoed(&self.db, pair, chain.0, block).await
    }

    /// The blocks of a chain that operators decided something about.
    pub async fn blocks_with_acts(&self, chain: ChainId) -> Result<BTreeSet<B256>, StoreError> {
        query("SELECT DISTINCT block_hash FROM operator_acts WHERE chain_id = $1")
            .bind(to_int(chain.0, "chain id")?)
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(|row| row.b256("operator_acts", "block_hash"))
            .collect()
    }

    /// The acts by which a stablecoin's price below its floor was accepted for payments of this block.
    pub async fn waivers(
        &self,
        pair: &str,
        chain: ChainId,
        block: B256,
    ) -> Result<Vec<Waiver>, StoreError> {
        acts_about(&self.db, ActKind::AcceptMarket, pair, chain.0, block).await
    }

    /// The prices that two operators gave a deposit in this block; of several for a pair, the newest.
    pub async fn manual_prices(
        &self,
        deposit: DepositId,
        block: B256,
    ) -> Result<Vec<ManualPrice>, StoreError> {
        query(
            "SELECT p.act_id, p.pair, p.price, p.operator, a.act_id AS approval,
                    a.operator AS approved_by
             FROM operator_acts p JOIN operator_acts a ON a.approves = p.act_id
             WHERE p.deposit_id = $1 AND p.block_hash = $2 AND a.block_hash = $2
               AND p.kind = 'propose_price'
             ORDER BY a.act_id DESC",
        )
        .bind(deposit.0)
        .bind(block)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let acts = [row.int("operator_acts", "act_id")?, row.int("operator_acts", "approval")?];
            Ok(ManualPrice {
                pair: row.text("operator_acts", "pair")?,
                price: row.parsed("operator_acts", "price")?,
                manual: Manual {
                    acts,
                    proposed_by: row.text("operator_acts", "operator")?,
                    approved_by: row.text("operator_acts", "approved_by")?,
                },
            })
        })
        .collect()
    }
}

/// A deposit on hold: why, and the block that its price is of.
async fn held(tx: &mut Tx, deposit: DepositId) -> Result<(HoldReason, PriceInstant), StoreError> {
    // Commits of its chain do not wait for whoever acts: it is held until the act is written.
    query("SELECT stage FROM deposits WHERE deposit_id = $1")
        .bind(deposit.0)
        .locked(Lock::NoKeyUpdate)
        .fetch_optional(&mut *tx)
        .await?;
    let row = query(
        "SELECT d.stage, d.reason, d.chain_id, d.block_hash, d.block_number, b.block_time_ms
         FROM deposits d
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE d.deposit_id = $1",
    )
    .bind(deposit.0)
    .fetch_optional(tx)
    .await?
    .ok_or_else(|| StoreError::Refused(format!("there is no deposit {deposit}")))?;
    let stage = stage_of(&row)?;
    let Stage::Held(held) = stage else {
        return Err(StoreError::Refused(format!(
            "deposit {deposit} is {stage}: only one on hold can be resolved"
        )));
    };
    if matches!(held, HoldReason::Overflow | HoldReason::Conflict) {
        return Err(StoreError::Refused(format!(
            "deposit {deposit} is held for {}: looking again would find the same; nothing was written",
            held.as_str()
        )));
    }
    let number = row.uint("deposits", "block_number")?;
    let block = BlockRef { number, hash: row.b256("deposits", "block_hash")? };
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    Ok((held, PriceInstant { chain, block, time_ms: row.int("blocks", "block_time_ms")? }))
}

/// The next look at the deposit is now, and so is the next question to its sources.
async fn ask_again(
    tx: &mut Tx,
    deposit: DepositId,
    (chain, block): (ChainId, B256),
    now_ms: i64,
) -> Result<(), StoreError> {
    look_again(tx, deposit, now_ms).await?;
    query(
        "UPDATE captures SET next_try_at_ms = 0, done_at_ms = NULL
         WHERE chain_id = $1 AND block_hash = $2",
    )
    .bind(to_int(chain.0, "chain id")?)
    .bind(block)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// The next look at the deposit is now.
async fn look_again(tx: &mut Tx, deposit: DepositId, now_ms: i64) -> Result<(), StoreError> {
    query("UPDATE deposits SET updated_at_ms = $2 WHERE deposit_id = $1 AND stage = 'held'")
        .bind(deposit.0)
        .bind(now_ms.saturating_sub(HELD_REST_MS))
        .execute(tx)
        .await?;
    Ok(())
}
