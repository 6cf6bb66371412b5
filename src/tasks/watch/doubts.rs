//! Blocks whose bloom filter expects logs that an answer does not have: their receipts settle it.
//!
//! Not a vote: two honest nodes can have one fault. A receipt that is empty of ours explains the
//! filter (one of our addresses sends, or another log sets the same bits); one that is not shows
//! what the answer left out. What nobody's receipts can settle is a finding after a few seconds, is
//! read again after some more, and the second pass is still to come.

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::BlockRef;
use crate::domain::log_filter::{LogFilter, bloom_of};
use crate::domain::transfer::RawLog;
use crate::planted::{Fault, planted};
use crate::tasks::errors::{Wait, WatchError, invalid_logs};
use crate::tasks::logs::consistent;
use crate::tasks::watch::doubted::{AGAIN_MS, KEPT_MAX};
use crate::tasks::watch::step::Step;

/// So long a block waits whose doubt nobody can settle: a node that indexes late has done so then.
const DOUBT_MS: i64 = 3_000;

impl<S: ChainSource> Step<'_, S> {
    /// The logs of a block that is said to have none, though its bloom filter expects some.
    pub(in crate::tasks) async fn doubted(
        &mut self,
        block: &Header,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, WatchError> {
        let name = self.source.provider();
        match self.cache.doubts.settled.get(&block.hash) {
            Some((_, logs)) if logs.is_empty() => return Ok(Vec::new()),
            Some((who, logs)) if who == name => return Ok(logs.clone()),
            _ => {}
        }
        if planted(Fault::VoteOnDoubt) && self.others_say_none(block, filter).await {
            return Ok(Vec::new());
        }
        let now = self.clock.now_ms();
        let mut asked: Vec<&S> = vec![self.source];
        asked.extend(self.pool.others(now, Some(name)));
        for source in asked {
            let logs = match settles(self.rules, source, block, filter).await {
                Ok(Some(logs)) => logs,
                Ok(None) => continue,
                Err(error) if source.provider() == name => {
                    tracing::debug!(error = %error, block.number = block.number,
                        "no receipts for a block whose logs are in doubt");
                    continue;
                }
                Err(error) => {
                    self.pool.record_failure(source, &error, now);
                    continue;
                }
            };
            let who = source.provider().to_owned();
            // What another one's receipts hold, this one hides: whoever shows it is asked next, and
            // so it is known who showed it.
            let hidden = !logs.is_empty() && who != name;
            self.cache.doubts.settled.insert(block.hash, (who.clone(), logs.clone()));
            if hidden {
                let why =
                    format!("no logs of block {}: {who} has receipts with some", block.number);
                return Err(invalid_logs(name, why).into());
            }
            return Ok(logs);
        }
        let since = *self.cache.doubts.open.entry(block.hash).or_insert(now);
        if now.saturating_sub(since) < DOUBT_MS {
            return Err(WatchError::Waits { number: block.number, wait: Wait::Receipts });
        }
        let detail = serde_json::json!({
            "block_number": block.number, "block_hash": block.hash, "provider": name,
            "bloom": "expects logs", "logs": "none", "receipts": "nobody shows any that explain it",
        });
        self.cache.findings.push(NewFinding {
            chain: Some(self.rules.id),
            kind: FindingKind::LogsInDoubt,
            subject: format!("block {} {}", block.number, block.hash),
            detail,
        });
        self.cache.doubts.settled.insert(block.hash, (String::new(), Vec::new()));
        if self.cache.doubts.again.len() < KEPT_MAX {
            let at = now.saturating_add(AGAIN_MS);
            self.cache.doubts.again.insert(block.number, (at, 0));
        }
        Ok(Vec::new())
    }

    /// The fault that the simulator plants: whoever says the same is believed.
    async fn others_say_none(&self, block: &Header, filter: &LogFilter) -> bool {
        for other in self.pool.others(self.clock.now_ms(), Some(self.source.provider())) {
            let logs = self.rules.logs_in_block(other, block.block(), filter).await;
            if logs.is_ok_and(|logs| logs.is_empty()) {
                return true;
            }
        }
        false
    }
}

/// What a provider's receipts of a block hold of what the filter asks for; `None` where it shows no
/// receipts, or some that cannot be all: they do not account for the block's bloom filter.
async fn settles<S: ChainSource>(
    rules: &ChainRules,
    source: &S,
    block: &Header,
    filter: &LogFilter,
) -> Result<Option<Vec<RawLog>>, SourceError> {
    let Some(receipts) = source.receipts_in_block(block.block()).await? else { return Ok(None) };
    let all: Vec<RawLog> = receipts.into_iter().flat_map(|(_, receipt)| receipt.logs).collect();
    belong(source.provider(), block.block(), &all)?;
    let explained = filter.expects_logs(&bloom_of(&all));
    let sent = rules.sent(filter);
    let asked_for =
        |log: &RawLog| filter.passes(log) || sent.as_ref().is_some_and(|sent| sent.passes(log));
    Ok(explained.then(|| all.into_iter().filter(asked_for).collect()))
}

/// Logs that are said to be of one block are, and none stands where another one does.
pub(in crate::tasks) fn belong(
    provider: &str,
    block: BlockRef,
    logs: &[RawLog],
) -> Result<(), SourceError> {
    let other = |log: &&RawLog| (log.block_number, log.block_hash) != (block.number, block.hash);
    if let Some(log) = logs.iter().find(other) {
        let why = format!(
            "logs of block {} {}, which was not asked for",
            log.block_number, log.block_hash
        );
        return Err(invalid_logs(provider, why));
    }
    consistent(provider, logs)
}
