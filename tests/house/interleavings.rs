//! Any interleaving of heads, forks, failures, restarts, corrections and registering, also in the middle of a step,
//! gives the ledger that processing the final chain once with all addresses, and then correcting it, gives.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use topupd::chain::scripted::{ScriptedChain, ScriptedTx};
use topupd::domain::chain_rules::FilterKind;
use topupd::domain::ids::BlockRef;
use topupd::planted::crash_after;
use topupd::store::DepositFilter;
use topupd::tasks::errors::SettleError;
use topupd::tasks::errors::WatchError;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;

use super::correcting::{Corrections, Word, with_two_epochs};
use super::support::*;

/// Confirmations asked for; forks stay shallower, because a deeper one breaks the policy's promise.
pub const CONFIRMATIONS: u64 = 7;

#[derive(Debug, Clone)]
pub enum Step {
    /// Mine a block with so many new payments, and with all that were dropped before.
    Mine {
        payments: usize,
        again: bool,
    },
    /// Replace the newest blocks by others: their payments shifted, reversed or left out.
    Fork {
        depth: u64,
        shift: usize,
        reverse: bool,
        drop: bool,
    },
    Watch,
    Settle,
    Restart,
    /// The next requests fail.
    Fail {
        requests: u32,
    },
    /// An old header is announced again.
    Late {
        back: usize,
    },
    /// Somebody has something to say about a credit.
    Correct {
        word: Word,
        which: usize,
        who: usize,
    },
    /// The next address is registered: at once, or while the logs of a step are read, or the process dies after so
    /// many commits of these.
    Register {
        during: bool,
        dies_after: Option<u32>,
    },
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![3 => Just(Word::Propose), 3 => Just(Word::Approve), 1 => Just(Word::Withdraw)]
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, any::<bool>()).prop_map(|(payments, again)| Step::Mine { payments, again }),
        2 => (1u64..CONFIRMATIONS, 0usize..3, any::<bool>(), any::<bool>())
            .prop_map(|(depth, shift, reverse, drop)| Step::Fork { depth, shift, reverse, drop }),
        5 => Just(Step::Watch),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => (1u32..5).prop_map(|requests| Step::Fail { requests }),
        1 => (0usize..10).prop_map(|back| Step::Late { back }),
        4 => (word(), 0usize..20, 0usize..3)
            .prop_map(|(word, which, who)| Step::Correct { word, which, who }),
        2 => (any::<bool>(), prop::option::of(0u32..3))
            .prop_map(|(during, dies_after)| Step::Register { during, dies_after }),
    ]
}

/// Addresses that are there from the beginning, and all that are paid.
const FIRST: usize = 6;
const PAID: usize = 10;

/// Registers the next address; true when it is there afterwards.
async fn register(
    house: &mut House,
    chain: &ScriptedChain,
    next: usize,
    (during, dies_after): (bool, Option<u32>),
) -> bool {
    let (namespace, new) = (NAMESPACES[next % NAMESPACES.len()], address(next));
    crash_after(dies_after);
    if during {
        let watched = house.watch_while(chain, (namespace, new)).await;
        let failed = matches!(&watched, Err(WatchError::Source(_) | WatchError::Moved(_)));
        assert!(watched.is_ok() || failed || dies_after.is_some(), "{watched:?}");
    } else {
        let done = house.store.import_address(&name(namespace), new, GENESIS_MS).await;
        assert!(done.is_ok() || dies_after.is_some(), "{done:?}");
    }
    crash_after(None);
    if dies_after.is_some() {
        house.restart().await;
    }
    house.store.owner_of(new).await.unwrap().is_some()
}

/// Plays a story to its end, when nothing is left to do. What was corrected.
pub async fn play(house: &mut House, chain: &ScriptedChain, steps: &[Step]) -> Corrections {
    let mut corrections = Corrections::default();
    let height = || BlockRef::from(chain).number;
    let mut highest = 0u64;
    let mut next_tx = 0u64;
    let mut registered = FIRST;
    let mut dropped: Vec<ScriptedTx> = Vec::new();
    for step in steps {
        match step {
            Step::Mine { payments, again } => {
                let mut txs: Vec<ScriptedTx> = Vec::new();
                if *again {
                    txs.append(&mut dropped);
                }
                for _ in 0..*payments {
                    next_tx += 1;
                    let token = [USDC, USDT, RTITY][(next_tx % 3) as usize];
                    let amount = 250_000 * u128::from(next_tx % 7 + 1);
                    txs.push(pay(next_tx, token, usize::try_from(next_tx).unwrap() % PAID, amount));
                }
                chain.mine(txs);
            }
            Step::Fork { depth, shift, reverse, drop } => {
                // Several forks in a row may not reach below what the policy promised either.
                let floor = highest.saturating_sub(CONFIRMATIONS - 1);
                let mut txs = chain.rewind((*depth).min(height().saturating_sub(floor)));
                if *reverse {
                    txs.reverse();
                }
                if *drop && !txs.is_empty() {
                    dropped.push(txs.remove(0));
                }
                for _ in 0..*shift {
                    chain.mine(Vec::new());
                }
                let half = txs.split_off(txs.len() / 2);
                chain.mine(txs);
                chain.mine(half);
            }
            // An activation may fail because the source did; the next one is the retry.
            Step::Watch => match house.watch(chain).await {
                Ok(_) | Err(WatchError::Source(_) | WatchError::Moved(_)) => {}
                Err(error) => panic!("{error}"),
            },
            Step::Settle => {
                let (pool, market) = (only(chain), Market::default());
                let (rules, store) = (&house.rules, &house.store);
                match settle(rules, &pool, &market, store, &house.clock).await {
                    Ok(_) | Err(SettleError::Source(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Restart => house.restart().await,
            Step::Register { during, dies_after } if registered < PAID => {
                if register(house, chain, registered, (*during, *dies_after)).await {
                    registered += 1;
                }
            }
            Step::Register { .. } => {}
            Step::Fail { requests } => chain.fail(*requests),
            Step::Late { back } => {
                let canonical = chain.canonical();
                let late = canonical[canonical.len().saturating_sub(1 + back)].0;
                chain.announce(late);
            }
            Step::Correct { word, which, who } => {
                corrections.step(house, *word, *which, *who).await;
            }
        }
        highest = highest.max(height());
    }
    chain.fail(0);
    chain.mine(dropped);
    mine_empty(chain, CONFIRMATIONS);
    for late in registered..PAID {
        assert!(register(house, chain, late, (false, None)).await);
    }
    house.read_all(chain).await;
    house.verify().await;
    corrections
}

async fn run(steps: &[Step], window: u64, range_max: u64, filter: FilterKind) {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(with_two_epochs(CONFIRMATIONS)).await;
    house.rules.window = window;
    house.rules.range_max = range_max;
    house.rules.filter = filter;
    let corrections = play(&mut house, &chain, steps).await;

    let mut once = House::new(with_two_epochs(CONFIRMATIONS)).await;
    for late in FIRST..PAID {
        assert!(register(&mut once, &chain, late, (false, None)).await);
    }
    once.quiesce(&chain).await;
    corrections.again(&once).await;
    once.verify().await;
    let (ledger, expected) = (house.ledger().await, once.ledger().await);
    assert_eq!(ledger.len(), expected.len());
    for (got, wanted) in ledger.iter().zip(&expected) {
        assert_eq!(got, wanted);
    }

    corrections.hold(&house).await;

    // And nothing seen on the way is lost: each deposit is in the end what the final chain makes it.
    let states = |house: &House| {
        let store = house.store.clone();
        async move {
            let filter = DepositFilter { limit: 100_000, ..DepositFilter::default() };
            let mut all: Vec<(String, String)> = store
                .deposits(&filter)
                .await
                .unwrap()
                .into_iter()
                .map(|d| (d.id.to_string(), d.stage.to_string()))
                .collect();
            all.sort();
            all
        }
    };
    assert_eq!(states(&house).await, states(&once).await);
}

/// 64 (20 on PostgreSQL, where each takes longer), or as many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(if crate::ENGINE == Engine::Sqlite { 64 } else { 20 })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/interleavings.txt"),
        ))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_interleaving_gives_the_ledger_of_the_final_chain(
        steps in prop::collection::vec(step(), 1..40),
        window in prop::sample::select(vec![CONFIRMATIONS + 1, 64]),
        range_max in prop::sample::select(vec![1u64, 3, 1_000]),
        filter in prop::sample::select(vec![FilterKind::Tokens, FilterKind::Recipients]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&steps, window, range_max, filter));
    }
}
