//! A chain, a configuration and a daemon for one test; nothing is shared between tests.

use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, Bytes, TxHash, U256};
use alloy::sol_types::SolCall;
use tempfile::TempDir;
use topupd::clock::SystemClock;
use topupd::config::Config;
use topupd::daemon::Daemon;
use topupd::daemon::parts::Start;
use topupd::devnet::{AnvilOptions, Devnet, LocalChain, TestToken, Tokens};
use topupd::domain::ids::{ChainId, NamespaceName, Network};
use topupd::store::{DepositFilter, DepositRow, Store};

use crate::database::TestDatabase;

/// `m/44'/60'/0'/0` of the BIP-39 test mnemonic "abandon … about".
pub const XPUB: &str = "xpub6EF8jXqFeFEW5bwMU7RpQtHkzE4KJxcqJtvkCjJumzW8CPpacXkb92ek4WzLQXjL93HycJwTPUAcuNxCqFPKKU5m5Z2Vq4nCyh5CyPeBFFr";

/// How a test wants its configuration; the rest is the same for all.
#[derive(Clone)]
pub struct Wants {
    pub confirmations: u64,
    pub filter: &'static str,
    pub ws: Option<String>,
    /// What stands between the brackets of `providers`; otherwise the node itself, alone.
    pub providers: Option<String>,
    /// How receipts are checked; otherwise by a second provider where there are several.
    pub verify: Option<&'static str>,
    /// More lines of the chain's table.
    pub more: String,
    pub poll_ms: u64,
    pub safety_poll_ms: u64,
    pub lease_ms: u64,
    /// More tokens: symbol, address, decimals.
    pub tokens: Vec<(&'static str, Address, u8)>,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            confirmations: 3,
            filter: "tokens",
            ws: Some(String::new()),
            providers: None,
            verify: None,
            more: String::new(),
            poll_ms: 50,
            safety_poll_ms: 200,
            lease_ms: 1_000,
            tokens: Vec::new(),
        }
    }
}

/// A local chain, which is anvil unless said otherwise, and what a daemon on it needs.
pub struct Net<D = Devnet> {
    pub dev: D,
    pub tokens: Tokens,
    pub dir: TempDir,
    pub database: TestDatabase,
    pub addresses: Vec<Address>,
}

impl Net {
    pub async fn new() -> Self {
        Self::with(AnvilOptions::default()).await
    }

    pub async fn with(options: AnvilOptions) -> Self {
        Self::on(options, TestDatabase::new(crate::ENGINE).await).await
    }

    pub async fn on(options: AnvilOptions, database: TestDatabase) -> Self {
        Self::over(Devnet::start(options).await.unwrap(), database).await
    }

    pub async fn raw(&self, tx: TxHash) -> Bytes {
        self.dev.raw(tx).await.unwrap()
    }
}

impl<D: Deref<Target = LocalChain>> Net<D> {
    /// Deploys the tokens on a chain.
    pub async fn over(dev: D, database: TestDatabase) -> Self {
        let tokens = dev.deploy_tokens().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { dev, tokens, dir, database, addresses: Vec::new() }
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("topupd.toml")
    }

    pub fn config_text(&self, wants: &Wants) -> String {
        let ws = match &wants.ws {
            None => String::new(),
            Some(own) if own.is_empty() => format!(r#", ws = "{}""#, self.dev.ws),
            Some(other) => format!(r#", ws = "{other}""#),
        };
        let provider = || format!(r#"{{ name = "local", http = "{}"{ws} }}"#, self.dev.http);
        let providers = wants.providers.clone().unwrap_or_else(provider);
        let several = providers.matches("http =").count() > 1;
        let verify = if several { "second-provider" } else { "same-provider" };
        // A word, or a list.
        let verify = match wants.verify.unwrap_or(verify) {
            list if list.starts_with('[') => list.to_owned(),
            word => format!("{word:?}"),
        };
        let mut tokens = vec![
            ("USDT", self.tokens.usdt, 6),
            ("USDC", self.tokens.usdc, 6),
            ("RTITY", self.tokens.rtity, 18),
        ];
        tokens.extend(wants.tokens.iter().copied());
        let listed: Vec<String> = tokens
            .iter()
            .map(|(symbol, address, decimals)| {
                format!(
                    r#"  {{ symbol = "{symbol}", address = "{address}", decimals = {decimals} }}"#
                )
            })
            .collect();
        let more: String = wants
            .tokens
            .iter()
            .map(|(symbol, ..)| {
                format!("{symbol} = {{ valuation = \"par\", credits_per_usd = \"1000\" }}\n")
            })
            .collect();
        format!(
            r#"
network = "testnet"
[database]
url = "{}"
[daemon]
lease_ms = {}
[wallet]
account_xpub = "{XPUB}"
[chains.local]
chain_id = 31337
start_block = 0
poll_ms = {}
safety_poll_ms = {}
filter = "{}"
verify = {verify}
providers = [{providers}]
{}
finality = [{{ confirmations = {} }}]
tokens = [
{}
]
[[epochs]]
id = "one"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"
[epochs.accept]
USDT = {{ valuation = "par", credits_per_usd = "1000" }}
USDC = {{ valuation = "par", credits_per_usd = "1000" }}
RTITY = {{ valuation = "fixed", credits_per_token = "50" }}
{more}"#,
            self.database.url(),
            wants.lease_ms,
            wants.poll_ms,
            wants.safety_poll_ms,
            wants.filter,
            wants.more,
            wants.confirmations,
            listed.join(",\n"),
        )
    }

    pub fn write_config(&self, wants: &Wants) -> Config {
        std::fs::write(self.config_path(), self.config_text(wants)).unwrap();
        Config::load(&self.config_path(), []).unwrap()
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.database.database(), Network::Testnet, 0).await.unwrap()
    }

    /// Writes the configuration, adds the namespaces `acme` and `bolt` with one derived address
    /// each, and starts the daemon.
    pub async fn daemon(&mut self, wants: &Wants) -> Daemon {
        let config = self.write_config(wants);
        self.register(&config).await;
        start(&config).await
    }

    pub async fn register(&mut self, config: &Config) {
        if self.addresses.is_empty() {
            let store = self.store().await;
            for name in ["acme", "bolt"] {
                let name: NamespaceName = name.parse().unwrap();
                store.add_namespace(&name, 0).await.unwrap();
                let xpub = config.account_xpub.as_ref().unwrap();
                let row = store.new_address(&name, xpub, 0).await.unwrap();
                self.addresses.push(row.address);
            }
            store.close().await;
        }
    }

    /// Pays from the `sender`-th account, which is given the tokens first.
    pub async fn pay(&self, sender: usize, token: Address, to: Address, amount: u64) -> TxHash {
        let call = TestToken::transferCall { to, value: U256::from(amount) };
        let from = self.dev.accounts[sender];
        self.dev.send_data(from, Some(token), call.abi_encode().into()).await.unwrap()
    }

    /// The same, of more base units than 64 bits hold.
    pub async fn pay_exactly(&self, sender: usize, token: Address, amount: u128) -> TxHash {
        let call = TestToken::transferCall { to: self.addresses[0], value: U256::from(amount) };
        let from = self.dev.accounts[sender];
        self.dev.send_data(from, Some(token), call.abi_encode().into()).await.unwrap()
    }

    /// Gives every account some of every token, so that payments can come from different senders.
    pub async fn fill_purses(&self) {
        for to in self.dev.accounts.clone() {
            for token in [self.tokens.usdt, self.tokens.usdc, self.tokens.rtity] {
                let value = U256::from(10).pow(U256::from(24));
                self.dev.transact(token, TestToken::mintCall { to, value }).await.unwrap();
            }
        }
    }
}

pub async fn deposits(store: &Store) -> Vec<DepositRow> {
    let filter = DepositFilter { limit: 1_000_000, ..DepositFilter::default() };
    store.deposits(&filter).await.unwrap()
}

pub async fn credited(store: &Store) -> usize {
    deposits(store).await.iter().filter(|d| d.stage.as_str() == "credited").count()
}

pub async fn balance(store: &Store, name: &str) -> String {
    store.balance(&name.parse().unwrap()).await.unwrap().to_string()
}

pub async fn verify(store: &Store) {
    let verified = store.verify().await.unwrap();
    assert!(verified.is_ok(), "{}", verified.unwrap_err());
}

/// Starts a daemon in this process.
pub async fn start(config: &Config) -> Daemon {
    let holder = format!("test-{:08x}", fastrand::u32(..));
    let start = Start { holder, tasks: true, create: false };
    Daemon::start(config, Arc::new(SystemClock), start).await.unwrap()
}

/// Waits until the condition holds; fails with what it said last.
pub async fn until<F, T>(what: &str, mut condition: F)
where
    F: AsyncFnMut() -> Result<(), T>,
    T: std::fmt::Debug,
{
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        match condition().await {
            Ok(()) => return,
            Err(state) if Instant::now() > deadline => panic!("not {what}: {state:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Waits until so many deposits are credited.
pub async fn until_credited(store: &Store, wanted: usize) {
    until(&format!("{wanted} credited"), async || {
        let now = credited(store).await;
        if now == wanted { Ok(()) } else { Err(now) }
    })
    .await;
}

/// Waits until the chain is followed to its tip of this moment.
pub async fn until_followed(net: &Net, store: &Store) {
    let height = net.dev.height().await.unwrap();
    until("followed", async || {
        let at = store.cursor(ChainId(31_337)).await.unwrap().map(|(block, _)| block.number);
        if at >= Some(height) { Ok(()) } else { Err(at) }
    })
    .await;
}

/// Waits until the first deposit is held.
pub async fn until_held(store: &Store) {
    until("held", async || match deposits(store).await.first() {
        Some(d) if d.stage.as_str() == "held" => Ok(()),
        other => Err(other.map(|d| d.stage)),
    })
    .await;
}

/// Starts a daemon under a name; its log is in the test's directory.
pub fn daemon(net: &Net, name: &str, change: impl FnOnce(&mut Command)) -> Running {
    let log = File::options()
        .create(true)
        .append(true)
        .open(net.dir.path().join(format!("{name}.log")))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_topupd"));
    command
        .args(["run", "--name", name, "--config"])
        .arg(net.config_path())
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    change(&mut command);
    Running(command.spawn().unwrap())
}

/// A child process that does not outlive its test.
pub struct Running(pub std::process::Child);

impl Running {
    /// Sends it a signal, such as `-TERM`.
    pub fn tell(&self, signal: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "{signal}");
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
