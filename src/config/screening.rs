//! The table `[screening]`: who is asked before a payment is credited.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, wrong};
use super::oracle::{Sent, sent, web_url};
use crate::domain::ids::Network;
use crate::domain::screening::Question;
use crate::domain::screening_rules::{ScreeningRules, SecretHeaders};

/// Who is asked before a payment is credited, checked.
#[derive(Debug, Clone)]
pub struct ScreeningConfig {
    /// Who is asked, and with what.
    pub rules: Arc<ScreeningRules>,
    /// A header that the environment lacks.
    missing: Option<ConfigError>,
}

impl ScreeningConfig {
    /// Whether there is all that the configuration must say.
    ///
    /// # Errors
    /// A header that the environment lacks.
    pub(super) fn ready(&self) -> Result<(), ConfigError> {
        self.missing.clone().map_or(Ok(()), Err)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScreening {
    list: Option<PathBuf>,
    http: Option<RawHttp>,
    #[serde(default = "five_minutes")]
    patience_s: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    url: String,
    verdict: String,
    hit: Option<String>,
    clear: Option<String>,
    #[serde(default = "five_seconds")]
    timeout_ms: u64,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

const fn five_minutes() -> u32 {
    300
}
const fn five_seconds() -> u64 {
    5_000
}

impl RawScreening {
    pub(super) fn check(
        self,
        network: Network,
        environment: &BTreeMap<String, String>,
    ) -> Result<ScreeningConfig, ConfigError> {
        let Self { list, http, patience_s } = self;
        if list.is_none() && http.is_none() {
            return Err(wrong("screening", "needs list = \"FILE\", or a table http, or both"));
        }
        if patience_s > 86_400 {
            let problem = format!("is {patience_s}; allowed: 0 to 86400");
            return Err(wrong("screening.patience_s", problem));
        }
        let timeout_ms = http.as_ref().map_or_else(five_seconds, |http| http.timeout_ms);
        let (mut question, mut headers) = (None, Sent::default());
        if let Some(http) = http {
            let (asked, values) = http.check(network, environment)?;
            (question, headers) = (Some(asked), values);
        }
        let Sent { known, missing } = headers;
        let timeout = Duration::from_millis(timeout_ms);
        let patience = Duration::from_secs(u64::from(patience_s));
        let headers = SecretHeaders(known);
        let rules = Arc::new(ScreeningRules { list, question, timeout, patience, headers });
        Ok(ScreeningConfig { rules, missing })
    }
}

impl RawHttp {
    fn check(
        self,
        network: Network,
        environment: &BTreeMap<String, String>,
    ) -> Result<(Question, Sent), ConfigError> {
        let at = |field: &str| format!("screening.http.{field}");
        web_url(network, &self.url, &["address", "chain", "tx"], &at("url"))?;
        if !self.url.contains("{address}") {
            return Err(wrong(
                at("url"),
                "must contain {address}, which is whom the question is about",
            ));
        }
        if !self.verdict.is_empty() && !self.verdict.starts_with('/') {
            let problem = "must be a JSON pointer (RFC 6901), such as \"/data/risk\"";
            return Err(wrong(at("verdict"), problem));
        }
        if self.hit.is_none() && self.clear.is_none() {
            let problem = "is missing: the value that means a hit; or clear, the value that means that there is none";
            return Err(wrong(at("hit"), problem));
        }
        if self.hit == self.clear {
            return Err(wrong(at("clear"), "is the same as hit"));
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            let problem = format!("is {}; allowed: 100 to 60000", self.timeout_ms);
            return Err(wrong(at("timeout_ms"), problem));
        }
        let headers = sent(environment, self.headers, "screening.http")?;
        let Self { url, verdict, hit, clear, .. } = self;
        Ok((Question { url, verdict, hit, clear }, headers))
    }
}
