//! Several daemons write to journals at once, to one and to many: numbers have no gap, seals one line of descent, and a
//! step that collides is done again as a whole. Somebody who takes journals the other way round, or holds one for ever,
//! stops nobody else.

use std::sync::Arc;
use std::time::Duration;

use topupd::chain::scripted::ScriptedChain;
use topupd::clock::ManualClock;
use topupd::domain::chain_rules::ChainRules;
use topupd::domain::ids::{ChainId, Network};
use topupd::store::{Acquired, Store, chain_task};
use topupd::tasks::errors::SettleError;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::{WatchCache, watch};

use crate::house::support::*;

const WRITERS: u64 = 6;
const PAYMENTS: usize = 60;
/// Steps after the last payment, in which what was left out is credited.
const MORE: usize = 200;

fn rules_of(chain: ChainId) -> ChainRules {
    let mut rules = rules(1);
    rules.id = chain;
    rules.tokens.iter_mut().for_each(|token| token.chain = chain);
    rules
}

/// Follows a chain of its own through a pool of its own until everything is credited: payments to these addresses in
/// turn. Returns how many steps collided.
async fn write(database: topupd::store::Database, chain: ChainId, to: Vec<usize>) -> usize {
    let store = Store::open(&database, Network::Testnet, GENESIS_MS).await.unwrap();
    let holder = format!("writer-{}", chain.0);
    let hour = Duration::from_secs(3_600);
    let Acquired::Ours(lease) =
        store.acquire(&chain_task(chain), &holder, hour, false).await.unwrap()
    else {
        panic!("each has a lease of its own")
    };
    let (rules, clock) = (rules_of(chain), ManualClock::at(GENESIS_MS));
    let store = store.timed_by(Arc::new(clock.clone())).holding(lease);
    let (scripted, mut cache) = (ScriptedChain::new(GENESIS_MS), WatchCache::new(&rules));
    let pool = only(&scripted);
    let (mut collided, mut credited) = (0, 0);
    for i in 0..usize::MAX {
        if i < PAYMENTS {
            let (id, to) = (chain.0 * 1_000 + i as u64, to[i % to.len()]);
            scripted.mine(vec![pay(id, USDC, to, 1_000_000 + i as u128)]);
        } else if credited == PAYMENTS {
            break;
        }
        assert!(i < PAYMENTS + MORE, "{credited} of {PAYMENTS} are credited");
        loop {
            clock.advance_ms(1_000);
            let error = match watch(&rules, &pool, &store, &clock, &mut cache).await {
                Ok(_) => match settle(&rules, &pool, &Market::default(), &store, &clock).await {
                    Ok(done) => {
                        credited += done.credited;
                        break;
                    }
                    Err(SettleError::Store(error)) => error,
                    Err(error) => panic!("{error}"),
                },
                Err(WatchError::Store(error)) => error,
                Err(error) => panic!("{error}"),
            };
            assert!(error.is_collision(), "{error}");
            collided += 1;
        }
    }
    store.close().await;
    collided
}

/// A thread and a runtime each, as daemons have.
fn begin(house: &House, to: impl Fn(u64) -> Vec<usize>) -> Vec<std::thread::JoinHandle<usize>> {
    (1..=WRITERS)
        .map(|i| {
            let (database, to) = (house.database.database(), to(i));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(write(database, ChainId(i), to))
            })
        })
        .collect()
}

/// So many credits, in so many journals of namespaces; in each, the numbers go on without a gap.
async fn all_there(house: &House, journals: i64) {
    house.verify().await;
    let all = i64::try_from(PAYMENTS).unwrap() * i64::try_from(WRITERS).unwrap();
    let credits =
        "SELECT COUNT(*), COUNT(DISTINCT journal_id), COUNT(DISTINCT deposit_id) FROM credits";
    assert_eq!(house.sql(credits).await, [[all, journals, all]]);
    let gaps = "SELECT j.journal_id FROM journals j WHERE j.seq <>
                  (SELECT COUNT(*) FROM records q WHERE q.journal_id = j.journal_id)
                UNION ALL
                SELECT p.journal_id FROM records p
                JOIN records q ON q.journal_id = p.journal_id AND q.seq = p.seq + 1
                WHERE q.prev <> p.seal";
    assert!(house.sql(gaps).await.is_empty());
    let moved = "SELECT CAST(SUM(remaining_nano) AS BIGINT) - (SELECT CAST(SUM(posted_nano) AS BIGINT) FROM journals)
                 FROM lots";
    assert_eq!(house.sql(moved).await, [[0]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_writers_on_one_journal() {
    let house = House::new(rules(1)).await;
    let mut collided = 0;
    for writer in begin(&house, |_| vec![0, 3]) {
        collided += writer.join().unwrap();
    }
    println!("{collided} steps collided and were done again");
    all_there(&house, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_writers_on_a_journal_each() {
    let house = House::new(rules(1)).await;
    for i in 4..=6 {
        let namespace = name(&format!("more-{i}"));
        house.store.add_namespace(&namespace, GENESIS_MS).await.unwrap();
        house.store.import_address(&namespace, address(100 + i), GENESIS_MS).await.unwrap();
    }
    let to = |i: u64| {
        let i = usize::try_from(i).unwrap();
        vec![if i <= 3 { i - 1 } else { 100 + i }]
    };
    for writer in begin(&house, to) {
        writer.join().unwrap();
    }
    all_there(&house, 6).await;
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks, ended with the test")]
#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_somebody_who_takes_journals_the_other_way_round() {
    let house = House::new(rules(1)).await;
    let writers = begin(&house, |_| (0..6).collect());
    // We take journals in the order of their ids. This one does the opposite, and is the patient one.
    let mut sql = house.database.sql().await;
    let crossing = tokio::spawn(async move {
        sql.execute("SET deadlock_timeout = '20s'").await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sql.execute("BEGIN").await.unwrap();
            for journal in [3, 2, 1, 0] {
                sql.ints(&format!(
                    "SELECT seq FROM journals WHERE journal_id = {journal} FOR UPDATE"
                ))
                .await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            sql.execute("COMMIT").await.unwrap();
        }
    });
    let mut collided = 0;
    crossing.await.unwrap();
    for writer in writers {
        collided += writer.join().unwrap();
    }
    println!("{collided} steps collided and were done again");
    all_there(&house, 3).await;
}

#[tokio::test]
async fn a_frozen_holder_of_a_journal_stops_its_namespace_and_nobody_else() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let mut frozen = house.database.sql().await;
    frozen.execute("BEGIN").await.unwrap();
    frozen.ints("SELECT seq FROM journals WHERE journal_id = 1 FOR UPDATE").await;
    chain.mine((0..3).map(|i| pay(i as u64, USDC, i, 1_000_000)).collect());
    mine_empty(&chain, 2);
    for _ in 0..3 {
        house.watch(&chain).await.unwrap();
        house.settle(&chain).await;
    }
    assert_eq!(house.stages().await, ["priced", "credited", "credited"]);
    // Nothing is registered for it either, and for others it is.
    let more = |i: usize| NewAddressOf { namespace: NAMESPACES[i], address: address(50 + i) };
    let refused = more(0).import(&house).await.unwrap_err();
    assert!(refused.is_collision(), "{refused}");
    more(1).import(&house).await.unwrap();
    frozen.execute("ROLLBACK").await.unwrap();
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited", "credited", "credited"]);
    more(0).import(&house).await.unwrap();
    house.verify().await;
}

struct NewAddressOf {
    namespace: &'static str,
    address: alloy::primitives::Address,
}

impl NewAddressOf {
    async fn import(&self, house: &House) -> Result<(), topupd::store::StoreError> {
        house.store.import_address(&name(self.namespace), self.address, GENESIS_MS).await
    }
}
