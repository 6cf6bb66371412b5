//! A chain: who follows it how, and which defaults it has without a preset and with one.
//!
//! Its providers and tokens have files of their own; what a chain really is, `check` asks the chain.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::{ConfigError, wrong};
use super::provider::{RawProvider, providers};
use super::token::{RawTokenOrKey, tokens};
use super::verify;
use crate::chain::rpc::node::ProviderOptions;
use crate::domain::chain_rules::{ChainRules, FilterKind, Start};
use crate::domain::finality::{Finality, Policy, Tier};
use crate::domain::ids::ChainId;
use crate::domain::money::Rate;
use crate::domain::pricing::EpochBook;
use crate::presets;
use crate::presets::Preset;

/// Chain ids whose tokens anybody can have for nothing: local ones (anvil, hardhat, ganache), and
/// the public test networks, as chainlist.org lists them.
pub(super) const TEST_CHAINS: &[u64] = &[
    1_337, 31_337, // local
    11_155_111, 17_000, 560_048, // Sepolia, Holesky, Hoodi
    84_532, 11_155_420, 421_614, // Base, OP and Arbitrum Sepolia
    97, 80_002, 43_113, // BNB Smart Chain testnet, Polygon Amoy, Avalanche Fuji
];

/// One chain.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// What its tasks go by.
    pub rules: ChainRules,
    /// Who is asked, with their priorities: the lowest first.
    pub providers: Vec<(ProviderOptions, u32)>,
    /// The preset it was made of.
    pub preset: Option<&'static Preset>,
    /// Pause between polls without a WebSocket.
    pub poll: Duration,
    /// Pause between polls while a WebSocket announces heads.
    pub safety_poll: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChain {
    preset: Option<String>,
    chain_id: Option<u64>,
    providers: Vec<RawProvider>,
    verify: Option<RawVerify>,
    start_block: Option<u64>,
    reorg_window: Option<u64>,
    lag_max: Option<u64>,
    range_max: Option<u64>,
    #[serde(default = "default_poll_ms")]
    poll_ms: u64,
    #[serde(default = "default_safety_poll_ms")]
    safety_poll_ms: u64,
    #[serde(default)]
    filter: RawFilter,
    #[serde(default = "default_unlisted")]
    unlisted_per_day: u32,
    time_ahead_max_s: Option<u64>,
    finality: Option<Vec<RawTier>>,
    tokens: Option<Vec<RawTokenOrKey>>,
}

/// Without a preset, what is not configured.
const WINDOW: u64 = 128;
const RANGE_MAX: u64 = 2_000;
const LAG_MAX: u64 = 10;
/// Ten years: a local chain's clock may be moved, and a time in milliseconds is still noticed.
const TIME_AHEAD_MAX_S: u64 = 315_360_000;
/// With one: no block is of a time so far ahead of ours.
const TIME_AHEAD_PRESET_S: u64 = 900;
/// With one: a provider that is this much behind is set aside.
const LAG_MAX_MS: u64 = 30_000;

const fn default_poll_ms() -> u64 {
    2_000
}
const fn default_safety_poll_ms() -> u64 {
    15_000
}
const fn default_unlisted() -> u32 {
    100
}

/// One word, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawVerify {
    One(String),
    List(Vec<String>),
    Other(IgnoredAny),
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFilter {
    #[default]
    Auto,
    Tokens,
    Recipients,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    up_to_usd: Option<Rate>,
    confirmations: Option<u64>,
    tag: Option<RawTag>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawTag {
    Safe,
    Finalized,
}

impl RawChain {
    pub(super) fn check(
        self,
        key: &str,
        name: String,
        epochs: &Arc<EpochBook>,
    ) -> Result<ChainConfig, ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        // A chain that is called like a preset and has no chain_id of its own is that preset.
        let preset = match &self.preset {
            Some(preset) => Some(presets::find(preset).ok_or_else(|| {
                let known: Vec<_> = presets::all().iter().map(|p| p.name).collect();
                let problem = format!("is {preset:?}; allowed: {}", known.join(", "));
                wrong(at("preset"), problem)
            })?),
            None if self.chain_id.is_none() => presets::find(&name),
            None => None,
        };
        let chain_id = match (self.chain_id, preset) {
            (Some(id), Some(preset)) if id != preset.chain_id => {
                let problem =
                    format!("is {id}; the preset {} is chain {}", preset.name, preset.chain_id);
                return Err(wrong(at("chain_id"), problem));
            }
            (_, Some(preset)) => preset.chain_id,
            (Some(id), None) => id,
            (None, None) => {
                let problem = "is missing: give it, or a preset such as preset = \"base\"";
                return Err(wrong(at("chain_id"), problem));
            }
        };
        let id = ChainId(chain_id);
        if i64::try_from(chain_id).is_err() || chain_id == 0 {
            return Err(wrong(at("chain_id"), "must be an EIP-155 chain id: 1 or more"));
        }
        let window = self.reorg_window.or(preset.map(|p| p.reorg_window)).unwrap_or(WINDOW);
        let range_max = self.range_max.or(preset.map(|p| p.range_max)).unwrap_or(RANGE_MAX);
        let by_time = preset.and_then(|p| LAG_MAX_MS.checked_div(p.block_ms)).map(|n| n.max(3));
        let lag_max = self.lag_max.or(by_time).unwrap_or(LAG_MAX);
        let ahead_s = preset.map_or(TIME_AHEAD_MAX_S, |_| TIME_AHEAD_PRESET_S);
        let ahead_s = self.time_ahead_max_s.unwrap_or(ahead_s);
        for (field, value, least, most) in [
            ("time_ahead_max_s", ahead_s, 1, TIME_AHEAD_MAX_S),
            ("reorg_window", window, 1, 100_000),
            ("range_max", range_max, 1, 100_000),
            ("lag_max", lag_max, 1, 100_000),
            ("poll_ms", self.poll_ms, 10, 3_600_000),
            ("safety_poll_ms", self.safety_poll_ms, 10, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(wrong(at(field), format!("is {value}; allowed: {least} to {most}")));
            }
        }
        let policy = match (self.finality, preset) {
            (Some(tiers), _) => policy(tiers, &at("finality"), window)?,
            (None, Some(preset)) => preset_policy(preset, &at("finality"), window)?,
            (None, None) => return Err(wrong(at("finality"), "must have at least one tier")),
        };
        let (tokens, known_tokens) = tokens(self.tokens, preset, key, id, epochs)?;
        let providers = providers(self.providers, &at("providers"), range_max)?;
        let wanted = self.verify.map(|raw| raw.words(&at("verify"))).transpose()?;
        let (verify, fallback) =
            verify::chosen(wanted, providers.len()).map_err(|why| wrong(at("verify"), why))?;
        Ok(ChainConfig {
            providers,
            preset,
            poll: Duration::from_millis(self.poll_ms),
            safety_poll: Duration::from_millis(self.safety_poll_ms),
            rules: ChainRules {
                id,
                name,
                start: self.start_block.map_or(Start::Tip, Start::Block),
                lag_max,
                window,
                range_max,
                filter: match self.filter {
                    RawFilter::Auto => FilterKind::Auto,
                    RawFilter::Tokens => FilterKind::Tokens,
                    RawFilter::Recipients => FilterKind::Recipients,
                },
                policy,
                verify,
                fallback,
                tokens,
                known_tokens,
                epochs: Arc::clone(epochs),
                oracle: Arc::default(),
                screening: None,
                unlisted_per_day: i64::from(self.unlisted_per_day),
                time_ahead_max_ms: i64::try_from(ahead_s.saturating_mul(1_000)).unwrap_or(i64::MAX),
            },
        })
    }
}

impl RawVerify {
    fn words(self, key: &str) -> Result<Vec<String>, ConfigError> {
        match self {
            Self::One(word) => Ok(vec![word]),
            Self::List(words) => Ok(words),
            Self::Other(_) => Err(wrong(key, "is neither a word in quotes nor a list of them")),
        }
    }
}

fn preset_policy(preset: &Preset, key: &str, window: u64) -> Result<Policy, ConfigError> {
    let tiers = preset
        .finality
        .iter()
        .map(|tier| {
            let up_to_usd = tier
                .up_to_usd
                .map(|usd| usd.to_string().parse::<Rate>())
                .transpose()
                .map_err(|e| wrong(key, e.to_string()))?;
            if let Finality::Confirmations(n) = tier.finality
                && n > window
            {
                let problem = format!(
                    "of the preset asks for {n} confirmations: reorg_window must be at least that"
                );
                return Err(wrong(key, problem));
            }
            Ok(Tier { up_to_usd, finality: tier.finality })
        })
        .collect::<Result<_, ConfigError>>()?;
    Policy::new(tiers).map_err(|e| wrong(key, e))
}

fn policy(tiers: Vec<RawTier>, key: &str, window: u64) -> Result<Policy, ConfigError> {
    let tiers = tiers
        .into_iter()
        .enumerate()
        .map(|(i, tier)| {
            let finality = match (tier.confirmations, tier.tag) {
                (Some(n), None) if n > window => {
                    let problem = format!("is {n}; allowed: at most reorg_window, {window}");
                    return Err(wrong(format!("{key}[{i}].confirmations"), problem));
                }
                (Some(n), None) => Finality::Confirmations(n),
                (None, Some(RawTag::Safe)) => Finality::Safe,
                (None, Some(RawTag::Finalized)) => Finality::Finalized,
                _ => {
                    let problem =
                        "needs one of confirmations = N and tag = \"safe\" or \"finalized\"";
                    return Err(wrong(format!("{key}[{i}]"), problem));
                }
            };
            Ok(Tier { up_to_usd: tier.up_to_usd, finality })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Policy::new(tiers).map_err(|e| wrong(key, e))
}
