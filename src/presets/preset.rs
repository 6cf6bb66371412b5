//! What is known of a public chain and of a token on it.

use alloy::primitives::Address;

use crate::domain::finality::Finality;
use crate::domain::ids::Network;

/// A public chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What the configuration calls it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Whether its tokens are worth money.
    pub network: Network,
    /// Usual time from one block to the next.
    pub block_ms: u64,
    /// What payments wait for, cheapest first, the last tier unbounded.
    pub finality: &'static [PresetTier],
    /// Blocks of which the hashes are kept.
    pub reorg_window: u64,
    /// Blocks per `eth_getLogs`.
    pub range_max: u64,
    /// Explorer, without a slash at the end: a transaction is at `{explorer}/tx/{hash}`.
    pub explorer: &'static str,
    /// Whether receipts can be proved by the block's hash (`verify = "receipts-root"`).
    pub receipts_root: ReceiptsRoot,
    /// The contracts that are USDC and USDT there.
    pub tokens: &'static [PresetToken],
}

/// Whether a chain's receipts can be proved by their block's hash. Said by how their clients hash, and
/// not by asking each chain: `topupd check` asks one block of each.
/// * Ethereum, Sepolia: yellow paper, 4.3; EIP-2718.
/// * Optimism, Base: Ethereum's headers; deposits are hashed by op-geth's `Receipts.EncodeIndex`.
/// * Arbitrum: Ethereum's headers, and receipts with types of its own
///   (<https://github.com/OffchainLabs/go-ethereum>, `core/types/receipt.go`).
/// * Polygon: Ethereum's headers; state syncs lie outside of the root before PIP-74 (bor).
/// * BNB Smart Chain: Ethereum's headers, with zeros where it has no beacon chain.
/// * Avalanche: coreth's `HeaderSerializable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptsRoot {
    /// The way in which its headers and receipts are hashed is known, and tried.
    Yes,
    /// Not all of them are known to be, for this reason.
    Unknown(&'static str),
    /// They cannot, for this reason.
    No(&'static str),
}

/// What payments up to a value wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresetTier {
    /// Applies up to this value, inclusive; `None` means any value, and stands last.
    pub up_to_usd: Option<u64>,
    /// What is asked of the block.
    pub finality: Finality,
}

/// A token on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresetToken {
    /// What the configuration calls it; unique within the chain.
    pub key: &'static str,
    /// What the contract answers to `symbol()`; several contracts may answer the same.
    pub symbol: &'static str,
    /// What it is worth: `USDC` or `USDT`.
    pub asset: &'static str,
    /// Contract.
    pub address: Address,
    /// What the contract answers to `decimals()`.
    pub decimals: u8,
    /// Who issues it.
    pub origin: Origin,
    /// Which of several it is, and who issues it, in a line.
    pub note: &'static str,
}

/// Who issues a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Circle or Tether, on this very chain.
    Native,
    /// Somebody else: a bridge that holds the original elsewhere, or a faucet of a test network.
    Bridged,
}

impl Preset {
    /// The token that the configuration calls `key`.
    pub fn token(&self, key: &str) -> Option<&'static PresetToken> {
        self.tokens.iter().find(|token| token.key == key)
    }
}

pub(super) const fn usdc(
    key: &'static str,
    symbol: &'static str,
    origin: Origin,
    address: Address,
    note: &'static str,
) -> PresetToken {
    PresetToken { key, symbol, asset: "USDC", address, decimals: 6, origin, note }
}

pub(super) const fn usdt(
    key: &'static str,
    symbol: &'static str,
    origin: Origin,
    address: Address,
    note: &'static str,
) -> PresetToken {
    PresetToken { key, symbol, asset: "USDT", address, decimals: 6, origin, note }
}

impl PresetToken {
    /// The tokens of BNB Smart Chain have 18 decimals, unlike all others.
    pub(super) const fn of_18_decimals(self) -> Self {
        Self { decimals: 18, ..self }
    }
}
