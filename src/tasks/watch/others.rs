//! Nobody's word alone: how far other providers have the blocks that one of them shows.
//!
//! Where a chain has two providers or more, its cursor goes no further than two of them have. When
//! no other one answers, the chain is followed alone for half of the window, so that payers see
//! their payment arrive; all of that can still be taken back.

use std::collections::BTreeSet;

use crate::chain::pool::{Aside, Pool};
use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain_rules::Start;
use crate::domain::finding::{FindingKind, Gone, NewFinding};
use crate::domain::ids::{BlockRef, Cursor};
use crate::planted::{Fault, planted};
use crate::tasks::errors::{Wait, WatchError};
use crate::tasks::watch::heard::{Asked, Said};
use crate::tasks::watch::step::Step;

/// So long nobody else answered before a chain is followed alone.
const ALONE_AFTER_MS: i64 = 3_000;
/// Who shows blocks that nobody else has, for so long, is set aside.
const ASIDE_AFTER_MS: i64 = 10_000;
/// What is found about a chain that is followed alone.
const NEWEST: &str = "the newest blocks";

/// Asks others, one after the other, how many of these blocks they have, each the child of the one
/// before. The first who has all of them is enough.
pub(in crate::tasks) async fn shared<S: ChainSource>(
    pool: &Pool<S>,
    now_ms: i64,
    me: &str,
    mute: &BTreeSet<String>,
    blocks: &[BlockRef],
) -> Asked<Said> {
    let mut asked = Asked::of(Said::Has(blocks.len()));
    let Some(last) = blocks.last().filter(|_| pool.len() > 1 && !planted(Fault::CursorAlone))
    else {
        return asked;
    };
    let mut lacking = Vec::new();
    for other in pool.others(now_ms, Some(me)) {
        if mute.contains(other.provider()) {
            continue;
        }
        match asked.heard(pool, other, now_ms, has(other, last).await) {
            Some(true) => return asked,
            Some(false) => lacking.push(other),
            None => {}
        }
    }
    let mut most = 0;
    for other in &lacking {
        // Who has a block has those below it.
        let (mut low, mut high) = (0, blocks.len().saturating_sub(1));
        while low < high {
            let middle = low.saturating_add(high.saturating_sub(low) / 2);
            let Some(block) = blocks.get(middle) else { break };
            match asked.heard(pool, *other, now_ms, has(*other, block).await) {
                Some(true) => low = middle.saturating_add(1),
                Some(false) => high = middle,
                None => break,
            }
        }
        most = most.max(low);
    }
    asked.said = match most {
        0 if lacking.is_empty() => Said::Silent,
        0 => Said::Lacks,
        most => Said::Has(most),
    };
    asked
}

/// The height that another one has, of those that answer; `None` when nobody does. The first one
/// that is about as far is enough.
pub(in crate::tasks) async fn others_height<S: ChainSource>(
    pool: &Pool<S>,
    now_ms: i64,
    me: &str,
    mute: &BTreeSet<String>,
    enough: u64,
) -> Asked<Option<u64>> {
    let mut asked = Asked::of(None);
    for other in pool.others(now_ms, Some(me)) {
        if mute.contains(other.provider()) || asked.said.is_some_and(|height| height >= enough) {
            continue;
        }
        let tip = other.latest().await;
        if let Some(tip) = asked.heard(pool, other, now_ms, tip) {
            asked.said = asked.said.max(Some(tip.number));
        }
    }
    asked
}

/// True when a provider has this very block on the chain that it follows.
async fn has<S: ChainSource>(source: &S, block: &BlockRef) -> Result<bool, SourceError> {
    Ok(source.header_at(block.number).await?.is_some_and(|header| header.hash == block.hash))
}

impl<S: ChainSource> Step<'_, S> {
    /// How many of these blocks may be adopted, by what others say of them: at least one.
    pub(in crate::tasks) async fn together(
        &mut self,
        said: Said,
        blocks: &[BlockRef],
    ) -> Result<usize, WatchError> {
        let (now, name) = (self.clock.now_ms(), self.source.provider());
        let first = blocks.first().copied().unwrap_or_default();
        let company = &mut self.cache.company;
        if said != Said::Silent {
            company.silent_since = None;
        }
        match said {
            Said::Has(n) => {
                company.two_had =
                    n.checked_sub(1).and_then(|last| blocks.get(last)).map(|block| block.number);
                company.ahead_since.remove(name);
                if !std::mem::replace(&mut company.agreed, true) && self.pool.len() > 1 {
                    let (chain, subject) = (Some(self.rules.id), NEWEST.to_owned());
                    let gone = Gone { chain, kind: FindingKind::FollowedAlone, subject };
                    self.store.gone(&gone, now).await?;
                }
                Ok(n)
            }
            Said::Lacks => {
                let since = *company.ahead_since.entry(name.to_owned()).or_insert(now);
                if now.saturating_sub(since) >= ASIDE_AFTER_MS {
                    self.pool.set_aside(self.source, Some(Aside::Ahead { at: first.number }));
                }
                Err(WatchError::Waits { number: first.number, wait: Wait::Others })
            }
            Said::Silent => {
                let since = *company.silent_since.get_or_insert(now);
                let long = now.saturating_sub(since) >= ALONE_AFTER_MS;
                // From where it was followed alone before a restart, whatever came since.
                let mut before = company.two_had;
                if before.is_none() {
                    let (chain, kind) = (Some(self.rules.id), FindingKind::FollowedAlone);
                    let found = self.store.standing_finding(chain, kind, NEWEST).await?;
                    before = found.and_then(|f| f.detail.get("after_block")?.as_u64());
                }
                let base = match (before, self.state.cursor, self.rules.start) {
                    (Some(number), ..) => Some(number),
                    (None, Cursor::At(at), _) => Some(at.number),
                    (None, Cursor::Fresh, Start::Block(number)) => Some(number),
                    // Where a chain begins, one alone does not decide.
                    (None, Cursor::Fresh, Start::Tip) => None,
                };
                company.two_had = base;
                let last = base.map(|base| base.saturating_add(self.rules.window / 2));
                let alone = blocks.iter().take_while(|b| last.is_some_and(|last| b.number <= last));
                let waits = WatchError::Waits { number: first.number, wait: Wait::Silence };
                match alone.count() {
                    n if n > 0 && long => {
                        self.cache.company.agreed = false;
                        let found = self.found_alone(base.unwrap_or_default());
                        if !self.cache.findings.contains(&found) {
                            self.cache.findings.push(found);
                        }
                        Ok(n)
                    }
                    _ => Err(waits),
                }
            }
        }
    }

    /// What the next commit says of a chain that one alone is followed on.
    fn found_alone(&self, after: u64) -> NewFinding {
        let detail = serde_json::json!({
            "provider": self.source.provider(), "after_block": after,
            "up_to_block": after.saturating_add(self.rules.window / 2),
        });
        let (chain, subject) = (Some(self.rules.id), NEWEST.to_owned());
        NewFinding { chain, kind: FindingKind::FollowedAlone, subject, detail }
    }
}
