//! Payments that no standing credit covers, as far as their rows can be compared with each other; and the feed's
//! numbers.
//!
//! A payment that is not credited has no record: who changes all of its rows alike, or takes all of them away, is not
//! noticed here. A node shows the transfer, and docs/ledger-format.md says how it is asked again.

use alloy::primitives::B256;

use super::finding::{Findings, Remedy};
use crate::domain::deposit::Stage;
use crate::domain::ids::{ChainId, DepositId, DepositKey, Shape};
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::errors::StoreError;

/// Rows read at a time.
const PAGE: i64 = 1_000;
const TABLE: &str = "deposits";

/// Looks at all of them.
pub(super) async fn payments(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    let mut after = B256::ZERO;
    loop {
        // A sighting is compared once a receipt agreed with it. Before, a node that numbers logs in a way of its own may
        // have put another one in its place, or another amount under its number: the receipt shows that.
        let page = query(
            "SELECT d.deposit_id, d.chain_id, d.tx_hash, d.token, d.recipient, d.shape, d.n, d.stage, d.reason,
                    CAST(CASE WHEN a.address_id IS NULL THEN 0 ELSE 1 END AS BIGINT) AS bound,
                    CAST(CASE WHEN d.stage NOT IN ('confirmed', 'priced', 'reversed')
                           OR (s.deposit_id = d.deposit_id AND s.block_number = d.block_number
                               AND s.raw_amount = d.raw_amount) THEN 1 ELSE 0 END AS BIGINT) AS seen,
                    CAST(CASE WHEN d.stage <> 'reversed'
                           OR EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = d.deposit_id
                                AND k.journal_id = d.namespace_id AND k.reversed_by = d.record_seq
                                AND k.block_hash = d.block_hash AND k.log_index = d.log_index)
                         THEN 1 ELSE 0 END AS BIGINT) AS undone
             FROM deposits d
             LEFT JOIN addresses a ON a.address_id = d.address_id AND a.address = d.recipient
                                  AND a.namespace_id = d.namespace_id
             LEFT JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                                  AND s.log_index = d.log_index
             WHERE d.stage <> 'credited' AND d.deposit_id > $1 ORDER BY d.deposit_id LIMIT $2",
        )
        .bind(after)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = page.last() else { break };
        after = last.b256(TABLE, "deposit_id")?;
        for row in &page {
            match wrong(row) {
                Ok(None) => {}
                Ok(Some(why)) => {
                    let label = format!("deposit {}", row.b256(TABLE, "deposit_id")?);
                    found.add(TABLE, label, why, Remedy::PutBack);
                }
                Err(error) => found.unreadable(error)?,
            }
        }
    }
    strays(tx, found).await?;
    numbers(tx, found).await
}

/// What is wrong with a payment.
fn wrong(row: &Row) -> Result<Option<&'static str>, StoreError> {
    let shape = match row.text(TABLE, "shape")?.as_str() {
        "transfer" => Shape::Transfer,
        _ => Shape::Malformed,
    };
    let key = DepositKey {
        chain: ChainId(row.uint(TABLE, "chain_id")?),
        tx_hash: row.b256(TABLE, "tx_hash")?,
        token: row.address(TABLE, "token")?,
        recipient: row.address(TABLE, "recipient")?,
        shape,
        n: row.uint32(TABLE, "n")?,
    };
    let stage = (row.text(TABLE, "stage")?, row.opt_text(TABLE, "reason")?);
    let claims = [
        (
            Stage::parse(&stage.0, stage.1.as_deref()).is_some(),
            "its stage and reason are none that there are",
        ),
        (
            key.id() == DepositId(row.b256(TABLE, "deposit_id")?),
            "its id is not that of its columns",
        ),
        (
            row.int(TABLE, "bound")? == 1,
            "its address is not its recipient, or is another namespace's",
        ),
        (row.int(TABLE, "seen")? == 1, "its block or amount is not that of its sighting"),
        (
            row.int(TABLE, "undone")? == 1,
            "its record is not the one that undid the credit in its block",
        ),
    ];
    Ok(claims.into_iter().find(|(holds, _)| !holds).map(|(_, why)| why))
}

/// Rows about a payment without those that they are written with.
async fn strays(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    for (table, sql, problem) in [
        (
            "deposits",
            "SELECT s.deposit_id FROM sightings s LEFT JOIN deposits d ON d.deposit_id = s.deposit_id
             WHERE d.deposit_id IS NULL LIMIT 10",
            "the row of a payment that was seen is gone",
        ),
        (
            "prices",
            "SELECT v.deposit_id FROM conversions v
             LEFT JOIN prices p ON p.deposit_id = v.deposit_id AND p.block_hash = v.block_hash
                               AND p.log_index = v.log_index AND p.rule IN ('market', 'convert')
             WHERE p.deposit_id IS NULL LIMIT 10",
            "a conversion has no price by the market",
        ),
    ] {
        let rows = query(sql).fetch_all(&mut *tx).await?;
        for row in &rows {
            let label = format!("deposit {}", row.b256(table, "deposit_id")?);
            found.add(table, label, problem, Remedy::PutBack);
        }
    }
    Ok(())
}

/// Events of the feed are numbered from 1 without a gap, in each incarnation, up to the last number given.
async fn numbers(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    let rows = query(
        "SELECT e.incarnation, COUNT(*) AS n, MAX(e.feed_no) AS last,
                (SELECT MAX(l.feed_no) FROM log_state l WHERE l.incarnation = e.incarnation) AS given
         FROM events e GROUP BY e.incarnation",
    )
    .fetch_all(&mut *tx)
    .await?;
    for row in &rows {
        let (n, last) = (row.int("events", "n")?, row.int("events", "last")?);
        let given = row.opt_int("log_state", "given")?.unwrap_or(last);
        if n != last || last != given {
            let label = format!("incarnation {}", row.int("events", "incarnation")?);
            let problem =
                format!("{n} events have a number, the last one {last}, and {given} were given");
            found.add("events", label, problem, Remedy::PutBack);
        }
    }
    let none = query(
        "SELECT l.feed_no FROM log_state l WHERE l.feed_no > 0
           AND NOT EXISTS (SELECT 1 FROM events e WHERE e.incarnation = l.incarnation)",
    )
    .fetch_all(tx)
    .await?;
    if !none.is_empty() {
        found.add("events", "all", "numbers were given, and no event has one", Remedy::PutBack);
    }
    Ok(())
}
