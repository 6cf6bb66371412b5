//! Payments are asked about again right before they are credited, what is no list lets nobody pass, and
//! the credit names what it rests on.

use std::sync::{Arc, Mutex};

use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::journal::DepositCredit;
use topupd::domain::screening::LIST_MAX;
use topupd::domain::screening_rules::ScreeningRules;
use topupd::planted::{Fault, plant};
use topupd::store::Act;
use topupd::tasks::settle::screen::Screener;

use super::feeds::*;
use super::screening::*;
use super::support::*;

/// A payment whose two feeds disagree: it waits for two people and their price. Who is asked before a
/// credit has let it pass.
async fn without_a_price(screen: Option<Arc<ScreeningRules>>) -> Fair {
    let mut rules = market_rules(1, fixed(), 2);
    rules.screening = screen;
    let mut fair = Fair::new(rules).await;
    fair.say(RTITY_FEEDS[1], "0.03");
    fair.mine(vec![from(1, PAYER)]).await;
    assert_eq!(fair.house.stages().await, ["held (prices_disagree)"]);
    fair
}

/// Two people decide about the only payment.
async fn decided(fair: &mut Fair, act: Act) {
    let id = fair.house.deposits().await[0].id;
    fair.house.decided(id, &act).await;
    fair.rest().await;
}

#[tokio::test]
async fn a_list_that_changes_after_a_payment_was_confirmed_is_asked_before_the_credit() {
    let (_dir, list) = listed(NOBODY);
    let mut fair = without_a_price(screen(Some(&list), None, 300)).await;
    assert_eq!(answers(&fair.house).await, 1);
    std::fs::write(&list, format!("{PAYER}\n")).unwrap();
    decided(&mut fair, price_by_hand(RTITY_USD, "0.02")).await;
    assert_eq!(fair.house.stages().await, [HELD]);
    assert_eq!(answers(&fair.house).await, 2);
    // Whatever the list says later, people decide; then it has the price that was fixed.
    std::fs::write(&list, format!("{NOBODY}\n")).unwrap();
    fair.rest().await;
    assert_eq!(fair.house.stages().await, [HELD]);
    decided(&mut fair, Act::ProposeRelease).await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    // The credit names both answers, and all four acts.
    let causes = "SELECT cause FROM records WHERE kind = 'deposit_credited'";
    let [cause] = fair.house.database.sql().await.texts(causes).await.try_into().unwrap();
    let evidence: DepositCredit = serde_json::from_str(&cause).unwrap();
    let named = |hashes: Option<Vec<_>>| hashes.map_or(0, |hashes| hashes.len());
    assert_eq!((named(evidence.screenings), named(evidence.acts)), (2, 4));
    fair.house.verify().await;
}

#[tokio::test]
async fn a_daemon_that_relies_on_an_old_answer_is_found_out() {
    let (_dir, list) = listed(NOBODY);
    let mut fair = without_a_price(screen(Some(&list), None, 300)).await;
    std::fs::write(&list, format!("{PAYER}\n")).unwrap();
    plant(Some(Fault::OldAnswer));
    decided(&mut fair, price_by_hand(RTITY_USD, "0.02")).await;
    plant(None);
    assert_eq!(fair.house.stages().await, ["credited"]);
    let found = fair.house.store.verify().await.unwrap().unwrap_err();
    assert!(found.to_string().contains("though nobody released it"), "{found}");
}

#[tokio::test]
async fn an_answer_over_http_counts_for_a_while() {
    for (pause_ms, requests, stage) in [(0, 1, "credited"), (300_000, 2, HELD)] {
        let says = Arc::new(Mutex::new((200, r#"{"risk":"low"}"#.to_owned())));
        let (server, asked) = server(Arc::clone(&says)).await;
        let mut fair = without_a_price(screen(None, Some(question(&server)), 60)).await;
        *says.lock().unwrap() = (200, r#"{"risk":"high"}"#.to_owned());
        fair.house.clock.advance_ms(pause_ms);
        decided(&mut fair, price_by_hand(RTITY_USD, "0.02")).await;
        assert_eq!(asked.lock().unwrap().len(), requests);
        assert_eq!(fair.house.stages().await, [stage]);
        fair.house.verify().await;
    }
}

#[tokio::test]
async fn what_is_not_answered_right_before_the_credit_is_held_and_goes_on_with_its_price() {
    let (_dir, list) = listed(NOBODY);
    let mut fair = without_a_price(screen(Some(&list), None, 300)).await;
    std::fs::write(&list, "").unwrap();
    decided(&mut fair, price_by_hand(RTITY_USD, "0.02")).await;
    assert_eq!(fair.house.stages().await, [HELD]);
    fair.house.verify().await;
    std::fs::write(&list, format!("{GOOD}\n")).unwrap();
    fair.house.clock.advance_ms(61_000);
    fair.rest().await;
    assert_eq!(fair.house.stages().await, ["credited"]);
    fair.house.verify().await;
}

#[tokio::test]
async fn a_list_that_got_the_sender_while_somebody_else_did_not_answer_holds() {
    let (_dir, list) = listed(NOBODY);
    let says = Arc::new(Mutex::new((500, String::new())));
    let (server, _) = server(Arc::clone(&says)).await;
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), Some(question(&server)), 0).await;
    chain.mine(vec![from(1, PAYER)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD]);
    std::fs::write(&list, format!("{PAYER}\n")).unwrap();
    *says.lock().unwrap() = (200, r#"{"risk":"low"}"#.to_owned());
    house.clock.advance_ms(61_000);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, [HELD]);
    let hits = "SELECT COUNT(*) FROM screenings WHERE outcome = 'hit'";
    assert_eq!(house.sql(hits).await, [[1]]);
    house.verify().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_waits_for_people_anyway() {
    let says = Arc::new(Mutex::new((200, r#"{"risk":"low"}"#.to_owned())));
    let (server, asked) = server(Arc::clone(&says)).await;
    let requests = || asked.lock().unwrap().len();
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(None, Some(question(&server)), 60).await;
    let moves = |id, sender, recipient| {
        tx(id, vec![ScriptedLog::transfer(USDC, sender, recipient, 1_000_000)])
    };
    // From one of ours to another one of ours; and to one whose owner has sent money away.
    chain.mine(vec![moves(1, address(0), address(1)), moves(2, address(2), NOBODY)]);
    chain.mine(vec![moves(3, PAYER, address(2))]);
    mine_empty(&chain, 2);
    house.quiesce(&chain).await;
    let (internal, custody) = ("held (internal_transfer)", "held (custody_doubt)");
    assert_eq!(house.stages().await, [internal, custody]);
    let before = requests();
    for _ in 0..12 {
        house.clock.advance_ms(301_000);
        house.quiesce(&chain).await;
        assert_eq!(house.stages().await, [internal, custody]);
    }
    assert_eq!(requests(), before);
    // What left is accepted: now it depends on the answer, and the one that was given is old.
    *says.lock().unwrap() = (200, r#"{"risk":"high"}"#.to_owned());
    let (store, oracle) = (house.store.clone(), house.rules.oracle.clone());
    let id = house.deposits().await[1].id;
    store.act(&oracle, id, &Act::AcceptOutflows, "alice", "why").await.unwrap();
    house.quiesce(&chain).await;
    assert_eq!(requests(), before + 1);
    assert_eq!(house.stages().await, [internal, HELD]);
    house.verify().await;
}

#[tokio::test]
async fn a_list_that_is_empty_or_no_file_is_no_answer() {
    let (_dir, list) = listed(NOBODY);
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 300).await;
    let (screener, rules) = (Screener::default(), house.rules.screening.clone().unwrap());
    std::fs::write(&list, "# nobody\n").unwrap();
    assert!(screener.list(&rules).unwrap().unwrap_err().contains("has no address"));
    let (key, why) = screener.ready(&rules).unwrap_err();
    assert_eq!(key, "screening.list");
    assert!(why.contains("has no address"), "{why}");
    chain.mine(vec![from(1, GOOD)]);
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["pending"]);
    std::fs::remove_file(&list).unwrap();
    for what in ["mkdir", "mkfifo"] {
        let made = std::process::Command::new(what).arg(&list).status().unwrap();
        assert!(made.success());
        assert!(
            screener.list(&rules).unwrap().unwrap_err().contains("is no regular file"),
            "{what}"
        );
        house.quiesce(&chain).await;
        assert_eq!(house.stages().await, ["pending"]);
        std::fs::remove_dir(&list).or_else(|_| std::fs::remove_file(&list)).unwrap();
    }
    let large = std::fs::File::create(&list).unwrap();
    large.set_len(LIST_MAX + 1).unwrap();
    assert!(screener.list(&rules).unwrap().unwrap_err().contains("more than"));
    std::fs::write(&list, format!("{NOBODY}\n")).unwrap();
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"]);
}

#[tokio::test]
async fn a_file_of_the_same_size_and_time_is_another_list() {
    let (dir, list) = listed(NOBODY);
    let (screener, rules) = (Screener::default(), screen(Some(&list), None, 300).unwrap());
    let before = screener.list(&rules).unwrap().unwrap();
    let time = std::fs::metadata(&list).unwrap().modified().unwrap();
    let other = dir.path().join("other.txt");
    std::fs::write(&other, format!("{GOOD}\n")).unwrap();
    std::fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
    std::fs::rename(&other, &list).unwrap();
    assert_ne!(screener.list(&rules).unwrap().unwrap(), before);
}

#[tokio::test]
async fn whoever_changes_what_was_answered_or_decided_is_found_out() {
    let (_dir, list) = listed(PAYER);
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = house(Some(&list), None, 300).await;
    chain.mine(vec![from(1, PAYER), from(2, GOOD)]);
    house.quiesce(&chain).await;
    let held = house.deposits().await.into_iter().find(|d| d.stage.to_string() == HELD).unwrap();
    house.decided(held.id, &Act::ProposeRelease).await;
    house.quiesce(&chain).await;
    assert_eq!(house.stages().await, ["credited"; 2]);
    house.verify().await;
    house.store.close().await;
    for change in [
        "DELETE FROM screenings",
        "DELETE FROM screenings WHERE outcome = 'hit'",
        "DELETE FROM screenings WHERE outcome = 'clear'",
        "UPDATE screenings SET outcome = 'clear', answer = ''",
        "UPDATE screenings SET sender = block_hash",
        "UPDATE screenings SET question = '{}' WHERE outcome = 'clear'",
        "UPDATE screenings SET at_ms = at_ms + 1 WHERE outcome = 'clear'",
        "UPDATE operator_acts SET operator = 'alice'",
        "UPDATE operator_acts SET operator = 'carol'",
        "UPDATE operator_acts SET reason = 'another one' WHERE kind = 'approve_release'",
        "DELETE FROM operator_acts",
    ] {
        let copy = house.database.copy().await;
        let mut sql = copy.sql().await;
        sql.drop_guards().await;
        sql.execute(change).await.unwrap();
        let found = open(&copy, &house.clock).await.verify().await.unwrap();
        assert!(found.is_err(), "not noticed: {change}");
    }
}
