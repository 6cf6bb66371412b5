//! Looking again at a source whose answer was in doubt: how it went on is asked when that is over.
//!
//! It is noted in the commit in which the answer is stored, as one more source that the block needs, so
//! that whoever carries on after a crash asks the same; it is read late ([`crate::tasks::prices::historic`]).

use crate::chain::source::ChainSource;
use crate::domain::ids::ChainId;
use crate::domain::oracle::policy::pair::{Input, PairPolicy};
use crate::domain::oracle::reading::PriceInstant;
use crate::domain::oracle::source::{SourceSpec, read};
use crate::domain::oracle::uniswap_after::{AFTER_MS, AFTER_S};
use crate::store::{Capture, RETRY_MAX_MS};
use crate::tasks::errors::SettleError;
use crate::tasks::prices::market::Prices;
use crate::tasks::prices::request::Ask;

/// Of sources that have answered about a block, those that are looked at again.
pub(in crate::tasks) fn under_way(sources: &[&SourceSpec], known: &[Capture]) -> Vec<SourceSpec> {
    let find = |source: &SourceSpec| {
        let hash = source.hash();
        known.iter().find(|c| c.source_hash == hash)
    };
    let answered = sources.iter().filter(|s| find(s).is_some_and(|c| c.done_at_ms.is_some()));
    answered.filter_map(|s| s.after()).filter(|after| find(after).is_some()).collect()
}

/// What is asked later, where an answer that was just given is in doubt.
pub(in crate::tasks) fn to_look_at(chain: ChainId, ask: &Ask<'_>, now_ms: i64) -> Option<Capture> {
    let after = ask.source.after().filter(|_| ask.done)?;
    let (block, time_ms) = (ask.block.block, ask.block.time_ms);
    let at = PriceInstant { chain, block, time_ms };
    let doubted = |evidence| read(&ask.source, evidence, &at).is_err_and(|r| r.mean.is_some());
    ask.answers.iter().any(|(evidence, _)| doubted(evidence)).then(|| {
        let left_ms = time_ms.saturating_add(AFTER_MS).saturating_sub(now_ms);
        let due_ms = now_ms.saturating_add(left_ms.clamp(0, RETRY_MAX_MS));
        Capture {
            block_hash: block.hash,
            source_hash: after.hash(),
            tries: 1,
            why: Some(format!("it is looked at again {AFTER_S} s after the payment")),
            first_try_at_ms: due_ms,
            next_try_at_ms: due_ms,
            done_at_ms: None,
        }
    })
}

impl<S: ChainSource> Prices<'_, S> {
    /// How sources whose answers are in doubt went on, as far as that is known. What is known for good is
    /// noted: whoever keeps a pool off may have many payments held, which are looked at again and
    /// again, and no provider is asked about them each time.
    pub(in crate::tasks) async fn ask_after(
        &mut self,
        policy: &PairPolicy,
        inputs: &mut [Input],
        at: &PriceInstant,
    ) -> Result<(), SettleError> {
        let captures = self.store.captures(at.chain, at.block.hash).await?;
        let quotes = self.store.quotes_of(at.chain, at.block.hash).await?;
        for (source, input) in policy.sources.iter().zip(inputs) {
            let Input::Doubted(id, doubt, _) = &*input else { continue };
            let (id, doubt) = (*id, doubt.clone());
            let Some(after) = source.after() else { continue };
            let hash = after.hash();
            let capture = captures.iter().find(|c| c.source_hash == hash);
            let is_done = capture.is_some_and(|c| c.done_at_ms.is_some());
            let said = match (capture, capture.and_then(|c| c.why.clone())) {
                // Of a time before anybody looked again.
                (None, _) => Input::Missing("it was not looked at again".into()),
                (Some(_), Some(why)) if is_done => Input::Missing(why),
                (Some(_), _) => self.captured(&after, &captures, &quotes, at).await?,
            };
            *input = Input::Doubted(id, doubt, Box::new(said));
            let why = input.stayed_off(source);
            if let Some(capture) = capture.filter(|_| is_done && why.is_some()) {
                let found = Capture { why, ..capture.clone() };
                self.store.commit_quotes(at.chain, &[], &[found], self.clock.now_ms()).await?;
            }
        }
        Ok(())
    }
}
