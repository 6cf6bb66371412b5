//! Confirmed deposits get their price, and priced ones their posting. Nothing here asks a provider.

use std::collections::BTreeSet;

use alloy::primitives::Address;

use super::ChainRules;
use super::settle::{Pages, SettleError};
use crate::clock::Clock;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::ids::{BlockRef, DepositId, NamespaceId};
use crate::domain::ledger::Written;
use crate::domain::pricing::{Dust, NoPrice, price, released};
use crate::store::{LeasedStore, OpenDeposit, Pricing};

/// Postings in one commit.
const CREDIT_BATCH: usize = 256;

/// Confirmed deposits get the price of their block's time, or a reason why not.
pub(super) async fn assign_prices(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
    head: BlockRef,
) -> Result<(), SettleError> {
    let held = [HoldReason::NoEpoch, HoldReason::NoToken].map(Stage::Held);
    let mut dusty: BTreeSet<(NamespaceId, Address)> = BTreeSet::new();
    for stage in [Stage::Confirmed].into_iter().chain(held) {
        let mut pages = Pages::of(rules, store, stage, head);
        while let Some(page) = pages.next().await? {
            let (dust, enough): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|d| is_dust(rules, d));
            dusty.extend(dust.iter().map(|d| (d.namespace, d.key.token)));
            let pricings: Vec<Pricing> = enough.into_iter().map(|d| priced(rules, d)).collect();
            store.commit_priced(&pricings, rules.epochs.all().len(), clock.now_ms()).await?;
        }
    }
    for (namespace, token) in dusty {
        price_dust(rules, store, clock, namespace, token).await?;
    }
    Ok(())
}

fn priced(rules: &ChainRules, deposit: OpenDeposit) -> Pricing {
    let outcome = match rules.token(&deposit.key.token) {
        None => Err(NoPrice::Hold(HoldReason::NoToken)),
        Some(token) => price(deposit.raw, token, &rules.epochs, deposit.block_time_ms),
    };
    Pricing { deposit, outcome }
}

/// Releases or holds the dust of a namespace in one token. What is still pending ends the sum: its
/// turn comes first, whenever it is final.
async fn price_dust(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
    namespace: NamespaceId,
    token: Address,
) -> Result<(), SettleError> {
    let dust: Vec<OpenDeposit> = store
        .under_way(rules.id, namespace, token)
        .await?
        .into_iter()
        .filter(|d| is_dust(rules, d))
        .take_while(|d| d.stage != Stage::Pending)
        .collect();
    let amounts: Vec<_> = dust
        .iter()
        .map(|d| {
            let terms = rules.terms(&token, d.block_time_ms);
            (d.raw, terms.map(|(t, terms)| terms.minimum_raw(t.decimals)).unwrap_or_default())
        })
        .collect();
    let released = released(&amounts);
    let pricings: Vec<Pricing> = dust
        .into_iter()
        .enumerate()
        .map(|(position, deposit)| {
            if position < released {
                priced(rules, deposit)
            } else {
                Pricing { deposit, outcome: Err(NoPrice::Hold(HoldReason::Dust)) }
            }
        })
        .collect();
    store.commit_priced(&pricings, rules.epochs.all().len(), clock.now_ms()).await?;
    Ok(())
}

/// True for a payment below the minimum that waits for more.
fn is_dust(rules: &ChainRules, deposit: &OpenDeposit) -> bool {
    rules.terms(&deposit.key.token, deposit.block_time_ms).is_some_and(|(token, terms)| {
        terms.dust == Dust::Accumulate && terms.is_dust(deposit.raw, token.decimals)
    })
}

/// Priced deposits become postings.
pub(super) async fn credit(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
    head: BlockRef,
) -> Result<usize, SettleError> {
    let mut credited: usize = 0;
    let mut pages = Pages::of(rules, store, Stage::Priced, head);
    while let Some(page) = pages.next().await? {
        let ids: Vec<DepositId> = page.iter().map(|d| d.id).collect();
        for batch in ids.chunks(CREDIT_BATCH) {
            for posted in store.commit_credits(batch, clock.now_ms()).await? {
                match posted.written {
                    Written::Created { seq } => {
                        credited = credited.saturating_add(1);
                        tracing::info!(deposit.id = %posted.deposit, namespace = posted.namespace,
                            credits = %posted.credits, posting.seq = seq, "credited");
                    }
                    Written::Exists { seq } => {
                        tracing::warn!(deposit.id = %posted.deposit, posting.seq = seq,
                            "was credited already");
                    }
                    Written::Conflict { field } => {
                        tracing::error!(deposit.id = %posted.deposit, why = field,
                            "held: its posting exists with other contents");
                    }
                }
            }
        }
    }
    Ok(credited)
}
