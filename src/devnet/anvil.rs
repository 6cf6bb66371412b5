//! The anvil process: found on PATH, else installed once from the pinned npm package.
//!
//! It makes sure that the port belongs to its own child: a second anvil on a busy port exits, and
//! whoever polls the port then talks to the first one. Dropping it kills the child.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;
use url::Url;

use super::fixtures::ANVIL;
#[cfg(unix)]
use super::watchdog::Watchdog;

/// How long anvil may take to say where it listens, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(120);
/// Ends anvil when whoever started it has ended, and its whole group: what PATH calls anvil may be a
/// script that started the real one. Removes its folder, in which it may have written meanwhile.
#[cfg(unix)]
const CLEAR_UP: &str = r#"
kill -s KILL -- "-$1"
rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }
"#;

/// Why there is no local chain.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// Neither anvil nor npm.
    #[error(
        "anvil 1.7 or newer was found neither on PATH nor in anvil-fixtures/node_modules, and could not be installed from npm ({0}): install Node 20 or newer, or Foundry's anvil"
    )]
    Missing(String),
    /// It ended instead of listening.
    #[error("anvil did not start: {0}")]
    Start(String),
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct AnvilOptions {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// A port, or 0 for any that is free.
    pub port: u16,
    /// Mine a block at every transaction; otherwise only when told to.
    pub automine: bool,
    /// Keep the chain in this file, and start from it when it is there.
    pub state: Option<PathBuf>,
    /// When the first block is, in seconds; otherwise now. So it is again after a restart and in a
    /// twin, whatever blocks there are: `mine_at` sets them right.
    pub timestamp: Option<u64>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self { chain_id: 31_337, port: 0, automine: true, state: None, timestamp: None }
    }
}

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    #[cfg(unix)]
    watchdog: Watchdog,
    port: u16,
    options: AnvilOptions,
    /// Old states, which would stay in the home directory for ever after a kill.
    _cache: tempfile::TempDir,
}

impl Anvil {
    /// Starts it and waits until it says where it listens.
    pub async fn start(options: AnvilOptions) -> Result<Self, AnvilError> {
        let program = tokio::task::spawn_blocking(find)
            .await
            .map_err(|e| AnvilError::Missing(e.to_string()))??;
        let cache = tempfile::Builder::new().prefix("topupd-anvil-").tempdir();
        let cache = cache.map_err(|e| AnvilError::Start(e.to_string()))?;
        let mut command = Command::new(program);
        command
            .arg("--cache-path")
            .arg(cache.path())
            .args(["--host", "127.0.0.1", "--accounts", "5", "--order", "fifo", "--no-cors"])
            .args(["--chain-id", &options.chain_id.to_string()])
            .args(["--port", &options.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !options.automine {
            command.arg("--no-mining");
        }
        if let Some(timestamp) = options.timestamp {
            command.args(["--timestamp", &timestamp.to_string()]);
        }
        if let Some(state) = &options.state {
            command.arg("--state").arg(state).arg("--preserve-historical-states");
        }
        // Ctrl-C in a terminal goes to the foreground group; who started anvil stops it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| AnvilError::Start(e.to_string()))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(AnvilError::Start("no output".into()));
        };
        let (said, port) = oneshot::channel();
        // anvil blocks when nobody reads what it prints, so its output is read to the end.
        std::thread::spawn(move || {
            let mut said = Some(said);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let port =
                    line.strip_prefix("Listening on 127.0.0.1:").and_then(|p| p.parse().ok());
                if let (Some(port), Some(said)) = (port, said.take_if(|_| port.is_some())) {
                    let _ = said.send(port);
                }
            }
        });
        let errors = std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).last().unwrap_or_default()
        });
        #[cfg(unix)]
        let watchdog = watchdog(&mut child, cache.path())?;
        let mut this = Self {
            child,
            #[cfg(unix)]
            watchdog,
            port: 0,
            options,
            _cache: cache,
        };
        match tokio::time::timeout(START, port).await {
            Ok(Ok(port)) => {
                this.port = port;
                Ok(this)
            }
            Ok(Err(_)) => {
                this.kill();
                Err(AnvilError::Start(errors.join().unwrap_or_default()))
            }
            Err(_) => Err(AnvilError::Start("it does not say where it listens".into())),
        }
    }

    /// How it was started.
    pub(super) fn options(&self) -> &AnvilOptions {
        &self.options
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it answers over HTTP.
    pub fn http(&self) -> Url {
        self.url("http")
    }

    /// Where it answers over WebSocket.
    pub fn ws(&self) -> Url {
        self.url("ws")
    }

    fn url(&self, scheme: &str) -> Url {
        let text = format!("{scheme}://127.0.0.1:{}", self.port);
        #[expect(clippy::expect_used, reason = "an address and a number always make a URL")]
        Url::parse(&text).expect("a loopback URL")
    }

    /// Ends it so that it writes its state, and starts it again on the same port.
    pub async fn restart(&mut self) -> Result<(), AnvilError> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        if !told.is_ok_and(|status| status.success()) {
            return Err(AnvilError::Start("it cannot be told to end".into()));
        }
        let ended = self.child.wait();
        ended.map_err(|e| AnvilError::Start(e.to_string()))?;
        let options = AnvilOptions { port: self.port, ..self.options.clone() };
        *self = Self::start(options).await?;
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            // Ended and waited for: its number may be somebody else's by now.
            #[cfg(unix)]
            self.watchdog.dismiss();
            return;
        }
        #[cfg(unix)]
        self.watchdog.act();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without one there is no anvil either.
#[cfg(unix)]
fn watchdog(anvil: &mut Child, folder: &Path) -> Result<Watchdog, AnvilError> {
    let group = anvil.id().to_string();
    let about = [group.as_ref(), folder.as_os_str()];
    Watchdog::start(CLEAR_UP, "topupd-anvil-watchdog", &about).map_err(|e| {
        let _ = anvil.kill();
        let _ = anvil.wait();
        AnvilError::Start(e.to_string())
    })
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.kill();
    }
}

/// anvil on PATH, else from the npm package, which is installed when it is not there yet.
fn find() -> Result<PathBuf, AnvilError> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&paths).map(|dir| dir.join("anvil")).find(|p| p.is_file());
    match on_path.filter(|anvil| new_enough(anvil)) {
        Some(anvil) => Ok(anvil),
        None => ANVIL.path().map_err(AnvilError::Missing),
    }
}

/// 1.7 or newer: older ones reorganise differently.
fn new_enough(anvil: &Path) -> bool {
    let output = Command::new(anvil).arg("--version").stdin(Stdio::null()).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let version = text.split_whitespace().find_map(|word| {
        let mut parts = word.split(['.', '-']).map(|n| n.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    });
    version.is_some_and(|version| version >= (1, 7))
}
