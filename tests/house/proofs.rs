//! Receipts that are proved by their block's hash: the proof is kept and holds without any node; and what
//! follows where nobody can prove a block.

use topupd::chain::pool::Pool;
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::finality::Verify;
use topupd::planted::{Fault, plant};
use topupd::store::{Act, ConfirmationRow};
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::watch;

use super::odd_source::{OddSource, Proof};
use super::support::*;

const NAMES: [&str; 3] = ["ann", "bob", "cid"];
const FIVE_MINUTES: i64 = 301_000;

pub(super) struct Scene {
    pub(super) house: House,
    pub(super) chain: ScriptedChain,
    all: Vec<OddSource>,
    pool: Pool<OddSource>,
}

impl Scene {
    pub(super) async fn new(proofs: &[Proof], fallback: Option<Verify>) -> Self {
        let mut rules = rules(2);
        (rules.verify, rules.fallback) = (Verify::ReceiptsRoot, fallback);
        let chain = ScriptedChain::new(GENESIS_MS);
        chain.seal_blocks();
        let all: Vec<_> = NAMES.iter().map(|name| OddSource::new(name, &chain)).collect();
        let all = all[..proofs.len()].to_vec();
        for (source, proof) in all.iter().zip(proofs) {
            source.is(|odd| odd.proof = *proof);
        }
        let pool = Pool::admitted(all.clone());
        Self { house: House::new(rules).await, chain, all, pool }
    }

    /// Follows and settles for a while, of which little time passes.
    pub(super) async fn go_on(&mut self) {
        for _ in 0..6 {
            self.house.clock.advance_ms(1_000);
            let House { rules, store, clock, cache, .. } = &mut self.house;
            let _ = watch(rules, &self.pool, store, clock, cache).await;
            let _ = settle(rules, &self.pool, &Market::default(), store, clock).await;
        }
    }

    /// One payment, two blocks deep.
    pub(super) async fn paid(&mut self) -> String {
        self.chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
        mine_empty(&self.chain, 3);
        self.go_on().await;
        self.stage().await
    }

    pub(super) async fn later(&mut self, ms: i64) -> String {
        self.house.clock.advance_ms(ms);
        self.go_on().await;
        self.stage().await
    }

    pub(super) async fn stage(&self) -> String {
        self.house.stages().await.join(", ")
    }

    pub(super) async fn confirmation(&self) -> ConfirmationRow {
        let id = self.house.deposits().await[0].id;
        self.house.store.deposit(id).await.unwrap().unwrap().confirmation.unwrap()
    }

    /// The states of what was found about blocks that cannot be proved.
    async fn findings(&self) -> Vec<String> {
        let found = self.house.store.findings(99).await.unwrap();
        let found = found.into_iter().filter(|f| f.kind == "block_unproved");
        found.map(|f| f.state).collect()
    }

    async fn proofs(&self) -> i64 {
        self.house.sql("SELECT COUNT(*) FROM receipt_proofs").await[0][0]
    }

    async fn act(&self, act: Act, who: &str) -> Result<i64, topupd::store::StoreError> {
        let id = self.house.deposits().await[0].id;
        self.house.act(id, &act, who).await
    }

    pub(super) async fn released(&self) {
        let proposal = self.act(Act::ProposeRelease, "alice").await.unwrap();
        let approve = approval(&self.house.store, proposal).await;
        let again = self.act(approve.clone(), "Alice").await.unwrap_err();
        assert!(again.to_string().contains("another operator"), "{again}");
        self.act(approve, "bob").await.unwrap();
    }
}

#[tokio::test]
async fn what_proves_a_receipt_is_kept_and_holds_without_any_node() {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    let to = |amount| ScriptedLog::transfer(USDC, PAYER, address(0), amount);
    scene.chain.mine(vec![
        tx(1, vec![to(1_000_000), to(1_000_000)]),
        tx(2, vec![]),
        tx(3, vec![to(2_000_000)]),
        pay(4, USDT, 1, 500_000),
    ]);
    mine_empty(&scene.chain, 3);
    scene.go_on().await;
    assert_eq!(scene.stage().await, "credited, credited, credited, held (dust)");
    let confirmation = scene.confirmation().await;
    assert_eq!(confirmation.verify.as_deref(), Some("receipts-root"));
    assert!(confirmation.proof_kept);
    assert_eq!(scene.proofs().await, 3, "one for each transaction");
    let verified = scene.house.store.verify().await.unwrap().unwrap();
    assert_eq!((verified.credits, verified.proved), (3, 3));

    // Nobody is asked to find out what was changed.
    let mut sql = scene.house.database.sql().await;
    sql.drop_guards().await;
    for (change, found) in [
        ("header = receipt", "the header does not hash to the block's hash"),
        ("receipt = header", "the receipt does not hash to the header's receipts root"),
        ("nodes = header", "the receipt does not hash to the header's receipts root"),
        ("nodes = tx_hash", "its nodes cannot be read"),
        ("receipt_index = receipt_index + 1", "receipt_index is not what record "),
        ("tx_hash = block_hash", "receipt_index is not what record "),
    ] {
        sql.execute("CREATE TABLE kept AS SELECT * FROM receipt_proofs").await.unwrap();
        let one = "receipt_index = (SELECT MIN(receipt_index) FROM kept)";
        sql.execute(&format!("UPDATE receipt_proofs SET {change} WHERE {one}")).await.unwrap();
        let finding = scene.house.store.verify().await.unwrap().unwrap_err();
        let same = |f: &topupd::store::Finding| {
            f.table == "receipt_proofs" && f.problem.starts_with(found)
        };
        assert!(finding.named().iter().any(same), "{finding}");
        sql.execute("DELETE FROM receipt_proofs").await.unwrap();
        sql.execute("INSERT INTO receipt_proofs SELECT * FROM kept").await.unwrap();
        sql.execute("DROP TABLE kept").await.unwrap();
    }
    scene.house.verify().await;
    // What was confirmed, and is not credited yet, is checked too.
    sql.execute("UPDATE sightings SET sender = token WHERE log_index = 3").await.unwrap();
    let finding = scene.house.store.verify().await.unwrap().unwrap_err();
    let wanted = "the receipt does not show the transfer";
    assert!(finding.named().iter().any(|f| f.problem.starts_with(wanted)), "{finding}");
}

#[tokio::test]
async fn a_block_that_nobody_can_prove_is_checked_in_the_other_way_that_is_configured() {
    let cases: [(&[Proof], Verify); 3] = [
        (&[Proof::Unproved; 2], Verify::SecondProvider),
        (&[Proof::Unproved, Proof::NotThere, Proof::Unproved], Verify::SecondProvider),
        (&[Proof::Unproved], Verify::SameProvider),
    ];
    for (proofs, fallback) in cases {
        let mut scene = Scene::new(proofs, Some(fallback)).await;
        assert_eq!(scene.paid().await, "credited", "{proofs:?}");
        let confirmation = scene.confirmation().await;
        assert_eq!(confirmation.verify.as_deref(), Some(fallback.as_str()));
        assert!(!confirmation.proof_kept);
        assert_eq!((scene.proofs().await, scene.findings().await.len()), (0, 0));
        scene.house.verify().await;
    }
}

#[tokio::test]
async fn a_proof_by_one_is_the_proof_whatever_the_others_say() {
    let orders: [&[Proof]; 3] = [
        &[Proof::Unproved, Proof::Given],
        &[Proof::Given, Proof::Unproved],
        &[Proof::Unproved, Proof::Fails, Proof::Given],
    ];
    for proofs in orders {
        let mut scene = Scene::new(proofs, Some(Verify::SecondProvider)).await;
        assert_eq!(scene.paid().await, "credited", "{proofs:?}");
        assert_eq!(scene.confirmation().await.verify.as_deref(), Some("receipts-root"));
        assert_eq!(scene.proofs().await, 1);
    }
}

/// Whoever fails may be the one who could prove it, and one alone may be lying.
const DOUBTFUL: [&[Proof]; 5] = [
    &[Proof::Unproved, Proof::Fails],
    &[Proof::Unproved, Proof::NotThere],
    &[Proof::Unproved, Proof::Fails, Proof::NotThere],
    &[Proof::Unproved, Proof::Unproved, Proof::Fails],
    &[Proof::Unproved, Proof::Unproved, Proof::Without],
];

#[tokio::test]
async fn one_provider_alone_does_not_have_a_payment_checked_otherwise() {
    for proofs in DOUBTFUL {
        let mut scene = Scene::new(proofs, Some(Verify::SecondProvider)).await;
        assert_eq!(scene.paid().await, "pending", "{proofs:?}");
        assert_eq!(scene.later(FIVE_MINUTES).await, "held (unproved)", "{proofs:?}");
        assert_eq!(scene.findings().await, ["open"]);
        // The other one comes back, and it is proved.
        scene.all.last().unwrap().is(|odd| odd.proof = Proof::Given);
        assert_eq!(scene.later(61_000).await, "credited", "{proofs:?}");
        assert_eq!(scene.confirmation().await.verify.as_deref(), Some("receipts-root"));
        assert_eq!(scene.findings().await, ["gone"]);
    }
}

#[tokio::test]
async fn a_fallback_by_the_word_of_one_would_be_noticed() {
    plant(Some(Fault::FallbackOfOne));
    let mut scene = Scene::new(DOUBTFUL[0], Some(Verify::SecondProvider)).await;
    let stage = scene.paid().await;
    plant(None);
    assert_eq!(stage, "credited");
}

#[tokio::test]
async fn without_another_way_it_is_held_and_found_and_two_people_release_it() {
    for (proofs, by) in
        [(&[Proof::Unproved; 2][..], "second-provider"), (&[Proof::Unproved][..], "same-provider")]
    {
        let mut scene = Scene::new(proofs, None).await;
        assert_eq!(scene.paid().await, "pending");
        assert!(scene.findings().await.is_empty());
        assert_eq!(scene.later(FIVE_MINUTES).await, "held (unproved)");
        assert_eq!(scene.later(FIVE_MINUTES).await, "held (unproved)");
        assert_eq!(scene.findings().await, ["open"], "once");
        scene.released().await;
        assert_eq!(scene.later(1_000).await, "credited");
        assert_eq!(scene.confirmation().await.verify.as_deref(), Some(by));
        assert_eq!(scene.findings().await, ["gone"]);
        scene.house.verify().await;
    }
}

#[tokio::test]
async fn a_release_without_a_proof_does_not_make_new_money() {
    let mut scene = Scene::new(&[Proof::Unproved; 2], None).await;
    let log = ScriptedLog::transfer(USDC, address(1), address(0), 1_000_000);
    scene.chain.mine(vec![tx(1, vec![log])]);
    mine_empty(&scene.chain, 3);
    scene.go_on().await;
    assert_eq!(scene.later(FIVE_MINUTES).await, "held (unproved)");
    scene.released().await;
    // While the daemon looks at it, somebody proposes it once more.
    let early = scene.act(Act::ProposeRelease, "alice").await.unwrap();
    assert_eq!(scene.later(1_000).await, "held (internal_transfer)");
    assert_eq!(scene.later(61_000).await, "held (internal_transfer)");
    // What was proposed about the proof says nothing about where the money comes from.
    let stale = approval(&scene.house.store, early).await;
    let stale = scene.act(stale, "bob").await.unwrap_err();
    assert!(stale.to_string().contains("held for something else"), "{stale}");
    scene.released().await;
    assert_eq!(scene.later(61_000).await, "credited");
}
