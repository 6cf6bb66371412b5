//! A server that takes no writes from us: a standby, until it is promoted, and a user who may only
//! read.

use topupd::devnet::StopMode;

use super::*;

/// What anybody who may read can do, and what is said to who wants more.
fn reads_and_is_told(stage: &Stage, url: &str, expected: &str) {
    let backup = format!("sqlite:{}", stage.net.dir.path().join("backup.db").display());
    let reads: [&[&str]; 7] = [
        &["status"],
        &["check"],
        &["migrate", "--check"],
        &["deposits", "list"],
        &["findings"],
        &["ledger", "verify"],
        &["db", "backup", "--to", &backup],
    ];
    for arguments in reads {
        let out = topupd_at(stage, url, arguments);
        let error = String::from_utf8(out.stderr).unwrap();
        // Nobody follows the chain, or something was found: 3.
        let code = out.status.code();
        assert!(matches!(code, Some(0 | 3)), "{arguments:?}: {error}");
    }
    let writes: [&[&str]; 3] = [
        &["namespace", "add", "new"],
        &["address", "new", "acme"],
        &["address", "import", "acme", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
    ];
    for arguments in writes {
        let out = topupd_at(stage, url, arguments);
        let error = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_only_read_reads() {
    let stage = Stage::new().await;
    let mut sql = stage.net.database.sql().await;
    let name = format!("topupd_reader_{:08x}", fastrand::u32(..));
    for right in [
        format!("CREATE ROLE {name} LOGIN PASSWORD 'nothing'"),
        format!("GRANT USAGE ON SCHEMA public TO {name}"),
        format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"),
    ] {
        sql.execute(&right).await.unwrap();
    }
    let url = stage.net.database.url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let url = format!("{scheme}://{name}:nothing@{place}");
    reads_and_is_told(&stage, &url, "grant that right to the user of database.url");
    let out = topupd_at(&stage, &url, &["run"]);
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("grant that right"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_can_be_read_and_is_waited_for() {
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let mut stage = Stage::with(options).await;
    let mut sql = stage.net.database.sql().await;
    let data = sql.texts("SHOW data_directory").await.remove(0);
    drop(sql);
    // A standby of nobody: it waits for records that never come, until it is promoted.
    stage.server.stop(StopMode::Fast).await.unwrap();
    std::fs::write(std::path::Path::new(&data).join("standby.signal"), "").unwrap();
    stage.server.start_again().await.unwrap();
    let url = stage.net.database.url().to_owned();
    reads_and_is_told(&stage, &url, "or promote this one");
    let mut daemon = stage.daemon("a");
    until("said", async || {
        let log = stage.log("a");
        if log.contains("promote this one") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(daemon.0.try_wait().unwrap().is_none(), "{}", stage.log("a"));
    assert!(!stage.log("a").contains("panicked"), "{}", stage.log("a"));
    let mut sql = stage.net.database.sql().await;
    sql.rows("SELECT CAST(CASE WHEN pg_promote() THEN 1 ELSE 0 END AS BIGINT)").await;
    stage.held_by("a").await;
    let paid = vec![(stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5)];
    stage.all_credited(&paid).await;
}
