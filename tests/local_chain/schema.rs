//! Bringing the schema up to date: by hand, by several at once, and never downwards.

use std::process::{Command, Output, Stdio};

use super::support::*;

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
    assert_eq!(versions, [[1], [2]]);
    assert!(migrate(&net, &["--check"]).status.success());
    let again = String::from_utf8(migrate(&net, &[]).stdout).unwrap();
    assert!(again.contains("up to date already"), "{again}");

    // One that is older is read by nobody, and brought up to date by the next start.
    let mut sql = net.database.sql().await;
    for statement in [
        "DROP TABLE leases",
        "DROP TABLE daemons",
        "DROP INDEX deposits_open",
        "CREATE INDEX deposits_open ON deposits (chain_id, stage, block_number)",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
    ] {
        sql.execute(statement).await.unwrap();
    }
    let check = migrate(&net, &["--check"]);
    let error = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(1), "{error}");
    assert!(error.contains("schema version 1") && error.contains("topupd migrate"), "{error}");
    let applied = String::from_utf8(migrate(&net, &[]).stdout).unwrap();
    assert!(applied.contains("applied version 2"), "{applied}");
    assert!(migrate(&net, &["--check"]).status.success());
}
