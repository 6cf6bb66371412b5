//! `run`: the daemon in the foreground, until it is told to stop.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::error::CliError;
use crate::clock::SystemClock;
use crate::config::{Config, Warning, daemon_name};
use crate::daemon::Daemon;
use crate::daemon::parts::Start;
use crate::domain::oracle::policy::pair::PairPolicy;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let (mut signals, mut others) = (Signals::of_a_service()?, Ignored::new()?);
    if let Some(name) = args.name {
        config.daemon.name = Some(daemon_name(name, "--name")?);
    }
    let start = Start { holder: holder(&config), tasks: !args.no_tasks, create: args.create };
    let name = start.holder.clone();
    // Starting asks the live chains; a signal must be heard meanwhile.
    let mut daemon = tokio::select! {
        daemon = Daemon::start(&config, Arc::new(SystemClock), start) => daemon?,
        () = signals.any() => return Ok(ExitCode::SUCCESS),
        never = others.say() => match never {},
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
        never = others.say() => match never {},
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

#[cfg(unix)]
fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|e| CliError::Failed(format!("cannot listen for signals: {e}")))
}

/// From now on a file that may not grow is an error of the write, as a full disk is: the system also sends SIGXFSZ,
/// which ends a program that does not listen to it.
pub(super) fn outlive_file_limits() -> Result<(), CliError> {
    #[cfg(unix)]
    drop(listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    Ok(())
}

/// What ends the program: SIGTERM, SIGINT and SIGQUIT, and SIGHUP where it lives in a terminal.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    quit: Signal,
    /// The terminal was closed. Not listened to under `nohup`.
    #[cfg(unix)]
    hang_up: Option<Signal>,
}

impl Signals {
    /// Of a program that ends with its terminal.
    pub(super) fn new() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            let hang_up =
                if hang_up_is_ignored() { None } else { Some(listen(SignalKind::hangup())?) };
            Ok(Self { hang_up, ..Self::of_a_service()? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Of a program that has none, or outlives it.
    pub(super) fn of_a_service() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            Ok(Self {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
                quit: listen(SignalKind::quit())?,
                hang_up: None,
            })
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
            _ = self.quit.recv() => {}
            _ = hung_up => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// What others send to a service, and what would end it if it were not listened to: SIGHUP, SIGUSR1 and SIGUSR2 from
/// whoever rotates logs or asks for a reload.
struct Ignored {
    #[cfg(unix)]
    asked: [(&'static str, Signal); 3],
}

impl Ignored {
    fn new() -> Result<Self, CliError> {
        #[cfg(unix)]
        {
            Ok(Self {
                asked: [
                    ("SIGHUP", listen(SignalKind::hangup())?),
                    ("SIGUSR1", listen(SignalKind::user_defined1())?),
                    ("SIGUSR2", listen(SignalKind::user_defined2())?),
                ],
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Says each of them, for ever.
    async fn say(&mut self) -> Infallible {
        #[cfg(unix)]
        loop {
            let [(hup, a), (usr1, b), (usr2, c)] = &mut self.asked;
            let name = tokio::select! {
                _ = a.recv() => hup,
                _ = b.recv() => usr1,
                _ = c.recv() => usr2,
            };
            tracing::info!(
                why = name,
                "a signal that changes nothing: the log goes to stderr, and there is no file to open again; another configuration is for the next start"
            );
        }
        #[cfg(not(unix))]
        std::future::pending().await
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
