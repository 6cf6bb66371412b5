//! What can go wrong with the local chain.

use alloy::primitives::TxHash;

use crate::chain::source::SourceError;
use crate::devnet::anvil::AnvilError;

/// Why the local chain did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// anvil itself.
    #[error(transparent)]
    Anvil(#[from] AnvilError),
    /// A request.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Uniswap's contracts, which are not part of this repository.
    #[error(
        "Uniswap's contracts are not in anvil-fixtures/node_modules and could not be installed from npm ({0}): install Node 20 or newer"
    )]
    Uniswap(String),
    /// A transaction failed or vanished.
    #[error("transaction {tx}: {why}")]
    Transaction {
        /// Which.
        tx: TxHash,
        /// Why.
        why: &'static str,
    },
}
