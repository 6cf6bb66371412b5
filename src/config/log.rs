//! `[log]`: who signs the log of all records.
//!
//! The key is read by those only who sign. Its file is refused where others can read it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{ConfigError, wrong};
use crate::domain::log::key::{KeyName, PrivateKey};
use crate::store::LogSigner;
use crate::text::read_text;

/// Longest file that is looked at.
const KEY_FILE_MAX: u64 = 4_096;

/// How the log is signed.
#[derive(Debug, Clone, Default)]
pub struct LogConfig {
    /// The file of the private key; without one the log is not signed.
    pub key_file: Option<PathBuf>,
    /// The name that the key must have.
    pub origin: Option<KeyName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    key_file: Option<PathBuf>,
    origin: Option<String>,
}

impl RawLog {
    pub(super) fn check(self) -> Result<LogConfig, ConfigError> {
        let origin = self.origin.map(|origin| {
            origin.parse::<KeyName>().map_err(|e| wrong("log.origin", e.to_string()))
        });
        let origin = origin.transpose()?;
        if self.key_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            return Err(wrong("log.key_file", "must name a file; topupd log keygen makes one"));
        }
        if origin.is_some() && self.key_file.is_none() {
            let problem = "is the name of a key, and there is none: configure log.key_file too";
            return Err(wrong("log.origin", problem));
        }
        Ok(LogConfig { key_file: self.key_file, origin })
    }
}

impl LogConfig {
    /// Reads the key; none where none is configured.
    ///
    /// # Errors
    /// A file that is not there, that others can read, or that holds another key.
    pub fn signer(&self) -> Result<Option<LogSigner>, ConfigError> {
        let Some(file) = &self.key_file else { return Ok(None) };
        let key = read_key(file).map_err(|problem| wrong("log.key_file", problem))?;
        let name = key.public().name();
        if let Some(origin) = self.origin.as_ref().filter(|origin| *origin != name) {
            let problem = format!("is {origin}, and the key in log.key_file is of {name}");
            return Err(wrong("log.origin", problem));
        }
        Ok(Some(LogSigner::new(key, file.clone())))
    }
}

/// Reads a private key of a log.
///
/// # Errors
/// What is wrong with the file, in a sentence without its content.
pub fn read_key(file: &Path) -> Result<PrivateKey, String> {
    let shown = file.display();
    let cannot = |e: std::io::Error| format!("{shown} cannot be read: {e}");
    let found = file.metadata().map_err(cannot)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0 {
        return Err(format!(
            "{shown} can be read by other users of this machine: whoever has the key can sign another history; chmod 600 it"
        ));
    }
    if found.len() > KEY_FILE_MAX {
        return Err(format!("{shown} is too long for a key"));
    }
    let text = read_text(file, KEY_FILE_MAX).map_err(cannot)?;
    text.parse().map_err(|e| format!("{shown}: {e}"))
}
