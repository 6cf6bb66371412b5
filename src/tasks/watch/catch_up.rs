//! Far behind the tip, logs are asked for by range: several at once, committed in order and in large
//! batches, while the next answers arrive.
//!
//! Only below anything that the window could see reorganised. Each range is tied to the one before by
//! its first block's parent, and to its provider by its last block, which it must have, and where
//! there are others, one of them too.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{B256, Bloom};
use futures_util::stream;
use futures_util::stream::{StreamExt, TryStreamExt};

use crate::chain::read::RangeLogs;
use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::{ChainDelta, Header};
use crate::domain::chain_rules::{ChainRules, RECIPIENTS_AUTO};
use crate::domain::ids::{BlockRef, Cursor};
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::{AddressBook, RawLog, match_logs};
use crate::planted::{Fault, planted};
use crate::store::ScanOutcome;
use crate::tasks::CONCURRENCY;
use crate::tasks::errors::{WatchError, moved_meanwhile, registered_meanwhile};
use crate::tasks::logs::{consistent, joined};
use crate::tasks::watch::cache::AT_ONCE_MAX;
use crate::tasks::watch::doubts::belong;
use crate::tasks::watch::heard::{Asked, Said};
use crate::tasks::watch::others::shared;
use crate::tasks::watch::step::{Read, Step, Watched};
use crate::tasks::watch::unread::Unread;
use crate::tasks::watch::{count, header_at, parent_of, taken};

/// Ranges that one activation reads in catch-up.
const RANGES: u64 = 32;
/// Sightings that are worth a commit in catch-up.
const COMMIT_MIN: usize = 1_000;

/// A range that was read in catch-up.
struct RangeRead {
    first: Header,
    last: Header,
    logs: RangeLogs,
    /// Headers of the blocks that hold transfers to or from us.
    headers: BTreeMap<u64, Header>,
    /// What others say of its last block.
    others: Asked<Said>,
}

/// The next ranges of so many blocks, up to a height.
fn ranges(from: u64, settled: u64, blocks: u64) -> Vec<(u64, u64)> {
    let mut next = from;
    let mut plan = Vec::new();
    while next <= settled && count(plan.len()) < RANGES {
        let to = next.saturating_add(blocks.saturating_sub(1)).min(settled);
        plan.push((next, to));
        next = to.saturating_add(1);
    }
    plan
}

impl<S: ChainSource> Step<'_, S> {
    /// Reads a range far below the tip, from `from` to at most `settled`.
    pub(in crate::tasks) async fn catch_up(
        &mut self,
        from: u64,
        settled: u64,
    ) -> Result<Watched, WatchError> {
        let source = self.source;
        let first = header_at(source, from).await?;
        if matches!(self.state.cursor, Cursor::At(at) if first.parent_hash != at.hash) {
            return self.follow_fork(from, first).await;
        }
        self.cache.book = self.store.book().await?;
        let filter = self.rules.log_filter(&self.cache.book);
        let range = self.cache.range.blocks.min(source.range_max()).max(1);
        let plan = ranges(from, settled, range);
        let (rules, pool, now) = (self.rules, self.pool, self.clock.now_ms());
        let (book, asked) = (Arc::clone(&self.cache.book), &filter);
        let (book, mute) = (&book, self.cache.company.mute(now));
        let mute = &mute;
        self.cache.doubts.by(&filter);
        let mut answers = stream::iter(plan)
            .map(|(from, to)| async move {
                let last = header_at(source, to).await?;
                let blocks = [last.block()];
                let (read, others) = tokio::join!(
                    read_range(rules, source, from, last, asked, book),
                    shared(pool, now, source.provider(), mute, &blocks),
                );
                Ok(RangeRead { others, ..read? })
            })
            .buffered(self.cache.at_once);
        let mut reading = from;
        let mut before = self.state.cursor;
        let mut linked = match before {
            Cursor::At(at) => Some(at.hash),
            Cursor::Fresh => None,
        };
        let (mut batch, mut ready): (Option<RangeBatch>, Option<RangeBatch>) = (None, None);
        let (mut deposits, mut failure): (usize, Option<Unread>) = (0, None);
        loop {
            let open = failure.is_none();
            let next_answer = async { if open { answers.next().await } else { None } };
            // The next answers arrive while what is there is written.
            let answer = match ready.take() {
                None => next_answer.await,
                Some(full) => {
                    let to = full.to();
                    let commit = self.commit_range(full, before, &filter);
                    let (committed, answer) = tokio::join!(commit, next_answer);
                    deposits = deposits.saturating_add(committed?);
                    self.cache.findings.clear();
                    before = Cursor::At(to);
                    answer
                }
            };
            match answer {
                None => match batch.take() {
                    None => break,
                    last => ready = last,
                },
                Some(Err(error)) => {
                    failure = Some(error);
                }
                Some(Ok(mut read)) => {
                    if linked.is_some_and(|hash| hash != read.first.parent_hash) {
                        let why = format!("block {} has another parent", read.first.number);
                        failure = Some(WatchError::Moved(why).into());
                        continue;
                    }
                    if let Err(error) = self.accept(&mut read, &filter).await {
                        failure = Some(error.into());
                        continue;
                    }
                    linked = Some(read.last.hash);
                    reading = read.last.number.saturating_add(1);
                    let full = batch.get_or_insert_with(RangeBatch::default);
                    full.add(read);
                    if full.logs.len() >= COMMIT_MIN {
                        ready = batch.take();
                    }
                }
            }
        }
        drop(answers);
        let to = match before {
            Cursor::At(to) if before != self.state.cursor => to,
            _ => parent_of(&first),
        };
        let Some(unread) = failure else {
            self.cache.range.grow(self.rules.range_max);
            self.cache.at_once = self.cache.at_once.saturating_add(1).min(AT_ONCE_MAX);
            return Ok(Watched::Advanced { to, orphaned: 0, deposits, more: true });
        };
        let halved = self.cache.range.failed(reading, range, &unread);
        self.cut_short(unread.error, halved, before != self.state.cursor)?;
        Ok(Watched::Advanced { to, orphaned: 0, deposits, more: true })
    }

    /// The cursor itself was reorganised away while we were not looking: adopts the first block of the new
    /// fork, and goes on from there at once.
    async fn follow_fork(&mut self, from: u64, first: Header) -> Result<Watched, WatchError> {
        Ok(match self.follow(from, first).await? {
            Watched::Advanced { to, orphaned, deposits, .. } => {
                Watched::Advanced { to, orphaned, deposits, more: true }
            }
            other => other,
        })
    }

    /// Says what ended the reading, where something was done about it or before it.
    fn cut_short(
        &self,
        error: WatchError,
        halved: bool,
        has_advanced: bool,
    ) -> Result<(), WatchError> {
        if halved {
            tracing::info!(chain.name = self.rules.name, range.blocks = self.cache.range.blocks,
                why = %error, "range halved");
        } else if has_advanced {
            // What was committed stays; the next activation meets the failure again, if it lasts.
            tracing::debug!(chain.name = self.rules.name, error = %error, "cut short");
        } else {
            return Err(error);
        }
        Ok(())
    }

    /// Takes a range that was read: others have its last block, and what its first and last header
    /// expect is there.
    async fn accept(&mut self, read: &mut RangeRead, filter: &LogFilter) -> Result<(), WatchError> {
        let others = std::mem::replace(&mut read.others, Asked::of(Said::Silent));
        let said = self.cache.company.note(others, self.clock.now_ms());
        self.together(said, &[read.last.block()]).await?;
        let ends = [Some(read.first).filter(|f| f.number != read.last.number), Some(read.last)];
        for header in ends.into_iter().flatten() {
            let book = &self.cache.book;
            let missing = !read.logs.logs.iter().any(|log| log.block_number == header.number);
            // Of the transfers of a token, only those to us were kept: another one's may be what
            // the filter expects.
            let ours = match filter {
                LogFilter::Tokens(_) if read.logs.seen > 0 => {
                    let few = book.len() <= RECIPIENTS_AUTO;
                    few && LogFilter::Recipients(book.addresses()).expects_logs(&header.bloom)
                }
                _ => true,
            };
            if !missing || !ours || !filter.expects_logs(&header.bloom) {
                continue;
            }
            let shown = self.doubted(&header, filter).await?;
            if !shown.is_empty() {
                read.logs.seen = read.logs.seen.saturating_add(count(shown.len()));
                read.logs.logs.extend(shown);
                read.headers.insert(header.number, header);
            }
        }
        Ok(())
    }

    /// Commits what was read in catch-up.
    async fn commit_range(
        &self,
        batch: RangeBatch,
        expected: Cursor,
        filter: &LogFilter,
    ) -> Result<usize, WatchError> {
        consistent(self.source.provider(), &batch.logs)?;
        let (from, to) = (batch.from, batch.to());
        let adopted: Vec<Header> = batch.adopted(matches!(expected, Cursor::Fresh));
        let read = Read {
            delta: ChainDelta { orphaned: Vec::new(), adopted },
            method: "by_range",
            from,
            filter: filter.clone(),
            logs_seen: batch.seen,
            logs: batch.logs,
        };
        // Who registers addresses all the time would keep it from going on.
        let change = self.change(&read, expected, to, (&self.cache.book, true))?;
        match taken(self.source, self.store.commit_scan(&change, self.clock.now_ms()).await)? {
            ScanOutcome::Committed { deposits } => Ok(deposits),
            ScanOutcome::StaleCursor => Err(moved_meanwhile()),
            ScanOutcome::StaleBook => Err(registered_meanwhile()),
        }
    }
}

/// Ranges that are committed together.
#[derive(Default)]
struct RangeBatch {
    from: BlockRef,
    first: Option<Header>,
    last: Option<Header>,
    seen: u64,
    logs: Vec<RawLog>,
    headers: BTreeMap<u64, Header>,
}

impl RangeBatch {
    fn add(&mut self, mut read: RangeRead) {
        if self.first.is_none() {
            self.first = Some(read.first);
            self.from = read.first.block();
        }
        self.last = Some(read.last);
        self.seen = self.seen.saturating_add(read.logs.seen);
        self.logs.append(&mut read.logs.logs);
        self.headers.append(&mut read.headers);
    }

    fn to(&self) -> BlockRef {
        self.last.map(|h| h.block()).unwrap_or_default()
    }

    /// The headers that are kept: those of the blocks that pay us, the last one, and, in a chain's
    /// first step, the one it starts with.
    fn adopted(&self, is_start: bool) -> Vec<Header> {
        let mut headers = self.headers.clone();
        let first = self.first.filter(|_| is_start);
        for header in first.into_iter().chain(self.last) {
            headers.insert(header.number, header);
        }
        headers.into_values().collect()
    }
}

/// Reads the logs of a range, after the provider has shown its last block: then it is not behind
/// it. The first block ties the range to the one before, whoever answered that. `later` is a header
/// that is no older than any of its blocks.
pub(in crate::tasks) async fn read_range_of<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    (from, to): (u64, u64),
    filter: &LogFilter,
    book: &Arc<AddressBook>,
    later: &Header,
) -> Result<(RangeLogs, BTreeMap<u64, Header>), Unread> {
    let logs = match rules.logs_in_range(source, (from, to), filter, book).await {
        Ok(logs) => logs,
        // To be asked less often has nothing to do with how much is asked.
        Err(error @ SourceError::RateLimited { .. }) => return Err(error.into()),
        // Even one block is too much, or this question is refused: by its hash, then. Where somebody
        // floods our addresses with worthless transfers, those of the configured tokens.
        Err(error) if to == from && !planted(Fault::UnknownWords) => {
            by_its_hash(rules, source, from, filter)
                .await
                .map_err(|_| Unread { error: error.into(), at_logs: true })?
        }
        Err(error) => return Err(Unread { error: error.into(), at_logs: true }),
    };
    let mut paying: BTreeMap<u64, B256> = match_logs(rules.id, &logs.logs, book)
        .iter()
        .map(|s| (s.block_number, s.key.block_hash))
        .collect();
    let outgoing = rules.outgoing(&logs.logs, book);
    paying.extend(outgoing.iter().map(|o| (o.block_number, o.key.block_hash)));
    let times = &logs.times;
    let headers = stream::iter(paying)
        .map(|(number, hash)| async move {
            // What a log says of its time saves the header, where it can be true.
            match times.get(&number).filter(|time_ms| **time_ms <= later.time_ms) {
                // Who its parent is, nobody asks of a block that lies so deep.
                Some(time_ms) => Ok(Header {
                    number,
                    hash,
                    parent_hash: B256::ZERO,
                    time_ms: *time_ms,
                    bloom: Bloom::ZERO,
                }),
                None => {
                    let header = header_at(source, number).await?;
                    if header.hash == hash {
                        Ok(header)
                    } else {
                        let why = format!("logs and header of block {number} differ");
                        Err(WatchError::Moved(why))
                    }
                }
            }
        })
        .buffered(CONCURRENCY)
        .try_collect::<Vec<Header>>()
        .await?;
    Ok((logs, headers.into_iter().map(|h| (h.number, h)).collect()))
}

async fn by_its_hash<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    number: u64,
    filter: &LogFilter,
) -> Result<RangeLogs, WatchError> {
    let header = header_at(source, number).await?;
    let block = header.block();
    let logs = rules.logs_in_block(source, block, filter).await?;
    let sent = rules.sent_in_block(source, block, &header.bloom, filter).await?;
    let logs = joined(logs, sent);
    belong(source.provider(), block, &logs)?;
    Ok(RangeLogs { seen: count(logs.len()), logs, times: BTreeMap::new() })
}

async fn read_range<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    from: u64,
    last: Header,
    filter: &LogFilter,
    book: &Arc<AddressBook>,
) -> Result<RangeRead, Unread> {
    let to = last.number;
    let first = if from == to { last } else { header_at(source, from).await? };
    let (logs, headers) = read_range_of(rules, source, (from, to), filter, book, &last).await?;
    let differs = |h: &Header| headers.get(&h.number).is_some_and(|other| other.hash != h.hash);
    if differs(&first) || differs(&last) {
        let why = format!("logs and headers from {from} to {to} differ");
        return Err(WatchError::Moved(why).into());
    }
    Ok(RangeRead { first, last, logs, headers, others: Asked::of(Said::Silent) })
}
