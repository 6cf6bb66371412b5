//! What a scenario runs on: a node, a proxy in front of it for each provider, a database, a configuration and a
//! daemon; and a state of the chain that can be saved and begun from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::{Address, Bytes, TxHash};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::scenario::Scenario;
use crate::cli::demo::end::command;
use crate::cli::demo::setup::{
    Local, Server, after_tge, configuration, database, fill_purses, folder, log_key,
};
use crate::cli::error::CliError;
use crate::cli::run::holder;
use crate::cli::words::time;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::daemon::parts::Start;
use crate::devnet::proxy::Proxy;
use crate::devnet::{AnvilOptions, Devnet, Feed, Payer, Tokens};
use crate::domain::ids::NamespaceName;
use crate::domain::pricing::Token;
use crate::store::Store;
use crate::text::read_text;

/// Largest saved state that is read.
const STATE_MAX: u64 = 1 << 30;
/// A chain that was saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// USDT, USDC and RTITY.
    tokens: [Address; 3],
    /// The price feeds by asset, each with the contract behind it.
    feeds: BTreeMap<String, (Address, Address)>,
    /// The newest block's time.
    time_s: i64,
    /// As anvil gives it.
    state: Bytes,
}

/// A payment.
pub(super) struct Payment {
    pub(super) tx: TxHash,
    pub(super) raw: Bytes,
    pub(super) token: Token,
}

/// A running scenario.
pub(super) struct Stage {
    pub(super) net: Devnet,
    pub(super) proxies: Vec<Proxy>,
    pub(super) tokens: Tokens,
    pub(super) feeds: BTreeMap<String, Feed>,
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) payer: Payer,
    pub(super) random: fastrand::Rng,
    /// Where payments go, by namespace.
    pub(super) addresses: BTreeMap<NamespaceName, Address>,
    pub(super) payments: BTreeMap<String, Payment>,
    daemon: Daemon,
    path: PathBuf,
    _dir: Option<TempDir>,
    _server: Option<Server>,
}

pub(super) fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

impl Stage {
    /// Starts all of it.
    pub(super) async fn start(
        scenario: &Scenario,
        dir: Option<&Path>,
        database_url: Option<&str>,
    ) -> Result<Self, CliError> {
        let (dir, temporary) = folder(dir, "topupd-devnet-")?;
        let path = dir.join("topupd.toml");
        if path.exists() {
            let why = format!("{} is there already: give another --dir", path.display());
            return Err(CliError::BadInput(why));
        }
        let port = scenario.chain.port;
        let net = Devnet::start(AnvilOptions { port, ..AnvilOptions::default() }).await?;
        let (tokens, feeds, ahead_s) = match &scenario.chain.state {
            Some(file) => load(&net, file).await?,
            None => deploy(&net, scenario.market.is_some()).await?,
        };
        if scenario.market.is_some() && feeds.is_empty() {
            let why =
                "the saved chain has no price feeds: it was saved by a scenario without [market]";
            return Err(CliError::BadInput(why.into()));
        }
        net.automine(false).await?;
        let mut proxies = Vec::new();
        for n in 1..=scenario.chain.providers {
            let after = u16::try_from(n).unwrap_or(u16::MAX);
            let port = if port == 0 { 0 } else { port.saturating_add(after) };
            proxies.push(Proxy::on(port, &net.http).await.map_err(failed)?);
        }
        let (url, server) = database(database_url, &dir).await?;
        std::fs::write(&path, written(scenario, (&tokens, &feeds), &proxies, &url, &dir)?)
            .map_err(failed)?;
        let config = Config::load(&path, [])?;
        let store = Store::open(&config.database, config.network, SystemClock.now_ms()).await?;
        if ahead_s > 0 {
            // The saved chain is of a time that is still to come.
            store.advance_clock(ahead_s.saturating_mul(1_000)).await?;
        }
        let addresses = register(scenario, &store, &config).await?;
        let start = Start { holder: holder(&config), tasks: true, create: false };
        let daemon = Daemon::start(&config, Arc::new(SystemClock), start).await?;
        // The first account deploys, and is left to whoever looks on.
        let payer = Payer::new(&net, net.accounts.get(1..).unwrap_or_default()).await?;
        Ok(Self {
            net,
            proxies,
            tokens,
            feeds,
            config,
            store,
            payer,
            random: fastrand::Rng::with_seed(scenario.seed),
            addresses,
            payments: BTreeMap::new(),
            daemon,
            path,
            _dir: temporary,
            _server: server,
        })
    }

    /// Where all of it is.
    pub(super) fn described(&self) -> String {
        let namespaces: Vec<String> =
            self.addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
        format!(
            "chain {}, providers {}\n{}\nconfiguration {}",
            self.net.http,
            self.proxies.iter().map(|p| p.http().to_string()).collect::<Vec<_>>().join(" "),
            namespaces.join(", "),
            self.path.display()
        )
    }

    /// What to try while it stays.
    pub(super) fn look_around(&self) -> String {
        let mut lines =
            vec!["while this runs, try in another terminal (Ctrl-C here ends it):".to_owned()];
        for arguments in ["status", "deposits list", "trigger deposit.credited", "clock advance 2d"]
        {
            lines.push(command(&self.path, arguments));
        }
        lines.join("\n  ")
    }

    /// What `ledger verify` says, as an error where it does not hold.
    pub(super) async fn verify(&self) -> Result<String, CliError> {
        match self.store.verify().await? {
            Ok(verified) => Ok(format!("the ledger holds: {} records", verified.records)),
            Err(findings) => Err(CliError::Look(findings.to_string())),
        }
    }

    /// Saves the chain. The pool is not part of it.
    pub(super) async fn save(&self, file: &Path) -> Result<(), CliError> {
        let feeds = self.feeds.iter();
        let saved = Saved {
            tokens: [self.tokens.usdt, self.tokens.usdc, self.tokens.rtity],
            feeds: feeds
                .map(|(asset, feed)| (asset.clone(), (feed.proxy, feed.aggregator)))
                .collect(),
            time_s: self.net.time_ms().await?.div_euclid(1_000),
            state: self.net.dump().await?,
        };
        let text = serde_json::to_string(&saved).map_err(failed)?;
        std::fs::write(file, text).map_err(|e| failed(format!("{}: {e}", file.display())))
    }

    /// Ends the daemon, and the chain with it.
    pub(super) async fn stop(self) {
        self.daemon.shutdown().await;
        self.store.close().await;
    }
}

type Made = (Tokens, BTreeMap<String, Feed>, i64);

/// The contracts of a new chain, and money for those who pay.
async fn deploy(net: &Devnet, with_market: bool) -> Result<Made, CliError> {
    let tokens = net.deploy_tokens().await?;
    let mut feeds = BTreeMap::new();
    if with_market {
        for (asset, e8) in [("USDC", 100_000_000), ("USDT", 100_000_000), ("RTITY", 2_000_000)] {
            let feed = net.deploy_feed(8, &format!("{asset} / USD")).await?;
            net.answer(&feed, e8).await?;
            feeds.insert(asset.to_owned(), feed);
        }
    }
    fill_purses(net, &tokens).await?;
    Ok((tokens, feeds, 0))
}

/// The contracts of a chain that was saved, and by how many seconds it is ahead of this machine's clock.
async fn load(net: &Devnet, file: &Path) -> Result<Made, CliError> {
    let wrong =
        |why: String| CliError::BadInput(format!("{} is no saved chain: {why}", file.display()));
    let text = read_text(file, STATE_MAX).map_err(|e| wrong(e.to_string()))?;
    let saved: Saved = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    net.load(&saved.state).await?;
    let now_s = SystemClock.now_ms().div_euclid(1_000);
    let next_s = now_s.max(saved.time_s.saturating_add(1));
    net.mine_at(u64::try_from(next_s).unwrap_or_default()).await?;
    let [usdt, usdc, rtity] = saved.tokens;
    let feeds = saved
        .feeds
        .into_iter()
        .map(|(asset, (proxy, aggregator))| (asset, Feed { proxy, aggregator }))
        .collect();
    Ok((Tokens { usdt, usdc, rtity }, feeds, next_s.saturating_sub(now_s)))
}

/// The configuration file.
fn written(
    scenario: &Scenario,
    (tokens, feeds): (&Tokens, &BTreeMap<String, Feed>),
    proxies: &[Proxy],
    url: &str,
    dir: &Path,
) -> Result<String, CliError> {
    let providers: Vec<String> = (1..)
        .zip(proxies)
        .map(|(n, proxy)| format!(r#"{{ name = "provider-{n}", http = "{}" }}"#, proxy.http()))
        .collect();
    let local = Local {
        by: "devnet run",
        database: url,
        log_key: &log_key(dir)?,
        providers: providers.join(", "),
        verify: if proxies.len() > 1 { "second-provider" } else { "same-provider" },
        finality: format!("{{ confirmations = {} }}", scenario.chain.confirmations),
        epoch: "before",
    };
    let mut text = configuration(tokens, &local);
    let Some(market) = &scenario.market else { return Ok(text) };
    let after_ms = i64::try_from(market.tge_after.as_millis()).unwrap_or(i64::MAX);
    let tge_ms = SystemClock.now_ms().saturating_add(after_ms);
    text.push_str(&after_tge("after-tge", &time(tge_ms)));
    for (asset, feed) in feeds {
        let stable = if asset == "RTITY" { "" } else { "stablecoin = true\n" };
        text.push_str(&format!(
            r#"
[oracle.pairs."{asset}/USD"]
{stable}quorum = 1
sources = [
  {{ kind = "chainlink", name = "feed", chain = "local", address = "{}", description = "{asset} / USD", heartbeat_s = 86400 }},
]
"#,
            feed.proxy
        ));
    }
    Ok(text)
}

/// The namespaces with an address each, and what is imported for them.
async fn register(
    scenario: &Scenario,
    store: &Store,
    config: &Config,
) -> Result<BTreeMap<NamespaceName, Address>, CliError> {
    let now_ms = store.clock().now_ms();
    store.sync_epochs(&config.epochs, now_ms).await?;
    let xpub = config.account_xpub.as_ref().ok_or_else(|| failed("no account_xpub"))?;
    let mut addresses = BTreeMap::new();
    for (name, imported) in &scenario.namespaces {
        store.add_namespace(name, now_ms).await?;
        let mut to = store.new_address(name, xpub, now_ms).await?.address;
        for address in imported {
            store.import_address(name, *address, now_ms).await?;
            // A file that names one means it to be paid.
            to = *address;
        }
        addresses.insert(name.clone(), to);
    }
    Ok(addresses)
}
