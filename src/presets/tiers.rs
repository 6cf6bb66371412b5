//! How long a payment waits on each kind of chain, by its value.

use super::preset::PresetTier;
use crate::domain::finality::Finality;

pub(super) const fn up_to(usd: u64, finality: Finality) -> PresetTier {
    PresetTier { up_to_usd: Some(usd), finality }
}

pub(super) const fn any_value(finality: Finality) -> PresetTier {
    PresetTier { up_to_usd: None, finality }
}

/// Ethereum. Small: 12 blocks (2.4 minutes), which gateways commonly ask for any amount, and more
/// than the deepest known reorg of the Beacon Chain (7 blocks, 25 May 2022). Middle: an epoch.
/// Large: `finalized`, two to three epochs. Not `safe`: by the Fast Confirmation Rule it is only a
/// few blocks behind the tip (<https://docs.chainstack.com/docs/ethereum-fast-confirmation>).
pub(super) const ETHEREUM_TIERS: &[PresetTier] = &[
    up_to(100, Finality::Confirmations(12)),
    up_to(1_000, Finality::Confirmations(32)),
    any_value(Finality::Finalized),
];

/// OP Stack. Small: half a minute of blocks, which rest on the sequencer's word alone. Middle:
/// `safe`, derived from data on Ethereum. Large: `finalized`, derived from data that is final
/// there, after 15 to 30 minutes
/// (<https://docs.optimism.io/stack/transactions/transaction-finality>,
/// <https://docs.base.org/base-chain/network-information/transaction-finality>).
pub(super) const OP_STACK_TIERS: &[PresetTier] = &[
    up_to(100, Finality::Confirmations(15)),
    up_to(1_000, Finality::Safe),
    any_value(Finality::Finalized),
];

/// Arbitrum. As with the OP Stack, at four blocks a second: `safe` and `finalized` say so of the
/// batch on Ethereum (<https://github.com/OffchainLabs/nitro/releases/tag/v2.0.10>,
/// <https://docs.arbitrum.io/how-arbitrum-works/reference/finality-and-reorgs>).
pub(super) const ARBITRUM_TIERS: &[PresetTier] = &[
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
pub(super) const FINALIZED: &[PresetTier] = &[any_value(Finality::Finalized)];
