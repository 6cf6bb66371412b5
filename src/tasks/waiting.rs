//! What deposits wait for, from what is stored: for lists, and for whoever else asks; and what is noted of it.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::ChainRules;
use super::settle::STALLED_MS;
use crate::chain::ChainSource;
use crate::chain::pool::Pool;
use crate::clock::Clock;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::{ChainId, DepositId, DepositKey, Shape};
use crate::domain::money::RawAmount;
use crate::domain::waiting::{ChainFacts, Facts, More, ProviderFacts, Wait, Waiting, waiting_for};
use crate::store::{Backfill, DepositRow, LeasedStore, Store, StoreError, chain_task};

/// What each of these deposits waits for, in their order; `None` for those that are finished. `rules`
/// are those of all chains in the configuration.
///
/// # Errors
/// When the database fails or a row cannot be read.
pub async fn what_they_wait_for(
    rules: &[&ChainRules],
    store: &Store,
    deposits: &[DepositRow],
) -> Result<Vec<Option<Waiting>>, StoreError> {
    let pending = deposits.iter().filter(|d| d.stage == Stage::Pending).map(|d| d.id);
    let noted = store.waits_of(pending).await?;
    let mut chains: BTreeMap<ChainId, ChainFacts> = BTreeMap::new();
    let mut backfills: BTreeMap<ChainId, Vec<Backfill>> = BTreeMap::new();
    let mut prices: BTreeMap<(ChainId, B256), Vec<String>> = BTreeMap::new();
    let mut all = Vec::with_capacity(deposits.len());
    for deposit in deposits {
        let of_chain = rules.iter().find(|r| r.id == deposit.chain);
        if of_chain.is_some() && !chains.contains_key(&deposit.chain) {
            chains.insert(deposit.chain, stands(store, deposit.chain).await?);
            backfills.insert(deposit.chain, store.open_backfills(deposit.chain).await?);
        }
        let block = (deposit.chain, deposit.block_hash);
        let for_price = match deposit.stage {
            Stage::Confirmed => true,
            Stage::Held(reason) => reason.is_about_market(),
            _ => false,
        };
        if for_price && !prices.contains_key(&block) {
            prices.insert(block, lacking(store, block).await?);
        }
        let more = match of_chain {
            Some(rules) if deposit.stage == Stage::Held(HoldReason::Dust) => {
                more(rules, store, deposit).await?
            }
            _ => None,
        };
        let decided = of_chain.zip(chains.get(&deposit.chain)).map(|(rules, chain)| {
            (chain, rules.finality(deposit.raw, &deposit.token, deposit.block_time_ms))
        });
        all.push(waiting_for(&Facts {
            stage: deposit.stage,
            block: deposit.block_number,
            confirmations: deposit.confirmations,
            chain: decided,
            noted: noted.get(&deposit.id).map(|(wait, why, _)| (*wait, why.as_str())),
            reading: backfills.get(&deposit.chain).and_then(|all| reading(all, deposit)),
            prices: prices.get(&block).map(Vec::as_slice).filter(|_| for_price).unwrap_or_default(),
            more,
        }));
    }
    Ok(all)
}

/// How far the old blocks are read that a deposit waits for.
fn reading(backfills: &[Backfill], deposit: &DepositRow) -> Option<String> {
    let key = DepositKey {
        chain: deposit.chain,
        tx_hash: deposit.tx_hash,
        token: deposit.token,
        recipient: deposit.recipient,
        shape: Shape::Transfer,
        n: deposit.n,
    };
    let first =
        backfills.iter().find(|b| b.concerns(&key, deposit.address_id, deposit.block_number))?;
    Some(format!("{} to {} are to be read, from block {} on", first.from, first.to, first.next))
}

async fn stands(store: &Store, chain: ChainId) -> Result<ChainFacts, StoreError> {
    let now = store.clock_ms().await?;
    let task = chain_task(chain);
    let leases = store.leases().await?;
    let providers = store.providers(chain).await?.into_iter().map(|p| ProviderFacts {
        name: p.provider,
        state: p.state,
        head: p.head,
        safe: p.safe,
        finalized: p.finalized,
    });
    Ok(ChainFacts {
        followed: leases.iter().any(|l| l.lease.task == task && l.expires_at_ms > now),
        halted: store.halt_of(chain).await?.is_some(),
        contested: store.standing_findings(Some(chain), FindingKind::ForkContested).await?,
        providers: providers.collect(),
    })
}

/// What is wrong with the prices of a block: what the rules said of them, or what the sources did.
async fn lacking(
    store: &Store,
    (chain, block): (ChainId, B256),
) -> Result<Vec<String>, StoreError> {
    let tries = store.price_tries(chain, block).await?;
    let mut said: Vec<String> = tries.into_iter().filter_map(|(body, _)| body.held).collect();
    if said.is_empty() {
        let captures = store.captures(chain, block).await?;
        said = captures.into_iter().filter_map(|c| c.why).collect();
    }
    Ok(said)
}

/// How much more must come to a deposit's namespace in its token; nothing, where enough has come and
/// some of it has no price yet.
async fn more(
    rules: &ChainRules,
    store: &Store,
    deposit: &DepositRow,
) -> Result<Option<More>, StoreError> {
    let Some((token, terms)) = rules.terms(&deposit.token, deposit.block_time_ms) else {
        return Ok(None);
    };
    let Some(sum) = store.open_sum_of(deposit.id).await? else { return Ok(Some(More::Prices)) };
    let minimum = terms.minimum_raw(token.decimals).0;
    let missing = minimum.checked_sub(sum.0).filter(|m| !m.is_zero());
    let amount = |m| format!("{} {}", RawAmount(m).display(token.decimals), token.symbol);
    Ok(missing.map(|m| More::Money(amount(m))))
}

/// Notes what payments wait for, and finds a chain on which none goes on.
pub(super) async fn say_what_is_waited_for<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    waits: &BTreeMap<DepositId, (Wait, String)>,
) -> Result<(), StoreError> {
    let now = clock.now_ms();
    let noted = store.commit_waits(rules.id, waits, now).await?;
    let long_ago = now.saturating_sub(STALLED_MS);
    let waits_long = noted.since_ms.is_some_and(|since| since <= long_ago);
    let stalled = waits_long && noted.went_on_at_ms.is_none_or(|at| at <= long_ago);
    let (chain, kind) = (Some(rules.id), FindingKind::ChainStalled);
    let stood = store.standing_findings(chain, kind).await?;
    if stalled && stood.is_empty() {
        let providers: BTreeMap<_, _> =
            pool.standings(now).into_iter().map(|s| (s.provider, s.state)).collect();
        let why = waits.values().find(|(_, why)| !why.is_empty()).map(|(_, why)| why);
        let detail = serde_json::json!({
            "payments": noted.payments, "waiting_since_ms": noted.since_ms,
            "went_on_at_ms": noted.went_on_at_ms, "why": why, "providers": providers,
        });
        let subject = "payments".to_owned();
        store.note(&NewFinding { chain, kind, subject, detail }, now).await?;
    }
    if !stalled {
        for subject in stood {
            store.gone(&Gone { chain, kind, subject }, now).await?;
        }
    }
    Ok(())
}
