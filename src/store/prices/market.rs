//! Accepted prices, and what they are compared with.
//!
//! An accepted price is written once, before anything is valued by it, and never changed. Prices are
//! numbered without gaps, so that it can be said later which of them an older one was compared with.

use alloy::primitives::B256;

use crate::domain::ids::ChainId;
use crate::domain::journal::{Cause, JournalId, PolicyAdded};
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::policy::{Accepted, Body, DAY_MS, Passed, Past};
use crate::domain::oracle::price_hash;
use crate::planted::{Fault, planted};
use crate::store::acts::breakers::breaker;
use crate::store::acts::rows::vetoed;
use crate::store::db::query::{Lock, Query, query};
use crate::store::db::{On, Row, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::ledger::Batch;
use crate::store::prices::tries::forget_try;
use crate::store::rows::{corrupt, to_int};

/// An accepted price as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketPrice {
    /// Place, hash, instant and price.
    pub accepted: Accepted,
    /// Pair.
    pub pair: String,
    /// What it was decided on, as it was hashed.
    pub text: String,
    /// When it was accepted.
    pub accepted_at_ms: i64,
}

impl MarketPrice {
    /// What it was decided on.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row is not what was written.
    pub fn body(&self) -> Result<Body, StoreError> {
        if price_hash(&self.text) != self.accepted.hash {
            return Err(corrupt("market_prices", "body", "price_hash is not the hash of body"));
        }
        let body: Body = serde_json::from_str(&self.text)
            .map_err(|e| corrupt("market_prices", "body", &e.to_string()))?;
        let said = (body.pair.as_str(), body.instant_ms, body.price);
        let (instant, price) = (self.accepted.instant_ms, self.accepted.price);
        if said != (self.pair.as_str(), instant, Some(price)) {
            return Err(corrupt(
                "market_prices",
                "price",
                "pair, instant or price differ from body",
            ));
        }
        Ok(body)
    }
}

/// The answer to "accept this".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// It stands, now or before.
    Accepted(MarketPrice),
    /// Another price was accepted since this one was decided: decide anew.
    Moved,
}

macro_rules! select_prices {
    ($conditions:literal) => {
        concat!(
            "SELECT price_seq, price_hash, pair, instant_ms, price, body, accepted_at_ms
             FROM market_prices ",
            $conditions
        )
    };
}

impl Store {
    /// The price that sources gave a pair at a payment's block, if it was accepted.
    pub async fn market_price_at(
        &self,
        pair: &str,
        chain: ChainId,
        block: B256,
    ) -> Result<Option<MarketPrice>, StoreError> {
        price_at(&self.db, pair, chain.0, block).await
    }

    /// The price that two operators gave a payment's block by these acts, if it was accepted.
    pub async fn manual_price_at(
        &self,
        pair: &str,
        chain: ChainId,
        block: B256,
        acts: [i64; 2],
    ) -> Result<Option<MarketPrice>, StoreError> {
        let rows = query(select_prices!(
            "WHERE pair = $1 AND chain_id = $2 AND block_hash = $3 AND manual = 1
             ORDER BY price_seq"
        ))
        .bind(pair)
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .fetch_all(&self.db)
        .await?;
        for row in &rows {
            let price = market_price(row)?;
            if price.body()?.manual.is_some_and(|manual| manual.acts == acts) {
                return Ok(Some(price));
            }
        }
        Ok(None)
    }

    /// An accepted price by its hash.
    pub async fn market_price(&self, hash: B256) -> Result<Option<MarketPrice>, StoreError> {
        price_by_hash(&self.db, hash).await
    }

    /// Accepted prices of a pair, or of all, the newest first.
    pub async fn market_prices(
        &self,
        pair: Option<&str>,
        until_ms: i64,
        limit: i64,
    ) -> Result<Vec<MarketPrice>, StoreError> {
        query(select_prices!(
            "WHERE ($1 IS NULL OR pair = $1) AND instant_ms <= $2
             ORDER BY instant_ms DESC, price_seq DESC LIMIT $3"
        ))
        .bind(pair)
        .bind(until_ms)
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(market_price)
        .collect()
    }

    /// The newest market price of a pair at or before an instant, whatever its age. What people gave
    /// one deposit is no price of the market.
    pub async fn last_market_price(
        &self,
        pair: &str,
        at_ms: i64,
    ) -> Result<Option<MarketPrice>, StoreError> {
        last_price(&self.db, pair, at_ms).await
    }

    /// What a price of a pair at an instant is compared with.
    pub async fn past(&self, pair: &str, at_ms: i64) -> Result<Past, StoreError> {
        let newest_seq = query("SELECT seq FROM market_head WHERE only_row = 1")
            .fetch_one(&self.db)
            .await?
            .int("market_head", "seq")?;
        Ok(Past {
            day: self.day_before(pair, at_ms, newest_seq, false).await?,
            newest_seq,
            latched: self.breaker(pair).await?.map(|b| b.reason),
            passed: passed(&self.db, pair, at_ms).await?,
            ..Past::default()
        })
    }

    /// Market prices of a pair that were accepted up to a place, of the day up to an instant, in order.
    /// A price by hand is for one deposit, and nothing is compared with it; older formulas did that, and
    /// to compute their prices again, `with_hands` gives those too.
    pub async fn day_before(
        &self,
        pair: &str,
        at_ms: i64,
        up_to_seq: i64,
        with_hands: bool,
    ) -> Result<Vec<Accepted>, StoreError> {
        day_before(&self.db, pair, at_ms, up_to_seq, with_hands).await
    }

    /// The text of a policy that a price names.
    ///
    /// # Errors
    /// When the database fails, or the row is not what was written.
    pub async fn policy(&self, hash: B256) -> Result<Option<PairPolicy>, StoreError> {
        policy_by_hash(&self.db, hash).await
    }
}

impl LeasedStore {
    /// Accepts a price: from now on it is the one of this pair at this block.
    pub async fn accept_price(
        &self,
        policy: &PairPolicy,
        body: &Body,
        now_ms: i64,
    ) -> Result<AcceptOutcome, StoreError> {
        let text = body.text();
        let hash = price_hash(&text);
        let refused = |why: &str| StoreError::Refused(why.to_owned());
        let price = body.price.ok_or_else(|| refused("a price that is held cannot be accepted"))?;
        let mut tx = self.begin_held().await?;
        let head = query("SELECT seq FROM market_head WHERE only_row = 1")
            .locked(Lock::Update)
            .fetch_one(&mut tx)
            .await?
            .int("market_head", "seq")?;
        let stands = price_at(&mut tx, &body.pair, body.chain_id, body.block_hash).await?;
        if let Some(stands) = stands.filter(|_| body.manual.is_none()) {
            Store::abandon(tx).await?;
            return Ok(AcceptOutcome::Accepted(stands));
        }
        // Another chain's payment may have opened the latch since this was decided, or an operator
        // rejected it.
        let stopped = body.manual.is_none()
            && (breaker(&mut tx, &body.pair).await?.is_some()
                || vetoed(&mut tx, &body.pair, body.chain_id, body.block_hash).await?);
        if head != body.after_seq || stopped {
            Store::abandon(tx).await?;
            return Ok(AcceptOutcome::Moved);
        }
        let batch = self.new_policy(&mut tx, body, &policy.body(), now_ms).await?;
        let seq = head.checked_add(1).ok_or_else(|| refused("no number is left for a price"))?;
        query(
            "INSERT INTO market_prices (price_seq, price_hash, pair, chain_id, block_hash,
               instant_ms, price, policy_hash, manual, body, accepted_at_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(seq)
        .bind(hash)
        .bind(&body.pair)
        .bind(to_int(body.chain_id, "chain id")?)
        .bind(body.block_hash)
        .bind(body.instant_ms)
        .bind(price.to_string())
        .bind(body.policy_hash)
        .bind(i64::from(body.manual.is_some()))
        .bind(&text)
        .bind(now_ms)
        .execute(&mut tx)
        .await?;
        for id in body.quote_ids() {
            let kept = query("UPDATE quotes SET used = 1 WHERE quote_id = $1")
                .bind(id)
                .execute(&mut tx)
                .await?;
            if kept == 0 {
                Store::abandon(tx).await?;
                return Ok(AcceptOutcome::Moved); // forgotten meanwhile
            }
        }
        query("UPDATE market_head SET seq = $1 WHERE only_row = 1")
            .bind(seq)
            .execute(&mut tx)
            .await?;
        // What sources said stands beside a price by hand: other payments of the block wait on.
        if body.manual.is_none() {
            forget_try(&mut tx, body).await?;
        }
        match batch {
            Some(batch) => self.commit_with(tx, batch).await?,
            None => Store::commit(tx).await?,
        }
        let accepted = Accepted { seq, hash, instant_ms: body.instant_ms, price };
        let pair = body.pair.clone();
        Ok(AcceptOutcome::Accepted(MarketPrice { accepted, pair, text, accepted_at_ms: now_ms }))
    }
}

/// An accepted price by its hash.
pub(in crate::store) async fn price_by_hash(
    on: impl Into<On<'_>>,
    hash: B256,
) -> Result<Option<MarketPrice>, StoreError> {
    one_price(on, query(select_prices!("WHERE price_hash = $1")).bind(hash)).await
}

/// The text of a policy by its hash, read.
pub(in crate::store) async fn policy_by_hash(
    on: impl Into<On<'_>>,
    hash: B256,
) -> Result<Option<PairPolicy>, StoreError> {
    let row = query("SELECT body FROM price_policies WHERE policy_hash = $1")
        .bind(hash)
        .fetch_optional(on)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let text = row.text("price_policies", "body")?;
    if crate::domain::oracle::policy::policy_hash(&text) != hash {
        return Err(corrupt("price_policies", "body", "policy_hash is not the hash of body"));
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|e| corrupt("price_policies", "body", &e.to_string()))
}

impl LeasedStore {
    /// Stores a policy that decides for the first time, with the house's record of it. Whoever calls holds the head
    /// of the market, and nothing that comes after a journal.
    async fn new_policy(
        &self,
        tx: &mut Tx,
        body: &Body,
        policy: &str,
        now_ms: i64,
    ) -> Result<Option<Batch>, StoreError> {
        let known = query("SELECT 1 AS one FROM price_policies WHERE policy_hash = $1")
            .bind(body.policy_hash)
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_some() {
            return Ok(None);
        }
        let mut batch = Batch::of_house(tx, self).await?;
        let cause = Cause::PolicyAdded(PolicyAdded::of(policy));
        batch.note(tx, JournalId::HOUSE, cause, None).await?;
        query(
            "INSERT INTO price_policies (policy_hash, pair, body, recorded_at_ms)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(body.policy_hash)
        .bind(&body.pair)
        .bind(policy)
        .bind(now_ms)
        .execute(tx)
        .await?;
        Ok(Some(batch))
    }
}

/// Market prices of a pair that were accepted up to a place, of the day up to an instant, in order.
pub(in crate::store) async fn day_before(
    on: impl Into<On<'_>>,
    pair: &str,
    at_ms: i64,
    up_to_seq: i64,
    with_hands: bool,
) -> Result<Vec<Accepted>, StoreError> {
    let hands = with_hands || planted(Fault::HandsInHistory);
    query(
        "SELECT price_seq, price_hash, instant_ms, price FROM market_prices
         WHERE pair = $1 AND instant_ms <= $2 AND instant_ms >= $3 AND price_seq <= $4
           AND manual <= $5
         ORDER BY instant_ms, price_seq",
    )
    .bind(pair)
    .bind(at_ms)
    .bind(at_ms.saturating_sub(DAY_MS))
    .bind(up_to_seq)
    .bind(i64::from(hands))
    .fetch_all(on)
    .await?
    .iter()
    .map(accepted)
    .collect()
}

/// The newest market price of a pair at or before an instant.
pub(in crate::store) async fn last_price(
    on: impl Into<On<'_>>,
    pair: &str,
    at_ms: i64,
) -> Result<Option<MarketPrice>, StoreError> {
    let newest = query(select_prices!(
        "WHERE pair = $1 AND instant_ms <= $2 AND manual = 0
         ORDER BY instant_ms DESC, price_seq DESC LIMIT 1"
    ));
    one_price(on, newest.bind(pair).bind(at_ms)).await
}

/// The newest price that an operator let pass.
pub(in crate::store) async fn passed(
    on: impl Into<On<'_>>,
    pair: &str,
    at_ms: i64,
) -> Result<Option<Passed>, StoreError> {
    query(
        "SELECT instant_ms, price FROM operator_acts WHERE kind = 'resume_breaker'
           AND pair = $1 AND instant_ms <= $2 ORDER BY instant_ms DESC, act_id DESC LIMIT 1",
    )
    .bind(pair)
    .bind(at_ms)
    .fetch_optional(on)
    .await?
    .map(|row| {
        Ok(Passed {
            instant_ms: row.int("operator_acts", "instant_ms")?,
            price: row.parsed("operator_acts", "price")?,
        })
    })
    .transpose()
}

/// The price of the market that was accepted at a block.
pub(in crate::store) async fn price_at(
    on: impl Into<On<'_>>,
    pair: &str,
    chain_id: u64,
    block: B256,
) -> Result<Option<MarketPrice>, StoreError> {
    let at = query(select_prices!(
        "WHERE pair = $1 AND chain_id = $2 AND block_hash = $3 AND manual = 0"
    ));
    one_price(on, at.bind(pair).bind(to_int(chain_id, "chain id")?).bind(block)).await
}

/// The price that a question finds.
async fn one_price(on: impl Into<On<'_>>, asked: Query) -> Result<Option<MarketPrice>, StoreError> {
    let found = asked.fetch_optional(on).await?;
    found.as_ref().map(market_price).transpose()
}

fn accepted(row: &Row) -> Result<Accepted, StoreError> {
    Ok(Accepted {
        seq: row.int("market_prices", "price_seq")?,
        hash: row.b256("market_prices", "price_hash")?,
        instant_ms: row.int("market_prices", "instant_ms")?,
        price: row.parsed("market_prices", "price")?,
    })
}

pub(in crate::store) fn market_price(row: &Row) -> Result<MarketPrice, StoreError> {
    Ok(MarketPrice {
        accepted: accepted(row)?,
        pair: row.text("market_prices", "pair")?,
        text: row.text("market_prices", "body")?,
        accepted_at_ms: row.int("market_prices", "accepted_at_ms")?,
    })
}
