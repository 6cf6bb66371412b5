//! What an operator's act must satisfy before it is written: that it can help the deposit, and that
//! two people decide where two must.

use alloy::primitives::B256;

use super::acts::Act;
use super::db::{Tx, query};
use super::errors::StoreError;
use super::proofs::HELD_UNPROVED;
use super::screenings::HELD_SCREENING;
use crate::domain::deposit::HoldReason;
use crate::domain::ids::{ChainId, DepositId};

/// Refuses what cannot change why a deposit is held.
pub(super) fn refuse_useless(
    deposit: DepositId,
    held: HoldReason,
    act: &Act,
) -> Result<(), StoreError> {
    let only = match act {
        Act::AcceptMarket { .. } if held.is_about_market() && held != HoldReason::Depegged => {
            "only a stablecoin below its floor is accepted at the market's price"
        }
        Act::AcceptMarket { .. } | Act::ProposePrice { .. } if !held.is_about_market() => {
            "no price would help it; --retry looks at it again"
        }
        Act::ProposeRelease if !held.can_be_released() => {
            "only one that may be credited already, that a check speaks against, or that cannot be proved, is released"
        }
        Act::AcceptOutflows if held != HoldReason::CustodyDoubt => {
            "accepting what left its address would not help it"
        }
        Act::Approve { .. } if !held.is_about_market() && !held.can_be_released() => {
            "there is nothing to approve; --retry looks at it again"
        }
        _ => return Ok(()),
    };
    let held = held.as_str();
    Err(StoreError::Refused(format!("deposit {deposit} is held for {held}: {only}")))
}

/// What a release says that is from one kind of hold only, and passes nothing else.
pub(super) fn released_from(held: HoldReason) -> Option<&'static str> {
    match held {
        HoldReason::Unproved => Some(HELD_UNPROVED),
        HoldReason::Screening => Some(HELD_SCREENING),
        _ => None,
    }
}

/// Two people: the one who approves is not the one who proposed. Returns what the approval is.
pub(super) async fn check_approval(
    tx: &mut Tx,
    (deposit, held): (DepositId, HoldReason),
    (_, block): (ChainId, B256),
    proposal: i64,
    operator: &str,
) -> Result<&'static str, StoreError> {
    let row = query(
        "SELECT p.operator, p.deposit_id, p.block_hash, p.kind, p.latch,
                (SELECT COUNT(*) FROM operator_acts a WHERE a.approves = p.act_id) AS approved
         FROM operator_acts p WHERE p.act_id = $1",
    )
    .bind(proposal)
    .fetch_optional(tx)
    .await
    .map_err(StoreError::doing("read a proposal"))?;
    let refused = |why: String| Err(StoreError::Refused(why));
    let Some(row) = row else { return refused(format!("there is no proposal {proposal}")) };
    let (what, again, approval) = match row.text("operator_acts", "kind")?.as_str() {
        "propose_price" => ("price", "a price", "approve_price"),
        "propose_release" => ("release", "the release", "approve_release"),
        _ => ("", "", ""),
    };
    let about = row.opt_bytes("operator_acts", "deposit_id")?;
    if approval.is_empty() || about != Some(deposit.0.to_vec()) {
        return refused(format!("act {proposal} does not propose anything for deposit {deposit}"));
    }
    if row.b256("operator_acts", "block_hash")? != block {
        return refused(format!(
            "proposal {proposal} was made for another block: the chain was reorganised since; propose {again} again"
        ));
    }
    let from = row.opt_text("operator_acts", "latch")?;
    if approval == "approve_release" && from.as_deref() != released_from(held) {
        return refused(format!(
            "proposal {proposal} was made when the deposit was held for something else; propose {again} again"
        ));
    }
    if row.text("operator_acts", "operator")?.to_lowercase() == operator.trim().to_lowercase() {
        return refused(format!(
            "{operator} proposed this {what}: another operator must approve it"
        ));
    }
    if row.int("operator_acts", "approved")? > 0 {
        return refused(format!("proposal {proposal} is approved already"));
    }
    Ok(approval)
}
