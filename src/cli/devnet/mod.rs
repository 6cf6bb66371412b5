//! `devnet`: a local chain that does what a file says, with a daemon that credits what is paid on it.
//!
//! For testers and for the tests: each step is real (anvil, transfers, reorganisations, a proxy that lies), and
//! each is said. It knows nothing that a chain and a daemon do not show.

mod scenario;
mod stage;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Subcommand};

use super::run::Signals;
use crate::cli::error::CliError;
use crate::cli::print::print;
use crate::text::read_text;
use scenario::Scenario;
use stage::Stage;

pub(super) use scenario::parse_length;
pub(super) use steps::raw;

/// Longest scenario that is read.
const FILE_MAX: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum DevnetCommand {
    /// Run a scenario: start a chain and a daemon, and do what the file says. Exit 0 when all of it holds.
    #[command(
        after_help = "Examples:\n  topupd devnet run anvil-fixtures/scenarios/first-payment.toml\n  topupd devnet run mine.toml --keep --port 8545      the chain and the daemon stay until Ctrl-C\n  topupd devnet run mine.toml --from saved.json       begin from a chain that a step saved\n\ndocs/scenarios.md says what can stand in a file."
    )]
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The scenario, in TOML.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Stay until Ctrl-C when it is done, to look around.
    #[arg(long)]
    keep: bool,
    /// Where the configuration and the database go; otherwise a folder that is removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A database: postgres for a throwaway server, or a URL; otherwise SQLite in the folder.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Decides who pays; otherwise the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// The node's port; otherwise the file's, or any. Its proxies take those after it.
    #[arg(long)]
    port: Option<u16>,
    /// Begin from the state that a step saved in this file.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(super) async fn devnet(command: DevnetCommand) -> Result<ExitCode, CliError> {
    let DevnetCommand::Run(args) = command;
    let shown = args.file.display();
    let text = read_text(&args.file, FILE_MAX)
        .map_err(|e| CliError::BadInput(format!("{shown} cannot be read: {e}")))?;
    let mut scenario =
        Scenario::parse(&text).map_err(|e| CliError::BadInput(format!("{shown}: {e}")))?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.chain.port = args.port.unwrap_or(scenario.chain.port);
    if let Some(state) = scenario.chain.state.take() {
        // What a file names lies beside it.
        let beside = args.file.parent().unwrap_or(Path::new(""));
        scenario.chain.state = Some(beside.join(state));
    }
    scenario.chain.state = args.from.clone().or(scenario.chain.state);
    let mut signals = Signals::new()?;
    tokio::select! {
        done = run(scenario, &args) => done,
        () = signals.any() => match args.keep {
            true => Ok(ExitCode::SUCCESS),
            false => Err(CliError::Failed("stopped before it was done".into())),
        },
    }
}

async fn run(scenario: Scenario, args: &RunArgs) -> Result<ExitCode, CliError> {
    print(&format!("{}\nstarting a local chain and a daemon …", scenario.name))?;
    let of = scenario.steps.len();
    let mut stage = Stage::start(&scenario, args.dir.as_deref(), args.database.as_deref()).await?;
    print(&stage.described())?;
    for (n, step) in scenario.steps.iter().enumerate() {
        let began = Instant::now();
        let at = format!("{:>3}/{of}  {}", n.saturating_add(1), step.words());
        match stage.perform(step).await {
            Ok(()) => {
                print(&format!("{at}  ok, {} ms", began.elapsed().as_millis()))?;
            }
            Err(why) => {
                print(&format!("{at}  FAILED\n        {why}"))?;
                stage.stop().await;
                let why = format!("step {} of {} does not hold", n.saturating_add(1), of);
                return Err(CliError::Failed(format!("{}: {why}", args.file.display())));
            }
        }
    }
    let verified = stage.verify().await?;
    print(&format!("all {of} steps hold; {verified}"))?;
    if args.keep {
        print(&stage.look_around())?;
        std::future::pending::<()>().await;
    }
    stage.stop().await;
    Ok(ExitCode::SUCCESS)
}
