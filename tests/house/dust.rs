//! Dust that is added up: the sums are those of the plain rule, whatever comes between, and many
//! payments cost little.

use std::collections::BTreeMap;

use proptest::prelude::*;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::deposit::{HoldReason, Stage};
use topupd::domain::finality::{Finality, Verify};
use topupd::domain::ids::BlockRef;
use topupd::domain::pricing::DustSum;
use topupd::planted::{Fault, plant};
use topupd::store::{Confirmation, DepositRow};
use topupd::tasks::rescan::backfill;
use topupd::tasks::rescan::outcome::{LookCache, Looked};

use super::support::*;

const DUST: Stage = Stage::Held(HoldReason::Dust);
const MINIMUM: u64 = 1_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// A block with one payment, to an address that is registered or will be.
    Pay {
        to: usize,
        amount: u64,
    },
    /// The newest blocks are replaced, without one of their payments; counted dust may be among them.
    Fork {
        depth: u64,
        drop: usize,
    },
    /// Somebody registers the address that was paid before.
    Register {
        to: usize,
    },
    Empty,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..9, 150_000u64..1_200_000).prop_map(|(to, amount)| Step::Pay { to, amount }),
        2 => (1u64..6, 0usize..4).prop_map(|(depth, drop)| Step::Fork { depth, drop }),
        1 => (6usize..9).prop_map(|to| Step::Register { to }),
        1 => Just(Step::Empty),
        1 => Just(Step::Restart),
    ]
}

/// What the plain rule makes of the deposits as they are: in the order of the chain, until the first
/// that is not final, each group that is enough is credited, and the rest is held.
fn plain_rule(deposits: &[DepositRow]) -> BTreeMap<String, Stage> {
    let mut under_way: BTreeMap<&str, Vec<&DepositRow>> = BTreeMap::new();
    for deposit in deposits {
        if matches!(deposit.stage, Stage::Pending | Stage::Confirmed | DUST) {
            under_way.entry(&deposit.namespace).or_default().push(deposit);
        }
    }
    let mut after = BTreeMap::new();
    for mut all in under_way.into_values() {
        all.sort_by_key(|d| d.block_number); // one payment a block
        let is_dust = |d: &DepositRow| d.raw < raw(MINIMUM);
        let is_final = |d: &DepositRow| d.stage != Stage::Pending || d.confirmations >= 2;
        let (mut sum, mut group, mut open) = (DustSum::default(), Vec::new(), true);
        for d in all {
            let id = d.id.to_string();
            match (is_dust(d), is_final(d)) {
                (false, true) => drop(after.insert(id, Stage::Credited)),
                (_, false) => {
                    open &= !is_dust(d);
                    after.insert(id, Stage::Pending);
                }
                (true, true) => {
                    if !open {
                        after.insert(id, if d.stage == DUST { DUST } else { Stage::Confirmed });
                        continue;
                    }
                    group.push(id.clone());
                    after.insert(id, DUST);
                    if sum.add(d.raw, raw(MINIMUM)) {
                        after.extend(group.drain(..).map(|id| (id, Stage::Credited)));
                    }
                }
            }
        }
    }
    after
}

async fn play(steps: &[Step]) {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    let mut late = LookCache::new(&house.rules);
    let (mut tx, mut registered) = (0, vec![0, 1, 2, 3, 4, 5]);
    for step in steps {
        match step {
            Step::Pay { to, amount } => {
                tx += 1;
                chain.mine(vec![pay(tx, USDT, *to, u128::from(*amount))]);
            }
            Step::Fork { depth, drop } => {
                // What is credited stays: undoing it is another story.
                let credited = house.deposits().await;
                let credited = credited.iter().filter(|d| d.stage == Stage::Credited);
                let floor = credited.map(|d| d.block_number).max().unwrap_or(0);
                let height = BlockRef::from(&chain).number;
                let mut txs = chain.rewind((*depth).min(height.saturating_sub(floor)));
                if *drop < txs.len() {
                    txs.remove(*drop);
                }
                chain.mine(Vec::new());
                txs.into_iter().for_each(|tx| drop_block(chain.mine(vec![tx])));
            }
            Step::Register { to } if !registered.contains(to) => {
                let namespace = name(NAMESPACES[*to % 3]);
                house.store.import_address(&namespace, address(*to), 0).await.unwrap();
                registered.push(*to);
            }
            Step::Register { .. } => {}
            Step::Empty => drop_block(chain.mine(Vec::new())),
            Step::Restart => house.restart().await,
        }
        while house.watch(&chain).await.unwrap() != topupd::tasks::watch::step::Watched::Idle {}
        let (rules, pool) = (house.rules.clone(), only(&chain));
        while backfill(&rules, &pool, &house.store, &house.clock, &mut late).await.unwrap()
            != Looked::Idle
        {}
        let expected = plain_rule(&house.deposits().await);
        while house.settle(&chain).await != topupd::tasks::settle::confirming::Settled::default() {}
        for deposit in house.deposits().await {
            if let Some(stage) = expected.get(&deposit.id.to_string()) {
                assert_eq!(deposit.stage, *stage, "{step:?}: block {}", deposit.block_number);
            }
        }
    }
    house.verify().await;
}

fn drop_block<T>(_: T) {}

/// Fewer on PostgreSQL, where each takes longer.
const CASES: u32 = if matches!(crate::ENGINE, Engine::Sqlite) { 40 } else { 4 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_of_dust_are_those_of_the_plain_rule(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&steps));
    }
}

#[test]
fn sums_that_nobody_forgets_are_noticed() {
    let paid = || Step::Pay { to: 0, amount: 400_000 };
    let steps = [paid(), paid(), Step::Empty, Step::Fork { depth: 3, drop: 0 }, paid(), paid()];
    let told = |fault| {
        plant(fault);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = std::panic::catch_unwind(|| runtime.block_on(play(&steps)));
        plant(None);
        told
    };
    assert!(told(None).is_ok());
    assert!(told(Some(Fault::StaleDust)).is_err());
}

/// Takes what is pending to `Confirmed`, as settling does, without asking for so many receipts.
async fn confirm_all(house: &House, chain: &ScriptedChain) {
    let head = BlockRef::from(chain);
    let mut after = None;
    loop {
        let open = house.store.open_deposits(CHAIN, Stage::Pending, head.number, after.as_ref());
        let page = open.await.unwrap();
        let Some(last) = page.last().cloned() else { return };
        after = Some(last);
        let confirmations: Vec<_> = page
            .into_iter()
            .map(|deposit| Confirmation {
                deposit,
                policy: Finality::Confirmations(1),
                head,
                receipt_provider: "scripted".into(),
                receipt_transfers: 1,
                verify: Verify::SameProvider,
                proof: None,
            })
            .collect();
        house.store.commit_confirmed(&confirmations, &[], GENESIS_MS).await.unwrap();
    }
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
    pages * 4_096 / 1_000_000
}

/// 9,000 one-unit payments to one namespace (5,000 on PostgreSQL), or as many as `DUST` says: another one's payment is
/// credited before they are looked at, and they are credited together when they are enough.
#[tokio::test]
async fn many_small_payments_hold_nobody_up() {
    const EACH: u64 = 300;
    // More than one activation confirms.
    const ONCE: u64 = 4_200;
    let usual = if crate::ENGINE == Engine::Sqlite { 9_000u64 } else { 5_000 };
    let many = std::env::var("DUST").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let mut ids = many + 1..;
    let mut pays =
        |token, to, amount| chain.mine(vec![pay(ids.next().unwrap(), token, to, amount)]);
    // Before, while and after it is counted, and while it is credited.
    let before = resident_mb();
    let mut longest = std::time::Duration::ZERO;
    let (mut others, mut activations, mut mined, mut paged) = (0u64, 0, 0, false);
    for enough in [false, true] {
        if enough && many < MINIMUM {
            pays(USDT, 0, u128::from(MINIMUM - many));
        }
        loop {
            // As fast as they can be confirmed; the first time more than an activation looks at.
            let once = if mined == 0 { 6_000 } else { ONCE };
            for _ in 0..once / EACH {
                let ids = mined..many.min(mined + EACH);
                if !ids.is_empty() {
                    mined = ids.end;
                    chain.mine(ids.map(|i| pay(i, USDT, 0, 1)).collect());
                }
            }
            while house.watch(&chain).await.unwrap() != topupd::tasks::watch::step::Watched::Idle {}
            confirm_all(&house, &chain).await;
            pays(USDC, 1, 1_000_000);
            others += 1;
            while house.watch(&chain).await.unwrap() != topupd::tasks::watch::step::Watched::Idle {}
            let began = std::time::Instant::now();
            let settled = house.settle(&chain).await;
            longest = longest.max(began.elapsed());
            activations += 1;
            paged |= settled.more;
            assert_eq!(house.balance("bolt").await, (others * 1_000).to_string(), "at once");
            if !settled.more && mined == many {
                break;
            }
            if activations % 3 == 0 {
                house.restart().await;
            }
        }
        if !enough && many < MINIMUM {
            assert_eq!(house.balance("acme").await, "0");
            assert_eq!(paged, many >= 5_000, "in pages");
        }
    }
    println!(
        "{many}: {activations} activations, the longest took {longest:.2?}; {} MB more",
        resident_mb().saturating_sub(before)
    );
    assert_eq!(house.balance("acme").await, (many.max(MINIMUM) / 1_000).to_string());
    let left = house.sql("SELECT COUNT(*) FROM deposits WHERE stage <> 'credited'").await;
    assert_eq!(left, [[0]]);
    house.verify().await;
}
