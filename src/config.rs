//! One TOML file and the environment, parsed once into a checked [`Config`].
//!
//! Every error names its key and what is allowed. `TOPUPD_DATABASE__URL` overrides `database.url`,
//! and so on for every key that names a text, number or flag. Nothing is read again later.

mod log;
mod oracle;
mod reserved;
mod screening;
mod secrets;
mod verify;
mod warnings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::log::RawLog;
use self::oracle::{RawOracle, RawTreasury};
use self::screening::RawScreening;
use alloy::primitives::Address;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Value;
use url::Url;

use crate::chain::rpc::ProviderOptions;
use crate::domain::finality::{Finality, Policy, Tier};
use crate::domain::ids::{ChainId, Network};
use crate::domain::money::{Rate, TOKEN_DECIMALS_MAX};
use crate::domain::pricing::{Dust, Epoch, EpochBook, Phase, Terms, Token, Valuation};
use crate::domain::wallet::{AccountXpub, parse_address};
use crate::presets::{self, Preset};
use crate::store::{Database, DatabaseUrl};
use crate::tasks::{ChainRules, FilterKind, Start};
use crate::text::read_text;

pub use self::log::{LogConfig, read_key};
pub use self::oracle::{BySource, Headers, OracleConfig};
pub use self::screening::ScreeningConfig;
pub use self::warnings::Warning;

/// Longest file of configuration that is read.
const FILE_MAX: u64 = 16 << 20;

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
    /// Market prices.
    pub oracle: OracleConfig,
    /// Who is asked before a payment is credited.
    pub screening: Option<ScreeningConfig>,
    /// Who signs the log.
    pub log: LogConfig,
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
struct RawConfig {
    network: Network,
    database: RawDatabase,
    #[serde(default)]
    daemon: RawDaemon,
    #[serde(default)]
    wallet: RawWallet,
    chains: BTreeMap<String, RawChain>,
    epochs: Vec<RawEpoch>,
    #[serde(default)]
    oracle: RawOracle,
    #[serde(default)]
    treasury: RawTreasury,
    screening: Option<RawScreening>,
    #[serde(default)]
    log: RawLog,
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
    priority: Option<u32>,
    rate_limit: Option<u32>,
    max_range: Option<u64>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    symbol: String,
    asset: Option<String>,
    address: String,
    decimals: u8,
}

/// A token of the preset by its name there, or any token.
#[derive(Debug)]
enum RawTokenOrKey {
    Key(String),
    Token(RawToken),
}

impl<'de> Deserialize<'de> for RawTokenOrKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawTokenOrKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a token of the preset, such as \"USDC\", or a table with symbol, address and decimals")
            }

            fn visit_str<E>(self, key: &str) -> Result<RawTokenOrKey, E> {
                Ok(RawTokenOrKey::Key(key.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTokenOrKey, A::Error> {
                RawToken::deserialize(MapAccessDeserializer::new(map)).map(RawTokenOrKey::Token)
            }
        }
        deserializer.deserialize_any(Either)
    }
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

impl Config {
    /// The chains that it has.
    #[must_use]
    pub fn chain_ids(&self) -> Vec<ChainId> {
        self.chains.iter().map(|chain| chain.rules.id).collect()
    }

    /// Whether there is all that a daemon needs to ask others. Who only reads the database needs none of it.
    ///
    /// # Errors
    /// A key that the environment lacks, or a list of the screening that cannot be read.
    pub fn ready(&self) -> Result<(), ConfigError> {
        self.oracle.headers.all()?;
        self.log.signer()?;
        self.screening.as_ref().map_or(Ok(()), ScreeningConfig::ready)
    }

    /// Reads a file and applies the given environment to it. What only those need who ask others is looked
    /// at by [`Self::ready`].
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = read_text(path, FILE_MAX).map_err(|e| {
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
        let mut table: Value =
            toml::from_str::<toml::Table>(text).map(Value::Table).map_err(|e| {
                let before = e.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| before.split('\n').count());
                wrong(shown, format!("is not TOML: line {line}: {}", e.message()))
            })?;
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        for (name, value) in &environment {
            if name == CONFIG_FILE {
                continue;
            }
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut table, name, &key.to_lowercase(), value.clone())?;
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
            wrong(key, without_the_text(error.into_inner().message().trim()).replace('\n', "; "))
        })?;
        raw.check(&environment)
    }
}

/// What the library says of a value of the wrong type, without the text that was given: it may be a URL with a password
/// or a key, put where a table or a list belongs.
fn without_the_text(message: &str) -> String {
    const GIVEN: &str = ": string \"";
    match (message.find(GIVEN), message.rfind("\", expected")) {
        (Some(from), Some(to)) if message.starts_with("invalid ") && from < to => {
            let (before, after) = (message.get(..from), message.get(to.saturating_add(1)..));
            format!("{}: a text{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => message.to_owned(),
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
    fn check(self, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
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
        let treasury = self.treasury.check()?;
        let oracle = self.oracle.check(self.network, &chains, &epochs, treasury, environment)?;
        let screening = self.screening.map(|raw| raw.check(self.network, environment));
        let screening = screening.transpose()?;
        for chain in &mut chains {
            chain.rules.oracle = Arc::clone(&oracle.oracle);
            chain.rules.screen = screening.as_ref().map(|s| Arc::clone(&s.screen));
        }
        check_into_decimals(&chains, &epochs)?;
        let network = self.network;
        let log = self.log.check()?;
        Ok(Config {
            network,
            database,
            daemon,
            account_xpub,
            chains,
            epochs,
            oracle,
            screening,
            log,
        })
    }
}

/// No pause between two statements of a transaction is taken for a daemon asleep before this.
const IDLE_LEAST: Duration = Duration::from_millis(250);

impl RawDatabase {
    fn check(self, lease: Duration, chains: usize) -> Result<Database, ConfigError> {
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
                screen: None,
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

fn providers(
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

/// The tokens, and which of them are known by the preset.
fn tokens(
    raw: Option<Vec<RawTokenOrKey>>,
    preset: Option<&'static Preset>,
    key: &str,
    chain: ChainId,
    epochs: &EpochBook,
) -> Result<(Vec<Token>, Vec<Address>), ConfigError> {
    let accepted = |asset: &str| epochs.all().iter().any(|e| e.accept.contains_key(asset));
    let raw = match (raw, preset) {
        (Some(raw), _) => raw,
        // The plain USDC and USDT of the chain, as far as they are accepted.
        (None, Some(preset)) => preset
            .tokens
            .iter()
            .filter(|t| t.key == t.asset && accepted(t.asset))
            .map(|t| RawTokenOrKey::Key(t.key.to_owned()))
            .collect(),
        (None, None) => Vec::new(),
    };
    if raw.is_empty() {
        return Err(wrong(format!("{key}.tokens"), "must have at least one token"));
    }
    let (mut tokens, mut known): (Vec<Token>, Vec<Address>) = (Vec::new(), Vec::new());
    for (i, token) in raw.into_iter().enumerate() {
        let key = format!("{key}.tokens[{i}]");
        let token = match token {
            RawTokenOrKey::Token(token) => token.check(&key, chain, epochs)?,
            RawTokenOrKey::Key(name) => {
                let found = preset.and_then(|p| p.token(&name)).ok_or_else(|| {
                    let names: Vec<_> =
                        preset.map_or(&[][..], |p| p.tokens).iter().map(|t| t.key).collect();
                    let problem = match preset {
                        None => format!("is {name:?}, and the chain has no preset that knows it: give symbol, address and decimals"),
                        Some(p) => format!("is {name:?}; the preset {} knows {}", p.name, names.join(", ")),
                    };
                    wrong(&key, problem)
                })?;
                known.push(found.address);
                let raw = RawToken {
                    symbol: found.key.to_owned(),
                    asset: Some(found.asset.to_owned()),
                    address: found.address.to_checksum(None),
                    decimals: found.decimals,
                };
                raw.check(&key, chain, epochs)?
            }
        };
        if tokens.iter().any(|t| t.address == token.address) {
            return Err(wrong(format!("{key}.address"), "is used by two tokens"));
        }
        tokens.push(token);
    }
    Ok((tokens, known))
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

/// Refuses what stands in braces and is none of these names: it would be sent as it stands.
fn placeholders(text: &str, names: &[&str], key: &str) -> Result<(), ConfigError> {
    let known: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    let rest = known.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
    if !rest.contains(['{', '}']) {
        return Ok(());
    }
    if known.is_empty() {
        return Err(wrong(key, "has a brace, { or }: nothing is put into this URL"));
    }
    // Something else in braces may be a key.
    let is_name = |name: &&str| {
        name.len() <= 20 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    };
    let name = rest.split_once('{').and_then(|(_, after)| after.split_once('}'));
    let what = name.map(|(name, _)| name).filter(is_name);
    let what = what.map_or("what stands in braces".to_owned(), |name| format!("{{{name}}}"));
    Err(wrong(key, format!("{what} is not a placeholder; there are {}", known.join(", "))))
}

/// Never repeats the text: a URL may hold a key.
fn url(text: &str, schemes: &[&str], names: &[&str], key: &str) -> Result<Url, ConfigError> {
    placeholders(text, names, key)?;
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
fn check_into_decimals(chains: &[ChainConfig], epochs: &EpochBook) -> Result<(), ConfigError> {
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

/// A URL as it may be shown: no user, password, path or query, where keys live; nothing but its scheme where a
/// password may have ended its host too early.
#[must_use]
pub fn masked(url: &Url) -> String {
    let behind = [Some(url.path()), url.query(), url.fragment()];
    if !url.has_host() || behind.into_iter().flatten().any(|part| part.contains('@')) {
        return format!("{}://…", url.scheme());
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let plain = url.path().trim_matches('/').is_empty()
        && url.query().is_none()
        && url.username().is_empty();
    let rest = if plain { "" } else { "/…" };
    format!("{}://{host}{port}{rest}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finality::Verify;

    /// A whole chain by its preset's name.
    fn parsed(network: &str, chain: &str) -> Result<Config, ConfigError> {
        let text = format!(
            r#"
network = "{network}"
database = {{ url = "sqlite:t.db" }}
{chain}
providers = [{{ name = "a", http = "https://a" }}, {{ name = "b", http = "https://b" }}]
[[epochs]]
id = "one"
starts_at = "2026-01-01T00:00:00Z"
phase = "{}"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1" }}, USDT = {{ valuation = "par", credits_per_usd = "1" }} }}
"#,
            if network == "mainnet" { "pre_tge" } else { "testnet" }
        );
        Config::parse(&text, "test", [])
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_a_part_of_its_password() {
        for (text, shown) in [
            ("https://rpc.example", "https://rpc.example"),
            ("https://rpc.example:8545/v3/s3cret?s3cret", "https://rpc.example:8545/…"),
            ("https://u:s3cret@rpc.example", "https://rpc.example/…"),
            ("https:/u:s3cret@rpc.example/x", "https://rpc.example/…"),
            ("https://u:12/s3cret@rpc.example", "https://…"),
            ("https://s3cret:12?s3cret@rpc.example", "https://…"),
            ("wss://s3cret:12#s3cret@rpc.example", "wss://…"),
            ("x:u:s3cret@rpc.example", "x://…"),
            ("x:/u:s3cret@rpc.example", "x://…"),
        ] {
            assert_eq!(masked(&text.parse().unwrap()), shown, "{text}");
        }
    }

    #[test]
    fn a_text_in_a_wrong_place_is_not_repeated() {
        let chain =
            "[chains.x]\nproviders = \"https://u:s3cret@x/\\\", expected s3cret\"\n[chains.base]";
        let listed = "[chains.base]\nproviders = [\"https://x/s3cret\"]\n[chains.y]";
        for text in [chain, listed] {
            let said = parsed("mainnet", text).unwrap_err().to_string();
            assert!(
                !said.contains("s3cret") && said.contains("invalid type: a text, expected"),
                "{said}"
            );
        }
        let text = "network = \"mainnet\"\ndatabase = { url = \"sqlite:t.db\" }\n[chains.base]\n";
        let given = [("TOPUPD_CHAINS__BASE__PROVIDERS".to_owned(), "https://x/s3cret".to_owned())];
        let said = Config::parse(text, "test", given).unwrap_err().to_string();
        assert!(said.contains("chains.base.providers") && !said.contains("s3cret"), "{said}");
    }

    #[test]
    fn every_preset_and_two_providers_are_a_whole_chain() {
        for preset in presets::all() {
            let network = preset.network.as_str();
            let config = parsed(network, &format!("[chains.{}]", preset.name)).unwrap();
            let chain = &config.chains[0];
            assert_eq!(chain.rules.id.0, preset.chain_id);
            assert_eq!(chain.rules.verify, Verify::SecondProvider);
            assert!(!chain.rules.tokens.is_empty() && chain.rules.lag_max >= 3, "{}", preset.name);
            assert_eq!(chain.rules.known_tokens.len(), chain.rules.tokens.len());
            let decimals = if preset.name.starts_with("bsc") { 18 } else { 6 };
            assert!(chain.rules.tokens.iter().all(|t| t.decimals == decimals), "{}", preset.name);
        }
    }

    #[test]
    fn how_receipts_are_checked_is_a_word_or_a_list() {
        let of = |text: &str| {
            let config = parsed("mainnet", &format!("[chains.base]\nverify = {text}"))?;
            let rules = config.chains.into_iter().next().unwrap().rules;
            Ok::<_, ConfigError>((rules.verify, rules.fallback))
        };
        let (root, second) = (Verify::ReceiptsRoot, Verify::SecondProvider);
        for (text, way) in [
            (r#""receipts-root""#, (root, None)),
            (r#"["receipts-root"]"#, (root, None)),
            (r#"["receipts-root", "second-provider"]"#, (root, Some(second))),
        ] {
            assert_eq!(of(text).unwrap(), way, "{text}");
        }
        for text in ["[]", "7", "[7]", r#""yes""#, r#"["receipts-root", "same-provider"]"#] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains("chains.base.verify"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_configured_beside_a_preset_wins() {
        let chain =
            "[chains.mine]\npreset = \"base\"\nreorg_window = 500\ntokens = [\"USDC\", \"USDbC\"]";
        let config = parsed("mainnet", chain).unwrap();
        let rules = &config.chains[0].rules;
        assert_eq!((rules.window, rules.tokens.len()), (500, 2));
        let error = parsed("mainnet", &chain.replace("USDbC", "USDX")).unwrap_err().to_string();
        assert!(error.contains("tokens[1]") && error.contains("USDbC"), "{error}");
        let error = parsed("mainnet", "[chains.sepolia]").unwrap_err().to_string();
        assert!(error.contains("test chain"), "{error}");
        let small = "[chains.arbitrum]\nreorg_window = 100";
        let error = parsed("mainnet", small).unwrap_err().to_string();
        assert!(error.contains("reorg_window must be at least that"), "{error}");
    }
}
