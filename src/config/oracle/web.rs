//! What is sent over HTTP, and where to: URLs that may be stored, and headers from the environment.
//!
//! Headers are kept apart from the description of a source, which is stored and hashed.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::chain::secrets::key_in;
use crate::config::error::{ConfigError, wrong};
use crate::config::url::url;
use crate::domain::ids::Network;

/// Names and values of headers, by the hash of the source that they are sent to.
pub type BySource = BTreeMap<B256, Vec<(String, String)>>;

/// Headers by source. Not shown by `Debug`.
#[derive(Clone, Default)]
pub struct Headers {
    pub(super) known: BySource,
    /// The first that the environment lacks.
    pub(super) missing: Option<ConfigError>,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(headers of {} sources)", self.known.len())
    }
}

impl Headers {
    /// All of them, for whoever asks sources.
    ///
    /// # Errors
    /// The first that the environment lacks.
    pub fn all(&self) -> Result<&BySource, ConfigError> {
        self.missing.clone().map_or(Ok(&self.known), Err)
    }

    /// Those that the environment has, for whoever hides them.
    pub const fn known(&self) -> &BySource {
        &self.known
    }
}

/// What is sent with a question, as far as the environment has it. Secret.
#[derive(Default)]
pub(in crate::config) struct Sent {
    pub(in crate::config) known: Vec<(String, String)>,
    /// The first that the environment lacks. Whoever asks nobody does not need it.
    pub(in crate::config) missing: Option<ConfigError>,
}

pub(super) fn host(text: &str) -> String {
    let parsed = url::Url::parse(text).ok();
    parsed.as_ref().and_then(|u| u.host_str()).unwrap_or(text).to_owned()
}

/// A URL that is stored, with these placeholders: without a secret, and on mainnet not open to whoever is in
/// between.
pub(in crate::config) fn web_url(
    network: Network,
    text: &str,
    names: &[&str],
    key: &str,
) -> Result<(), ConfigError> {
    let parsed = url(text, &["http", "https"], names, key)?;
    if let Some(what) = key_in(&parsed) {
        let problem = format!(
            "must have no user, password or key: it is stored and shown, and {what} looks like one; put the key into headers, as \"env:NAME\""
        );
        return Err(wrong(key, problem));
    }
    let loopback = ["127.0.0.1", "localhost", "[::1]"].contains(&host(text).as_str());
    if network == Network::Mainnet && parsed.scheme() == "http" && !loopback {
        return Err(wrong(key, "must be https on mainnet: nobody signs what it answers"));
    }
    Ok(())
}

/// The headers of a table, each `env:NAME`, from the environment. A secret never stands in the file.
pub(in crate::config) fn sent(
    environment: &BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    key: &str,
) -> Result<Sent, ConfigError> {
    let mut sent = Sent::default();
    for (header, value) in headers {
        let key = format!("{key}.headers.{header}");
        let Some(name) = value.strip_prefix("env:") else {
            let problem = "must be \"env:NAME\": the value comes from the environment";
            return Err(wrong(key, problem));
        };
        match environment.get(name) {
            Some(value) => sent.known.push((header, value.clone())),
            None => {
                let problem = format!("the environment variable {name} is not set");
                sent.missing.get_or_insert(wrong(key, problem));
            }
        }
    }
    Ok(sent)
}
