//! Everything that waits says for what, and a chain on which nothing goes on is a finding.

use topupd::chain::pool::{Pool, Standing};
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finality::{Finality, Policy, Tier, Verify};
use topupd::store::ProviderRow;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::settle::waiting::what_they_wait_for;
use topupd::tasks::survey::{stands_still, survey};
use topupd::tasks::watch::watch;

use super::support::*;

const MINUTE: i64 = 60_000;

/// What each deposit waits for: the word and the sentence; empty for those that are finished.
async fn waits(house: &House) -> Vec<String> {
    let deposits = house.deposits().await;
    let waits = what_they_wait_for(&[&house.rules], &house.store, &deposits).await.unwrap();
    waits
        .into_iter()
        .map(|w| w.map_or_else(String::new, |w| format!("{}: {}", w.code, w.text)))
        .collect()
}

/// Survey, watch and settle, as the daemon does them; how the providers stand is noted.
async fn step(house: &mut House, pool: &Pool<ScriptedChain>) {
    let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
    clock.advance_ms(1_000);
    survey(rules, pool, store, clock).await.unwrap();
    // A provider that is away is what these stories are about.
    let _ = watch(rules, pool, store, clock, &mut house.cache).await;
    let _ = settle(rules, pool, &Market::default(), store, clock).await;
    stands_still(rules, pool, store, clock).await.unwrap();
    let row = |s: Standing| ProviderRow {
        provider: s.provider,
        state: s.state,
        head: s.head,
        safe: s.safe,
        finalized: s.finalized,
        latency_ms: 0,
        failures: 0,
        updated_at_ms: 0,
    };
    let rows: Vec<_> = pool.standings(0).into_iter().map(row).collect();
    store.note_providers(CHAIN, &rows).await.unwrap();
}

async fn open_kinds(house: &House) -> Vec<String> {
    let all = house.store.findings(100).await.unwrap();
    // That a chain is followed alone is a finding besides, and of no matter here.
    let ours = |kind: &str| kind.starts_with("chain_");
    all.into_iter().filter(|f| f.state == "open" && ours(&f.kind)).map(|f| f.kind).collect()
}

fn twins() -> [ScriptedChain; 2] {
    ["ann", "bob"].map(|name| {
        let chain = ScriptedChain::named(name, GENESIS_MS);
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        chain
    })
}

async fn house(confirmations: u64) -> House {
    let mut rules = rules(confirmations);
    rules.verify = Verify::SecondProvider;
    House::new(rules).await
}

#[tokio::test]
async fn one_of_two_providers_away_is_said_by_the_payment_and_found_after_ten_minutes() {
    let chains = twins();
    let mut house = house(3).await;
    let pool = Pool::admitted(chains.clone());
    step(&mut house, &pool).await;
    assert_eq!(waits(&house).await, ["confirmations: confirmations 1/3"]);

    chains[1].fail(u32::MAX);
    for chain in &chains {
        mine_empty(chain, 3);
    }
    step(&mut house, &pool).await;
    // At once, though what one alone has is not followed yet.
    assert!(waits(&house).await[0].starts_with("second_provider"));
    for _ in 0..40 {
        step(&mut house, &pool).await;
    }
    let [said] = waits(&house).await.try_into().unwrap();
    assert!(said.starts_with("second_provider: a second provider"), "{said}");
    assert!(said.contains("bob") && !said.contains("ann"), "{said}");
    assert!(open_kinds(&house).await.is_empty(), "not yet");
    assert_eq!(house.sql("SELECT COUNT(*) FROM waits").await, [[1]]);
    // What is noted stays as it is: nothing is written again while nothing changes.
    let noted = house.sql("SELECT since_ms FROM waits").await;
    house.clock.advance_ms(5 * MINUTE);
    step(&mut house, &pool).await;
    assert_eq!(house.sql("SELECT since_ms FROM waits").await, noted);

    house.clock.advance_ms(6 * MINUTE);
    mine_empty(&chains[0], 1);
    step(&mut house, &pool).await;
    assert_eq!(open_kinds(&house).await, ["chain_stalled"]);
    let mut stalled = house.store.findings(100).await.unwrap();
    stalled.retain(|f| f.kind == "chain_stalled");
    assert!(stalled[0].detail.to_string().contains("bob"), "{stalled:?}");

    chains[1].fail(0);
    mine_empty(&chains[1], 1);
    house.clock.advance_ms(2 * MINUTE);
    for _ in 0..5 {
        step(&mut house, &pool).await;
    }
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(waits(&house).await, [""]);
    assert!(open_kinds(&house).await.is_empty(), "what opened it closes it");
    assert_eq!(house.sql("SELECT COUNT(*) FROM waits").await, [[0]]);
}

#[tokio::test]
async fn a_second_provider_that_is_behind_is_named_with_its_height() {
    let chains = twins();
    let mut house = house(3).await;
    let pool = Pool::admitted(chains.clone());
    mine_empty(&chains[0], 3);
    mine_empty(&chains[1], 1);
    for _ in 0..3 {
        step(&mut house, &pool).await;
    }
    let [said] = waits(&house).await.try_into().unwrap();
    assert!(
        said.starts_with("second_provider") && said.ends_with("bob was last at block 2"),
        "{said}"
    );
}

#[tokio::test]
async fn a_tag_that_has_not_reached_it_is_named_with_its_height() {
    let chains = twins();
    let mut house = house(1).await;
    let tier = Tier { up_to_usd: None, finality: Finality::Finalized };
    house.rules.policy = Policy::new(vec![tier]).unwrap();
    step(&mut house, &Pool::admitted(chains)).await;
    let said = "finalized: the finalized block: it is 0, the payment is in block 1";
    assert_eq!(waits(&house).await, [said]);
}

#[tokio::test]
async fn dust_says_how_much_is_missing_and_a_chain_that_is_gone_or_left_says_so() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDT, 0, 300_000)]);
    chain.mine(vec![pay(2, USDT, 0, 450_000)]);
    house.quiesce(&chain).await;
    let dust = "dust: more to come: 0.25 USDT is missing to the minimum";
    assert_eq!(waits(&house).await, [dust, dust]);

    house.rules.policy = rules(30).policy;
    chain.mine(vec![pay(3, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    assert_eq!(waits(&house).await[2], "confirmations: confirmations 1/30");
    let lease = house.store.lease().clone();
    house.store.release(&lease).await.unwrap();
    assert!(waits(&house).await[2].starts_with("nobody_follows"));
    let deposits = house.deposits().await;
    let gone = what_they_wait_for(&[], &house.store, &deposits).await.unwrap();
    assert!(gone.iter().flatten().all(|w| w.code == "chain_not_configured") && gone.len() == 3);
}

#[tokio::test]
async fn a_chain_without_new_blocks_is_found_and_goes_with_the_next_one() {
    let chains = twins();
    let mut house = house(1).await;
    let pool = Pool::admitted(chains.clone());
    step(&mut house, &pool).await;
    house.clock.advance_ms(11 * MINUTE);
    step(&mut house, &pool).await;
    assert_eq!(open_kinds(&house).await, ["chain_still"]);
    for chain in &chains {
        mine_empty(chain, 1);
    }
    step(&mut house, &pool).await;
    assert!(open_kinds(&house).await.is_empty());
}
