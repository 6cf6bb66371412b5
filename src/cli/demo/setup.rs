//! What the demo runs on: its database, and its configuration file.

use std::path::{Path, PathBuf};

use alloy::primitives::U256;
use tempfile::TempDir;

use crate::cli::error::CliError;
use crate::cli::log::new_key;
use crate::cli::print::print;
use crate::devnet::{Devnet, TestToken, Tokens};
use crate::store::DatabaseUrl;

/// `m/44'/60'/0'/0` of the mnemonic "abandon … about" that BIP-39 uses in its test vectors. Its
/// private keys are public: good for a demo, and for nothing else.
const DEMO_XPUB: &str = "xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr";
#[cfg(unix)]
pub(in crate::cli) type Server = crate::devnet::Postgres;
/// There is no throwaway server here.
#[cfg(not(unix))]
pub(in crate::cli) type Server = ();

/// Where the demo's database is, with the server that it brought along.
pub(in crate::cli) async fn database(
    wanted: Option<&str>,
    dir: &Path,
) -> Result<(String, Option<Server>), CliError> {
    match wanted {
        None => Ok((format!("sqlite:{}", dir.join("topupd.db").display()), None)),
        #[cfg(unix)]
        Some("postgres") => {
            let options = crate::devnet::PostgresOptions { durable: true, ..Default::default() };
            let server = crate::devnet::Postgres::start(options)
                .await
                .map_err(|e| CliError::Failed(e.to_string()))?;
            print(&format!("started {}", server.described()))?;
            Ok((server.url("postgres"), Some(server)))
        }
        Some(url) => {
            url.parse::<DatabaseUrl>()
                .map_err(|e| CliError::BadInput(format!("--database: {e}, or postgres")))?;
            Ok((url.to_owned(), None))
        }
    }
}

/// The epoch after the TGE, and how often prices are asked for.
pub(in crate::cli) fn after_tge(epoch: &str, starts_at: &str) -> String {
    format!(
        r#"
[[epochs]]
id = "{epoch}"
starts_at = "{starts_at}"
phase = "post_tge"

[epochs.accept]
RTITY = {{ valuation = "fixed", credits_per_token = "50" }}
USDC = {{ valuation = "convert", into = "RTITY" }}
USDT = {{ valuation = "convert", into = "RTITY" }}

[oracle]
sample_s = 1
patience_s = 2
"#
    )
}

/// The folder that is wanted, or one that goes when the other half of this does.
pub(in crate::cli) fn folder(
    wanted: Option<&Path>,
    prefix: &str,
) -> Result<(PathBuf, Option<TempDir>), CliError> {
    let failed = |e: std::io::Error| CliError::Failed(e.to_string());
    match wanted {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            // Absolute, so that what is printed is true in another directory too.
            Ok((std::path::absolute(dir).map_err(failed)?, None))
        }
        None => {
            let dir = TempDir::with_prefix(prefix).map_err(failed)?;
            Ok((dir.path().to_owned(), Some(dir)))
        }
    }
}

/// Gives everybody but the first account some of every token.
pub(in crate::cli) async fn fill_purses(net: &Devnet, tokens: &Tokens) -> Result<(), CliError> {
    for account in net.accounts.iter().skip(1) {
        for (token, decimals) in [(tokens.usdt, 6u64), (tokens.usdc, 6), (tokens.rtity, 18)] {
            let value = U256::from(1_000_000_000u64)
                .saturating_mul(U256::from(10).pow(U256::from(decimals)));
            net.transact(token, TestToken::mintCall { to: *account, value }).await?;
        }
    }
    Ok(())
}

/// A key of the log in this folder, which is the demo's own.
pub(in crate::cli) fn log_key(dir: &Path) -> Result<PathBuf, CliError> {
    let file = dir.join("log.key");
    new_key(&file, "demo.invalid/topupd")?;
    Ok(file)
}

/// What differs between the configurations of local chains.
pub(in crate::cli) struct Local<'a> {
    /// The command that writes it.
    pub(in crate::cli) by: &'a str,
    pub(in crate::cli) database: &'a str,
    pub(in crate::cli) log_key: &'a Path,
    /// What stands between the brackets of `providers`.
    pub(in crate::cli) providers: String,
    pub(in crate::cli) verify: &'a str,
    /// What stands between the brackets of `finality`.
    pub(in crate::cli) finality: String,
    /// The id of the epoch.
    pub(in crate::cli) epoch: &'a str,
}

/// A configuration for a local chain with three tokens.
pub(in crate::cli) fn configuration(tokens: &Tokens, local: &Local<'_>) -> String {
    format!(
        r#"# Written by `topupd {}`.
network = "testnet"

[database]
url = "{}"

[log]
key_file = "{}"

[wallet]
account_xpub = "{DEMO_XPUB}"

[chains.local]
chain_id = 31337
start_block = 0
poll_ms = 200
safety_poll_ms = 1000
verify = "{}"
providers = [{}]
finality = [{}]
tokens = [
  {{ symbol = "USDT", address = "{}", decimals = 6 }},
  {{ symbol = "USDC", address = "{}", decimals = 6 }},
  {{ symbol = "RTITY", address = "{}", decimals = 18 }},
]

[[epochs]]
id = "{}"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"

[epochs.accept]
USDT = {{ valuation = "par", credits_per_usd = "1000" }}
USDC = {{ valuation = "par", credits_per_usd = "1000" }}
RTITY = {{ valuation = "fixed", credits_per_token = "50" }}
"#,
        local.by,
        local.database,
        local.log_key.display(),
        local.verify,
        local.providers,
        local.finality,
        tokens.usdt.to_checksum(None),
        tokens.usdc.to_checksum(None),
        tokens.rtity.to_checksum(None),
        local.epoch,
    )
}
