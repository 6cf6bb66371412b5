//! The command line: one file per group of subcommands, all of them thin.
//!
//! A command reads its input, asks the store or starts the daemon, and prints. Bad input is one
//! line on stderr that says what is wrong, where, and what to do; exit 2. Failures exit 1. What works, and
//! somebody should look at, exits 3.

mod acts;
mod book;
mod chain;
mod check;
mod check_database;
mod clock;
mod conversions;
mod correct;
mod csv;
mod db;
mod demo;
mod demo_end;
mod demo_market;
mod demo_screen;
mod demo_setup;
mod deposits;
mod devnet;
mod dialect;
mod epochs;
mod findings;
mod holds;
mod import;
mod ledger;
mod log;
mod log_health;
mod log_verify;
mod preview;
mod prices;
mod prices_now;
mod proposals;
mod prove;
mod purchase;
mod records;
mod resolve;
mod resume;
mod run;
mod screened;
mod status;
mod treasury;
mod trigger;

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::clock::{Clock, SystemClock};
use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::daemon::StartError;
use crate::domain::ids::{ChainId, NamespaceName, Network};
use crate::domain::pricing::Token;
use crate::output::{self, hide};
use crate::service::ServiceError;
use crate::store::{Again, Store, StoreError, seen_beside};
use crate::tasks::ChainRules;
use crate::telemetry::{self, LogFormat};
use crate::view::At;

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
    Namespace(book::NamespaceCommand),
    /// Deposit addresses.
    #[command(subcommand)]
    Address(book::AddressCommand),
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

/// It works, and somebody should look: exit 3.
const LOOK: u8 = 3;

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

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// How the answer is printed. csv has a row for each entry of a list, and one for everything else.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// What an answer is printed as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: docs/json.md.
    Json,
    /// For spreadsheets: the same names as in JSON.
    Csv,
}

impl Output {
    /// True for programs, false for people.
    fn is_data(self) -> bool {
        self.json || self.output != Format::Text
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The person must change something: exit 2.
    #[error("{0}")]
    BadInput(String),
    /// Something failed: exit 1.
    #[error("{0}")]
    Failed(String),
    /// Not done, because what is stored is damaged: exit 3.
    #[error("{0}")]
    Look(String),
}

impl CliError {
    /// 2 for bad input, 1 for failure, 3 for what somebody should look at.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::BadInput(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Look(_) => ExitCode::from(LOOK),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::BadInput(format!("configuration: {error}"))
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        if error.is_bad_input() { Self::BadInput(text) } else { Self::Failed(text) }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(why) => Self::Look(why),
            StoreError::WentBack(_) => Self::Look(error.to_string()),
            error => StartError::Store(error).into(),
        }
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused { why, .. } => Self::BadInput(why),
            ServiceError::Unavailable { why, .. } => Self::Failed(why),
            ServiceError::Store(error) => error.into(),
        }
    }
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// [`CliError`], to be printed on one line.
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
            Command::Namespace(command) => block_on(book::namespace(load()?, command)),
            Command::Address(command) => block_on(book::address(load()?, command)),
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
/// undoes nothing; a daemon says it.
async fn keep_seen(store: &Store) {
    if store.has_written() && store.compare_now().await.is_ok() {
        drop(store.keep_seen().await);
    }
}

/// What a command opened.
static OPENED: OnceLock<Store> = OnceLock::new();

/// The store of a configuration that is there already. It is closed when the command is done.
async fn open(config: &Config) -> Result<Store, CliError> {
    Ok(opened(config).await?)
}

/// The same, with why it cannot be had. Whoever asks first opens it, and everybody gets that one.
async fn opened(config: &Config) -> Result<Store, StoreError> {
    if let Some(store) = OPENED.get() {
        return Ok(store.clone());
    }
    let store = Store::open_existing(&config.database, config.network).await?;
    recall(&store, config).await?;
    Ok(OPENED.get_or_init(|| store).clone())
}

/// What daemons have seen of the database, where this user may know it.
async fn recall(store: &Store, config: &Config) -> Result<(), StoreError> {
    let Some(key_file) = &config.log.key_file else { return Ok(()) };
    match std::fs::File::open(seen_beside(key_file)) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
        _ => store.recall(key_file).await,
    }
}

/// The time that the configuration's database goes by. On a testnet it may have been moved; where there is no
/// database yet, and on mainnet, it is this machine's.
async fn clock_of(config: &Config) -> Result<Arc<dyn Clock>, CliError> {
    if config.network == Network::Mainnet {
        return Ok(Arc::new(SystemClock));
    }
    match opened(config).await {
        Ok(store) => Ok(store.clock()),
        Err(StoreError::NoDatabase { .. } | StoreError::NoTables { .. }) => {
            Ok(Arc::new(SystemClock))
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints a whole answer. A reader that went away (`| head`) is not an error.
fn print(text: &str) -> Result<ExitCode, CliError> {
    output::answer(text).map_err(|e| {
        CliError::Failed(format!(
            "cannot print: {e}. The command itself was done before: whatever it changes is changed"
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints an answer for programs, in the one dialect.
fn print_data(output: Output, value: serde_json::Value) -> Result<ExitCode, CliError> {
    print_view(output, &dialect::dialect(value))
}

/// Prints a view, which is in the dialect already, for programs.
fn print_view(output: Output, view: &impl serde::Serialize) -> Result<ExitCode, CliError> {
    let failed = |e: &dyn std::fmt::Display| CliError::Failed(format!("cannot write it: {e}"));
    if output.output == Format::Csv {
        let value = serde_json::to_value(view).map_err(|e| failed(&e))?;
        return print(&csv::csv(&value).map_err(|e| failed(&e))?);
    }
    print(&serde_json::to_string_pretty(view).map_err(|e| failed(&e))?)
}

/// Done, and whether somebody should look.
fn look_if(somebody_should: bool) -> ExitCode {
    if somebody_should { ExitCode::from(LOOK) } else { ExitCode::SUCCESS }
}

/// Cuts a list, of which one more than the limit was asked for; true, and said, when it is longer.
fn cut<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_longer = rows.len() > limit;
    rows.truncate(limit);
    if is_longer {
        output::note(&format!("there are more than these {limit}: --limit N shows more"));
    }
    is_longer
}

/// A namespace that is to be listed by must be there.
async fn known_namespace(store: &Store, name: Option<&NamespaceName>) -> Result<(), CliError> {
    match name {
        Some(name) if !store.has_namespace(name).await? => Err(CliError::BadInput(format!(
            "no namespace is called {name}; topupd namespace list shows them"
        ))),
        _ => Ok(()),
    }
}

/// The name of a chain in the configuration; none where it is not there any more.
fn chain_name(config: &Config, chain: ChainId) -> Option<&str> {
    rules_of(config, chain).map(|rules| rules.name.as_str())
}

/// The configured chain of this id, if there is one.
fn rules_of(config: &Config, chain: ChainId) -> Option<&ChainRules> {
    config.chains.iter().map(|c| &c.rules).find(|rules| rules.id == chain)
}

/// An instant as RFC 3339 in UTC.
fn time(ms: i64) -> String {
    At(ms).to_string()
}

/// The configured token at an address of a chain, if there is one.
fn token_at(config: &Config, chain: u64, address: Address) -> Option<&Token> {
    rules_of(config, ChainId(chain))?.token(&address)
}

/// Columns, each as wide as its widest cell, two spaces apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        // What somebody else said must not look like a row of ours.
        text.push_str(&line.join("  ").trim_end().replace('\n', "\\u000a"));
        text.push('\n');
    }
    text
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
