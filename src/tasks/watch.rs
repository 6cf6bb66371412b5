//! Follow one chain: find what is new, read its logs, match them, commit it all with the cursor.
//!
//! Near the tip, blocks are taken one by one and their logs asked for by block hash. Far behind
//! it, below anything the window could see reorganised, logs are asked for by range. Nothing is
//! credited here.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{CONCURRENCY, ChainRules, Start, consistent, invalid_logs};
use crate::chain::{ChainSource, LogFilter, SourceError};
use crate::clock::Clock;
use crate::domain::chain::{AdvanceError, ChainDelta, Header};
use crate::domain::ids::{BlockRef, Cursor};
use crate::domain::transfer::{AddressBook, RawLog, match_logs};
use crate::store::{
    ChainState, LeasedStore, ScanChange, ScanOutcome, ScanRecord, SightingToStore, StoreError,
};

/// Blocks taken one by one in a step, and so in a commit.
const HEAD_BATCH: u64 = 64;
/// How often a step matches again because addresses were registered meanwhile.
const REMATCH_MAX: usize = 5;

/// What the task keeps between activations. Only a cache: rebuilt from the store when lost.
#[derive(Debug)]
pub struct WatchCache {
    book: AddressBook,
    range: u64,
}

impl WatchCache {
    /// An empty one.
    #[must_use]
    pub fn new(rules: &ChainRules) -> Self {
        Self { book: AddressBook::default(), range: rules.range_max }
    }
}

/// What an activation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Nothing is new.
    Idle,
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
        "chain {chain} forks below block {floor}, the oldest that reorg_window keeps: nothing was changed and the chain stands still; compare the node with another one: if it is wrong, repair or replace it and this goes on by itself"
    )]
    TooDeep {
        /// Name of the chain.
        chain: String,
        /// Oldest block kept.
        floor: u64,
    },
}

/// One step of following the chain.
///
/// # Errors
/// See [`WatchError`]; nothing is written then.
pub async fn watch<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut WatchCache,
) -> Result<Watched, WatchError> {
    let state = store.chain_state(rules.id, rules.window).await?;
    // An announcement saves the request for the tip, when it is the child of what we know. It is
    // not believed in anything else: after a reorg, a late one names a block of the old fork.
    let announced = source.announced().filter(|h| Cursor::At(parent_of(h)) == state.cursor);
    let tip = match announced {
        Some(header) => header,
        None => source.latest().await?,
    };
    let next = match state.cursor {
        Cursor::At(at) if at.hash == tip.hash => return Ok(Watched::Idle),
        // Too far behind to say whether it is on our chain: it lags, which is no reorg.
        Cursor::At(at) if tip.number < at.number.saturating_sub(rules.window) => {
            return Err(WatchError::Behind { provider: source.provider().into(), at: tip.number });
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
    let mut step = Step { rules, source, store, clock, cache, state: &state };
    let settled = tip.number.saturating_sub(rules.window);
    if next < settled { step.catch_up(next, settled).await } else { step.follow(next, tip).await }
}

fn parent_of(header: &Header) -> BlockRef {
    BlockRef { number: header.number.saturating_sub(1), hash: header.parent_hash }
}

/// One activation under way.
struct Step<'a, S> {
    rules: &'a ChainRules,
    source: &'a S,
    store: &'a LeasedStore,
    clock: &'a dyn Clock,
    cache: &'a mut WatchCache,
    state: &'a ChainState,
}

/// What a step read.
struct Read {
    delta: ChainDelta,
    method: &'static str,
    from: BlockRef,
    filter: LogFilter,
    logs: Vec<RawLog>,
}

impl<S: ChainSource> Step<'_, S> {
    /// Takes blocks one by one, from `next` towards the tip.
    async fn follow(&mut self, next: u64, tip: Header) -> Result<Watched, WatchError> {
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

        self.store.refresh_book(&mut self.cache.book).await?;
        let filter = self.rules.log_filter(&self.cache.book);
        let (rules, source, asked) = (self.rules, self.source, &filter);
        let logs: Vec<RawLog> = stream::iter(delta.adopted.clone())
            .map(|block| async move { rules.logs_in_block(source, block.block(), asked).await })
            .buffered(CONCURRENCY)
            .try_collect::<Vec<_>>()
            .await?
            .concat();
        let adopted: BTreeSet<B256> = delta.adopted.iter().map(|h| h.hash).collect();
        if let Some(log) = logs.iter().find(|log| !adopted.contains(&log.block_hash)) {
            let why = format!("logs of block {}, which was not asked for", log.block_hash);
            return Err(invalid_logs(source.provider(), why).into());
        }
        let orphaned = delta.orphaned.len();
        let read = Read { delta, method: "by_hash", from, filter, logs };
        let deposits = self.commit(read).await?;
        if orphaned > 0 {
            tracing::info!(chain.name = rules.name, blocks.orphaned = orphaned,
                block.number = to.number, block.hash = %to.hash, "reorg");
        }
        Ok(Watched::Advanced { to, orphaned, deposits, more: to.number < tip.number })
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
                    return Err(WatchError::TooDeep { chain: self.rules.name.clone(), floor });
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

    /// Reads a range far below the tip, from `from` to at most `settled`.
    async fn catch_up(&mut self, from: u64, settled: u64) -> Result<Watched, WatchError> {
        let source = self.source;
        let first = header_at(source, from).await?;
        if matches!(self.state.cursor, Cursor::At(at) if first.parent_hash != at.hash) {
            // The cursor itself was reorganised away while we were not looking: adopt the first
            // block of the new fork, and go on from there at once.
            return Ok(match self.follow(from, first).await? {
                Watched::Advanced { to, orphaned, deposits, .. } => {
                    Watched::Advanced { to, orphaned, deposits, more: true }
                }
                Watched::Idle => Watched::Idle,
            });
        }
        self.store.refresh_book(&mut self.cache.book).await?;
        let mut filter = self.rules.log_filter(&self.cache.book);
        let to = from.saturating_add(self.cache.range.saturating_sub(1)).min(settled);
        let logs = match source.logs_in_range(from, to, &filter).await {
            Ok(logs) => logs,
            // Even one block is too much: somebody floods our addresses with worthless transfers.
            Err(SourceError::RangeTooLarge { .. })
                if to == from && matches!(filter, LogFilter::Recipients(_)) =>
            {
                filter = self.rules.tokens_filter();
                source.logs_in_range(from, to, &filter).await?
            }
            Err(SourceError::RangeTooLarge { provider, why }) if to > from => {
                let range = (to.saturating_sub(from).saturating_add(1) / 2).max(1);
                self.cache.range = range;
                tracing::info!(
                    chain.name = self.rules.name,
                    provider,
                    range.blocks = range,
                    why,
                    "range halved"
                );
                let to = parent_of(&first);
                return Ok(Watched::Advanced { to, orphaned: 0, deposits: 0, more: true });
            }
            Err(error) => return Err(error.into()),
        };
        // The headers of the blocks that matter: those that pay us, and the last one; and, in a
        // chain's first step, the one it starts with.
        let start = matches!(self.state.cursor, Cursor::Fresh).then_some(from);
        let numbers: BTreeSet<u64> = match_logs(self.rules.id, &logs, &self.cache.book)
            .iter()
            .map(|s| s.block_number)
            .chain([to])
            .chain(start)
            .collect();
        let adopted: Vec<Header> = stream::iter(numbers)
            .map(|number| header_at(source, number))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let Some(last) = adopted.last().map(Header::block) else { return Ok(Watched::Idle) };
        let delta = ChainDelta { orphaned: Vec::new(), adopted };
        let read = Read { delta, method: "by_range", from: first.block(), filter, logs };
        let deposits = self.commit(read).await?;
        // What worked is tried a little larger, up to what is configured.
        let larger = self.cache.range.saturating_add((self.cache.range / 4).max(1));
        self.cache.range = larger.min(self.rules.range_max);
        Ok(Watched::Advanced { to: last, orphaned: 0, deposits, more: true })
    }

    /// Matches, judges and commits; matches again when addresses were registered meanwhile.
    async fn commit(&mut self, read: Read) -> Result<usize, WatchError> {
        let (rules, source) = (self.rules, self.source);
        consistent(source.provider(), &read.logs)?;
        let Some(to) = read.delta.adopted.last().map(Header::block) else { return Ok(0) };
        let blocks: BTreeMap<u64, Header> =
            read.delta.adopted.iter().map(|h| (h.number, *h)).collect();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut change = ScanChange {
            chain: rules.id,
            expected: self.state.cursor,
            book_newest: self.cache.book.newest(),
            epochs: rules.epochs.all().len(),
            orphaned: read.delta.orphaned,
            adopted: read.delta.adopted,
            sightings: Vec::new(),
            scan: ScanRecord {
                from: read.from,
                to,
                method: read.method,
                provider: source.provider().to_owned(),
                logs_seen: count(read.logs.len()),
                logs_matched: 0,
            },
            window: rules.window,
            unlisted_per_day: rules.unlisted_per_day,
        };
        let registered = || WatchError::Moved("an address was registered meanwhile".into());
        for _ in 0..REMATCH_MAX {
            let time_of = |number: u64| blocks.get(&number).map_or(0, |h| h.time_ms);
            change.sightings = rules.judged(&read.logs, &self.cache.book, time_of);
            for SightingToStore { sighting, .. } in &change.sightings {
                match blocks.get(&sighting.block_number) {
                    // Paid, to an address registered meanwhile, in a block whose header was not
                    // fetched.
                    None => return Err(registered()),
                    Some(header) if header.hash != sighting.key.block_hash => {
                        let why = format!("logs and header of block {} differ", header.number);
                        return Err(WatchError::Moved(why));
                    }
                    Some(_) => {}
                }
            }
            change.scan.logs_matched = count(change.sightings.len());
            change.book_newest = self.cache.book.newest();
            match self.store.commit_scan(&change, self.clock.now_ms()).await? {
                ScanOutcome::Committed { deposits } => return Ok(deposits),
                ScanOutcome::StaleCursor => {
                    return Err(WatchError::Moved("somebody else moved the cursor".into()));
                }
                // Logs asked for by recipient cannot show the new address's.
                ScanOutcome::StaleBook if matches!(read.filter, LogFilter::Recipients(_)) => {
                    return Err(registered());
                }
                ScanOutcome::StaleBook => self.store.refresh_book(&mut self.cache.book).await?,
            }
        }
        Err(registered())
    }
}

/// The canonical header at a height that must be there.
async fn header_at<S: ChainSource>(source: &S, number: u64) -> Result<Header, WatchError> {
    let header = source.header_at(number).await?;
    header.ok_or_else(|| WatchError::Moved(format!("no block at {number} any more")))
}
