//! One TOML file and the environment, parsed once into a checked [`Config`].
//!
//! Every error names its key and what is allowed. `TOPUPD_DATABASE__URL` overrides `database.url`,
//! and so on for every key that names a text, number or flag. Nothing is read again later.

mod chain;
mod daemon;
mod environment;
mod epoch;
mod error;
mod log;
mod oracle;
mod provider;
mod reserved;
mod screening;
mod secrets;
mod token;
mod url;
mod verify;
mod warnings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Value;

use self::chain::{RawChain, TEST_CHAINS};
use self::daemon::{RawDaemon, RawDatabase};
use self::environment::{override_key, without_the_text};
use self::epoch::{RawEpoch, check_into_decimals};
use self::error::wrong;
use self::log::RawLog;
use self::oracle::{RawOracle, RawTreasury};
use self::screening::RawScreening;
use crate::domain::ids::{ChainId, Network};
use crate::domain::pricing::EpochBook;
use crate::domain::wallet::AccountXpub;
use crate::store::Database;
use crate::text::{line_of, read_text};

pub use self::chain::ChainConfig;
pub use self::daemon::{DaemonConfig, daemon_name};
pub use self::error::ConfigError;
pub use self::log::{LogConfig, read_key};
pub use self::oracle::{BySource, Headers, OracleConfig};
pub use self::screening::ScreeningConfig;
pub use self::url::masked;
pub use self::warnings::Warning;

/// Longest file of configuration that is read.
const FILE_MAX: u64 = 16 << 20;

/// Prefix of the environment variables that override keys; `__` stands for the point.
pub const ENV_PREFIX: &str = "TOPUPD_";

/// Names the file itself, and so no key of it.
pub const CONFIG_FILE: &str = "TOPUPD_CONFIG";

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWallet {
    account_xpub: Option<String>,
}

impl Config {
    /// The chains that it has.
    pub fn chain_ids(&self) -> Vec<ChainId> {
        self.chains.iter().map(|chain| chain.rules.id).collect()
    }

    /// Whether there is all that a daemon needs to ask others. Who only reads the database needs none of it.
    ///
    /// # Errors
    /// A key that the environment lacks.
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
                let line = line_of(text, e.span());
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
            chain.rules.screening = screening.as_ref().map(|s| Arc::clone(&s.rules));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finality::Verify;
    use crate::presets;

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
