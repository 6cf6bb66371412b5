//! Leases go by the database's clock: a daemon whose own is ten minutes off neither takes one that
//! is held nor loses its own.

use std::path::PathBuf;

use super::*;

/// A library that makes a process's wall clock ten minutes late or early, as CLOCK_OFF_SECONDS says.
/// It is C because it stands between the program and libc, whatever the program is written in.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
  int failed = syscall(SYS_clock_gettime, id, at);
  const char *off = getenv("CLOCK_OFF_SECONDS");
  if (!failed && id == CLOCK_REALTIME && off) at->tv_sec += atol(off);
  return failed;
}
"#;

/// Compiled with the C compiler that SQLite needs too.
fn shim(dir: &std::path::Path) -> PathBuf {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, SHIM).unwrap();
    let done =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(done.unwrap().success(), "the C compiler failed");
    library
}

#[cfg(target_os = "linux")]
/// Nobody takes a lease before it has run out by the database's clock. On a busy machine its holder may
/// renew it too late; then the other one may have it.
async fn never_taken_early(stage: &Stage, off: &str) {
    let mut last = stage.lease().await.unwrap();
    let watched = Instant::now();
    while watched.elapsed() < LEASE * 2 {
        let now = stage.lease().await.unwrap();
        if now.lease != last.lease {
            assert!(now.lease.acquired_at_ms >= last.expires_at_ms, "{off}: {last:?}, {now:?}");
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_changes_nothing() {
    for off in ["600", "-600"] {
        let stage = Stage::new().await;
        let library = shim(stage.net.dir.path());
        let payer = Payer::start(&stage.net, 9);
        let b = stage.daemon("b");
        let held = stage.held_by("b").await;
        let mut a = stage.daemon_with("a", |c| {
            c.env("LD_PRELOAD", &library).env("CLOCK_OFF_SECONDS", off);
        });
        stage.present("a", 0).await;
        until("noticed", async || {
            let log = stage.log("a");
            if log.contains("clock differs from the database's") { Ok(()) } else { Err(log) }
        })
        .await;
        // While b is at work, a waits, however late it believes it is.
        never_taken_early(&stage, off).await;
        // When b dies, a takes over in time, and keeps the lease against a new b.
        let killed = Instant::now();
        drop(b);
        let taken = stage.taken_over(&held, killed).await;
        print_times("takeover by the wrong clock", vec![taken]);
        stage.held_by("a").await;
        let b = stage.daemon("b");
        never_taken_early(&stage, off).await;
        stage.goes_on().await;
        let paid = payer.stop().await;
        stage.all_credited(&paid).await;
        assert!(a.0.try_wait().unwrap().is_none());
        drop(b);
    }
}
