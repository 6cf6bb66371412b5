//! `clock`: what time it is for a testnet's database, its daemons and local chains, and moving it ahead.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::devnet::parse_length;
use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::{Output, print, print_view};
use crate::cli::words::table;
use crate::config::Config;
use crate::output::note;
use crate::service::clock::{advance, show};
use crate::view::clock::Clock;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ClockArgs {
    #[command(subcommand)]
    command: Option<ClockCommand>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClockCommand {
    /// What time it is, how far it was moved, and where each chain is.
    Show(Output),
    /// Move the time ahead: of the database, of all daemons on it, and of its local chains. Testnets only;
    /// there is no way back.
    #[command(
        after_help = "Examples:\n  topupd clock advance 2d\n  topupd clock advance 1h30m\n  topupd clock advance 0s      only has the chains follow, after it was broken off"
    )]
    Advance {
        /// How far: 90s, 15m, 36h, 2d, 4w; a day has 24 hours.
        #[arg(value_name = "LENGTH", value_parser = parse_length, allow_hyphen_values = true)]
        by: Duration,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn clock(config: Config, args: ClockArgs) -> Result<ExitCode, CliError> {
    let store = open(&config).await?;
    match args.command.unwrap_or(ClockCommand::Show(args.output)) {
        ClockCommand::Show(output) => shown(&show(&store, &config).await?, output),
        ClockCommand::Advance { by, output } => {
            shown(&advance(&store, &config, by, note).await?, output)
        }
    }
}

fn shown(clock: &Clock, output: Output) -> Result<ExitCode, CliError> {
    if output.is_data() {
        return print_view(output, clock);
    }
    let ahead = match clock.ahead_seconds {
        0 => "the clock of the database, not moved".to_owned(),
        s => format!("{:#} ahead of the clock of the database", jiff::SignedDuration::from_secs(s)),
    };
    let mut rows =
        vec![vec!["chain".to_owned(), "provider".into(), "latest block".into(), "client".into()]];
    rows.extend(clock.chains.iter().map(|chain| {
        let latest = chain.latest_block_at.map_or_else(|| "?".to_owned(), |at| at.to_string());
        vec![chain.name.clone(), chain.provider.clone(), latest, chain.client.clone()]
    }));
    print(&format!("it is {}: {ahead}\n\n{}", clock.time, table(&rows)))
}
