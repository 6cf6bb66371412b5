//! Payments that are ignored, though the rules would credit them: what somebody would set by hand who wants a payment
//! never to be credited. No record is made of what is ignored, so the rules themselves are asked again.
//!
//! That takes what the token is, which the configuration says and the database only where something was priced in
//! it: of a token in which nothing ever was, nothing is said. Nor is anything said of a payment that a
//! market price makes too small, once its receipt was confirmed, nor of one that is ignored because its token was
//! not listed: whether it was, then, no row says.

use std::collections::BTreeMap;

use alloy::primitives::Address;

use super::finding::{Findings, Remedy};
use crate::domain::deposit::IgnoreReason;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::money::RawAmount;
use crate::domain::pricing::{EpochBook, Token, price_in};
use crate::domain::terms::NoPrice;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::errors::StoreError;
use crate::store::prices::epochs::stored_epochs;

/// Payments read at a time.
const PAGE: i64 = 1_000;

/// Names those that are ignored without a reason.
pub(super) async fn ignored(tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
    let epochs = match stored_epochs(&mut *tx).await {
        // Those that cannot be read are named elsewhere.
        Err(StoreError::Corrupt { .. }) => return Ok(()),
        epochs => epochs?,
    };
    let tokens = priced_tokens(tx).await?;
    let mut after: Vec<u8> = Vec::new();
    loop {
        let rows = query(
            "SELECT d.deposit_id, d.reason, d.chain_id, d.token, s.raw_amount, b.block_time_ms,
                    (SELECT COUNT(*) FROM confirmations c WHERE c.deposit_id = d.deposit_id
                       AND c.block_hash = d.block_hash AND c.log_index = d.log_index) AS confirmed
             FROM deposits d
             JOIN sightings s ON s.chain_id = d.chain_id AND s.block_hash = d.block_hash
                             AND s.log_index = d.log_index AND s.deposit_id = d.deposit_id
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
             WHERE d.stage = 'ignored' AND d.reason <> 'unlisted_token' AND s.malformed IS NULL AND s.sender <> s.recipient
               AND d.deposit_id > $1
             ORDER BY d.deposit_id LIMIT $2",
        )
        .bind(after.clone())
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.bytes("deposits", "deposit_id")?;
        for row in &rows {
            let place = (row.uint("deposits", "chain_id")?, row.address("deposits", "token")?);
            let Some(token) = tokens.get(&place) else { continue };
            if let Some(problem) = withheld(row, token, &epochs)? {
                let id = DepositId(row.b256("deposits", "deposit_id")?);
                found.add("deposits", id, problem, Remedy::Withheld);
            }
        }
    }
}

/// What is wrong with a payment that is ignored.
fn withheld(row: &Row, token: &Token, epochs: &EpochBook) -> Result<Option<String>, StoreError> {
    let amount = row.amount("sightings", "raw_amount")?;
    if amount == RawAmount::ZERO {
        return Ok(None);
    }
    let reason = row.text("deposits", "reason")?;
    let is_confirmed = row.int("confirmations", "confirmed")? > 0;
    let by = match epochs.at(row.int("blocks", "block_time_ms")?) {
        None => "there is no epoch that would say so".to_owned(),
        Some(epoch) => match price_in(amount, token, epoch, &[]) {
            Err(NoPrice::Ignore(_)) => return Ok(None),
            // Its worth takes a price of the market.
            Err(NoPrice::Hold(_))
                if is_confirmed && reason == IgnoreReason::BelowMinimum.as_str() =>
            {
                return Ok(None);
            }
            Ok(_) | Err(NoPrice::Hold(_)) => format!("epoch {} accepts it", epoch.id),
        },
    };
    Ok(Some(format!("it is ignored as {reason}, and {by}")))
}

/// The tokens in which something was priced, by chain and contract: those of which all prices say the same.
async fn priced_tokens(tx: &mut Tx) -> Result<BTreeMap<(u64, Address), Token>, StoreError> {
    query(
        "SELECT x.chain_id, x.token, MIN(p.asset) AS asset, MIN(p.decimals) AS decimals
         FROM prices p JOIN deposits x ON x.deposit_id = p.deposit_id
         GROUP BY x.chain_id, x.token
         HAVING MIN(p.asset) = MAX(p.asset) AND MIN(p.decimals) = MAX(p.decimals)",
    )
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| {
        let token = Token {
            chain: ChainId(row.uint("deposits", "chain_id")?),
            address: row.address("deposits", "token")?,
            symbol: String::new(),
            asset: row.text("prices", "asset")?,
            decimals: row.uint8("prices", "decimals")?,
        };
        Ok(((token.chain.0, token.address), token))
    })
    .collect()
}
