//! Several daemons on one PostgreSQL, as real processes: kills, sleeps, cut connections, restarts
//! of the server, a wrong clock, a full disk. Each test has a server and a chain of its own.

#[cfg(target_os = "linux")]
mod clock;
mod disk;
mod holders;
mod outages;
mod passwords;
mod pooler;
mod pooler_proxy;
mod read_only;
mod readme;
mod sequencer;

use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy::primitives::{TxHash, U256};
use tokio::task::JoinHandle;
use topupd::devnet::{AnvilOptions, Postgres, PostgresOptions};
use topupd::domain::ids::ChainId;
use topupd::store::{LeaseRow, Store};

use crate::database::{Sql, TestDatabase};
use crate::local_chain::support::*;

/// Short, so that a takeover does not take long; long enough that a daemon on a busy machine is
/// not taken for a dead one.
const LEASE: Duration = Duration::from_millis(2_000);

/// A server, a chain, and the configuration of the daemons between them.
struct Stage {
    server: Postgres,
    net: Arc<Net>,
    store: Store,
}

impl Stage {
    async fn new() -> Self {
        Self::with(PostgresOptions::default()).await
    }

    async fn with(options: PostgresOptions) -> Self {
        Self::with_lease(LEASE, options).await
    }

    async fn with_lease(lease: Duration, options: PostgresOptions) -> Self {
        let server = Postgres::start(options).await.unwrap();
        let database = TestDatabase::on_server(server.url("postgres"), "template1").await;
        let mut net = Net::on(AnvilOptions::default(), database).await;
        net.fill_purses().await;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap();
        let wants = Wants { confirmations: 2, lease_ms, ..Wants::default() };
        let config = net.write_config(&wants);
        net.register(&config).await;
        let store = net.store().await;
        Self { server, net: Arc::new(net), store }
    }

    /// Starts a daemon under a name; its log is in the test's directory.
    fn daemon(&self, name: &str) -> Running {
        self.daemon_with(name, |_| {})
    }

    fn daemon_with(&self, name: &str, change: impl FnOnce(&mut Command)) -> Running {
        daemon(&self.net, name, change)
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.net.dir.path().join(format!("{name}.log"))).unwrap()
    }

    /// The lease on the chain, if anybody has ever had it and the server answers.
    async fn lease(&self) -> Option<LeaseRow> {
        self.store.leases().await.ok()?.into_iter().next()
    }

    /// Waits until a daemon of this name holds the lease.
    async fn held_by(&self, name: &str) -> LeaseRow {
        let mut found = None;
        until(&format!("held by {name}"), async || {
            found = self.lease().await;
            match &found {
                Some(l) if named(l, name) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        found.unwrap()
    }

    /// Waits until another daemon holds the lease; since when it was asked.
    async fn taken_over(&self, before: &LeaseRow, since: Instant) -> Duration {
        until("taken over", async || match self.lease().await {
            Some(l) if l.lease.token > before.lease.token => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        since.elapsed()
    }

    /// Waits until a daemon of this name was seen after the given instant of the database's clock.
    async fn present(&self, name: &str, after_ms: i64) {
        until(&format!("{name} is there"), async || {
            let daemons = self.store.daemons().await.unwrap_or_default();
            let mine = |holder: &str| holder.rsplit_once('-').is_some_and(|(n, _)| n == name);
            if daemons.iter().any(|d| mine(&d.holder) && d.started_at_ms >= after_ms) {
                Ok(())
            } else {
                Err((daemons, self.log(name)))
            }
        })
        .await;
    }

    async fn height(&self) -> u64 {
        let at = self.store.cursor(ChainId(31_337)).await;
        at.ok().flatten().map_or(0, |(block, _)| block.number)
    }

    /// Waits until the chain is followed beyond where it is now.
    async fn goes_on(&self) {
        let from = self.height().await;
        until("goes on", async || {
            let now = self.height().await;
            if now > from { Ok(()) } else { Err(format!("at {now}, from {from}")) }
        })
        .await;
    }

    /// Every payment is credited once, with its amount, and the ledger holds.
    async fn all_credited(&self, paid: &[(TxHash, u64)]) {
        all_credited(&self.net, &self.store, paid).await;
    }
}

/// Every payment is credited once, with its amount, and the ledger holds.
pub async fn all_credited(net: &Net, store: &Store, paid: &[(TxHash, u64)]) {
    net.dev.mine(3).await.unwrap();
    until_credited(store, paid.len()).await;
    verify(store).await;
    let deposits = deposits(store).await;
    assert_eq!(deposits.len(), paid.len());
    for (tx, amount) in paid {
        let of_tx: Vec<_> = deposits.iter().filter(|d| d.tx_hash == *tx).collect();
        assert_eq!(of_tx.len(), 1, "{tx}");
        assert_eq!(of_tx[0].raw.0, U256::from(*amount));
    }
}

/// The same URL with another port: by another way to the server.
pub fn at_port(url: &str, port: u16) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_port(Some(port)).unwrap();
    url.to_string()
}

/// A command on the database of this URL.
fn topupd_at(stage: &Stage, url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(arguments)
        .arg("--config")
        .arg(stage.net.config_path())
        .env("TOPUPD_DATABASE__URL", url)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Whether the holder of a lease was started under a name.
fn named(lease: &LeaseRow, name: &str) -> bool {
    lease.lease.holder.rsplit_once('-').is_some_and(|(n, _)| n == name)
}

/// Pays at random until it is told to stop.
pub struct Payer {
    pub paid: Arc<Mutex<Vec<(TxHash, u64)>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Payer {
    #[expect(clippy::disallowed_methods, reason = "a test's own task, ended with the test")]
    pub fn start(net: &Arc<Net>, seed: u64) -> Self {
        let (paid, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (net, list, stopped) = (Arc::clone(net), Arc::clone(&paid), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            while !stopped.load(Ordering::SeqCst) {
                let tokens = [
                    (net.tokens.usdc, 1_000),
                    (net.tokens.usdt, 1_000),
                    (net.tokens.rtity, 10u64.pow(12)),
                ];
                let (token, unit) = tokens[random.usize(0..3)];
                let amount = random.u64(1..1_000_000) * unit;
                let sender = random.usize(0..net.dev.accounts.len());
                let to = net.addresses[random.usize(0..2)];
                let tx = net.pay(sender, token, to, amount).await;
                list.lock().unwrap().push((tx, amount));
                tokio::time::sleep(Duration::from_millis(random.u64(10..60))).await;
            }
        });
        Self { paid, stop, task }
    }

    pub async fn stop(self) -> Vec<(TxHash, u64)> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        let paid = self.paid.lock().unwrap();
        paid.clone()
    }
}

/// Prints a distribution: how long it takes depends on what else the machine does.
fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}, ms: median {}, most {}; all {ms:?}", middle.as_millis(), most.as_millis());
}
