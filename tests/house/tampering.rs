//! `ledger verify` notices any single changed value of what a credit rests on.

use proptest::prelude::*;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Row, TypeInfo, ValueRef};
use topupd::chain::scripted::{ScriptedChain, ScriptedLog};
use topupd::domain::ids::Network;
use topupd::store::Store;

use crate::support::*;

/// Tables a credit rests on, with the columns that say only when or by whom something was done:
/// they are evidence for people, and nothing is computed from them.
const TABLES: &[(&str, &[&str])] = &[
    ("installation", &["only_row", "created_at_ms"]),
    ("postings", &[]),
    ("entries", &[]),
    ("accounts", &[]),
    ("ledger_head", &["only_row"]),
    ("lots", &[]),
    ("outbox", &["created_at_ms", "delivered_at_ms"]),
    ("confirmations", &["receipt_transfers", "confirmed_at_ms"]),
    ("prices", &["priced_at_ms"]),
    ("epochs", &["recorded_at_ms"]),
    ("deposits", &["first_seen_at_ms", "updated_at_ms"]),
    ("namespaces", &["created_at_ms"]),
    ("addresses", &["created_at_ms"]),
    ("wallets", &["next_index"]),
    // `canonical` is reported, not refused: a reorg below the policy's depth also clears it.
    ("blocks", &["parent_hash", "canonical"]),
    ("sightings", &["seen_at_ms", "malformed", "topics", "data"]),
];

async fn connect(house: &House) -> SqlitePool {
    // As somebody with a text editor would: no constraint, no trigger, no foreign key helps.
    let options = SqliteConnectOptions::new()
        .filename(house.store.as_ref())
        .foreign_keys(false)
        .pragma("ignore_check_constraints", "ON");
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let triggers = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .fetch_all(&pool)
        .await
        .unwrap();
    for row in triggers {
        let name: String = row.get(0);
        sqlx::query(AssertSqlSafe(format!("DROP TRIGGER {name}"))).execute(&pool).await.unwrap();
    }
    pool
}

/// Changes one bit of one value; `None` where the database refuses (a key, a uniqueness, a type).
async fn change(
    pool: &SqlitePool,
    table: &str,
    column: &str,
    row: i64,
    byte: usize,
    bit: u8,
) -> Option<String> {
    // Of the blocks, those that a credit rests on.
    let rows = match table {
        "blocks" => "blocks WHERE block_hash IN (SELECT block_hash FROM sightings)",
        table => table,
    };
    let keys = format!("SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk");
    let keys: Vec<String> = sqlx::query(AssertSqlSafe(keys))
        .fetch_all(pool)
        .await
        .unwrap()
        .iter()
        .map(|key| key.get(0))
        .collect();
    // The row's key as SQL, so that this one row is changed and no other with the same value.
    let only: Vec<String> = keys.iter().map(|k| format!("'{k} = ' || quote({k})")).collect();
    let only = only.join(" || ' AND ' || ");
    let text = format!(
        "SELECT {column}, {only} FROM {rows} ORDER BY {} LIMIT 1 OFFSET {row}",
        keys.join(", ")
    );
    let cell = sqlx::query(AssertSqlSafe(text)).fetch_optional(pool).await.unwrap()?;
    let only: String = cell.get(1);
    let raw = cell.try_get_raw(0).unwrap();
    if raw.is_null() {
        return None;
    }
    let kind = raw.type_info().name().to_owned();
    let before: String;
    let update = format!("UPDATE {table} SET {column} = $1 WHERE {only}");
    let query = sqlx::query(AssertSqlSafe(update));
    let done = match kind.as_str() {
        "INTEGER" => {
            let value: i64 = cell.get(0);
            before = value.to_string();
            query.bind(value ^ (1 << (byte % 8))).execute(pool).await
        }
        "TEXT" => {
            let value: String = cell.get(0);
            before = value.clone();
            let mut bytes = value.clone().into_bytes();
            let at = byte % bytes.len();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            query.bind(String::from_utf8(bytes).unwrap()).execute(pool).await
        }
        _ => {
            let value: Vec<u8> = cell.get(0);
            before = format!("{value:02x?}");
            let mut bytes = value.clone();
            let at = byte % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            query.bind(bytes).execute(pool).await
        }
    };
    done.ok().map(|_| format!("{table}.{column} was {before}"))
}

async fn a_ledger() -> House {
    let chain = ScriptedChain::new(GENESIS_MS);
    let mut house = House::new(rules(1)).await;
    let derived = house.store.new_address(&name("acme"), &xpub(), 0).await.unwrap().address;
    chain.mine(vec![tx(99, vec![ScriptedLog::transfer(USDC, PAYER, derived, 7_000_000)])]);
    for i in 0..6u64 {
        chain.mine(vec![
            pay(2 * i, USDC, (i % 6) as usize, 1_234_567 + u128::from(i)),
            pay(2 * i + 1, RTITY, ((i + 1) % 6) as usize, 3 * 10u128.pow(18) + u128::from(i)),
        ]);
        house.quiesce(&chain).await;
    }
    house.verify().await;
    house.store.close().await;
    house
}

async fn columns(pool: &SqlitePool, table: &str) -> Vec<String> {
    let text = format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid");
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(pool).await.unwrap();
    rows.iter().map(|r| r.get(0)).collect()
}

/// A copy to tamper with.
async fn copy_of(original: &House) -> House {
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("topupd.db");
    std::fs::copy(original.store.as_ref(), &path).unwrap();
    let url = format!("sqlite:{}", path.display());
    let store = Store::open(&url, Network::Testnet, 0).await.unwrap();
    House {
        dir: copy,
        store,
        rules: rules(1),
        cache: topupd::tasks::watch::WatchCache::new(&rules(1)),
        clock: topupd::clock::ManualClock::at(0),
    }
}

/// Copies the ledger, changes one value in the copy, and says what `verify` found.
async fn tamper(
    original: &House,
    table: &str,
    column: &str,
    row: i64,
    byte: usize,
    bit: u8,
) -> Option<(String, bool)> {
    let house = copy_of(original).await;
    let pool = connect(&house).await;
    let changed = change(&pool, table, column, row, byte, bit).await;
    pool.close().await;
    let what = changed?;
    let found = house.store.verify().await.unwrap().is_err();
    house.store.close().await;
    Some((what, found))
}

/// Every column of every table once, so that none is left to chance.
#[tokio::test]
async fn verify_notices_a_change_in_every_column() {
    let original = a_ledger().await;
    let pool = connect(&original).await;
    let mut tried = 0;
    for (table, left_out) in TABLES {
        for column in columns(&pool, table).await {
            if left_out.contains(&column.as_str()) {
                continue;
            }
            let row =
                if matches!(*table, "installation" | "ledger_head" | "epochs") { 0 } else { 1 };
            if let Some((what, found)) = tamper(&original, table, &column, row, 5, 1).await {
                assert!(found, "not noticed: {what}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 70, "only {tried} changes could be made");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn verify_notices_any_single_changed_value(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(),
                                        0i64..12, any::<usize>(), any::<u8>()), 40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let original = a_ledger().await;
            let pool = connect(&original).await;
            for (table, column, row, byte, bit) in picks {
                let (table, left_out) = TABLES[table.index(TABLES.len())];
                let mut names = columns(&pool, table).await;
                names.retain(|name| !left_out.contains(&name.as_str()));
                let column = &names[column.index(names.len())];
                if let Some((what, found)) = tamper(&original, table, column, row, byte, bit).await {
                    assert!(found, "not noticed: {what}");
                }
            }
        });
    }
}

#[tokio::test]
async fn a_posting_cannot_be_removed_or_added() {
    let original = a_ledger().await;
    for sql in [
        "DELETE FROM postings WHERE seq = 13",
        "DELETE FROM postings WHERE seq = 5",
        "DELETE FROM entries WHERE posting_seq = 5",
        "DELETE FROM lots WHERE posting_seq = 5",
        "DELETE FROM outbox WHERE posting_seq = 5",
        "DELETE FROM accounts WHERE namespace_id IS NOT NULL",
        "DELETE FROM prices WHERE decimals = 6",
        "INSERT INTO entries SELECT posting_seq, 7, account, side, amount_nano FROM entries WHERE leg = 1 AND posting_seq = 3",
        "INSERT INTO entries VALUES (999, 0, 'namespace/acme', 'credit', 5)",
        "UPDATE ledger_head SET seq = 0, hash = (SELECT prev_hash FROM postings WHERE seq = 1)",
    ] {
        let house = copy_of(&original).await;
        let pool = connect(&house).await;
        sqlx::query(sql).execute(&pool).await.unwrap();
        pool.close().await;
        assert!(house.store.verify().await.unwrap().is_err(), "not noticed: {sql}");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_what_is_written() {
    let original = a_ledger().await;
    let options = SqliteConnectOptions::new().filename(original.store.as_ref());
    let pool = SqlitePool::connect_with(options).await.unwrap();
    for sql in [
        "UPDATE postings SET evidence = '{}' WHERE seq = 1",
        "DELETE FROM postings",
        "UPDATE entries SET amount_nano = 1",
        "DELETE FROM entries",
        "UPDATE sightings SET raw_amount = zeroblob(32)",
        "DELETE FROM sightings",
        "UPDATE addresses SET namespace_id = 1",
        "DELETE FROM addresses",
        "UPDATE epochs SET body = '{}'",
        "UPDATE installation SET network = 'mainnet'",
    ] {
        assert!(sqlx::query(sql).execute(&pool).await.is_err(), "{sql}");
    }
}
