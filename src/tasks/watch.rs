//! Follow one chain: find what is new, read its logs, match them, commit it all with the cursor.
//!
//! Near the tip, blocks are taken one by one and their logs asked for by block hash. Far behind
//! it, below anything the window could see reorganised, logs are asked for by range. Nothing is
//! credited here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::B256;
use futures_util::stream::{self, StreamExt, TryStreamExt};

pub use super::kept::WatchCache;
use super::{CONCURRENCY, ChainRules, Start, consistent, invalid_logs};
use crate::chain::pool::{Aside, Pool};
use crate::chain::{ChainSource, LogFilter, SourceError};
use crate::clock::Clock;
use crate::domain::chain::{AdvanceError, ChainDelta, Header};
use crate::domain::ids::{BlockRef, Cursor};
use crate::domain::transfer::{AddressBook, RawLog};
use crate::planted::{Fault, planted};
use crate::store::{
    ChainState, Halt, LeasedStore, ScanChange, ScanOutcome, ScanRecord, SightingToStore, StoreError,
};

/// Blocks taken one by one in a step, and so in a commit.
const HEAD_BATCH: u64 = 64;
/// How often a step matches again because addresses were registered meanwhile.
const REMATCH_MAX: usize = 5;
/// How often a block without logs is asked for again when its bloom filter says otherwise and
/// nobody else can be asked.
const DOUBT_MAX: u8 = 3;
/// So many times in a row that a provider's answers do not fit together, others are asked.
const MOVED_MAX: u32 = 3;

/// What an activation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nothing is new.
    Idle,
    /// The chain stands still until an operator decides.
    Halted,
    /// As many providers contradict the chain followed as support it: it is followed no further.
    Contested {
        /// Height of the block on which they disagree.
        number: u64,
    },
    /// The cursor moved to this block.
    Advanced {
        /// The new cursor.
        to: BlockRef,
        /// Blocks that are canonical no more.
        orphaned: usize,
        /// Deposits that are new or changed.
        deposits: usize,
        /// There is more to read at once.
        more: bool,
    },
}

/// Why an activation did nothing, by what follows.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The source failed or contradicted itself: again after a pause.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database failed: again after a pause.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source's tip lies below everything that could be compared: again after a pause.
    #[error("{provider} is at block {at}, more than reorg_window behind what was scanned")]
    Behind {
        /// Who.
        provider: String,
        /// Its tip.
        at: u64,
    },
    /// The answers were of a chain that moved under us: again at once.
    #[error("the chain moved while it was read: {0}")]
    Moved(String),
    /// The fork lies below what is kept: a person must look.
    #[error(
        "chain {chain} forks below block {floor}, the oldest that reorg_window keeps, says {provider}: nothing was changed; compare it with other nodes"
    )]
    TooDeep {
        /// Name of the chain.
        chain: String,
        /// Who says so.
        provider: String,
        /// Its tip.
        tip: BlockRef,
        /// Oldest block kept.
        floor: u64,
    },
}

/// One step of following the chain, with the first provider that can take it. All answers that a
/// step rests on are of one provider.
///
/// # Errors
/// See [`WatchError`]; nothing is written then.
pub async fn watch<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut WatchCache,
) -> Result<Watched, WatchError> {
    let order = pool.order(clock.now_ms());
    let mut failure: Option<WatchError> = None;
    let mut too_deep: Vec<Halt> = Vec::new();
    for source in &order {
        let source = *source;
        let state = store.chain_state(rules.id, rules.window).await?;
        if state.halted.is_some() {
            return Ok(Watched::Halted);
        }
        let mut step = Step { rules, pool, source, store, clock, cache, state: &state };
        let error = match step.run().await {
            Ok(watched) => {
                pool.good(source);
                cache.moved = 0;
                return Ok(watched);
            }
            Err(error @ WatchError::Store(_)) => return Err(error),
            Err(error) => error,
        };
        match &error {
            WatchError::Source(why) => {
                if let SourceError::RateLimited { .. } = why {
                    cache.at_once = (cache.at_once / 2).max(1);
                }
                pool.bad(source, why, clock.now_ms());
            }
            WatchError::Moved(why) => {
                cache.moved = cache.moved.saturating_add(1);
                if cache.moved < MOVED_MAX {
                    return Err(error);
                }
                cache.moved = 0;
                pool.bad(source, &invalid_logs(source.provider(), why.clone()), clock.now_ms());
            }
            WatchError::Behind { at, .. } => {
                let of = state.view.tip().map_or(0, |tip| tip.number);
                pool.set_aside(source, Some(Aside::Behind { at: *at, of }));
            }
            WatchError::TooDeep { provider, tip, floor, .. } => {
                pool.set_aside(source, Some(Aside::OtherFork { number: *floor }));
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
    Err(failure.unwrap_or_else(|| nobody(rules).into()))
}

/// There is no provider to ask at this moment.
pub(super) fn nobody(rules: &ChainRules) -> SourceError {
    SourceError::Unavailable {
        provider: rules.name.clone(),
        method: "anything",
        why: "no provider can be asked now: each one limits its rate or was not reached yet".into(),
    }
}

pub(super) fn parent_of(header: &Header) -> BlockRef {
    BlockRef { number: header.number.saturating_sub(1), hash: header.parent_hash }
}

/// One activation under way.
pub(super) struct Step<'a, S> {
    pub(super) rules: &'a ChainRules,
    pub(super) pool: &'a Pool<S>,
    pub(super) source: &'a S,
    pub(super) store: &'a LeasedStore,
    pub(super) clock: &'a dyn Clock,
    pub(super) cache: &'a mut WatchCache,
    pub(super) state: &'a ChainState,
}

/// What a step read.
pub(super) struct Read {
    pub(super) delta: ChainDelta,
    pub(super) method: &'static str,
    pub(super) from: BlockRef,
    pub(super) filter: LogFilter,
    pub(super) logs_seen: u64,
    pub(super) logs: Vec<RawLog>,
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
                return Err(WatchError::Behind { provider, at: tip.number });
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
        let settled = tip.number.saturating_sub(rules.window);
        if next < settled {
            self.catch_up(next, settled).await
        } else {
            self.follow(next, tip).await
        }
    }

    /// Takes blocks one by one, from `next` towards the tip.
    pub(super) async fn follow(&mut self, next: u64, tip: Header) -> Result<Watched, WatchError> {
        let target = next.saturating_add(HEAD_BATCH.saturating_sub(1)).min(tip.number);
        let mut headers = self.headers_between(next, target, &tip).await?;
        if headers.is_empty() {
            headers.push(tip); // a tip at or below the cursor: a fork, or a source that lags
        }
        let delta = self.place(headers).await?;
        let (Some(from), Some(to)) =
            (delta.adopted.first().map(Header::block), delta.adopted.last().map(Header::block))
        else {
            return Ok(Watched::Idle);
        };

        self.store.refresh_book(Arc::make_mut(&mut self.cache.book)).await?;
        let filter = self.rules.log_filter(&self.cache.book);
        let (rules, source, asked) = (self.rules, self.source, &filter);
        let by_block: Vec<(Header, Vec<RawLog>)> = stream::iter(delta.adopted.clone())
            .map(|block| async move {
                let mut logs = rules.logs_in_block(source, block.block(), asked).await?;
                if planted(Fault::LostLog) {
                    logs.pop();
                }
                Ok::<_, SourceError>((block, logs))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        for (block, logs) in &by_block {
            if logs.is_empty() && filter.expects_logs(&block.bloom) {
                self.doubt(block, &filter).await?;
            }
        }
        let logs: Vec<RawLog> = by_block.into_iter().flat_map(|(_, logs)| logs).collect();
        let adopted: BTreeSet<B256> = delta.adopted.iter().map(|h| h.hash).collect();
        if let Some(log) = logs.iter().find(|log| !adopted.contains(&log.block_hash)) {
            let why = format!("logs of block {}, which was not asked for", log.block_hash);
            return Err(invalid_logs(source.provider(), why).into());
        }
        let orphaned = delta.orphaned.len();
        let logs_seen = count(logs.len());
        let read = Read { delta, method: "by_hash", from, filter, logs_seen, logs };
        let deposits = self.commit(read).await?;
        if orphaned > 0 {
            tracing::info!(chain.name = rules.name, blocks.orphaned = orphaned,
                block.number = to.number, block.hash = %to.hash, "reorg");
        }
        Ok(Watched::Advanced { to, orphaned, deposits, more: to.number < tip.number })
    }

    /// A block is said to have no logs, and its bloom filter says that it should: somebody else is
    /// asked. Two who say the same are believed: a bloom filter may be wrong in this direction.
    async fn doubt(&mut self, block: &Header, filter: &LogFilter) -> Result<(), WatchError> {
        let name = self.source.provider();
        let hidden = |why: &str| {
            let why = format!("no logs of block {}: {why}", block.number);
            WatchError::from(invalid_logs(name, why))
        };
        for other in self.pool.others(self.clock.now_ms(), Some(name)) {
            match self.rules.logs_in_block(other, block.block(), filter).await {
                Ok(logs) if logs.is_empty() => return Ok(()),
                Ok(_) => {
                    return Err(hidden(&format!("{} shows some", other.provider())));
                }
                Err(error) => self.pool.bad(other, &error, self.clock.now_ms()),
            }
        }
        let doubts = self.cache.doubts.entry(block.hash).or_insert(0);
        *doubts = doubts.saturating_add(1);
        if *doubts < DOUBT_MAX {
            return Err(hidden("its bloom filter says that there are some"));
        }
        self.cache.doubts.clear();
        Ok(())
    }

    /// The canonical headers from `from` to `to`, asked for by height; the tip is known already.
    async fn headers_between(
        &self,
        from: u64,
        to: u64,
        tip: &Header,
    ) -> Result<Vec<Header>, WatchError> {
        let end = to.saturating_add(1).min(tip.number); // exclusive
        let source = self.source;
        let mut headers: Vec<Header> = stream::iter(from..end)
            .map(|number| header_at(source, number))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        if from <= tip.number && to == tip.number {
            headers.push(*tip);
        }
        Ok(headers)
    }

    /// Places headers on the known chain, fetching what links them to it.
    async fn place(&self, mut headers: Vec<Header>) -> Result<ChainDelta, WatchError> {
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
        book: &AddressBook,
    ) -> Result<ScanChange, WatchError> {
        let rules = self.rules;
        let blocks: BTreeMap<u64, Header> =
            read.delta.adopted.iter().map(|h| (h.number, *h)).collect();
        let time_of = |number: u64| blocks.get(&number).map_or(0, |h| h.time_ms);
        let sightings = rules.judged(&read.logs, book, time_of);
        for SightingToStore { sighting, .. } in &sightings {
            match blocks.get(&sighting.block_number) {
                // Paid, to an address registered meanwhile, in a block whose header was not fetched.
                None => return Err(registered()),
                Some(header) if header.hash != sighting.key.block_hash => {
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
            window: rules.window,
            unlisted_per_day: rules.unlisted_per_day,
            findings: Vec::new(),
        })
    }

    /// Matches, judges and commits; matches again when addresses were registered meanwhile.
    async fn commit(&mut self, read: Read) -> Result<usize, WatchError> {
        consistent(self.source.provider(), &read.logs)?;
        let Some(to) = read.delta.adopted.last().map(Header::block) else { return Ok(0) };
        for _ in 0..REMATCH_MAX {
            let change = self.change(&read, self.state.cursor, to, &self.cache.book)?;
            match self.store.commit_scan(&change, self.clock.now_ms()).await? {
                ScanOutcome::Committed { deposits } => return Ok(deposits),
                ScanOutcome::StaleCursor => return Err(somebody_moved()),
                // Logs asked for by recipient cannot show the new address's.
                ScanOutcome::StaleBook if matches!(read.filter, LogFilter::Recipients(_)) => {
                    return Err(registered());
                }
                ScanOutcome::StaleBook => {
                    self.store.refresh_book(Arc::make_mut(&mut self.cache.book)).await?
                }
            }
        }
        Err(registered())
    }
}

pub(super) fn registered() -> WatchError {
    WatchError::Moved("an address was registered meanwhile".into())
}

pub(super) fn somebody_moved() -> WatchError {
    WatchError::Moved("somebody else moved the cursor".into())
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
