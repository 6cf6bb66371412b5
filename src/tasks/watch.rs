//! Follow one chain: find what is new, read its logs, match them, commit it all with the cursor.
//!
//! Near the tip, blocks are taken one by one and their logs asked for by block hash. Far behind
//! it, below anything the window could see reorganised, logs are asked for by range. Nothing is
//! credited here.

pub(in crate::tasks) mod cache;
pub(in crate::tasks) mod catch_up;
pub(in crate::tasks) mod doubted;
pub(in crate::tasks) mod doubts;
pub(in crate::tasks) mod follow;
pub(in crate::tasks) mod heard;
pub(in crate::tasks) mod lost;
pub(in crate::tasks) mod others;
pub(in crate::tasks) mod outflows;
pub mod step;
pub(in crate::tasks) mod unread;

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::chain::pool::{Aside, Pool};
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::{AdvanceError, ChainDelta, Header};
use crate::domain::chain_rules::{ChainRules, Start};
use crate::domain::ids::{BlockRef, Cursor};
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::AddressBook;
use crate::planted::{Fault, planted};
use crate::store::{Halt, LeasedStore, ScanChange, ScanOutcome, ScanRecord, StoreError};
use crate::tasks::errors::{
    WatchError, invalid_logs, moved_meanwhile, nobody, registered_meanwhile,
};
use crate::tasks::logs::consistent;
use crate::tasks::watch::lost::Lost;
use crate::tasks::watch::others::others_height;
use crate::tasks::watch::step::{Read, Step, Watched};

pub use crate::tasks::errors::Wait;
pub use crate::tasks::watch::cache::WatchCache;

/// How often a step matches again because addresses were registered meanwhile.
const REMATCH_MAX: usize = 5;

/// One step of following the chain, with the first provider that can take it. All answers that a
/// step rests on are of one provider.
pub async fn watch<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut WatchCache,
) -> Result<Watched, WatchError> {
    for number in cache.doubts.due(clock.now_ms()) {
        store.request_rescan(rules.id, number, number, clock.now_ms()).await?;
    }
    let order = pool.order(clock.now_ms());
    let mut failure: Option<WatchError> = None;
    let mut too_deep: Vec<Halt> = Vec::new();
    let mut waiting: Option<Watched> = None;
    let mut lost = Lost::default();
    for source in &order {
        let source = *source;
        let state = store.chain_state(rules.id, rules.window).await?;
        if state.has_newer {
            store.meet_newer(rules.id, clock.now_ms()).await?;
        }
        if state.halted.is_some() {
            return Ok(Watched::Halted);
        }
        let mut step = Step { rules, pool, source, store, clock, cache, state: &state };
        let error = match step.run().await {
            Ok(watched) => {
                pool.good(source);
                cache.moved = 0;
                cache.lost.over();
                if watched == Watched::Idle && waiting.is_some() {
                    continue; // it has nothing new, and another one may
                }
                return Ok(watched);
            }
            Err(error @ WatchError::Store(_)) => return Err(error),
            Err(error) => error,
        };
        let unknown = lost.hears(source, &error, &state);
        if unknown && lost.agreed(pool) && cache.lost.long(clock.now_ms()) {
            lost.heal(rules, store, clock, &state).await?;
            cache.lost.over();
            return Ok(Watched::Idle);
        }
        match &error {
            WatchError::Waits { number, wait } => {
                waiting.get_or_insert(Watched::Waiting { number: *number, wait: *wait });
                continue;
            }
            WatchError::Source(why) => {
                if let SourceError::RateLimited { .. } = why {
                    cache.at_once = (cache.at_once / 2).max(1);
                }
                pool.record_failure(source, why, clock.now_ms());
            }
            WatchError::Moved(why) => {
                if !cache.moves_too_often() {
                    return Err(error);
                }
                let invalid = invalid_logs(source.provider(), why.clone());
                pool.record_failure(source, &invalid, clock.now_ms());
            }
            WatchError::Behind { tip, .. } => {
                let of = state.view.tip().map_or(0, |tip| tip.number);
                pool.set_aside(source, Some(Aside::Behind { at: tip.number, of }));
            }
            WatchError::TooDeep { provider, tip, floor, .. } => {
                pool.set_aside(source, Some(Aside::OtherFork { number: *floor }));
                if unknown {
                    failure.get_or_insert(error);
                    continue;
                }
                let halted_at_ms = clock.now_ms();
                let provider = provider.clone();
                too_deep.push(Halt { floor: *floor, provider, found: *tip, halted_at_ms });
                // Two say so: what was followed is not what they have, and whoever still shows it
                // is not followed any further.
                if too_deep.len() >= pool.len().min(2) {
                    if let Some(halt) = too_deep.first() {
                        store.halt(rules.id, halt).await?;
                    }
                    return Err(error);
                }
            }
            WatchError::Store(_) => {}
        }
        failure.get_or_insert(error);
    }
    if !lost.agreed(pool) {
        cache.lost.over();
    }
    match waiting {
        Some(waiting) => Ok(waiting),
        None => Err(failure.unwrap_or_else(|| nobody(rules).into())),
    }
}

pub(super) fn parent_of(header: &Header) -> BlockRef {
    BlockRef { number: header.number.saturating_sub(1), hash: header.parent_hash }
}

impl<S: ChainSource> Step<'_, S> {
    async fn run(&mut self) -> Result<Watched, WatchError> {
        let (rules, source) = (self.rules, self.source);
        // An announcement saves the request for the tip, when it is the child of what we know. It
        // is not believed in anything else: after a reorg, a late one names a block of the old fork.
        let announced =
            source.announced().filter(|h| Cursor::At(parent_of(h)) == self.state.cursor);
        let tip = match announced {
            Some(header) => header,
            None => source.latest().await?,
        };
        self.pool.saw(source, tip.block());
        let next = match self.state.cursor {
            Cursor::At(at) if at.hash == tip.hash => return Ok(Watched::Idle),
            // Too far behind to say whether it is on our chain: it lags, which is no reorg.
            Cursor::At(at) if tip.number < at.number.saturating_sub(rules.window) => {
                let provider = source.provider().into();
                return Err(WatchError::Behind { provider, tip: tip.block() });
            }
            Cursor::At(at) => at.number.saturating_add(1),
            Cursor::Fresh => match rules.start {
                Start::Block(number) if number > tip.number => return Ok(Watched::Idle),
                Start::Block(number) => number,
                Start::Tip => {
                    tracing::info!(
                        chain.name = rules.name,
                        block.number = tip.number,
                        "first start: no start_block is configured, scanning begins at the tip"
                    );
                    tip.number
                }
            },
        };
        // Half of the window is left to go back to where they agree.
        if let Some(number) = self.pool.contested()
            && next > number.saturating_add(rules.window / 2)
        {
            return Ok(Watched::Contested { number });
        }
        let reached = self.reached(next, &tip).await?;
        let settled = tip.number.min(reached).saturating_sub(rules.window);
        if next < settled {
            self.catch_up(next, settled).await
        } else {
            self.follow(next, tip).await
        }
    }

    /// How far others are, where a tip lies far above what is scanned: a height that only one
    /// claims says nothing.
    async fn reached(&mut self, next: u64, tip: &Header) -> Result<u64, WatchError> {
        let (pool, lag, now) = (self.pool, self.rules.lag_max, self.clock.now_ms());
        let alone = pool.len() < 2 || planted(Fault::CursorAlone);
        if alone || tip.number <= next.saturating_add(lag) {
            return Ok(tip.number);
        }
        let mute = self.cache.company.mute(now);
        let enough = tip.number.saturating_sub(lag);
        let asked = others_height(pool, now, self.source.provider(), &mute, enough).await;
        match self.cache.company.note(asked, now) {
            // Blocks one by one, as far as one alone is followed.
            None => Ok(next),
            Some(height) if height < enough => {
                self.pool.set_aside(self.source, Some(Aside::Ahead { at: tip.number }));
                Err(WatchError::Waits { number: height.saturating_add(1), wait: Wait::Others })
            }
            Some(height) => Ok(height),
        }
    }

    /// Places headers on the known chain, fetching what links them to it.
    pub(super) async fn place(&self, mut headers: Vec<Header>) -> Result<ChainDelta, WatchError> {
        loop {
            match self.state.view.advance(&headers) {
                Ok(delta) => return Ok(delta),
                Err(AdvanceError::TooDeep { floor }) => {
                    return Err(WatchError::TooDeep {
                        chain: self.rules.name.clone(),
                        provider: self.source.provider().to_owned(),
                        tip: headers
                            .last()
                            .map_or(BlockRef { number: 0, hash: B256::ZERO }, Header::block),
                        floor,
                    });
                }
                Err(error @ AdvanceError::Unlinked { .. }) => {
                    return Err(WatchError::Moved(error.to_string()));
                }
                // Ends: each turn goes one block down, and below the window it is TooDeep.
                Err(AdvanceError::MissingParent { number, hash }) => {
                    let parent = self.source.header(hash).await?;
                    let parent = parent.filter(|p| p.number == number && p.hash == hash);
                    let unknown = || WatchError::Moved(format!("block {hash} is not known"));
                    headers.insert(0, parent.ok_or_else(unknown)?);
                }
            }
        }
    }

    /// What a commit changes, decided on what was read.
    pub(super) fn change(
        &self,
        read: &Read,
        expected: Cursor,
        to: BlockRef,
        (book, lags): (&AddressBook, bool),
    ) -> Result<ScanChange, WatchError> {
        let rules = self.rules;
        let blocks: BTreeMap<u64, Header> =
            read.delta.adopted.iter().map(|h| (h.number, *h)).collect();
        rules.possible_times(self.source.provider(), blocks.values(), self.clock.now_ms())?;
        let time_of = |number: u64| blocks.get(&number).map_or(0, |h| h.time_ms);
        let sightings = rules.judged(&read.logs, book, time_of);
        let outgoing = rules.outgoing(&read.logs, book);
        let places = sightings.iter().map(|s| (s.sighting.block_number, s.sighting.key));
        for (number, key) in places.chain(outgoing.iter().map(|o| (o.block_number, o.key))) {
            match blocks.get(&number) {
                // To or from an address registered meanwhile, in a block whose header was not fetched.
                None => return Err(registered_meanwhile()),
                Some(header) if header.hash != key.block_hash => {
                    let why = format!("logs and header of block {} differ", header.number);
                    return Err(WatchError::Moved(why));
                }
                Some(_) => {}
            }
        }
        Ok(ScanChange {
            chain: rules.id,
            expected,
            book_newest: book.newest(),
            lags,
            epochs: rules.epochs.all().len(),
            orphaned: read.delta.orphaned.clone(),
            adopted: read.delta.adopted.clone(),
            scan: ScanRecord {
                from: read.from,
                to,
                method: read.method,
                provider: self.source.provider().to_owned(),
                filter: read.filter.as_str(),
                logs_seen: read.logs_seen,
                logs_matched: count(sightings.len()),
            },
            sightings,
            outgoing,
            window: rules.window,
            unlisted_per_day: rules.unlisted_per_day,
            findings: self.cache.findings.clone(),
        })
    }

    /// Matches, judges and commits. Where addresses were registered meanwhile, it matches again, which costs less
    /// than reading again; but not for ever, and not where only logs to the others were asked for.
    pub(super) async fn commit(&mut self, read: Read) -> Result<usize, WatchError> {
        consistent(self.source.provider(), &read.logs)?;
        let Some(to) = read.delta.adopted.last().map(Header::block) else { return Ok(0) };
        let whole = !matches!(read.filter, LogFilter::Recipients(_));
        for tried in 1..=REMATCH_MAX {
            let with = (&*self.cache.book, !whole || tried == REMATCH_MAX);
            let change = self.change(&read, self.state.cursor, to, with)?;
            match taken(self.source, self.store.commit_scan(&change, self.clock.now_ms()).await)? {
                ScanOutcome::Committed { deposits } => {
                    self.cache.findings.clear();
                    return Ok(deposits);
                }
                ScanOutcome::StaleCursor => return Err(moved_meanwhile()),
                ScanOutcome::StaleBook => self.cache.book = self.store.book().await?,
            }
        }
        Err(registered_meanwhile())
    }
}

/// What the store made of a provider's answer: one that cannot be is that provider's nonsense.
pub(super) fn taken<S: ChainSource, T>(
    source: &S,
    written: Result<T, StoreError>,
) -> Result<T, WatchError> {
    match written {
        Err(StoreError::Impossible(why)) => Err(invalid_logs(source.provider(), why).into()),
        written => Ok(written?),
    }
}

/// A provider failed, or its answers did not fit together.
pub(super) fn penalize<S: ChainSource>(
    pool: &Pool<S>,
    source: &S,
    error: &WatchError,
    clock: &dyn Clock,
) {
    match error {
        WatchError::Source(why) => pool.record_failure(source, why, clock.now_ms()),
        WatchError::Moved(why) => {
            pool.record_failure(
                source,
                &invalid_logs(source.provider(), why.clone()),
                clock.now_ms(),
            );
        }
        _ => {}
    }
}

pub(super) fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The canonical header at a height that must be there.
pub(super) async fn header_at<S: ChainSource>(
    source: &S,
    number: u64,
) -> Result<Header, WatchError> {
    let header = source.header_at(number).await?;
    header.ok_or_else(|| WatchError::Moved(format!("no block at {number} any more")))
}
