//! Follow one chain: find what is new, read its logs, match them, commit it all with the cursor.
//!
//! Near the tip, blocks are taken one by one and their logs asked for by block hash. Far behind
//! it, below anything the window could see reorganised, logs are asked for by range. Nothing is
//! credited here.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::{ChainRules, Start, consistent, invalid_logs};
use crate::chain::{ChainSource, LogFilter, SourceError};
use crate::clock::Clock;
use crate::domain::chain::{AdvanceError, ChainDelta, Header};
use crate::domain::ids::{BlockRef, Cursor};
use crate::domain::transfer::{AddressBook, RawLog};
use crate::store::{ChainState, ScanChange, ScanOutcome, ScanRecord, Store, StoreError};

/// Blocks taken one by one in a step, and so in a commit.
const HEAD_BATCH: u64 = 64;
/// Requests under way at once.
const CONCURRENCY: usize = 8;
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
    store: &Store,
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
    let settled = tip.number.saturating_sub(rules.window);
    if next < settled {
        catch_up(rules, source, store, clock, cache, &state, next, settled).await
    } else {
        follow(rules, source, store, clock, cache, &state, next, tip).await
    }
}

fn parent_of(header: &Header) -> BlockRef {
    BlockRef { number: header.number.saturating_sub(1), hash: header.parent_hash }
}

/// Takes blocks one by one, from `next` towards the tip.
#[expect(clippy::too_many_arguments, reason = "one step's whole context, used once")]
async fn follow<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    cache: &mut WatchCache,
    state: &ChainState,
    next: u64,
    tip: Header,
) -> Result<Watched, WatchError> {
    let target = next.saturating_add(HEAD_BATCH.saturating_sub(1)).min(tip.number);
    let mut headers = headers_between(source, next, target, &tip).await?;
    if headers.is_empty() {
        headers.push(tip); // a tip at or below the cursor: a fork, or a source that lags
    }
    let delta = place(rules, source, state, headers).await?;
    let Some(to) = delta.adopted.last().map(Header::block) else { return Ok(Watched::Idle) };

    store.refresh_book(&mut cache.book).await?;
    let filter = rules.log_filter(&cache.book);
    let asked = &filter;
    let logs: Vec<RawLog> = stream::iter(delta.adopted.clone())
        .map(|block| async move { rules.logs_in_block(source, &block, asked).await })
        .buffered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await?
        .concat();
    let orphaned = delta.orphaned.len();
    if orphaned > 0 {
        tracing::info!(chain.name = rules.name, blocks.orphaned = orphaned,
            block.number = to.number, block.hash = %to.hash, "reorg");
    }
    consistent(source.provider(), &logs)?;
    let adopted: BTreeSet<B256> = delta.adopted.iter().map(|h| h.hash).collect();
    if let Some(log) = logs.iter().find(|log| !adopted.contains(&log.block_hash)) {
        let why = format!("logs of block {}, which was not asked for", log.block_hash);
        return Err(invalid_logs(source.provider(), why).into());
    }
    let from = delta.adopted.first().map_or(to, Header::block);
    let read = Read { delta, method: "by_hash", from, filter, logs };
    let deposits = commit(rules, source, store, clock, cache, state, read).await?;
    Ok(Watched::Advanced { to, orphaned, deposits, more: to.number < tip.number })
}

/// The canonical headers from `from` to `to`, asked for by height; the tip is known already.
async fn headers_between<S: ChainSource>(
    source: &S,
    from: u64,
    to: u64,
    tip: &Header,
) -> Result<Vec<Header>, WatchError> {
    let end = to.saturating_add(1).min(tip.number); // exclusive
    let mut headers: Vec<Header> = stream::iter(from..end)
        .map(|number| async move {
            let header = source.header_at(number).await?;
            header.ok_or_else(|| WatchError::Moved(format!("no block at {number} any more")))
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    if from <= tip.number && to == tip.number {
        headers.push(*tip);
    }
    Ok(headers)
}

/// Places headers on the known chain, fetching what links them to it.
async fn place<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    state: &ChainState,
    mut headers: Vec<Header>,
) -> Result<ChainDelta, WatchError> {
    loop {
        match state.view.advance(&headers) {
            Ok(delta) => return Ok(delta),
            Err(AdvanceError::TooDeep { floor }) => {
                return Err(WatchError::TooDeep { chain: rules.name.clone(), floor });
            }
            Err(error @ AdvanceError::Unlinked { .. }) => {
                return Err(WatchError::Moved(error.to_string()));
            }
            // Ends: each turn goes one block down, and below the window it is TooDeep.
            Err(AdvanceError::MissingParent { number, hash }) => {
                let parent = source.header(hash).await?;
                let parent = parent.filter(|p| p.number == number && p.hash == hash);
                let parent = parent
                    .ok_or_else(|| WatchError::Moved(format!("block {hash} is not known")))?;
                headers.insert(0, parent);
            }
        }
    }
}

/// Reads a range far below the tip.
#[expect(clippy::too_many_arguments, reason = "one step's whole context, used once")]
async fn catch_up<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    cache: &mut WatchCache,
    state: &ChainState,
    from: u64,
    settled: u64,
) -> Result<Watched, WatchError> {
    let gone = |number: u64| WatchError::Moved(format!("no block at {number} any more"));
    let first = source.header_at(from).await?.ok_or_else(|| gone(from))?;
    if matches!(state.cursor, Cursor::At(at) if first.parent_hash != at.hash) {
        // The cursor itself was reorganised away while we were not looking: go back block by block.
        return follow_from_fork(rules, source, store, clock, cache, state, first).await;
    }
    store.refresh_book(&mut cache.book).await?;
    let filter = rules.log_filter(&cache.book);
    let to = from.saturating_add(cache.range.saturating_sub(1)).min(settled);
    let logs = match source.logs_in_range(from, to, &filter).await {
        Ok(logs) => logs,
        // Even one block is too much: somebody floods our addresses with worthless transfers.
        Err(SourceError::RangeTooLarge { .. })
            if to == from && matches!(filter, LogFilter::Recipients(_)) =>
        {
            source.logs_in_range(from, to, &rules.tokens_filter()).await?
        }
        Err(SourceError::RangeTooLarge { provider, why }) if to > from => {
            cache.range = (to.saturating_sub(from).saturating_add(1) / 2).max(1);
            tracing::info!(
                chain.name = rules.name,
                provider,
                range.blocks = cache.range,
                why,
                "range halved"
            );
            return Ok(Watched::Advanced {
                to: parent_of(&first),
                orphaned: 0,
                deposits: 0,
                more: true,
            });
        }
        Err(error) => return Err(error.into()),
    };
    consistent(source.provider(), &logs)?;
    let last = source.header_at(to).await?.ok_or_else(|| gone(to))?;
    let ours: BTreeMap<u64, B256> = rules
        .judged(&logs, &cache.book, |_| 0)
        .iter()
        .map(|s| (s.sighting.block_number, s.sighting.key.block_hash))
        .chain([(last.number, last.hash)])
        .chain(matches!(state.cursor, Cursor::Fresh).then_some((first.number, first.hash)))
        .collect();
    // The headers of the blocks that matter, and proof that the logs are of the same chain.
    let adopted: Vec<Header> = stream::iter(ours)
        .map(|(number, hash)| async move {
            let header = source.header_at(number).await?.ok_or_else(|| gone(number))?;
            if header.hash == hash {
                Ok(header)
            } else {
                Err(WatchError::Moved(format!("logs and header of block {number} differ")))
            }
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let delta = ChainDelta { orphaned: Vec::new(), adopted };
    let to = last.block();
    let read = Read { delta, method: "by_range", from: first.block(), filter, logs };
    let deposits = commit(rules, source, store, clock, cache, state, read).await?;
    // What worked is tried a little larger, up to what is configured.
    let larger = cache.range.saturating_add((cache.range / 4).max(1));
    cache.range = larger.min(rules.range_max);
    Ok(Watched::Advanced { to, orphaned: 0, deposits, more: true })
}

/// Adopts the first block after the fork, so that the next activation can go on from there.
async fn follow_from_fork<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    cache: &mut WatchCache,
    state: &ChainState,
    first: Header,
) -> Result<Watched, WatchError> {
    let from = first.number;
    follow(rules, source, store, clock, cache, state, from, first).await.map(|done| match done {
        Watched::Advanced { to, orphaned, deposits, .. } => {
            Watched::Advanced { to, orphaned, deposits, more: true }
        }
        Watched::Idle => Watched::Idle,
    })
}

/// What one step read.
struct Read {
    delta: ChainDelta,
    method: &'static str,
    from: BlockRef,
    filter: LogFilter,
    logs: Vec<RawLog>,
}

/// Matches, judges and commits; matches again when addresses were registered meanwhile.
async fn commit<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &Store,
    clock: &dyn Clock,
    cache: &mut WatchCache,
    state: &ChainState,
    read: Read,
) -> Result<usize, WatchError> {
    let Some(to) = read.delta.adopted.last().map(Header::block) else { return Ok(0) };
    let times: BTreeMap<u64, i64> =
        read.delta.adopted.iter().map(|h| (h.number, h.time_ms)).collect();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut change = ScanChange {
        chain: rules.id,
        expected: state.cursor,
        book_newest: cache.book.newest(),
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
        let time_of = |number: u64| times.get(&number).copied().unwrap_or_default();
        change.sightings = rules.judged(&read.logs, &cache.book, time_of);
        if change.sightings.iter().any(|s| !times.contains_key(&s.sighting.block_number)) {
            return Err(registered()); // paid in a block whose header was not fetched
        }
        change.scan.logs_matched = count(change.sightings.len());
        change.book_newest = cache.book.newest();
        match store.commit_scan(&change, clock.now_ms()).await? {
            ScanOutcome::Committed { deposits } => return Ok(deposits),
            ScanOutcome::StaleCursor => {
                return Err(WatchError::Moved("somebody else moved the cursor".into()));
            }
            // Logs asked for by recipient cannot show the new address's.
            ScanOutcome::StaleBook if matches!(read.filter, LogFilter::Recipients(_)) => {
                return Err(registered());
            }
            ScanOutcome::StaleBook => store.refresh_book(&mut cache.book).await?,
        }
    }
    Err(registered())
}
