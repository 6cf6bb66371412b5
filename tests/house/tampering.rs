//! `ledger verify` notices any single changed value of what a record makes, rests on or is priced by. What
//! somebody with more patience might try is in `attempts`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use topupd::chain::scripted::ScriptedLog;
use topupd::domain::deposit::{HoldReason, Stage};
use topupd::domain::finality::Verify;
use topupd::domain::screening_rules::{ScreeningRules, SecretHeaders};
use topupd::store::{Act, DepositRow, NewCorrection};
use topupd::tasks::prices::market::Market;

use super::feeds::*;
use super::screening::listed;
use super::support::*;
use super::treasury::bought;
use crate::database::{Cell, Sql};

/// Tables that a record makes or rests on, or that it is priced by, with the columns that say only when or by
/// whom something was done: they are evidence for people, and nothing is computed from them.
const TABLES: &[(&str, &[&str])] = &[
    ("installation", &["only_row", "created_at_ms", "clock_offset_ms"]),
    ("journals", &[]),
    ("records", &[]),
    ("entries", &[]),
    ("credits", &[]),
    ("lots", &[]),
    ("lot_moves", &[]),
    ("unlogged", &["position"]),
    // An event repeats what rows say, for whoever listens.
    ("events_new", &["position", "namespace_id", "chain_id", "subject", "payload", "at_ms"]),
    ("confirmations", &["receipt_transfers", "confirmed_at_ms"]),
    ("receipt_proofs", &[]),
    ("prices", &["priced_at_ms"]),
    ("conversions", &[]),
    ("obligations", &[]),
    ("settlements", &[]),
    ("purchases", &["recorded_at_ms"]),
    ("epochs", &["recorded_at_ms"]),
    ("deposits", &["first_seen_at_ms", "updated_at_ms", "since_ms", "due_by", "due_number"]),
    ("namespaces", &["created_at_ms"]),
    // The order of addresses that one record bound follows from their ids.
    ("addresses", &["address_id", "created_at_ms"]),
    // A higher next index only leaves some out.
    ("wallets", &["next_index"]),
    // `canonical` is reported, not refused: a reorg below the policy's depth also clears it.
    ("blocks", &["parent_hash", "canonical"]),
    ("sightings", &["seen_at_ms", "malformed", "topics", "data"]),
    ("screenings", &[]),
    ("operator_acts", &[]),
    ("market_prices", &["accepted_at_ms"]),
    ("market_head", &["only_row"]),
    ("price_policies", &["recorded_at_ms"]),
    // The time of what contracts answered follows from the block.
    ("quotes", &["at_ms", "used", "recorded_at_ms"]),
    ("quote_witnesses", &["provider", "recorded_at_ms"]),
];

/// Of some tables, only the rows that something rests on.
fn rows_of(table: &str) -> &str {
    match table {
        "blocks" => "blocks WHERE block_hash IN (SELECT k.block_hash FROM credits k)",
        "sightings" => {
            "sightings WHERE deposit_id IN (SELECT deposit_id FROM credits)
               AND block_hash IN (SELECT k.block_hash FROM credits k)"
        }
        "deposits" => "deposits WHERE stage = 'credited'",
        "events_new" => {
            "events_new WHERE kind IN ('deposit.credited', 'deposit.reversed', 'deposit.corrected',
               'treasury.settled')"
        }
        "quotes" => "quotes WHERE used = 1",
        "quote_witnesses" => {
            "quote_witnesses WHERE quote_id IN (SELECT quote_id FROM quotes WHERE used = 1)"
        }
        table => table,
    }
}

async fn connect(house: &House) -> Sql {
    // As somebody with a text editor would: no constraint, no trigger, no foreign key helps.
    let mut sql = house.database.sql().await;
    sql.drop_guards().await;
    sql
}

/// A value that was changed, and how to change it back.
struct Change {
    what: String,
    undo: String,
    args: Vec<Cell>,
}

/// Changes one bit of one value; `None` where the database refuses (a key, a uniqueness, a type).
async fn change(
    sql: &mut Sql,
    table: &str,
    column: &str,
    row: i64,
    byte: usize,
    bit: u8,
) -> Option<Change> {
    let rows = rows_of(table);
    let key = sql.key(table).await;
    let text = format!(
        "SELECT {column}, {key} FROM {rows} ORDER BY {key} LIMIT 1 OFFSET {row}",
        key = key.join(", ")
    );
    let mut cells = sql.rows(&text).await.into_iter().next()?;
    let before = cells[0].clone();
    let after = match &before {
        Cell::Null => return None,
        Cell::Int(value) => Cell::Int(value ^ (1 << (byte % 8))),
        Cell::Text(value) if value.is_empty() => Cell::Text("x".into()),
        Cell::Text(value) => {
            let mut bytes = value.clone().into_bytes();
            let at = byte % bytes.len();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            Cell::Text(String::from_utf8(bytes).unwrap())
        }
        Cell::Bytes(value) => {
            let mut bytes = value.clone();
            let at = byte % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            Cell::Bytes(bytes)
        }
    };
    // By the row's key, so that this one row is changed and no other with the same value.
    let only: Vec<String> =
        key.iter().enumerate().map(|(i, k)| format!("{k} = ${}", i + 2)).collect();
    let update = format!("UPDATE {table} SET {column} = $1 WHERE {}", only.join(" AND "));
    cells[0] = after.clone();
    sql.execute_with(&update, &cells).await.ok()?;
    cells[0] = before.clone();
    if let Some(at) = key.iter().position(|k| k == column) {
        cells[at + 1] = after;
    }
    Some(Change { what: format!("{table}.{column} was {before:?}"), undo: update, args: cells })
}

/// Payments at par, in tokens and, since the TGE, converted; the first three of those are bought. All are
/// asked about; one is from somebody who is on the list, and two people released it. One was undone by a
/// reorg, one was corrected, and one is pending.
pub async fn a_ledger() -> House {
    let mut rules = market_rules(1, market(), 3);
    rules.verify = Verify::ReceiptsRoot;
    let on_the_list = Address::repeat_byte(0xe7);
    let (_dir, list) = listed(on_the_list);
    rules.screening = Some(Arc::new(ScreeningRules {
        list: Some(list),
        question: None,
        timeout: Duration::from_secs(5),
        patience: Duration::from_secs(300),
        headers: SecretHeaders::default(),
    }));
    let mut fair = Fair::before_tge(rules).await;
    fair.chain.seal_blocks();
    fair.all_say("0.0211");
    fair.say(USDC_FEED, "0.9987");
    let derived = fair.house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap().address;
    for (i, owner) in [(6, "acme"), (7, "bolt")] {
        fair.house.store.import_address(&name(owner), address(i), GENESIS_MS).await.unwrap();
    }
    fair.chain.mine(vec![tx(99, vec![ScriptedLog::transfer(USDC, PAYER, derived, 7_000_000)])]);
    for i in 0..8u64 {
        fair.mine(vec![
            pay(2 * i, USDC, (i % 6) as usize, 1_234_567 + u128::from(i)),
            pay(2 * i + 1, RTITY, ((i + 1) % 6) as usize, 3 * 10u128.pow(18) + u128::from(i)),
        ])
        .await;
    }
    fair.mine(vec![pay(60, USDC, 2, 2_000_000)]).await;
    fair.chain.rewind(1);
    mine_empty(&fair.chain, 3);
    fair.rest().await;
    let from_listed = ScriptedLog::transfer(USDC, on_the_list, derived, 5_000_000);
    fair.mine(vec![tx(98, vec![from_listed])]).await;
    release(&mut fair).await;
    for id in 0..2 {
        let tokens = (80 + 40 * u128::from(id)) * 10u128.pow(18);
        fair.house.store.settle_treasury(&bought(id, 2_000_000, tokens)).await.unwrap();
    }
    correct(&fair).await;
    fair.chain.mine(vec![pay(61, USDC, 1, 2_000_000)]);
    fair.watch().await;
    fair.house.verify().await;
    fair.house.store.close().await;
    fair.house
}

/// Two people release the one that is held, and it is credited.
async fn release(fair: &mut Fair) {
    let held = |d: &DepositRow| d.stage == Stage::Held(HoldReason::Screening);
    let id = fair.house.deposits().await.into_iter().find(held).unwrap().id;
    fair.house.decided(id, &Act::ProposeRelease).await;
    fair.rest().await;
    let stages = fair.house.stages().await;
    assert!(stages.iter().all(|stage| stage == "credited" || stage == "reversed"), "{stages:?}");
}

/// Two people correct the last credit of cafe, by a price by hand.
async fn correct(fair: &Fair) {
    let (store, oracle) = (&fair.house.store, &fair.house.rules.oracle);
    let of_cafe =
        |d: &DepositRow| d.namespace == "cafe" && d.token == USDC && d.stage == Stage::Credited;
    let deposit = fair.house.deposits().await.into_iter().rfind(of_cafe).unwrap().id;
    let place = store.standing_credit(deposit).await.unwrap().unwrap();
    let price = rate("0.015");
    let by_hand = Some((RTITY_USD, price));
    let new = NewCorrection { place, price: by_hand, epoch: None, evidence: "ticket 4711" };
    let proposed = store.propose_correction(oracle, &new, Some(price), ("alice", "wrong")).await;
    let act = proposed.unwrap();
    let named = (act, store.act_by_id(act).await.unwrap().unwrap().hash());
    store.approve_correction(oracle, named, Some(price), ("bob", "seen")).await.unwrap();
}

/// A copy to tamper with.
pub async fn copy_of(original: &House) -> House {
    let database = original.database.copy().await;
    let clock = original.clock.clone();
    let store = open(&database, &clock).await;
    House {
        database,
        store,
        rules: original.rules.clone(),
        cache: topupd::tasks::watch::WatchCache::new(&original.rules),
        market: Market::default(),
        clock,
    }
}

/// Changes one value, says what `verify` found, and changes it back.
async fn tamper(
    house: &House,
    sql: &mut Sql,
    table: &str,
    column: &str,
    row: i64,
    byte: usize,
    bit: u8,
) -> Option<(String, bool)> {
    let change = change(sql, table, column, row, byte, bit).await?;
    let found = house.store.verify().await.unwrap().is_err();
    assert_eq!(sql.execute_with(&change.undo, &change.args).await.unwrap(), 1, "{}", change.what);
    Some((change.what, found))
}

/// Every column of every table once, so that none is left to chance.
#[tokio::test]
async fn verify_notices_a_change_in_every_column() {
    let house = copy_of(&a_ledger().await).await;
    let mut sql = connect(&house).await;
    let (mut tried, mut unnoticed) = (0, Vec::new());
    for (table, left_out) in TABLES {
        let columns = sql.columns(table).await;
        for column in columns {
            if left_out.contains(&column.as_str()) {
                continue;
            }
            let few = ["installation", "epochs", "lot_moves", "market_head", "wallets"];
            let row = if few.contains(table) { 0 } else { 1 };
            // And the last one: of the correction, where it made any.
            let last = format!("SELECT COUNT(*) FROM {}", rows_of(table));
            let last = (sql.ints(&last).await[0][0] - 1).max(0);
            for row in BTreeSet::from([row, last]) {
                let tampered = tamper(&house, &mut sql, table, &column, row, 5, 1).await;
                if let Some((what, found)) = tampered {
                    unnoticed.extend((!found).then_some(what));
                    tried += 1;
                }
            }
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:#?}");
    assert!(tried >= 300, "only {tried} changes could be made");
    house.verify().await; // each was changed back
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/tampering.txt"),
        ))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn verify_notices_any_single_changed_value(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(),
                                        0i64..16, any::<usize>(), any::<u8>()), 40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let house = copy_of(&a_ledger().await).await;
            let mut sql = connect(&house).await;
            for (table, column, row, byte, bit) in picks {
                let (table, left_out) = TABLES[table.index(TABLES.len())];
                let mut names = sql.columns(table).await;
                names.retain(|name| !left_out.contains(&name.as_str()));
                let column = &names[column.index(names.len())];
                let tampered = tamper(&house, &mut sql, table, column, row, byte, bit).await;
                if let Some((what, found)) = tampered {
                    assert!(found, "not noticed: {what}");
                }
            }
        });
    }
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_what_is_written() {
    let original = a_ledger().await;
    let mut connection = original.database.sql().await;
    for sql in [
        "UPDATE records SET cause = '{}' WHERE seq = 1",
        "DELETE FROM records",
        "UPDATE entries SET amount = 1",
        "DELETE FROM entries",
        "UPDATE journals SET salt = seal",
        "UPDATE journals SET seq = seq - 1",
        "DELETE FROM journals",
        "UPDATE lots SET amount_nano = amount_nano + 1",
        "DELETE FROM lots",
        "UPDATE lot_moves SET amount_nano = amount_nano - 1",
        "DELETE FROM lot_moves",
        "UPDATE credits SET log_index = 77",
        "DELETE FROM credits",
        "UPDATE obligations SET decimals = 7",
        "DELETE FROM obligations",
        "UPDATE settlements SET tokens = tx_hash",
        "DELETE FROM settlements",
        "UPDATE sightings SET raw_amount = token",
        "DELETE FROM sightings",
        "UPDATE receipt_proofs SET header = receipt",
        "DELETE FROM receipt_proofs",
        "UPDATE addresses SET namespace_id = 1",
        "DELETE FROM addresses",
        "UPDATE epochs SET body = '{}'",
        "UPDATE installation SET network = 'mainnet'",
        "UPDATE market_prices SET price = '1'",
        "DELETE FROM market_prices",
        "UPDATE price_policies SET body = '{}'",
        "UPDATE quotes SET evidence = '{}'",
    ] {
        assert!(connection.execute(sql).await.is_err(), "{sql}");
    }
}
