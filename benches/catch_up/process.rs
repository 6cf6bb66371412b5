//! What Linux says of a process, and how this program starts itself again.

use std::process::{Command, Stdio};

/// Ticks of `/proc/<pid>/stat` a second.
const TICKS: f64 = 100.0;

/// This program in another role, with pipes to it.
pub fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Processor time that a process has used, all threads together. 0 where there is no `/proc`.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(") ") else { return 0.0 };
    let ticks = |i: usize| fields.split(' ').nth(i).and_then(|f| f.parse().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// The most memory that this process ever had resident. 0 where there is no `/proc`.
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    kib / 1_024.0
}
