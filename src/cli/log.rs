//! `log`: the log of all records, its key, its checkpoints, and proofs for whoever does not trust them.

pub(in crate::cli) mod health;
pub(in crate::cli) mod verify;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::chance::{Chance, SystemChance};
use crate::cli::error::CliError;
use crate::cli::ledger::records::place_of;
use crate::cli::log::health::{LogLine, looks_at_log, said, said_of};
use crate::cli::log::verify::{about_file, expected_text, read_checkpoint};
use crate::cli::open::open;
use crate::cli::print::{Output, look_if, print, print_data};
use crate::config::{Config, ConfigError, read_key};
use crate::domain::log::checkpoint::Published;
use crate::domain::log::key::{KeyName, PrivateKey};
use crate::output::note;
use crate::store::{LogResume, LogSigner, ProvedConsistency, StoreError};

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// How long the log is, what waits for a place in it, and why it does not go on, if so.
    Status(Output),
    /// Make a key that signs the log. It can move nothing. Prints its public half.
    #[command(
        after_help = "Example:\n  topupd log keygen --out /etc/topupd/log.key --name log.example.com/topupd\nThen [log] key_file = \"/etc/topupd/log.key\"; the daemon registers it. Keep a copy of the file in a safe place."
    )]
    Keygen {
        /// A file that is not there yet; only its owner will read it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The log's name, by custom an address without https://.
        #[arg(long, value_name = "ORIGIN")]
        name: String,
    },
    /// Print the log's public key, as it is registered: for whoever verifies.
    Key,
    /// Print the signed checkpoint of the log as it is now: keep one a day elsewhere.
    #[command(
        after_help = "Example, a line of crontab that keeps one a day:\n  5 0 * * * topupd log checkpoint > new && ssh archive 'cat > topupd-$(date +\\%F).checkpoint' < new\nA pipe would lose the exit status: nothing is sent when something is to be looked at.\nLater: topupd ledger verify --expect topupd-2026-11-27.checkpoint"
    )]
    Checkpoint,
    /// Print the proof that the log has a record, as C2SP tlog-proof has it.
    Prove {
        /// Its id, JOURNAL/NUMBER, or the id of a credited deposit.
        #[arg(value_name = "RECORD")]
        record: String,
    },
    /// Print the proof that the log of one size is the beginning of that of another.
    #[command(
        after_help = "A and B are sizes, or files with checkpoints. What is printed is what C2SP tlog-witness sends: old A, the hashes, a blank line, the checkpoint of B."
    )]
    Consistency {
        /// The smaller one.
        #[arg(value_name = "A")]
        old: String,
        /// The larger one; without it, the log as it is now.
        #[arg(value_name = "B")]
        new: Option<String>,
    },
    /// Replace the log's key by another one of the same name.
    #[command(
        after_help = "The configuration names the old key; afterwards let it name the new one, and restart the daemons.\nExample:\n  topupd log keygen --out new.key --name log.example.com/topupd\n  topupd log rotate --to new.key --operator alice"
    )]
    Rotate {
        /// The new key's file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Who does it.
        #[arg(long)]
        operator: String,
    },
    /// Let a paused log go on under a new name: a backup was restored, or this is a copy.
    #[command(
        after_help = "What was signed under the name before stays signed, and is named in the record that this writes. Only one database may go on: stop what runs on any other copy first.\nExample:\n  topupd log resume --restored --operator alice --reason \"disk lost, backup of 2026-11-26\""
    )]
    Resume {
        /// Yes: what this database was missing is lost, or is another copy's.
        #[arg(long, required = true)]
        restored: bool,
        /// Who decides.
        #[arg(long)]
        operator: String,
        /// Why.
        #[arg(long)]
        reason: String,
        /// The newest checkpoint that is known from elsewhere.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
    },
}

pub(super) async fn log(
    config: impl FnOnce() -> Result<Config, ConfigError>,
    command: LogCommand,
) -> Result<ExitCode, CliError> {
    let config = match command {
        LogCommand::Keygen { out, name } => return keygen(&out, &name),
        _ => config()?,
    };
    match command {
        LogCommand::Keygen { .. } => Ok(ExitCode::SUCCESS),
        LogCommand::Status(output) => status(&config, output).await,
        LogCommand::Key => match open(&config).await?.log_state().await?.key {
            Some(key) => print(&key.to_string()),
            None => Err(CliError::BadInput(
                "the log has no key: topupd log keygen makes one, and the daemon registers it"
                    .into(),
            )),
        },
        LogCommand::Checkpoint => checkpoint(&config).await,
        LogCommand::Prove { record } => {
            let store = open(&config).await?;
            let place = place_of(&store, &record).await?;
            let looks = looks_at_log(&store, &config).await?;
            let proved = store.prove_record(place).await?;
            print(&proved.file.to_string())?;
            Ok(said_of(&looks, &proved.file.checkpoint))
        }
        LogCommand::Consistency { old, new } => consistency(&config, &old, new.as_deref()).await,
        LogCommand::Rotate { to, operator } => rotate(&config, &to, &operator).await,
        LogCommand::Resume { operator, reason, checkpoint, .. } => {
            resume(&config, operator, reason, checkpoint.as_deref()).await
        }
    }
}

fn keygen(out: &Path, name: &str) -> Result<ExitCode, CliError> {
    print(&new_key(out, name)?.public().to_string())
}

/// Makes a key of the log with this name, in a file that is not there yet.
pub(super) fn new_key(out: &Path, name: &str) -> Result<PrivateKey, CliError> {
    let name: KeyName =
        name.parse().map_err(|e| CliError::BadInput(format!("--name {name}: {e}")))?;
    let seed = SystemChance
        .draw()
        .ok_or_else(|| CliError::Failed("the operating system gives no random bytes".to_owned()))?;
    let key = PrivateKey::from_seed(name, seed).map_err(|e| CliError::Failed(e.to_string()))?;
    let shown = out.display();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(out).and_then(|mut file| {
        file.write_all(format!("{}\n", key.to_secret_text()).as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| CliError::BadInput(format!("--out {shown} cannot be written: {e}")))?;
    Ok(key)
}

async fn status(config: &Config, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let line = LogLine::read(&store, config).await?;
    if output.is_data() {
        let mut json = line.json();
        if let Some(fields) = json.as_object_mut() {
            fields.insert("look_at".to_owned(), json!(line.looks()));
        }
        print_data(output, json)?;
        return Ok(look_if(!line.looks().is_empty()));
    }
    print(&format!("log:  {}", line.text()))?;
    if let Some(key) = line.key() {
        print(&format!("key:  {key}"))?;
    }
    if let Some(holder) = line.holder() {
        print(&format!("by:   {holder}"))?;
    }
    Ok(said(line.looks()))
}

async fn checkpoint(config: &Config) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let looks = looks_at_log(&store, config).await?;
    match store.log_checkpoint().await {
        Ok(published) => {
            print(published.to_string().trim_end())?;
            Ok(said_of(&looks, &published))
        }
        // What is damaged is not handed out, and the reason is among them.
        Err(StoreError::Refused(_)) if !looks.is_empty() => Ok(said(&looks)),
        Err(error) => Err(error.into()),
    }
}

async fn consistency(config: &Config, old: &str, new: Option<&str>) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let looks = looks_at_log(&store, config).await?;
    let (old, known) = size_or_file(old)?;
    let new = new.map(size_or_file).transpose()?;
    let size = new.as_ref().map(|(size, _)| *size);
    // A file is what `ledger verify --expect` takes for a beginning of this log, or there is nothing to prove.
    for file in [known, new.and_then(|(_, file)| file)].iter().flatten() {
        let why = match store.expect_checkpoint(file).await? {
            Err(why) => why,
            Ok(expected) if expected.beyond > 0 => expected_text(&expected),
            Ok(_) => continue,
        };
        note(&format!("there is no proof: {why}"));
        said(&looks);
        return Ok(look_if(true));
    }
    let ProvedConsistency { old: head, new: published, path } =
        store.prove_consistency(old, size).await?;
    let hashes: String =
        path.iter().map(|hash| format!("{}\n", crate::domain::log::base64(&hash.0))).collect();
    print(format!("old {}\n{hashes}\n{published}", head.size).trim_end())?;
    Ok(said(&looks))
}

/// A number, or a file with a checkpoint.
fn size_or_file(text: &str) -> Result<(u64, Option<Published>), CliError> {
    if let Ok(size) = text.parse() {
        return Ok((size, None));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let why = format!("{text} is no size of a log: it is larger than any can be");
        return Err(CliError::BadInput(why));
    }
    let published = read_checkpoint(Path::new(text))?;
    Ok((published.claimed().head.size, Some(published)))
}

async fn rotate(config: &Config, to: &Path, operator: &str) -> Result<ExitCode, CliError> {
    let Some(old) = config.log.signer()? else {
        let why = "log.key_file names no key: only who has the log's key can replace it";
        return Err(CliError::BadInput(why.into()));
    };
    let key = read_key(to).map_err(|why| CliError::BadInput(format!("--to: {why}")))?;
    let new = LogSigner::new(key, to.to_owned());
    let store = open(config).await?;
    let registered = store.rotate_log_key(&old, &new, operator).await?;
    store.take_seen_along(old.file(), new.file()).await?;
    print(&format!(
        "registered {registered}\nnow let log.key_file name {}, and restart the daemons: until then none of them adds to the log",
        to.display()
    ))
}

async fn resume(
    config: &Config,
    operator: String,
    reason: String,
    checkpoint: Option<&Path>,
) -> Result<ExitCode, CliError> {
    let signer = config.log.signer()?;
    let known = checkpoint.map(read_checkpoint).transpose()?;
    let store = open(config).await?;
    if let (Some(file), Some(known)) = (checkpoint, &known) {
        store
            .known_checkpoint(known)
            .await
            .map_err(|error| about_file("--checkpoint", file, error))?;
    }
    // Who says that it was put back is believed: what is missing is noted first, as a daemon would.
    if let Err(StoreError::WentBack(_)) = store.compare_now().await {
        store.look_at_server("log resume", store.clock().now_ms()).await?;
        note(
            "the database went back: see topupd findings; until it is explained no address is derived",
        );
    }
    let log = store.resume_log(signer.as_ref(), &LogResume { operator, reason, known }).await?;
    let key = log.key.as_ref();
    let key =
        key.map_or_else(String::new, |key| format!("\nits key is {key}: tell whoever verifies"));
    print(&format!("the log goes on as {}, from {} records{key}", log.origin, log.head.size))
}
