//! Accepted prices and conversions, computed again from what is stored: raw answers, policies, acts,
//! epochs' texts.
//!
//! Nothing that was concluded is taken over: every answer is read again, every price decided again and
//! compared with what was written, every amount computed again. `ledger verify` does so with everything
//! in its one snapshot, `conversions verify` with what is of a span of time. It asks nobody, and changes
//! nothing.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use super::prices::{Asked, difference, inputs, is_older, without_sentences};
use crate::domain::act_kind::ActKind;
use crate::domain::conversion::{needed, value};
use crate::domain::ids::{BlockRef, ChainId};
use crate::domain::oracle::policy::pair::{Input, Outcome, PairPolicy};
use crate::domain::oracle::policy::{Body, FORMULA_WITH_HANDS, Manual, Past, decide};
use crate::domain::oracle::reading::PriceInstant;
use crate::domain::oracle::samples::{SAMPLES_MAX, first_of};
use crate::domain::oracle::source::Reads;
use crate::domain::pricing::{Epoch, EpochBook};
use crate::store::acts::rows::act_by_id;
use crate::store::db::Tx;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::prices::conversions::{ConversionRow, was_passed};
use crate::store::prices::epochs::stored_epochs;
use crate::store::prices::market::{MarketPrice, day_before, policy_by_hash, price_by_hash};
use crate::store::prices::quotes::{quotes_by_id, samples};

/// Policies that are kept in memory: one for each text that a pair ever had.
const POLICIES_MAX: usize = 256;

/// An accepted price, decided again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceAgain {
    /// Which, for people.
    pub what: String,
    /// What it was decided on, and by which policy; none where they cannot be read.
    pub decided: Option<(Body, PairPolicy)>,
    /// Stored answers that it rests on.
    pub quotes: usize,
    /// How it differs from what was written, if it does.
    pub differs: Option<String>,
}

impl Store {
    /// Decides an accepted price again.
    ///
    /// # Errors
    /// When the database fails. A row that cannot be read is a difference.
    pub async fn price_again(&self, hash: B256) -> Result<PriceAgain, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let again = Again::default().price(&mut tx, hash).await?;
        Self::abandon(tx).await?;
        Ok(again)
    }

    /// Computes a conversion again; how it differs from what was written. Whether its prices hold by
    /// themselves is not asked here.
    ///
    /// # Errors
    /// When the database fails. A row that cannot be read is a difference.
    pub async fn conversion_again(&self, row: &ConversionRow) -> Result<Vec<String>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let differs = Again::default().conversion(&mut tx, row).await?;
        Self::abandon(tx).await?;
        Ok(differs)
    }
}

/// What is read more than once.
#[derive(Debug, Default)]
pub(in crate::store) struct Again {
    policies: BTreeMap<B256, PairPolicy>,
    epochs: Option<EpochBook>,
}

impl Again {
    /// Decides an accepted price again.
    pub(in crate::store) async fn price(
        &mut self,
        tx: &mut Tx,
        hash: B256,
    ) -> Result<PriceAgain, StoreError> {
        let mut again =
            PriceAgain { what: format!("price {hash}"), decided: None, quotes: 0, differs: None };
        match self.decided(tx, hash, &mut again).await {
            Ok(differs) => again.differs = differs,
            Err(error @ StoreError::Corrupt { .. }) => again.differs = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(again)
    }

    async fn decided(
        &mut self,
        tx: &mut Tx,
        hash: B256,
        again: &mut PriceAgain,
    ) -> Result<Option<String>, StoreError> {
        let missing = || Some("it, or the policy that it names, is not there".to_owned());
        let Some(price) = price_by_hash(&mut *tx, hash).await? else { return Ok(missing()) };
        let body = price.body()?;
        let Some(policy) = self.policy(tx, body.policy_hash).await? else { return Ok(missing()) };
        again.what = format!("price of {} at {} ({hash})", body.pair, body.instant_ms);
        again.decided = Some((body.clone(), policy.clone()));
        if let Some(manual) = &body.manual {
            return by_hand(tx, &body, manual).await;
        }
        let at = PriceInstant {
            chain: ChainId(body.chain_id),
            block: BlockRef { number: 0, hash: body.block_hash },
            time_ms: body.instant_ms,
        };
        let asked = asked(tx, &body).await?;
        again.quotes = asked.quotes.len();
        let inputs = inputs(&policy, &body, &asked, &at)?;
        if let Some(why) = not_the_first(tx, &policy, &inputs, &price, &at).await? {
            return Ok(Some(why));
        }
        if let Some(why) = rests_on(tx, &body).await? {
            return Ok(Some(why));
        }
        let hands = body.formula == FORMULA_WITH_HANDS;
        let past = Past {
            day: day_before(&mut *tx, &body.pair, body.instant_ms, body.after_seq, hands).await?,
            newest_seq: body.after_seq,
            passed: body.passed,
            counts_same_instant: is_older(&body),
            waived_by: body.waived_by,
            ..Past::default()
        };
        let (mut computed, outcome) = decide(&policy, &at, &inputs, &body.via, &past);
        if is_older(&body) {
            computed.formula.clone_from(&body.formula);
        }
        let same = without_sentences(&computed) == without_sentences(&body);
        let accepted = matches!(outcome, Outcome::Accepted(_));
        Ok((!same || !accepted).then(|| difference(&body, &computed)))
    }

    async fn policy(&mut self, tx: &mut Tx, hash: B256) -> Result<Option<PairPolicy>, StoreError> {
        if let Some(known) = self.policies.get(&hash) {
            return Ok(Some(known.clone()));
        }
        let found = policy_by_hash(&mut *tx, hash).await?;
        if let Some(policy) = &found {
            if self.policies.len() >= POLICIES_MAX {
                self.policies.clear();
            }
            self.policies.insert(hash, policy.clone());
        }
        Ok(found)
    }

    /// Computes a conversion again; how it differs.
    pub(in crate::store) async fn conversion(
        &mut self,
        tx: &mut Tx,
        row: &ConversionRow,
    ) -> Result<Vec<String>, StoreError> {
        let mut differs = Vec::new();
        let conversion = &row.conversion;
        if row.raw != row.sighted {
            differs.push("the amount is not the one that the sighting shows".to_owned());
        }
        if !conversion.holds(row.raw, row.decimals, &row.asset, row.rate, row.credits) {
            differs.push("tokens, remainder or credits do not follow from its prices".to_owned());
        }
        match self.epochs(tx).await {
            Ok(epochs) if epochs.at(row.time_ms).is_some_and(|epoch| follows(row, epoch)) => {}
            Ok(_) => differs.push("is not what the epoch of its block says of it".to_owned()),
            Err(error @ StoreError::Corrupt { .. }) => differs.push(error.to_string()),
            Err(error) => return Err(error),
        }
        for number in 0..conversion.legs.len() {
            match self.leg(tx, row, number, &mut differs).await {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt { .. }) => differs.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(differs)
    }

    /// A leg's price is the accepted one of the conversion's block, and nobody else's.
    async fn leg(
        &mut self,
        tx: &mut Tx,
        row: &ConversionRow,
        number: usize,
        differs: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let Some(leg) = row.conversion.legs.get(number) else { return Ok(()) };
        let Some(price) = price_by_hash(&mut *tx, leg.price_hash).await? else {
            differs.push(format!("there is no accepted price {} of {}", leg.price_hash, leg.pair));
            return Ok(());
        };
        let body = price.body()?;
        let Some(policy) = self.policy(tx, body.policy_hash).await? else { return Ok(()) };
        if let Some(manual) = &body.manual
            && let Some(act) = act_by_id(&mut *tx, manual.proposal()).await?
            && act.deposit != Some(row.deposit)
        {
            differs.push(format!("the price of {} was given to another deposit", leg.pair));
        }
        let of_block = (body.chain_id, body.block_hash, body.instant_ms)
            == (row.chain.0, row.block.hash, row.time_ms);
        if !of_block {
            differs.push(format!("the price of {} is of another block", leg.pair));
        }
        let applied = policy.applied(price.accepted.price);
        if (&leg.pair, leg.price, leg.applied) != (&price.pair, price.accepted.price, applied) {
            differs.push(format!("the price of {} is not the accepted one", leg.pair));
        }
        Ok(())
    }

    /// The stored epochs, read once.
    async fn epochs(&mut self, tx: &mut Tx) -> Result<&EpochBook, StoreError> {
        if self.epochs.is_none() {
            self.epochs = Some(stored_epochs(&mut *tx).await?);
        }
        Ok(self.epochs.get_or_insert_default())
    }
}

/// What was asked for a price, and answered.
async fn asked(tx: &mut Tx, body: &Body) -> Result<Asked, StoreError> {
    let ids: Vec<B256> = body.quote_ids().collect();
    Ok(Asked { quotes: quotes_by_id(tx, &ids).await? })
}

/// Of a ticker, the first sample that says anything counts, and no other.
async fn not_the_first(
    tx: &mut Tx,
    policy: &PairPolicy,
    inputs: &[Input],
    price: &MarketPrice,
    at: &PriceInstant,
) -> Result<Option<String>, StoreError> {
    for (source, input) in policy.sources.iter().zip(inputs) {
        let (Reads::Http(ticker), Input::Read(used, _)) = (&source.reads, input) else { continue };
        let span = (at.time_ms, at.time_ms.saturating_add(ticker.max_age_ms()));
        let mut all = samples(&mut *tx, source.hash(), span, SAMPLES_MAX).await?;
        all.retain(|sample| sample.recorded_at_ms <= price.accepted_at_ms);
        let read = all.iter().map(|sample| Ok::<_, StoreError>((sample.id, sample.evidence()?)));
        if !matches!(first_of(source, read, at)?, Some(Input::Read(first, _)) if first == *used) {
            return Ok(Some(format!("{}: a valid earlier sample was skipped", source.name)));
        }
    }
    Ok(None)
}

/// The other prices and the acts that a price names are there, and say what it says of them.
async fn rests_on(tx: &mut Tx, body: &Body) -> Result<Option<String>, StoreError> {
    for via in &body.via {
        let other = price_by_hash(&mut *tx, via.price_hash).await?;
        let other = other.map(|other| other.body()).transpose()?;
        let same = other.is_some_and(|other| {
            (other.pair.as_str(), other.price, other.block_hash)
                == (via.pair.as_str(), Some(via.price), body.block_hash)
        });
        if !same {
            return Ok(Some(format!("the price of {} is not the one it names", via.pair)));
        }
    }
    if let Some(passed) = body.passed
        && !was_passed(&mut *tx, &body.pair, passed.price, passed.instant_ms).await?
    {
        return Ok(Some("no operator let the price pass that it names".into()));
    }
    let Some(act) = body.waived_by else { return Ok(None) };
    let accepted = act_by_id(&mut *tx, act).await?.is_some_and(|act| {
        let said = body.price.map(|price| price.to_string());
        act.kind == ActKind::AcceptMarket
            && act.price.as_ref().is_none_or(|named| said.as_ref() == Some(named))
            && act.pair.as_deref() == Some(&body.pair)
            && (act.chain.0, act.block_hash) == (body.chain_id, body.block_hash)
    });
    Ok((!accepted).then(|| "no operator accepted the market's price".to_owned()))
}

/// A price by hand is what the two operators said.
async fn by_hand(tx: &mut Tx, body: &Body, manual: &Manual) -> Result<Option<String>, StoreError> {
    let [proposal, approval] = manual.acts;
    let proposed = act_by_id(&mut *tx, proposal).await?;
    let approved = act_by_id(&mut *tx, approval).await?;
    let (Some(proposed), Some(approved)) = (proposed, approved) else {
        return Ok(Some("the acts of the two operators are missing".into()));
    };
    let price = body.price.map(|p| p.to_string());
    let of_block = (ChainId(body.chain_id), body.block_hash);
    let holds = (proposed.kind, approved.kind) == (ActKind::ProposePrice, ActKind::ApprovePrice)
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
    Ok((!holds).then(|| "is not what the two operators said".to_owned()))
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
