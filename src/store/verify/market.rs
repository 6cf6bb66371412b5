//! What credits are priced by: every accepted price follows from the policy and the answers that it names,
//! and every conversion from its prices.
//!
//! It goes over all accepted prices and all conversions, page by page, whether or not a credit rests on
//! them. An answer that no price rests on is not looked at: nothing depends on it.

use std::collections::BTreeSet;

use alloy::primitives::B256;

use super::again::Again;
use super::finding::{Findings, Remedy};
use crate::domain::oracle::policy::{Body, policy_hash};
use crate::domain::oracle::source::Evidence;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::errors::StoreError;
use crate::store::prices::conversions::{ConversionRow, conversions_page};
use crate::store::prices::market::market_price;
use crate::store::prices::quotes::{StoredQuote, quotes_by_id};

/// Rows read at a time.
const PAGE: i64 = 500;

/// What was computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Priced {
    /// Accepted prices.
    pub prices: i64,
    /// Conversions.
    pub conversions: i64,
    /// Stored answers that prices rest on, once for each price.
    pub answers: i64,
}

/// Computes all prices and conversions again.
pub(super) async fn market(tx: &mut Tx, found: &mut Findings) -> Result<Priced, StoreError> {
    let mut again = Again::default();
    let mut done = Priced::default();
    prices(tx, found, &mut again, &mut done).await?;
    policies(tx, found).await?;
    let mut last: Option<ConversionRow> = None;
    loop {
        let page = match conversions_page(&mut *tx, (i64::MIN, i64::MAX), last.as_ref()).await {
            Ok(page) => page,
            Err(error) => {
                found.unreadable(error)?;
                break;
            }
        };
        let Some(newest) = page.last() else { break };
        last = Some(newest.clone());
        for row in &page {
            done.conversions = done.conversions.saturating_add(1);
            for how in again.conversion(tx, row).await? {
                found.add("conversions", format!("deposit {}", row.deposit), how, Remedy::Reprice);
            }
        }
    }
    let missing = query(
        "SELECT p.deposit_id FROM prices p
         WHERE p.rule IN ('market', 'convert') AND NOT EXISTS
           (SELECT 1 FROM conversions v WHERE v.deposit_id = p.deposit_id
             AND v.block_hash = p.block_hash AND v.log_index = p.log_index) LIMIT 10",
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in &missing {
        let row = format!("deposit {}", row.b256("prices", "deposit_id")?);
        found.add("conversions", row, "the row of a conversion is gone", Remedy::Reprice);
    }
    Ok(done)
}

/// Accepted prices in their order, without a gap up to the number that the next one follows.
async fn prices(
    tx: &mut Tx,
    found: &mut Findings,
    again: &mut Again,
    done: &mut Priced,
) -> Result<(), StoreError> {
    let mut seq = 0i64;
    loop {
        let page = query(
            "SELECT price_seq, price_hash, pair, chain_id, block_hash, instant_ms, price,
                    policy_hash, manual, body, accepted_at_ms
             FROM market_prices WHERE price_seq > $1 ORDER BY price_seq LIMIT $2",
        )
        .bind(seq)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        if page.is_empty() {
            break;
        }
        for row in &page {
            let expected = seq.saturating_add(1);
            seq = row.int("market_prices", "price_seq")?;
            if seq != expected {
                let problem = format!("the price before it, {expected}, is gone");
                found.add("market_prices", format!("price_seq {seq}"), problem, Remedy::Reprice);
            }
            done.prices = done.prices.saturating_add(1);
            match price(tx, row, again, done).await {
                Ok(None) => {}
                Ok(Some(why)) => {
                    found.add("market_prices", format!("price_seq {seq}"), why, Remedy::Reprice);
                }
                Err(error) => found.unreadable(error)?,
            }
        }
    }
    let head = query("SELECT seq FROM market_head WHERE only_row = 1")
        .fetch_one(&mut *tx)
        .await?
        .int("market_head", "seq")?;
    if head != seq {
        let problem = format!("says {head}, and the last price is {seq}");
        found.add("market_head", "seq", problem, Remedy::Recount);
    }
    Ok(())
}

/// What is wrong with one price, if anything is.
async fn price(
    tx: &mut Tx,
    row: &Row,
    again: &mut Again,
    done: &mut Priced,
) -> Result<Option<String>, StoreError> {
    let price = market_price(row)?;
    let body = price.body()?;
    if let Some(column) = differing_column(row, &body)? {
        return Ok(Some(format!("{column} is not what its text says")));
    }
    let decided = again.price(tx, price.accepted.hash).await?;
    done.answers = done.answers.saturating_add(i64::try_from(decided.quotes).unwrap_or(0));
    if decided.differs.is_some() {
        return Ok(decided.differs);
    }
    let ids: Vec<B256> = body.quote_ids().collect();
    let quotes = quotes_by_id(tx, &ids).await?;
    Ok(quotes.values().find_map(|quote| odd_quote(quote, &body)))
}

/// The first column that says something else than the price's text.
fn differing_column(row: &Row, body: &Body) -> Result<Option<&'static str>, StoreError> {
    const TABLE: &str = "market_prices";
    let claims = [
        (row.int(TABLE, "price_seq")?.checked_sub(1) == Some(body.after_seq), "price_seq"),
        (row.uint(TABLE, "chain_id")? == body.chain_id, "chain_id"),
        (row.b256(TABLE, "block_hash")? == body.block_hash, "block_hash"),
        (row.b256(TABLE, "policy_hash")? == body.policy_hash, "policy_hash"),
        (row.int(TABLE, "manual")? == i64::from(body.manual.is_some()), "manual"),
    ];
    Ok(claims.into_iter().find(|(holds, _)| !holds).map(|(_, column)| column))
}

/// What is wrong with an answer that a price rests on, beyond its hash.
fn odd_quote(quote: &StoredQuote, body: &Body) -> Option<String> {
    let part = |id: B256| {
        body.parts.iter().find(|part| part.quote_id == Some(id) || part.after_id == Some(id))
    };
    let names = part(quote.id).is_some_and(|part| part.source == quote.source);
    let of_block = quote.block.map(|(chain, block)| (chain.0, block));
    // Samples are of no block.
    let placed = match of_block {
        None => true,
        Some(place) => place == (body.chain_id, body.block_hash),
    };
    // Of contracts, the time follows from the block; a server says of when it was asked.
    let timed = match quote.evidence() {
        Ok(Evidence::Body(said)) => said.at_ms == quote.at_ms,
        Ok(Evidence::Calls(_)) => true,
        Err(_) => false,
    };
    let witnessed = !quote.providers.is_empty();
    let claims = [
        (names, "source is not the one that the price asked"),
        (placed, "chain_id or block_hash is of another payment"),
        (timed, "at_ms is not when it was asked"),
        (witnessed, "nobody gave it: its rows in quote_witnesses are gone"),
    ];
    let odd = claims.into_iter().find(|(holds, _)| !holds);
    odd.map(|(_, why)| format!("answer {}: {why}", quote.id))
}

/// Every policy's hash and pair follow from its text. That it is a record of the house is checked there.
async fn policies(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    let rows = query("SELECT policy_hash, pair, body FROM price_policies ORDER BY policy_hash")
        .fetch_all(tx)
        .await?;
    let mut seen = BTreeSet::new();
    for row in &rows {
        let hash = row.b256("price_policies", "policy_hash")?;
        let body = row.text("price_policies", "body")?;
        let pair = row.text("price_policies", "pair")?;
        let read: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let named = read.get("pair").and_then(serde_json::Value::as_str);
        if policy_hash(&body) != hash || named != Some(&pair) || !seen.insert(hash) {
            let problem = "policy_hash or pair is not what body says";
            found.add("price_policies", hash, problem, Remedy::Reprice);
        }
    }
    Ok(())
}
