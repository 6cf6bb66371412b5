//! Bringing the schema up to date: by hand, by several at once, and never downwards.

use std::process::{Command, Output, Stdio};

use super::support::*;
use crate::database::Engine;

fn migrate(net: &Net, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topupd"))
        .arg("migrate")
        .args(args)
        .arg("--config")
        .arg(net.config_path())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_is_migrated_once_whoever_comes_first() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    let check = migrate(&net, &["--check"]);
    let error = String::from_utf8(check.stderr).unwrap();
    assert!(!check.status.success() && !error.is_empty());
    let all: Vec<_> = (0..6)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_topupd"))
                .args(["migrate", "--config"])
                .arg(net.config_path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in all {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let versions = net.database.sql().await.ints("SELECT version FROM _sqlx_migrations").await;
    let mut files: Vec<i64> = std::fs::read_dir("migrations/sqlite")
        .unwrap()
        .map(|file| file.unwrap().file_name().to_str().unwrap()[..4].parse().unwrap())
        .collect();
    files.sort_unstable();
    assert_eq!(versions, files.iter().map(|version| [*version]).collect::<Vec<_>>());
    assert!(migrate(&net, &["--check"]).status.success());
    let again = String::from_utf8(migrate(&net, &[]).stdout).unwrap();
    assert!(again.contains("up to date already"), "{again}");

    // One that is older is read by nobody, and brought up to date by the next start.
    let mut sql = net.database.sql().await;
    let tables = [
        "database_server",
        "screenings",
        "dust_sums",
        "waits",
        "rereads",
        "confirmations",
        "receipt_proofs",
        "outgoing",
        "settlements",
        "purchases",
        "obligations",
        "operator_acts",
        "breakers",
        "price_schedule",
        "price_tries",
        "market_prices",
        "market_head",
        "captures",
        "quote_witnesses",
        "quotes",
        "price_policies",
        "conversions",
        "credits",
        "unfounded",
        "findings",
        "halts",
        "chain_tokens",
        "backfills",
        "providers",
    ];
    let trigger = |end: &str| {
        format!("CREATE TRIGGER sightings_are_facts BEFORE UPDATE OF chain_id ON sightings {end}")
    };
    let (mut statements, trigger): (Vec<String>, String) = match crate::ENGINE {
        Engine::Sqlite => (
            vec!["DROP TRIGGER sightings_are_facts".into()],
            trigger("BEGIN SELECT RAISE(ABORT, 'a fact'); END"),
        ),
        Engine::Postgres => (
            vec![
                "DROP TRIGGER sightings_are_facts ON sightings".into(),
                "DROP FUNCTION refuse_change_of_sighting".into(),
            ],
            trigger("FOR EACH ROW EXECUTE FUNCTION refuse_change('a fact')"),
        ),
    };
    statements.extend(tables.map(|t| format!("DROP TABLE {t}")));
    // Its key has grown since.
    let engine = format!("{:?}", crate::ENGINE).to_lowercase();
    let spine = std::fs::read_to_string(format!("migrations/{engine}/0001_spine.sql")).unwrap();
    let confirmations = spine.split_inclusive(';').find(|s| s.contains("TABLE confirmations"));
    statements.push(confirmations.unwrap().to_owned());
    for index in [
        "scans_by_height",
        "scans_not_rechecked",
        "deposits_due",
        "deposits_fresh",
        "deposits_by_address",
    ] {
        statements.push(format!("DROP INDEX {index}"));
    }
    for (table, columns) in [
        ("cursors", &["went_on_at_ms", "due_rules", "frozen_to", "frozen_at_ms"][..]),
        ("deposits", &["due_by", "due_number", "since_ms"]),
        ("sightings", &["provider"]),
        ("leases", &["duration_ms"]),
        (
            "scans",
            &[
                "valid_to",
                "filter",
                "rechecked_to",
                "recheck_provider",
                "recheck_logs",
                "recheck_added",
            ],
        ),
    ] {
        statements.extend(columns.iter().map(|c| format!("ALTER TABLE {table} DROP COLUMN {c}")));
    }
    statements.push(trigger);
    statements.push("DELETE FROM _sqlx_migrations WHERE version >= 3".into());
    if crate::ENGINE == Engine::Sqlite {
        // There, the table of prices is made anew: what is in it must survive.
        statements.extend(
            [
                "INSERT INTO namespaces VALUES (1, 'acme', 0)",
                "INSERT INTO addresses (address_id, address, namespace_id, origin, created_at_ms)
                 VALUES (1, zeroblob(20), 1, 'imported', 0)",
                "INSERT INTO epochs VALUES ('one', 0, '{}', zeroblob(32), 0)",
                "INSERT INTO deposits (deposit_id, chain_id, tx_hash, token, recipient, shape, n,
                   address_id, namespace_id, block_hash, block_number, log_index, raw_amount,
                   stage, first_seen_at_ms, updated_at_ms)
                 VALUES (zeroblob(32), 1, zeroblob(32), zeroblob(20), zeroblob(20), 'transfer', 0,
                   1, 1, zeroblob(32), 1, 7, zeroblob(32), 'priced', 0, 0)",
                "INSERT INTO prices VALUES (zeroblob(32), zeroblob(32), 7, 'one', 'par', 'USDC',
                   zeroblob(32), 6, '1000', 'down', 5, 9)",
                "INSERT INTO confirmations VALUES (zeroblob(32), zeroblob(32), 7, 'r', 8, zeroblob(32),
                   'p', 1, 6)",
            ]
            .map(str::to_owned),
        );
    }
    for statement in &statements {
        sql.execute(statement).await.unwrap();
    }
    let check = migrate(&net, &["--check"]);
    let error = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(1), "{error}");
    assert!(error.contains("schema version 2") && error.contains("topupd migrate"), "{error}");
    let applied = migrate(&net, &[]);
    let why = String::from_utf8(applied.stderr).unwrap();
    let applied = String::from_utf8(applied.stdout).unwrap();
    assert!(applied.contains("applied version 3"), "{applied}{why}");
    if crate::ENGINE == Engine::Sqlite {
        let kept = sql.ints("SELECT log_index, credits_nano, priced_at_ms FROM prices").await;
        assert_eq!(kept, [[7, 5, 9]]);
        let kept =
            sql.ints("SELECT log_index, confirmed_at_ms, reversals FROM confirmations").await;
        assert_eq!(kept, [[7, 6, 0]]);
    }
    assert!(migrate(&net, &["--check"]).status.success());
}
