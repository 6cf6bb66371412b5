//! What deposits wait for, from what is stored: for lists, and for whoever else asks; and what is noted of it.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::{ChainId, DepositId, DepositKey, Shape};
use crate::domain::money::RawAmount;
use crate::domain::oracle::policy::pair::{Input, PairPolicy};
use crate::domain::oracle::source::Reads;
use crate::domain::waiting::{
    ChainFacts, Facts, More, ProviderFacts, Wait, Waiting, gives_none, waiting_for,
};
use crate::store::{Backfill, DepositRow, LeasedStore, Store, StoreError, chain_task};
use crate::tasks::prices::market::{first_of, samples};

/// What each of these deposits waits for, in their order; `None` for those that are finished. `rules`
/// are those of all chains in the configuration.
pub async fn what_they_wait_for(
    rules: &[&ChainRules],
    store: &Store,
    deposits: &[DepositRow],
) -> Result<Vec<Option<Waiting>>, StoreError> {
    let pending = deposits.iter().filter(|d| d.stage == Stage::Pending).map(|d| d.id);
    let noted = store.waits_of(pending).await?;
    let mut chains: BTreeMap<ChainId, ChainFacts> = BTreeMap::new();
    let mut backfills: BTreeMap<ChainId, Vec<Backfill>> = BTreeMap::new();
    let mut prices: BTreeMap<(ChainId, B256, Address), Vec<String>> = BTreeMap::new();
    let mut all = Vec::with_capacity(deposits.len());
    for deposit in deposits {
        let of_chain = rules.iter().find(|r| r.id == deposit.chain);
        if of_chain.is_some() && !chains.contains_key(&deposit.chain) {
            chains.insert(deposit.chain, stands(store, deposit.chain).await?);
            backfills.insert(deposit.chain, store.open_backfills(deposit.chain).await?);
        }
        let block = (deposit.chain, deposit.block_hash, deposit.token);
        let for_price = match deposit.stage {
            Stage::Confirmed => true,
            Stage::Held(reason) => reason.is_about_market(),
            _ => false,
        };
        if let Some(rules) = of_chain.filter(|_| for_price && !prices.contains_key(&block)) {
            prices.insert(block, lacking(rules, store, deposit).await?);
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
    let now = store.server_ms().await?;
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

/// What is wrong with the prices that a deposit needs: what the rules said of them, or what each source
/// says that gives none.
async fn lacking(
    rules: &ChainRules,
    store: &Store,
    deposit: &DepositRow,
) -> Result<Vec<String>, StoreError> {
    let tries = store.price_tries(deposit.chain, deposit.block_hash).await?;
    let said: Vec<String> = tries.into_iter().filter_map(|(body, _)| body.held).collect();
    if !said.is_empty() {
        return Ok(said);
    }
    let at = deposit.instant();
    let captures = store.captures(at.chain, at.block.hash).await?;
    let mut lacking = Vec::new();
    let mut pairs: BTreeSet<String> =
        rules.needed(&deposit.token, deposit.block_time_ms).into_iter().collect();
    let policies = pairs.iter().filter_map(|pair| rules.oracle.pair(pair));
    let factors: Vec<String> = policies.flat_map(PairPolicy::needs).map(str::to_owned).collect();
    pairs.extend(factors);
    for pair in pairs {
        let sources = rules.oracle.pair(&pair).into_iter().flat_map(|policy| &policy.sources);
        for source in sources {
            let why = match &source.reads {
                Reads::Http(ticker) => {
                    let samples = samples(store, source, ticker.max_age_ms(), &at).await?;
                    match first_of(source, &samples, &at)? {
                        Some(Input::Read(_, Ok(_))) => None,
                        Some(Input::Read(_, Err(reject))) => Some(reject.to_string()),
                        _ => Some("no answer since the payment".to_owned()),
                    }
                }
                _ => {
                    let hash = source.hash();
                    captures.iter().find(|c| c.source_hash == hash).and_then(|c| c.why.clone())
                }
            };
            lacking.extend(why.map(|why| gives_none(&source.name, &pair, &why)));
        }
    }
    Ok(lacking)
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
pub(in crate::tasks) async fn say_what_is_waited_for<S: ChainSource>(
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

/// A chain on which payments are deep enough and none goes on for this long is a finding.
pub(in crate::tasks) const STALLED_MS: i64 = 600_000;
