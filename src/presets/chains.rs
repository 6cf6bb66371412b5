//! The presets: one chain after the other, each fact with its source beside it.

use alloy::primitives::address;

use super::preset::Origin::{Bridged, Native};
use super::preset::{Preset, ReceiptsRoot, usdc, usdt};
use super::tiers::{ARBITRUM_TIERS, ETHEREUM_TIERS, FINALIZED, OP_STACK_TIERS};
use crate::domain::ids::Network;

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

pub(super) static PRESETS: [Preset; 13] = [
    Preset {
        name: "ethereum",
        title: "Ethereum",
        chain_id: 1,
        network: Network::Mainnet,
        block_ms: 12_000,
        finality: ETHEREUM_TIERS,
        // Six epochs, twice the usual distance to `finalized`.
        reorg_window: 192,
        range_max: 2_000,
        explorer: "https://etherscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. gelato, escalibur, ethskills (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"),
                "USDC issued by Circle on Ethereum",
            ),
            // Tether. escalibur, ethskills (symbol read).
            usdt(
                "USDT",
                "USDT",
                Native,
                address!("0xdAC17F958D2ee523a2206206994597C13D831ec7"),
                "USDT issued by Tether on Ethereum",
            ),
        ],
    },
    Preset {
        name: "bsc",
        title: "BNB Smart Chain",
        chain_id: 56,
        network: Network::Mainnet,
        // BEP-619, since 14 January 2026: https://docs.bnbchain.org/announce/fermi-bsc
        block_ms: 450,
        finality: FINALIZED,
        reorg_window: 1_500,
        // Its USDT alone fills 10,000 logs, where many providers stop, in a few hundred blocks.
        range_max: 500,
        explorer: "https://bscscan.com",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Binance's; not Tether's. aave, escalibur (symbol and decimals read).
            usdt(
                "USDT",
                "USDT",
                Bridged,
                address!("0x55d398326f99059fF775485246999027B3197955"),
                "Binance-Peg USDT, issued by Binance, 18 decimals; Tether issues none here",
            )
            .of_18_decimals(),
            // Binance's; not Circle's. aave, escalibur (symbol and decimals read).
            usdc(
                "USDC",
                "USDC",
                Bridged,
                address!("0x8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d"),
                "Binance-Peg USDC, issued by Binance, 18 decimals; Circle issues none here",
            )
            .of_18_decimals(),
        ],
    },
    Preset {
        name: "polygon",
        title: "Polygon PoS",
        chain_id: 137,
        network: Network::Mainnet,
        // 1.75 s since May 2026, and to be lowered (PIP-86). Between block 87,218,600 (21 May 2026,
        // PIP-88) and 95,043,351 (6 October 2026) it was 1.52 s on average.
        block_ms: 1_500,
        finality: FINALIZED,
        // 15 minutes, as long as finality stalled in September 2025.
        reorg_window: 600,
        range_max: 2_000,
        explorer: "https://polygonscan.com",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. gelato, escalibur (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"),
                "USDC issued by Circle on Polygon",
            ),
            // Polygon's bridge; not Circle's. enzyme, whose tests note that the chain answers USDC.
            usdc(
                "USDC.e",
                "USDC",
                Bridged,
                address!("0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174"),
                "USDC bridged from Ethereum; also answers to USDC, explorers say USDC.e",
            ),
            // USDT0, upgraded in place: https://usdt0.to/ecosystem/polygon. escalibur, which takes
            // either spelling; USDT0 is that of
            // https://github.com/0xPolygon/polygon-token-list/pull/760 and
            // https://mcp.smarts.md/usdt-polygon. Less sure than the other symbols.
            usdt(
                "USDT",
                "USDT0",
                Bridged,
                address!("0xc2132D05D31c914a87C6611C10748AEb04B58e8F"),
                "USDT0, minted against USDT locked on Ethereum; was bridged USDT until 2025",
            ),
        ],
    },
    Preset {
        name: "arbitrum",
        title: "Arbitrum One",
        chain_id: 42_161,
        network: Network::Mainnet,
        block_ms: 250,
        finality: ARBITRUM_TIERS,
        // As far as allowed here: 17 minutes, about the distance to `finalized`.
        reorg_window: 4_000,
        range_max: 2_000,
        explorer: "https://arbiscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. gelato, escalibur, ethskills (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0xaf88d065e77c8cC2239327C5EDb3A432268e5831"),
                "USDC issued by Circle on Arbitrum",
            ),
            // Arbitrum's bridge; not Circle's. enzyme (symbol compared: USDC).
            usdc(
                "USDC.e",
                "USDC",
                Bridged,
                address!("0xFF970A61A04b1cA14834A43f5dE4533eBDDB5CC8"),
                "USDC bridged from Ethereum; also answers to USDC, explorers say USDC.e",
            ),
            // USDT0, upgraded in place. escalibur; for the symbol
            // https://github.com/enzymefinance/sdk/pull/634 and
            // https://github.com/trustwallet/assets/pull/35332.
            usdt(
                "USDT",
                "USD₮0",
                Bridged,
                address!("0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9"),
                "USDT0, minted against USDT locked on Ethereum; was bridged USDT until 2025",
            ),
        ],
    },
    Preset {
        name: "optimism",
        title: "OP Mainnet",
        chain_id: 10,
        network: Network::Mainnet,
        block_ms: 2_000,
        finality: OP_STACK_TIERS,
        // Half an hour.
        reorg_window: 900,
        range_max: 2_000,
        explorer: "https://optimistic.etherscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. gelato, op-list, escalibur, ethskills (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85"),
                "USDC issued by Circle on OP Mainnet",
            ),
            // OP's bridge; not Circle's. op-list, which renames it; aave, which does not.
            usdc(
                "USDC.e",
                "USDC",
                Bridged,
                address!("0x7F5c764cBc14f9669B88837ca1490cCa17c31607"),
                "USDC bridged from Ethereum; also answers to USDC, explorers say USDC.e",
            ),
            // OP's bridge; not Tether's. op-list, aave, ethskills (symbol read).
            usdt(
                "USDT",
                "USDT",
                Bridged,
                address!("0x94b008aA00579c1307B0EF2c499aD98a8ce58e58"),
                "USDT bridged from Ethereum over the standard bridge; not USDT0",
            ),
            // USDT0. escalibur (symbol read).
            usdt(
                "USDT0",
                "USD₮0",
                Bridged,
                address!("0x01bFF41798a0BcF287b996046Ca68b395DbC1071"),
                "USDT0, minted against USDT locked on Ethereum; a contract beside bridged USDT",
            ),
        ],
    },
    Preset {
        name: "base",
        title: "Base",
        chain_id: 8453,
        network: Network::Mainnet,
        block_ms: 2_000,
        finality: OP_STACK_TIERS,
        // Half an hour.
        reorg_window: 900,
        range_max: 2_000,
        explorer: "https://basescan.org",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. gelato, op-list, escalibur, ethskills (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
                "USDC issued by Circle on Base",
            ),
            // Base's bridge; not Circle's. op-list, aave (USDbC).
            usdc(
                "USDbC",
                "USDbC",
                Bridged,
                address!("0xd9aAEc86B65D86f6A7B5B1b0c42FFA531710b6CA"),
                "USDC bridged from Ethereum, from before Circle issued it on Base",
            ),
            // Base's bridge; not Tether's. enzyme (symbol compared), ethskills (symbol read).
            usdt(
                "USDT",
                "USDT",
                Bridged,
                address!("0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2"),
                "USDT bridged from Ethereum; Tether issues none here",
            ),
        ],
    },
    Preset {
        name: "avalanche",
        title: "Avalanche C-Chain",
        chain_id: 43_114,
        network: Network::Mainnet,
        // At least that since January 2026 (https://github.com/ava-labs/builders-hub/pull/3653),
        // longer when there is nothing to do, and moved by validators (ACP-226).
        block_ms: 1_000,
        finality: FINALIZED,
        reorg_window: 600,
        range_max: 2_000,
        explorer: "https://snowtrace.io",
        receipts_root: ReceiptsRoot::Unknown(
            "its headers have fields of their own, which its upgrades add to; those up to Granite are known",
        ),
        tokens: &[
            // Circle. gelato, aave, escalibur (symbol read).
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"),
                "USDC issued by Circle on Avalanche",
            ),
            // The Avalanche bridge; not Circle's. aave (AaveV2Avalanche).
            usdc(
                "USDC.e",
                "USDC.e",
                Bridged,
                address!("0xA7D7079b0FEaD91F3e65f86E8915Cb59c1a4C664"),
                "USDC bridged from Ethereum over the Avalanche bridge",
            ),
            // Tether. aave (USDt), escalibur (symbol read).
            usdt(
                "USDT",
                "USDt",
                Native,
                address!("0x9702230A8Ea53601f5cD2dc00fDBc13d4dF4A8c7"),
                "USDT issued by Tether on Avalanche; answers to USDt",
            ),
            // The Avalanche bridge; not Tether's. aave (AaveV2Avalanche).
            usdt(
                "USDT.e",
                "USDT.e",
                Bridged,
                address!("0xc7198437980c041c805A1EDcbA50c1Ce5db95118"),
                "USDT bridged from Ethereum over the Avalanche bridge",
            ),
        ],
    },
    Preset {
        name: "sepolia",
        title: "Sepolia",
        chain_id: 11_155_111,
        network: Network::Testnet,
        block_ms: 12_000,
        finality: ETHEREUM_TIERS,
        reorg_window: 192,
        range_max: 2_000,
        explorer: "https://sepolia.etherscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. circle-code.
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238"),
                "Test USDC of Circle: https://faucet.circle.com",
            ),
            // Tether has no test token. aave (AaveV3Sepolia).
            usdt(
                "USDT",
                "USDT",
                Bridged,
                address!("0xaA8E23Fb1079EA71e0a56F48a2aA51851D8433D0"),
                "Test USDT of Aave's faucet; Tether issues none here",
            ),
        ],
    },
    Preset {
        name: "base-sepolia",
        title: "Base Sepolia",
        chain_id: 84_532,
        network: Network::Testnet,
        block_ms: 2_000,
        finality: OP_STACK_TIERS,
        reorg_window: 900,
        range_max: 2_000,
        explorer: "https://sepolia.basescan.org",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. circle-code.
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
                "Test USDC of Circle: https://faucet.circle.com",
            ),
        ],
    },
    Preset {
        name: "bsc-testnet",
        title: "BNB Smart Chain testnet",
        chain_id: 97,
        network: Network::Testnet,
        block_ms: 450,
        finality: FINALIZED,
        reorg_window: 1_500,
        range_max: 500,
        explorer: "https://testnet.bscscan.com",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // https://docs.oobit.com/docs/testnet-resources and the tests of many; the symbol is
            // what they call it.
            usdt(
                "USDT",
                "USDT",
                Bridged,
                address!("0x337610d27c682E347C9cD60BD4b3b107C9d34dDd"),
                "Widely used test USDT, 18 decimals; of neither Tether nor Binance's bridge",
            )
            .of_18_decimals(),
            // The tests of many, with 18 decimals; the symbol is what they call it.
            usdc(
                "USDC",
                "USDC",
                Bridged,
                address!("0x64544969ed7EBf5f083679233325356EbE738930"),
                "Widely used test USDC, 18 decimals; of neither Circle nor Binance's bridge",
            )
            .of_18_decimals(),
        ],
    },
    Preset {
        name: "amoy",
        title: "Polygon Amoy",
        chain_id: 80_002,
        network: Network::Testnet,
        // Taken to be as on Polygon; not measured.
        block_ms: 1_500,
        finality: FINALIZED,
        reorg_window: 600,
        range_max: 2_000,
        explorer: "https://amoy.polygonscan.com",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. circle-code.
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582"),
                "Test USDC of Circle: https://faucet.circle.com",
            ),
        ],
    },
    Preset {
        name: "arbitrum-sepolia",
        title: "Arbitrum Sepolia",
        chain_id: 421_614,
        network: Network::Testnet,
        block_ms: 250,
        finality: ARBITRUM_TIERS,
        reorg_window: 4_000,
        range_max: 2_000,
        explorer: "https://sepolia.arbiscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. circle-code.
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"),
                "Test USDC of Circle: https://faucet.circle.com",
            ),
        ],
    },
    Preset {
        name: "optimism-sepolia",
        title: "OP Sepolia",
        chain_id: 11_155_420,
        network: Network::Testnet,
        block_ms: 2_000,
        finality: OP_STACK_TIERS,
        reorg_window: 900,
        range_max: 2_000,
        explorer: "https://sepolia-optimism.etherscan.io",
        receipts_root: ReceiptsRoot::Yes,
        tokens: &[
            // Circle. circle-code.
            usdc(
                "USDC",
                "USDC",
                Native,
                address!("0x5fd84259d66Cd46123540766Be93DFE6D43130D7"),
                "Test USDC of Circle: https://faucet.circle.com",
            ),
        ],
    },
];
