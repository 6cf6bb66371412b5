//! The database, and how this daemon works beside others on it.

use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, wrong};
use crate::store::{Database, DatabaseUrl};

/// How a daemon works beside others on the same database.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Its name, for people; without one, that of the machine.
    pub name: Option<String>,
    /// How long a lease lasts unless it is renewed: after a holder's death, the longest time until
    /// another daemon goes on with its work.
    pub lease: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDatabase {
    url: String,
    connections: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDaemon {
    name: Option<String>,
    lease_ms: u64,
}

impl Default for RawDaemon {
    fn default() -> Self {
        Self { name: None, lease_ms: 10_000 }
    }
}

/// No pause between two statements of a transaction is taken for a daemon asleep before this.
const IDLE_LEAST: Duration = Duration::from_millis(250);

impl RawDatabase {
    pub(super) fn check(self, lease: Duration, chains: usize) -> Result<Database, ConfigError> {
        let url: DatabaseUrl = self.url.parse().map_err(|e: String| wrong("database.url", e))?;
        // Each chain uses three at once, and the leases and the questions of people one each. With
        // fewer, a daemon would wait for itself, and take that for a database that is away.
        let least = u32::try_from(chains).unwrap_or(u32::MAX).saturating_mul(3).saturating_add(2);
        let connections = self.connections.unwrap_or_else(|| least.max(10));
        if !(least..=1_000).contains(&connections) {
            let problem =
                format!("is {connections}; allowed with {chains} chain(s): {least} to 1000");
            return Err(wrong("database.connections", problem));
        }
        let database = Database::from(url);
        // A holder that sleeps inside a transaction must have lost its rows when its lease ends; and
        // behind that one, the server gives the row to what the sleeper had asked for on its other
        // connections (it follows, settles and renews at once), one after the other.
        let idle_in_transaction = database.idle_in_transaction.min(lease / 4).max(IDLE_LEAST);
        Ok(Database { connections, idle_in_transaction, ..database })
    }
}

/// A name that a daemon may have; `key` says where it comes from.
///
/// # Errors
/// When it would not fit into a log or a table.
pub fn daemon_name(name: String, key: &str) -> Result<String, ConfigError> {
    if (1..=63).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(name);
    }
    Err(wrong(key, "must have 1 to 63 letters, digits and signs, without spaces"))
}

impl RawDaemon {
    pub(super) fn check(self) -> Result<DaemonConfig, ConfigError> {
        if !(500..=600_000).contains(&self.lease_ms) {
            let problem = format!("is {}; allowed: 500 to 600000", self.lease_ms);
            return Err(wrong("daemon.lease_ms", problem));
        }
        let name = self.name.map(|name| daemon_name(name, "daemon.name")).transpose()?;
        Ok(DaemonConfig { name, lease: Duration::from_millis(self.lease_ms) })
    }
}
