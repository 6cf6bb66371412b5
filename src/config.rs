//! One TOML file and the environment, parsed once into a checked [`Config`].
//!
//! Every error names its key and what is allowed. `TOPUPD_DATABASE__URL` overrides `database.url`,
//! and so on for every key that names a text, number or flag. Nothing is read again later.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Value;
use url::Url;

use crate::domain::finality::{Finality, Policy, Tier};
use crate::domain::ids::{ChainId, Network};
use crate::domain::money::{Rate, TOKEN_DECIMALS_MAX};
use crate::domain::pricing::{Dust, Epoch, EpochBook, Phase, Terms, Token, Valuation};
use crate::domain::wallet::{AccountXpub, parse_address};
use crate::store::{Database, DatabaseUrl};
use crate::tasks::{ChainRules, FilterKind, Start};

/// Prefix of the environment variables that override keys; `__` stands for the point.
pub const ENV_PREFIX: &str = "TOPUPD_";

/// Names the file itself, and so no key of it.
pub const CONFIG_FILE: &str = "TOPUPD_CONFIG";

/// Chain ids whose tokens anybody can have for nothing: local ones (anvil, hardhat, ganache), and
/// the public test networks, as chainlist.org lists them.
const TEST_CHAINS: &[u64] = &[
    1_337, 31_337, // local
    11_155_111, 17_000, 560_048, // Sepolia, Holesky, Hoodi
    84_532, 11_155_420, 421_614, // Base, OP and Arbitrum Sepolia
    97, 80_002, 43_113, // BNB Smart Chain testnet, Polygon Amoy, Avalanche Fuji
];

/// A key and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key, dotted; or the file.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

fn wrong(key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError { key: key.into(), problem: problem.into() }
}

/// The configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Network of the database and of every chain.
    pub network: Network,
    /// Where the database is, and how it is used.
    pub database: Database,
    /// How this daemon works beside others.
    pub daemon: DaemonConfig,
    /// Key that deposit addresses are derived from.
    pub account_xpub: Option<AccountXpub>,
    /// Chains, by name.
    pub chains: Vec<ChainConfig>,
    /// Pricing rules.
    pub epochs: Arc<EpochBook>,
}

/// How a daemon works beside others on the same database.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Its name, for people; without one, that of the machine.
    pub name: Option<String>,
    /// How long a lease lasts unless it is renewed: after a holder's death, the longest time until
    /// another daemon goes on with its work.
    pub lease: Duration,
}

/// One chain.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// What its tasks go by.
    pub rules: ChainRules,
    /// Who is asked.
    pub provider: ProviderConfig,
    /// Pause between polls without a WebSocket.
    pub poll: Duration,
    /// Pause between polls while a WebSocket announces heads.
    pub safety_poll: Duration,
}

/// A provider of a chain.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Its name, for logs and evidence.
    pub name: String,
    /// JSON-RPC over HTTP.
    pub http: Url,
    /// JSON-RPC over WebSocket.
    pub ws: Option<Url>,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    network: Network,
    database: RawDatabase,
    #[serde(default)]
    daemon: RawDaemon,
    #[serde(default)]
    wallet: RawWallet,
    chains: BTreeMap<String, RawChain>,
    epochs: Vec<RawEpoch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDatabase {
    url: String,
    connections: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDaemon {
    name: Option<String>,
    lease_ms: u64,
}

impl Default for RawDaemon {
    fn default() -> Self {
        Self { name: None, lease_ms: 10_000 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWallet {
    account_xpub: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChain {
    chain_id: u64,
    providers: Vec<RawProvider>,
    start_block: Option<u64>,
    #[serde(default = "default_window")]
    reorg_window: u64,
    #[serde(default = "default_range")]
    range_max: u64,
    #[serde(default = "default_poll_ms")]
    poll_ms: u64,
    #[serde(default = "default_safety_poll_ms")]
    safety_poll_ms: u64,
    #[serde(default)]
    filter: RawFilter,
    #[serde(default = "default_unlisted")]
    unlisted_per_day: u32,
    finality: Vec<RawTier>,
    tokens: Vec<RawToken>,
}

const fn default_window() -> u64 {
    128
}
const fn default_range() -> u64 {
    2_000
}
const fn default_poll_ms() -> u64 {
    2_000
}
const fn default_safety_poll_ms() -> u64 {
    15_000
}
const fn default_unlisted() -> u32 {
    100
}
const fn default_timeout_ms() -> u64 {
    10_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    name: String,
    http: String,
    ws: Option<String>,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFilter {
    #[default]
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    symbol: String,
    asset: Option<String>,
    address: String,
    decimals: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEpoch {
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
    minimum: Option<Rate>,
    #[serde(default)]
    dust: Dust,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawValuation {
    Par,
    Fixed,
}

impl Config {
    /// Reads a file and applies the given environment to it.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            wrong(&shown, format!("cannot be read: {e}; name the file with --config FILE"))
        })?;
        Self::parse(&text, &shown, environment)
    }

    /// Parses configuration text. `shown` names it in errors.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn parse(
        text: &str,
        shown: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Value = toml::from_str::<toml::Table>(text)
            .map(Value::Table)
            .map_err(|e| wrong(shown, format!("is not TOML: {}", e.message())))?;
        for (name, value) in environment {
            if name == CONFIG_FILE {
                continue;
            }
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut table, &name, &key.to_lowercase(), value)?;
            }
        }
        let raw: RawConfig = serde_path_to_error::deserialize(table).map_err(|error| {
            let path = error.path().to_string();
            let key = if path == "." { shown.to_owned() } else { path };
            // What the library would repeat may hold a password.
            if key == "database" {
                return wrong(
                    key,
                    "must be a table with the key url: database.url, TOPUPD_DATABASE__URL",
                );
            }
            if key == "database.url" {
                return wrong(key, "must be a text");
            }
            wrong(key, error.into_inner().message().trim().replace('\n', "; "))
        })?;
        raw.check()
    }
}

/// Sets `a__b` to a value, typed as the key it replaces, or else as it reads.
fn override_key(
    table: &mut Value,
    variable: &str,
    key: &str,
    value: String,
) -> Result<(), ConfigError> {
    let mut at = table;
    let mut parts = key.split("__").peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        // Variables are written in capitals; keys such as USDC are too, and others are not.
        let written = match &*at {
            Value::Table(table) => table.keys().find(|key| key.eq_ignore_ascii_case(part)),
            _ => None,
        };
        let part = written.cloned().unwrap_or_else(|| part.to_owned());
        let part = part.as_str();
        let next = match at {
            Value::Table(table) if last => {
                let typed = match table.get(part) {
                    Some(Value::String(_)) => Value::String(value),
                    _ => value.parse().map_or_else(|_| literal(value), Value::Integer),
                };
                table.insert(part.to_owned(), typed);
                return Ok(());
            }
            Value::Table(table) => Some(
                table.entry(part.to_owned()).or_insert_with(|| Value::Table(toml::Table::new())),
            ),
            Value::Array(items) => part.parse::<usize>().ok().and_then(|i| items.get_mut(i)),
            _ => None,
        };
        at = next.ok_or_else(|| {
            wrong(variable, format!("there is no key {:?} to override", key.replace("__", ".")))
        })?;
    }
    Ok(())
}

fn literal(value: String) -> Value {
    match value.as_str() {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => Value::String(value),
    }
}

impl RawConfig {
    fn check(self) -> Result<Config, ConfigError> {
        let daemon = self.daemon.check()?;
        let database = self.database.check(daemon.lease, self.chains.len())?;
        let account_xpub = match &self.wallet.account_xpub {
            None => None,
            Some(text) => Some(
                AccountXpub::parse(text)
                    .map_err(|e| wrong("wallet.account_xpub", e.to_string()))?,
            ),
        };
        let epochs = self
            .epochs
            .into_iter()
            .enumerate()
            .map(|(i, epoch)| epoch.check(&format!("epochs[{i}]"), self.network))
            .collect::<Result<Vec<_>, _>>()?;
        if epochs.is_empty() {
            return Err(wrong("epochs", "must have at least one entry"));
        }
        let epochs = Arc::new(EpochBook::new(epochs).map_err(|e| wrong("epochs", e))?);
        let mut chains = Vec::new();
        for (name, chain) in self.chains {
            let key = format!("chains.{name}");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(wrong(key, "a chain's name is made of a-z, 0-9 and -"));
            }
            let chain = chain.check(&key, name, &epochs)?;
            if self.network == Network::Mainnet && TEST_CHAINS.contains(&chain.rules.id.0) {
                let problem = format!(
                    "{} is a test chain, whose tokens are worth nothing; network = \"mainnet\" does not take them",
                    chain.rules.id.0
                );
                return Err(wrong(format!("{key}.chain_id"), problem));
            }
            let same = |c: &ChainConfig| c.rules.id == chain.rules.id;
            if chains.iter().any(same) {
                return Err(wrong(format!("{key}.chain_id"), "is used by two chains"));
            }
            chains.push(chain);
        }
        if chains.is_empty() {
            return Err(wrong("chains", "must have at least one chain"));
        }
        Ok(Config { network: self.network, database, daemon, account_xpub, chains, epochs })
    }
}

impl RawDatabase {
    fn check(self, lease: Duration, chains: usize) -> Result<Database, ConfigError> {
        let url: DatabaseUrl = self.url.parse().map_err(|e: String| wrong("database.url", e))?;
        // Each chain uses two at once, and the leases and the questions of people one each. With
        // fewer, a daemon would wait for itself, and take that for a database that is away.
        let least = u32::try_from(chains).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(2);
        let connections = self.connections.unwrap_or_else(|| least.max(10));
        if !(least..=1_000).contains(&connections) {
            let problem =
                format!("is {connections}; allowed with {chains} chain(s): {least} to 1000");
            return Err(wrong("database.connections", problem));
        }
        let database = Database::from(url);
        // A holder that sleeps inside a transaction must have lost its rows when its lease ends.
        let idle_in_transaction = database.idle_in_transaction.min(lease);
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
    fn check(self) -> Result<DaemonConfig, ConfigError> {
        if !(500..=600_000).contains(&self.lease_ms) {
            let problem = format!("is {}; allowed: 500 to 600000", self.lease_ms);
            return Err(wrong("daemon.lease_ms", problem));
        }
        let name = self.name.map(|name| daemon_name(name, "daemon.name")).transpose()?;
        Ok(DaemonConfig { name, lease: Duration::from_millis(self.lease_ms) })
    }
}

impl RawChain {
    fn check(
        self,
        key: &str,
        name: String,
        epochs: &Arc<EpochBook>,
    ) -> Result<ChainConfig, ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        let id = ChainId(self.chain_id);
        if i64::try_from(self.chain_id).is_err() || self.chain_id == 0 {
            return Err(wrong(at("chain_id"), "must be an EIP-155 chain id: 1 or more"));
        }
        for (field, value, least, most) in [
            ("reorg_window", self.reorg_window, 1, 100_000),
            ("range_max", self.range_max, 1, 100_000),
            ("poll_ms", self.poll_ms, 10, 3_600_000),
            ("safety_poll_ms", self.safety_poll_ms, 10, 3_600_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(wrong(at(field), format!("is {value}; allowed: {least} to {most}")));
            }
        }
        let policy = policy(self.finality, &at("finality"), self.reorg_window)?;
        if self.tokens.is_empty() {
            return Err(wrong(at("tokens"), "must have at least one token"));
        }
        let mut tokens: Vec<Token> = Vec::new();
        for (i, token) in self.tokens.into_iter().enumerate() {
            let key = format!("{key}.tokens[{i}]");
            let token = token.check(&key, id, epochs)?;
            if tokens.iter().any(|t| t.address == token.address) {
                return Err(wrong(format!("{key}.address"), "is used by two tokens"));
            }
            tokens.push(token);
        }
        let mut providers = self.providers.into_iter();
        let (Some(provider), None) = (providers.next(), providers.next()) else {
            return Err(wrong(
                at("providers"),
                "must have exactly one entry: this version asks one provider per chain",
            ));
        };
        Ok(ChainConfig {
            provider: provider.check(&at("providers[0]"))?,
            poll: Duration::from_millis(self.poll_ms),
            safety_poll: Duration::from_millis(self.safety_poll_ms),
            rules: ChainRules {
                id,
                name,
                start: self.start_block.map_or(Start::Tip, Start::Block),
                window: self.reorg_window,
                range_max: self.range_max,
                filter: match self.filter {
                    RawFilter::Tokens => FilterKind::Tokens,
                    RawFilter::Recipients => FilterKind::Recipients,
                },
                policy,
                tokens,
                epochs: Arc::clone(epochs),
                unlisted_per_day: i64::from(self.unlisted_per_day),
            },
        })
    }
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

impl RawToken {
    fn check(self, key: &str, chain: ChainId, epochs: &EpochBook) -> Result<Token, ConfigError> {
        let address =
            parse_address(&self.address).map_err(|e| wrong(format!("{key}.address"), e))?;
        if self.decimals > TOKEN_DECIMALS_MAX {
            let problem = format!("is {}; allowed: 0 to {TOKEN_DECIMALS_MAX}", self.decimals);
            return Err(wrong(format!("{key}.decimals"), problem));
        }
        let asset = self.asset.unwrap_or_else(|| self.symbol.clone());
        let mut accepted = false;
        for epoch in epochs.all() {
            let Some(terms) = epoch.accept.get(&asset) else { continue };
            accepted = true;
            if let Some(minimum) = terms.minimum {
                minimum.to_raw(self.decimals).map_err(|e| {
                    let key = format!("epochs {:?} accept.{asset}.minimum", epoch.id);
                    wrong(key, format!("{e}, as many as {} on {chain}", self.symbol))
                })?;
            }
        }
        if !accepted {
            let problem = format!(
                "no epoch accepts {asset:?}; add epochs.accept.{asset}, or remove the token"
            );
            return Err(wrong(format!("{key}.asset"), problem));
        }
        Ok(Token { chain, address, symbol: self.symbol, asset, decimals: self.decimals })
    }
}

impl RawProvider {
    fn check(self, key: &str) -> Result<ProviderConfig, ConfigError> {
        if self.name.is_empty() {
            return Err(wrong(format!("{key}.name"), "must not be empty"));
        }
        if !(100..=120_000).contains(&self.timeout_ms) {
            return Err(wrong(format!("{key}.timeout_ms"), "allowed: 100 to 120000"));
        }
        let http = url(&self.http, &["http", "https"], &format!("{key}.http"))?;
        let ws = match &self.ws {
            None => None,
            Some(ws) => Some(url(ws, &["ws", "wss"], &format!("{key}.ws"))?),
        };
        let timeout = Duration::from_millis(self.timeout_ms);
        Ok(ProviderConfig { name: self.name, http, ws, timeout })
    }
}

/// Never repeats the text: a URL may hold a key.
fn url(text: &str, schemes: &[&str], key: &str) -> Result<Url, ConfigError> {
    let allowed = || format!("is not a URL that starts with {}://", schemes.join(":// or "));
    let url = Url::parse(text).map_err(|_| wrong(key, allowed()))?;
    if schemes.contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        Err(wrong(key, allowed()))
    }
}

impl RawEpoch {
    fn check(self, key: &str, network: Network) -> Result<Epoch, ConfigError> {
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
            let problem = "is testnet; allowed on mainnet: pre_tge";
            return Err(wrong(format!("{key}.phase"), problem));
        }
        if self.phase == Phase::PostTge {
            let problem =
                "is post_tge, which needs a market price: this version knows testnet and pre_tge";
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
                if fixed && network == Network::Mainnet {
                    let problem = "is fixed; allowed on mainnet: par";
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
        let valuation = match (self.valuation, self.credits_per_usd, self.credits_per_token) {
            (RawValuation::Par, Some(credits_per_usd), None) => Valuation::Par { credits_per_usd },
            (RawValuation::Fixed, None, Some(credits_per_token)) => {
                Valuation::Fixed { credits_per_token }
            }
            (RawValuation::Par, ..) => {
                return Err(wrong(key, "valuation = \"par\" needs credits_per_usd, and only that"));
            }
            (RawValuation::Fixed, ..) => {
                let problem = "valuation = \"fixed\" needs credits_per_token, and only that";
                return Err(wrong(key, problem));
            }
        };
        if valuation.credits_per_token().is_zero() {
            return Err(wrong(key, "a rate of 0 gives no credits"));
        }
        Ok(Terms { valuation, minimum: self.minimum, dust: self.dust })
    }
}

/// A URL as it may be shown: no user, password, path or query, where keys live.
#[must_use]
pub fn masked(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let plain = url.path().trim_matches('/').is_empty()
        && url.query().is_none()
        && url.username().is_empty();
    let rest = if plain { "" } else { "/…" };
    format!("{}://{host}{port}{rest}", url.scheme())
}
