//! What the witnesses say of a transaction, and what follows: two who say the same are believed, one
//! against one is not. Where two say otherwise than was recorded, what was recorded is corrected;
//! nothing here confirms or credits.

use std::collections::BTreeSet;

use alloy::primitives::Address;

use crate::chain::source::{ChainSource, SourceError};
use crate::domain::chain::Header;
use crate::domain::deposit::HoldReason;
use crate::domain::finality::{Finality, Verify};
use crate::domain::ids::BlockRef;
use crate::domain::transfer::{Sighting, match_logs};
use crate::planted::{Fault, planted};
use crate::store::{OpenDeposit, StoreError};
use crate::tasks::errors::{SettleError, invalid_logs, nobody};
use crate::tasks::logs::consistent;
use crate::tasks::settle::confirming::{Confirming, Group};
use crate::tasks::settle::correct::{Corrected, TOO_OFTEN};
use crate::tasks::settle::verdict::{Judged, OTHER_BLOCK, Verdict, answers, shows};
use crate::tasks::settle::witness::{Testimony, comparable};

/// Another provider that has the block as deep, by its name, and its header.
type Other<'a> = Option<(&'a str, Header)>;

impl<S: ChainSource> Confirming<'_, S> {
    /// Checks deposits of one transaction in the way that is configured, and in the other one that may
    /// be, where their block cannot be proved. What two people released without a proof is checked by
    /// itself, in the way that remains.
    pub(in crate::tasks) async fn judge(
        &self,
        group: Group,
        finality: Finality,
    ) -> Result<Vec<Judged>, SettleError> {
        let mode = self.rules.verify;
        let verdict = self.judge_by(mode, &group, finality).await?;
        let Verdict::Unproved { cannot, .. } = &verdict else {
            return Ok(vec![Judged { group, mode, verdict }]);
        };
        let (again, rest, mode_again) = match self.rules.fallback {
            Some(other) if cannot.is_beyond_doubt() => (group, Vec::new(), other),
            _ => {
                let released = self.store.released_unproved(group.iter().map(|d| d.id)).await?;
                let (released, rest) =
                    group.into_iter().partition(|d: &OpenDeposit| released.contains(&d.id));
                let several = self.pool.len() > 1;
                let other = if several { Verify::SecondProvider } else { Verify::SameProvider };
                (released, rest, other)
            }
        };
        let mut judged = Vec::new();
        if !again.is_empty() {
            let verdict = self.judge_by(mode_again, &again, finality).await?;
            judged.push(Judged { group: again, mode: mode_again, verdict });
        }
        if !rest.is_empty() {
            judged.push(Judged { group: rest, mode, verdict });
        }
        Ok(judged)
    }

    async fn judge_by(
        &self,
        mode: Verify,
        group: &Group,
        finality: Finality,
    ) -> Result<Verdict, SettleError> {
        let Some(place) = group.first() else { return Ok(Verdict::NotYet) };
        // What every filter shows: well-formed transfers of the tokens configured, and of those
        // that these deposits came in.
        let mut tokens: BTreeSet<Address> = self.rules.tokens.iter().map(|t| t.address).collect();
        tokens.extend(group.iter().map(|d| d.key.token));
        // How deep a block is, one provider's word does not decide where there are two. Where each
        // witness is asked for it anyway, not here.
        if mode != Verify::SecondProvider && !self.stands_for_two(place.block, finality).await? {
            return Ok(Verdict::NotYet);
        }
        if mode == Verify::SameProvider {
            return self.by_anyone(group, &tokens).await;
        }
        let recorded = self.recorded(place, &tokens).await?;
        if mode == Verify::ReceiptsRoot {
            self.by_proof(group, &tokens, &recorded).await
        } else {
            self.by_others(group, finality, &tokens, &recorded).await
        }
    }

    /// The transfers recorded of a transaction.
    async fn recorded(
        &self,
        place: &OpenDeposit,
        tokens: &BTreeSet<Address>,
    ) -> Result<Vec<Sighting>, StoreError> {
        Ok(comparable(tokens, self.recorded_of(place).await?))
    }

    /// The receipt of another provider than the one that showed the log; where it says something
    /// else, those of all.
    async fn by_others(
        &self,
        group: &Group,
        finality: Finality,
        tokens: &BTreeSet<Address>,
        recorded: &[Sighting],
    ) -> Result<Verdict, SettleError> {
        let Some(place) = group.first() else { return Ok(Verdict::NotYet) };
        let shower = place.log_provider.as_deref();
        let now = self.clock.now_ms();
        let mut order = self.pool.others(now, shower);
        if planted(Fault::OwnWitness) {
            order = self.pool.order(now);
        }
        // Last of all the one that showed the log: two who say the same overrule its logs.
        order.extend(self.pool.order(now).into_iter().filter(|s| Some(s.provider()) == shower));
        let mut said: Vec<(&str, Testimony)> = Vec::new();
        let mut failure: Option<SourceError> = None;
        for source in order {
            let testimony = async {
                let Some(other) = self.is_deep_for_two(source, place.block, finality).await? else {
                    return Ok(None);
                };
                let compare = !planted(Fault::AnyTime);
                let testimony = self.witnesses.receipt(source, place, tokens, compare).await?;
                Ok(Some((other, testimony)))
            };
            let (other, testimony) = match testimony.await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(SettleError::Source(error)) => {
                    self.pool.record_failure(source, &error, now);
                    failure.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let name = source.provider();
            // The time that is stored may be the witness's own word: the other one must have the same.
            let time = other.filter(|(_, header)| header.time_ms != place.block_time_ms);
            let time = time.filter(|_| !planted(Fault::AnyTime));
            if let Some((other, header)) = time {
                if said.iter().all(|(name, _)| *name != other) {
                    let (number, time_ms) = (header.number, header.time_ms);
                    said.push((other, Testimony::OtherBlock { number, time_ms }));
                }
            } else if let Testimony::Shows { transfers, logs } = &testimony
                && (transfers == recorded || planted(Fault::AnyReceipt))
                && (Some(name) != shower || planted(Fault::OwnWitness))
            {
                self.record_beside(place, tokens, transfers, logs, name).await?;
                // A lie had moved it, and its log was recorded at its place again: it follows.
                let follows = |d: &OpenDeposit| {
                    recorded.iter().any(|s| s.deposit == d.key)
                        && !recorded.iter().any(|s| shows(s, d))
                };
                // Who confirms it there is asked then.
                if group.iter().any(follows)
                    && self.corrected(place, logs, name, false).await? == Corrected::Yes
                {
                    return Ok(Verdict::ReadAnew);
                }
                return self.confirmed(group, name, transfers, serde_json::Value::Null).await;
            }
            let agrees =
                |(who, other): &&(&str, Testimony)| *who != name && other.agrees_with(&testimony);
            if let Some((first, _)) = said.iter().find(agrees) {
                let answers = answers(recorded, shower, &said, Some((name, &testimony)));
                return self.two_say(group, (first, name), testimony.clone(), answers).await;
            }
            if planted(Fault::OneOverrules) {
                let answers = answers(recorded, shower, &said, None);
                return self.two_say(group, (name, name), testimony, answers).await;
            }
            if said.iter().all(|(who, _)| *who != name) {
                said.push((name, testimony));
            }
        }
        let answers = answers(recorded, shower, &said, None);
        match said.as_slice() {
            // Nobody else could be asked: that is no disagreement.
            [] | [_] if said.iter().all(|(name, _)| Some(*name) == shower) => match failure {
                Some(error) => Err(error.into()),
                None => Ok(Verdict::NotYet),
            },
            // Not mined there yet, or not any more: the watch task may find out.
            [(_, Testimony::NotThere)] => Ok(Verdict::Missing { certain: false, answers }),
            _ => Ok(Verdict::Hold {
                reason: HoldReason::ProvidersDisagree,
                why: "the providers say different things of its transaction",
                answers,
            }),
        }
    }

    /// A witness must see the block that deep itself, and another provider must have this very block
    /// as deep: one that makes up blocks, or calls everything final, would decide alone otherwise,
    /// because the chain as it is followed may be its own.
    async fn is_deep_for_two(
        &self,
        source: &S,
        block: BlockRef,
        finality: Finality,
    ) -> Result<Option<Other<'_>>, SettleError> {
        let is_tag = !matches!(finality, Finality::Confirmations(_));
        if planted(Fault::ShallowWitness) || (is_tag && planted(Fault::OneTag)) {
            return Ok(Some(None));
        }
        if !self.witnesses.reached(source, block.number, finality).await? {
            return Ok(None);
        }
        let now = self.clock.now_ms();
        for other in self.pool.others(now, Some(source.provider())) {
            match self.witnesses.has(other, block, finality).await {
                Ok(Some(header)) => return Ok(Some(Some((other.provider(), header)))),
                Ok(None) => {}
                Err(error) => self.pool.record_failure(other, &error, now),
            }
        }
        Ok(None)
    }

    /// True when two providers have this very block as deep as the policy asks, each in its own view;
    /// where only one is configured, the chain as it is followed decides. What a block says can be
    /// proved by hashes; that it is canonical and how deep it lies cannot, and the chain that is
    /// followed may be one provider's invention from some block on.
    async fn stands_for_two(
        &self,
        block: BlockRef,
        finality: Finality,
    ) -> Result<bool, SourceError> {
        let mut missing = self.pool.len().min(2);
        if missing < 2 {
            return Ok(true);
        }
        if planted(Fault::DepthOfOne) {
            missing = 1;
        }
        let now = self.clock.now_ms();
        let mut failure: Option<SourceError> = None;
        for source in self.pool.order(now) {
            match self.witnesses.has(source, block, finality).await {
                Ok(Some(_)) => missing = missing.saturating_sub(1),
                Ok(None) => {}
                Err(error) => {
                    self.pool.record_failure(source, &error, now);
                    failure.get_or_insert(error);
                }
            }
            if missing == 0 {
                return Ok(true);
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Two providers say the same, which is not what was recorded.
    async fn two_say(
        &self,
        group: &Group,
        (first, second): (&str, &str),
        testimony: Testimony,
        answers: serde_json::Value,
    ) -> Result<Verdict, SettleError> {
        let Some(place) = group.first() else { return Ok(Verdict::NotYet) };
        let hold = |why| Verdict::Hold {
            reason: HoldReason::ProvidersDisagree,
            why,
            answers: answers.clone(),
        };
        match testimony {
            Testimony::NotThere => Ok(Verdict::Missing { certain: true, answers }),
            Testimony::Failed => Ok(hold("the transaction failed")),
            Testimony::OtherBlock { number, time_ms } => {
                match self.correct_time(place, number, time_ms).await? {
                    Corrected::Yes => Ok(Verdict::ReadAnew),
                    Corrected::TooOften => Ok(hold(TOO_OFTEN)),
                    Corrected::Nothing => Ok(hold(OTHER_BLOCK)),
                }
            }
            Testimony::Shows { transfers, mut logs } => {
                // What only one of them shows beside it, nobody else has said.
                logs.retain(|log| transfers.iter().any(|t| t.key.log_index == log.log_index));
                match self.corrected(place, &logs, first, true).await? {
                    Corrected::Yes => return Ok(Verdict::ReadAnew),
                    Corrected::TooOften => return Ok(hold(TOO_OFTEN)),
                    Corrected::Nothing => {}
                }
                let by = if Some(first) == place.log_provider.as_deref() { second } else { first };
                self.confirmed(group, by, &transfers, answers).await
            }
        }
    }

    /// Those of a group are confirmed that are shown, and whose own log is recorded: in the place of
    /// one that is not, another transaction's is.
    pub(in crate::tasks) async fn confirmed(
        &self,
        group: &Group,
        by: &str,
        shown: &[Sighting],
        answers: serde_json::Value,
    ) -> Result<Verdict, SettleError> {
        let mut recorded = Vec::new();
        if let Some(place) = group.first() {
            recorded = self.recorded_of(place).await?;
        }
        // The same in all that is said of it: who paid decides what is asked about the payer, and whether it was we.
        let stands = |d: &OpenDeposit| shown.iter().any(|s| shows(s, d) && recorded.contains(s));
        let (yes, no) = group.iter().cloned().partition(stands);
        let (by, shown) = (by.to_owned(), shown.len());
        Ok(Verdict::Confirmed { by, shown, yes, no, proof: None, answers })
    }

    /// The receipt of whoever answers; where it says something else than was recorded, the block is
    /// read again from the same provider.
    async fn by_anyone(
        &self,
        group: &Group,
        tokens: &BTreeSet<Address>,
    ) -> Result<Verdict, SettleError> {
        let now = self.clock.now_ms();
        let mut failure: Option<SourceError> = None;
        for source in self.pool.order(now) {
            match self.as_read_again(source, group, tokens).await {
                Ok(verdict) => return Ok(verdict),
                Err(SettleError::Source(error)) => {
                    self.pool.record_failure(source, &error, now);
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| nobody(self.rules)).into())
    }

    async fn as_read_again(
        &self,
        source: &S,
        group: &Group,
        tokens: &BTreeSet<Address>,
    ) -> Result<Verdict, SettleError> {
        let Some(place) = group.first() else { return Ok(Verdict::NotYet) };
        let (rules, name) = (self.rules, source.provider());
        let testimony = self.witnesses.receipt(source, place, tokens, true).await?;
        let recorded = &self.recorded(place, tokens).await?;
        let answers = answers(recorded, Some(name), &[(name, testimony.clone())], None);
        let hold = |why| Verdict::Hold {
            reason: HoldReason::ReceiptMismatch,
            why,
            answers: answers.clone(),
        };
        let (transfers, logs) = match testimony {
            Testimony::NotThere => return Ok(Verdict::Missing { certain: false, answers }),
            Testimony::Failed => return Ok(hold("the transaction failed")),
            Testimony::OtherBlock { number, time_ms } => {
                return Ok(match self.correct_time(place, number, time_ms).await? {
                    Corrected::Yes => Verdict::ReadAnew,
                    Corrected::TooOften => hold(TOO_OFTEN),
                    Corrected::Nothing => hold(OTHER_BLOCK),
                });
            }
            Testimony::Shows { transfers, logs } => (transfers, logs),
        };
        if transfers == *recorded {
            self.record_beside(place, tokens, &transfers, &logs, name).await?;
            return self.confirmed(group, name, &transfers, answers).await;
        }
        let book = self.store.book().await?;
        let logs = rules.logs_in_block(source, place.block, &rules.log_filter(&book)).await?;
        consistent(name, &logs)?;
        if logs.iter().any(|log| log.block_hash != place.block.hash) {
            return Err(SettleError::Source(invalid_logs(name, "logs of another block".into())));
        }
        match self.corrected(place, &logs, name, false).await? {
            Corrected::Yes => return Ok(Verdict::ReadAnew),
            Corrected::TooOften => return Ok(hold(TOO_OFTEN)),
            Corrected::Nothing => {}
        }
        // Nothing new: then what was recorded beside this was invented, if the block now agrees.
        let mut of_block = match_logs(rules.id, &logs, &book);
        of_block.retain(|s| s.deposit.tx_hash == place.key.tx_hash);
        if transfers == comparable(tokens, of_block) {
            self.confirmed(group, name, &transfers, answers).await
        } else {
            Ok(hold("its transfers to us are not those of the block's logs"))
        }
    }
}
