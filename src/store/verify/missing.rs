//! Which row is gone, or does not agree with the others, where those that a credit rests on give no cause.

use super::compare::MISSING_ROW;
use crate::domain::journal::DepositCredit;
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::errors::StoreError;
use crate::store::rows::to_int;

/// Each asks for one row that a credit rests on, the more basic ones first. `$1` is the deposit, `$2` the
/// block, `$3` the log, `$4` the number of reversals.
const ROWS: &[(&str, &str)] = &[
    ("deposits", "SELECT 1 AS one FROM deposits d WHERE d.deposit_id = $1"),
    (
        "addresses",
        "SELECT 1 AS one FROM deposits d JOIN addresses a ON a.address_id = d.address_id
           AND a.address = d.recipient AND a.namespace_id = d.namespace_id
         JOIN namespaces n ON n.namespace_id = d.namespace_id WHERE d.deposit_id = $1",
    ),
    (
        "blocks",
        "SELECT 1 AS one FROM deposits d JOIN blocks b ON b.chain_id = d.chain_id
           AND b.block_hash = $2 WHERE d.deposit_id = $1",
    ),
    (
        "sightings",
        "SELECT 1 AS one FROM deposits d JOIN sightings s ON s.chain_id = d.chain_id
           AND s.block_hash = $2 AND s.log_index = $3 AND s.deposit_id = d.deposit_id
           AND s.tx_hash = d.tx_hash AND s.token = d.token AND s.recipient = d.recipient
           AND s.malformed IS NULL AND s.topics IS NULL AND s.data IS NULL
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = $2
           AND b.block_number = s.block_number WHERE d.deposit_id = $1",
    ),
    (
        "confirmations",
        "SELECT 1 AS one FROM confirmations c WHERE c.deposit_id = $1 AND c.block_hash = $2
           AND c.log_index = $3 AND c.reversals = $4",
    ),
    (
        "prices",
        "SELECT 1 AS one FROM prices p WHERE p.deposit_id = $1 AND p.block_hash = $2
           AND p.log_index = $3 AND p.raw_amount = (SELECT s.raw_amount FROM sightings s
             WHERE s.deposit_id = $1 AND s.block_hash = $2 AND s.log_index = $3)",
    ),
    (
        "epochs",
        "SELECT 1 AS one FROM prices p JOIN epochs e ON e.epoch_id = p.epoch_id
         WHERE p.deposit_id = $1 AND p.block_hash = $2 AND p.log_index = $3",
    ),
];

/// The table of the first one that is not there as it must be, and what is wrong with it.
pub(super) async fn named_row(
    tx: &mut Tx,
    cause: &DepositCredit,
) -> Result<(&'static str, &'static str), StoreError> {
    for (table, sql) in ROWS {
        let mut asked = query(sql).bind(cause.deposit_key().id().0);
        if sql.contains("$2") {
            asked = asked.bind(cause.block_hash);
        }
        if sql.contains("$3") {
            asked = asked.bind(to_int(cause.log_index, "log index")?);
        }
        if sql.contains("$4") {
            asked = asked.bind(i64::from(cause.reversals));
        }
        let rows = asked.fetch_all(&mut *tx).await;
        if rows?.is_empty() {
            return Ok((table, MISSING_ROW));
        }
    }
    Ok(("deposits", "the rows about it do not agree"))
}
