//! Finish deposits: confirm what is deep enough, price it, credit it. Three commits, each durable
//! before the next begins.
//!
//! The receipt is read again before anything is confirmed: its status, its block, and the whole set
//! of the transaction's transfers to us must be what the watch task recorded.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, TxHash};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::ChainRules;
use crate::chain::{ChainSource, Receipt, SourceError, Tag};
use crate::clock::Clock;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finality::{Finality, Heads};
use crate::domain::ids::{BlockRef, Cursor, DepositId, NamespaceId, Shape};
use crate::domain::ledger::Written;
use crate::domain::money::RawAmount;
use crate::domain::pricing::{Token, Valuation, price};
use crate::domain::transfer::{AddressBook, RawLog, Sighting, match_logs};
use crate::store::{
    ChainState, Confirmation, OpenDeposit, Pricing, Store, StoreError,
};

/// Requests under way at once.
const CONCURRENCY: usize = 8;
/// Postings in one commit.
const CREDIT_BATCH: usize = 256;
/// How long a held disagreement rests before it is looked at again.
const RECHECK_MS: i64 = 60_000;

/// What an activation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Deposits confirmed.
    pub confirmed: usize,
    /// Deposits credited.
    pub credited: usize,
    /// There is more to do at once.
    pub more: bool,
}

/// Why an activation stopped. What was committed before stays.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The source failed: again after a pause.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed: again after a pause.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One step of settling a chain's deposits.
///
/// # Errors
/// See [`SettleError`].
pub async fn settle<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
) -> Result<Settled, SettleError> {
    let state = store.chain_state(rules.id, rules.window).await?;
    let Cursor::At(head) = state.cursor else { return Ok(Settled::default()) };
    let mut done = confirm(rules, source, store, clock, &state, head).await?;
    assign_prices(rules, store, clock, head).await?;
    done.credited = credit(rules, store, clock, head).await?;
    Ok(done)
}

/// Pending deposits that are deep enough become `Confirmed`, when their receipts agree.
async fn confirm<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    state: &ChainState,
    head: BlockRef,
) -> Result<Settled, SettleError> {
    let mut heads = Heads { latest: head.number, safe: None, finalized: None };
    let mut asked: BTreeSet<&'static str> = BTreeSet::new();
    let mut due: BTreeMap<(TxHash, B256), Vec<(OpenDeposit, Finality)>> = BTreeMap::new();
    let held = Stage::Held(HoldReason::ReceiptMismatch);
    for deposit in open(rules, store, Stage::Pending, head.number).await?.into_iter().chain(
        open(rules, store, held, head.number).await?.into_iter().filter(|deposit| {
            clock.now_ms().saturating_sub(deposit.updated_at_ms) >= RECHECK_MS
        }),
    ) {
        let finality = rules.policy.finality_for(deposit.raw, par_decimals(rules, &deposit));
        // A tag costs a request, and only deposits that wait for one ask for it.
        if finality == Finality::Safe && asked.insert("safe") {
            heads.safe = tagged(source, state, head, Tag::Safe).await?;
        }
        if finality == Finality::Finalized && asked.insert("finalized") {
            heads.finalized = tagged(source, state, head, Tag::Finalized).await?;
        }
        if finality.reached(deposit.block.number, heads) {
            let key = (deposit.key.tx_hash, deposit.block.hash);
            due.entry(key).or_default().push((deposit, finality));
        }
    }
    if due.is_empty() {
        return Ok(Settled::default());
    }

    let mut book = AddressBook::default();
    store.refresh_book(&mut book).await?;
    let book = &book;
    let answers: Vec<_> = stream::iter(due)
        .map(|((tx, block), deposits)| async move {
            let receipt = source.receipt(tx).await?;
            let opinion = opinion(rules, source, store, clock, book, tx, block, receipt).await?;
            Ok::<_, SettleError>((opinion, deposits))
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;

    let mut done = Settled::default();
    let mut confirmed: Vec<Confirmation> = Vec::new();
    let mut disagreeing: Vec<OpenDeposit> = Vec::new();
    for (opinion, deposits) in answers {
        match opinion {
            Opinion::Agrees { transfers } => {
                confirmed.extend(deposits.into_iter().map(|(deposit, policy)| Confirmation {
                    deposit,
                    policy,
                    head,
                    receipt_provider: source.provider().to_owned(),
                    receipt_transfers: transfers,
                }));
            }
            Opinion::NotYet => {}
            Opinion::ReadAnew => done.more = true,
            Opinion::Disagrees { why } => {
                for (deposit, _) in &deposits {
                    tracing::error!(chain.name = rules.name, deposit.id = %deposit.id,
                        tx.hash = %deposit.key.tx_hash, why,
                        "held: the receipt is not what was recorded");
                }
                disagreeing.extend(deposits.into_iter().map(|(deposit, _)| deposit));
            }
        }
    }
    if !disagreeing.is_empty() {
        store.commit_mismatch(&disagreeing, clock.now_ms()).await?;
    }
    done.confirmed = store.commit_confirmed(&confirmed, clock.now_ms()).await?;
    Ok(done)
}

/// The decimals under which one token is one dollar, for tokens that an epoch takes at par.
fn par_decimals(rules: &ChainRules, deposit: &OpenDeposit) -> Option<u8> {
    let token = rules.token(&deposit.key.token)?;
    let terms = rules.epochs.at(deposit.block_time_ms)?.accept.get(&token.asset)?;
    matches!(terms.valuation, Valuation::Par { .. }).then_some(token.decimals)
}

/// The height of a tag, if its block is on the chain that we follow.
async fn tagged<S: ChainSource>(
    source: &S,
    state: &ChainState,
    head: BlockRef,
    tag: Tag,
) -> Result<Option<u64>, SourceError> {
    let Some(header) = source.tagged(tag).await? else { return Ok(None) };
    let (known, expected) = if header.number > head.number {
        // Ahead of what we scanned: then our own tip must lie on that chain.
        (source.header_at(head.number).await?.map(|h| h.block()), Some(head))
    } else {
        (Some(header.block()), state.view.at(header.number))
    };
    match expected {
        Some(expected) if known != Some(expected) => {
            tracing::warn!(provider = source.provider(), block.number = header.number,
                "the {tag:?} block is not on the chain followed; not used");
            Ok(None)
        }
        // Below the window nothing can be compared, and nothing there moves any more.
        _ => Ok(Some(header.number.min(head.number))),
    }
}

/// What a receipt says of the transfers recorded.
enum Opinion {
    /// Exactly those, in that block.
    Agrees { transfers: u64 },
    /// The transaction is elsewhere or nowhere: the watch task will find out.
    NotYet,
    /// The block was read again and more was recorded: decide anew.
    ReadAnew,
    /// Something else, also after the block was read again.
    Disagrees { why: &'static str },
}

#[expect(clippy::too_many_arguments, reason = "one decision's whole context, used once")]
async fn opinion<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    book: &AddressBook,
    tx: TxHash,
    block: B256,
    receipt: Option<Receipt>,
) -> Result<Opinion, SettleError> {
    let Some(receipt) = receipt.filter(|r| r.block_hash == block) else {
        return Ok(Opinion::NotYet);
    };
    if !receipt.succeeded {
        return Ok(Opinion::Disagrees { why: "the transaction failed" });
    }
    let shown = creditable(rules, match_logs(rules.id, &receipt.logs, book));
    let recorded = store.sightings_of(rules.id, block, tx).await?;
    let known = recorded.len();
    if shown == creditable(rules, recorded) {
        let beside = match_logs(rules.id, &receipt.logs, book).len() > known;
        if beside {
            // The receipt shows what the filter did not: unlisted tokens, malformed logs.
            record(rules, store, clock, book, block, &receipt.logs).await?;
        }
        let transfers = u64::try_from(shown.len()).unwrap_or(u64::MAX);
        return Ok(Opinion::Agrees { transfers });
    }
    let Some(header) = store.block(rules.id, block).await? else { return Ok(Opinion::NotYet) };
    let logs = source.logs_in_block(&header, &rules.log_filter(book)).await?;
    record(rules, store, clock, book, block, &logs).await?;
    let recorded = store.sightings_of(rules.id, block, tx).await?;
    if shown == creditable(rules, recorded) {
        Ok(Opinion::ReadAnew)
    } else {
        Ok(Opinion::Disagrees { why: "its transfers to us are not those of the block's logs" })
    }
}

/// Records what logs of a block show.
async fn record(
    rules: &ChainRules,
    store: &Store,
    clock: &dyn Clock,
    book: &AddressBook,
    block: B256,
    logs: &[RawLog],
) -> Result<(), StoreError> {
    let Some(header) = store.block(rules.id, block).await? else { return Ok(()) };
    let judged = rules.judged(logs, book, |_| header.time_ms);
    let per_day = rules.unlisted_per_day;
    store.commit_reread(rules.id, block, &judged, per_day, clock.now_ms()).await?;
    Ok(())
}

/// Well-formed transfers of configured tokens: what every filter shows, and all that is credited.
fn creditable(rules: &ChainRules, sightings: Vec<Sighting>) -> Vec<Sighting> {
    let mut sightings: Vec<Sighting> = sightings
        .into_iter()
        .filter(|s| s.deposit.shape == Shape::Transfer && rules.token(&s.deposit.token).is_some())
        .collect();
    sightings.sort_by_key(|s| s.key);
    sightings
}

/// Confirmed deposits get the price of their block's time, or a reason why not.
async fn assign_prices(
    rules: &ChainRules,
    store: &Store,
    clock: &dyn Clock,
    head: BlockRef,
) -> Result<(), SettleError> {
    let mut waiting = open(rules, store, Stage::Confirmed, head.number).await?;
    let no_epoch = Stage::Held(HoldReason::NoEpoch);
    waiting.extend(open(rules, store, no_epoch, head.number).await?);
    if waiting.is_empty() {
        return Ok(());
    }
    // Dust counts together with the dust that waits already.
    let groups: BTreeSet<(NamespaceId, Address)> =
        waiting.iter().map(|d| (d.namespace, d.key.token)).collect();
    for (namespace, token) in groups {
        waiting.extend(store.held_dust(rules.id, namespace, token).await?);
    }
    let mut accumulated: BTreeMap<(NamespaceId, Address), RawAmount> = BTreeMap::new();
    for deposit in &waiting {
        let is_dust = terms_of(rules, deposit).is_some_and(|(token, terms)| {
            terms.is_dust(deposit.raw, token.decimals)
        });
        if is_dust {
            let sum = accumulated.entry((deposit.namespace, deposit.key.token)).or_default();
            *sum = sum.checked_add(deposit.raw).unwrap_or(*sum);
        }
    }
    let mut pricings = Vec::with_capacity(waiting.len());
    for deposit in waiting {
        let Some(token) = rules.token(&deposit.key.token) else {
            tracing::warn!(chain.name = rules.name, deposit.id = %deposit.id,
                token = %deposit.key.token,
                "confirmed, but its token is configured no more: put it back to have it credited");
            continue;
        };
        let group = (deposit.namespace, deposit.key.token);
        let together = accumulated.get(&group).copied().unwrap_or_default();
        let outcome =
            price(deposit.raw, token, &rules.epochs, deposit.block_time_ms, together);
        pricings.push(Pricing { deposit, outcome });
    }
    store.commit_priced(&pricings, clock.now_ms()).await?;
    Ok(())
}

fn terms_of<'a>(
    rules: &'a ChainRules,
    deposit: &OpenDeposit,
) -> Option<(&'a Token, crate::domain::pricing::Terms)> {
    let token = rules.token(&deposit.key.token)?;
    let terms = rules.epochs.at(deposit.block_time_ms)?.accept.get(&token.asset)?;
    Some((token, *terms))
}

/// Priced deposits become postings.
async fn credit(
    rules: &ChainRules,
    store: &Store,
    clock: &dyn Clock,
    head: BlockRef,
) -> Result<usize, SettleError> {
    let priced = open(rules, store, Stage::Priced, head.number).await?;
    let ids: Vec<DepositId> = priced.iter().map(|d| d.id).collect();
    let mut credited: usize = 0;
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
                    tracing::error!(deposit.id = %posted.deposit, field,
                        "not credited: its posting exists with other contents");
                }
            }
        }
    }
    Ok(credited)
}

/// All open deposits in a stage, page by page.
async fn open(
    rules: &ChainRules,
    store: &Store,
    stage: Stage,
    up_to: u64,
) -> Result<Vec<OpenDeposit>, StoreError> {
    let mut all: Vec<OpenDeposit> = Vec::new();
    loop {
        let page = store.open_deposits(rules.id, stage, up_to, all.last()).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
