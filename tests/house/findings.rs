//! What somebody should look at: written with what it is about or not at all, once while it stands,
//! and closed by what opened it.

use serde_json::json;
use topupd::chain::scripted::ScriptedChain;
use topupd::domain::deposit::{HoldReason, Stage};
use topupd::domain::finding::{FindingKind, Gone, NewFinding, of_deposit};
use topupd::planted::crash_after;
use topupd::store::{ChainFinding, Held};

use super::support::*;

fn finding(kind: FindingKind, subject: &str) -> NewFinding {
    let detail = json!({ "said": "\u{0}" });
    NewFinding { chain: Some(CHAIN), kind, subject: subject.into(), detail }
}

fn gone(of: &NewFinding) -> Gone {
    Gone { chain: of.chain, kind: of.kind, subject: of.subject.clone() }
}

async fn states(house: &House) -> Vec<(i64, String)> {
    let mut all = house.store.findings(100).await.unwrap();
    all.sort_by_key(|f| f.id);
    all.into_iter().map(|f| (f.id, f.state)).collect()
}

/// Only the states: a number that a transaction took and did not commit may be left out.
async fn kept(house: &House) -> Vec<String> {
    states(house).await.into_iter().map(|(_, state)| state).collect()
}

fn are(states: &[(i64, &str)]) -> Vec<(i64, String)> {
    states.iter().map(|(id, state)| (*id, (*state).to_owned())).collect()
}

#[tokio::test]
async fn one_of_a_kind_and_subject_stands_and_one_that_comes_back_is_a_new_one() {
    let house = House::new(rules(1)).await;
    let store = &house.store;
    let fork = finding(FindingKind::ForkContested, "block 7");
    assert!(store.note(&fork, 1).await.unwrap());
    assert!(!store.note(&fork, 2).await.unwrap(), "it stands");
    // About no chain, and of the same kind and subject: another one.
    let nowhere = NewFinding { chain: None, ..fork.clone() };
    assert!(store.note(&nowhere, 3).await.unwrap());
    assert!(!store.note(&nowhere, 4).await.unwrap());
    assert_eq!(states(&house).await, are(&[(1, "open"), (2, "open")]));

    assert!(store.gone(&gone(&fork), 5).await.unwrap());
    assert!(!store.gone(&gone(&fork), 6).await.unwrap(), "it is gone already");
    assert!(store.note(&fork, 7).await.unwrap(), "it is back");
    assert_eq!(states(&house).await, are(&[(1, "gone"), (2, "open"), (3, "open")]));

    // What was explained is not opened again; it goes like any other.
    assert!(store.explain_finding(3, "alice", "a test", 8).await.unwrap());
    assert!(!store.explain_finding(3, "bob", "another word", 9).await.unwrap());
    assert!(!store.explain_finding(1, "bob", "it is gone", 9).await.unwrap());
    assert!(!store.note(&fork, 10).await.unwrap());
    assert_eq!(states(&house).await, are(&[(1, "gone"), (2, "open"), (3, "explained")]));
    assert!(store.gone(&gone(&fork), 11).await.unwrap());
    let third = store.finding(3).await.unwrap().unwrap();
    assert_eq!((third.state.as_str(), third.gone_at_ms), ("gone", Some(11)));
    assert_eq!(third.explanation.as_deref(), Some("a test"));
    assert_eq!(third.severity, "error");

    // The open ones come first.
    let first = store.findings(1).await.unwrap();
    assert!(matches!(first.as_slice(), [ChainFinding { id: 2, chain: None, .. }]), "{first:?}");
}

#[tokio::test]
async fn a_finding_and_what_it_is_about_are_both_durable_or_neither() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    let open = house.store.open_deposits(CHAIN, Stage::Pending, 1, None).await.unwrap();
    let deposit = open.into_iter().next().unwrap();
    let subject = of_deposit(deposit.id);
    let finding = Some(finding(FindingKind::ProvidersDisagree, &subject));
    let held = [Held { deposit, reason: HoldReason::ProvidersDisagree, finding }];
    crash_after(Some(0));
    house.store.commit_held(&held, 1).await.unwrap_err();
    crash_after(None);
    assert_eq!(house.stages().await, ["pending"]);
    assert!(kept(&house).await.is_empty());
    house.store.commit_held(&held, 1).await.unwrap();
    assert_eq!(house.stages().await, ["held (providers_disagree)"]);
    assert_eq!(kept(&house).await, ["open"]);

    // The receipt agrees: what opened it closes it.
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(kept(&house).await, ["gone"]);
    house.store.commit_held(&held, 1).await.unwrap();
    assert_eq!(house.stages().await, ["credited"]);
    assert_eq!(kept(&house).await, ["gone"], "decided on what is not so any more");
}

#[tokio::test]
async fn what_providers_disagreed_about_goes_with_the_block() {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(3)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000)]);
    house.watch(&chain).await.unwrap();
    let open = house.store.open_deposits(CHAIN, Stage::Pending, 1, None).await.unwrap();
    let deposit = open.into_iter().next().unwrap();
    let finding = Some(finding(FindingKind::ProvidersDisagree, &of_deposit(deposit.id)));
    let held = [Held { deposit, reason: HoldReason::ProvidersDisagree, finding }];
    house.store.commit_held(&held, 1).await.unwrap();
    chain.rewind(1);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["orphaned"]);
    assert_eq!(kept(&house).await, ["gone"]);
}
