//! A primary and an asynchronous standby behind one address, as real servers and real processes: the
//! standby stops receiving, the primary dies, the standby is promoted, and what was acknowledged
//! meanwhile is gone.

mod load;
mod lost;
mod other;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use alloy::primitives::{Address, TxHash};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use topupd::devnet::{AnvilOptions, Postgres, PostgresOptions, StopMode};

use crate::database::{Sql, TestDatabase};
use crate::local_chain::binary::{text, topupd};
use crate::local_chain::support::*;
use crate::several::{Payer, all_credited, at_port};

/// The name under which clients find the database, whichever server it is: forwards each new connection to
/// the server of now, and ends it with that server.
struct Front {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Front {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let to = Arc::clone(&target);
        #[expect(clippy::disallowed_methods, reason = "a test's own server, ended with the test")]
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst))).await;
                let Ok(mut server) = server else { continue };
                tokio::spawn(async move {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, target }
    }

    fn lead_to(&self, server: &Postgres) {
        self.target.store(server.port(), Ordering::SeqCst);
    }

    /// The URL of a server's database, by this way.
    fn url(&self, server: &Postgres, database: &str) -> String {
        at_port(&server.url(database), self.port)
    }
}

/// Two servers, of which one is written to.
struct Pair {
    front: Front,
    primary: Postgres,
    standby: Option<Postgres>,
}

impl Pair {
    async fn start() -> Self {
        let settings = [
            ("wal_level", "replica"),
            ("max_wal_senders", "8"),
            ("wal_keep_size", "512MB"),
            ("hot_standby", "on"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let options = PostgresOptions { settings, ..PostgresOptions::default() };
        let primary = Postgres::start(options).await.unwrap();
        let front = Front::to(primary.port()).await;
        let mut this = Self { front, primary, standby: None };
        this.follow().await;
        this
    }

    /// A standby of the primary, which receives what is committed.
    async fn follow(&mut self) {
        let mut sql = Sql::connect(&self.primary.url("postgres")).await;
        let version =
            sql.ints("SELECT CAST(current_setting('server_version_num') AS BIGINT)").await;
        let (begin, end) = match version[0][0] {
            ..150_000 => {
                ("pg_start_backup('copy', true, false)", "(pg_stop_backup(false, false)).labelfile")
            }
            _ => ("pg_backup_start('copy', true)", "(pg_backup_stop(false)).labelfile"),
        };
        sql.texts(&format!("SELECT CAST({begin} AS TEXT)")).await;
        let mut standby = self.primary.copy().unwrap();
        let label = sql.texts(&format!("SELECT {end}")).await.remove(0);
        standby.write("backup_label", &label).unwrap();
        standby.write("standby.signal", "").unwrap();
        let from = format!("primary_conninfo = '{}'\n", self.primary.conninfo());
        standby.write("postgresql.auto.conf", &from).unwrap();
        standby.start_again().await.unwrap();
        self.standby = Some(standby);
        self.shared().await;
    }

    fn standby(&self) -> &Postgres {
        self.standby.as_ref().unwrap()
    }

    /// The standby gets nothing more: what is committed from now on is lost with the primary.
    async fn cut(&self) {
        let mut sql = Sql::connect(&self.standby().url("postgres")).await;
        sql.execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
        sql.execute("SELECT pg_reload_conf()").await.unwrap();
        until("cut", async || {
            match sql.ints("SELECT COUNT(*) FROM pg_stat_wal_receiver").await.as_slice() {
                [row] if row == &[0] => Ok(()),
                other => Err(other.to_vec()),
            }
        })
        .await;
    }

    /// Everything that is committed is on the standby.
    async fn shared(&self) {
        let mut primary = Sql::connect(&self.primary.url("postgres")).await;
        let mut standby = Sql::connect(&self.standby().url("postgres")).await;
        let here = primary.texts("SELECT CAST(pg_current_wal_lsn() AS TEXT)").await.remove(0);
        let there = format!(
            "SELECT CAST(COALESCE(pg_last_wal_replay_lsn() >= '{here}', false) AS INT)::BIGINT"
        );
        until("shared", async || match standby.ints(&there).await.as_slice() {
            [row] if row == &[1] => Ok(()),
            other => Err(other.to_vec()),
        })
        .await;
    }

    /// The primary dies, and the standby takes its place. Returns the dead one.
    async fn fail_over(&mut self) -> Postgres {
        self.primary.stop(StopMode::Immediate).await.unwrap();
        let promoted = self.standby.take().unwrap();
        let mut sql = Sql::connect(&promoted.url("postgres")).await;
        sql.execute("SELECT pg_promote(true, 180)").await.unwrap();
        self.front.lead_to(&promoted);
        std::mem::replace(&mut self.primary, promoted)
    }
}

/// A chain, and daemons on a pair of servers.
struct Scene {
    pair: Pair,
    net: Arc<Net>,
    wants: Wants,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_, wants| wants).await
    }

    async fn with(change: impl FnOnce(&Net, Wants) -> Wants) -> Self {
        let pair = Pair::start().await;
        let admin = pair.front.url(&pair.primary, "postgres");
        let database = TestDatabase::on_server(admin, "template1").await;
        let mut net = Net::on(AnvilOptions::default(), database).await;
        net.fill_purses().await;
        let wants = Wants { confirmations: 2, lease_ms: 2_000, ..Wants::default() };
        let wants = change(&net, wants);
        let config = net.write_config(&wants);
        net.register(&config).await;
        Self { pair, net: Arc::new(net), wants }
    }

    fn daemon(&self, name: &str) -> Running {
        daemon(&self.net, name, |_| {})
    }

    /// The name of the database on each of the servers.
    fn database(&self) -> &str {
        self.net.database.url().rsplit_once('/').unwrap().1
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.net.dir.path().join(format!("{name}.log"))).unwrap()
    }

    /// What a command prints; findings end it with code 3.
    fn said(&self, arguments: &[&str]) -> String {
        let output = topupd(&self.net, arguments);
        let fine = matches!(output.status.code(), Some(0 | 3));
        assert!(fine, "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Why a command is refused.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = topupd(&self.net, arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// A new derived address.
    fn derived(&self, namespace: &str) -> Address {
        self.said(&["address", "new", namespace]).trim().parse().unwrap()
    }

    /// Waits until blocks of now are followed, by whoever holds the lease.
    async fn goes_on(&self) {
        let store = self.net.store().await;
        until_followed(&self.net, &store).await;
    }

    /// Waits until the chain is followed up to its end, by whoever holds the lease.
    async fn followed(&self) {
        self.net.dev.mine(1).await.unwrap();
        until_followed(&self.net, &self.net.store().await).await;
    }

    /// The daemons do nothing more of what they know, and the standby nothing of what follows.
    async fn cut(&self) {
        self.followed().await;
        self.pair.shared().await;
        self.pair.cut().await;
    }

    /// Each daemon has looked at the database twice from now on, and so remembers what is in it.
    async fn remembered(&self) {
        let store = self.net.store().await;
        for _ in 0..2 {
            let now = store.clock_ms().await.unwrap();
            until("seen", async || {
                let daemons = store.daemons().await.unwrap();
                if daemons.iter().all(|d| d.seen_at_ms > now) { Ok(()) } else { Err(daemons) }
            })
            .await;
        }
    }

    /// What was found of a database that went back, the newest first.
    fn went_back(&self) -> Vec<Value> {
        let found = self.json(&["findings", "--all"]);
        let all = found["findings"].as_array().unwrap().iter();
        all.filter(|f| f["kind"] == "database_went_back").cloned().collect()
    }

    /// Waits until this daemon has said so often that the database went back; what it said last.
    async fn noticed_by(&self, name: &str, times: usize) -> Value {
        let mut found = Vec::new();
        until(&format!("noticed by {name}, {times} times"), async || {
            found = self.went_back();
            found.retain(|f| {
                let holder = f["detail"]["seen_by"].as_str().unwrap();
                holder.rsplit_once('-').is_some_and(|(n, _)| n == name)
            });
            if found.len() >= times { Ok(()) } else { Err((found.clone(), self.log(name))) }
        })
        .await;
        found.sort_by_key(|f| std::cmp::Reverse(f["finding_id"].as_i64()));
        found.remove(0)
    }

    /// An operator has looked at all of it.
    fn explain(&self) {
        for found in self.went_back().iter().filter(|f| f["state"] == "open") {
            let id = found["finding_id"].to_string();
            let reason = "what was lost is registered again";
            self.said(&["findings", "explain", &id, "--operator", "ann", "--reason", reason]);
        }
    }

    async fn all_credited(&self, paid: &[(TxHash, u64)]) {
        all_credited(&self.net, &self.net.store().await, paid).await;
    }
}
