//! Rows are taken in one order: each writer is stopped at each step of it, and holds nothing that comes later. So no
//! two of ours wait for each other in a circle; and where somebody else makes one, the database breaks it, nothing was
//! changed, and it says so.

use topupd::chain::scripted::ScriptedChain;
use topupd::domain::ids::Network;
use topupd::domain::pricing::EpochBook;
use topupd::store::{Act, NewAddress, Store, StoreError};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::{WatchCache, watch};

use crate::database::Sql;
use crate::house::support::*;

/// The rows, in the order in which they are taken. What is taken alone in each by whom nobody shares it with.
const ORDER: [(&str, &str); 7] = [
    ("lease", "SELECT CAST(1 AS BIGINT) FROM leases"),
    ("epochs", "SELECT CAST(1 AS BIGINT) FROM installation"),
    ("registers", "SELECT CAST(1 AS BIGINT) FROM database_server"),
    ("market head", "SELECT CAST(1 AS BIGINT) FROM market_head"),
    ("house's journal", "SELECT CAST(1 AS BIGINT) FROM journals WHERE journal_id = 0"),
    ("namespace's journal", "SELECT CAST(1 AS BIGINT) FROM journals WHERE journal_id = 2"),
    ("log head", "SELECT CAST(1 AS BIGINT) FROM log_state"),
];

/// What writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    NewAddress,
    Import,
    Namespace,
    Epochs,
    Act,
    Scan,
    Settle,
}

const WRITERS: [Writer; 7] = [
    Writer::NewAddress,
    Writer::Import,
    Writer::Namespace,
    Writer::Epochs,
    Writer::Act,
    Writer::Scan,
    Writer::Settle,
];

impl Writer {
    /// Writes once, from connections of its own. `n` is another one each time.
    fn writes(self, house: &House, chain: &ScriptedChain, n: usize) -> std::thread::JoinHandle<()> {
        let (database, clock) = (house.database.database(), house.clock.clone());
        let (rules, lease, chain) =
            (house.rules.clone(), house.store.lease().clone(), chain.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let store = Store::open(&database, Network::Testnet, GENESIS_MS).await.unwrap();
                let store = store.timed_by(std::sync::Arc::new(clock.clone()));
                // Who is not let in within his time begins again.
                while let Err(error) = self.once(&store, &lease, (&rules, &chain), &clock, n).await
                {
                    assert!(error.is_collision(), "{self:?}: {error}");
                    assert!(error.to_string().contains("nothing was changed"), "{error}");
                }
                store.close().await;
            });
        })
    }

    async fn once(
        self,
        store: &Store,
        lease: &topupd::store::Lease,
        (rules, chain): (&topupd::domain::chain_rules::ChainRules, &ScriptedChain),
        clock: &topupd::clock::ManualClock,
        n: usize,
    ) -> Result<(), StoreError> {
        let bolt = name("bolt");
        match self {
            Self::NewAddress => store.new_address(&bolt, &xpub(), 0).await.map(drop),
            Self::Import => store.import_address(&bolt, address(100 + n), GENESIS_MS).await,
            Self::Namespace => store.add_namespace(&name(&format!("more-{n}")), 0).await,
            Self::Epochs => store.sync_epochs(&with_later(n), 0).await,
            Self::Act => {
                let filter = topupd::store::DepositFilter { limit: 9, ..Default::default() };
                let deposits = store.deposits(&filter).await?;
                let held = deposits.iter().find(|d| d.stage.to_string().starts_with("held"));
                let id = held.unwrap().id;
                store.act(&rules.oracle, id, &Act::ProposeRelease, &format!("a{n}"), "why").await?;
                Ok(())
            }
            Self::Scan => {
                let leased = store.holding(lease.clone());
                let mut cache = WatchCache::new(rules);
                match watch(rules, &only(chain), &leased, clock, &mut cache).await {
                    Err(topupd::tasks::errors::WatchError::Store(error)) => Err(error),
                    done => {
                        done.unwrap();
                        Ok(())
                    }
                }
            }
            Self::Settle => {
                let leased = store.holding(lease.clone());
                match settle(rules, &only(chain), &Market::default(), &leased, clock).await {
                    Err(topupd::tasks::errors::SettleError::Store(error)) => Err(error),
                    done => {
                        done.unwrap();
                        Ok(())
                    }
                }
            }
        }
    }
}

/// The epochs, and as many later ones as were added before, and one more.
fn with_later(n: usize) -> EpochBook {
    let mut all = epochs().all().to_vec();
    for i in 1..=n {
        let mut later = all[0].clone();
        later.id = format!("later-{i}");
        later.starts_at_ms += i64::try_from(i).unwrap() * 1_000_000_000_000;
        all.push(later);
    }
    EpochBook::new(all).unwrap()
}

/// Which of the rows nobody has taken.
async fn free(sql: &mut Sql) -> Vec<&'static str> {
    let mut free = Vec::new();
    for (what, row) in ORDER {
        if !sql.ints(&format!("{row} FOR UPDATE SKIP LOCKED")).await.is_empty() {
            free.push(what);
        }
    }
    free
}

/// How many of our connections wait for a row.
async fn waiting(sql: &mut Sql) -> i64 {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0";
    sql.ints(waiting).await[0][0]
}

/// A house where everybody has something to write: a chain with a block that is not scanned, payments to credit,
/// and one that is held.
async fn busy() -> (House, ScriptedChain) {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let from_us = topupd::chain::scripted::ScriptedLog::transfer(USDC, address(0), address(1), 9);
    chain.mine(vec![tx(1, vec![from_us]), pay(2, USDC, 0, 1_000_000)]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    (house, chain)
}

#[tokio::test]
async fn everybody_takes_rows_in_one_order() {
    let (mut house, chain) = busy().await;
    let (mut holds, mut looks) = (house.database.sql().await, house.database.sql().await);
    let mut met: Vec<(Writer, &str)> = Vec::new();
    let mut epochs = 0;
    for (n, writer) in (0..).step_by(ORDER.len()).zip(WRITERS) {
        for (place, (row, select)) in ORDER.into_iter().enumerate() {
            let id = 1_000 + u64::try_from(n + place).unwrap();
            if [Writer::Scan, Writer::Settle].contains(&writer) {
                chain.mine(vec![pay(id, USDC, 1, 1_000_000)]);
                mine_empty(&chain, 2);
                if writer == Writer::Settle {
                    house.watch(&chain).await.unwrap();
                }
            }
            epochs += usize::from(writer == Writer::Epochs);
            let nth = if writer == Writer::Epochs { epochs } else { n + place };
            holds.execute("BEGIN").await.unwrap();
            holds.ints(&format!("{select} FOR UPDATE")).await;
            let writes = writer.writes(&house, &chain, nth);
            while !writes.is_finished() {
                if waiting(&mut looks).await == 0 {
                    continue;
                }
                // It waits for this row: nobody else holds any that comes later.
                let free = free(&mut looks).await;
                let later: Vec<_> = ORDER[place + 1..].iter().map(|(what, _)| *what).collect();
                if waiting(&mut looks).await == 0 {
                    continue; // it did not wait any more when we looked
                }
                let missing: Vec<_> = later.iter().filter(|what| !free.contains(what)).collect();
                assert!(missing.is_empty(), "{writer:?} waits for {row} and holds {missing:?}");
                met.push((writer, row));
                break;
            }
            holds.execute("ROLLBACK").await.unwrap();
            writes.join().unwrap();
            if writer == Writer::Epochs {
                house.rules.epochs = std::sync::Arc::new(with_later(epochs));
            }
        }
    }
    met.dedup();
    // A test that waits for nothing sees nothing.
    let waited = |writer| met.iter().filter(|(w, _)| *w == writer).map(|(_, row)| *row).collect();
    let expected: [(Writer, Vec<&str>); 7] = [
        (Writer::NewAddress, vec!["registers", "namespace's journal"]),
        (Writer::Import, vec!["registers", "namespace's journal"]),
        // The journal that it begins is nobody else's yet.
        (Writer::Namespace, vec!["registers"]),
        (Writer::Epochs, vec!["epochs", "house's journal"]),
        (Writer::Act, vec!["registers", "house's journal"]),
        (Writer::Scan, vec!["lease", "epochs"]),
        (Writer::Settle, vec!["lease", "epochs", "namespace's journal"]),
    ];
    for (writer, rows) in expected {
        let waited: Vec<&str> = waited(writer);
        assert_eq!(waited, rows, "{writer:?}");
    }
    house.verify().await;
}

/// Connections find a deadlock before they give up waiting, or the other way round.
async fn finds_deadlocks_after(house: &House, ms: u32) {
    let mut sql = house.database.sql().await;
    let name = sql.texts("SELECT CAST(current_database() AS TEXT)").await.remove(0);
    let set = format!("ALTER DATABASE \"{name}\" SET deadlock_timeout = {ms}");
    sql.execute(&set).await.unwrap();
}

#[tokio::test]
async fn a_circle_that_somebody_else_makes_is_broken_with_nothing_changed() {
    let (mut house, chain) = busy().await;
    // Longer than it takes to make a circle, and shorter than journals are waited for.
    finds_deadlocks_after(&house, 400).await;
    let store = Store::open(&house.database.database(), Network::Testnet, 0).await.unwrap();
    let counted = "SELECT (SELECT COUNT(*) FROM addresses), (SELECT COUNT(*) FROM records)";
    let before = house.sql(counted).await;
    // He takes the second journal first, and then the first one, which we have: the wrong order.
    let mut other = house.database.sql().await;
    other.execute("SET deadlock_timeout = '60s'").await.unwrap();
    let mut looks = house.database.sql().await;
    let new = |i: usize, namespace: &str| NewAddress {
        namespace: name(namespace),
        address: address(200 + i),
    };
    let batch = [new(0, "acme"), new(1, "bolt")];
    other.execute("BEGIN").await.unwrap();
    other.ints("SELECT seq FROM journals WHERE journal_id = 2 FOR UPDATE").await;
    let (refused, ()) = tokio::join!(store.import_addresses(&batch, &[], 0), async {
        while waiting(&mut looks).await == 0 {}
        other.ints("SELECT seq FROM journals WHERE journal_id = 1 FOR UPDATE").await;
    });
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StoreError::Busy { .. }), "{refused}");
    assert!(refused.to_string().contains("nothing was changed; try again"), "{refused}");
    assert_eq!(house.sql(counted).await, before);
    // A chain's commit goes on with what is free, in the same situation.
    chain.mine(vec![pay(50, USDC, 1, 1_000_000), pay(51, USDC, 2, 1_000_000)]);
    mine_empty(&chain, 2);
    house.watch(&chain).await.unwrap();
    for _ in 0..2 {
        house.settle(&chain).await;
    }
    let mut stages = house.stages().await;
    stages.sort();
    assert_eq!(stages, ["credited", "held (custody_doubt)", "held (internal_transfer)", "priced"]);
    other.execute("ROLLBACK").await.unwrap();
    store.import_addresses(&batch, &[], 0).await.unwrap();
    house.quiesce(&chain).await;
    house.verify().await;
    store.close().await;
    finds_deadlocks_after(&house, 1_000).await;
}

#[tokio::test]
async fn whoever_waits_in_vain_is_told_what_is_held_and_that_nothing_was_changed() {
    let (house, _) = busy().await;
    let (store, bolt) = (&house.store, name("bolt"));
    let mut frozen = house.database.sql().await;
    frozen.execute("BEGIN").await.unwrap();
    frozen.ints("SELECT seq FROM journals WHERE journal_id IN (0, 2) FOR UPDATE").await;
    let says = |error: StoreError, what: &str| {
        let said = error.to_string();
        assert!(matches!(error, StoreError::Busy { .. }) && said.contains(what), "{said}");
        assert!(said.contains("nothing was changed; try again"), "{said}");
    };
    let counted = "SELECT (SELECT COUNT(*) FROM addresses), (SELECT COUNT(*) FROM records),
                          (SELECT COUNT(*) FROM operator_acts), (SELECT COUNT(*) FROM book_marks)";
    let before = house.sql(counted).await;
    let error = store.new_address(&bolt, &xpub(), 0).await.unwrap_err();
    says(error, "the house's journal or that of namespace bolt");
    let error = store.import_address(&bolt, address(60), 0).await.unwrap_err();
    says(error, "the journal of namespace bolt");
    let deposits = house.deposits().await;
    let held = deposits.iter().find(|d| d.stage.to_string().starts_with("held")).unwrap();
    let error = house.act(held.id, &Act::ProposeRelease, "alice").await.unwrap_err();
    says(error, "the house's journal");
    assert_eq!(house.sql(counted).await, before);
    frozen.execute("ROLLBACK").await.unwrap();
    store.new_address(&bolt, &xpub(), 0).await.unwrap();
    house.act(held.id, &Act::ProposeRelease, "alice").await.unwrap();
    house.verify().await;
}

/// Two who write to the same journals, in both orders, as often as they can.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_name_journals_in_both_orders_never_wait_in_a_circle() {
    let (mut house, chain) = busy().await;
    finds_deadlocks_after(&house, 20).await;
    let deadlocks =
        "SELECT CAST(deadlocks AS BIGINT) FROM pg_stat_database WHERE datname = current_database()";
    let before = house.sql(deadlocks).await;
    let database = house.database.database();
    let imports = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let store = Store::open(&database, Network::Testnet, 0).await.unwrap();
            for i in 0..30 {
                let mut batch: Vec<NewAddress> = NAMESPACES
                    .iter()
                    .zip(0..)
                    .map(|(of, j)| NewAddress {
                        namespace: name(of),
                        address: address(300 + 3 * i + j),
                    })
                    .collect();
                if i % 2 == 0 {
                    batch.reverse();
                }
                store.import_addresses(&batch, &[], 0).await.unwrap();
            }
            store.close().await;
        });
    });
    let mut n = 0;
    while !imports.is_finished() {
        // Paid in another order each time.
        let to = |k: u64| usize::try_from((n + k * if n % 2 == 0 { 1 } else { 2 }) % 3).unwrap();
        chain.mine((0..3).map(|k| pay(1_000 + 3 * n + k, USDC, to(k), 1_000_000)).collect());
        mine_empty(&chain, 1);
        n += 1;
        let _ = house.watch(&chain).await;
        house.settle(&chain).await;
    }
    imports.join().unwrap();
    house.read_all(&chain).await;
    assert_eq!(house.sql(deadlocks).await, before);
    house.verify().await;
    finds_deadlocks_after(&house, 1_000).await;
}
