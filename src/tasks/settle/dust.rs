//! Dust is added up once, in pages, after everybody else was credited.
//!
//! A payment below the minimum that waits for more is counted into the sum of its namespace and token,
//! in the order of the chain, and held. What is still pending ends the sum: its turn comes first,
//! whenever it is final. When the sum is enough, and everything in it has a price, all of it is
//! released: from then on each is priced and credited like any other payment. The sums are stored with
//! what they count. Where one may be wrong, because the chain, the terms or the order changed, it is
//! counted anew.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::chain::source::ChainSource;
use crate::domain::chain_rules::ChainRules;
use crate::domain::deposit::Stage;
use crate::domain::money::RawAmount;
use crate::domain::pricing::DustSum;
use crate::domain::terms::{Dust, NoPrice};
use crate::planted::{Fault, planted};
use crate::store::{Dusty, OpenDeposit, Place, StoreError, StoredSum, SumState};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::legs::priced;
use crate::tasks::prices::market::Prices;

/// Deposits of one namespace and token that are looked at in one activation, for each thing that is
/// done with them. More than one activation confirms (`CONFIRMED_MAX`, and a batch): what is confirmed and not
/// counted is read each time, so it must not grow.
const ROWS_EACH: usize = 5_000;
/// Of all of them.
const ROWS_ALL: usize = 20_000;

/// Whose dust was seen in an activation, and the first place at which some of it is not counted.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Dusts(BTreeMap<Dusty, Option<Place>>);

impl Dusts {
    /// Notes dust that waits to be looked at.
    pub(in crate::tasks) fn saw(&mut self, deposit: &OpenDeposit) -> Result<(), StoreError> {
        let dusty = Dusty { namespace: deposit.namespace, token: deposit.key.token };
        let first = self.0.entry(dusty).or_default();
        if !deposit.stage.is_counted_dust() {
            let place = Place::of(deposit)?;
            *first = Some(first.map_or(place, |first| first.min(place)));
        }
        Ok(())
    }

    /// Counts what was seen, and releases what is enough. True when there is more to do at once.
    pub(in crate::tasks) async fn settle<S: ChainSource>(
        mut self,
        prices: &mut Prices<'_, S>,
    ) -> Result<bool, SettleError> {
        for busy in prices.store.busy_dust(prices.rules.id).await? {
            self.0.entry(busy).or_default();
        }
        if self.0.is_empty() {
            return Ok(false);
        }
        let hash = prices.rules.fingerprint().map_err(StoreError::from)?;
        let all: Vec<(Dusty, Option<Place>)> = self.0.into_iter().collect();
        // Somebody else comes first each time: there may be too many for one.
        let turn = usize::try_from(prices.clock.now_ms()).unwrap_or_default();
        let turn = turn.checked_rem(all.len()).unwrap_or_default();
        let (mut left, mut more) = (ROWS_ALL, false);
        for (dusty, fresh) in all.iter().cycle().skip(turn).take(all.len()) {
            if left == 0 {
                return Ok(true);
            }
            let mut one = OneSum { prices, dusty: *dusty, hash, left: ROWS_EACH.min(left) };
            let rows = one.left;
            more |= one.settle(*fresh).await?;
            left = left.saturating_sub(rows.saturating_sub(one.left));
        }
        Ok(more)
    }
}

/// True for a payment below the minimum that waits for more.
pub(in crate::tasks) fn is_dust(rules: &ChainRules, deposit: &OpenDeposit) -> bool {
    rules.terms(&deposit.key.token, deposit.block_time_ms).is_some_and(|(token, terms)| {
        terms.dust == Dust::Accumulate && terms.is_dust(deposit.raw, token.decimals)
    })
}

/// The dust of one namespace in one token.
struct OneSum<'p, 'a, S> {
    prices: &'p mut Prices<'a, S>,
    dusty: Dusty,
    hash: B256,
    /// So many deposits may still be looked at.
    left: usize,
}

impl<S: ChainSource> OneSum<'_, '_, S> {
    async fn settle(&mut self, fresh: Option<Place>) -> Result<bool, SettleError> {
        // Without its token, nothing is known of it.
        let Some(below) = self.below() else { return Ok(false) };
        if !self.release(below).await? || !self.count(below, fresh).await? {
            return Ok(true);
        }
        if self.needs_market() && !self.find_prices(below).await? {
            return Ok(true);
        }
        Ok(!self.release(below).await?)
    }

    /// No payment of that amount or more is dust, in whatever epoch.
    fn below(&self) -> Option<RawAmount> {
        let rules = self.prices.rules;
        let token = rules.token(&self.dusty.token)?;
        let terms = rules.epochs.all().iter().filter_map(|epoch| epoch.accept.get(&token.asset));
        terms.map(|terms| terms.minimum_raw(token.decimals)).max()
    }

    /// True when its price may be one that has to be waited for.
    fn needs_market(&self) -> bool {
        let rules = self.prices.rules;
        rules.token(&self.dusty.token).is_none_or(|token| {
            let mut terms = rules.epochs.all().iter().filter_map(|e| e.accept.get(&token.asset));
            terms.any(|terms| terms.valuation.rule().is_market())
        })
    }

    async fn sums(&self) -> Result<Vec<StoredSum>, StoreError> {
        self.prices.store.dust_sums(self.prices.rules.id, self.dusty).await
    }

    async fn page(
        &mut self,
        after: Place,
        below: RawAmount,
    ) -> Result<Vec<OpenDeposit>, StoreError> {
        let (store, chain) = (self.prices.store, self.prices.rules.id);
        let page = store.dust_after(chain, self.dusty, after, below, false).await?;
        self.left = self.left.saturating_sub(page.len());
        Ok(page)
    }

    async fn commit(
        &self,
        before: &[StoredSum],
        after: &[StoredSum],
        looked_at: &[OpenDeposit],
    ) -> Result<bool, StoreError> {
        let (rules, now) = (self.prices.rules, self.prices.clock.now_ms());
        let sums = (before, after);
        let epochs = rules.epochs.all().len();
        self.prices.store.commit_dust(rules.id, self.dusty, sums, looked_at, epochs, now).await
    }

    /// Counts what follows. False when there is more than may be looked at now, or something moved.
    async fn count(&mut self, below: RawAmount, fresh: Option<Place>) -> Result<bool, SettleError> {
        let mut before = self.sums().await?;
        if before.iter().any(|s| s.state == SumState::Released) {
            return Ok(false);
        }
        let open = before.iter().find(|s| s.state == SumState::Open).cloned();
        let mut sums = before.clone();
        let stands = match &open {
            Some(open) if open.rules == Some(self.hash) => {
                !self.came_between(open.to, below, fresh).await?
            }
            _ => false,
        };
        if !stands {
            sums = vec![StoredSum::open(Place::START, self.hash)];
        }
        loop {
            let Some(mut open) = sums.pop() else { return Ok(false) };
            let page = self.page(open.to, below).await?;
            let ends = page.is_empty();
            let (mut counted, mut pending) = (Vec::new(), false);
            for deposit in page {
                let dust = is_dust(self.prices.rules, &deposit);
                pending = dust && deposit.stage == Stage::Pending;
                if pending {
                    break;
                }
                open.to = Place::of(&deposit)?;
                if dust {
                    open = self.add(open, &deposit, &mut sums);
                    counted.push(deposit);
                }
            }
            sums.push(open);
            if sums != before && !self.commit(&before, &sums, &counted).await? {
                return Ok(false);
            }
            if ends || pending {
                return Ok(true);
            }
            if self.left == 0 {
                return Ok(false);
            }
            before.clone_from(&sums);
        }
    }

    /// Adds a payment to the open sum; one that is enough goes to the others, and the next one begins.
    fn add(
        &self,
        mut open: StoredSum,
        deposit: &OpenDeposit,
        sums: &mut Vec<StoredSum>,
    ) -> StoredSum {
        let terms = self.prices.rules.terms(&deposit.key.token, deposit.block_time_ms);
        let minimum = terms.map(|(token, terms)| terms.minimum_raw(token.decimals));
        let mut sum = DustSum(open.sum);
        let enough = sum.add(deposit.raw, minimum.unwrap_or_default());
        open.sum = sum.0;
        if !enough {
            return open;
        }
        let next = StoredSum::open(open.to, self.hash);
        if self.needs_market() {
            open.state = SumState::Enough;
            sums.push(open);
        } else {
            open.state = SumState::Released;
            push_released(sums, open);
        }
        next
    }

    /// True when something that is not counted stands before the end of what is: the order of the
    /// chain would be another one with it.
    async fn came_between(
        &self,
        counted_to: Place,
        below: RawAmount,
        fresh: Option<Place>,
    ) -> Result<bool, SettleError> {
        if planted(Fault::StaleDust) {
            return Ok(false);
        }
        if fresh.is_some_and(|first| first <= counted_to) {
            return Ok(true);
        }
        let (store, chain) = (self.prices.store, self.prices.rules.id);
        let mut after = Place::START;
        loop {
            let page = store.dust_after(chain, self.dusty, after, below, true).await?;
            let Some(last) = page.last() else { return Ok(false) };
            after = Place::of(last)?;
            for deposit in &page {
                if Place::of(deposit)? > counted_to {
                    return Ok(false);
                }
                if is_dust(self.prices.rules, deposit) {
                    return Ok(true);
                }
            }
        }
    }

    /// Looks for the prices of what is enough, and releases it where all of a sum has one: those with a
    /// price wait for the others, or these would be dust again. False when there is more than may be
    /// looked at now.
    async fn find_prices(&mut self, below: RawAmount) -> Result<bool, SettleError> {
        let before = self.sums().await?;
        let mut looked = before.clone();
        let mut enough: Vec<&mut StoredSum> =
            looked.iter_mut().filter(|s| s.state == SumState::Enough).collect();
        // Others come first each time: many may wait for long.
        let turn = usize::try_from(self.prices.clock.now_ms()).unwrap_or_default();
        let turn = turn.checked_rem(enough.len()).unwrap_or_default();
        enough.rotate_left(turn);
        let mut all = true;
        for sum in enough {
            if self.left == 0 {
                all = false;
                break;
            }
            let (complete, looked_through) = self.find_prices_of(sum, below).await?;
            all &= looked_through;
            if complete {
                sum.state = SumState::Released;
            }
        }
        let mut after = Vec::with_capacity(looked.len());
        for sum in looked {
            match sum.state {
                SumState::Released => push_released(&mut after, sum),
                SumState::Open | SumState::Enough => after.push(sum),
            }
        }
        if after == before {
            return Ok(true); // nothing of it goes on now
        }
        Ok(self.commit(&before, &after, &[]).await? && all)
    }

    /// Whether all of a sum has a price, and whether it was looked through as far as there are prices.
    async fn find_prices_of(
        &mut self,
        sum: &mut StoredSum,
        below: RawAmount,
    ) -> Result<(bool, bool), SettleError> {
        while self.left > 0 {
            let (members, last) = self.members(sum.priced, sum.to, below).await?;
            let Some(end) = last else { return Ok((true, true)) };
            let (mut held, mut complete) = (Vec::new(), true);
            for deposit in members {
                match priced(self.prices, deposit).await? {
                    Some(pricing) if matches!(pricing.outcome, Err(NoPrice::Hold(_))) => {
                        held.push(pricing);
                        complete = false;
                    }
                    Some(_) => {}
                    None => complete = false,
                }
            }
            let (store, epochs) = (self.prices.store, self.prices.rules.epochs.all().len());
            store.commit_priced(&held, epochs, self.prices.clock.now_ms()).await?;
            if !complete {
                return Ok((false, true));
            }
            sum.priced = end;
        }
        Ok((false, false))
    }

    /// Prices what is released. False when there is more than may be looked at now.
    async fn release(&mut self, below: RawAmount) -> Result<bool, SettleError> {
        let before = self.sums().await?;
        let (mut after, mut is_left) = (before.clone(), false);
        for sum in before.iter().filter(|s| s.state == SumState::Released) {
            let mut from = sum.from;
            loop {
                if self.left == 0 {
                    return Ok(false);
                }
                let (members, last) = self.members(from, sum.to, below).await?;
                let Some(end) = last else { break };
                from = end;
                let mut pricings = Vec::with_capacity(members.len());
                for deposit in members {
                    let priced = priced(self.prices, deposit).await?;
                    is_left |= priced.as_ref().is_none_or(|p| {
                        matches!(p.outcome, Err(NoPrice::Hold(reason)) if reason.is_about_price())
                    });
                    pricings.extend(priced);
                }
                let (store, epochs) = (self.prices.store, self.prices.rules.epochs.all().len());
                store.commit_priced(&pricings, epochs, self.prices.clock.now_ms()).await?;
            }
            after.retain(|s| s != sum);
        }
        if after == before {
            return Ok(true);
        }
        if is_left {
            // Its price was there and is not any more: it counts again.
            after.iter_mut().for_each(|s| s.rules = None);
        }
        Ok(self.commit(&before, &after, &[]).await?)
    }

    /// What is counted between two places, a page of it, and where the page ends; `None` after the last
    /// one.
    async fn members(
        &mut self,
        from: Place,
        to: Place,
        below: RawAmount,
    ) -> Result<(Vec<OpenDeposit>, Option<Place>), SettleError> {
        let (mut members, mut last) = (Vec::new(), None);
        for deposit in self.page(from, below).await? {
            let place = Place::of(&deposit)?;
            if place > to {
                break;
            }
            last = Some(place);
            if deposit.stage.is_counted_dust() && is_dust(self.prices.rules, &deposit) {
                members.push(deposit);
            }
        }
        Ok((members, last))
    }
}

/// What is released is one range with what was released just before it.
fn push_released(sums: &mut Vec<StoredSum>, released: StoredSum) {
    match sums.last_mut() {
        Some(last) if last.state == SumState::Released && last.to == released.from => {
            last.to = released.to;
        }
        _ => sums.push(released),
    }
}
