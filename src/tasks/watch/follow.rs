//! Near the tip: blocks are taken one by one, and their logs asked for by hash.
//!
//! What cannot be read, cannot be settled, or is had by nobody else, ends a step; the blocks before
//! it are committed all the same.

use futures_util::stream;
use futures_util::stream::StreamExt;

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::transfer::RawLog;
use crate::planted::{Fault, planted};
use crate::tasks::CONCURRENCY;
use crate::tasks::errors::WatchError;
use crate::tasks::logs::joined;
use crate::tasks::watch::doubts::belong;
use crate::tasks::watch::others::shared;
use crate::tasks::watch::step::{Read, Step, Watched};
use crate::tasks::watch::{count, header_at};

/// Blocks taken one by one in a step, and so in a commit.
const HEAD_BATCH: u64 = 64;

impl<S: ChainSource> Step<'_, S> {
    /// Takes blocks one by one, from `next` towards the tip.
    pub(in crate::tasks) async fn follow(
        &mut self,
        next: u64,
        tip: Header,
    ) -> Result<Watched, WatchError> {
        let target = next.saturating_add(HEAD_BATCH.saturating_sub(1)).min(tip.number);
        let (mut headers, unread) = self.headers_between(next, target, &tip).await;
        match (headers.is_empty(), unread) {
            (true, Some(error)) => return Err(error),
            // A tip at or below the cursor: a fork, or a source that lags.
            (true, None) => headers.push(tip),
            (false, _) => {}
        }
        let mut delta = self.place(headers).await?;
        let Some(from) = delta.adopted.first().map(Header::block) else {
            return Ok(Watched::Idle);
        };

        self.cache.book = self.store.book().await?;
        let filter = self.rules.log_filter(&self.cache.book);
        self.cache.doubts.by(&filter);
        let (rules, source, pool, now) = (self.rules, self.source, self.pool, self.clock.now_ms());
        let blocks: Vec<BlockRef> = delta.adopted.iter().map(Header::block).collect();
        let mute = self.cache.company.mute(now);
        let ((mut by_block, mut unread), asked) = tokio::join!(
            read_logs(rules, source, &delta.adopted, &filter),
            shared(pool, now, source.provider(), &mute, &blocks),
        );
        let said = self.cache.company.note(asked, now);
        // Whoever cannot read even the first block is not waited for.
        if by_block.is_empty()
            && let Some(error) = unread
        {
            return Err(error.into());
        }
        by_block.truncate(self.together(said, &blocks).await?);
        for (n, header) in delta.adopted.iter().enumerate() {
            // What leaves our addresses explains nothing: a payment beside it may be hidden.
            let Some((received, _)) = by_block.get_mut(n) else { break };
            if !received.is_empty() || !filter.expects_logs(&header.bloom) {
                continue;
            }
            match self.doubted(header, &filter).await {
                Ok(shown) => *received = shown,
                Err(error) if n == 0 => return Err(error),
                Err(_) => {
                    // It is met again, first in the next step.
                    by_block.truncate(n);
                    unread = None;
                }
            }
        }
        if let Some(error) = unread {
            tracing::debug!(chain.name = rules.name, error = %error, "cut short");
        }
        delta.adopted.truncate(by_block.len());
        let Some(to) = delta.adopted.last().map(Header::block) else { return Ok(Watched::Idle) };
        let logs: Vec<RawLog> =
            by_block.into_iter().flat_map(|(received, sent)| joined(received, sent)).collect();
        let (orphaned, adopted) = (delta.orphaned.len(), delta.adopted.clone());
        let logs_seen = count(logs.len());
        let read = Read { delta, method: "by_hash", from, filter, logs_seen, logs };
        let deposits = self.commit(read).await?;
        self.cache.doubts.forget(&adopted);
        if orphaned > 0 {
            tracing::info!(chain.name = rules.name, blocks.orphaned = orphaned,
                block.number = to.number, block.hash = %to.hash, "reorg");
        }
        Ok(Watched::Advanced { to, orphaned, deposits, more: to.number < tip.number })
    }

    /// The canonical headers from `from` to `to`, asked for by height, up to one that cannot be
    /// read; the tip is known already.
    async fn headers_between(
        &self,
        from: u64,
        to: u64,
        tip: &Header,
    ) -> (Vec<Header>, Option<WatchError>) {
        let end = to.saturating_add(1).min(tip.number); // exclusive
        let source = self.source;
        let answers =
            stream::iter(from..end).map(|number| header_at(source, number)).buffered(CONCURRENCY);
        let (mut headers, unread) = until_failure(answers).await;
        if unread.is_none() && from <= tip.number && to == tip.number {
            headers.push(*tip);
        }
        (headers, unread)
    }
}

/// The logs of blocks, to our addresses and from them, up to one that cannot be read.
async fn read_logs<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    headers: &[Header],
    filter: &LogFilter,
) -> (Vec<(Vec<RawLog>, Vec<RawLog>)>, Option<SourceError>) {
    let answers = stream::iter(headers.to_vec())
        .map(|header| async move {
            let block = header.block();
            let mut logs = rules.logs_in_block(source, block, filter).await?;
            if planted(Fault::LostLog) {
                logs.pop();
            }
            let sent = rules.sent_in_block(source, block, &header.bloom, filter).await?;
            belong(source.provider(), block, &joined(logs.clone(), sent.clone()))?;
            Ok((logs, sent))
        })
        .buffered(CONCURRENCY);
    until_failure(answers).await
}

async fn until_failure<T, E>(
    answers: impl futures_util::Stream<Item = Result<T, E>>,
) -> (Vec<T>, Option<E>) {
    let mut answers = std::pin::pin!(answers);
    let mut read = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => read.push(answer),
            Err(error) => return (read, Some(error)),
        }
    }
    (read, None)
}
