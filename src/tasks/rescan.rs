//! Look again: at everything that was scanned, by another provider, once nothing there can move any
//! more; and at old blocks, for addresses and tokens that were registered after them.
//!
//! What is found is recorded as if the watch task had seen it, and goes the same way from there: a
//! provider that shows a log in the second pass proves no more than one that shows it in the first.

pub(in crate::tasks) mod contradicted;
pub mod outcome;
pub(in crate::tasks) mod stalled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bloom};
use futures_util::stream;
use futures_util::stream::{StreamExt, TryStreamExt};

use crate::chain::pool::Pool;
use crate::chain::read::RangeLogs;
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::{AddressId, BlockRef, Cursor, Shape};
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::{AddressBook, Outgoing};
use crate::planted::{Fault, planted};
use crate::store::{
    Backfill, BackfillKind, ChainState, LeasedStore, LookOutcome, Progress, ScanRow, SecondLook,
    SightingToStore, StoreError,
};
use crate::tasks::CONCURRENCY;
use crate::tasks::errors::{WatchError, invalid_logs, nobody, nobody_else};
use crate::tasks::logs::{consistent, joined};
use crate::tasks::rescan::contradicted::{Seen, resolve_contradiction};
use crate::tasks::rescan::outcome::{LookCache, Looked};
use crate::tasks::watch::catch_up::read_range_of;
use crate::tasks::watch::unread::Unread;
use crate::tasks::watch::{header_at, penalize, taken};

pub use crate::tasks::rescan::stalled::{backfill, recheck};

/// Addresses that are looked for in one request.
const ADDRESSES_MAX: usize = 200;
/// Blocks near the tip that are read one by one in a step.
const BLOCKS_MAX: u64 = 32;

/// What was read anew.
struct Again {
    to: u64,
    logs: RangeLogs,
    headers: BTreeMap<u64, Header>,
    sightings: Vec<SightingToStore>,
    outgoing: Vec<Outgoing>,
}

pub(super) async fn recheck_step<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut LookCache,
) -> Result<Looked, WatchError> {
    let state = store.chain_state(rules.id, rules.window).await?;
    let Some(floor) = state.view.floor().filter(|_| state.halted.is_none()) else {
        return Ok(Looked::Idle);
    };
    cache.book = store.book().await?;
    let mut failure: Option<WatchError> = None;
    for scan in store.next_rechecks(rules.id).await? {
        match recheck_one(rules, pool, store, clock, cache, floor, &scan).await {
            Ok(Looked::Idle) => {}
            Err(error @ WatchError::Store(_)) => return Err(error),
            Err(error) => {
                failure.get_or_insert(error);
            }
            advanced => return advanced,
        }
    }
    failure.map_or(Ok(Looked::Idle), Err)
}

async fn recheck_one<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut LookCache,
    floor: BlockRef,
    scan: &ScanRow,
) -> Result<Looked, WatchError> {
    let from = scan.rechecked_to.map_or(scan.from, |to| to.saturating_add(1)).max(scan.from);
    let last = scan.valid_to.min(floor.number);
    if from > last {
        return Ok(Looked::Idle);
    }
    let filter = rules.log_filter(&cache.book);
    let now = clock.now_ms();
    let same = Some(scan.provider.as_str()).filter(|_| !planted(Fault::SameRecheck));
    let sources = match pool.others(now, same) {
        others if others.is_empty() && pool.len() < 2 => pool.order(now),
        mut others => {
            if planted(Fault::SameRecheck) {
                others.retain(|source| source.provider() == scan.provider);
            }
            others
        }
    };
    let mut failure: Option<WatchError> = None;
    for source in sources {
        let to = last.min(cache.end(source, from));
        let read = read_again(rules, source, floor, (from, to), &filter, &cache.book).await;
        let again = match in_time(rules, source, clock, read) {
            Ok(again) => again,
            Err(unread) if cache.halves(&unread, from, to) => {
                return Ok(Looked::Advanced { deposits: 0 });
            }
            Err(Unread { error, .. }) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
                continue;
            }
        };
        let findings = compare(rules, source, store, scan, from, &again).await?;
        let look = SecondLook {
            chain: rules.id,
            progress: Progress::Recheck(scan),
            to: again.to,
            headers: again.headers.into_values().collect(),
            sightings: if planted(Fault::BlindRecheck) { Vec::new() } else { again.sightings },
            outgoing: again.outgoing,
            logs_seen: again.logs.seen,
            provider: source.provider().to_owned(),
            epochs: rules.epochs.all().len(),
            book_newest: cache.book.newest(),
            unlisted_per_day: rules.unlisted_per_day,
            findings,
        };
        let outcome = match taken(source, store.commit_second_look(&look, clock.now_ms()).await) {
            Err(error @ WatchError::Source(_)) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
                continue;
            }
            outcome => outcome?,
        };
        cache.range.grow(rules.range_max);
        let seen = Seen { from, to: look.to, paying: paying(&look) };
        match resolve_contradiction(rules, pool, source, store, clock, seen, outcome).await {
            // It showed what nobody else has: another one is asked.
            Err(error @ (WatchError::Moved(_) | WatchError::Source(_))) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
            }
            done => return done,
        }
    }
    Err(failure.unwrap_or_else(|| nobody_else(rules).into()))
}

/// What was read, if the times of its blocks can be.
fn in_time<S: ChainSource, E: From<SourceError>>(
    rules: &ChainRules,
    source: &S,
    clock: &dyn Clock,
    read: Result<Again, E>,
) -> Result<Again, E> {
    let again = read?;
    rules.possible_times(source.provider(), again.headers.values(), clock.now_ms())?;
    Ok(again)
}

/// Reads a range that lies at or below a block which the provider must have as well.
async fn read_again<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    anchor: BlockRef,
    (from, to): (u64, u64),
    filter: &LogFilter,
    book: &Arc<AddressBook>,
) -> Result<Again, Unread> {
    let known = source.header_at(anchor.number).await?.filter(|h| h.hash == anchor.hash);
    let Some(known) = known else {
        let why = format!("{} does not have block {}", source.provider(), anchor.number);
        return Err(WatchError::Moved(why).into());
    };
    let (logs, headers) = read_range_of(rules, source, (from, to), filter, book, &known).await?;
    consistent(source.provider(), &logs.logs)?;
    let time_of = |number: u64| headers.get(&number).map_or(0, |h| h.time_ms);
    let sightings = rules.judged(&logs.logs, book, time_of);
    let outgoing = rules.outgoing(&logs.logs, book);
    Ok(Again { to, logs, headers, sightings, outgoing })
}

/// Where the two passes differ. What only the second one shows is recorded with it.
async fn compare<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    store: &LeasedStore,
    scan: &ScanRow,
    from: u64,
    again: &Again,
) -> Result<Vec<NewFinding>, WatchError> {
    let listed = |token: &Address| rules.token(token).is_some();
    let recorded: BTreeSet<(B256, u64)> = store
        .recorded_between(rules.id, from, again.to)
        .await?
        .into_iter()
        .filter(|s| listed(&s.token))
        .map(|s| (s.block_hash, s.log_index))
        .collect();
    let shown: BTreeSet<(B256, u64)> = again
        .sightings
        .iter()
        .map(|s| &s.sighting)
        .filter(|s| s.deposit.shape == Shape::Transfer && listed(&s.deposit.token))
        .map(|s| (s.key.block_hash, s.key.log_index))
        .collect();
    let (first, second) = (&scan.provider, source.provider());
    let mut findings = Vec::new();
    for (kind, places) in [
        (FindingKind::LogWasHidden, shown.difference(&recorded)),
        (FindingKind::LogNotShown, recorded.difference(&shown)),
    ] {
        let was_hidden = kind == FindingKind::LogWasHidden;
        for (block_hash, log_index) in places {
            let detail = serde_json::json!({
                "block_hash": block_hash, "log_index": log_index,
                "first_pass": { "provider": first, "shows": !was_hidden },
                "second_pass": { "provider": second, "shows": was_hidden },
            });
            let subject = format!("log {log_index} of block {block_hash}, {second}");
            findings.push(NewFinding { chain: Some(rules.id), kind, subject, detail });
        }
    }
    // Counts compare only where both asked for the same, and all of it is still canonical.
    let whole = again.to == scan.to && scan.valid_to == scan.to;
    let total = scan.recheck_logs.saturating_add(again.logs.seen);
    if whole && scan.filter.as_deref() == Some("tokens") && total != scan.logs_seen {
        let detail = serde_json::json!({
            "from": scan.from, "to": scan.to,
            "first_pass": { "provider": first, "logs": scan.logs_seen },
            "second_pass": { "provider": second, "logs": total },
        });
        let subject = format!("blocks {} to {}, {second}", scan.from, scan.to);
        let kind = FindingKind::LogCountDiffers;
        findings.push(NewFinding { chain: Some(rules.id), kind, subject, detail });
    }
    Ok(findings)
}

pub(super) async fn backfill_step<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    store: &LeasedStore,
    clock: &dyn Clock,
    cache: &mut LookCache,
) -> Result<Looked, WatchError> {
    let (group, end) = together(store.open_backfills(rules.id).await?);
    let Some(first) = group.first() else { return Ok(Looked::Idle) };
    let state = store.chain_state(rules.id, rules.window).await?;
    let (Cursor::At(cursor), Some(floor), None) =
        (state.cursor, state.view.floor(), state.halted.as_ref())
    else {
        return Ok(Looked::Idle);
    };
    let from = first.next;
    if from > cursor.number {
        return Ok(Looked::Idle); // an operator asked for blocks that are not scanned yet
    }
    cache.book = store.book().await?;
    let (filter, book) = wanted(rules, store, &group, &cache.book).await?;
    // Read from two, where there are two: one alone could hide what it holds.
    let wanted = pool.len().min(2);
    let mut failure: Option<WatchError> = None;
    let (mut read_by, mut found, mut last) = (0usize, 0usize, None);
    for source in pool.order(clock.now_ms()) {
        let mut end = end;
        if let Some(to) = last {
            end = to; // the same blocks as the first one
        }
        let read = if from <= floor.number {
            let to = end.min(floor.number).min(cache.end(source, from));
            match read_again(rules, source, floor, (from, to), &filter, &book).await {
                Err(unread) if cache.halves(&unread, from, to) => {
                    return Ok(Looked::Advanced { deposits: found });
                }
                read => read.map_err(|unread| unread.error),
            }
        } else {
            let to = end.min(cursor.number).min(from.saturating_add(BLOCKS_MAX));
            by_hash(rules, source, &state, (from, to), &filter, &book).await
        };
        let again = match in_time(rules, source, clock, read) {
            Ok(again) if last.is_some_and(|to| to != again.to) => continue, // it bears less
            Ok(again) => again,
            Err(error) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
                continue;
            }
        };
        let done = read_by.saturating_add(1) >= wanted;
        let look = SecondLook {
            chain: rules.id,
            progress: if done { Progress::Backfill(&group) } else { Progress::None },
            to: again.to,
            headers: again.headers.into_values().collect(),
            sightings: again.sightings,
            outgoing: again.outgoing,
            logs_seen: again.logs.seen,
            provider: source.provider().to_owned(),
            epochs: rules.epochs.all().len(),
            book_newest: AddressId(0),
            unlisted_per_day: rules.unlisted_per_day,
            findings: Vec::new(),
        };
        let outcome = match taken(source, store.commit_second_look(&look, clock.now_ms()).await) {
            Err(error @ WatchError::Source(_)) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
                continue;
            }
            outcome => outcome?,
        };
        last = Some(look.to);
        read_by = read_by.saturating_add(1);
        let contradicted = matches!(outcome, LookOutcome::Contradicts { .. });
        let seen = Seen { from, to: look.to, paying: paying(&look) };
        match resolve_contradiction(rules, pool, source, store, clock, seen, outcome).await {
            Ok(Looked::Advanced { deposits }) => found = found.saturating_add(deposits),
            Ok(Looked::Idle) => {}
            Err(error @ (WatchError::Moved(_) | WatchError::Source(_))) => {
                penalize(pool, source, &error, clock);
                failure.get_or_insert(error);
                read_by = read_by.saturating_sub(1);
                continue;
            }
            Err(error) => return Err(error),
        }
        if done || contradicted {
            cache.range.grow(rules.range_max);
            return Ok(Looked::Advanced { deposits: found });
        }
    }
    Err(failure.unwrap_or_else(|| nobody(rules).into()))
}

/// The first backfill, and those that can be served by the same requests, up to the block after which
/// one of them ends or another one can go on with them.
fn together(open: Vec<Backfill>) -> (Vec<Backfill>, u64) {
    let Some(first) = open.first().cloned() else { return (Vec::new(), 0) };
    if !first.kind.is_of_addresses() {
        let end = first.to;
        return (vec![first], end);
    }
    let (group, later): (Vec<_>, Vec<_>) =
        open.into_iter().filter(|b| b.kind.is_of_addresses()).partition(|b| b.next == first.next);
    let group: Vec<_> = group.into_iter().take(ADDRESSES_MAX).collect();
    let meet = later.iter().map(|b| b.next.saturating_sub(1)).min();
    let end = group.iter().map(|b| b.to).chain(meet).min().unwrap_or(first.to);
    (group, end)
}

/// What to ask for, and whose transfers to keep: of a few addresses, theirs alone.
async fn wanted(
    rules: &ChainRules,
    store: &LeasedStore,
    group: &[Backfill],
    book: &Arc<AddressBook>,
) -> Result<(LogFilter, Arc<AddressBook>), StoreError> {
    if let Some(BackfillKind::Token(token)) = group.first().map(|b| b.kind) {
        return Ok((LogFilter::Tokens(vec![token]), Arc::clone(book)));
    }
    let everybody = (rules.log_filter(book), Arc::clone(book));
    let mut few = AddressBook::default();
    for backfill in group {
        let known = match backfill.kind {
            BackfillKind::Address(address) => {
                Some(book.get(&address).map(|id| (address, id)).into_iter().collect())
            }
            BackfillKind::Newer { first_id, last_id, .. } => {
                store.addresses_between((first_id, last_id), ADDRESSES_MAX).await?
            }
            BackfillKind::Addresses { .. } | BackfillKind::Token(_) | BackfillKind::Rescan => None,
        };
        let Some(known) = known else { return Ok(everybody) };
        for (address, id) in known {
            few.insert(address, id);
        }
    }
    if few.len() > ADDRESSES_MAX {
        return Ok(everybody);
    }
    Ok((LogFilter::Recipients(few.addresses()), Arc::new(few)))
}

/// Reads blocks of the window, each by its hash.
async fn by_hash<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    state: &ChainState,
    (from, to): (u64, u64),
    filter: &LogFilter,
    book: &Arc<AddressBook>,
) -> Result<Again, WatchError> {
    let blocks: Vec<BlockRef> = (from..=to).filter_map(|number| state.view.at(number)).collect();
    let by_block: Vec<(BlockRef, Vec<_>)> = stream::iter(blocks)
        .map(|block| async move {
            let logs = rules.logs_in_block(source, block, filter).await?;
            // The header is not at hand: an empty bloom filter says nothing.
            let sent = rules.sent_in_block(source, block, &Bloom::ZERO, filter).await?;
            Ok::<_, SourceError>((block, joined(logs, sent)))
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let mut logs = RangeLogs::default();
    let mut headers: BTreeMap<u64, Header> = BTreeMap::new();
    for (block, of_block) in by_block {
        if of_block.iter().any(|log| log.block_hash != block.hash) {
            return Err(invalid_logs(source.provider(), "logs of another block".into()).into());
        }
        logs.seen = logs.seen.saturating_add(u64::try_from(of_block.len()).unwrap_or(u64::MAX));
        if !of_block.is_empty() {
            let header = header_at(source, block.number).await?;
            if header.hash != block.hash {
                return Err(WatchError::Moved(format!("block {} is another one", block.number)));
            }
            headers.insert(block.number, header);
        }
        logs.logs.extend(of_block);
    }
    consistent(source.provider(), &logs.logs)?;
    let time_of = |number: u64| headers.get(&number).map_or(0, |h| h.time_ms);
    let sightings = rules.judged(&logs.logs, book, time_of);
    let outgoing = rules.outgoing(&logs.logs, book);
    let mut paying: BTreeSet<u64> = sightings.iter().map(|s| s.sighting.block_number).collect();
    paying.extend(outgoing.iter().map(|o| o.block_number));
    headers.retain(|number, _| paying.contains(number));
    Ok(Again { to, logs, headers, sightings, outgoing })
}

/// The blocks in which a look shows transfers to us or from us.
fn paying(look: &SecondLook<'_>) -> BTreeSet<B256> {
    let to_us = look.sightings.iter().map(|s| s.sighting.key.block_hash);
    to_us.chain(look.outgoing.iter().map(|o| o.key.block_hash)).collect()
}
