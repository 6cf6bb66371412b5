//! How deep a block lies: two providers say it, each from its own view, in every mode that has two.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::{Finality, Policy, Tier, Verify};
use topupd::planted::{Fault, plant};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::watch;

use super::support::*;

const MODES: [Verify; 3] = [Verify::ReceiptsRoot, Verify::SameProvider, Verify::SecondProvider];

/// Watches and settles some times; providers that fail do so.
async fn go_on(house: &mut House, pool: &Pool<ScriptedChain>) {
    for _ in 0..6 {
        house.clock.advance_ms(61_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        let _ = watch(rules, pool, store, clock, &mut house.cache).await;
        let _ = settle(rules, pool, &Market::default(), store, clock).await;
    }
}

/// The payment is seen at one confirmation; then one provider alone shows more blocks, made up, while
/// the others fail for a while. True when it is credited though nobody else has them.
async fn credits_alone(finality: Finality, verify: Verify, providers: usize, liar: usize) -> bool {
    let mut rules = rules(12);
    rules.verify = verify;
    rules.policy = Policy::new(vec![Tier { up_to_usd: None, finality }]).unwrap();
    let mut house = House::new(rules).await;
    let chains: Vec<_> = ["ann", "bob", "cyd"][..providers]
        .iter()
        .map(|name| ScriptedChain::named(name, GENESIS_MS))
        .collect();
    for chain in &chains {
        chain.seal_blocks();
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    }
    let pool = Pool::admitted(chains.clone());
    go_on(&mut house, &pool).await;
    assert_eq!(house.stages().await, ["pending"]);
    for (i, chain) in chains.iter().enumerate() {
        if i == liar {
            mine_empty(chain, 70);
        } else {
            chain.fail(7);
        }
    }
    go_on(&mut house, &pool).await;
    if house.stages().await == ["credited"] {
        return true;
    }
    // The others get as many blocks: chains that mine the same have the same hashes.
    for (i, chain) in chains.iter().enumerate() {
        if i != liar {
            chain.fail(0);
            mine_empty(chain, 70);
        }
    }
    go_on(&mut house, &pool).await;
    assert_eq!(house.stages().await, ["credited"]);
    false
}

#[tokio::test]
async fn one_provider_alone_makes_no_block_deep() {
    for finality in [Finality::Confirmations(12), Finality::Safe, Finality::Finalized] {
        for verify in MODES {
            for (providers, liar) in [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)] {
                let credited = credits_alone(finality, verify, providers, liar).await;
                assert!(!credited, "{finality:?} {verify:?} {providers} providers, liar {liar}");
            }
        }
    }
}

#[tokio::test]
async fn a_depth_of_one_would_be_noticed() {
    plant(Some(Fault::DepthOfOne));
    let credited = credits_alone(Finality::Confirmations(12), Verify::ReceiptsRoot, 2, 0).await;
    plant(None);
    assert!(credited);
}
