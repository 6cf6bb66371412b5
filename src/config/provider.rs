//! The providers of a chain: where each is asked, how fast, and in which order.

use std::time::Duration;

use serde::Deserialize;

use super::error::{ConfigError, wrong};
use super::url::url;
use crate::chain::rpc::node::ProviderOptions;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    name: String,
    http: String,
    ws: Option<String>,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    priority: Option<u32>,
    rate_limit: Option<u32>,
    max_range: Option<u64>,
}

const fn default_timeout_ms() -> u64 {
    10_000
}

pub(super) fn providers(
    raw: Vec<RawProvider>,
    key: &str,
    range_max: u64,
) -> Result<Vec<(ProviderOptions, u32)>, ConfigError> {
    if raw.is_empty() || raw.len() > 16 {
        return Err(wrong(key, format!("has {} entries; allowed: 1 to 16", raw.len())));
    }
    let mut providers: Vec<(ProviderOptions, u32)> = Vec::new();
    for (place, provider) in (0u32..).zip(raw) {
        let key = format!("{key}[{place}]");
        let provider = provider.check(&key, place, range_max)?;
        if providers.iter().any(|(p, _)| p.name == provider.0.name) {
            return Err(wrong(format!("{key}.name"), "is used by two providers"));
        }
        if providers.iter().any(|(p, _)| p.http == provider.0.http) {
            let problem = "is used by two providers, which are one then: what it says, nobody else would confirm";
            return Err(wrong(format!("{key}.http"), problem));
        }
        providers.push(provider);
    }
    Ok(providers)
}

impl RawProvider {
    fn check(
        self,
        key: &str,
        place: u32,
        range_max: u64,
    ) -> Result<(ProviderOptions, u32), ConfigError> {
        if self.name.is_empty() {
            return Err(wrong(format!("{key}.name"), "must not be empty"));
        }
        if self.name.chars().any(char::is_control) {
            return Err(wrong(format!("{key}.name"), "must not have control characters"));
        }
        let max_range = self.max_range.unwrap_or(range_max);
        for (field, value, least, most) in [
            ("timeout_ms", self.timeout_ms, 100, 120_000),
            ("max_range", max_range, 1, 100_000),
            ("rate_limit", self.rate_limit.map_or(1, u64::from), 1, 100_000),
        ] {
            if !(least..=most).contains(&value) {
                let problem = format!("is {value}; allowed: {least} to {most}");
                return Err(wrong(format!("{key}.{field}"), problem));
            }
        }
        let http = url(&self.http, &["http", "https"], &[], &format!("{key}.http"))?;
        let ws = match &self.ws {
            None => None,
            Some(ws) => Some(url(ws, &["ws", "wss"], &[], &format!("{key}.ws"))?),
        };
        let options = ProviderOptions {
            name: self.name,
            http,
            ws,
            timeout: Duration::from_millis(self.timeout_ms),
            per_second: self.rate_limit,
            range_max: max_range,
        };
        Ok((options, self.priority.unwrap_or(place)))
    }
}
