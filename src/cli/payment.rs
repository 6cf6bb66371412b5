//! One payment, as every command shows it.

use serde_json::{Value, json};

use crate::cli::open::{chain_name, token_at};
use crate::config::Config;
use crate::domain::money::RawAmount;
use crate::store::DepositRow;

/// `12.5 USDC`, or base units of a contract that is not configured.
pub(super) fn amount(config: &Config, deposit: &DepositRow, raw: RawAmount) -> String {
    match token_at(config, deposit.chain.0, deposit.token) {
        Some(token) => format!("{} {}", raw.display(token.decimals), token.symbol),
        None => format!("{} base units of {}", raw.0, deposit.token.to_checksum(None)),
    }
}

/// What was paid, to whom, and where.
pub(super) fn payment_json(config: &Config, deposit: &DepositRow) -> Value {
    let token = token_at(config, deposit.chain.0, deposit.token);
    json!({
        "deposit_id": deposit.id,
        "namespace": deposit.namespace,
        "chain": deposit.chain,
        "chain_name": chain_name(config, deposit.chain),
        "tx_hash": deposit.tx_hash,
        "token": deposit.token.to_checksum(None),
        "symbol": token.map(|t| &t.symbol),
        "n": deposit.n,
        "block_number": deposit.block_number,
        "block_hash": deposit.block_hash,
        "block_time_ms": deposit.block_time_ms,
        "raw_amount": deposit.raw,
        "amount": token.map(|t| deposit.raw.display(t.decimals)),
    })
}
