//! Receipts that are proved by their block's hash, and what follows where nobody can prove them.
//!
//! A proof needs no second word: whoever gives one, it is the proof. That there is none, is a word like
//! any other: one provider alone may not have the payment checked in another way.

use std::collections::BTreeSet;

use alloy::primitives::Address;

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::deposit::HoldReason;
use crate::domain::transfer::Sighting;
use crate::tasks::errors::SettleError;
use crate::tasks::settle::confirming::{Confirming, Group};
use crate::tasks::settle::correct::{Corrected, TOO_OFTEN};
use crate::tasks::settle::verdict::{CannotProve, OTHER_BLOCK, Verdict, answers};
use crate::tasks::settle::witness::Testimony;

impl<S: ChainSource> Confirming<'_, S> {
    /// Receipts that hash to the block's hash, from whoever has them.
    pub(in crate::tasks) async fn by_proof(
        &self,
        group: &Group,
        tokens: &BTreeSet<Address>,
        recorded: &[Sighting],
    ) -> Result<Verdict, SettleError> {
        let Some(place) = group.first() else { return Ok(Verdict::NotYet) };
        let shower = place.log_provider.as_deref();
        let now = self.clock.now_ms();
        let mut failure: Option<SourceError> = None;
        let (mut unproved, mut others_said, mut proved_without) = (Vec::new(), Vec::new(), 0u32);
        let others = self.pool.others(now, shower);
        let own = self.pool.order(now).into_iter().filter(|s| Some(s.provider()) == shower);
        for source in others.into_iter().chain(own) {
            let (testimony, proof) = match self.witnesses.proved(source, place, tokens).await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                // No fault of the provider's, as far as anybody can tell.
                Err(SettleError::Source(SourceError::Unproved { provider, why })) => {
                    unproved.push(serde_json::json!({
                        "provider": provider, "asked": "block", "answer": why,
                    }));
                    continue;
                }
                Err(SettleError::Source(error)) => {
                    self.pool.record_failure(source, &error, now);
                    others_said.push(serde_json::json!({
                        "provider": source.provider(), "asked": "block",
                        "answer": error.to_string(),
                    }));
                    failure.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let name = source.provider();
            let answers = answers(recorded, shower, &[(name, testimony.clone())], None);
            let hold = |why| {
                let reason = HoldReason::ReceiptMismatch;
                Ok(Verdict::Hold { reason, why, answers: answers.clone() })
            };
            match testimony {
                Testimony::NotThere => {
                    proved_without = proved_without.saturating_add(1);
                    others_said.push(serde_json::json!({
                        "provider": name, "asked": "block", "answer": testimony.json(),
                    }));
                }
                Testimony::Failed => return hold("the transaction failed"),
                Testimony::OtherBlock { number, time_ms } => {
                    return match self.correct_time(place, number, time_ms).await? {
                        Corrected::Yes => Ok(Verdict::ReadAnew),
                        Corrected::TooOften => hold(TOO_OFTEN),
                        Corrected::Nothing => hold(OTHER_BLOCK),
                    };
                }
                Testimony::Shows { transfers, logs } => {
                    if transfers != recorded {
                        match self.corrected(place, &logs, name, true).await? {
                            Corrected::Yes => return Ok(Verdict::ReadAnew),
                            Corrected::TooOften => return hold(TOO_OFTEN),
                            Corrected::Nothing => {}
                        }
                    }
                    self.record_beside(place, tokens, &transfers, &logs, name).await?;
                    let mut verdict = self.confirmed(group, name, &transfers, answers).await?;
                    if let Verdict::Confirmed { proof: kept, .. } = &mut verdict {
                        *kept = proof;
                    }
                    return Ok(verdict);
                }
            }
        }
        let (shown_by, needed) = (unproved.len(), self.pool.len().min(2));
        match failure {
            // Two prove the block without it: that somebody else cannot prove the block says nothing against that.
            failure if shown_by > 0 && proved_without < 2 => {
                unproved.append(&mut others_said);
                let proved_without = proved_without > 0;
                let cannot = CannotProve { shown_by, needed, proved_without, failure };
                Ok(Verdict::Unproved { cannot, answers: unproved.into() })
            }
            Some(error) => Err(error.into()),
            None => {
                let answers = answers(recorded, shower, &[], None);
                Ok(Verdict::Missing { certain: proved_without > 1, answers })
            }
        }
    }
}
