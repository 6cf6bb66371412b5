//! The table `[oracle]`: pairs and their policies, checked against the chains and epochs. Each source is checked in
//! `source`, and what is sent over HTTP in `web`.

mod signers;
mod source;
mod web;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use serde::Deserialize;

use self::source::{Around, RawSource};
use super::chain::ChainConfig;
use super::error::{ConfigError, wrong};
use crate::domain::conversion::{in_usd, pair};
use crate::domain::ids::Network;
use crate::domain::money::Rate;
use crate::domain::oracle::Oracle;
use crate::domain::oracle::policy::pair::PairPolicy;
use crate::domain::oracle::source::SourceSpec;
use crate::domain::pricing::{EpochBook, Phase};
use crate::domain::terms::Valuation;
use crate::domain::wallet::parse_address;

pub use self::web::{BySource, Headers};
pub(super) use self::web::{Sent, sent, web_url};

/// Market prices, checked.
#[derive(Debug, Clone)]
pub struct OracleConfig {
    /// Pairs and how they are priced.
    pub oracle: Arc<Oracle>,
    /// Pause between two samples of a ticker.
    pub sample: Duration,
    /// Longest wait for an answer over HTTP.
    pub timeout: Duration,
    /// Headers by the hash of the source that they are sent to. Secret.
    pub headers: Headers,
    /// Where purchases of the treasury arrive, and are paid from.
    pub treasury: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTreasury {
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOracle {
    sample_s: u32,
    timeout_ms: u64,
    patience_s: u32,
    price_every_s: u32,
    pairs: BTreeMap<String, RawPair>,
}

impl Default for RawOracle {
    fn default() -> Self {
        Self {
            sample_s: 30,
            timeout_ms: 10_000,
            patience_s: 60,
            price_every_s: 3_600,
            pairs: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPair {
    #[serde(default)]
    stablecoin: bool,
    hold_below: Option<Rate>,
    #[serde(default = "two")]
    quorum: u32,
    outlier_floor_bps: Option<u32>,
    dispersion_max_bps: Option<u32>,
    #[serde(default = "sixty")]
    spread_max_s: u32,
    jump_max_bps: Option<u32>,
    #[serde(default = "ten_minutes")]
    jump_window_s: u32,
    #[serde(default = "thirty_percent")]
    day_max_bps: u32,
    sources: Vec<RawSource>,
}

const fn two() -> u32 {
    2
}
const fn sixty() -> u32 {
    60
}
const fn ten_minutes() -> u32 {
    600
}
const fn thirty_percent() -> u32 {
    3_000
}

impl RawTreasury {
    pub(super) fn check(self) -> Result<Option<Address>, ConfigError> {
        let parsed = self.address.map(|text| parse_address(&text)).transpose();
        parsed.map_err(|e| wrong("treasury.address", e))
    }
}

impl RawOracle {
    pub(super) fn check(
        self,
        network: Network,
        chains: &[ChainConfig],
        epochs: &EpochBook,
        treasury: Option<Address>,
        environment: &BTreeMap<String, String>,
    ) -> Result<OracleConfig, ConfigError> {
        for (key, value, least, most) in [
            ("oracle.sample_s", u64::from(self.sample_s), 1, 3_600),
            ("oracle.timeout_ms", self.timeout_ms, 100, 120_000),
            ("oracle.patience_s", u64::from(self.patience_s), 0, 86_400),
        ] {
            if !(least..=most).contains(&value) {
                return Err(wrong(key, format!("is {value}; allowed: {least} to {most}")));
            }
        }
        if self.price_every_s != 0 && !(60..=86_400).contains(&self.price_every_s) {
            let problem = format!("is {}; allowed: 60 to 86400, or 0", self.price_every_s);
            return Err(wrong("oracle.price_every_s", problem));
        }
        let around = Around { network, chains, environment, sample_s: self.sample_s };
        let mut headers = Headers::default();
        let mut pairs = BTreeMap::new();
        for (name, raw) in self.pairs {
            let key = format!("oracle.pairs.{name:?}");
            pairs.insert(name.clone(), raw.check(&key, name, &around, &mut headers)?);
        }
        let patience_ms = i64::from(self.patience_s).saturating_mul(1_000);
        let every_ms = i64::from(self.price_every_s).saturating_mul(1_000);
        let oracle = Oracle::new(pairs, patience_ms).with_schedule(every_ms);
        check_vias(&oracle)?;
        check_epochs(epochs, &oracle)?;
        Ok(OracleConfig {
            oracle: Arc::new(oracle),
            sample: Duration::from_secs(u64::from(self.sample_s)),
            timeout: Duration::from_millis(self.timeout_ms),
            headers,
            treasury,
        })
    }
}

/// A source may be multiplied by a pair that stands by itself.
fn check_vias(oracle: &Oracle) -> Result<(), ConfigError> {
    for policy in oracle.pairs() {
        for via in policy.needs() {
            let key = format!("oracle.pairs.{:?}.sources", policy.pair);
            let other = oracle.pair(via).ok_or_else(|| {
                wrong(&key, format!("via = {via:?}: there is no such pair under oracle.pairs"))
            })?;
            let unit = |pair: &str| pair.split('/').nth(1).map(str::to_owned);
            if unit(via) != unit(&policy.pair) {
                let problem = format!("via = {via:?}: that pair is in another unit");
                return Err(wrong(&key, problem));
            }
            if via == policy.pair || !other.needs().is_empty() {
                let problem = format!("via = {via:?}: that pair needs another one itself");
                return Err(wrong(&key, problem));
            }
        }
    }
    Ok(())
}

/// Every price that an epoch needs has a pair, and stablecoins are said to be some.
fn check_epochs(epochs: &EpochBook, oracle: &Oracle) -> Result<(), ConfigError> {
    for epoch in epochs.all() {
        for (asset, terms) in &epoch.accept {
            let key = format!("epochs {:?} accept.{asset}", epoch.id);
            if let Valuation::Convert { into, .. } = &terms.valuation {
                let token = epoch.accept.get(into).map(|t| &t.valuation);
                if !matches!(token, Some(Valuation::Fixed { .. } | Valuation::Market { .. })) {
                    let problem = format!(
                        "is {into:?}, which the epoch must accept itself, with valuation fixed or market"
                    );
                    return Err(wrong(format!("{key}.into"), problem));
                }
                let dollars = oracle.pair(&in_usd(asset));
                if dollars.is_some_and(|p| p.hold_below.is_none()) {
                    let problem = format!(
                        "is missing: {asset} is converted by epoch {:?}, so it must be one",
                        epoch.id
                    );
                    return Err(wrong(format!("oracle.pairs.\"{asset}/USD\".stablecoin"), problem));
                }
            }
            for pair in oracle.needed(asset, terms, &epoch.accept) {
                if oracle.pair(&pair).is_none() {
                    let problem = format!("needs the price {pair}: add [oracle.pairs.{pair:?}]");
                    return Err(wrong(key, problem));
                }
            }
            let par = matches!(terms.valuation, Valuation::Par { .. });
            if par && epoch.phase == Phase::PostTge {
                let problem = "is par; after the TGE a stablecoin is converted: valuation = \"convert\", into = \"RTITY\"";
                return Err(wrong(format!("{key}.valuation"), problem));
            }
        }
    }
    Ok(())
}

impl RawPair {
    fn check(
        self,
        key: &str,
        name: String,
        around: &Around<'_>,
        headers: &mut Headers,
    ) -> Result<PairPolicy, ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        let Some((base, quote)) =
            name.split_once('/').filter(|(b, q)| !b.is_empty() && !q.is_empty())
        else {
            return Err(wrong(key, "a pair is BASE/QUOTE, such as \"USDC/USD\""));
        };
        let hold_below = match (self.stablecoin, self.hold_below) {
            (false, None) => None,
            (true, floor) => Some(
                floor
                    .map_or_else(|| "0.97".parse(), Ok)
                    .map_err(|e| wrong(at("hold_below"), format!("{e}")))?,
            ),
            (false, Some(_)) => {
                let problem = "is for stablecoins: say stablecoin = true";
                return Err(wrong(at("hold_below"), problem));
            }
        };
        if self.stablecoin && quote != "USD" {
            return Err(wrong(at("stablecoin"), "is for pairs in USD"));
        }
        if hold_below.is_some_and(|floor| floor >= Rate::ONE || floor.is_zero()) {
            return Err(wrong(at("hold_below"), "must be between 0 and 1"));
        }
        let stable = |yes: u32, no: u32| if self.stablecoin { yes } else { no };
        let mut sources = Vec::new();
        for (i, source) in self.sources.into_iter().enumerate() {
            let key = format!("{key}.sources[{i}]");
            let source = source.check((&key, base, quote), around, headers)?;
            if sources.iter().any(|s: &SourceSpec| s.name == source.name) {
                return Err(wrong(format!("{key}.name"), "is used by two sources of this pair"));
            }
            if let Some(same) = sources.iter().find(|s: &&SourceSpec| s.reads == source.reads) {
                let problem = format!("reads what {:?} reads: it would count twice", same.name);
                return Err(wrong(key, problem));
            }
            sources.push(source);
        }
        // Guards make no price.
        let makers = sources.iter().filter(|s| !s.guard);
        let venues: std::collections::BTreeSet<_> = makers.map(|s| &s.venue).collect();
        let most = u32::try_from(venues.len()).unwrap_or(u32::MAX);
        if !(1..=most).contains(&self.quorum) {
            let problem =
                format!("is {}; allowed with sources of {most} venue(s): 1 to {most}", self.quorum);
            return Err(wrong(at("quorum"), problem));
        }
        let policy = PairPolicy {
            hold_below,
            quorum: self.quorum,
            outlier_floor_bps: self.outlier_floor_bps.unwrap_or_else(|| stable(25, 50)),
            dispersion_max_bps: self.dispersion_max_bps.unwrap_or_else(|| stable(200, 500)),
            spread_max_s: self.spread_max_s,
            jump_max_bps: self.jump_max_bps.unwrap_or_else(|| stable(1_000, 2_500)),
            jump_window_s: self.jump_window_s,
            day_max_bps: self.day_max_bps,
            sources,
            pair: pair(base, quote),
        };
        Ok(policy)
    }
}

#[cfg(test)]
mod tests;
