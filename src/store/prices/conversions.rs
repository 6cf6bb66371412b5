//! Conversions as people ask for them, with everything that they were computed from.

use alloy::primitives::B256;

use crate::domain::conversion::Conversion;
use crate::domain::ids::{BlockRef, ChainId, DepositId};
use crate::domain::money::{Nanocredits, Rate, RawAmount};
use crate::store::db::query::query;
use crate::store::db::{On, Row};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::grounds::conversion;
use crate::store::rows::corrupt;

/// Rows in one page.
const PAGE: i64 = 500;

/// A payment that was valued at market prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversionRow {
    /// Deposit.
    pub deposit: DepositId,
    /// To whom.
    pub namespace: String,
    /// Chain.
    pub chain: ChainId,
    /// Block that it was valued in.
    pub block: BlockRef,
    /// Its time.
    pub time_ms: i64,
    /// Log within the block.
    pub log_index: u64,
    /// What was paid, base units, as the sighting says.
    pub sighted: RawAmount,
    /// What was paid, base units, as the price says.
    pub raw: RawAmount,
    /// Decimals of the token.
    pub decimals: u8,
    /// Asset it was taken as.
    pub asset: String,
    /// Epoch.
    pub epoch: String,
    /// `market` or `convert`.
    pub rule: String,
    /// The rate that the last step used.
    pub rate: Rate,
    /// What it gave.
    pub credits: Nanocredits,
    /// Prices and arithmetic.
    pub conversion: Conversion,
    /// The record of its credit in its namespace's journal, if it was credited.
    pub record_seq: Option<i64>,
    /// When its price was fixed.
    pub priced_at_ms: i64,
}

macro_rules! select_conversions {
    ($conditions:literal) => {
        concat!(
            "SELECT v.deposit_id, n.name, d.chain_id, v.block_hash, b.block_number, b.block_time_ms,
                    v.log_index, s.raw_amount AS s_raw_amount, p.raw_amount, p.decimals, p.asset,
                    p.epoch_id, p.rule, p.credits_per_token, p.credits_nano, p.priced_at_ms,
                    v.body AS conversion, k.seq AS record_seq
             FROM conversions v
             JOIN prices p ON p.deposit_id = v.deposit_id AND p.block_hash = v.block_hash
                          AND p.log_index = v.log_index
             JOIN deposits d ON d.deposit_id = v.deposit_id
             JOIN namespaces n ON n.namespace_id = d.namespace_id
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = v.block_hash
             JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = v.block_hash
                             AND s.log_index = v.log_index
             LEFT JOIN credits k ON k.deposit_id = v.deposit_id
              AND k.seq = (SELECT MAX(z.seq) FROM credits z
                            WHERE z.deposit_id = v.deposit_id AND z.block_hash = v.block_hash
                              AND z.log_index = v.log_index) ",
            $conditions
        )
    };
}

impl Store {
    /// A page of conversions of payments from one instant to another, both inclusive, in the order
    /// of time, after the given one.
    pub async fn conversions(
        &self,
        from_ms: i64,
        to_ms: i64,
        after: Option<&ConversionRow>,
    ) -> Result<Vec<ConversionRow>, StoreError> {
        conversions_page(&self.db, (from_ms, to_ms), after).await
    }

    /// The conversions of a deposit: one for each block that it was valued in.
    pub async fn conversions_of(
        &self,
        deposit: DepositId,
    ) -> Result<Vec<ConversionRow>, StoreError> {
        query(select_conversions!("WHERE v.deposit_id = $1 ORDER BY p.priced_at_ms"))
            .bind(deposit.0)
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(row)
            .collect()
    }

    /// How many payments were priced by the market, by the rows of prices: as many as there must be
    /// conversions.
    pub async fn market_priced(&self) -> Result<u64, StoreError> {
        query("SELECT COUNT(*) AS found FROM prices WHERE rule IN ('market', 'convert')")
            .fetch_one(&self.db)
            .await?
            .uint("prices", "found")
    }

    /// Accepted prices of payments from one instant to another, both inclusive, by their place.
    pub async fn price_hashes(
        &self,
        from_ms: i64,
        to_ms: i64,
        after_seq: i64,
    ) -> Result<Vec<(i64, B256)>, StoreError> {
        query(
            "SELECT price_seq, price_hash FROM market_prices
             WHERE instant_ms >= $1 AND instant_ms <= $2 AND price_seq > $3
             ORDER BY price_seq LIMIT $4",
        )
        .bind(from_ms)
        .bind(to_ms)
        .bind(after_seq)
        .bind(PAGE)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok((row.int("market_prices", "price_seq")?, row.b256("market_prices", "price_hash")?))
        })
        .collect()
    }
}

/// A page of conversions of a span of time, both ends inclusive, in the order of time, after the given one.
pub(in crate::store) async fn conversions_page(
    on: impl Into<On<'_>>,
    (from_ms, to_ms): (i64, i64),
    after: Option<&ConversionRow>,
) -> Result<Vec<ConversionRow>, StoreError> {
    let (time, id, block) = match after {
        None => (i64::MIN, Vec::new(), Vec::new()),
        Some(last) => (last.time_ms, last.deposit.0.to_vec(), last.block.hash.to_vec()),
    };
    query(select_conversions!(
        "WHERE b.block_time_ms >= $1 AND b.block_time_ms <= $2
           AND (b.block_time_ms, v.deposit_id, v.block_hash) > ($3, $4, $5)
         ORDER BY b.block_time_ms, v.deposit_id, v.block_hash LIMIT $6"
    ))
    .bind(from_ms)
    .bind(to_ms)
    .bind(time)
    .bind(id)
    .bind(block)
    .bind(PAGE)
    .fetch_all(on)
    .await?
    .iter()
    .map(row)
    .collect()
}

/// True when an operator let a price pass: an act with this pair, price and instant is there.
pub(in crate::store) async fn was_passed(
    on: impl Into<On<'_>>,
    pair: &str,
    price: Rate,
    instant_ms: i64,
) -> Result<bool, StoreError> {
    let found = query(
        "SELECT 1 AS one FROM operator_acts WHERE kind = 'resume_breaker' AND pair = $1
           AND price = $2 AND instant_ms = $3 LIMIT 1",
    )
    .bind(pair)
    .bind(price.to_string())
    .bind(instant_ms)
    .fetch_optional(on)
    .await?;
    Ok(found.is_some())
}

fn row(row: &Row) -> Result<ConversionRow, StoreError> {
    Ok(ConversionRow {
        deposit: DepositId(row.b256("conversions", "deposit_id")?),
        namespace: row.text("namespaces", "name")?,
        chain: ChainId(row.uint("deposits", "chain_id")?),
        block: row.block_ref("blocks")?,
        time_ms: row.int("blocks", "block_time_ms")?,
        log_index: row.uint("conversions", "log_index")?,
        sighted: row.amount("sightings", "s_raw_amount")?,
        raw: row.amount("prices", "raw_amount")?,
        decimals: row.uint8("prices", "decimals")?,
        asset: row.text("prices", "asset")?,
        epoch: row.text("prices", "epoch_id")?,
        rule: row.text("prices", "rule")?,
        rate: row.parsed("prices", "credits_per_token")?,
        credits: Nanocredits(row.int("prices", "credits_nano")?),
        conversion: conversion(row)?
            .ok_or_else(|| corrupt("conversions", "body", "is not there"))?,
        record_seq: row.opt_int("credits", "record_seq")?,
        priced_at_ms: row.int("prices", "priced_at_ms")?,
    })
}
