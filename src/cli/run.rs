//! `run`: the daemon in the foreground, until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use super::CliError;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::Daemon;

pub(super) async fn run(config: Config) -> Result<ExitCode, CliError> {
    let mut signals = Signals::new()?;
    // Starting asks the live chains; a signal must be heard meanwhile.
    let mut daemon = tokio::select! {
        daemon = Daemon::start(&config, Arc::new(SystemClock)) => daemon?,
        () = signals.any() => return Ok(ExitCode::SUCCESS),
    };
    for chain in &config.chains {
        tracing::info!(chain.name = chain.rules.name, chain.id = %chain.rules.id,
            network = %config.network, "watching");
    }
    tokio::select! {
        () = signals.any() => {
            tracing::info!("stopping");
            daemon.shutdown().await;
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        () = daemon.failed() => {
            daemon.shutdown().await;
            Err(CliError::Failed("a task ended unexpectedly; see the log".into()))
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    /// The terminal was closed.
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
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
            let (terminate, hang_up) =
                (listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
            Ok(Self { terminate, hang_up })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    pub(super) async fn any(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
