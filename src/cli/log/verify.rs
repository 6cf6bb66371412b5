//! What `ledger verify` says of the log: that it follows from the records, and that a checkpoint kept elsewhere is its
//! beginning.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::log::health::looks_at_log;
use crate::config::Config;
use crate::domain::log::checkpoint::Published;
use crate::domain::log::note::NOTE_BYTES_MAX;
use crate::store::{Expected, Store, StoreError, VerifiedLog};
use crate::text::read_text;

#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// A checkpoint that was kept elsewhere: prove that it is the beginning of this log, also where that went on
    /// under another name since.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// A checkpoint up to which everything was verified before: verify the log from there on. Balances
    /// and credits are not recomputed then.
    #[arg(long, value_name = "FILE", conflicts_with = "expect")]
    since: Option<PathBuf>,
}

/// What holds of the log; what does not, in a sentence.
pub(in crate::cli) struct HeldLog {
    log: Result<VerifiedLog, String>,
    expected: Option<Result<Expected, String>>,
    /// Why somebody should look at it, though it may hold.
    looks: Vec<String>,
}

/// A checkpoint out of a file, not verified.
pub(in crate::cli) fn read_checkpoint(file: &Path) -> Result<Published, CliError> {
    let shown = file.display();
    let text = read_text(file, NOTE_BYTES_MAX.try_into().unwrap_or(u64::MAX))
        .map_err(|e| CliError::BadInput(format!("{shown} cannot be read: {e}")))?;
    text.parse().map_err(|e| CliError::BadInput(format!("{shown}: {e}")))
}

/// What the log refuses of a checkpoint, with the option and the file that gave it.
pub(in crate::cli) fn about_file(option: &str, file: &Path, error: StoreError) -> CliError {
    match error {
        StoreError::Refused(why) => {
            CliError::BadInput(format!("{option} {}: {why}", file.display()))
        }
        error => error.into(),
    }
}

impl LogArgs {
    /// Verifies the log alone, where only what is newer is asked for.
    pub(in crate::cli) async fn only_newer(
        &self,
        store: &Store,
        config: &Config,
    ) -> Result<Option<HeldLog>, CliError> {
        let Some(since) = &self.since else { return Ok(None) };
        let known = read_checkpoint(since)?;
        let log = store.verify_log(Some(&known)).await;
        let log = log.map_err(|error| about_file("--since", since, error))?;
        let looks = looks_at_log(store, config).await?;
        Ok(Some(HeldLog { log, expected: None, looks }))
    }

    /// What was found of the whole log, with the checkpoint that was kept elsewhere.
    pub(in crate::cli) async fn expected_of(
        &self,
        store: &Store,
        config: &Config,
        log: Result<VerifiedLog, String>,
    ) -> Result<HeldLog, CliError> {
        let expected = match &self.expect {
            Some(file) => {
                let found = store.expect_checkpoint(&read_checkpoint(file)?).await?;
                Some(found.map_err(|why| format!("--expect {}: {why}", file.display())))
            }
            None => None,
        };
        let looks = looks_at_log(store, config).await?;
        Ok(HeldLog { log, expected, looks })
    }
}

impl HeldLog {
    /// Whether all of it holds.
    pub(in crate::cli) fn holds(&self) -> bool {
        self.log.is_ok() && self.expected.as_ref().is_none_or(Result::is_ok)
    }

    /// Whether somebody should look: something does not hold, the log does not go on, or the checkpoint has records that
    /// are not in this log.
    pub(in crate::cli) fn look(&self) -> bool {
        let beyond = matches!(&self.expected, Some(Ok(expected)) if expected.beyond > 0);
        !self.holds() || beyond || !self.looks.is_empty()
    }

    pub(in crate::cli) fn text(&self) -> String {
        let not = |what: &String| format!("the log does NOT hold: {what}");
        let mut lines = vec![match &self.log {
            Ok(log) => holds(log),
            Err(what) => not(what),
        }];
        match &self.expected {
            None => {}
            Some(Ok(expected)) => lines.push(expected_text(expected)),
            Some(Err(what)) => {
                lines.push(format!("that checkpoint is NOT the beginning of this log: {what}"));
            }
        }
        lines.extend(self.looks.iter().map(|look| format!("somebody should look: {look}")));
        lines.join("\n")
    }

    pub(in crate::cli) fn json(&self) -> Value {
        let log = match &self.log {
            Err(what) => json!({ "problem": what }),
            Ok(log) => json!({
                "origin": log.origin, "size": log.size, "root_hash": log.root,
                "looked_at_records": log.looked_at, "waiting_records": log.waiting,
                "signed": log.is_signed,
            }),
        };
        let expected = self.expected.as_ref().map(|expected| match expected {
            Err(what) => json!({ "problem": what }),
            Ok(expected) => json!({
                "origin": expected.origin, "size": expected.size, "signed": expected.is_signed,
                "newer_records": expected.newer, "records_beyond": expected.beyond,
            }),
        });
        json!({ "holds": self.holds(), "log": log, "expected": expected, "look_at": self.looks })
    }
}

fn holds(log: &VerifiedLog) -> String {
    let VerifiedLog { origin, size, root, looked_at, waiting, is_signed } = log;
    let signed = if *is_signed { "signed" } else { "not signed" };
    let part = if looked_at == size {
        String::new()
    } else {
        format!(", of which the last {looked_at} were looked at")
    };
    format!(
        "the log holds: {size} records of {origin}{part}, {signed}, root {root}; {waiting} wait for a place in it"
    )
}

pub(in crate::cli) fn expected_text(expected: &Expected) -> String {
    let Expected { origin, size, is_signed, newer, beyond } = expected;
    let signed = if *is_signed { "signed" } else { "not signed" };
    let shared = size.saturating_sub(*beyond);
    match beyond {
        0 => format!(
            "the checkpoint of {size} records ({signed}) is its beginning; {newer} are newer"
        ),
        _ => format!(
            "the checkpoint is of {origin}, and this log went on under another name since: the first {shared} of its {size} records are the beginning of this log, and {beyond} are not in it"
        ),
    }
}
