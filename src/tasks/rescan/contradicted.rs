//! What follows from a look at old blocks: they are as recorded, or another one is in their place.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use crate::chain::pool::Pool;
use crate::chain::source::ChainSource;
use crate::clock::Clock;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::store::{LeasedStore, LookOutcome, StoreError};
use crate::tasks::errors::{WatchError, invalid_logs};
use crate::tasks::rescan::outcome::Looked;
use crate::tasks::watch::taken;

/// What a look that was committed has seen.
pub(in crate::tasks) struct Seen {
    /// The first block.
    pub(in crate::tasks) from: u64,
    /// The last one.
    pub(in crate::tasks) to: u64,
    /// Those that hold transfers to us or from us.
    pub(in crate::tasks) paying: BTreeSet<B256>,
}

impl Seen {
    /// Findings about these blocks that are no more: another provider has one as it is recorded, or
    /// shows what the bloom filter of one expects.
    async fn close(
        &self,
        rules: &ChainRules,
        store: &LeasedStore,
        clock: &dyn Clock,
    ) -> Result<(), StoreError> {
        for kind in [FindingKind::BlockContradicted, FindingKind::LogsInDoubt] {
            for subject in store.standing_findings(Some(rules.id), kind).await? {
                let mut words = subject.split(' ').skip(1);
                let number = words.next().and_then(|n| n.parse::<u64>().ok());
                let hash = words.next().and_then(|h| h.parse::<B256>().ok());
                let settled = match kind {
                    FindingKind::LogsInDoubt => hash.is_some_and(|h| self.paying.contains(&h)),
                    _ => number.is_some_and(|n| (self.from..=self.to).contains(&n)),
                };
                if settled {
                    let gone = Gone { chain: Some(rules.id), kind, subject };
                    store.gone(&gone, clock.now_ms()).await?;
                }
            }
        }
        Ok(())
    }
}

/// What follows from a look. Where another block is recorded than everybody has, it is replaced when
/// two say so; until then nothing above it is looked at.
pub(in crate::tasks) async fn resolve_contradiction<S: ChainSource>(
    rules: &ChainRules,
    pool: &Pool<S>,
    source: &S,
    store: &LeasedStore,
    clock: &dyn Clock,
    seen: Seen,
    outcome: LookOutcome,
) -> Result<Looked, WatchError> {
    let kind = FindingKind::BlockContradicted;
    let (recorded, shown) = match outcome {
        LookOutcome::Committed { deposits } => {
            seen.close(rules, store, clock).await?;
            return Ok(Looked::Advanced { deposits });
        }
        LookOutcome::Stale => return Ok(Looked::Advanced { deposits: 0 }),
        LookOutcome::Contradicts { recorded, shown } => (recorded, shown),
    };
    let mut answers: BTreeMap<String, Option<B256>> = BTreeMap::new();
    for source in pool.order(clock.now_ms()) {
        match source.header_at(shown.number).await {
            Ok(header) => {
                answers.insert(source.provider().to_owned(), header.map(|h| h.hash));
            }
            Err(error) => pool.record_failure(source, &error, clock.now_ms()),
        }
    }
    if answers.get(source.provider()).is_some_and(|hash| *hash != Some(shown.hash)) {
        let why = format!("block {} is at {}, and is not", shown.hash, shown.number);
        return Err(invalid_logs(source.provider(), why).into());
    }
    let detail = serde_json::json!({
        "recorded": { "block_number": recorded.number, "block_hash": recorded.hash },
        "shown": { "block_number": shown.number, "block_hash": shown.hash },
        "answers": answers,
    });
    let subject = format!("block {} {}", recorded.number, recorded.hash);
    let finding = NewFinding { chain: Some(rules.id), kind, subject, detail };
    let agree = answers.values().filter(|hash| **hash == Some(shown.hash)).count();
    if agree < pool.len().min(2) {
        store.note(&finding, clock.now_ms()).await?;
        return Err(WatchError::Moved(format!("block {} is not as recorded", shown.number)));
    }
    let now = clock.now_ms();
    taken(source, store.commit_replaced(rules.id, recorded, &shown, &finding, now).await)?;
    Ok(Looked::Advanced { deposits: 0 })
}
