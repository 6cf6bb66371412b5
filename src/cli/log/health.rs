//! What commands say of the log beside what they were asked: where it stands, and whether somebody should look at it. All of
//! them say the same, by [`Store::log_health`].

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::print::look_if;
use crate::cli::words::time;
use crate::config::Config;
use crate::domain::log::checkpoint::Published;
use crate::output::note;
use crate::store::{LogState, Store};
use crate::tasks::sequence::SEQUENCE_TASK;

/// Why somebody should look at the log, a sentence each.
pub(in crate::cli) async fn looks_at_log(
    store: &Store,
    config: &Config,
) -> Result<Vec<String>, CliError> {
    let (mut reasons, mut signer) = (Vec::new(), None);
    // Whoever may not read the key can still ask for the rest.
    let may_not = |file: &PathBuf| {
        File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    match config.log.signer() {
        Ok(read) => signer = read,
        Err(why) if config.log.key_file.as_ref().is_some_and(may_not) => {
            note(&format!("{why}; so the configured key is not compared with the registered one"));
        }
        Err(why) => reasons.push(why.to_string()),
    }
    reasons.extend(store.log_health(signer.as_ref()).await?);
    Ok(about_log(reasons))
}

/// The same reasons, where they stand among others.
pub(in crate::cli) fn about_log(reasons: Vec<String>) -> Vec<String> {
    let about = |reason: String| {
        if reason.starts_with("the log") || reason.starts_with("log.") {
            reason
        } else {
            format!("the log: {reason}")
        }
    };
    reasons.into_iter().map(about).collect()
}

/// Says why somebody should look, and gives the exit status.
pub(in crate::cli) fn said(looks: &[String]) -> ExitCode {
    for look in looks {
        note(look);
    }
    look_if(!looks.is_empty())
}

/// The same of something that was handed out with this checkpoint.
pub(in crate::cli) fn said_of(looks: &[String], checkpoint: &Published) -> ExitCode {
    // A log with a key that is not signed is to be looked at.
    if !checkpoint.is_signed() && looks.is_empty() {
        note("it is not signed: the log has no key (topupd log keygen)");
    }
    said(looks)
}

/// What `log status` and `status` say of the log.
pub(in crate::cli) struct LogLine {
    log: LogState,
    records: i64,
    events: i64,
    /// Who adds to it.
    holder: Option<String>,
    looks: Vec<String>,
}

impl LogLine {
    pub(in crate::cli) async fn read(store: &Store, config: &Config) -> Result<Self, CliError> {
        let log = store.log_state().await?;
        let (records, events) = store.log_waiting().await?;
        let now_ms = store.server_ms().await?;
        let lease = store.leases().await?.into_iter().find(|l| l.lease.task == SEQUENCE_TASK);
        let held = lease.filter(|lease| lease.left_ms(now_ms) > Some(0));
        let holder = held.map(|lease| lease.lease.holder);
        let mut looks = looks_at_log(store, config).await?;
        if looks.is_empty() && holder.is_none() && records > 0 {
            let why = "no daemon adds to it, and records wait: topupd run, with the registered key";
            looks.push(format!("the log: {why}"));
        }
        Ok(Self { log, records, events, holder, looks })
    }

    /// What somebody should look at.
    pub(in crate::cli) fn looks(&self) -> &[String] {
        &self.looks
    }

    /// The registered key.
    pub(in crate::cli) fn key(&self) -> Option<String> {
        self.log.key.as_ref().map(ToString::to_string)
    }

    /// Who adds to it.
    pub(in crate::cli) fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    pub(in crate::cli) fn text(&self) -> String {
        let log = &self.log;
        let signed = match (&log.checkpoint, &log.key) {
            (Some(_), _) => format!("signed {}", time(log.at_ms)),
            (None, Some(_)) => "NOT SIGNED".to_owned(),
            (None, None) => "not signed: it has no key (topupd log keygen)".to_owned(),
        };
        let waits = match (&log.paused, self.records, self.events) {
            (Some(_), records, _) => format!("PAUSED; {records} records wait"),
            (None, 0, 0) => "nothing waits".to_owned(),
            (None, records, events) => format!("{records} records and {events} events wait"),
        };
        format!("{} records of {}, {signed}; {waits}", log.head.size, log.origin)
    }

    pub(in crate::cli) fn json(&self) -> serde_json::Value {
        let log = &self.log;
        json!({
            "origin": log.origin.as_str(),
            "size": log.head.size,
            "root_hash": log.head.root.to_string(),
            "signed": log.checkpoint.is_some(),
            "written_at": time(log.at_ms),
            "public_key": log.key.as_ref().map(ToString::to_string),
            "paused": log.paused,
            "waiting_records": self.records,
            "waiting_events": self.events,
            "holder": self.holder,
            "feed_incarnation": log.incarnation,
            "feed_number": log.feed_no,
        })
    }
}
