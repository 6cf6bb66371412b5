//! Finish deposits: confirm what is deep enough, price it, credit it. Three commits, each durable
//! before the next begins.
//!
//! Before anything is confirmed, the receipt is read again, by default from another provider than
//! the one that showed the log: its status, its block, and the whole set of the transaction's
//! transfers to us must be what the watch task recorded. Where two of three say the same, the third
//! is overruled; where nobody supports anybody, the deposits are held and all answers are kept. A
//! receipt that cannot be had stops its own deposits and no others.

pub mod confirming;
pub(in crate::tasks) mod correct;
pub(in crate::tasks) mod dust;
pub(in crate::tasks) mod judge;
pub(in crate::tasks) mod pages;
pub(in crate::tasks) mod price;
pub(in crate::tasks) mod prove;
pub(in crate::tasks) mod reverse;
pub mod screen;
pub(in crate::tasks) mod verdict;
pub mod waiting;
pub(in crate::tasks) mod witness;

use std::collections::BTreeMap;
use std::sync::Mutex;

use alloy::primitives::{B256, TxHash};
use futures_util::stream;
use futures_util::stream::StreamExt;

use super::CONCURRENCY;
use crate::chain::pool::Pool;
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finality::{Finality, Heads, Verify};
use crate::domain::finding::{FindingKind, NewFinding, of_deposit};
use crate::domain::ids::Cursor;
use crate::domain::screening::Wanted;
use crate::domain::waiting::Wait;
use crate::planted::{Fault, planted};
use crate::store::{
    Confirmation, DueBy, HELD_REST_MS, Held, LeasedStore, OpenDeposit, PaidTogether, StoreError,
};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::market::{Market, Prices};
use crate::tasks::prices::schedule::price_scheduled;
use crate::tasks::settle::confirming::{Confirming, Group, Settled};
use crate::tasks::settle::dust::Dusts;
use crate::tasks::settle::pages::Pages;
use crate::tasks::settle::price::{assign_prices, credit, held_for_a_price};
use crate::tasks::settle::reverse::reverse;
use crate::tasks::settle::verdict::{Judged, Verdict};
use crate::tasks::settle::waiting::say_what_is_waited_for;
use crate::tasks::settle::witness::Witnesses;

/// Receipts read between two commits.
const RECEIPT_BATCH: usize = 512;
/// Deposits confirmed in one activation, about: then they are credited before more are looked at.
const CONFIRMED_MAX: usize = 4_096;
/// A deposit that has been pending for this long, is deep enough, and has no receipt, is held.
const OVERDUE_MS: i64 = 300_000;

/// One step of settling a chain's deposits.
///
/// # Errors
/// See [`SettleError`]. A failing source is reported after everything else was done.
pub async fn settle<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    market: &Market<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
) -> Result<Settled, SettleError> {
    let state = store.chain_state(rules.id, rules.window).await?;
    let Cursor::At(head) = state.cursor else { return Ok(Settled::default()) };
    if state.halted.is_some() {
        return Ok(Settled::default()); // what is canonical, nobody knows
    }
    let witnesses = Witnesses::new(rules, pool, &state, head);
    let mut done = Settled::default();
    let mut failure = None;
    match reverse(&witnesses, store, clock).await {
        Ok(reversed) => done.reversed = reversed,
        Err(SettleError::Source(error)) => failure = Some(error),
        Err(error) => return Err(error),
    }
    let witnesses = &witnesses;
    let reading = store.open_backfills(rules.id).await?;
    let (waits, recorded) = (BTreeMap::new(), Mutex::default());
    let mut confirming = Confirming {
        rules,
        pool,
        witnesses,
        store,
        screener: &market.screener,
        clock,
        head,
        done,
        failure,
        waits,
        reading,
        recorded,
    };
    Box::pin(confirming.run()).await?;
    confirming.reconsider().await?;
    let Confirming { mut done, failure, waits, .. } = confirming;
    // Not all were looked at, where there were too many for once.
    if done.confirmed < CONFIRMED_MAX {
        say_what_is_waited_for(rules, pool, store, clock, &waits).await?;
    }
    let mut prices = Prices::new(rules, market, store, clock);
    let mut dusts = Dusts::default();
    assign_prices(&mut prices, std::iter::once(Stage::Confirmed), head, &mut dusts).await?;
    credit(&prices, head, &mut done).await?;
    // However many are on hold, or are dust, nobody waits for them to be looked at again.
    assign_prices(&mut prices, held_for_a_price(), head, &mut dusts).await?;
    done.more |= dusts.settle(&mut prices).await?;
    credit(&prices, head, &mut done).await?;
    price_scheduled(&mut prices, head).await?;
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(done),
    }
}

/// What is written of a batch.
#[derive(Default)]
struct Decided {
    confirmed: Vec<Confirmation>,
    held: Vec<Held>,
}

impl<S: ChainSource> Confirming<'_, S> {
    async fn run(&mut self) -> Result<(), SettleError> {
        let held = [
            HoldReason::ReceiptMismatch,
            HoldReason::ReceiptMissing,
            HoldReason::ProvidersDisagree,
            HoldReason::Unproved,
        ];
        self.store
            .renew_due(self.rules.id, self.rules.fingerprint().map_err(StoreError::from)?)
            .await?;
        for by in [DueBy::New, DueBy::Depth, DueBy::Safe, DueBy::Finalized] {
            let Some(up_to) = self.due_up_to(by).await? else { continue };
            let mut after = None;
            loop {
                let (store, chain) = (self.store, self.rules.id);
                let page = store.due_deposits(chain, by, up_to, after.as_ref()).await?;
                let Some(last) = page.last().cloned() else { break };
                after = Some(last);
                let together = store.paid_together(&page).await?;
                if !self.confirm_page(page, Some((by, &together))).await? {
                    return Ok(());
                }
            }
        }
        for stage in held.map(Stage::Held) {
            let mut pages = Pages::of(self.rules, self.store, stage, self.head);
            while let Some(page) = pages.next().await? {
                if !self.confirm_page(page, None).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Confirms what is deep enough of a page. False when enough was done for once.
    async fn confirm_page(
        &mut self,
        page: Vec<OpenDeposit>,
        pending: Option<(DueBy, &PaidTogether)>,
    ) -> Result<bool, SettleError> {
        let due = self.due(page, pending).await?;
        for batch in due.chunks(RECEIPT_BATCH) {
            self.confirm(batch).await?;
        }
        let enough = self.done.confirmed >= CONFIRMED_MAX;
        self.done.more |= enough;
        Ok(!enough)
    }

    /// Up to which height deposits are due that are found in some way; `None` where there are none.
    async fn due_up_to(&mut self, by: DueBy) -> Result<Option<u64>, StoreError> {
        let finality = match by {
            DueBy::New => return Ok(self.rules.policy.earliest(self.head.number)),
            DueBy::Depth => return Ok(Some(self.head.number)),
            DueBy::Safe => Finality::Safe,
            DueBy::Finalized => Finality::Finalized,
        };
        if !self.store.waits_for(self.rules.id, by).await? {
            return Ok(None);
        }
        let mut highest = None;
        for source in self.pool.order(self.clock.now_ms()) {
            match self.witnesses.heads(source, finality).await {
                Ok(heads) => highest = highest.max(heads.safe.max(heads.finalized)),
                Err(error) => self.failed(source, error),
            }
        }
        Ok(highest)
    }

    /// Deposits on hold because their money may be credited already, or may not be taken: people may have
    /// decided, and who did not answer may do so now.
    async fn reconsider(&mut self) -> Result<(), SettleError> {
        use HoldReason::{CustodyDoubt, InternalTransfer, Screening};
        for reason in [InternalTransfer, CustodyDoubt, Screening] {
            let mut pages = Pages::of(self.rules, self.store, Stage::Held(reason), self.head);
            while let Some(mut page) = pages.next().await? {
                page.retain(|deposit| !self.rests(deposit));
                self.check_outflows(page.iter()).await?;
                // Where it comes from is asked first: while that speaks against it, nobody's answer helps.
                let first = page.iter().filter(|_| reason == Screening);
                let checks = self.screen(first).await?;
                let now = self.clock.now_ms();
                let (mut released, left) =
                    self.store.commit_reconsidered(&page, &checks, now).await?;
                page.retain(|deposit| reason != Screening && left.contains(&deposit.id));
                if !page.is_empty() {
                    let checks = self.screen(page.iter()).await?;
                    let now = self.clock.now_ms();
                    let (more, _) = self.store.commit_reconsidered(&page, &checks, now).await?;
                    released = released.saturating_add(more);
                }
                self.done.confirmed = self.done.confirmed.saturating_add(released);
            }
        }
        Ok(())
    }

    /// Looked at a short while ago. A time in the future was written by a daemon whose clock is
    /// ahead: it holds nobody up.
    fn rests(&self, deposit: &OpenDeposit) -> bool {
        let age = age_ms(deposit, self.clock);
        (0..HELD_REST_MS).contains(&age) || planted(Fault::HeldForEver)
    }

    /// The groups that are deep enough, each with the rule that it satisfies. Of pending ones, it is
    /// noted when the others will be.
    async fn due(
        &mut self,
        page: Vec<OpenDeposit>,
        pending: Option<(DueBy, &PaidTogether)>,
    ) -> Result<Vec<(Group, Finality)>, SettleError> {
        // Block by block: what is asked of one serves all that stand in it.
        let mut txs: BTreeMap<(u64, B256, TxHash), Vec<OpenDeposit>> = BTreeMap::new();
        for deposit in page {
            // Where its money went before is known when old blocks are read.
            let (key, of, number) = (&deposit.key, deposit.address_id, deposit.block.number);
            if self.reading.iter().any(|backfill| backfill.concerns(key, of, number)) {
                continue;
            }
            if deposit.stage == Stage::Pending || !self.rests(&deposit) {
                let key = (deposit.block.number, deposit.block.hash, deposit.key.tx_hash);
                txs.entry(key).or_default().push(deposit);
            }
        }
        let (mut due, mut later) = (Vec::new(), Vec::new());
        self.witnesses.looks_at(txs.keys().map(|(_, block, _)| *block));
        for ((_, block, tx), deposits) in txs {
            let place = (tx, block);
            let Some(first) = deposits.first() else { continue };
            let (number, time_ms) = (first.block.number, first.block_time_ms);
            let decimals = |token| self.rules.par_decimals(token, time_ms);
            let payments: Vec<_> = match pending.and_then(|(_, together)| together.get(&place)) {
                Some(all) => all.iter().map(|(token, raw)| (*raw, decimals(token))).collect(),
                None => deposits.iter().map(|d| (d.raw, decimals(&d.key.token))).collect(),
            };
            let finality = self.rules.policy.finality_for(&payments);
            if self.is_deep(number, finality).await {
                let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
                for deposit in deposits {
                    groups.entry(deposit.log_provider.clone()).or_default().push(deposit);
                }
                due.extend(groups.into_values().map(|group| (group, finality)));
            } else if let Some((found_by, _)) = pending {
                let by = match finality {
                    Finality::Confirmations(_) => DueBy::Depth,
                    Finality::Safe => DueBy::Safe,
                    Finality::Finalized => DueBy::Finalized,
                };
                let at = finality.tip_for(number).unwrap_or(number);
                let news = deposits.into_iter().filter(|d| by != found_by || d.due_number != at);
                later.extend(news.map(|d| (d, by, at)));
            }
        }
        self.store.commit_due(&later).await?;
        Ok(due)
    }

    /// Deep enough on the chain as it is followed, or by the tag of any provider: worth asking the
    /// witnesses, who decide. A tag that cannot be had satisfies nothing.
    async fn is_deep(&mut self, number: u64, finality: Finality) -> bool {
        if let Finality::Confirmations(_) = finality {
            let latest = self.head.number;
            let heads = Heads { latest, safe: None, finalized: None };
            return finality.reached(number, heads);
        }
        for source in self.pool.order(self.clock.now_ms()) {
            match self.witnesses.reached(source, number, finality).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => self.failed(source, error),
            }
        }
        false
    }

    fn failed(&mut self, source: &S, error: SourceError) {
        self.pool.record_failure(source, &error, self.clock.now_ms());
        self.failure.get_or_insert(error);
    }

    async fn confirm(&mut self, batch: &[(Group, Finality)]) -> Result<(), SettleError> {
        self.witnesses.knows(self.store.book().await?);
        let places = batch.iter().filter_map(|(group, _)| group.first()).map(OpenDeposit::in_block);
        let recorded = self.store.sightings_of(self.rules.id, places).await?;
        self.recorded = Mutex::new(recorded);
        let this = &*self;
        let verdicts: Vec<_> = stream::iter(batch.to_vec())
            .map(|(group, finality)| async move {
                // What a judgement may ask for is deep: on the heap, it takes no stack of whoever waits.
                (Box::pin(this.judge(group.clone(), finality)).await, group, finality)
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let mut decided = Decided::default();
        for (judged, group, policy) in verdicts {
            match judged {
                Err(SettleError::Source(error)) => {
                    self.wait(&group, Wait::Witness, &error.to_string());
                    self.failure.get_or_insert(error);
                }
                Err(SettleError::Store(error)) => return Err(error.into()),
                Ok(all) => {
                    for judged in all {
                        self.decide(judged, policy, &mut decided);
                    }
                }
            }
        }
        let Decided { mut confirmed, held } = decided;
        let (store, clock) = (self.store, self.clock);
        store.commit_held(&held, clock.now_ms()).await?;
        let checks = self.screen(confirmed.iter().map(|c| &c.deposit)).await?;
        let (mut written, unchecked) =
            store.commit_confirmed(&confirmed, &checks, clock.now_ms()).await?;
        if !unchecked.is_empty() {
            confirmed.retain(|c| unchecked.contains(&c.deposit.id));
            self.check_outflows(confirmed.iter().map(|c| &c.deposit)).await?;
            let (more, still) = store.commit_confirmed(&confirmed, &checks, clock.now_ms()).await?;
            written = written.saturating_add(more);
            for c in confirmed.into_iter().filter(|c| still.contains(&c.deposit.id)) {
                let why = "one provider alone shows that money left its address";
                self.wait(&vec![c.deposit], Wait::Witness, why);
            }
        }
        self.done.confirmed = self.done.confirmed.saturating_add(written);
        Ok(())
    }

    /// What follows from a verdict.
    fn decide(&mut self, judged: Judged, policy: Finality, decided: &mut Decided) {
        let Judged { group, mode, verdict } = judged;
        let clock = self.clock;
        let overdue = |d: &OpenDeposit| d.stage != Stage::Pending || age_ms(d, clock) > OVERDUE_MS;
        let two = mode == Verify::SecondProvider;
        let or_disagree = |reason| if two { HoldReason::ProvidersDisagree } else { reason };
        match verdict {
            Verdict::NotYet => self.wait(&group, Wait::Witness, ""),
            Verdict::ReadAnew => self.done.more = true,
            Verdict::Unproved { cannot, answers } => {
                match cannot.failure {
                    Some(error) => {
                        self.wait(&group, Wait::Witness, &error.to_string());
                        self.failure.get_or_insert(error);
                    }
                    None => self.wait(&group, Wait::Proof, ""),
                }
                for d in group.into_iter().filter(overdue) {
                    let why = "its block cannot be proved";
                    decided.held.push(self.hold(d, HoldReason::Unproved, why, &answers));
                }
            }
            Verdict::Missing { certain, answers } => {
                self.wait(&group, Wait::Receipt, "");
                let missing = HoldReason::ReceiptMissing;
                // What two say is not there keeps nobody's place for longer.
                let reason = if certain { missing } else { or_disagree(missing) };
                for d in group.into_iter().filter(|d| certain || overdue(d)) {
                    decided.held.push(self.hold(d, reason, "it has no receipt", &answers));
                }
            }
            Verdict::Hold { reason, why, answers } => {
                for d in group {
                    decided.held.push(self.hold(d, reason, why, &answers));
                }
            }
            Verdict::Confirmed { by, shown, yes, no, proof, answers } => {
                // What no receipt shows was never paid, whatever was recorded.
                let reason = or_disagree(HoldReason::ReceiptMismatch);
                for d in no {
                    let why = "the receipt does not show this transfer, or another transaction's is recorded in its place";
                    decided.held.push(self.hold(d, reason, why, &answers));
                }
                decided.confirmed.extend(yes.into_iter().map(|deposit| Confirmation {
                    deposit,
                    policy,
                    head: self.head,
                    receipt_provider: by.clone(),
                    receipt_transfers: u64::try_from(shown).unwrap_or(u64::MAX),
                    verify: mode,
                    proof: proof.clone(),
                }));
            }
        }
    }

    /// Notes what pending deposits wait for; those on hold say it by their reason.
    pub(super) fn wait(&mut self, group: &Group, wait: Wait, why: &str) {
        let pending = group.iter().filter(|d| d.stage == Stage::Pending);
        self.waits.extend(pending.map(|d| (d.id, (wait, why.to_owned()))));
    }

    /// Says once that a deposit is held, why, and what each provider said.
    fn hold(
        &self,
        d: OpenDeposit,
        reason: HoldReason,
        why: &str,
        answers: &serde_json::Value,
    ) -> Held {
        if d.stage != Stage::Held(reason) {
            tracing::error!(chain.name = self.rules.name, deposit.id = %d.id,
                tx.hash = %d.key.tx_hash, why, "held: {}", reason.as_str());
        }
        let kind = match reason {
            HoldReason::ProvidersDisagree => Some(FindingKind::ProvidersDisagree),
            HoldReason::Unproved => Some(FindingKind::BlockUnproved),
            _ => None,
        };
        let finding = kind.map(|kind| NewFinding {
            chain: Some(self.rules.id),
            kind,
            subject: of_deposit(d.id),
            detail: serde_json::json!({
                "tx_hash": d.key.tx_hash, "block_hash": d.block.hash, "why": why,
                "answers": answers,
            }),
        });
        Held { deposit: d, reason, finding }
    }
}

fn age_ms(deposit: &OpenDeposit, clock: &dyn Clock) -> i64 {
    clock.now_ms().saturating_sub(deposit.updated_at_ms)
}

impl<S: ChainSource> Confirming<'_, S> {
    /// Has those asked who must be before these are credited. Returns who must let them pass.
    pub(super) async fn screen<'d>(
        &mut self,
        deposits: impl Iterator<Item = &'d OpenDeposit>,
    ) -> Result<Vec<Wanted>, SettleError> {
        let Some(rules) = &self.rules.screening else { return Ok(Vec::new()) };
        let deposits: Group = deposits.cloned().collect();
        let (wanted, waits) = self.screener.ask(rules, &deposits, self.store, self.clock).await?;
        for deposit in deposits {
            if let Some(why) = waits.get(&deposit.id) {
                self.wait(&vec![deposit], Wait::Screening, why);
            }
        }
        Ok(wanted)
    }
}
