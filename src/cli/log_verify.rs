//! What `ledger verify` says of the log: that it follows from the records, and that a checkpoint kept elsewhere is its
//! beginning.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::log::read_checkpoint;
use super::{CliError, Output, print, print_json};
use crate::store::{Expected, Store, VerifiedLog};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// A checkpoint that was kept elsewhere: prove that it is the beginning of this log. Exit 3 where the log
    /// went on under another name since, and what the checkpoint has beyond that is not here.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// A checkpoint up to which everything was verified before: verify the log from there on. Balances
    /// and credits are not recomputed then.
    #[arg(long, value_name = "FILE", conflicts_with = "expect")]
    since: Option<PathBuf>,
}

/// What holds of the log.
pub(super) struct HeldLog {
    log: VerifiedLog,
    expected: Option<Expected>,
}

impl LogArgs {
    /// Verifies the log alone, where only what is newer is asked for.
    pub(super) async fn only_newer(
        &self,
        store: &Store,
        output: Output,
    ) -> Result<Option<ExitCode>, CliError> {
        let Some(since) = &self.since else { return Ok(None) };
        let known = read_checkpoint(since)?;
        let keys = store.log_keys().await?;
        if known.is_signed() {
            let wrong = |e: &dyn std::fmt::Display| {
                CliError::BadInput(format!("{}: {e}", since.display()))
            };
            known.verify(&keys).map_err(|e| wrong(&e))?;
        }
        let log = store.verify_log(Some(known.claimed())).await?.map_err(not)?;
        let held = HeldLog { log, expected: None };
        let done = if output.json { print_json(held.json()) } else { print(&held.text()) };
        done.map(Some)
    }

    /// Verifies the whole log.
    pub(super) async fn verify(&self, store: &Store) -> Result<HeldLog, CliError> {
        let log = store.verify_log(None).await?.map_err(not)?;
        let expected = match &self.expect {
            Some(file) => Some(expect(store, file).await?),
            None => None,
        };
        Ok(HeldLog { log, expected })
    }
}

async fn expect(store: &Store, file: &Path) -> Result<Expected, CliError> {
    let known = read_checkpoint(file)?;
    store.expect_checkpoint(&known).await?.map_err(not)
}

fn not(what: String) -> CliError {
    CliError::Failed(format!("the log does NOT hold: {what}"))
}

impl HeldLog {
    /// Whether somebody should look: the checkpoint has records that are not in this log.
    pub(super) fn look(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.beyond > 0)
    }

    pub(super) fn text(&self) -> String {
        let VerifiedLog { origin, size, root, looked_at, waiting, is_signed } = &self.log;
        let signed = if *is_signed { "signed" } else { "not signed" };
        let part = if looked_at == size {
            String::new()
        } else {
            format!(", of which the last {looked_at} were looked at")
        };
        let mut text = format!(
            "the log holds: {size} records of {origin}{part}, {signed}, root {root}; {waiting} wait for a place in it"
        );
        if let Some(Expected { origin, size, is_signed, newer, beyond }) = &self.expected {
            let signed = if *is_signed { "signed" } else { "not signed" };
            let shared = size.saturating_sub(*beyond);
            text.push_str(&match beyond {
                0 => format!(
                    "\nthe checkpoint of {size} records ({signed}) is its beginning; {newer} are newer"
                ),
                _ => format!(
                    "\nthe checkpoint is of {origin}, under which this log went on no further: the first {shared} of its {size} records are the beginning of this log, and {beyond} are not in it"
                ),
            });
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let log = &self.log;
        json!({
            "holds": true, "origin": log.origin, "size": log.size, "root_hash": log.root,
            "looked_at_records": log.looked_at, "waiting_records": log.waiting, "signed": log.is_signed,
            "expected": self.expected.as_ref().map(|expected| json!({
                "origin": expected.origin, "size": expected.size, "signed": expected.is_signed,
                "newer_records": expected.newer, "records_beyond": expected.beyond,
            })),
        })
    }
}
