//! A shell that waits until whoever started it has ended, however that happened, and then clears up.
#![cfg(unix)]

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it is waited for.
const GOODBYE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Waits for the end of its input, which comes with the end of whoever holds the other side.
const WAIT: &str = "trap '' HUP INT QUIT TERM\nwhile read -r _; do :; done\n";

/// The shell. Dropping it makes it do its work.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Starts one that will do what the script says, in which `$1` and so on are `about`.
    pub(super) fn start(script: &str, name: &str, about: &[&OsStr]) -> std::io::Result<Self> {
        Command::new("sh")
            .args(["-c", &format!("{WAIT}{script}"), name])
            .args(about)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|e| std::io::Error::new(e.kind(), format!("sh: {e}")))
    }

    /// Makes it do its work now, and waits for it a while.
    pub(super) fn act(&mut self) {
        drop(self.0.stdin.take());
        let since = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && since.elapsed() < GOODBYE {
            std::thread::sleep(POLL);
        }
    }

    /// Ends it without its work, which is done already.
    pub(super) fn dismiss(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.act();
    }
}
