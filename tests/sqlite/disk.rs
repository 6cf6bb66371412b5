//! A file that cannot grow any more: the daemon says so, writes nothing by halves, and goes on when
//! there is room again.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::local_chain::support::*;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let config = net.write_config(&Wants { confirmations: 2, ..Wants::default() });
    net.register(&config).await;
    let log = net.dir.path().join("log");
    // No file may grow beyond this; the journal reaches it soon. In blocks of 512 bytes. The system says so
    // by a signal too, which ends a program that does not expect it.
    let child = Command::new("sh")
        .args(["-c", "ulimit -S -f 2000; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_topupd"))
        .args(["run", "--config"])
        .arg(net.config_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn();
    let mut daemon = Running(child.unwrap());
    let mut paid = 0;
    let mut pay = async || {
        for _ in 0..5 {
            net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
            paid += 1;
        }
    };
    let said = || std::fs::read_to_string(&log).unwrap();
    for _ in 0..3_600 {
        pay().await;
        if said().contains("degraded: ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = said();
    assert!(text.contains("degraded: ") && text.contains("disk"), "{text}");
    pay().await;
    let store = net.store().await;
    verify(&store).await;

    let pid = daemon.0.id().to_string();
    let mended = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status();
    assert!(mended.unwrap().success());
    net.dev.mine(3).await.unwrap();
    until("credited", async || {
        let now = credited(&store).await;
        if now == paid { Ok(()) } else { Err((now, said())) }
    })
    .await;
    verify(&store).await;
    // The log went on too, from where it was.
    until("logged", async || match store.log_waiting().await.unwrap() {
        (0, 0) => Ok(()),
        waiting => Err((waiting, said())),
    })
    .await;
    store.verify_log(None).await.unwrap().unwrap();
    assert!(said().contains("the database is back"), "{}", said());
    assert!(daemon.0.try_wait().unwrap().is_none());
}

/// SQLite needs a file of its own beside the database before anything can be read.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_at_the_start_is_waited_for() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 2, ..Wants::default() });
    net.register(&config).await;
    let log = net.dir.path().join("log");
    // In blocks of 512 bytes: enough for the log.
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -S -f 40; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_topupd"))
            .args(arguments)
            .arg("--config")
            .arg(net.config_path())
            .stdin(Stdio::null());
        command
    };
    let out = limited(&["status"]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("make room on the disk"), "{said}");
    let mut daemon = limited(&["run"]);
    daemon.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut daemon = Running(daemon.spawn().unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    until("waiting", async || {
        let text = said();
        if text.contains("make room on the disk") { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(daemon.0.try_wait().unwrap().is_none(), "{}", said());
    let pid = daemon.0.id().to_string();
    let mended = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &pid]).status();
    assert!(mended.unwrap().success());
    until("following", async || {
        let text = said();
        if text.contains("took the lease") { Ok(()) } else { Err(text) }
    })
    .await;
}
