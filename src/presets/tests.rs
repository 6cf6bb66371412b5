//! The table of presets, held against itself and against what others publish.

use std::collections::BTreeSet;

use alloy::primitives::Address;

use super::Origin::Bridged;
use super::*;
use crate::domain::finality::{Finality, Policy, Tier};
use crate::domain::ids::Network;

/// Every address once more, as text in the EIP-55 spelling: a slip in either place shows.
const ADDRESSES: &[(u64, &str, &str)] = &[
    (1, "USDC", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"),
    (1, "USDT", "0xdAC17F958D2ee523a2206206994597C13D831ec7"),
    (56, "USDT", "0x55d398326f99059fF775485246999027B3197955"),
    (56, "USDC", "0x8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d"),
    (137, "USDC", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"),
    (137, "USDC.e", "0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174"),
    (137, "USDT", "0xc2132D05D31c914a87C6611C10748AEb04B58e8F"),
    (42_161, "USDC", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"),
    (42_161, "USDC.e", "0xFF970A61A04b1cA14834A43f5dE4533eBDDB5CC8"),
    (42_161, "USDT", "0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9"),
    (10, "USDC", "0x0b2C639c533813f4Aa9D7837CAf62653d097Ff85"),
    (10, "USDC.e", "0x7F5c764cBc14f9669B88837ca1490cCa17c31607"),
    (10, "USDT", "0x94b008aA00579c1307B0EF2c499aD98a8ce58e58"),
    (10, "USDT0", "0x01bFF41798a0BcF287b996046Ca68b395DbC1071"),
    (8453, "USDC", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
    (8453, "USDbC", "0xd9aAEc86B65D86f6A7B5B1b0c42FFA531710b6CA"),
    (8453, "USDT", "0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2"),
    (43_114, "USDC", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"),
    (43_114, "USDC.e", "0xA7D7079b0FEaD91F3e65f86E8915Cb59c1a4C664"),
    (43_114, "USDT", "0x9702230A8Ea53601f5cD2dc00fDBc13d4dF4A8c7"),
    (43_114, "USDT.e", "0xc7198437980c041c805A1EDcbA50c1Ce5db95118"),
    (11_155_111, "USDC", "0x1c7D4B196Cb0C7B01d743Fbc6116a902379C7238"),
    (11_155_111, "USDT", "0xaA8E23Fb1079EA71e0a56F48a2aA51851D8433D0"),
    (84_532, "USDC", "0x036CbD53842c5426634e7929541eC2318f3dCF7e"),
    (97, "USDT", "0x337610d27c682E347C9cD60BD4b3b107C9d34dDd"),
    (97, "USDC", "0x64544969ed7EBf5f083679233325356EbE738930"),
    (80_002, "USDC", "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582"),
    (421_614, "USDC", "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"),
    (11_155_420, "USDC", "0x5fd84259d66Cd46123540766Be93DFE6D43130D7"),
];

#[test]
fn every_address_is_the_one_of_the_table() {
    let listed: Vec<(u64, &str, String)> = all()
        .iter()
        .flat_map(|p| p.tokens.iter().map(|t| (p.chain_id, t.key, t.address.to_checksum(None))))
        .collect();
    let table: Vec<(u64, &str, String)> =
        ADDRESSES.iter().map(|(id, key, text)| (*id, *key, (*text).to_owned())).collect();
    assert_eq!(listed, table);
    for (_, key, text) in ADDRESSES {
        assert!(Address::parse_checksummed(text, None).is_ok(), "{key} {text}");
    }
}

#[test]
fn chains_are_told_apart() {
    let names: BTreeSet<&str> = all().iter().map(|p| p.name).collect();
    let titles: BTreeSet<&str> = all().iter().map(|p| p.title).collect();
    let ids: BTreeSet<u64> = all().iter().map(|p| p.chain_id).collect();
    let explorers: BTreeSet<&str> = all().iter().map(|p| p.explorer).collect();
    for distinct in [names.len(), titles.len(), ids.len(), explorers.len()] {
        assert_eq!(distinct, all().len());
    }
    for preset in all() {
        assert_eq!(find(preset.name), Some(preset));
        // What src/config.rs allows in the name of a chain.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(preset.name.chars().all(plain), "{}", preset.name);
    }
    assert_eq!(find("Ethereum"), None);
}

#[test]
fn explorers_are_https_and_take_a_path() {
    for preset in all() {
        let host = preset.explorer.strip_prefix("https://").unwrap();
        assert!(!host.is_empty() && !host.contains('/'), "{}", preset.explorer);
    }
}

#[test]
fn tiers_make_a_policy_within_the_window() {
    for preset in all() {
        let tiers: Vec<Tier> = preset
            .finality
            .iter()
            .map(|tier| Tier {
                up_to_usd: tier.up_to_usd.map(|usd| usd.to_string().parse().unwrap()),
                finality: tier.finality,
            })
            .collect();
        assert_eq!(tiers.last().unwrap().finality, Finality::Finalized, "{}", preset.name);
        Policy::new(tiers).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        for tier in preset.finality {
            if let Finality::Confirmations(n) = tier.finality {
                assert!(n <= preset.reorg_window, "{}", preset.name);
            }
        }
    }
}

#[test]
fn windows_and_ranges_are_sensible() {
    for preset in all() {
        assert!(preset.reorg_window * preset.block_ms >= 600_000, "{}", preset.name);
        assert!(preset.reorg_window <= 4_000, "{}", preset.name);
        assert!((1..=2_000).contains(&preset.range_max), "{}", preset.name);
    }
}

#[test]
fn tokens_are_dollars_of_two_issuers() {
    for preset in all() {
        let keys: BTreeSet<&str> = preset.tokens.iter().map(|t| t.key).collect();
        let addresses: BTreeSet<Address> = preset.tokens.iter().map(|t| t.address).collect();
        assert_eq!(keys.len(), preset.tokens.len(), "{}", preset.name);
        assert_eq!(addresses.len(), preset.tokens.len(), "{}", preset.name);
        assert_eq!(preset.token("USDC").unwrap().asset, "USDC", "{}", preset.name);
        assert_eq!(preset.token("usdc"), None);
        let decimals = if [56, 97].contains(&preset.chain_id) { 18 } else { 6 };
        for token in preset.tokens {
            let at = format!("{} {}", preset.name, token.key);
            assert!(["USDC", "USDT"].contains(&token.asset), "{at}");
            assert_eq!(token.decimals, decimals, "{at}");
            assert!(!token.note.is_empty() && !token.note.contains('\n'), "{at}");
            // Whoever names "USDC" means Circle's, where Circle issues it.
            assert!(token.origin == Bridged || token.key == token.asset, "{at}");
        }
    }
}

/// The list of `src/config.rs` is its own business; it is read as text.
#[test]
fn test_networks_are_those_of_the_configuration() {
    let config = include_str!("../config/chain.rs");
    let list = config.split("const TEST_CHAINS: &[u64] = &[").nth(1).unwrap();
    let list = list.split("];").next().unwrap();
    let ids: BTreeSet<u64> = list
        .lines()
        .filter_map(|line| line.split("//").next())
        .flat_map(|line| line.split(','))
        .filter_map(|id| id.trim().replace('_', "").parse().ok())
        .collect();
    assert!(ids.len() > 5, "the list was not found: {ids:?}");
    for preset in all() {
        let test = ids.contains(&preset.chain_id);
        assert_eq!(preset.network == Network::Testnet, test, "{}", preset.name);
    }
}
