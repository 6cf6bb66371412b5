//! Computes conversions again, from what was stored: raw answers, policies, accepted prices.
//!
//! What follows from the database alone, the store computes ([`Store::price_again`] and
//! [`Store::conversion_again`]); asking the chain again is a second step, the only one that needs a
//! provider. It changes nothing.

use std::collections::BTreeSet;

use alloy::primitives::B256;

use crate::chain::source::{CallOutcome, ChainSource, SourceError};
use crate::domain::oracle::policy::Body;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::reading::{Call, CallAnswer, Calls};
use crate::domain::oracle::source::Evidence;
use crate::store::{ConversionRow, Store, StoreError, StoredQuote};
use crate::tasks::prices::market::Market;

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
    /// What was found so far.
    pub done: Recomputed,
}

impl<'a, S: ChainSource> Recompute<'a, S> {
    /// Offline, unless there are providers to ask.
    pub fn new(store: &'a Store, online: Option<&'a Market<S>>) -> Self {
        Self { store, online, prices: BTreeSet::new(), done: Recomputed::default() }
    }

    /// One conversion, with the prices that it rests on.
    ///
    /// # Errors
    /// When the database fails. A row that cannot be read is a difference.
    pub async fn conversion(&mut self, row: &ConversionRow) -> Result<(), StoreError> {
        self.done.conversions = self.done.conversions.saturating_add(1);
        let what = format!("conversion of deposit {}", row.deposit);
        for how in self.store.conversion_again(row).await? {
            self.differs(&what, &how);
        }
        for leg in &row.conversion.legs {
            self.decided(leg.price_hash, true).await?;
        }
        Ok(())
    }

    /// One accepted price, from what is stored alone. `None` when it cannot be read.
    pub async fn price(&mut self, hash: B256) -> Result<Option<(Body, PairPolicy)>, StoreError> {
        self.decided(hash, false).await
    }

    /// The same, once each; with `online`, its answers are read on their chains again.
    async fn decided(
        &mut self,
        hash: B256,
        online: bool,
    ) -> Result<Option<(Body, PairPolicy)>, StoreError> {
        if !self.prices.insert(hash) {
            return self.known(hash).await;
        }
        let again = self.store.price_again(hash).await?;
        if let Some(how) = &again.differs {
            self.differs(&again.what, how);
        }
        let Some((body, policy)) = again.decided else { return Ok(None) };
        self.done.prices = self.done.prices.saturating_add(1);
        self.done.quotes =
            self.done.quotes.saturating_add(u64::try_from(again.quotes).unwrap_or(0));
        for via in &body.via {
            Box::pin(self.decided(via.price_hash, online)).await?;
        }
        if online && self.online.is_some() && again.differs.is_none() {
            let ids: Vec<B256> = body.quote_ids().collect();
            for quote in self.store.quotes_by_id(&ids).await?.values() {
                self.read_on_chain(quote).await?;
            }
        }
        Ok(Some((body, policy)))
    }

    /// One that was decided again before.
    async fn known(&self, hash: B256) -> Result<Option<(Body, PairPolicy)>, StoreError> {
        let read = async {
            let Some(price) = self.store.market_price(hash).await? else { return Ok(None) };
            let body = price.body()?;
            let policy = self.store.policy(body.policy_hash).await?;
            Ok(policy.map(|policy| (body, policy)))
        };
        match read.await {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        }
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
