//! `run`: the daemon in the foreground, until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::CliError;
use crate::clock::SystemClock;
use crate::config::{Config, Warning, daemon_name};
use crate::daemon::{Daemon, Start};
use crate::domain::oracle::policy::PairPolicy;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Name of this daemon in `topupd status` and in logs; without one, daemon.name, or that of
    /// the machine.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only answer questions: follow no chain and take no lease.
    #[arg(long)]
    no_tasks: bool,
    /// Begin a new database in a file that is there and has no tables. Where there is no file, that is
    /// done without it.
    #[arg(long)]
    create: bool,
}

pub(super) async fn run(mut config: Config, args: RunArgs) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    if let Some(name) = args.name {
        config.daemon.name = Some(daemon_name(name, "--name")?);
    }
    let start = Start { holder: holder(&config), tasks: !args.no_tasks, create: args.create };
    let name = start.holder.clone();
    // Starting asks the live chains; a signal must be heard meanwhile.
    let mut daemon = tokio::select! {
        daemon = Daemon::start(&config, Arc::new(SystemClock), start) => daemon?,
        () = signals.any() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(daemon = name, database = %config.database.url, network = %config.network,
        "started");
    if args.no_tasks {
        tracing::info!("no tasks: other daemons follow the chains");
    } else {
        for warning in config.oracle.oracle.pairs().flat_map(PairPolicy::warnings) {
            tracing::warn!(why = warning, "a price rests on little");
        }
        for Warning { key, text } in config.warnings() {
            tracing::warn!(
                why = format!("{key}: {text}"),
                "the configuration is perhaps not meant"
            );
        }
        for chain in &config.chains {
            tracing::info!(chain.name = chain.rules.name, chain.id = %chain.rules.id,
                network = %config.network, "configured");
        }
    }
    let is_told = tokio::select! {
        () = signals.any() => true,
        () = daemon.failed() => false,
    };
    tracing::info!("stopping");
    if let Some(lost) = daemon.shutdown().await {
        return Err(CliError::Failed(lost));
    }
    if !is_told {
        return Err(CliError::Failed("a task ended unexpectedly; see the log".into()));
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The daemon's name with a random end, so that it is unique to this process: two machines may
/// have one name, and a process that is started again is another holder of leases.
pub(super) fn holder(config: &Config) -> String {
    let name = config.daemon.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().to_owned();
        if host.is_empty() { "topupd".to_owned() } else { host }
    });
    format!("{name}-{:08x}", fastrand::u32(..))
}

/// SIGTERM, SIGINT and SIGHUP.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// The terminal was closed. Not listened to under `nohup`.
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    pub(super) fn new() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let listen = |kind| {
                signal(kind)
                    .map_err(|e| CliError::Failed(format!("cannot listen for signals: {e}")))
            };
            let interrupt = listen(SignalKind::interrupt())?;
            let terminate = listen(SignalKind::terminate())?;
            let hang_up =
                if hang_up_is_ignored() { None } else { Some(listen(SignalKind::hangup())?) };
            Ok(Self { interrupt, terminate, hang_up })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    pub(super) async fn any(&mut self) {
        #[cfg(unix)]
        let hung_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = hung_up => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// `nohup` starts a program so: it is to outlive its terminal.
#[cfg(unix)]
fn hang_up_is_ignored() -> bool {
    const SIGHUP_BIT: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & SIGHUP_BIT != 0)
}
