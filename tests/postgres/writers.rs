//! Several daemons post to one ledger at once: the sequence has no gap, the chain of hashes one line
//! of descent, and a step that collides is done again as a whole.

use std::sync::Arc;
use std::time::Duration;

use topupd::chain::scripted::ScriptedChain;
use topupd::clock::ManualClock;
use topupd::domain::ids::{ChainId, Network};
use topupd::store::{Acquired, Store, chain_task};
use topupd::tasks::ChainRules;
use topupd::tasks::market::Market;
use topupd::tasks::settle::{SettleError, settle};
use topupd::tasks::watch::{WatchCache, WatchError, watch};

use crate::house::support::*;

const WRITERS: u64 = 6;
const PAYMENTS: u64 = 60;

fn rules_of(chain: ChainId) -> ChainRules {
    let mut rules = rules(1);
    rules.id = chain;
    rules.tokens.iter_mut().for_each(|token| token.chain = chain);
    rules
}

/// Follows a chain of its own through a pool of its own until everything is credited. Returns how
/// many steps collided.
async fn write(database: topupd::store::Database, chain: ChainId) -> usize {
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
    for i in 0..PAYMENTS {
        scripted.mine(vec![pay(
            chain.0 * 1_000 + i,
            USDC,
            (i % 6) as usize,
            1_000_000 + u128::from(i),
        )]);
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
    assert_eq!(credited as u64, PAYMENTS);
    store.close().await;
    collided
}

#[expect(clippy::disallowed_methods, reason = "a test's own tasks, ended with the test")]
#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_somebody_who_takes_the_rows_the_other_way_round() {
    let house = House::new(rules(1)).await;
    // A thread and a runtime each, as daemons have.
    let writers: Vec<_> = (1..=WRITERS)
        .map(|i| {
            let database = house.database.database();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(write(database, ChainId(i)))
            })
        })
        .collect();
    // We take the ledger's head, then the accounts. This one does the opposite, and is the patient
    // one of the two, so that ours is the step that the server ends.
    let mut sql = house.database.sql().await;
    let crossing = tokio::spawn(async move {
        sql.execute("SET deadlock_timeout = '20s'").await.unwrap();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            sql.execute("BEGIN").await.unwrap();
            let account =
                "SELECT account FROM accounts WHERE account = 'namespace/acme' FOR UPDATE";
            sql.rows(account).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            sql.rows("SELECT seq FROM ledger_head FOR UPDATE").await;
            sql.execute("COMMIT").await.unwrap();
        }
    });
    let mut collided = 0;
    crossing.await.unwrap();
    for writer in writers {
        collided += writer.join().unwrap();
    }
    println!("{collided} steps collided and were done again");
    house.verify().await;
    let counts = house.sql("SELECT COUNT(*), MIN(seq), MAX(seq) FROM postings").await;
    let all = i64::try_from(WRITERS * PAYMENTS).unwrap();
    assert_eq!(counts, [[all, 1, all]]);
}
