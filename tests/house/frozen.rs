//! Our addresses that the issuer of a token has frozen: found, taken back, and asked about at a bounded
//! cost.

use alloy::primitives::{Address, B256, Bytes};
use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::finding::FindingKind;
use topupd::domain::frozen::{FUNCTIONS, question};
use topupd::domain::ids::ChainId;
use topupd::domain::oracle::reading::CallAnswer;
use topupd::planted::{Fault, plant};
use topupd::store::ChainFinding;
use topupd::tasks::frozen::{AT_ONCE, Freezes, PAUSE_MS, ROUND_MS, check_frozen};

use super::support::*;

/// Tether's spelling, and Circle's.
const OF_USDT: &str = FUNCTIONS[0];
const OF_USDC: &str = FUNCTIONS[1];

/// A provider, by whose word nobody is frozen.
fn provider(name: &str) -> ScriptedChain {
    let chain = ScriptedChain::named(name, GENESIS_MS);
    for token in [USDC, USDT, RTITY] {
        chain.set_answer(token, 0, CallAnswer::Reverted("execution reverted".into()));
    }
    chain
}

/// By its word, these addresses stand so.
fn freeze(chain: &ScriptedChain, token: Address, addresses: &[Address], is_frozen: bool) {
    let function = if token == USDT { OF_USDT } else { OF_USDC };
    let word = B256::with_last_byte(is_frozen.into());
    for address in addresses {
        chain.set_call(question(token, function, *address), CallAnswer::Returned(word.into()));
    }
}

/// A house in which these addresses were paid, and all of them stand in two tokens.
async fn house(paid: &[usize], providers: &[ScriptedChain]) -> House {
    let mut house = House::new(rules(1)).await;
    let chain = &providers[0];
    for (id, to) in (1..).zip(paid) {
        chain.mine(vec![pay(id, USDC, *to, 1_000_000)]);
    }
    mine_empty(chain, 2);
    for other in &providers[1..] {
        other.adopt(&chain.canonical()[1..]);
    }
    for provider in providers {
        let all: Vec<Address> = (0..40).map(address).collect();
        freeze(provider, USDT, &all, false);
        freeze(provider, USDC, &all, false);
    }
    house.quiesce(chain).await;
    house
}

/// One activation when the next one is due, whichever that is.
async fn ask(house: &House, pool: &Pool<ScriptedChain>, freezes: &mut Freezes) -> usize {
    house.clock.advance_ms(ROUND_MS);
    at_once(house, pool, freezes).await
}

async fn at_once(house: &House, pool: &Pool<ScriptedChain>, freezes: &mut Freezes) -> usize {
    check_frozen(&house.rules, pool, &house.store, &house.clock, freezes).await.unwrap()
}

/// All findings of the kind, the oldest first.
async fn found(house: &House) -> Vec<ChainFinding> {
    let mut all = house.store.findings(100).await.unwrap();
    all.retain(|f| f.kind == FindingKind::AddressFrozen.as_str());
    all.sort_by_key(|f| f.id);
    all
}

async fn states(house: &House) -> Vec<String> {
    found(house).await.into_iter().map(|f| f.state).collect()
}

#[tokio::test]
async fn a_frozen_address_is_found_until_it_is_not_frozen_any_more() {
    let chain = provider("one");
    let house = house(&[0, 1, 1], std::slice::from_ref(&chain)).await;
    let (pool, mut freezes) = (only(&chain), Freezes::default());
    assert_eq!(ask(&house, &pool, &mut freezes).await, 0);
    assert!(found(&house).await.is_empty());

    freeze(&chain, USDT, &[address(1)], true);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 0, "not asked again so soon");
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 0, "it stands");
    // Of the other token, another finding.
    freeze(&chain, USDC, &[address(1)], true);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    let all = found(&house).await;
    assert_eq!(all.len(), 2);
    let (finding, detail) = (&all[0], &all[0].detail);
    assert_eq!((finding.chain, finding.severity.as_str()), (Some(ChainId(31_337)), "error"));
    assert_eq!(finding.subject, format!("{} by token {USDT}", address(1)));
    assert_eq!(detail["address"], address(1).to_string());
    assert_eq!(detail["token"], USDT.to_string());
    assert_eq!((&detail["symbol"], &detail["namespace"]), (&"USDT".into(), &"bolt".into()));
    assert_eq!(detail["functions"], serde_json::json!([OF_USDT]));
    assert_eq!(detail["block_number"], chain.canonical().len() - 1);
    // Nothing is held for it.
    assert_eq!(house.stages().await, ["credited"; 3]);

    freeze(&chain, USDT, &[address(1)], false);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    assert_eq!(states(&house).await, ["gone", "open"]);
    // What a person explained goes all the same; what comes back is a new one.
    let id = all[1].id;
    assert!(house.store.explain_finding(id, "alice", "a court's order", 1).await.unwrap());
    assert_eq!(ask(&house, &pool, &mut freezes).await, 0);
    freeze(&chain, USDC, &[address(1)], false);
    freeze(&chain, USDT, &[address(1)], true);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 2);
    assert_eq!(states(&house).await, ["gone", "gone", "open"]);
}

/// What is open when one of so many providers, asked in any place, says otherwise than the others.
async fn with_a_liar(liar: usize, truth: bool) -> Vec<String> {
    let all: Vec<_> = ["one", "two"].map(provider).into();
    let house = house(&[0], &all).await;
    let (pool, mut freezes) = (Pool::admitted(all.clone()), Freezes::default());
    for provider in &all {
        freeze(provider, USDT, &[address(0)], truth);
    }
    ask(&house, &pool, &mut freezes).await;
    freeze(&all[liar], USDT, &[address(0)], !truth);
    for _ in 0..3 {
        ask(&house, &pool, &mut freezes).await;
    }
    states(&house).await
}

#[tokio::test]
async fn one_of_two_providers_neither_finds_nor_takes_back() {
    for liar in 0..2 {
        assert!(with_a_liar(liar, false).await.is_empty(), "{liar} invents");
        assert_eq!(with_a_liar(liar, true).await, ["open"], "{liar} denies");
    }
    plant(Some(Fault::FrozenByOne));
    let mut noticed = false;
    for liar in 0..2 {
        noticed |= !with_a_liar(liar, false).await.is_empty();
    }
    plant(None);
    assert!(noticed);
}

#[tokio::test]
async fn who_is_asked_first_changes_so_that_nobody_hides_it() {
    let all: Vec<_> = ["one", "two", "three"].map(provider).into();
    let mut house = house(&[0], &all).await;
    let (pool, mut freezes) = (Pool::admitted(all.clone()), Freezes::default());
    for honest in &all[1..] {
        freeze(honest, USDT, &[address(0)], true);
    }
    let mut opened = 0;
    for _ in 0..3 {
        let block = all[0].mine(Vec::new());
        for other in &all[1..] {
            other.adopt(&[(block, Vec::new())]);
        }
        house.watch(&all[0]).await.unwrap();
        opened += ask(&house, &pool, &mut freezes).await;
    }
    assert_eq!(opened, 1);
    let providers = &found(&house).await[0].detail["providers"];
    assert!(!providers.as_array().unwrap().contains(&"one".into()), "{providers}");
}

#[tokio::test]
async fn what_says_nothing_neither_opens_nor_closes() {
    let chain = provider("one");
    let house = house(&[0], std::slice::from_ref(&chain)).await;
    let (pool, mut freezes) = (only(&chain), Freezes::default());
    freeze(&chain, USDT, &[address(0)], true);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    let mut high = [0; 32];
    high[0] = 1;
    for (of, function) in [(USDT, OF_USDT), (USDC, OF_USDC)] {
        for nothing in [
            CallAnswer::Reverted("paused".into()),
            CallAnswer::Returned(Bytes::new()),
            CallAnswer::Returned(B256::with_last_byte(2).into()),
            CallAnswer::Returned(high.into()),
            CallAnswer::Returned(vec![1].into()),
        ] {
            chain.set_call(question(of, function, address(0)), nothing.clone());
            assert_eq!(ask(&house, &pool, &mut freezes).await, 0, "{nothing:?}");
            assert_eq!(states(&house).await, ["open"], "{nothing:?}");
        }
    }
    // Nobody answers at all: asked again at once.
    chain.fail(1);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 0);
    freeze(&chain, USDT, &[address(0)], false);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 1);
    assert_eq!(states(&house).await, ["gone"]);
}

#[tokio::test]
async fn a_round_costs_so_many_calls_and_goes_on_after_a_restart() {
    let chain = provider("one");
    let count = 19;
    let mut house = House::new(rules(1)).await;
    for i in 6..count {
        house.store.import_address(&name("cafe"), address(i), GENESIS_MS).await.unwrap();
    }
    let payments = (0..count).map(|i| pay(i as u64, USDC, i, 1_000_000)).collect();
    chain.mine(payments);
    mine_empty(&chain, 2);
    let all: Vec<Address> = (0..count).map(address).collect();
    freeze(&chain, USDT, &all, false);
    freeze(&chain, USDC, &all, false);
    house.quiesce(&chain).await;
    // Addresses that were never paid on this chain are not asked about.
    house.store.import_address(&name("cafe"), address(90), GENESIS_MS).await.unwrap();

    let (pool, mut freezes) = (only(&chain), Freezes::default());
    let most = u64::try_from(AT_ONCE).unwrap();
    let (functions, tokens) = (3, 3);
    let mut before = chain.called();
    let mut calls = || {
        let now = chain.called();
        now - std::mem::replace(&mut before, now)
    };
    // The first one asks which functions there are, too; RTITY has none.
    ask(&house, &pool, &mut freezes).await;
    assert_eq!(calls(), functions * tokens + 2 * most);
    at_once(&house, &pool, &mut freezes).await;
    house.clock.advance_ms(PAUSE_MS - 1);
    at_once(&house, &pool, &mut freezes).await;
    assert_eq!(calls(), 0);

    // The last two stand behind the first sixteen; the place is kept.
    freeze(&chain, USDC, &all, true);
    house.restart().await;
    let mut freezes = Freezes::default();
    house.clock.advance_ms(1);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 8);
    assert_eq!(calls(), functions * tokens + 2 * most);
    house.clock.advance_ms(PAUSE_MS);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 3);
    assert_eq!(calls(), 2 * 3);
    // The round is over, and the next one waits.
    house.clock.advance_ms(ROUND_MS - 1);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 0);
    assert_eq!(calls(), 0);
    house.clock.advance_ms(1);
    assert_eq!(at_once(&house, &pool, &mut freezes).await, 8);
    assert_eq!(found(&house).await.len(), count);
    calls();
    // Once a day, which functions there are.
    house.clock.advance_ms(86_400_000);
    at_once(&house, &pool, &mut freezes).await;
    assert_eq!(calls(), functions * tokens + 2 * most);
}

#[tokio::test]
async fn a_round_that_ends_with_a_full_turn_ends() {
    let chain = provider("one");
    let mut house = House::new(rules(1)).await;
    for i in 6..8 {
        house.store.import_address(&name("cafe"), address(i), GENESIS_MS).await.unwrap();
    }
    chain.mine((0..8).map(|i| pay(i as u64, USDC, i, 1_000_000)).collect());
    freeze(&chain, USDC, &(0..8).map(address).collect::<Vec<_>>(), false);
    house.quiesce(&chain).await;
    let (pool, mut freezes) = (only(&chain), Freezes::default());
    for (turn, at) in [("the eight", 8), ("the end", 0), ("the eight again", 8)] {
        ask(&house, &pool, &mut freezes).await;
        let to = house.store.frozen_turn(CHAIN).await.unwrap().unwrap().to;
        assert_eq!(to, at, "{turn}");
    }
}

#[tokio::test]
async fn where_no_token_has_such_a_function_nothing_is_asked_for_a_day() {
    let chain = provider("one");
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.quiesce(&chain).await;
    let (pool, mut freezes) = (only(&chain), Freezes::default());
    ask(&house, &pool, &mut freezes).await;
    let before = chain.called();
    assert_eq!(before, 9);
    for _ in 0..100 {
        ask(&house, &pool, &mut freezes).await;
    }
    assert_eq!(chain.called(), before);
    house.clock.advance_ms(86_400_000);
    ask(&house, &pool, &mut freezes).await;
    assert_eq!(chain.called(), 2 * before);
}

#[tokio::test]
async fn the_treasurys_address_is_asked_about_too() {
    let chain = provider("one");
    let house = house(&[], std::slice::from_ref(&chain)).await;
    let treasury = Address::repeat_byte(0x77);
    freeze(&chain, USDC, &[treasury], true);
    let (pool, mut freezes) = (only(&chain), Freezes::new(Some(treasury)));
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    let detail = &found(&house).await[0].detail;
    assert_eq!(detail["address"], treasury.to_string());
    assert!(detail["namespace"].is_null());
    freeze(&chain, USDC, &[treasury], false);
    assert_eq!(ask(&house, &pool, &mut freezes).await, 1);
    assert_eq!(states(&house).await, ["gone"]);
}
