//! The rules of a simulated chain: tokens, epochs, finality.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::Address;
use fastrand::Rng;
use topupd::domain::chain_rules::{ChainRules, FilterKind, Start};
use topupd::domain::finality::{Finality, Policy, Tier, Verify};
use topupd::domain::pricing::{Epoch, EpochBook, Phase, Token};
use topupd::domain::terms::{Dust, Terms, Valuation};

use super::market;
use super::plan::{Plan, Valued};
use super::story::{CHAIN, GENESIS_MS};
use super::{CONFIRMATIONS, WINDOW};

pub fn token(i: u8) -> Address {
    Address::repeat_byte(0xc0 + i)
}

/// Two epochs, so that a lie about a block's time would change what it is worth.
fn epochs() -> EpochBook {
    let par = |rate: &str| Terms {
        valuation: Valuation::Par { credits_per_usd: rate.parse().unwrap() },
        minimum: None,
        dust: Dust::Ignore,
    };
    let epoch = |id: &str, starts_at_ms, rate| Epoch {
        id: id.into(),
        starts_at_ms,
        phase: Phase::PreTge,
        accept: BTreeMap::from([("USDC".to_owned(), par(rate)), ("USDT".to_owned(), par(rate))]),
    };
    let far = GENESIS_MS + 3_600_000 * 24 * 100;
    EpochBook::new(vec![epoch("one", GENESIS_MS, "1000"), epoch("two", far, "2000")]).unwrap()
}

pub fn rules(rng: &mut Rng, plan: &Plan) -> ChainRules {
    let has_market = plan.valued != Valued::Par;
    let tier = |up_to: Option<&str>, finality| Tier {
        up_to_usd: up_to.map(|usd| usd.parse().unwrap()),
        finality,
    };
    ChainRules {
        id: CHAIN,
        name: "simulated".into(),
        start: Start::Block(0),
        lag_max: 6,
        window: WINDOW,
        // Of a range, only the last block's bloom filter is at hand.
        range_max: if plan.omits { 1 } else { [1, 3, 50][rng.usize(..3)] },
        filter: [FilterKind::Tokens, FilterKind::Recipients, FilterKind::Auto][rng.usize(..3)],
        policy: Policy::new(vec![
            tier(Some("4"), Finality::Confirmations(CONFIRMATIONS)),
            tier(None, Finality::Finalized),
        ])
        .unwrap(),
        verify: plan.verify,
        fallback: plan.fallback.then_some(Verify::SecondProvider),
        tokens: vec![listed(0)],
        known_tokens: Vec::new(),
        epochs: Arc::new(if has_market { market::epochs() } else { epochs() }),
        oracle: if has_market { market::oracle(plan.valued) } else { Arc::default() },
        screening: None,
        unlisted_per_day: 100,
        time_ahead_max_ms: 900_000,
    }
}

pub fn listed(i: u8) -> Token {
    let symbol = ["USDC", "USDT"][usize::from(i)];
    Token {
        chain: CHAIN,
        address: token(i),
        symbol: symbol.into(),
        asset: symbol.into(),
        decimals: 6,
    }
}
