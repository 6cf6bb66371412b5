//! What one provider alone says of a log moves no money, holds none for good, and leaves no trace in
//! the ledger's evidence.

use alloy::primitives::{Address, B256};
use topupd::chain::pool::Pool;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::chain_rules::Start;
use topupd::domain::finality::Verify;
use topupd::domain::transfer::RawLog;
use topupd::store::ChainFinding;
use topupd::tasks::prices::market::Market;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::{backfill, recheck};
use topupd::tasks::settle::settle;
use topupd::tasks::watch::watch;

use super::odd_source::{Odd, OddSource};
use super::support::*;

const OUTSIDE: Address = Address::repeat_byte(0xdd);
const MODES: [(usize, Verify); 4] = [
    (2, Verify::SecondProvider),
    (3, Verify::SecondProvider),
    (2, Verify::ReceiptsRoot),
    (1, Verify::SameProvider),
];

struct Scene {
    house: House,
    chain: ScriptedChain,
    pool: Pool<OddSource>,
    looks: LookCache,
}

impl Scene {
    async fn new((providers, verify): (usize, Verify), liar: fn(&mut Odd)) -> Self {
        let mut rules = rules(3);
        (rules.verify, rules.window, rules.start) = (verify, 16, Start::Block(1));
        let chain = ScriptedChain::new(GENESIS_MS);
        chain.seal_blocks();
        chain.shift_log_times(0);
        let all: Vec<OddSource> =
            ["ann", "bob", "cid"][..providers].iter().map(|n| OddSource::new(n, &chain)).collect();
        all[0].is(liar);
        let looks = LookCache::new(&rules);
        Self { house: House::new(rules).await, chain, pool: Pool::admitted(all), looks }
    }

    /// All tasks, some times.
    async fn go_on(&mut self) {
        self.steps(8, 61_000).await;
    }

    async fn steps(&mut self, steps: usize, ms: i64) {
        let Self { house, pool, looks, .. } = self;
        for _ in 0..steps {
            house.clock.advance_ms(ms);
            let (rules, store, clock) = (&house.rules, &house.store, &house.clock);
            let _ = watch(rules, pool, store, clock, &mut house.cache).await;
            let _ = settle(rules, pool, &Market::default(), store, clock).await;
            let _ = recheck(rules, pool, store, clock, looks).await;
            let _ = backfill(rules, pool, store, clock, looks).await;
        }
    }

    fn honest(&self) {
        self.pool.all().for_each(|source| source.is(|odd| *odd = Odd::default()));
    }

    async fn open_findings(&self) -> Vec<String> {
        let all = self.house.store.findings(100).await.unwrap().into_iter();
        let said = |f: ChainFinding| format!("{} {} {}", f.kind, f.subject, f.detail);
        all.filter(|f| f.state == "open").map(said).collect()
    }
}

#[tokio::test]
async fn a_block_that_is_told_at_another_height_is_put_right_with_all_that_stands_in_it() {
    let liars: [fn(&mut Odd); 3] =
        [|odd| odd.shift = 1, |odd| odd.shift = -1, |odd| odd.shift = 20];
    for mode in &MODES[..3] {
        for liar in liars {
            let mut scene = Scene::new(*mode, liar).await;
            let (chain, outflow) = (scene.chain.clone(), tx(9, vec![leaves(0)]));
            mine_empty(&chain, 49);
            chain.mine(vec![pay(1, USDC, 0, 1_000_000), outflow]);
            mine_empty(&chain, 250);
            scene.go_on().await;
            scene.honest();
            for _ in 0..4 {
                mine_empty(&chain, 20);
                scene.go_on().await;
            }
            let heights = "SELECT block_number FROM sightings UNION ALL SELECT block_number
                           FROM outgoing UNION ALL SELECT block_number FROM deposits";
            assert_eq!(scene.house.sql(heights).await, [[50], [50], [50]], "{mode:?}");
            let open = scene.open_findings().await;
            assert!(
                !open.iter().any(|f| f.starts_with("block_contradicted")),
                "{mode:?} {open:#?}"
            );
            // Its own money left in the same block; nobody is paid with it.
            assert_eq!(scene.house.stages().await, ["held (custody_doubt)"], "{mode:?}");
            scene.house.verify().await;
        }
    }
}

fn has(findings: &[String], kind: &str) -> bool {
    findings.iter().any(|f| f.starts_with(kind))
}

fn leaves(from: usize) -> ScriptedLog {
    ScriptedLog::transfer(USDC, address(from), OUTSIDE, 500_000)
}

/// Beside each payment to the second address, something leaves the first one.
fn invent(logs: &mut Vec<RawLog>) {
    let others = |log: &&RawLog| log.topics.get(2) == Some(&address(1).into_word());
    let mut made_up: Vec<RawLog> = logs.iter().filter(others).cloned().collect();
    for log in &mut made_up {
        log.topics[1] = address(0).into_word();
        log.topics[2] = OUTSIDE.into_word();
        (log.tx_hash, log.log_index) = (B256::repeat_byte(0xee), log.log_index + 50);
    }
    logs.append(&mut made_up);
}

#[tokio::test]
async fn an_outflow_that_one_provider_makes_up_holds_nobodys_money_for_good() {
    for mode in MODES {
        let mut scene = Scene::new(mode, |odd| odd.edits = Some(invent)).await;
        let chain = scene.chain.clone();
        scene.go_on().await;
        chain.mine(vec![pay(1, USDC, 1, 1_000_000)]);
        scene.go_on().await;
        chain.mine(vec![pay(2, USDC, 0, 1_000_000)]);
        mine_empty(&chain, 4);
        scene.go_on().await;
        let kinds = scene.open_findings().await;
        let stages = scene.house.stages().await;
        match mode {
            // One against one: it is said who says what, and an operator decides.
            (2, Verify::SecondProvider) | (1, _) => {
                assert_eq!(stages, ["credited", "held (custody_doubt)"], "{mode:?}");
                assert!(has(&kinds, "outflow_of_imported_address"), "{kinds:?}");
            }
            _ => {
                assert_eq!(stages, ["credited", "credited"], "{mode:?}");
                assert!(!has(&kinds, "outflow_of_imported_address"), "{kinds:?}");
                assert!(has(&kinds, "log_not_shown"), "{kinds:?}");
            }
        }
        // A true one is believed by another one's word, and where there is none, by its own again.
        scene.honest();
        chain.mine(vec![tx(7, vec![leaves(1)])]);
        chain.mine(vec![pay(8, USDC, 1, 1_000_000)]);
        mine_empty(&chain, 4);
        scene.go_on().await;
        assert_eq!(scene.house.stages().await[2], "held (custody_doubt)", "{mode:?}");
        assert!(has(&scene.open_findings().await, "outflow_of_imported_address"));
        scene.house.verify().await;
    }
}

#[tokio::test]
async fn an_invented_payment_keeps_nobodys_place_for_long() {
    for mode in &MODES[1..3] {
        // Of another transaction, which there is not.
        let renames = |odd: &mut Odd| {
            odd.edits = Some(|logs| {
                logs.iter_mut().for_each(|log| log.tx_hash = B256::repeat_byte(0xab));
            });
        };
        let mut scene = Scene::new(*mode, renames).await;
        let chain = scene.chain.clone();
        scene.go_on().await;
        chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        mine_empty(&chain, 20);
        // Two minutes: what two say is not there is held at once, and keeps nobody's place; what was
        // held meanwhile is looked at again after one.
        scene.steps(30, 4_000).await;
        let mut stages = scene.house.stages().await;
        stages.sort();
        assert_eq!(stages, ["credited", "held (receipt_missing)"], "{mode:?}");
        scene.house.verify().await;
    }
}
