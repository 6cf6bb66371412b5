//! A cursor that no provider has any more: a devnet put back to a snapshot, or what an older version
//! was led to. It is noticed, said, and healed.
//!
//! Two providers (or the only one) must say so, and for a while: nodes that have only fallen far
//! behind come back. Then the chain is read again from the highest recorded block that they have,
//! unless something above it was credited: that, a person must decide.

use alloy::primitives::B256;

use crate::chain::pool::Pool;
use crate::chain::source::{ChainSource, SourceError};
use crate::clock::Clock;
use crate::domain::chain::Header;
use crate::domain::chain_rules::ChainRules;
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::{BlockRef, Cursor};
use crate::store::{ChainState, Halt, LeasedStore};
use crate::tasks::errors::WatchError;

/// So long they must say so.
const LOST_MS: i64 = 30_000;

/// Since when nobody has the cursor's block any more.
#[derive(Debug, Default)]
pub(in crate::tasks) struct Since(Option<i64>);

impl Since {
    /// Somebody has it.
    pub(in crate::tasks) fn over(&mut self) {
        self.0 = None;
    }

    /// True when that is so for long enough.
    pub(in crate::tasks) fn long(&mut self, now_ms: i64) -> bool {
        now_ms.saturating_sub(*self.0.get_or_insert(now_ms)) >= LOST_MS
    }
}

/// Those who say in one activation that their chain ends below the cursor and does not lead to it.
pub(in crate::tasks) struct Lost<'a, S> {
    said: Vec<(&'a S, BlockRef)>,
}

impl<S> Default for Lost<'_, S> {
    fn default() -> Self {
        Self { said: Vec::new() }
    }
}

impl<'a, S: ChainSource> Lost<'a, S> {
    /// True when an error says so.
    pub(in crate::tasks) fn hears(
        &mut self,
        source: &'a S,
        error: &WatchError,
        state: &ChainState,
    ) -> bool {
        let tip = match error {
            WatchError::Behind { tip, .. } | WatchError::TooDeep { tip, .. } => *tip,
            _ => return false,
        };
        let below = matches!(state.cursor, Cursor::At(at) if tip.number < at.number);
        if below {
            self.said.push((source, tip));
        }
        below
    }

    /// True when two say so, or the only one.
    pub(in crate::tasks) fn agreed(&self, pool: &Pool<S>) -> bool {
        self.said.len() >= pool.len().min(2)
    }

    /// Goes back to the highest recorded block that they have, or halts the chain.
    pub(in crate::tasks) async fn heal(
        &self,
        rules: &ChainRules,
        store: &LeasedStore,
        clock: &dyn Clock,
        state: &ChainState,
    ) -> Result<(), WatchError> {
        let Cursor::At(cursor) = state.cursor else { return Ok(()) };
        let lowest = self.said.iter().map(|(_, tip)| tip.number).min().unwrap_or_default();
        let known = store.recorded_up_to(rules.id, lowest).await?;
        let back_to = self.highest(&known).await?;
        let tips: Vec<_> = self
            .said
            .iter()
            .map(|(source, tip)| {
                serde_json::json!({ "provider": source.provider(), "tip": tip.number })
            })
            .collect();
        let detail = serde_json::json!({
            "cursor": cursor.number, "cursor_hash": cursor.hash, "providers": tips,
            "both_have": back_to.map(|header| header.number),
        });
        let subject = format!("block {} {}", cursor.number, cursor.hash);
        let (chain, now) = (Some(rules.id), clock.now_ms());
        let found = NewFinding { chain, kind: FindingKind::CursorUnknown, subject, detail };
        store.note(&found, now).await?;
        if let Some(header) = back_to
            && let Some(orphaned) = store.go_back(rules.id, header, now).await?
        {
            tracing::warn!(
                chain.name = rules.name,
                block.number = header.number,
                blocks.orphaned = orphaned,
                "no provider has the block that the chain was followed to: it is read again from here"
            );
            return Ok(());
        }
        if let (Some((source, tip)), Some(floor)) = (self.said.first(), state.view.floor()) {
            let provider = source.provider().to_owned();
            let halt = Halt { floor: floor.number, provider, found: *tip, halted_at_ms: now };
            store.halt(rules.id, &halt).await?;
        }
        Ok(())
    }

    /// The highest of these blocks, oldest first, that all of them have.
    async fn highest(&self, known: &[BlockRef]) -> Result<Option<Header>, SourceError> {
        let (mut low, mut high, mut found) = (0, known.len(), None);
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) / 2);
            let Some(block) = known.get(middle) else { break };
            match self.shared(block.number, block.hash).await? {
                Some(header) => (found, low) = (Some(header), middle.saturating_add(1)),
                None => high = middle,
            }
        }
        Ok(found)
    }

    async fn shared(&self, number: u64, hash: B256) -> Result<Option<Header>, SourceError> {
        let mut shared = None;
        for (source, _) in &self.said {
            shared = source.header_at(number).await?.filter(|header| header.hash == hash);
            if shared.is_none() {
                break;
            }
        }
        Ok(shared)
    }
}
