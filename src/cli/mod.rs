//! The command line: one file per group of subcommands, all of them thin.
//!
//! A command reads its input, asks the store or starts the daemon, and prints. Bad input is one
//! line on stderr that says what is wrong, where, and what to do; exit 2. Failures exit 1. What works, and
//! somebody should look at, exits 3.

mod chain;
mod check;
mod clock;
mod conversions;
mod csv;
mod db;
mod demo;
mod deposits;
mod devnet;
mod dialect;
mod epochs;
mod error;
mod findings;
mod holds;
mod ledger;
mod log;
mod open;
mod payment;
mod prices;
mod print;
mod registry;
mod run;
mod screened;
mod status;
mod treasury;
mod trigger;
mod words;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::cli::error::CliError;
use crate::cli::open::OPENED;
use crate::cli::print::Output;
use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::output::{hide, note};
use crate::store::{Again, Store};
use crate::telemetry;
use crate::telemetry::LogFormat;

/// topupd turns USDT, USDC and $RTITY transfers on EVM chains into prepaid credits, exactly once.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub struct Cli {
    /// Configuration file; TOPUPD_DATABASE__URL and the like override its keys.
    #[arg(long, global = true, env = CONFIG_FILE, default_value = "topupd.toml", value_name = "FILE")]
    config: PathBuf,
    /// How logs on stderr look; RUST_LOG chooses what is logged.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or Ctrl-C.
    #[command(
        after_help = "Several daemons may run on one PostgreSQL database: one follows each chain, the others stand by.\nExamples:\n  topupd run --name a\n  topupd run --no-tasks        a replica that only answers questions\nSignals:\n  SIGTERM, SIGINT (Ctrl-C), SIGQUIT   stop, after the step that is under way\n  SIGHUP, SIGUSR1, SIGUSR2            change nothing: the log goes to stderr, and there is no file to open again"
    )]
    Run(run::RunArgs),
    /// What the daemons do: who follows which chain, since when, at which block.
    Status(Output),
    /// Create the database and its tables, as the start of `run` does.
    Migrate(db::MigrateArgs),
    /// The database as a whole.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Print the effective configuration and ask the live chains whether they match it.
    Check,
    /// The time of a testnet: what it is, and moving it ahead together with the local chain.
    Clock(clock::ClockArgs),
    /// A local chain, tokens and payers, with the daemon crediting them before your eyes.
    #[command(
        after_help = "Examples:\n  topupd demo                   until Ctrl-C\n  topupd demo --tge --payments 40   the TGE, market prices, a source that goes away\n  topupd demo --payments 100    ends by itself; exit 0 only if each was credited exactly once\n  topupd demo --payments 100 --keep   the same, and the chain stays until Ctrl-C, to look around\n  topupd demo --database postgres --no-daemon --dir two    for daemons that you start with: topupd run --config two/topupd.toml"
    )]
    Demo(demo::DemoArgs),
    /// A local chain and a daemon that do what a file says, for testers.
    #[command(subcommand)]
    Devnet(devnet::DevnetCommand),
    /// Make a real chain of events on a local chain, such as a payment until it is credited.
    #[command(
        after_help = "Examples, beside `topupd demo --payments 20 --keep --dir demo`:\n  topupd trigger deposit.credited --config demo/topupd.toml\n  topupd trigger deposit.reversed --config demo/topupd.toml --namespace acme --amount 12.5 --token USDT"
    )]
    Trigger(trigger::TriggerArgs),
    /// What was scanned of each chain: from, to, by whom, and who looked again.
    Scans(chain::ScansArgs),
    /// What somebody should look at: providers that contradict each other, credits undone.
    #[command(
        after_help = "Examples:\n  topupd findings               what is open, the newest first\n  topupd findings show 7        what it means, and what each provider said\n  topupd findings explain 7 --operator alice --reason \"the provider restored a backup\""
    )]
    Findings(findings::FindingsArgs),
    /// Read old blocks again. What was missed is credited once; what is known stays as it is.
    #[command(after_help = "Example:\n  topupd rescan --chain base --from 24000000 --to 24010000")]
    Rescan(chain::RescanArgs),
    /// A chain as a whole.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// The billing scopes that own deposit addresses and credits.
    #[command(subcommand)]
    Namespace(registry::NamespaceCommand),
    /// Deposit addresses.
    #[command(subcommand)]
    Address(registry::AddressCommand),
    /// Payments, from the first sighting to the credit.
    #[command(subcommand)]
    Deposits(deposits::DepositsCommand),
    /// Payments that were valued at market prices, and the proof of each.
    #[command(subcommand)]
    Conversions(conversions::ConversionsCommand),
    /// Deposits that wait, and what is decided about them.
    #[command(subcommand)]
    Holds(holds::HoldsCommand),
    /// Pricing rules, and what a payment would give.
    #[command(subcommand)]
    Epochs(epochs::EpochsCommand),
    /// Market prices: what sources say now, what was accepted, and breakers.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// What conversions owe in tokens, and the purchases that settle it.
    #[command(subcommand)]
    Treasury(treasury::TreasuryCommand),
    /// The log of all records: its key, its checkpoints, and proofs.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Balances, records, and the proof that they hold.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed: the database or a provider does not answer, or what is to be copied does not hold
  2  refused: something must be given or configured otherwise; one line on stderr says what
  3  done, and somebody should look: `ledger verify` or `conversions verify` with anything that does not
     hold, `findings` with open ones, `scans` with a gap, `status` when a
     chain is followed by nobody or stands still, or the log does, `log checkpoint` of a paused log, a proof from a log
     that is damaged, `check` with another account key than the one in use,
     `conversions verify --online` when nobody can be asked about some of the answers

Try it without configuring anything:
  topupd demo --payments 20";

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What is wrong, to be printed on one line.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let quiet = match self.command {
            Command::Run(_) => "warn,topupd=info", // libraries say more than an operator needs
            _ => "error,topupd=warn",
        };
        let demo = matches!(self.command, Command::Demo(_) | Command::Devnet(_));
        telemetry::init(self.log_format, if demo { "off" } else { quiet });
        let load = || load(&self.config);
        match self.command {
            Command::Run(args) => block_on(run::run(load()?, args)),
            Command::Status(output) => block_on(status::status(load()?, output)),
            Command::Migrate(args) => block_on(db::migrate(load()?, args)),
            Command::Db(command) => block_on(db::db(load, command)),

            Command::Clock(args) => block_on(clock::clock(load()?, args)),
            Command::Check => block_on(check::check(load()?)),
            Command::Scans(args) => block_on(chain::scans(load()?, args)),
            Command::Findings(args) => block_on(findings::findings(load()?, args)),
            Command::Rescan(args) => block_on(chain::rescan(load()?, args)),
            Command::Chain(command) => block_on(chain::chain(load()?, command)),
            Command::Demo(args) => block_on(demo::demo(args)),
            Command::Devnet(command) => block_on(devnet::devnet(command)),
            Command::Trigger(args) => block_on(trigger::trigger(load()?, args)),
            Command::Namespace(command) => block_on(registry::namespace(load()?, command)),
            Command::Address(command) => block_on(registry::address(load()?, command)),
            Command::Deposits(command) => block_on(deposits::deposits(load()?, command)),
            Command::Conversions(command) => block_on(conversions::conversions(load()?, command)),
            Command::Holds(command) => block_on(holds::holds(load()?, command)),
            Command::Epochs(command) => block_on(epochs::epochs(load()?, command)),
            Command::Prices(command) => block_on(prices::prices(load()?, command)),
            Command::Treasury(command) => block_on(treasury::treasury(load()?, command)),
            Command::Log(command) => block_on(log::log(load, command)),
            Command::Ledger(command) => block_on(ledger::ledger(load()?, command)),
        }
    }
}

/// The configuration of a file and the environment. None of its secrets is shown from now on.
fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = |path: &Path| -> Result<Config, ConfigError> {
        let environment = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let config = Config::load(path, environment)?;
        hide(config.secrets());
        Ok(config)
    };
    let mut config = read(path)?;
    let path = path.to_owned();
    config.database.again =
        Some(Again(Arc::new(move || read(&path).ok().map(|config| config.database.url))));
    Ok(config)
}

fn block_on(
    command: impl Future<Output = Result<ExitCode, CliError>>,
) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Failed(format!("cannot start: {e}")))?;
    let done = runtime.block_on(async {
        run::outlive_file_limits()?;
        let done = command.await;
        if let Some(store) = OPENED.get() {
            keep_seen(store).await;
            store.close_file().await;
        }
        done
    });
    // npm may be at work on a thread that nobody waits for any more.
    runtime.shutdown_background();
    done
}

/// Keeps what a command has seen of the database, where it wrote: no daemon may be running. That it cannot be kept
/// undoes nothing, and is said.
async fn keep_seen(store: &Store) {
    if store.has_written()
        && store.compare_now().await.is_ok()
        && let Err(why) = store.keep_seen().await
    {
        note(&why.to_string());
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
