//! Finish deposits: confirm what is deep enough, price it, credit it. Three commits, each durable
//! before the next begins.
//!
//! The receipt is read again before anything is confirmed: its status, its block, and the whole set
//! of the transaction's transfers to us must be what the watch task recorded. A receipt that cannot
//! be had stops its own deposits and no others.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, TxHash};
use futures_util::stream::{self, StreamExt};

use super::{CONCURRENCY, ChainRules, FilterKind, consistent};
use crate::chain::{ChainSource, Receipt, SourceError, Tag};
use crate::clock::Clock;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finality::{Finality, Heads};
use crate::domain::ids::{BlockRef, Cursor, DepositId, NamespaceId, Shape};
use crate::domain::ledger::Written;
use crate::domain::pricing::{Dust, NoPrice, price, released};
use crate::domain::transfer::{AddressBook, RawLog, Sighting, match_logs, recipients};
use crate::store::{
    ChainState, Confirmation, LeasedStore, OpenDeposit, Pricing, Store, StoreError,
};

/// Receipts read between two commits.
const RECEIPT_BATCH: usize = 64;
/// Postings in one commit.
const CREDIT_BATCH: usize = 256;
/// How long a held deposit rests before its receipt is asked for again.
const RECHECK_MS: i64 = 60_000;
/// A deposit that has been pending for this long, is deep enough, and has no receipt, is held.
const OVERDUE_MS: i64 = 300_000;

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

/// Why an activation did not do everything. What was committed stays.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The source failed at some question: again after a pause.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed: again after a pause.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One step of settling a chain's deposits.
///
/// # Errors
/// See [`SettleError`]. A failing source is reported after everything else was done.
pub async fn settle<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<Settled, SettleError> {
    let state = store.chain_state(rules.id, rules.window).await?;
    let Cursor::At(head) = state.cursor else { return Ok(Settled::default()) };
    let mut confirming = Confirming {
        rules,
        source,
        store,
        clock,
        state: &state,
        head,
        heads: Heads { latest: head.number, safe: None, finalized: None },
        asked: BTreeSet::new(),
        done: Settled::default(),
        failure: None,
    };
    confirming.run().await?;
    let Confirming { mut done, failure, .. } = confirming;
    assign_prices(rules, store, clock, head).await?;
    done.credited = credit(rules, store, clock, head).await?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(done),
    }
}

/// The deposits of one transaction in one block: they are final together and have one receipt.
type Group = Vec<OpenDeposit>;

/// Takes pending deposits that are deep enough to `Confirmed`, when their receipts agree.
struct Confirming<'a, S> {
    rules: &'a ChainRules,
    source: &'a S,
    store: &'a LeasedStore,
    clock: &'a dyn Clock,
    state: &'a ChainState,
    head: BlockRef,
    heads: Heads,
    /// Tags that were asked for, so that each costs at most one request.
    asked: BTreeSet<&'static str>,
    done: Settled,
    /// The first failure of the source.
    failure: Option<SourceError>,
}

impl<S: ChainSource> Confirming<'_, S> {
    async fn run(&mut self) -> Result<(), SettleError> {
        let held = [HoldReason::ReceiptMismatch, HoldReason::ReceiptMissing].map(Stage::Held);
        for stage in [Stage::Pending].into_iter().chain(held) {
            let mut pages = Pages::of(self.rules, self.store, stage, self.head);
            while let Some(page) = pages.next().await? {
                let due = self.due(page).await;
                for batch in due.chunks(RECEIPT_BATCH) {
                    self.confirm(batch).await?;
                }
            }
        }
        Ok(())
    }

    /// The groups that are deep enough, each with the rule that it satisfies.
    async fn due(&mut self, page: Vec<OpenDeposit>) -> Vec<(Group, Finality)> {
        let now = self.clock.now_ms();
        let mut groups: BTreeMap<(TxHash, B256), Vec<OpenDeposit>> = BTreeMap::new();
        for deposit in page {
            // A time in the future was written by a daemon whose clock is ahead: it holds nobody up.
            let age = now.saturating_sub(deposit.updated_at_ms);
            let rests = (0..RECHECK_MS).contains(&age);
            if deposit.stage == Stage::Pending || !rests {
                let key = (deposit.key.tx_hash, deposit.block.hash);
                groups.entry(key).or_default().push(deposit);
            }
        }
        let mut due = Vec::new();
        for deposits in groups.into_values() {
            let payments: Vec<_> = deposits
                .iter()
                .map(|d| (d.raw, self.rules.par_decimals(&d.key.token, d.block_time_ms)))
                .collect();
            let finality = self.rules.policy.finality_for(&payments);
            self.learn(finality).await;
            let number = deposits.first().map_or(u64::MAX, |d| d.block.number);
            if finality.reached(number, self.heads) {
                due.push((deposits, finality));
            }
        }
        due
    }

    /// Asks for a tag that a payment waits for. One that cannot be had satisfies nothing.
    async fn learn(&mut self, finality: Finality) {
        let (tag, name) = match finality {
            Finality::Confirmations(_) => return,
            Finality::Safe => (Tag::Safe, "safe"),
            Finality::Finalized => (Tag::Finalized, "finalized"),
        };
        if !self.asked.insert(name) {
            return;
        }
        match (tagged(self.source, self.state, self.head, tag).await, tag) {
            (Ok(height), Tag::Safe) => self.heads.safe = height,
            (Ok(height), Tag::Finalized) => self.heads.finalized = height,
            (Err(error), _) => self.failed(error),
        }
    }

    fn failed(&mut self, error: SourceError) {
        self.failure.get_or_insert(error);
    }

    async fn confirm(&mut self, batch: &[(Group, Finality)]) -> Result<(), SettleError> {
        let (rules, source) = (self.rules, self.source);
        let (store, clock) = (self.store, self.clock);
        let opinions: Vec<_> = stream::iter(batch.to_vec())
            .map(|(deposits, policy)| async move {
                let opinion = opinion(rules, source, store, clock, &deposits).await;
                (opinion, deposits, policy)
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let mut confirmed: Vec<Confirmation> = Vec::new();
        let mut held: Vec<(OpenDeposit, HoldReason)> = Vec::new();
        for (opinion, deposits, policy) in opinions {
            match opinion {
                Err(SettleError::Source(error)) => self.failed(error),
                Err(SettleError::Store(error)) => return Err(error.into()),
                Ok(Opinion::NotYet) => held.extend(
                    deposits
                        .into_iter()
                        .filter(|d| d.stage != Stage::Pending || age_ms(d, clock) > OVERDUE_MS)
                        .map(|d| self.hold(d, HoldReason::ReceiptMissing, "it has no receipt")),
                ),
                Ok(Opinion::ReadAnew) => self.done.more = true,
                Ok(Opinion::Disagrees { why }) => held.extend(
                    deposits.into_iter().map(|d| self.hold(d, HoldReason::ReceiptMismatch, why)),
                ),
                Ok(Opinion::Agrees { shown }) => {
                    for deposit in deposits {
                        // What the receipt does not show was never paid, whatever was recorded.
                        if !shown.iter().any(|s| shows(s, &deposit)) {
                            let why = "the receipt does not show this transfer";
                            held.push(self.hold(deposit, HoldReason::ReceiptMismatch, why));
                            continue;
                        }
                        confirmed.push(Confirmation {
                            deposit,
                            policy,
                            head: self.head,
                            receipt_provider: self.source.provider().to_owned(),
                            receipt_transfers: u64::try_from(shown.len()).unwrap_or(u64::MAX),
                        });
                    }
                }
            }
        }
        store.commit_held(&held, clock.now_ms()).await?;
        let written = store.commit_confirmed(&confirmed, clock.now_ms()).await?;
        self.done.confirmed = self.done.confirmed.saturating_add(written);
        Ok(())
    }

    /// Says once that a deposit is held, and why.
    fn hold(&self, d: OpenDeposit, reason: HoldReason, why: &str) -> (OpenDeposit, HoldReason) {
        if d.stage != Stage::Held(reason) {
            tracing::error!(chain.name = self.rules.name, deposit.id = %d.id,
                tx.hash = %d.key.tx_hash, why, "held: {}", reason.as_str());
        }
        (d, reason)
    }
}

fn age_ms(deposit: &OpenDeposit, clock: &dyn Clock) -> i64 {
    clock.now_ms().saturating_sub(deposit.updated_at_ms)
}

fn shows(sighting: &Sighting, deposit: &OpenDeposit) -> bool {
    sighting.deposit == deposit.key
        && sighting.key.log_index == deposit.log_index
        && sighting.amount() == deposit.raw
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
            tracing::warn!(
                provider = source.provider(),
                block.number = header.number,
                "the {tag:?} block is not on the chain followed; not used"
            );
            Ok(None)
        }
        // Below the window nothing can be compared, and nothing there moves any more.
        _ => Ok(Some(header.number.min(head.number))),
    }
}

/// What a receipt says of the transfers recorded.
enum Opinion {
    /// Exactly those, in that block.
    Agrees { shown: Vec<Sighting> },
    /// The transaction is elsewhere or nowhere: the watch task will find out.
    NotYet,
    /// The block was read again and more was recorded: decide anew.
    ReadAnew,
    /// Something else, also after the block was read again.
    Disagrees { why: &'static str },
}

async fn opinion<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &LeasedStore,
    clock: &dyn Clock,
    deposits: &[OpenDeposit],
) -> Result<Opinion, SettleError> {
    let Some(place) = deposits.first() else { return Ok(Opinion::NotYet) };
    let (tx, block) = (place.key.tx_hash, place.block.hash);
    let receipt: Option<Receipt> = source.receipt(tx).await?;
    let Some(receipt) = receipt.filter(|r| r.block_hash == block) else {
        return Ok(Opinion::NotYet);
    };
    if !receipt.succeeded {
        return Ok(Opinion::Disagrees { why: "the transaction failed" });
    }
    consistent(source.provider(), &receipt.logs)?;
    // What every filter shows: well-formed transfers of the tokens configured, and of those that
    // these deposits came in.
    let mut tokens: BTreeSet<Address> = rules.tokens.iter().map(|t| t.address).collect();
    tokens.extend(deposits.iter().map(|d| d.key.token));
    let book = store.book_of(recipients(&receipt.logs)).await?;
    let all = match_logs(rules.id, &receipt.logs, &book);
    let beside = all.len();
    let shown = comparable(&tokens, all);
    let recorded = store.sightings_of(rules.id, block, tx).await?;
    if shown == comparable(&tokens, recorded) {
        if beside > shown.len() {
            // The receipt shows what the filter did not: unlisted tokens, malformed logs.
            record(rules, store, clock, &book, place, &receipt.logs).await?;
        }
        return Ok(Opinion::Agrees { shown });
    }
    let mut book = AddressBook::default();
    if rules.filter == FilterKind::Recipients {
        store.refresh_book(&mut book).await?;
    }
    let logs = rules.logs_in_block(source, place.block, &rules.log_filter(&book)).await?;
    consistent(source.provider(), &logs)?;
    let book = store.book_of(recipients(&logs)).await?;
    if record(rules, store, clock, &book, place, &logs).await? > 0 {
        return Ok(Opinion::ReadAnew);
    }
    // Nothing new: then what was recorded beside this was invented, if the block now agrees.
    let mut of_block = match_logs(rules.id, &logs, &book);
    of_block.retain(|s| s.deposit.tx_hash == tx);
    if shown == comparable(&tokens, of_block) {
        Ok(Opinion::Agrees { shown })
    } else {
        Ok(Opinion::Disagrees { why: "its transfers to us are not those of the block's logs" })
    }
}

/// Records what logs of the block that a deposit stands in show. Returns how many deposits are new
/// or changed.
async fn record(
    rules: &ChainRules,
    store: &LeasedStore,
    clock: &dyn Clock,
    book: &AddressBook,
    place: &OpenDeposit,
    logs: &[RawLog],
) -> Result<usize, StoreError> {
    let judged = rules.judged(logs, book, |_| place.block_time_ms);
    let (block, per_day) = (place.block.hash, rules.unlisted_per_day);
    store
        .commit_reread(rules.id, block, &judged, rules.epochs.all().len(), per_day, clock.now_ms())
        .await
}

/// Well-formed transfers of the given tokens, in log order.
fn comparable(tokens: &BTreeSet<Address>, mut sightings: Vec<Sighting>) -> Vec<Sighting> {
    sightings.retain(|s| s.deposit.shape == Shape::Transfer && tokens.contains(&s.deposit.token));
    sightings.sort_by_key(|s| s.key);
    sightings
}

/// Confirmed deposits get the price of their block's time, or a reason why not.
async fn assign_prices(
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
async fn credit(
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

/// The open deposits of one stage, page by page. What a page's work moves to another stage, or
/// leaves where it is, is passed either way.
struct Pages<'a> {
    rules: &'a ChainRules,
    store: &'a Store,
    stage: Stage,
    head: BlockRef,
    after: Option<OpenDeposit>,
}

impl<'a> Pages<'a> {
    fn of(rules: &'a ChainRules, store: &'a LeasedStore, stage: Stage, head: BlockRef) -> Self {
        Self { rules, store, stage, head, after: None }
    }

    async fn next(&mut self) -> Result<Option<Vec<OpenDeposit>>, StoreError> {
        let (chain, up_to) = (self.rules.id, self.head.number);
        let page = self.store.open_deposits(chain, self.stage, up_to, self.after.as_ref()).await?;
        self.after = page.last().cloned();
        Ok(self.after.is_some().then_some(page))
    }
}
