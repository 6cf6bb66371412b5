//! A cursor that goes no further than two providers have, and what happens where it does not go on.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::chain_rules::Start;
use topupd::domain::finality::Verify;
use topupd::domain::ids::Cursor;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::recheck;
use topupd::tasks::settle::settle;
use topupd::tasks::survey::survey;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{Wait, watch};

use super::odd_source::OddSource;
use super::support::*;

const NAMES: [&str; 3] = ["ann", "bob", "cid"];

fn sources(chain: &ScriptedChain, n: usize) -> Vec<OddSource> {
    NAMES.iter().take(n).map(|name| OddSource::new(name, chain)).collect()
}

async fn house() -> House {
    let mut rules = rules(3);
    rules.verify = Verify::SecondProvider;
    rules.window = 16;
    House::new(rules).await
}

async fn step(house: &mut House, pool: &Pool<OddSource>) -> Result<Watched, WatchError> {
    house.clock.advance_ms(1_000);
    let watched = watch(&house.rules, pool, &house.store, &house.clock, &mut house.cache).await;
    settle(&house.rules, pool, &Market::default(), &house.store, &house.clock).await.unwrap();
    watched
}

async fn steps(house: &mut House, pool: &Pool<OddSource>, n: usize) {
    for _ in 0..n {
        let _ = step(house, pool).await;
    }
}

async fn cursor(house: &House) -> u64 {
    match house.store.chain_state(CHAIN, house.rules.window).await.unwrap().cursor {
        Cursor::At(at) => at.number,
        Cursor::Fresh => 0,
    }
}

async fn kinds(house: &House) -> Vec<String> {
    house.store.findings(100).await.unwrap().into_iter().map(|f| f.kind).collect()
}

#[tokio::test]
async fn blocks_that_one_of_three_makes_up_move_nothing() {
    for future in [1, 5, 5_000, 1 << 62] {
        let chain = ScriptedChain::new(GENESIS_MS);
        mine_empty(&chain, 40);
        let all = sources(&chain, 3);
        let pool = Pool::admitted(all.clone());
        let mut house = house().await;
        steps(&mut house, &pool, 8).await;
        assert_eq!(cursor(&house).await, 40);
        all[0].is(|odd| odd.future = future);
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        for _ in 0..12 {
            steps(&mut house, &pool, 2).await;
            survey(&house.rules, &pool, &house.store, &house.clock).await.unwrap();
            assert!(cursor(&house).await <= topupd::domain::ids::BlockRef::from(&chain).number);
            chain.mine(Vec::new());
        }
        assert_eq!(
            house.balance("acme").await,
            "1000",
            "of a payment, past {future} made up blocks"
        );
        assert!(cursor(&house).await >= 41);
        // Nobody asks it first any more, where what it claims is absurd.
        if future > 100 {
            let standing = &pool.standings(i64::MAX)[0];
            assert!(standing.state.contains("no other provider has"), "{standing:?}");
        }
        house.verify().await;
    }
}

#[tokio::test]
async fn a_first_start_and_catching_up_are_not_led_beyond_the_chain_either() {
    for start in [Start::Tip, Start::Block(1)] {
        let chain = ScriptedChain::new(GENESIS_MS);
        mine_empty(&chain, 300);
        let all = sources(&chain, 3);
        all[0].is(|odd| odd.future = 7_000);
        let pool = Pool::admitted(all.clone());
        let mut house = house().await;
        house.rules.start = start;
        house.rules.range_max = 20;
        house.cache = topupd::tasks::watch::WatchCache::new(&house.rules);
        steps(&mut house, &pool, 30).await;
        assert_eq!(cursor(&house).await, 300, "{start:?}");
    }
}

#[tokio::test]
async fn what_another_one_has_already_is_adopted_and_the_rest_waits_for_it() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 10);
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    let mut house = house().await;
    steps(&mut house, &pool, 3).await;
    all[1].is(|odd| odd.lag = 2);
    mine_empty(&chain, 5);
    steps(&mut house, &pool, 3).await;
    assert_eq!(cursor(&house).await, 13, "of 15, of which the other one has 13");
    let waits = step(&mut house, &pool).await.unwrap();
    assert_eq!(waits, Watched::Waiting { number: 14, wait: Wait::Others });
    all[1].is(|odd| odd.lag = 0);
    steps(&mut house, &pool, 1).await;
    assert_eq!(cursor(&house).await, 15);
    assert!(kinds(&house).await.is_empty());
}

#[tokio::test]
async fn one_that_is_left_alone_is_followed_for_half_of_the_window_and_no_further() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 10);
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    let mut house = house().await;
    steps(&mut house, &pool, 3).await;
    all[1].is(|odd| odd.away = true);
    mine_empty(&chain, 30);
    let first = step(&mut house, &pool).await.unwrap();
    assert_eq!(first, Watched::Waiting { number: 11, wait: Wait::Silence }, "it may come back");
    steps(&mut house, &pool, 20).await;
    assert_eq!(cursor(&house).await, 10 + 8);
    assert_eq!(kinds(&house).await, ["followed_alone"]);
    let waits = step(&mut house, &pool).await.unwrap();
    assert_eq!(waits, Watched::Waiting { number: 19, wait: Wait::Silence });
    all[1].is(|odd| odd.away = false);
    house.clock.advance_ms(31_000);
    steps(&mut house, &pool, 3).await;
    assert_eq!(cursor(&house).await, 40);
}

#[tokio::test]
async fn restarts_make_nobody_followed_alone_any_further() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 10);
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    let mut house = house().await;
    steps(&mut house, &pool, 3).await;
    all[1].is(|odd| odd.away = true);
    for _ in 0..4 {
        mine_empty(&chain, 5);
        steps(&mut house, &pool, 10).await;
        house.restart().await;
    }
    steps(&mut house, &pool, 20).await;
    assert_eq!(cursor(&house).await, 10 + 8);
    all[1].is(|odd| odd.away = false);
    house.clock.advance_ms(31_000);
    steps(&mut house, &pool, 3).await;
    assert_eq!(cursor(&house).await, 30);
    // From where two agree, it begins anew.
    all[1].is(|odd| odd.away = true);
    mine_empty(&chain, 30);
    house.restart().await;
    steps(&mut house, &pool, 20).await;
    assert_eq!(cursor(&house).await, 30 + 8);
}

#[tokio::test]
async fn a_second_pass_that_stands_still_is_found_and_goes_when_it_goes_on() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 50);
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    let mut house = house().await;
    steps(&mut house, &pool, 10).await;
    all[1].is(|odd| odd.away = true);
    let mut look = LookCache::new(&house.rules);
    for minutes in [0, 9, 2] {
        assert!(kinds(&house).await.is_empty());
        house.clock.advance_ms(minutes * 60_000);
        let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
        assert!(recheck(rules, &pool, store, clock, &mut look).await.is_err());
    }
    let found = house.store.findings(10).await.unwrap();
    assert_eq!(found[0].kind, "look_still");
    assert!(found[0].detail["why"].as_str().unwrap().contains("bob"), "{found:?}");
    all[1].is(|odd| odd.away = false);
    // After a restart, too.
    let mut look = LookCache::new(&house.rules);
    let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
    recheck(rules, &pool, store, clock, &mut look).await.unwrap();
    let found = house.store.findings(10).await.unwrap();
    assert!(found.iter().all(|f| f.state == "gone"), "{found:?}");
}

/// The cursor of an older version, or of a devnet that was put back to a snapshot.
async fn beyond(paid: bool) -> (ScriptedChain, House, u64) {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 50);
    let mut house = house().await;
    house.rules.verify = Verify::SameProvider;
    house.quiesce(&chain).await;
    if paid {
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    }
    mine_empty(&chain, 100);
    house.quiesce(&chain).await;
    chain.rewind(101);
    mine_empty(&chain, 3);
    let tip = chain.canonical().last().unwrap().0.number;
    (chain, house, tip)
}

#[tokio::test]
async fn a_cursor_that_no_provider_has_any_more_is_healed() {
    let (chain, mut house, tip) = beyond(false).await;
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    for _ in 0..10 {
        assert!(matches!(step(&mut house, &pool).await, Err(WatchError::Behind { .. })));
        survey(&house.rules, &pool, &house.store, &house.clock).await.unwrap();
        let standings = pool.standings(0);
        assert!(standings.iter().all(|s| s.state.starts_with("behind")), "{standings:?}");
    }
    steps(&mut house, &pool, 40).await;
    assert_eq!(kinds(&house).await, ["cursor_unknown"]);
    assert_eq!(cursor(&house).await, tip);
    chain.mine(vec![pay(7, USDC, 0, 2_000_000)]);
    mine_empty(&chain, 3);
    steps(&mut house, &pool, 5).await;
    assert_eq!(house.balance("acme").await, "2000");
    assert_eq!(house.store.scan_gap(CHAIN).await.unwrap(), None);
    house.verify().await;
}

#[tokio::test]
async fn a_cursor_that_no_provider_has_any_more_halts_the_chain_where_something_was_credited() {
    let (chain, mut house, tip) = beyond(true).await;
    assert_eq!(house.balance("acme").await, "1000");
    let pool = Pool::admitted(sources(&chain, 2));
    steps(&mut house, &pool, 40).await;
    assert_eq!(step(&mut house, &pool).await.unwrap(), Watched::Halted);
    assert!(cursor(&house).await > tip);
    assert!(house.store.halt_of(CHAIN).await.unwrap().is_some());
    assert_eq!(kinds(&house).await, ["chain_halted", "cursor_unknown"]);
}

#[tokio::test]
async fn one_of_two_that_fell_far_behind_is_no_reason_to_go_back() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 100);
    let all = sources(&chain, 2);
    let pool = Pool::admitted(all.clone());
    let mut house = house().await;
    steps(&mut house, &pool, 6).await;
    all[0].is(|odd| odd.lag = 50);
    steps(&mut house, &pool, 60).await;
    assert_eq!(cursor(&house).await, 100);
    assert!(kinds(&house).await.is_empty());
}
