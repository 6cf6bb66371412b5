//! A machine's clock that somebody sets while a daemon runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;
use crate::database::Engine;

/// A library that makes a process's wall clock late or early by the seconds in the file that CLOCK_OFF names.
/// It is C because it stands between the program and libc, whatever the program is written in; SQLite asks
/// in another way than Rust.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
static long off(void) {
  const char *path = getenv("CLOCK_OFF");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return 0;
  char text[32] = {0};
  long seconds = read(file, text, 31) > 0 ? atol(text) : 0;
  close(file);
  return seconds;
}
int clock_gettime(clockid_t id, struct timespec *at) {
  int failed = syscall(SYS_clock_gettime, id, at);
  if (!failed && id == CLOCK_REALTIME) at->tv_sec += off();
  return failed;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return failed;
}
"#;

pub const DAY: i64 = 86_400;

/// What makes programs' clocks wrong.
pub struct WrongClocks(PathBuf);

impl WrongClocks {
    /// Compiled with the C compiler that SQLite needs too.
    pub fn new(dir: &Path) -> Self {
        let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
        std::fs::write(&source, SHIM).unwrap();
        let done =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(done.unwrap().success(), "the C compiler failed");
        Self(dir.to_owned())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.off"))
    }

    /// Sets the clock of the program of this name, also while it runs.
    pub fn set_off(&self, name: &str, seconds: i64) {
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, self.file(name)).unwrap();
    }

    /// Gives a program that is about to start the clock of this name.
    pub fn give(&self, command: &mut Command, name: &str) {
        command.env("LD_PRELOAD", self.0.join("clock.so")).env("CLOCK_OFF", self.file(name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_clock_that_is_set_while_the_daemon_runs_is_said_once_and_stops_nothing() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let config = net.write_config(&Wants { lease_ms: 500, ..Wants::default() });
    net.register(&config).await;
    let (clocks, log) = (WrongClocks::new(net.dir.path()), net.dir.path().join("daemon.log"));
    clocks.set_off("daemon", 0);
    let mut daemon = daemon(&net, "daemon", |command| clocks.give(command, "daemon"));
    // On SQLite it is the database's clock as well.
    let said = match crate::ENGINE {
        Engine::Sqlite => "this machine's clock jumped",
        Engine::Postgres => "this machine's clock differs from the database's",
    };
    let store = net.store().await;
    for (i, seconds) in [0, -DAY, DAY].into_iter().enumerate() {
        clocks.set_off("daemon", seconds);
        until("said", async || {
            let log = std::fs::read_to_string(&log).unwrap();
            if log.matches(said).count() >= i { Ok(()) } else { Err(log) }
        })
        .await;
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        net.dev.mine(5).await.unwrap();
        until_credited(&store, i + 1).await;
        assert_eq!(std::fs::read_to_string(&log).unwrap().matches(said).count(), i);
    }
    verify(&store).await;
    let mut sql = net.database.sql().await;
    let times = sql.ints("SELECT recorded_at_ms FROM records WHERE kind = 'deposit_credited' ORDER BY journal_id, seq").await;
    assert!(times.len() == 3 && times.is_sorted(), "{times:?}");
    let day_ms = DAY * 1_000;
    let is_a_day_later = times[2][0] - times[0][0] > day_ms / 2;
    assert_eq!(is_a_day_later, crate::ENGINE == Engine::Sqlite, "{times:?}");
    assert!(daemon.0.try_wait().unwrap().is_none());
}
