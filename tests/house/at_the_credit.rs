//! What is asked where a payment is credited, whatever its row says: that its receipt was confirmed in a way that is
//! configured, that the proof shows it, and that it is new money or two people released it.

use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::finality::Verify;

use super::odd_source::Proof;
use super::proofs::Scene;
use super::support::*;

/// Says of payments that they are confirmed, in this way.
async fn say_confirmed(scene: &Scene, which: &str, verify: &str) {
    let mut sql = scene.house.database.sql().await;
    sql.drop_guards().await;
    sql.execute(&format!(
        "INSERT INTO confirmations (deposit_id, block_hash, log_index, policy, head_number, head_hash, receipt_provider,
           receipt_transfers, confirmed_at_ms, log_provider, verify, reversals)
         SELECT d.deposit_id, d.block_hash, d.log_index, '2 confirmations', d.block_number, d.block_hash, 'ann', 1, 0,
           s.provider, '{verify}', 0
         FROM deposits d JOIN sightings s ON s.deposit_id = d.deposit_id WHERE {which}"
    ))
    .await
    .unwrap();
    let said = format!("UPDATE deposits AS d SET stage = 'confirmed', reason = NULL WHERE {which}");
    assert_eq!(sql.execute(&said).await.unwrap(), 1);
}

#[tokio::test]
async fn a_payment_that_is_said_to_be_confirmed_is_confirmed_first() {
    for verify in ["same-provider", "second-provider", "receipts-root"] {
        let mut scene = Scene::new(&[Proof::Given; 2], None).await;
        scene.chain.mine(vec![pay(1, USDC, 0, 1_000_000), pay(2, USDC, 1, 9_000_000)]);
        scene.go_on().await;
        assert_eq!(scene.stage().await, "pending, pending");
        say_confirmed(&scene, "d.log_index = 0", verify).await;
        scene.go_on().await;
        assert_eq!(scene.stage().await, "pending, pending", "{verify}");
        mine_empty(&scene.chain, 3);
        scene.go_on().await;
        assert_eq!(scene.stage().await, "credited, credited", "{verify}");
        assert_eq!(scene.confirmation().await.verify.as_deref(), Some("receipts-root"));
        scene.house.verify().await;
    }
}

#[tokio::test]
async fn another_amount_in_all_rows_of_a_payment_is_not_credited() {
    for verify in ["same-provider", "receipts-root"] {
        let mut scene = Scene::new(&[Proof::Given; 2], None).await;
        scene.chain.mine(vec![pay(1, USDC, 0, 1_000_000), pay(2, USDC, 1, 9_000_000)]);
        scene.go_on().await;
        let mut sql = scene.house.database.sql().await;
        sql.drop_guards().await;
        for table in ["deposits", "sightings"] {
            let other = format!("SELECT raw_amount FROM {table} WHERE log_index = 1");
            let change = format!("UPDATE {table} SET raw_amount = ({other}) WHERE log_index = 0");
            assert_eq!(sql.execute(&change).await.unwrap(), 1);
        }
        say_confirmed(&scene, "d.log_index = 0", verify).await;
        mine_empty(&scene.chain, 3);
        scene.go_on().await;
        scene.later(400_000).await;
        assert_eq!(scene.house.balance("acme").await, "0", "{verify}");
        assert_eq!(scene.house.balance("bolt").await, "9000", "{verify}");
        let held = scene.house.stages().await;
        assert!(held[0].starts_with("held ("), "{held:?}");
    }
}

#[tokio::test]
async fn a_proof_that_does_not_show_what_is_credited_holds_it() {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    assert_eq!(scene.paid().await, "credited");
    // A payment in another block, with the proof of the first.
    scene.chain.mine(vec![pay(2, USDC, 1, 9_000_000)]);
    scene.go_on().await;
    let mut sql = scene.house.database.sql().await;
    say_confirmed(&scene, "d.stage = 'pending'", "receipts-root").await;
    sql.execute(
        "INSERT INTO receipt_proofs (chain_id, block_hash, tx_hash, header, receipt_index, receipt, nodes)
         SELECT d.chain_id, d.block_hash, d.tx_hash, y.header, y.receipt_index, y.receipt, y.nodes
         FROM deposits d, receipt_proofs y WHERE d.stage = 'confirmed'",
    )
    .await
    .unwrap();
    scene.go_on().await;
    assert_eq!(scene.stage().await, "credited, held (conflict)");
}

#[tokio::test]
async fn what_was_confirmed_in_a_way_that_is_configured_no_more_is_confirmed_again() {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    scene.house.rules.verify = Verify::SecondProvider;
    assert_eq!(scene.paid().await, "credited");
    assert_eq!(scene.confirmation().await.verify.as_deref(), Some("second-provider"));
    let mut sql = scene.house.database.sql().await;
    // As if it had waited for a price while the configuration was changed.
    scene.chain.mine(vec![pay(2, USDC, 1, 9_000_000)]);
    scene.go_on().await;
    say_confirmed(&scene, "d.stage = 'pending'", "second-provider").await;
    sql.execute("UPDATE confirmations SET receipt_provider = 'bob'").await.unwrap();
    scene.house.rules.verify = Verify::ReceiptsRoot;
    scene.go_on().await;
    assert_eq!(scene.stage().await, "credited, pending");
    mine_empty(&scene.chain, 3);
    scene.go_on().await;
    assert_eq!(scene.stage().await, "credited, credited");
    let way = "SELECT COUNT(*) FROM confirmations WHERE verify = 'receipts-root'";
    assert_eq!(sql.ints(way).await, [[1]]);
}

/// One of our addresses has paid another one, which waits for two people.
async fn moved_among_us() -> Scene {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    let log = ScriptedLog::transfer(USDC, address(1), address(0), 1_000_000);
    scene.chain.mine(vec![tx(1, vec![log])]);
    mine_empty(&scene.chain, 3);
    scene.go_on().await;
    assert_eq!(scene.stage().await, "held (internal_transfer)");
    scene
}

#[tokio::test]
async fn a_stage_that_is_set_does_not_stand_for_two_people() {
    let (mut scene, held) = (moved_among_us().await, "held (internal_transfer)");
    let mut sql = scene.house.database.sql().await;
    sql.execute("UPDATE deposits SET stage = 'confirmed', reason = NULL").await.unwrap();
    assert_eq!(scene.later(1_000).await, held);
    assert_eq!(scene.later(61_000).await, held);
    scene.house.verify().await;
    // Its price is fixed by now, and it goes on from there.
    scene.released().await;
    assert_eq!(scene.later(61_000).await, "credited");
    scene.house.verify().await;
}

#[tokio::test]
async fn an_address_that_is_registered_before_the_credit_is_a_sender_of_ours() {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    let wallet = address(40);
    scene.chain.mine(vec![tx(1, vec![ScriptedLog::transfer(USDC, wallet, address(0), 1_000_000)])]);
    scene.go_on().await;
    // It waits for the configuration to know its token again.
    let tokens = std::mem::take(&mut scene.house.rules.tokens);
    mine_empty(&scene.chain, 3);
    scene.go_on().await;
    assert_eq!(scene.stage().await, "held (no_token)");
    let wallet = scene.house.store.import_address(&name("bolt"), wallet, 0).await;
    assert!(wallet.is_ok(), "{wallet:?}");
    scene.house.rules.tokens = tokens;
    scene.later(61_000).await;
    assert_ne!(scene.stage().await, "credited");
    // Once old blocks were read for that address, too.
    scene.house.database.sql().await.execute("DELETE FROM backfills").await.unwrap();
    assert_eq!(scene.later(61_000).await, "held (internal_transfer)");
    scene.house.verify().await;
}

/// A payment that waits after it was confirmed, by the word of its provider; then its rows are changed.
async fn changed_while_it_waits(change: &str, restarted: bool) -> House {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(2)).await;
    chain.mine(vec![pay(1, USDC, 0, 1_000_000), pay(2, USDC, 1, 9_000_000)]);
    mine_empty(&chain, 3);
    house.watch(&chain).await.unwrap();
    // It waits for the configuration to know its token again.
    let tokens = std::mem::take(&mut house.rules.tokens);
    house.settle(&chain).await;
    assert_eq!(house.stages().await, ["held (no_token)", "held (no_token)"], "{change}");
    let mut sql = house.database.sql().await;
    sql.drop_guards().await;
    for change in change.split(';') {
        assert_eq!(sql.execute(change).await.unwrap(), 1, "{change}");
    }
    if restarted {
        house.restart().await;
    }
    house.rules.tokens = tokens;
    for _ in 0..8 {
        house.clock.advance_ms(61_000);
        house.settle(&chain).await;
    }
    house
}

#[tokio::test]
async fn what_is_changed_of_a_payment_while_it_waits_is_not_credited() {
    let other = |table| {
        format!(
            "UPDATE {table} SET raw_amount = (SELECT raw_amount FROM {table} WHERE log_index = 1) WHERE log_index = 0"
        )
    };
    let amount = format!("{};{}", other("deposits"), other("sightings"));
    let sender = "UPDATE sightings SET sender = token WHERE log_index = 0".to_owned();
    let time = "UPDATE blocks SET block_time_ms = block_time_ms + 1000 WHERE block_number = 1";
    for change in [amount, sender, time.to_owned()] {
        for restarted in [false, true] {
            let house = changed_while_it_waits(&change, restarted).await;
            let acme = house.balance("acme").await;
            assert!(["0", "1000"].contains(&acme.as_str()), "{change}: {acme}");
            // What stands is what was paid, by whom and when.
            for row in house.store.history(&name("acme")).await.unwrap() {
                if row.record.kind == topupd::domain::journal::Kind::DepositCredited {
                    let cause: serde_json::Value = serde_json::from_str(&row.record.cause).unwrap();
                    assert_eq!(cause["sender"], format!("{PAYER:#x}"), "{change}");
                    assert_eq!(cause["block_time_ms"], GENESIS_MS + 12_000, "{change}");
                }
            }
            assert_eq!(house.balance("bolt").await, "9000", "{change}, restarted {restarted}");
        }
    }
}

#[tokio::test]
async fn acts_without_a_record_release_nothing() {
    let mut scene = moved_among_us().await;
    let mut sql = scene.house.database.sql().await;
    for (id, kind, operator, approves) in
        [(1, "propose_release", "alice", "NULL"), (2, "approve_release", "bob", "1")]
    {
        sql.execute(&format!(
            "INSERT INTO operator_acts (act_id, kind, operator, reason, deposit_id, chain_id, block_hash, approves, at_ms)
             SELECT {id}, '{kind}', '{operator}', 'so', deposit_id, chain_id, block_hash, {approves}, 0 FROM deposits"
        ))
        .await
        .unwrap();
    }
    assert_eq!(scene.later(61_000).await, "held (conflict)");
    assert_eq!(scene.house.balance("acme").await, "0");
}

#[tokio::test]
async fn a_credit_that_is_only_said_to_be_undone_is_not_given_again() {
    let mut scene = Scene::new(&[Proof::Given; 2], None).await;
    assert_eq!(scene.paid().await, "credited");
    let mut sql = scene.house.database.sql().await;
    sql.drop_guards().await;
    sql.execute("UPDATE credits SET reversed_by = seq").await.unwrap();
    sql.execute("UPDATE deposits SET stage = 'pending', record_seq = NULL").await.unwrap();
    assert_eq!(scene.later(1_000).await, "held (conflict)");
    assert_eq!(scene.house.balance("acme").await, "1000");
}
