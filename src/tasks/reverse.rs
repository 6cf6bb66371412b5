//! Undo credits whose blocks were replaced by a reorg deeper than the policy had promised.
//!
//! Not at once: the block that stands there instead must have become as deep as the policy asks,
//! and, where there are two providers, another one must have it too. Until then the old block may
//! come back, and a provider that lies about a fork must not undo anything.

use super::settle::SettleError;
use super::witness::Witnesses;
use crate::chain::ChainSource;
use crate::clock::Clock;
use crate::domain::finality::{Finality, Heads, Verify};
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::BlockRef;
use crate::domain::ledger::DepositReversal;
use crate::planted::{Fault, planted};
use crate::store::{LeasedStore, Undo, Unfounded};

/// Returns how many credits were undone.
pub(super) async fn reverse<S: ChainSource>(
    witnesses: &Witnesses<'_, S>,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<usize, SettleError> {
    let rules = witnesses.rules;
    let mut undos: Vec<Undo> = Vec::new();
    if planted(Fault::NoReversal) {
        return Ok(0);
    }
    for credit in store.unfounded(rules.id).await? {
        if credit.is_back {
            store.commit_founded(credit.posting_seq).await?;
            continue;
        }
        let decimals = rules.par_decimals(&credit.token, credit.block_time_ms);
        let finality = rules.policy.finality_for(&[(credit.raw, decimals)]);
        if let Some(reversal) = decide(witnesses, &credit, finality, clock).await? {
            let deposit = credit.deposit;
            let finding = NewFinding {
                chain: Some(rules.id),
                kind: FindingKind::CreditReversed,
                subject: format!("{deposit} posting {}", reversal.reverses_seq),
                detail: serde_json::to_value(&reversal).unwrap_or_default(),
            };
            undos.push(Undo { deposit, reversal, finding });
        }
    }
    Ok(store.commit_reversals(&undos, clock.now_ms()).await?)
}

/// The reversal, if the other block is there to stay.
async fn decide<S: ChainSource>(
    witnesses: &Witnesses<'_, S>,
    credit: &Unfounded,
    finality: Finality,
    clock: &dyn Clock,
) -> Result<Option<DepositReversal>, SettleError> {
    let (pool, head, number) = (witnesses.pool, witnesses.head, credit.block.number);
    let mut canonical = witnesses.state.view.at(number).map(|b| b.hash);
    let mut providers: Vec<String> = Vec::new();
    // A tag is somebody's word; a number of blocks, we have counted.
    let counted = Heads { latest: head.number, safe: None, finalized: None };
    if matches!(finality, Finality::Confirmations(_)) && !finality.reached(number, counted) {
        return Ok(None);
    }
    let wanted = if witnesses.rules.verify == Verify::SameProvider { 1 } else { pool.len().min(2) };
    for source in pool.order(clock.now_ms()) {
        if providers.len() >= wanted {
            break;
        }
        let says = async {
            let hash = match canonical {
                Some(hash) => hash,
                // So old that it is not kept: then the first one's word, if another one has it too.
                None => match witnesses.hash_at(source, number).await? {
                    Some(hash) => hash,
                    None => return Ok(None),
                },
            };
            let block = BlockRef { number, hash };
            Ok(witnesses.has(source, block, finality).await?.map(|_| hash))
        };
        match says.await {
            Ok(Some(hash)) if hash != credit.block.hash => {
                canonical = Some(hash);
                providers.push(source.provider().to_owned());
            }
            Ok(_) => {}
            Err(error) => pool.bad(source, &error, clock.now_ms()),
        }
    }
    let Some(canonical_hash) = canonical.filter(|_| providers.len() >= wanted) else {
        return Ok(None);
    };
    Ok(Some(DepositReversal {
        namespace: credit.namespace.clone(),
        reverses_seq: credit.posting_seq,
        reverses_posting_id: credit.posting_id,
        reverses_hash: credit.posting_hash,
        chain_id: witnesses.rules.id,
        block_hash: credit.block.hash,
        block_number: number,
        canonical_hash,
        head_number: head.number,
        head_hash: head.hash,
        finality: finality.to_string(),
        providers,
        credits_nano: credit.credits,
    }))
}
