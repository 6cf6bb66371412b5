//! The holder of the lease dies, sleeps, or loses its connection; the other one goes on.

use std::time::Duration;

use super::*;
use crate::local_chain::outages::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn the_holder_is_killed_again_and_again() {
    let stage = Stage::new().await;
    let mut daemons = [("a", stage.daemon("a")), ("b", stage.daemon("b"))];
    let payer = Payer::start(&stage.net, 1);
    let mut random = fastrand::Rng::with_seed(2);
    let (mut taken, mut working) = (Vec::new(), Vec::new());
    let kills = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    for _ in 0..kills {
        stage.goes_on().await;
        let before = stage.lease().await.unwrap();
        tokio::time::sleep(Duration::from_millis(random.u64(0..300))).await;
        let at = daemons.iter().position(|(name, _)| named(&before, name)).unwrap();
        let now_ms = stage.store.clock_ms().await.unwrap();
        let killed = Instant::now();
        daemons[at].1.kill();
        let from = stage.height().await;
        taken.push(stage.taken_over(&before, killed).await);
        until("works again", async || {
            let now = stage.height().await;
            if now > from { Ok(()) } else { Err(now) }
        })
        .await;
        working.push(killed.elapsed());
        verify(&stage.store).await; // at every moment, not only at the end
        let name = daemons[at].0;
        daemons[at].1 = stage.daemon(name);
        stage.present(name, now_ms).await;
    }
    let paid = payer.stop().await;
    println!("{} payments", paid.len());
    print_times("from SIGKILL to the lease's next holder", taken);
    print_times("from SIGKILL to its first commit", working);
    stage.all_credited(&paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let stage = Stage::new().await;
    let daemons = [("a", stage.daemon("a")), ("b", stage.daemon("b"))];
    let payer = Payer::start(&stage.net, 3);
    let mut random = fastrand::Rng::with_seed(4);
    let mut taken = Vec::new();
    for _ in 0..8 {
        stage.goes_on().await;
        // At any moment: also inside a transaction, which the server then ends.
        tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        let before = stage.lease().await.unwrap();
        let (name, sleeper) = daemons.iter().find(|(name, _)| named(&before, name)).unwrap();
        let slept = Instant::now();
        sleeper.tell("-STOP");
        taken.push(stage.taken_over(&before, slept).await);
        stage.goes_on().await;
        let after = stage.lease().await.unwrap();
        sleeper.tell("-CONT");
        // It notices, and its token is worth nothing any more.
        until("noticed", async || {
            let log = stage.log(name);
            let lost = log.contains("the lease was lost") || log.contains("fenced");
            if lost { Ok(()) } else { Err(log) }
        })
        .await;
        stage.goes_on().await;
        // On a busy machine the lease may have moved again.
        assert!(stage.lease().await.unwrap().lease.token >= after.lease.token);
        verify(&stage.store).await;
    }
    let paid = payer.stop().await;
    print_times("from SIGSTOP to the lease's next holder", taken);
    stage.all_credited(&paid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_cost_time_and_nothing_else() {
    let stage = Stage::new().await;
    let _daemons = [stage.daemon("a"), stage.daemon("b")];
    let payer = Payer::start(&stage.net, 5);
    for _ in 0..8 {
        stage.goes_on().await;
        let holder = stage.lease().await.unwrap().lease.holder;
        let mut sql = stage.net.database.sql().await;
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'topupd {holder}'"
        );
        // A holder whose connections are being made again just now has none.
        until("cut", async || match sql.execute(&cut).await.unwrap() {
            0 => Err(()),
            _ => Ok(()),
        })
        .await;
    }
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    // One whose connections come and go keeps its lease: it is back before it runs out.
    println!("token {} after the cuts", stage.lease().await.unwrap().lease.token);
}

/// The network between the holder and the server swallows every answer, also that to a COMMIT.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_gets_no_answer_any_more_is_overtaken_and_comes_back() {
    let stage = Stage::new().await;
    let proxy = Proxy::to(stage.server.port()).await;
    let url = at_port(stage.net.database.url(), proxy.port);
    let a = stage.daemon_with("a", |c| {
        c.env("TOPUPD_DATABASE__URL", &url);
    });
    let before = stage.held_by("a").await;
    let b = stage.daemon("b");
    stage.present("b", 0).await;
    let payer = Payer::start(&stage.net, 12);
    stage.goes_on().await;
    let cut = Instant::now();
    proxy.cut.store(true, Ordering::SeqCst);
    let taken = stage.taken_over(&before, cut).await;
    print_times("from the cut to the lease's next holder", vec![taken]);
    stage.goes_on().await;
    // New connections get through again; on the old ones answers are missing for ever. The holder
    // stops waiting for them, and stands by.
    proxy.cut.store(false, Ordering::SeqCst);
    until("standing by", async || {
        let log = stage.log("a");
        if log.contains("standing by") { Ok(()) } else { Err(log) }
    })
    .await;
    verify(&stage.store).await;
    drop(b);
    stage.held_by("a").await;
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_in_good_order_keeps_nobody_waiting_and_replicas_take_no_lease() {
    // A lease that nobody would wait for: it must have been given back.
    const LONG: Duration = Duration::from_secs(600);
    let stage = Stage::with_lease(LONG, PostgresOptions::default()).await;
    let replica = stage.daemon_with("replica", |c| {
        c.arg("--no-tasks");
    });
    stage.present("replica", 0).await;
    assert!(stage.lease().await.is_none());
    let mut a = stage.daemon("a");
    let before = stage.held_by("a").await;
    let b = stage.daemon("b");
    stage.present("b", 0).await;
    let told = Instant::now();
    a.tell("-TERM");
    assert!(a.0.wait().unwrap().success());
    let stopped = told.elapsed();
    stage.held_by("b").await;
    let taken = told.elapsed();
    println!("stopped after {stopped:?}, taken over after {taken:?}");
    assert_eq!(stage.lease().await.unwrap().lease.token, before.lease.token + 1);

    let out = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["status", "--config"])
        .arg(stage.net.config_path())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    println!("{text}");
    let line = |part: &str| text.lines().find(|l| l.contains(part)).unwrap_or_default().to_owned();
    assert!(line("replica-").contains("no tasks"), "{text}");
    assert!(line("b-").contains("working"), "{text}");
    assert!(!text.contains("\na-"), "{text}"); // it said good-bye
    assert!(line("eip155:31337").contains("b-"), "{text}");
    drop((replica, b));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_is_rolled_out_daemon_by_daemon() {
    let stage = Stage::new().await;
    let a = stage.daemon("a");
    let before = stage.held_by("a").await;
    let payer = Payer::start(&stage.net, 13);
    stage.goes_on().await;
    // The second one comes with an epoch that the first one has never heard of.
    let path = stage.net.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    let epoch = text.split_once("[[epochs]]").unwrap().1;
    let later = epoch.replace("\"one\"", "\"two\"").replace("2020-01-01", "2099-01-01");
    std::fs::write(&path, format!("{text}\n[[epochs]]{later}")).unwrap();
    let began = Instant::now();
    let _b = stage.daemon("b");
    let taken = stage.taken_over(&before, began).await;
    println!("taken over {taken:?} after the start");
    stage.held_by("b").await;
    stage.goes_on().await;
    assert!(stage.log("a").contains("leaves the chain to others"), "{}", stage.log("a"));
    drop(a);
    let _a = stage.daemon("a");
    stage.goes_on().await;
    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
}
