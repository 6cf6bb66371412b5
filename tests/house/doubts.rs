//! Blocks whose bloom filter expects logs that nobody shows, blocks that cannot be read, and ranges
//! that are refused in words that nobody knows.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::clock::Clock;
use topupd::domain::chain_rules::FilterKind;
use topupd::tasks::errors::WatchError;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::{backfill, recheck};
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{Wait, WatchCache, watch};

use super::odd_source::{OddSource, Receipts};
use super::support::*;

async fn house(filter: FilterKind) -> House {
    let mut rules = rules(3);
    rules.filter = filter;
    rules.window = 16;
    House::new(rules).await
}

async fn step(house: &mut House, pool: &Pool<OddSource>) -> Result<Watched, WatchError> {
    house.clock.advance_ms(1_000);
    watch(&house.rules, pool, &house.store, &house.clock, &mut house.cache).await
}

/// Until nothing is new; how many steps that took.
async fn rest(house: &mut House, pool: &Pool<OddSource>) -> usize {
    for n in 1..200 {
        if matches!(step(house, pool).await, Ok(Watched::Idle)) {
            return n;
        }
    }
    panic!("does not come to rest");
}

async fn kinds(house: &House) -> Vec<String> {
    house.store.findings(100).await.unwrap().into_iter().map(|f| f.kind).collect()
}

#[tokio::test]
async fn what_two_honest_nodes_leave_out_their_receipts_show() {
    for filter in [FilterKind::Tokens, FilterKind::Recipients] {
        for blocks_above in [1, 60] {
            let chain = ScriptedChain::new(GENESIS_MS);
            mine_empty(&chain, 3);
            let all = ["ann", "bob"].map(|name| OddSource::new(name, &chain));
            all.iter().for_each(|source| source.is(|odd| odd.hides = true));
            let pool = Pool::admitted(all.clone());
            let mut house = house(filter).await;
            // In catch-up, a range's last header is at hand.
            house.rules.range_max = 4;
            house.rules.start = topupd::domain::chain_rules::Start::Block(1);
            house.cache = WatchCache::new(&house.rules);
            chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
            mine_empty(&chain, blocks_above);
            rest(&mut house, &pool).await;
            assert_eq!(house.deposits().await.len(), 1, "{filter:?}, {blocks_above} blocks above");
            assert!(kinds(&house).await.is_empty());
        }
    }
}

/// Both index some seconds late, logs and receipts alike: nobody waits for the second pass, which is a
/// whole window away.
#[tokio::test]
async fn what_both_index_late_is_read_again_after_some_seconds() {
    let chain = ScriptedChain::new(GENESIS_MS);
    mine_empty(&chain, 20);
    let all = ["ann", "bob"].map(|name| OddSource::new(name, &chain));
    let pool = Pool::admitted(all.clone());
    let mut house = house(FilterKind::Tokens).await;
    rest(&mut house, &pool).await;
    let late = |is_late: bool| {
        for source in &all {
            source.is(|odd| {
                odd.hides = is_late;
                odd.receipts = if is_late { Receipts::NotKept } else { Receipts::True };
            });
        }
    };
    late(true);
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    rest(&mut house, &pool).await;
    let found = house.store.findings(9).await.unwrap();
    assert_eq!((found[0].kind.as_str(), found[0].state.as_str()), ("logs_in_doubt", "open"));
    late(false);
    let mut looks = LookCache::new(&house.rules);
    let since = house.clock.now_ms();
    while house.deposits().await.is_empty() {
        assert!(house.clock.now_ms() - since < 10_000, "later than ten seconds");
        let _ = step(&mut house, &pool).await;
        let (rules, store) = (&house.rules, &house.store);
        backfill(rules, &pool, store, &house.clock, &mut looks).await.unwrap();
    }
    assert_eq!(house.store.findings(9).await.unwrap()[0].state, "gone");
}

#[tokio::test]
async fn sweeps_are_settled_by_their_receipts_once_and_hold_nothing_up() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(FilterKind::Tokens).await;
    // A filter by token sees sweeps; so the tokens are sent by a contract whose logs are left out.
    let source = OddSource::new("ann", &chain);
    let pool = Pool::admitted([source.clone()]);
    mine_empty(&chain, 3);
    rest(&mut house, &pool).await;
    let approval = |id| {
        let mut log = ScriptedLog::transfer(USDC, PAYER, address(0), 1);
        log.topics[0] = alloy::primitives::keccak256("Approval(address,address,uint256)");
        let other = ScriptedLog::transfer(UNLISTED, PAYER, PAYER, 1);
        tx(id, vec![log, other])
    };
    for id in 1..4 {
        chain.mine(vec![approval(id)]);
    }
    let before = source.asked();
    let tip = chain.canonical().last().unwrap().0.number;
    let watched = step(&mut house, &pool).await.unwrap();
    assert!(matches!(watched, Watched::Advanced { to, .. } if to.number == tip), "{watched:?}");
    // The tip, two headers, three times logs, three times receipts.
    assert_eq!(source.asked() - before, 1 + 2 + 3 + 3);
    assert!(kinds(&house).await.is_empty());
}

#[tokio::test]
async fn doubts_that_nobody_can_settle_are_findings_after_some_seconds_and_it_goes_on() {
    for receipts in [Receipts::NotKept, Receipts::Empty] {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = house(FilterKind::Tokens).await;
        let all = ["ann", "bob"].map(|name| OddSource::new(name, &chain));
        let pool = Pool::admitted(all.clone());
        mine_empty(&chain, 3);
        rest(&mut house, &pool).await;
        for source in &all {
            source.is(|odd| {
                odd.receipts = receipts;
                odd.expects = vec![(5, USDC), (6, USDT)];
            });
        }
        mine_empty(&chain, 4);
        let watched = step(&mut house, &pool).await.unwrap();
        assert!(matches!(watched, Watched::Advanced { to, .. } if to.number == 4), "the prefix");
        let watched = step(&mut house, &pool).await.unwrap();
        assert_eq!(watched, Watched::Waiting { number: 5, wait: Wait::Receipts });
        let steps = rest(&mut house, &pool).await;
        assert!(steps < 10, "{steps}");
        assert_eq!(kinds(&house).await, ["logs_in_doubt", "logs_in_doubt"]);
    }
}

#[tokio::test]
async fn a_node_that_indexes_late_loses_nothing() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(FilterKind::Tokens).await;
    let all = ["ann", "bob"].map(|name| OddSource::new(name, &chain));
    let pool = Pool::admitted(all.clone());
    mine_empty(&chain, 3);
    rest(&mut house, &pool).await;
    for source in &all {
        source.is(|odd| (odd.hides, odd.receipts) = (true, Receipts::NotKept));
    }
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    let watched = step(&mut house, &pool).await.unwrap();
    assert_eq!(watched, Watched::Waiting { number: 4, wait: Wait::Receipts });
    all.iter().for_each(|source| source.is(|odd| odd.hides = false));
    rest(&mut house, &pool).await;
    assert_eq!(house.deposits().await.len(), 1);
    assert!(kinds(&house).await.is_empty());
}

#[tokio::test]
async fn receipts_of_another_one_do_not_speak_for_the_one_that_hides() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(FilterKind::Tokens).await;
    let all = ["ann", "bob"].map(|name| OddSource::new(name, &chain));
    let pool = Pool::admitted(all.clone());
    mine_empty(&chain, 3);
    rest(&mut house, &pool).await;
    all.iter().for_each(|source| source.is(|odd| odd.hides = true));
    all[0].is(|odd| odd.receipts = Receipts::NotKept);
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    rest(&mut house, &pool).await;
    let by = house.sql("SELECT COUNT(*) FROM sightings WHERE provider = 'bob'").await;
    assert_eq!(by, [[1]], "whoever showed it is who is asked whether another one confirms it");
}

#[tokio::test]
async fn one_unreadable_block_leaves_those_before_it() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(FilterKind::Tokens).await;
    let source = OddSource::new("ann", &chain);
    let pool = Pool::admitted([source.clone()]);
    mine_empty(&chain, 3);
    rest(&mut house, &pool).await;
    mine_empty(&chain, 5);
    source.is(|odd| odd.unread = Some(7));
    let watched = step(&mut house, &pool).await.unwrap();
    assert!(matches!(watched, Watched::Advanced { to, more: true, .. } if to.number == 6));
    assert!(step(&mut house, &pool).await.is_err());
    source.is(|odd| odd.unread = None);
    rest(&mut house, &pool).await;
    assert_eq!(house.store.cursor(CHAIN).await.unwrap().unwrap().0.number, 8);
}

#[tokio::test]
async fn a_range_that_is_refused_in_unknown_words_is_halved_and_grows_again() {
    for (n, most) in [(1, 10), (2, 10), (1, 0), (2, 0)] {
        let chain = ScriptedChain::new(GENESIS_MS);
        let mut house = house(FilterKind::Tokens).await;
        house.rules.range_max = 500;
        house.cache = WatchCache::new(&house.rules);
        let all = &["ann", "bob"].map(|name| OddSource::new(name, &chain))[..n];
        for source in all {
            source.is(|odd| (odd.range, odd.no_ranges) = (Some(most), most == 0));
        }
        let pool = Pool::admitted(all.to_vec());
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        mine_empty(&chain, 200);
        rest(&mut house, &pool).await;
        assert_eq!(house.deposits().await.len(), 1, "of {n}, with {most} blocks at once");
        // The second pass meets the same.
        let mut cache = LookCache::new(&house.rules);
        for _ in 0..400 {
            house.clock.advance_ms(1_000);
            let _ = recheck(&house.rules, &pool, &house.store, &house.clock, &mut cache).await;
        }
        let rechecked = house.sql("SELECT MAX(COALESCE(rechecked_to, -1)) FROM scans").await;
        assert!(rechecked[0][0] >= 180, "{rechecked:?}");
        // Once nobody refuses any more, ranges become large again.
        all.iter().for_each(|source| source.is(|odd| (odd.range, odd.no_ranges) = (None, false)));
        mine_empty(&chain, 3_000);
        let before: u64 = all.iter().map(OddSource::asked).sum();
        rest(&mut house, &pool).await;
        let asked = all.iter().map(OddSource::asked).sum::<u64>() - before;
        assert!(asked < 2_500, "{asked} questions for 3,000 blocks");
    }
}
