//! `migrate` and `db copy`: the database as a whole.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::error::CliError;
use crate::cli::open::recall;
use crate::cli::print::{look_if, print};
use crate::config::{Config, ConfigError};
use crate::domain::ids::Network;
use crate::domain::money::display_total;
use crate::output::note;
use crate::store::{
    Begin, Database, DatabaseUrl, Snapshot, Store, StoreError, Verified, VerifiedLog,
};

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Change nothing; exit 1 when there are no tables yet.
    #[arg(long)]
    check: bool,
    /// Begin a new database in a file that is there and has no tables. Where there is no file, that is
    /// done without it.
    #[arg(long, conflicts_with = "check")]
    create: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbCommand {
    /// Copy a stopped installation into a new database, of the same engine or the other one.
    #[command(
        after_help = "A URL without a password takes it from PGPASSWORD or ~/.pgpass.\nExample:\n  topupd db copy --from sqlite:topupd.db --to postgres://topupd@db.example/topupd"
    )]
    Copy {
        /// Where it is: sqlite:PATH or postgres://…
        #[arg(long, value_name = "URL")]
        from: String,
        /// Where it goes: a database that exists (PostgreSQL) or not (SQLite), and holds nothing.
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Copy what a running installation holds at this moment into a new database, and verify it.
    #[command(
        after_help = "Example:\n  topupd db backup --to sqlite:topupd-2026-11-22.db\nTo restore, point database.url at the backup, or `db copy` it into a new database."
    )]
    Backup {
        /// Where it goes: sqlite:PATH of a new file, or postgres://… of an empty database.
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Say that the configured database is an older copy: put back from a snapshot of a disk, a copied file or
    /// folder. A restored `db backup`, a loaded dump and a failover show it by themselves.
    #[command(
        after_help = "No address is derived until the finding that this opens is explained: what was given out since is to be registered again first.\nExample:\n  topupd db restored"
    )]
    Restored,
}

pub(super) async fn migrate(config: Config, args: MigrateArgs) -> Result<ExitCode, CliError> {
    if args.check {
        let store = match Store::open_existing(&config.database, config.network).await {
            Ok(store) => store,
            Err(error @ StoreError::NoTables { .. }) => {
                return Err(CliError::Failed(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let missing = store.missing_of_schema().await?;
        store.close().await;
        print(&format!("{}: the schema is current", config.database.url))?;
        if let Some(missing) = missing_text(&missing) {
            note(&missing);
        }
        return Ok(look_if(!missing.is_empty()));
    }
    let begin = if args.create { Begin::Anywhere } else { Begin::New };
    let store = Store::connect(&config.database, config.network, begin).await?;
    let created = store.prepare(store.clock().now_ms()).await?;
    store.close().await;
    let said = match created {
        _ if store.is_new() => "there was no database: created a new one",
        true => "created its tables",
        false => "the schema is current; nothing was changed",
    };
    print(&format!("{}: {said}", config.database.url))
}

/// What of the schema is missing, in a sentence.
pub(super) fn missing_text(missing: &[String]) -> Option<String> {
    let named = missing.join(", ");
    (!missing.is_empty()).then(|| {
        format!(
            "{} of the schema's tables, indexes and triggers are missing or switched off: {named}. Without them rows that are written for ever can be changed, and what must be there once can be there twice: somebody took them away. topupd db copy makes a database that has them all",
            missing.len()
        )
    })
}

pub(super) async fn db(
    config: impl FnOnce() -> Result<Config, ConfigError>,
    command: DbCommand,
) -> Result<ExitCode, CliError> {
    let (from, to, what) = match command {
        DbCommand::Copy { from, to } => {
            (url("--from", &from)?.into(), url("--to", &to)?, Snapshot::Stopped)
        }
        DbCommand::Backup { to } => (config()?.database, url("--to", &to)?, Snapshot::Running),
        DbCommand::Restored => return restored(&config()?).await,
    };
    if is_same(&from.url, &to) {
        return Err(CliError::BadInput("both are the same database".into()));
    }
    copy(&from, &Database::from(to), what).await
}

/// Opens a finding, as what notices by itself that the database went back does.
async fn restored(config: &Config) -> Result<ExitCode, CliError> {
    let store = Store::open_restored(&config.database, config.network).await?;
    recall(&store, config).await?;
    store.note_restored(store.clock().now_ms()).await?;
    drop(store.keep_seen().await);
    store.close().await;
    print(
        "noted: see topupd findings. Register again what was given out since, then explain it; until then no address is derived",
    )
}

/// Files are the same when their real names are.
fn is_same(from: &DatabaseUrl, to: &DatabaseUrl) -> bool {
    match (from, to) {
        (DatabaseUrl::Sqlite(from), DatabaseUrl::Sqlite(to)) => {
            from == to || from.canonicalize().is_ok_and(|from| to.canonicalize().ok() == Some(from))
        }
        _ => from == to,
    }
}

/// Parsed here and not by clap, which repeats what it refuses, password and all.
fn url(option: &str, text: &str) -> Result<DatabaseUrl, CliError> {
    text.parse().map_err(|e| CliError::BadInput(format!("{option}: {e}")))
}

async fn copy(from: &Database, to: &Database, what: Snapshot) -> Result<ExitCode, CliError> {
    let source = open_as_stamped(from).await?;
    let target = Store::connect(to, source.network(), Begin::Anywhere).await?;
    let done = copied(&source, &target, what).await;
    if done.is_err() {
        target.discard().await;
    }
    done
}

async fn copied(source: &Store, target: &Store, what: Snapshot) -> Result<ExitCode, CliError> {
    // No daemon may start on either file meanwhile.
    let _locks = match what {
        Snapshot::Stopped if !source.stands_still() => {
            (source.lock_for_daemon()?, target.lock_for_daemon()?)
        }
        _ => (None, target.lock_for_daemon()?),
    };
    if target.is_open_to_others() {
        note(&format!(
            "other users of this machine can read or write {}; to protect it, chmod 600, which new ones have",
            target.shown()
        ));
    }
    print(&format!("checking the ledger of {} …", source.shown()))?;
    let (before, log_before) = verified(source).await?;
    target.migrate().await?;
    let (mut table, mut printed, bar) = ("", "", bar());
    source
        .copy_to(target, what, |name, done, all| {
            if name != table {
                table = name;
                bar.set_length(all.unsigned_abs());
                bar.set_message(name);
            }
            bar.set_position(done.unsigned_abs());
            if done == all && printed != name {
                printed = name;
                // The copy goes on, whoever reads this.
                let _ = bar.suspend(|| print(&format!("{name:<16} {all:>10} rows")));
            }
        })
        .await?;
    bar.finish_and_clear();
    print(&format!("checking the ledger of {} …", target.shown()))?;
    let (after, log) = verified(target).await?;
    if what == Snapshot::Stopped && after != before {
        return Err(CliError::Failed(format!(
            "the copy's ledger differs: {} records; the source has {}. Do not use it",
            after.records, before.records
        )));
    }
    if what == Snapshot::Stopped && log != log_before {
        return Err(CliError::Failed(format!(
            "the copy's log differs: {} records, root {}; the source has {}, root {}. Do not use it",
            log.size, log.root, log_before.size, log_before.root
        )));
    }
    source.close().await;
    target.close().await;
    let next = match what {
        Snapshot::Stopped => {
            ": the same in both\nset database.url to the new one before anything else, and start topupd; what is written to the old one from now on is lost"
        }
        Snapshot::Running => "",
    };
    print(&format!(
        "ledger verify: holds; {} credits given, {} records, {} credits in all; {} records in the log{next}",
        after.credits,
        after.records,
        display_total(after.total_nano),
        log.size
    ))
}

/// A database of whatever network it is stamped with, for a command that has no configuration.
async fn open_as_stamped(database: &Database) -> Result<Store, StoreError> {
    match Store::open_existing(database, Network::Mainnet).await {
        Err(StoreError::OtherNetwork { stamped, .. }) => {
            Store::open_existing(database, stamped).await
        }
        opened => opened,
    }
}

async fn verified(store: &Store) -> Result<(Verified, VerifiedLog), CliError> {
    let both = store.verify_all().await?.both();
    both.map_err(|why| CliError::Failed(format!("{}: {why}", store.shown())))
}

/// A bar for people; nothing where no terminal shows it.
fn bar() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{msg:<16} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}
