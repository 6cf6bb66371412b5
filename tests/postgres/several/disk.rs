//! A database that cannot be written: read-only, or its disk full. Nothing is half-written, the
//! daemon says what is wrong, and goes on when it is mended.

use topupd::devnet::StopMode;

use super::*;

/// Everything but the daemon's own signs of life.
async fn fingerprint(stage: &Stage) -> Vec<Vec<i64>> {
    let counts: Vec<String> = Store::tables()
        .filter(|t| !["leases", "daemons", "database_server"].contains(t))
        .map(|t| format!("(SELECT COUNT(*) FROM {t})"))
        .collect();
    let mut sql = stage.net.database.sql().await;
    sql.ints(&format!("SELECT {}, COALESCE(MAX(block_number), -1) FROM cursors", counts.join(", ")))
        .await
}

async fn says(stage: &Stage, part: &str) {
    until(part, async || {
        let log = stage.log("a");
        let said = log.lines().any(|l| l.contains(" WARN ") && l.contains(part));
        if said { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_waited_for() {
    let stage = Stage::new().await;
    let mut daemon = stage.daemon("a");
    let payer = Payer::start(&stage.net, 10);
    stage.goes_on().await;
    // As after a failover to a replica, or on a managed server that ran out of space.
    let mut sql = Sql::connect(&stage.server.url("postgres")).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'topupd %'";
    let url = url::Url::parse(stage.net.database.url()).unwrap();
    let alter = |how: &str| format!("ALTER DATABASE {} {how}", url.path().trim_matches('/'));
    let read_only = alter("SET default_transaction_read_only = on");
    sql.execute(&read_only).await.unwrap();
    sql.execute(cut).await.unwrap();
    says(&stage, "read-only transaction").await;
    let before = fingerprint(&stage).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(fingerprint(&stage).await, before);

    sql.execute(&alter("RESET default_transaction_read_only")).await.unwrap();
    sql.execute(cut).await.unwrap();
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    assert!(daemon.0.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_full_disk_is_waited_for() {
    const LIMIT: u64 = 17 * 1024 * 1024;
    let options = PostgresOptions { file_size_max: Some(LIMIT), ..PostgresOptions::default() };
    let mut stage = Stage::with(options).await;
    // Another chain's blocks fill the file that the next block must go into.
    let mut sql = stage.net.database.sql().await;
    let fill = |rows: u32| {
        format!(
            "INSERT INTO blocks SELECT 1, sha256(convert_to(random()::text || n, 'UTF8')), n,
               sha256('p'), 0, 0 FROM generate_series(1, {rows}) n"
        )
    };
    let mut rows = 40_000;
    while rows > 0 {
        match sql.execute(&fill(rows)).await {
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains("could not extend file"), "{error}");
                rows /= 4;
            }
        }
    }
    let mut daemon = stage.daemon("a");
    let payer = Payer::start(&stage.net, 11);
    says(&stage, "could not extend file").await;
    verify(&stage.store).await;
    let before = fingerprint(&stage).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(fingerprint(&stage).await, before);

    stage.server.set_file_size_max(None);
    stage.server.stop(StopMode::Fast).await.unwrap();
    stage.server.start_again().await.unwrap();
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    assert!(daemon.0.try_wait().unwrap().is_none());
}
