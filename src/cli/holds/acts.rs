//! What people decided, as people and programs read it; of a proposal, whether it can still be approved.

use serde_json::{Value, json};

use crate::cli::words::time;
use crate::domain::acts::{ActRow, Standing};
use crate::domain::correction::ProposedCorrection;
use crate::domain::deposit::Stage;
use crate::store::{DepositRow, is_from_another_hold};

/// Where a proposal stands.
pub(in crate::cli) struct Stands {
    /// For programs.
    word: &'static str,
    /// For people.
    pub(in crate::cli) text: String,
    /// Why it cannot be approved, where nobody decided that.
    because: Option<String>,
}

/// Where a proposal stands, by all acts about its deposit and by the deposit; none for another kind of act.
pub(in crate::cli) fn stands(
    act: &ActRow,
    acts: &[ActRow],
    deposit: &DepositRow,
) -> Option<Stands> {
    let decided = |word, text| Stands { word, text, because: None };
    Some(match act.standing(acts)? {
        Standing::Waits => match obstacle(act, deposit) {
            None => decided("waits", "waits for another operator".to_owned()),
            Some((word, why)) => {
                let more = if word == OVER { " any more" } else { " now" };
                let text = format!("cannot be approved{more}: {why}");
                Stands { word, text, because: Some(why) }
            }
        },
        Standing::Approved(by) => decided("approved", format!("approved by act {by}")),
        Standing::Withdrawn(by) => decided("withdrawn", format!("withdrawn by act {by}")),
        Standing::Superseded(by) => decided("superseded", format!("replaced by act {by}")),
    })
}

impl Stands {
    /// Nobody decided about it, and somebody still can.
    pub(in crate::cli) fn is_open(&self) -> bool {
        ["waits", NOT_NOW].contains(&self.word)
    }
}

/// True for a proposal that another operator can approve now.
pub(in crate::cli) fn can_be_approved(act: &ActRow, acts: &[ActRow], deposit: &DepositRow) -> bool {
    act.standing(acts) == Some(Standing::Waits) && obstacle(act, deposit).is_none()
}

const OVER: &str = "over";
const NOT_NOW: &str = "not_now";

/// Why a proposal that nobody decided about cannot be approved as its deposit stands. The store refuses
/// the same.
fn obstacle(act: &ActRow, deposit: &DepositRow) -> Option<(&'static str, String)> {
    let stage = deposit.stage;
    let is = |word| Some((word, format!("its deposit is {stage}")));
    if let Some(proposed) = ProposedCorrection::of(act) {
        return match deposit.record_seq {
            Some(seq) if stage == Stage::Credited && seq == proposed.corrects_seq => None,
            _ if stage == Stage::Credited => {
                Some((OVER, "the credit that it corrects does not stand any more".to_owned()))
            }
            _ => is(OVER),
        };
    }
    match stage {
        Stage::Credited | Stage::Reversed | Stage::Ignored(_) => is(OVER),
        _ if act.block_hash != deposit.block_hash => {
            Some((OVER, "its deposit is in another block since".to_owned()))
        }
        Stage::Held(held) => {
            if is_from_another_hold(act, held) {
                Some((OVER, "its deposit was held for something else then".to_owned()))
            } else if held.can_be_approved() {
                None
            } else {
                is(NOT_NOW)
            }
        }
        Stage::Pending | Stage::Confirmed | Stage::Priced | Stage::Orphaned => is(NOT_NOW),
    }
}

/// The proposals that waited and whose place an act took.
pub(in crate::cli) fn replaced<'a>(
    before: &'a [ActRow],
    acts: &'a [ActRow],
    number: i64,
) -> impl Iterator<Item = i64> + 'a {
    let is_gone = move |old: &&ActRow| {
        old.standing(before) == Some(Standing::Waits)
            && old.standing(acts) == Some(Standing::Superseded(number))
    };
    before.iter().filter(is_gone).map(|old| old.id)
}

/// What an act does.
pub(in crate::cli) fn what(act: &ActRow) -> String {
    match (&act.pair, &act.price, act.approves.or(act.withdraws)) {
        (Some(pair), Some(price), _) => format!("{} {pair}={price}", act.kind),
        (_, _, Some(other)) => format!("{} of act {other}", act.kind),
        _ => act.kind.to_string(),
    }
}

/// An act, and where it stands if it is a proposal.
pub(in crate::cli) fn act_json(act: &ActRow, stands: Option<&Stands>) -> Value {
    json!({
        "act_id": act.id,
        "hash": act.hash(),
        "kind": act.kind,
        "operator": act.operator,
        "reason": act.reason,
        "deposit_id": act.deposit,
        "chain": act.chain,
        "block_hash": act.block_hash,
        "pair": act.pair,
        "price": act.price,
        "instant_at": act.instant_ms.map(time),
        "latch": act.latch,
        "correction": ProposedCorrection::of(act),
        "approves": act.approves,
        "approved_hash": act.approved_hash,
        "withdraws": act.withdraws,
        "standing": stands.map(|stands| stands.word),
        "standing_because": stands.and_then(|stands| stands.because.as_deref()),
        "decided_at": time(act.at_ms),
    })
}
