//! The server goes away and comes back; the daemons stay up, say so, and go on by themselves.

use std::time::Duration;

use topupd::devnet::StopMode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_crashes_ten_times() {
    let mut stage = Stage::new().await;
    let mut daemons = [stage.daemon("a"), stage.daemon("b")];
    let payer = Payer::start(&stage.net, 6);
    let mut random = fastrand::Rng::with_seed(7);
    let mut back = Vec::new();
    for _ in 0..10 {
        stage.goes_on().await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
        stage.server.stop(StopMode::Immediate).await.unwrap();
        tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
        stage.server.start_again().await.unwrap();
        let up = Instant::now();
        stage.goes_on().await;
        back.push(up.elapsed());
        verify(&stage.store).await;
    }
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    print_times("from the server's return to the next commit", back);
    for (daemon, name) in daemons.iter_mut().zip(["a", "b"]) {
        assert!(daemon.0.try_wait().unwrap().is_none(), "{name} did not stay up");
        assert!(!stage.log(name).contains("panicked"), "{}", stage.log(name));
    }
    // Said by who noticed: one that stood by may have had nothing to ask while it was away.
    let logs = format!("{}{}", stage.log("a"), stage.log("b"));
    assert!(logs.contains("degraded: ") && logs.contains("the database is back"), "{logs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut stage = Stage::new().await;
    stage.server.stop(StopMode::Fast).await.unwrap();
    let mut daemon = stage.daemon("a");
    until("degraded", async || {
        let log = stage.log("a");
        if log.contains("degraded: ") { Ok(()) } else { Err(log) }
    })
    .await;
    // A command for people fails at once, and says what is wrong without the password.
    let out = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["status", "--config"])
        .arg(stage.net.config_path())
        .output()
        .unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(error.contains("database failed to connect") && error.contains("refused"), "{error}");
    let secret = stage.net.database.url();
    let secret = secret.split([':', '@']).nth(2).unwrap();
    assert!(secret.len() > 10 && !error.contains(secret) && !stage.log("a").contains(secret));

    stage.server.start_again().await.unwrap();
    stage.held_by("a").await;
    assert!(daemon.0.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_rights_is_told_so_and_nobody_waits() {
    let stage = Stage::new().await;
    let mut sql = stage.net.database.sql().await;
    let name = format!("topupd_nobody_{:08x}", fastrand::u32(..));
    sql.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'nothing'")).await.unwrap();
    let url = stage.net.database.url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["run", "--config"])
        .arg(stage.net.config_path())
        .env("TOPUPD_DATABASE__URL", format!("{scheme}://{name}:nothing@{place}"))
        .output()
        .unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{error}");
    assert!(error.contains("permission denied") && !error.contains("nothing@"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_is_waited_for_too() {
    let mut stage = Stage::new().await;
    let daemons = [stage.daemon("a"), stage.daemon("b")];
    let payer = Payer::start(&stage.net, 8);
    stage.goes_on().await;
    stage.server.freeze().unwrap();
    tokio::time::sleep(LEASE * 3).await;
    stage.server.thaw().unwrap();
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    drop(daemons);
}

/// The longest any connection sat in a transaction without a word, while the provider was silent.
#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_is_open_while_the_network_is_waited_for() {
    let stage = Stage::new().await;
    let _daemon = stage.daemon("a");
    let paid = vec![(stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5)];
    until_followed(&stage.net, &stage.store).await;
    let anvil = stage.net.dev.anvil.id().to_string();
    let node = |signal: &str| {
        assert!(Command::new("kill").args([signal, &anvil]).status().unwrap().success());
    };
    let mut sql = stage.net.database.sql().await;
    let open =
        "SELECT CAST(pid AS BIGINT), CAST(EXTRACT(EPOCH FROM xact_start) * 1000000 AS BIGINT)
                FROM pg_stat_activity
                WHERE application_name LIKE 'topupd a-%' AND xact_start IS NOT NULL";
    for _ in 0..5 {
        node("-STOP");
        tokio::time::sleep(Duration::from_millis(600)).await;
        // One that waited for the node would stay open for as long as the node says nothing; each of
        // the others ends, however busy the machine is.
        let mut found = sql.ints(open).await;
        until("ended", async || {
            let now = sql.ints(open).await;
            found.retain(|transaction| now.contains(transaction));
            if found.is_empty() { Ok(()) } else { Err(found.clone()) }
        })
        .await;
        node("-CONT");
        stage.net.dev.mine(1).await.unwrap();
        until_followed(&stage.net, &stage.store).await;
    }
    stage.all_credited(&paid).await;
}
