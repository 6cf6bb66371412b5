//! What an operator's act must satisfy before it is written: that it can help the deposit, and that
//! two people decide where two must.

use alloy::primitives::B256;

use crate::domain::act_kind::ActKind;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::deposit::HoldReason;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::said::is_same_person;
use crate::planted::{Fault, planted};
use crate::store::acts::kinds::Act;
use crate::store::acts::rows::{act_by_id, acts_of};
use crate::store::db::Tx;
use crate::store::deposits::proofs::HELD_UNPROVED;
use crate::store::deposits::screenings::HELD_SCREENING;
use crate::store::errors::StoreError;

/// Refuses what cannot change why a deposit is held.
pub(in crate::store) fn refuse_useless(
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
        Act::Approve { .. } if !held.can_be_approved() => {
            "there is nothing to approve; --retry looks at it again"
        }
        _ => return Ok(()),
    };
    let held = held.as_str();
    Err(StoreError::Refused(format!("deposit {deposit} is held for {held}: {only}")))
}

/// What a release says that is from one kind of hold only, and passes nothing else.
pub(in crate::store) const fn released_from(held: HoldReason) -> Option<&'static str> {
    match held {
        HoldReason::Unproved => Some(HELD_UNPROVED),
        HoldReason::Screening => Some(HELD_SCREENING),
        _ => None,
    }
}

/// True for a proposal to release a deposit from another kind of hold than this.
pub fn is_from_another_hold(act: &ActRow, held: HoldReason) -> bool {
    act.kind == ActKind::ProposeRelease && act.latch.as_deref() != released_from(held)
}

/// Two people: the one who approves is not the one who proposed, and names what was proposed. Returns
/// that, and what the approval is.
pub(in crate::store) async fn check_approval(
    tx: &mut Tx,
    (deposit, held): (DepositId, HoldReason),
    (_, block): (ChainId, B256),
    (proposal, hash): (i64, B256),
    operator: &str,
) -> Result<(ActRow, ActKind), StoreError> {
    let act = waiting_proposal(tx, proposal).await?;
    let refused = |why: String| Err(StoreError::Refused(why));
    let (what, again, approval) = match act.kind {
        ActKind::ProposePrice => ("price", "a price", ActKind::ApprovePrice),
        ActKind::ProposeCorrection => {
            return refused(format!(
                "act {proposal} proposes a correction: it is approved by topupd ledger correct"
            ));
        }
        _ => ("release", "the release", ActKind::ApproveRelease),
    };
    if act.deposit != Some(deposit) {
        return refused(format!("act {proposal} does not propose anything for deposit {deposit}"));
    }
    if act.hash() != hash {
        return refused(format!(
            "act {proposal} is not what was named: its hash is {}, and not {hash}; look at it again",
            act.hash()
        ));
    }
    if act.block_hash != block {
        return refused(format!(
            "proposal {proposal} was made for another block: the chain was reorganised since; propose {again} again"
        ));
    }
    if is_from_another_hold(&act, held) {
        return refused(format!(
            "proposal {proposal} was made when the deposit was held for something else; propose {again} again"
        ));
    }
    if is_same_person(&act.operator, operator) {
        return refused(format!(
            "{operator} proposed this {what}: another operator must approve it"
        ));
    }
    Ok((act, approval))
}

/// A proposal that nobody approved, withdrew or replaced yet. Acts are written one at a time, so that
/// what is read here stays so until the transaction ends.
pub(in crate::store) async fn waiting_proposal(
    tx: &mut Tx,
    proposal: i64,
) -> Result<ActRow, StoreError> {
    let refused = |why: String| Err(StoreError::Refused(why));
    let Some(act) = act_by_id(&mut *tx, proposal).await? else {
        return refused(format!("there is no proposal {proposal}"));
    };
    let acts = match act.deposit {
        Some(deposit) => acts_of(tx, deposit).await?,
        None => Vec::new(),
    };
    match act.standing(&acts) {
        Some(Standing::Waits) => Ok(act),
        Some(Standing::Approved(by)) => {
            refused(format!("proposal {proposal} is approved already, by act {by}"))
        }
        Some(Standing::Withdrawn(by)) => {
            refused(format!("proposal {proposal} was withdrawn, by act {by}"))
        }
        Some(Standing::Superseded(_)) if planted(Fault::StaleProposal) => Ok(act),
        Some(Standing::Superseded(by)) => refused(format!(
            "proposal {proposal} does not count any more: act {by} proposes something else in its place"
        )),
        None => refused(format!("act {proposal} is no proposal: it is {}", act.kind)),
    }
}
