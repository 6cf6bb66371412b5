//! Computes conversions again, from what was stored: raw answers, policies, accepted prices.
//!
//! Nothing of what the daemon concluded is taken over: every answer is read again, every price
//! decided again and compared with what was written, every amount computed again. Asking the chain
//! again is a second step, the only one that needs a provider. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::market::{Market, first_of, samples};
use crate::chain::{CallOutcome, ChainSource, SourceError};
use crate::domain::conversion::{needed, value};
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::oracle::policy::{
    Body, FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER, Input, Outcome, PairPolicy, Part, Past, decide,
};
use crate::domain::oracle::{
    Call, CallAnswer, Calls, Evidence, Instant, Reading, Reads, SourceSpec, read,
};
use crate::domain::pricing::{Epoch, EpochBook};
use crate::store::{ConversionRow, Store, StoreError, StoredQuote};

/// What was computed again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recomputed {
    /// Conversions.
    pub conversions: u64,
    /// Accepted prices.
    pub prices: u64,
    /// Raw answers that prices rest on.
    pub quotes: u64,
    /// Answers of contracts that were read on the chain again and are the same.
    pub read_again: u64,
    /// Those whose state no provider keeps.
    pub state_gone: u64,
    /// Those that nobody could be asked about, and why not.
    pub not_asked: Vec<(String, String)>,
    /// What differs: which, and how.
    pub differs: Vec<(String, String)>,
}

/// Conversions and prices, each price once.
pub struct Recompute<'a, S> {
    store: &'a Store,
    /// Providers, for reading answers on the chain again.
    online: Option<&'a Market<S>>,
    prices: BTreeSet<B256>,
    /// As they are stored, once they have been asked for.
    epochs: Option<EpochBook>,
    /// What was found so far.
    pub done: Recomputed,
}

impl<'a, S: ChainSource> Recompute<'a, S> {
    /// Offline, unless there are providers to ask.
    #[must_use]
    pub fn new(store: &'a Store, online: Option<&'a Market<S>>) -> Self {
        let (prices, done) = (BTreeSet::new(), Recomputed::default());
        Self { store, online, prices, epochs: None, done }
    }

    /// One conversion, with the prices that it rests on.
    ///
    /// # Errors
    /// When the database fails. A row that cannot be read is a difference.
    pub async fn conversion(&mut self, row: &ConversionRow) -> Result<(), StoreError> {
        self.done.conversions = self.done.conversions.saturating_add(1);
        let what = format!("conversion of deposit {}", row.deposit);
        if row.raw != row.sighted {
            self.differs(&what, "the amount is not the one that the sighting shows");
        }
        let conversion = &row.conversion;
        if !conversion.holds(row.raw, row.decimals, &row.asset, row.rate, row.credits) {
            self.differs(&what, "tokens, remainder or credits do not follow from its prices");
        }
        let epoch = self.epochs().await?.at(row.time_ms);
        if !epoch.is_some_and(|epoch| follows(row, epoch)) {
            self.differs(&what, "is not what the epoch of its block says of it");
        }
        for leg in &conversion.legs {
            let price = match self.store.market_price(leg.price_hash).await {
                Ok(Some(price)) => price,
                Ok(None) => {
                    let why =
                        format!("there is no accepted price {} of {}", leg.price_hash, leg.pair);
                    self.differs(&what, &why);
                    continue;
                }
                Err(error) => {
                    self.unreadable(&what, error)?;
                    continue;
                }
            };
            let named = self.decided(leg.price_hash, true).await?;
            let Some((body, policy)) = named else { continue };
            if let Some(manual) = &body.manual
                && let Some(act) = self.store.act_by_id(manual.proposal()).await?
                && act.deposit != Some(row.deposit)
            {
                let why = format!("the price of {} was given to another deposit", leg.pair);
                self.differs(&what, &why);
            }
            let of_block = (body.chain_id, body.block_hash, body.instant_ms)
                == (row.chain.0, row.block.hash, row.time_ms);
            if !of_block {
                self.differs(&what, &format!("the price of {} is of another block", leg.pair));
            }
            let applied = policy.applied(price.accepted.price);
            if (&leg.pair, leg.price, leg.applied) != (&price.pair, price.accepted.price, applied) {
                self.differs(&what, &format!("the price of {} is not the accepted one", leg.pair));
            }
        }
        Ok(())
    }

    /// The stored epochs; none of them, when they cannot be read, which is a difference.
    async fn epochs(&mut self) -> Result<&EpochBook, StoreError> {
        if self.epochs.is_none() {
            let read = self.store.epochs().await;
            self.epochs = Some(match read {
                Ok(epochs) => epochs,
                Err(error) => {
                    self.unreadable("the epochs", error)?;
                    EpochBook::default()
                }
            });
        }
        Ok(self.epochs.get_or_insert_default())
    }

    /// One accepted price, from what is stored alone. `None` when it is not what was written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn price(&mut self, hash: B256) -> Result<Option<(Body, PairPolicy)>, StoreError> {
        self.decided(hash, false).await
    }

    /// The same; with `online`, its answers are read on their chains again.
    async fn decided(
        &mut self,
        hash: B256,
        online: bool,
    ) -> Result<Option<(Body, PairPolicy)>, StoreError> {
        let first = self.prices.insert(hash);
        let what = format!("price {hash}");
        let read = async {
            let Some(price) = self.store.market_price(hash).await? else { return Ok(None) };
            let body = price.body()?;
            let policy = self.store.policy(body.policy_hash).await?;
            Ok(policy.map(|policy| (body, policy, price.accepted_at_ms)))
        };
        let (body, policy, accepted_at_ms) = match read.await {
            Ok(Some(found)) => found,
            Ok(None) => {
                if first {
                    self.differs(&what, "it, or the policy that it names, is not there");
                }
                return Ok(None);
            }
            Err(error) => {
                if first {
                    self.unreadable(&what, error)?;
                }
                return Ok(None);
            }
        };
        if first {
            self.done.prices = self.done.prices.saturating_add(1);
            let what = format!("price of {} at {} ({hash})", body.pair, body.instant_ms);
            match self.decided_again(&body, &policy, accepted_at_ms, online).await {
                Ok(None) => {}
                Ok(Some(why)) => self.differs(&what, &why),
                Err(error) => self.unreadable(&what, error)?,
            }
        }
        Ok(Some((body, policy)))
    }

    /// Decides a price again; why it differs, if it does.
    async fn decided_again(
        &mut self,
        body: &Body,
        policy: &PairPolicy,
        accepted_at_ms: i64,
        online: bool,
    ) -> Result<Option<String>, StoreError> {
        let at = Instant {
            chain: ChainId(body.chain_id),
            block: BlockRef { number: 0, hash: body.block_hash },
            time_ms: body.instant_ms,
        };
        if let Some(manual) = &body.manual {
            let [proposal, approval] = manual.acts;
            let proposed = self.store.act_by_id(proposal).await?;
            let approved = self.store.act_by_id(approval).await?;
            let (Some(proposed), Some(approved)) = (proposed, approved) else {
                return Ok(Some("the acts of the two operators are missing".into()));
            };
            let price = body.price.map(|p| p.to_string());
            let of_block = (ChainId(body.chain_id), body.block_hash);
            let holds = (proposed.kind.as_str(), approved.kind.as_str())
                == ("propose_price", "approve_price")
                && (proposed.chain, proposed.block_hash) == of_block
                && (approved.chain, approved.block_hash) == of_block
                && proposed.deposit == approved.deposit
                && proposed.operator == manual.proposed_by
                && approved.operator == manual.approved_by
                && proposed.operator != approved.operator
                && approved.approves == Some(proposal)
                && approved.approved_hash.is_none_or(|hash| hash == proposed.hash())
                && proposed.pair.as_deref() == Some(&body.pair)
                && proposed.price == price;
            return Ok((!holds).then(|| "is not what the two operators said".to_owned()));
        }
        let ids: Vec<B256> = body.quote_ids().collect();
        let quotes = self.store.quotes_by_id(&ids).await?;
        let inputs = inputs(policy, body, &quotes, &at)?;
        self.done.quotes =
            self.done.quotes.saturating_add(u64::try_from(quotes.len()).unwrap_or(0));
        for (source, input) in policy.sources.iter().zip(&inputs) {
            let (Reads::Http(ticker), Input::Read(used, _)) = (&source.reads, input) else {
                continue;
            };
            let mut samples = samples(self.store, source, ticker.max_age_ms(), &at).await?;
            samples.retain(|sample| sample.recorded_at_ms <= accepted_at_ms);
            if !matches!(first_of(source, &samples, &at)?, Some(Input::Read(first, _)) if first == *used)
            {
                return Ok(Some(format!("{}: not the first sample that is any", source.name)));
            }
        }
        for via in &body.via {
            let other = Box::pin(self.decided(via.price_hash, online)).await?;
            let same = other.is_some_and(|(other, _)| {
                (other.pair.as_str(), other.price, other.block_hash)
                    == (via.pair.as_str(), Some(via.price), body.block_hash)
            });
            if !same {
                return Ok(Some(format!("the price of {} is not the one it names", via.pair)));
            }
        }
        if let Some(passed) = body.passed
            && !self.store.was_passed(&body.pair, passed.price, passed.instant_ms).await?
        {
            return Ok(Some("no operator let the price pass that it names".into()));
        }
        if let Some(act) = body.waived_by
            && self.store.act_by_id(act).await?.is_none_or(|a| {
                let other =
                    |named: &String| body.price.map(|p| p.to_string()).as_ref() != Some(named);
                a.kind != "accept_market"
                    || a.price.as_ref().is_some_and(other)
                    || a.pair.as_deref() != Some(&body.pair)
                    || (a.chain.0, a.block_hash) != (body.chain_id, body.block_hash)
            })
        {
            return Ok(Some("no operator accepted the market's price".into()));
        }
        let (pair, up_to, hands) = (&body.pair, body.after_seq, body.formula == FORMULA_WITH_HANDS);
        let past = Past {
            day: self.store.day_before(pair, body.instant_ms, up_to, hands).await?,
            newest_seq: body.after_seq,
            passed: body.passed,
            counts_same_instant: is_older(body),
            waived_by: body.waived_by,
            ..Past::default()
        };
        let (mut again, outcome) = decide(policy, &at, &inputs, &body.via, &past);
        if is_older(body) {
            again.formula.clone_from(&body.formula);
        }
        let same = without_sentences(&again) == without_sentences(body);
        if !same || !matches!(outcome, Outcome::Accepted(_)) {
            return Ok(Some(difference(body, &again)));
        }
        if online && self.online.is_some() {
            for quote in quotes.values() {
                self.read_on_chain(quote).await?;
            }
        }
        Ok(None)
    }

    /// Asks the contracts the same questions at the same block. One who says the same is enough, unless
    /// another one has said something else before.
    async fn read_on_chain(&mut self, quote: &StoredQuote) -> Result<(), StoreError> {
        let Evidence::Calls(calls) = quote.evidence()? else { return Ok(()) };
        let what = format!("answer {} of {}", quote.id, quote.source);
        let Some((_, pool)) = self.online.and_then(|m| m.chains.get(&calls.chain_id)) else {
            let why = format!("chain {} is not in the configuration any more", calls.chain_id);
            self.done.not_asked.push((what, why));
            return Ok(());
        };
        let questions: Vec<_> = calls
            .calls
            .iter()
            .map(|c| (calls.block_hash, Call { to: c.to, data: c.data.clone() }))
            .collect();
        let mut gone = false;
        let mut why = pool.refused().unwrap_or_else(|| "no provider answers".to_owned());
        let mut others = Vec::new();
        for source in pool.order(0) {
            let outcomes = match source.call_at(&questions).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let said: Option<Vec<CallAnswer>> = outcomes
                .into_iter()
                .map(|outcome| match outcome {
                    CallOutcome::Answered(answer) => Some(answer),
                    CallOutcome::NoState(_) => {
                        gone = true;
                        None
                    }
                    CallOutcome::Failed(failed) => {
                        why = failed;
                        None
                    }
                })
                .collect();
            if let Some(said) = said {
                match block_again(source, &calls).await {
                    Ok(true) => {}
                    Ok(false) => {
                        others.push(format!("{} has no such block there now", source.provider()));
                        continue;
                    }
                    Err(error) => {
                        why = error.to_string();
                        continue;
                    }
                }
                if !calls.calls.iter().map(|c| &c.answer).eq(&said) {
                    others.push(format!("{} answers something else now", source.provider()));
                } else if others.is_empty() {
                    self.done.read_again = self.done.read_again.saturating_add(1);
                    return Ok(());
                } else {
                    others.push(format!("{} answers the same as before", source.provider()));
                }
            }
        }
        if !others.is_empty() {
            self.differs(&what, &others.join("; "));
        } else if gone {
            self.done.state_gone = self.done.state_gone.saturating_add(1);
        } else {
            self.done.not_asked.push((what, why));
        }
        Ok(())
    }

    fn differs(&mut self, what: &str, how: &str) {
        self.done.differs.push((what.to_owned(), how.to_owned()));
    }

    /// A row that cannot be read is a difference; a database that fails is an error.
    fn unreadable(&mut self, what: &str, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::Corrupt { .. } => {
                self.differs(what, &error.to_string());
                Ok(())
            }
            other => Err(other),
        }
    }
}

/// True when the block that was read is canonical, and it and the one after it are of the times
/// that the evidence says.
async fn block_again<S: ChainSource>(source: &S, calls: &Calls) -> Result<bool, SourceError> {
    let header = source.header_at(calls.block_number).await?;
    let same =
        header.is_some_and(|h| (h.hash, h.time_ms) == (calls.block_hash, calls.block_time_ms));
    let next = match calls.next_time_ms {
        None => true,
        Some(time_ms) => {
            let next = source.header_at(calls.block_number.saturating_add(1)).await?;
            next.is_some_and(|h| h.time_ms == time_ms)
        }
    };
    Ok(same && next)
}

/// What each source said, read again from its raw answer.
fn inputs(
    policy: &PairPolicy,
    body: &Body,
    quotes: &BTreeMap<B256, StoredQuote>,
    at: &Instant,
) -> Result<Vec<Input>, StoreError> {
    let missing = || Input::Missing("its answer is not stored".into());
    policy
        .sources
        .iter()
        .map(|source| {
            let Some(part) = body.parts.iter().find(|p| p.source == source.name) else {
                return Ok(missing());
            };
            let Some(id) = part.quote_id else { return Ok(without_answer(source, part, at)) };
            let said = answer(source, id, quotes, at)?;
            if is_older(body) {
                return Ok(said);
            }
            let after = match (part.after_id, source.after()) {
                (Some(id), Some(after)) => answer(&after, id, quotes, at)?,
                _ => missing(),
            };
            Ok(said.with_after(|| after))
        })
        .collect()
}

/// A source's stored answer.
fn answer(
    source: &SourceSpec,
    id: B256,
    quotes: &BTreeMap<B256, StoredQuote>,
    at: &Instant,
) -> Result<Input, StoreError> {
    Ok(match quotes.get(&id).filter(|quote| quote.source_hash == source.hash()) {
        Some(quote) => Input::Read(Some(id), read(source, &quote.evidence()?, at)),
        None => Input::Missing("its answer is not stored".into()),
    })
}

/// True where a price was decided by an older formula, in which an answer in doubt never counted.
fn is_older(body: &Body) -> bool {
    [FORMULA_WITH_HANDS, FORMULA_WITHOUT_AFTER].contains(&body.formula.as_str())
}

/// A source that has no stored answer: it is fixed, or was missing.
fn without_answer(source: &SourceSpec, part: &Part, at: &Instant) -> Input {
    match &source.reads {
        Reads::Fixed { price } => Input::Read(None, Ok(Reading::fixed(*price, at))),
        _ => {
            let why = part.rejected.as_deref().and_then(|r| r.strip_prefix("missing: "));
            Input::Missing(why.unwrap_or_default().to_owned())
        }
    }
}

/// True when the text of an epoch makes this conversion of its payment, at its prices.
fn follows(row: &ConversionRow, epoch: &Epoch) -> bool {
    let Some(terms) = epoch.accept.get(&row.asset) else { return false };
    let (asset, accept, legs) = (&row.asset, &epoch.accept, &row.conversion.legs);
    // Whether there was a direct pair, the configuration of the day said: the prices tell.
    let pairs = needed(asset, terms, accept, |pair| legs.iter().any(|l| l.pair == pair));
    let again = value(row.raw, row.decimals, asset, terms, accept, legs);
    pairs.iter().eq(legs.iter().map(|l| &l.pair))
        && (epoch.id.as_str(), terms.valuation.rule().as_str()) == (&row.epoch, &row.rule)
        && again == Ok((row.credits, row.rate, row.conversion.clone()))
}

/// Of why a source does not count, only the word before the sentence, which a newer build may put better.
fn without_sentence(part: &Part) -> Part {
    let word = part.rejected.as_deref().and_then(|r| r.split(':').next()).map(str::to_owned);
    Part { rejected: word, ..part.clone() }
}

fn without_sentences(body: &Body) -> Body {
    Body { parts: body.parts.iter().map(without_sentence).collect(), ..body.clone() }
}

/// The first thing that is not what was written.
fn difference(stored: &Body, again: &Body) -> String {
    for (part, computed) in stored.parts.iter().zip(&again.parts) {
        if without_sentence(part) != without_sentence(computed) {
            let shown = |p: &Part| match (&p.price, &p.rejected) {
                (_, Some(rejected)) => rejected.clone(),
                (Some(price), None) => price.to_string(),
                (None, None) => "nothing".to_owned(),
            };
            return format!(
                "{} says {}; what was written is {}",
                part.source,
                shown(computed),
                shown(part)
            );
        }
    }
    let shown = |body: &Body| match (&body.price, &body.held) {
        (Some(price), _) => price.to_string(),
        (None, held) => format!("none ({})", held.as_deref().unwrap_or_default()),
    };
    if stored.price != again.price {
        return format!(
            "computed again it is {}; what was written is {}",
            shown(again),
            shown(stored)
        );
    }
    "what it was compared with is not what was written".to_owned()
}
