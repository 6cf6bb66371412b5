//! Undo credits whose blocks were replaced by a reorg deeper than the policy had promised.
//!
//! Not at once: the block that stands there instead must have become as deep as the policy asks,
//! and, where there are two providers, another one must have it too. Until then the old block may
//! come back, and a provider that lies about a fork must not undo anything.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::finality::{Finality, Heads};
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::BlockRef;
use crate::domain::journal::DepositReversal;
use crate::planted::{Fault, planted};
use crate::store::{LeasedStore, Undo, Unfounded};
use crate::tasks::errors::SettleError;
use crate::tasks::settle::witness::Witnesses;

/// Returns how many credits were undone.
pub(in crate::tasks) async fn reverse<S: ChainSource>(
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
            store.commit_founded(credit.place).await?;
            continue;
        }
        let decimals = rules.par_decimals(&credit.token, credit.block_time_ms);
        let finality = rules.policy.finality_for(&[(credit.raw, decimals)]);
        if let Some(reversal) = decide(witnesses, &credit, finality, clock).await? {
            let (deposit, journal) = (credit.deposit, credit.place.journal);
            let finding = NewFinding {
                chain: Some(rules.id),
                kind: FindingKind::CreditReversed,
                subject: format!("{deposit} record {}", reversal.reverses_seq),
                detail: serde_json::to_value(&reversal).unwrap_or_default(),
            };
            undos.push(Undo { journal, reversal, finding });
        }
    }
    Ok(store.commit_reversals(&undos).await?)
}

/// The reversal, if the other block is there to stay.
async fn decide<S: ChainSource>(
    witnesses: &Witnesses<'_, S>,
    credit: &Unfounded,
    finality: Finality,
    clock: &dyn Clock,
) -> Result<Option<DepositReversal>, SettleError> {
    let (pool, head, number) = (witnesses.pool, witnesses.head, credit.block.number);
    let followed = witnesses.state.view.at(number).map(|b| b.hash);
    // So old that it is not kept: then what two have there, whoever else says what.
    let mut supporters: BTreeMap<B256, Vec<String>> = BTreeMap::new();
    // A tag is somebody's word; a number of blocks, we have counted.
    let counted = Heads { latest: head.number, safe: None, finalized: None };
    if matches!(finality, Finality::Confirmations(_)) && !finality.reached(number, counted) {
        return Ok(None);
    }
    let wanted = witnesses.pool.len().min(2);
    let mut replaced_by: Option<(B256, Vec<String>)> = None;
    for source in pool.order(clock.now_ms()) {
        let says = async {
            let hash = match followed {
                Some(hash) => Some(hash),
                None => witnesses.hash_at(source, number).await?,
            };
            let Some(hash) = hash.filter(|hash| *hash != credit.block.hash) else {
                return Ok(None);
            };
            let block = BlockRef { number, hash };
            Ok(witnesses.has(source, block, finality).await?.map(|_| hash))
        };
        match says.await {
            Ok(Some(hash)) => {
                let names = supporters.entry(hash).or_default();
                names.push(source.provider().to_owned());
                if names.len() >= wanted {
                    replaced_by = Some((hash, names.clone()));
                    break;
                }
            }
            Ok(None) => {}
            Err(error) => pool.record_failure(source, &error, clock.now_ms()),
        }
    }
    let Some((canonical_hash, providers)) = replaced_by else { return Ok(None) };
    Ok(Some(DepositReversal {
        namespace: credit.namespace.clone(),
        deposit: credit.deposit,
        reverses_seq: credit.place.seq,
        reverses_record_id: credit.record_id,
        reverses_seal: credit.seal,
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
