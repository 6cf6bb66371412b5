//! The tables of a database: created once, whoever comes first, and no other build's are touched.

use std::process::{Command, Output, Stdio};

use super::binary::{refused, text, topupd};
use super::support::*;
use crate::database::Engine;

fn says(out: &Output, words: &str) {
    let said = text(&out.stdout);
    assert!(out.status.success() && said.contains(words), "{said}{}", text(&out.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_database_gets_its_tables_once_whoever_comes_first() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    // Only these two create them.
    let (code, words) = match crate::ENGINE {
        Engine::Sqlite => (2, "there is no such file; `topupd run` and `topupd migrate` create it"),
        Engine::Postgres => (
            1,
            "has no tables yet: only `topupd run` and `topupd migrate` create them; nothing was changed",
        ),
    };
    for arguments in [&["migrate", "--check"][..], &["status"], &["namespace", "add", "acme"]] {
        let (found, error) = refused(&topupd(&net, arguments));
        assert!(found == code && error.contains(words), "{arguments:?}: {found} {error}");
    }
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
        assert!(out.status.success(), "{}", text(&out.stderr));
    }
    let mut sql = net.database.sql().await;
    assert_eq!(sql.ints("SELECT version FROM _sqlx_migrations").await, [[1]]);
    assert_eq!(sql.ints("SELECT seq FROM market_head").await, [[0]]);
    says(&topupd(&net, &["migrate", "--check"]), ": the schema is current");
    says(&topupd(&net, &["migrate"]), ": the schema is current; nothing was changed");
    // What was taken away of it is named.
    let on_table = if crate::ENGINE == Engine::Postgres { " ON addresses" } else { "" };
    sql.execute(&format!("DROP TRIGGER addresses_are_not_deleted{on_table}")).await.unwrap();
    sql.execute("DROP INDEX one_canonical_block_per_height").await.unwrap();
    for command in [&["migrate", "--check"][..], &["check"]] {
        let out = topupd(&net, command);
        let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
        for word in
            ["2 of the schema's", "addresses_are_not_deleted", "one_canonical_block_per_height"]
        {
            assert!(said.contains(word), "{command:?}: {said}");
        }
        assert_ne!(out.status.code(), Some(0), "{command:?}: {said}");
    }
}

/// What anybody could have changed by opening it.
async fn contents(net: &Net) -> Vec<String> {
    let mut sql = net.database.sql().await;
    let tables = match crate::ENGINE {
        Engine::Sqlite => "SELECT COALESCE(sql, name) FROM sqlite_master ORDER BY name",
        Engine::Postgres => {
            "SELECT CAST(attrelid::regclass AS TEXT) || ' ' || CAST(attname AS TEXT)
             FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
             WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        }
    };
    let mut found = sql.texts(tables).await;
    found.extend(
        sql.texts(&format!(
            "SELECT CAST(version AS TEXT) || {} FROM _sqlx_migrations ORDER BY version",
            match crate::ENGINE {
                Engine::Sqlite => "hex(checksum)",
                Engine::Postgres => "encode(checksum, 'hex')",
            }
        ))
        .await,
    );
    for table in ["namespaces", "addresses", "epochs", "leases", "daemons", "database_server"] {
        let count = sql.ints(&format!("SELECT COUNT(*) FROM {table}")).await;
        found.push(format!("{table} {count:?}"));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_build_is_refused_in_a_sentence_and_left_as_it_is() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    says(&topupd(&net, &["migrate"]), "created");
    let (other, start) = match crate::ENGINE {
        Engine::Sqlite => ("zeroblob(48)", "lower(hex(substr(checksum, 1, 4)))"),
        Engine::Postgres => {
            ("decode(repeat('00', 48), 'hex')", "encode(substr(checksum, 1, 4), 'hex')")
        }
    };
    let mut sql = net.database.sql().await;
    let known = sql.texts(&format!("SELECT {start} FROM _sqlx_migrations")).await;
    sql.execute("CREATE TABLE ours AS SELECT checksum FROM _sqlx_migrations").await.unwrap();
    let one_more = |version: i64| {
        format!(
            "INSERT INTO _sqlx_migrations
             SELECT {version}, description, installed_on, success, checksum, execution_time
             FROM _sqlx_migrations WHERE version = 1"
        )
    };
    let rest = "it was made by another build before the first release; make a new database, or use the build that made it; nothing was changed";
    let cases = [
        // The one file, as it was at another time.
        (
            format!("UPDATE _sqlx_migrations SET checksum = {other}"),
            format!("has schema 1 (00000000), this topupd has 1 ({}): {rest}", known[0]),
        ),
        // The steps that came before it.
        (
            one_more(19),
            format!("has schema 19 (00000000), this topupd has 1 ({}): {rest}", known[0]),
        ),
        // A later release: the same file, and a step.
        (
            "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM ours)".to_owned(),
            "has schema version 19, this topupd knows up to 1: use the newer topupd; nothing was changed"
                .to_owned(),
        ),
    ];
    let backup = net.dir.path().join("backup.db");
    let to = format!("sqlite:{}", backup.display());
    for (statement, words) in cases {
        sql.execute(&statement).await.unwrap();
        let before = contents(&net).await;
        for arguments in [
            &["migrate"][..],
            &["migrate", "--check"],
            &["run"],
            &["status"],
            &["ledger", "verify"],
            &["namespace", "add", "new"],
            &["db", "backup", "--to", &to],
        ] {
            let (code, error) = refused(&topupd(&net, arguments));
            assert!(code == 2 && error.contains(&words), "{arguments:?}: {code} {error}");
        }
        let check = topupd(&net, &["check"]);
        let said = text(&check.stdout);
        assert!(check.status.code() == Some(2) && said.contains(&words), "{said}");
        assert_eq!(contents(&net).await, before);
        assert!(!backup.exists());
    }
    // It was the stored checksum and nothing else.
    sql.execute("DELETE FROM _sqlx_migrations WHERE version > 1").await.unwrap();
    says(&topupd(&net, &["migrate"]), "the schema is current");
}
