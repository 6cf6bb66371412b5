//! What was recorded of a deposit, and its correction where witnesses say otherwise: as often as they may
//! be right, and no more.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use alloy::primitives::{Address, B256};

use crate::chain::source::ChainSource;
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::transfer::{RawLog, Sighting, match_logs};
use crate::store::{OpenDeposit, Seen, StoreError};
use crate::tasks::errors::{SettleError, invalid_logs};
use crate::tasks::settle::confirming::Confirming;
use crate::tasks::settle::witness::comparable;

/// What became of a correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tasks) enum Corrected {
    /// It is recorded.
    Yes,
    /// There is nothing to correct.
    Nothing,
    /// It was corrected too often.
    TooOften,
}

/// So often is a deposit changed before it is held: whoever is right, each of them has had its turn.
const REREADS_MAX: i64 = 3;
pub(in crate::tasks) const TOO_OFTEN: &str = "what the providers say of it changes again and again";

impl<S: ChainSource> Confirming<'_, S> {
    /// What is recorded of the transaction of a deposit, in its block.
    pub(in crate::tasks) async fn recorded_of(
        &self,
        place: &OpenDeposit,
    ) -> Result<Vec<Sighting>, StoreError> {
        let place = place.in_block();
        let known =
            self.recorded.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut found = self.store.sightings_of(self.rules.id, [place]).await?;
        Ok(found.remove(&place).unwrap_or_default())
    }

    /// Something was recorded of a block: what is known of it is read again.
    pub(in crate::tasks) fn records(&self, block: B256) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|(in_block, _), _| *in_block != block);
    }

    /// Records what a receipt shows and the filter did not: unlisted tokens, malformed logs.
    pub(in crate::tasks) async fn record_beside(
        &self,
        place: &OpenDeposit,
        tokens: &BTreeSet<Address>,
        transfers: &[Sighting],
        logs: &[RawLog],
        provider: &str,
    ) -> Result<(), SettleError> {
        let all = match_logs(self.rules.id, logs, &self.witnesses.book());
        if all.len() > comparable(tokens, all.clone()).len().max(transfers.len()) {
            self.record(place, logs, provider, false).await?;
        }
        Ok(())
    }

    /// A block has another time than one had said alone, say two, a proof, or its own header. That it
    /// has another height, nothing corrects.
    pub(in crate::tasks) async fn correct_time(
        &self,
        place: &OpenDeposit,
        number: u64,
        time_ms: i64,
    ) -> Result<Corrected, SettleError> {
        if number != place.block.number {
            return Ok(Corrected::Nothing);
        }
        if self.store.rereads(place.id).await? >= REREADS_MAX {
            return Ok(Corrected::TooOften);
        }
        let rules = self.rules;
        let detail = serde_json::json!({
            "block_hash": place.block.hash, "was_ms": place.block_time_ms, "is_ms": time_ms,
            "told_by": place.log_provider,
        });
        let finding = NewFinding {
            chain: Some(rules.id),
            kind: FindingKind::BlockTimeWasWrong,
            subject: format!("block {}", place.block.hash),
            detail,
        };
        let (block, now) = (place.block.hash, self.clock.now_ms());
        if !self.store.commit_block_time(rules.id, block, time_ms, &finding, now).await? {
            return Ok(Corrected::Nothing);
        }
        self.store.count_reread(place.id).await?;
        Ok(Corrected::Yes)
    }

    /// Records what others than was recorded show of a transaction, but not again and again: where
    /// providers contradict each other in turns, that would never end.
    pub(in crate::tasks) async fn corrected(
        &self,
        place: &OpenDeposit,
        logs: &[RawLog],
        provider: &str,
        overrules: bool,
    ) -> Result<Corrected, SettleError> {
        if self.store.rereads(place.id).await? >= REREADS_MAX {
            return Ok(Corrected::TooOften);
        }
        if Box::pin(self.record(place, logs, provider, overrules)).await? == 0 {
            return Ok(Corrected::Nothing);
        }
        self.store.count_reread(place.id).await?;
        Ok(Corrected::Yes)
    }

    /// Records what logs of the block that a deposit stands in show. Returns how many deposits are
    /// new or changed.
    async fn record(
        &self,
        place: &OpenDeposit,
        logs: &[RawLog],
        provider: &str,
        overrules: bool,
    ) -> Result<usize, SettleError> {
        let rules = self.rules;
        let book = self.store.book().await?;
        let judged = rules.judged(logs, &book, |_| place.block_time_ms);
        let outgoing = &rules.outgoing(logs, &book);
        let unlisted_per_day = rules.unlisted_per_day;
        let seen = Seen {
            sightings: &judged,
            outgoing,
            provider,
            overrules,
            unlisted_per_day,
            findings: &[],
        };
        let (block, epochs) = (place.block.hash, rules.epochs.all().len());
        let now = self.clock.now_ms();
        self.records(block);
        match self.store.commit_reread(rules.id, block, seen, epochs, now).await {
            Err(StoreError::Impossible(why)) => {
                let error = invalid_logs(provider, why);
                if let Some(source) = self.pool.all().find(|s| s.provider() == provider) {
                    self.pool.record_failure(source, &error, now);
                }
                Err(error.into())
            }
            done => Ok(done?),
        }
    }
}
