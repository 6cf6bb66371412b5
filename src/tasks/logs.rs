//! Logs as the tasks ask for them, and what must be true of an answer before it is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::{B256, Bloom};

use crate::chain::read::RangeLogs;
use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::LogFilter;
use crate::domain::pricing::judge;
use crate::domain::transfer::{AddressBook, RawLog, match_logs};
use crate::store::SightingToStore;
use crate::tasks::errors::invalid_logs;

impl ChainRules {
    /// The logs of one block. Where worthless transfers to our addresses make it too large to
    /// answer, those of the configured tokens.
    pub(super) async fn logs_in_block<S: ChainSource>(
        &self,
        source: &S,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        match source.logs_in_block(block, filter).await {
            Err(SourceError::RangeTooLarge { .. })
                if matches!(filter, LogFilter::Recipients(_)) =>
            {
                source.logs_in_block(block, &self.tokens_filter()).await
            }
            answer => answer,
        }
    }

    /// What leaves the addresses that are asked about in one block. Not asked where the block's bloom
    /// filter says that nothing does: one request a block is enough then.
    pub(super) async fn sent_in_block<S: ChainSource>(
        &self,
        source: &S,
        block: BlockRef,
        bloom: &Bloom,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        match self.sent(filter).filter(|sent| sent.allows_logs(bloom)) {
            Some(sent) => self.logs_in_block(source, block, &sent).await,
            None => Ok(Vec::new()),
        }
    }

    /// The logs of a range, to and from the addresses that are asked about. Where worthless transfers
    /// make even one block too large to answer, those of the configured tokens.
    pub(super) async fn logs_in_range<S: ChainSource>(
        &self,
        source: &S,
        (from, to): (u64, u64),
        filter: &LogFilter,
        book: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let Some(sent) = self.sent(filter) else {
            return source.logs_in_range(from, to, filter, book).await;
        };
        let received = source.logs_in_range(from, to, filter, book);
        let sent = source.logs_in_range(from, to, &sent, book);
        match tokio::try_join!(received, sent) {
            Err(SourceError::RangeTooLarge { .. }) if to == from => {
                source.logs_in_range(from, to, &self.tokens_filter(), book).await
            }
            Err(error) => Err(error),
            Ok((received, sent)) => {
                let before = received.logs.len();
                let logs = joined(received.logs, sent.logs);
                let more = u64::try_from(logs.len().saturating_sub(before)).unwrap_or(u64::MAX);
                let mut times = received.times;
                times.extend(sent.times);
                Ok(RangeLogs { seen: received.seen.saturating_add(more), logs, times })
            }
        }
    }

    /// Blocks of one answer, by height, follow each other in time, and none is of the future: a time in
    /// milliseconds where seconds belong would choose another epoch.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] for times that cannot be.
    pub(super) fn possible_times<'h>(
        &self,
        provider: &str,
        headers: impl IntoIterator<Item = &'h Header>,
        now_ms: i64,
    ) -> Result<(), SourceError> {
        let latest_ms = now_ms.saturating_add(self.time_ahead_max_ms);
        let mut before_ms = i64::MIN;
        for header in headers {
            let why = if header.time_ms > latest_ms {
                "too far ahead of our clock"
            } else if header.time_ms < before_ms {
                "before the time of a block below it"
            } else {
                before_ms = header.time_ms;
                continue;
            };
            return Err(SourceError::Invalid {
                provider: provider.to_owned(),
                method: "eth_getBlockByNumber",
                why: format!(
                    "the time of block {}, {} ms, is {why}",
                    header.number, header.time_ms
                ),
            });
        }
        Ok(())
    }

    /// The sightings among logs, each judged at its block's time.
    pub(super) fn judged(
        &self,
        logs: &[RawLog],
        book: &AddressBook,
        time_of: impl Fn(u64) -> i64,
    ) -> Vec<SightingToStore> {
        match_logs(self.id, logs, book)
            .into_iter()
            .map(|sighting| {
                let token = self.token(&sighting.deposit.token);
                let time_ms = time_of(sighting.block_number);
                let verdict = judge(&sighting, token, &self.epochs, time_ms);
                SightingToStore { sighting, verdict }
            })
            .collect()
    }
}

/// What arrived and what left, in the order of the chain; what did both, once.
pub(super) fn joined(mut received: Vec<RawLog>, mut sent: Vec<RawLog>) -> Vec<RawLog> {
    let known: BTreeSet<(B256, u64)> =
        received.iter().map(|log| (log.block_hash, log.log_index)).collect();
    // Another log at the same place stays: such an answer contradicts itself.
    sent.retain(|log| !known.contains(&(log.block_hash, log.log_index)) || !received.contains(log));
    received.append(&mut sent);
    received.sort_by_key(|log| (log.block_number, log.log_index));
    received
}

/// No place may hold two logs, and no height two blocks: otherwise `n` would count what is not
/// there.
///
/// # Errors
/// [`SourceError::Invalid`] for logs that contradict each other.
pub(crate) fn consistent(provider: &str, logs: &[RawLog]) -> Result<(), SourceError> {
    let mut places: BTreeSet<(B256, u64)> = BTreeSet::new();
    let mut blocks: BTreeMap<u64, B256> = BTreeMap::new();
    for log in logs {
        if !places.insert((log.block_hash, log.log_index)) {
            let why = format!("log {} of block {} twice", log.log_index, log.block_hash);
            return Err(invalid_logs(provider, why));
        }
        if *blocks.entry(log.block_number).or_insert(log.block_hash) != log.block_hash {
            return Err(invalid_logs(provider, format!("two blocks at {}", log.block_number)));
        }
    }
    Ok(())
}
