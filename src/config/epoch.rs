//! The epochs: from when on which asset is accepted, and what it gives.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::chain::ChainConfig;
use super::error::{ConfigError, wrong};
use crate::domain::ids::Network;
use crate::domain::money::{Rate, TOKEN_DECIMALS_MAX};
use crate::domain::pricing::{Epoch, EpochBook, Phase};
use crate::domain::terms::{Dust, Terms, Valuation};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEpoch {
    id: String,
    starts_at: String,
    phase: Phase,
    accept: BTreeMap<String, RawTerms>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTerms {
    valuation: RawValuation,
    credits_per_usd: Option<Rate>,
    credits_per_token: Option<Rate>,
    into: Option<String>,
    into_decimals: Option<u8>,
    minimum: Option<Rate>,
    #[serde(default)]
    dust: Dust,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawValuation {
    Par,
    Fixed,
    Market,
    Convert,
}

impl RawEpoch {
    pub(super) fn check(self, key: &str, network: Network) -> Result<Epoch, ConfigError> {
        if self.id.is_empty() || self.id.len() > 64 {
            return Err(wrong(format!("{key}.id"), "must have 1 to 64 characters"));
        }
        let starts_at: jiff::Timestamp = self.starts_at.parse().map_err(|_| {
            let problem = format!(
                "{:?} is not an RFC 3339 time such as \"2026-01-31T00:00:00Z\"",
                self.starts_at
            );
            wrong(format!("{key}.starts_at"), problem)
        })?;
        let testnet_phase = self.phase == Phase::Testnet;
        if testnet_phase && network == Network::Mainnet {
            let problem = "is testnet; allowed on mainnet: pre_tge, post_tge";
            return Err(wrong(format!("{key}.phase"), problem));
        }
        if self.accept.is_empty() {
            return Err(wrong(format!("{key}.accept"), "must have at least one asset"));
        }
        let accept = self
            .accept
            .into_iter()
            .map(|(asset, terms)| {
                let key = format!("{key}.accept.{asset}");
                let terms = terms.check(&key)?;
                let fixed = matches!(terms.valuation, Valuation::Fixed { .. });
                if fixed && network == Network::Mainnet && self.phase != Phase::PostTge {
                    let problem = "is fixed; allowed on mainnet before the TGE: par, market";
                    return Err(wrong(format!("{key}.valuation"), problem));
                }
                Ok((asset, terms))
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(Epoch {
            id: self.id,
            starts_at_ms: starts_at.as_millisecond(),
            phase: self.phase,
            accept,
        })
    }
}

impl RawTerms {
    fn check(self, key: &str) -> Result<Terms, ConfigError> {
        let given = (self.credits_per_usd, self.credits_per_token, self.into);
        let valuation = match (self.valuation, given) {
            (RawValuation::Par, (Some(credits_per_usd), None, None)) => {
                Valuation::Par { credits_per_usd }
            }
            (RawValuation::Market, (Some(credits_per_usd), None, None)) => {
                Valuation::Market { credits_per_usd }
            }
            (RawValuation::Fixed, (None, Some(credits_per_token), None)) => {
                Valuation::Fixed { credits_per_token }
            }
            (RawValuation::Convert, (None, None, Some(into))) => {
                Valuation::Convert { into, into_decimals: self.into_decimals.unwrap_or(18) }
            }
            (valuation, _) => {
                let (name, needs) = match valuation {
                    RawValuation::Par => ("par", "credits_per_usd"),
                    RawValuation::Market => ("market", "credits_per_usd"),
                    RawValuation::Fixed => ("fixed", "credits_per_token"),
                    RawValuation::Convert => ("convert", "into"),
                };
                let problem = format!("valuation = {name:?} needs {needs}, and only that");
                return Err(wrong(key, problem));
            }
        };
        if self.into_decimals.is_some_and(|d| d > TOKEN_DECIMALS_MAX) {
            let problem = format!("allowed: 0 to {TOKEN_DECIMALS_MAX}");
            return Err(wrong(format!("{key}.into_decimals"), problem));
        }
        if valuation.rate().is_some_and(Rate::is_zero) {
            return Err(wrong(key, "a rate of 0 gives no credits"));
        }
        Ok(Terms { valuation, minimum: self.minimum, dust: self.dust })
    }
}

/// The tokens that stablecoins are converted into have the decimals that the epoch says.
pub(super) fn check_into_decimals(
    chains: &[ChainConfig],
    epochs: &EpochBook,
) -> Result<(), ConfigError> {
    for epoch in epochs.all() {
        for (asset, terms) in &epoch.accept {
            let Valuation::Convert { into, into_decimals } = &terms.valuation else { continue };
            let tokens = chains.iter().flat_map(|c| &c.rules.tokens);
            let mut other = tokens.filter(|t| t.asset == *into && t.decimals != *into_decimals);
            if let Some(token) = other.next() {
                let key = format!("epochs {:?} accept.{asset}.into_decimals", epoch.id);
                let problem = format!(
                    "is {into_decimals}, and {} on chain {} has {} decimals",
                    token.symbol, token.chain, token.decimals
                );
                return Err(wrong(key, problem));
            }
        }
    }
    Ok(())
}
