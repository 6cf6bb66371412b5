//! The facts of thirteen public chains: which contract USDC and USDT are there, how long a payment
//! waits, and what public providers accept.
//!
//! Data only. It asks no chain whether a fact still holds, and names no provider and no rate: those
//! are the operator's. A token's address decides what is credited; its symbol is only what people
//! see, and any contract may answer to it.

mod chains;

use Origin::{Bridged, Native};
use alloy::primitives::{Address, address};

use self::chains::PRESETS;
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

/// The preset of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

/// Every preset: first those worth money, then the test networks.
#[must_use]
pub fn all() -> &'static [Preset] {
    &PRESETS
}

impl Preset {
    /// The token that the configuration calls `key`.
    #[must_use]
    pub fn token(&self, key: &str) -> Option<&'static PresetToken> {
        self.tokens.iter().find(|token| token.key == key)
    }
}

// The issuers' own pages decide, and whoever changes an address here reads them first:
//   Circle  https://developers.circle.com/stablecoins/usdc-contract-addresses
//   Tether  https://tether.to/en/supported-protocols/
//   USDT0   https://docs.usdt0.to/technical-documentation/deployments
// Each address was also found in at least one list that others keep, named beside it:
//   aave        https://github.com/bgd-labs/aave-address-book (src/ts; generated)
//   circle-code https://github.com/circlefin/circle-cctp-crosschain-transfer (src/lib/chains.ts)
//   enzyme      https://github.com/enzymefinance/sdk (packages/environment/src/assets; its tests
//               compare symbol() and decimals() with the chain, and note where they differ)
//   escalibur   https://github.com/tmzzjr/escalibur-wallet (TokenRegistry.swift; compared with the
//               issuers' pages, symbol() and decimals() read from two nodes, September 2026)
//   ethskills   https://skills.sh/austintgriffith/ethskills/addresses (symbol() read, March 2026)
//   gelato      https://docs.gelato.cloud/1Balance/USDC-Addresess
//   op-list     https://github.com/ethereum-optimism/ethereum-optimism.github.io (data)
// Explorers and chain ids: https://github.com/ethereum-lists/chains (_data/chains/eip155-N.json).
//
// The windows hold some ten minutes and, up to 4,000 blocks, the usual distance to `finalized`.
//
// Ranges: 2,000 blocks are what the public nodes of Base and Avalanche still answer, and paid plans
// elsewhere; free trials answer far fewer (5 at QuickNode). Whoever asks halves what is too large.

const fn usdc(
    key: &'static str,
    symbol: &'static str,
    origin: Origin,
    address: Address,
    note: &'static str,
) -> PresetToken {
    PresetToken { key, symbol, asset: "USDC", address, decimals: 6, origin, note }
}

const fn usdt(
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
    const fn of_18_decimals(self) -> Self {
        Self { decimals: 18, ..self }
    }
}

const fn up_to(usd: u64, finality: Finality) -> PresetTier {
    PresetTier { up_to_usd: Some(usd), finality }
}

const fn any_value(finality: Finality) -> PresetTier {
    PresetTier { up_to_usd: None, finality }
}

/// Ethereum. Small: 12 blocks (2.4 minutes), which gateways commonly ask for any amount, and more
/// than the deepest known reorg of the Beacon Chain (7 blocks, 25 May 2022). Middle: an epoch.
/// Large: `finalized`, two to three epochs. Not `safe`: by the Fast Confirmation Rule it is only a
/// few blocks behind the tip (<https://docs.chainstack.com/docs/ethereum-fast-confirmation>).
const ETHEREUM_TIERS: &[PresetTier] = &[
    up_to(100, Finality::Confirmations(12)),
    up_to(1_000, Finality::Confirmations(32)),
    any_value(Finality::Finalized),
];

/// OP Stack. Small: half a minute of blocks, which rest on the sequencer's word alone. Middle:
/// `safe`, derived from data on Ethereum. Large: `finalized`, derived from data that is final
/// there, after 15 to 30 minutes
/// (<https://docs.optimism.io/stack/transactions/transaction-finality>,
/// <https://docs.base.org/base-chain/network-information/transaction-finality>).
const OP_STACK_TIERS: &[PresetTier] = &[
    up_to(100, Finality::Confirmations(15)),
    up_to(1_000, Finality::Safe),
    any_value(Finality::Finalized),
];

/// Arbitrum. As with the OP Stack, at four blocks a second: `safe` and `finalized` say so of the
/// batch on Ethereum (<https://github.com/OffchainLabs/nitro/releases/tag/v2.0.10>,
/// <https://docs.arbitrum.io/how-arbitrum-works/reference/finality-and-reorgs>).
const ARBITRUM_TIERS: &[PresetTier] = &[
    up_to(100, Finality::Confirmations(120)),
    up_to(1_000, Finality::Safe),
    any_value(Finality::Finalized),
];

/// Chains that finalize within seconds. No number of confirmations is sooner and as sure, and when
/// finality stalls, waiting is what is wanted.
/// * BNB Smart Chain: a block is final two blocks later, and its reversal would cost validators
///   their stake (BEP-126;
///   <https://docs.bnbchain.org/bnb-smart-chain/developers/json_rpc/bsc-api-list/>).
/// * Polygon: milestones that validators voted for, some 5 seconds (PIP-11). Before there were any,
///   157 blocks were reorganised at once (February 2023). On 10 September 2025 finality stalled for
///   15 minutes over a faulty milestone, which an upgrade then removed.
/// * Avalanche: `finalized` is the last accepted block, and accepted blocks are never reverted
///   (<https://github.com/ava-labs/coreth/pull/381>).
const FINALIZED: &[PresetTier] = &[any_value(Finality::Finalized)];

#[cfg(test)]
mod tests;
