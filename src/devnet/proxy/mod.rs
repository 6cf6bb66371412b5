//! A JSON-RPC proxy in front of a real node that can be told, while it runs, to be slow, broken,
//! behind, wrong or on another branch. HTTP and WebSocket on one port of 127.0.0.1.
//!
//! ```text
//! let proxy = Proxy::to(&node.http).await?;
//! proxy.set(Fault::Delay(Duration::from_millis(200)));
//! let limited = proxy.set(Fault::TooMany { retry_after: 1 }.on(LOGS_BY_RANGE).times(3));
//! let liar = proxy.set(Fault::Receipt(Lie::Amount(U256::from(9))).of(tx));
//! proxy.switch_to(&twin.http);           // another branch, from the next request on
//! assert_eq!(limited.hits(), 3);
//! liar.lift();
//! proxy.heal();                          // every fault is gone
//! ```
//!
//! Faults add up: delays one after the other, then the first that answers in the node's place, then
//! every change of the answer in the order they were set. Answers are altered request by request
//! and from what the node says, so that a wrong one is still the right shape.
//!
//! It does not invent a chain: blocks that nobody mined come from a second node (`switch_to`). The
//! node's state (`eth_call`, balances) is passed on as it is, also when it is behind. Over a
//! WebSocket only notifications are altered, not answers to questions. Only JSON-RPC by POST with a
//! `Content-Length` is understood, and upstream only a node that has both protocols on one port.
#![expect(
    clippy::indexing_slicing,
    reason = "of JSON values: reading what is not there gives null, and a panic ends one connection of a tool for testers"
)]

mod call;
mod faults;
mod http;
mod lies;
mod order;
mod shared;
mod websocket;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alloy::primitives::{TxHash, U64};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use crate::devnet::proxy::order::Order;
use crate::devnet::proxy::shared::{Shared, lock};

pub use crate::devnet::proxy::shared::Injected;
pub use faults::{FINALIZED, Fault, Invention, LOGS_BY_HASH, LOGS_BY_RANGE, Lie, Rule, SAFE};

/// A running proxy. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Proxy {
    http: Url,
    ws: Url,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy in front of the node that answers at this URL, on any free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn to(upstream: &Url) -> std::io::Result<Self> {
        Self::on(0, upstream).await
    }

    /// The same on this port; 0 for any.
    ///
    /// # Errors
    /// When it is taken.
    pub async fn on(port: u16, upstream: &Url) -> std::io::Result<Self> {
        // Installed once a process; a second call finds it there, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let shared = Arc::new(Shared {
            upstream: watch::Sender::new(upstream.clone()),
            rules: watch::Sender::default(),
            client: reqwest::Client::builder().no_proxy().build().map_err(std::io::Error::other)?,
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            sockets: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://127.0.0.1:{port}")).map_err(std::io::Error::other)
        };
        let (http, ws) = (url("http")?, url("ws")?);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { http, ws, shared, _tasks: tasks })
    }

    /// Where it answers over HTTP.
    pub fn http(&self) -> Url {
        self.http.clone()
    }

    /// Where it answers over WebSocket.
    pub fn ws(&self) -> Url {
        self.ws.clone()
    }

    /// Asks another node from now on. Subscriptions go on over there, under the id that the client
    /// knows; what was announced in between is lost.
    pub fn switch_to(&self, upstream: &Url) {
        self.shared.upstream.send_replace(upstream.clone());
    }

    /// Adds a fault to those that are set; it stays until it is lifted.
    pub fn set(&self, rule: impl Into<Rule>) -> Injected {
        let rule = Arc::new(rule.into());
        self.shared.rules.send_modify(|rules| rules.push(Arc::clone(&rule)));
        Injected { rule, shared: Arc::clone(&self.shared) }
    }

    /// Lifts every fault.
    pub fn heal(&self) {
        self.shared.rules.send_replace(Vec::new());
    }

    /// Requests of a method so far, over both protocols. `eth_getLogs` is counted a second time
    /// as [`LOGS_BY_RANGE`] or [`LOGS_BY_HASH`].
    pub fn requests(&self, method: &str) -> u64 {
        lock(&self.shared.requests).get(method).copied().unwrap_or_default()
    }

    /// Requests so far, each part of a batch being one.
    pub fn requests_in_all(&self) -> u64 {
        let requests = lock(&self.shared.requests);
        requests.iter().filter(|(name, _)| !faults::is_part(name)).map(|(_, count)| count).sum()
    }

    /// Bytes sent to clients so far: heads and bodies, and the text of WebSocket messages.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Subscriptions of a kind (`newHeads`, `logs`) that stand, on any WebSocket.
    pub fn subscriptions(&self, kind: &str) -> usize {
        let sockets = lock(&self.shared.sockets);
        sockets.values().flat_map(|s| &s.kinds).filter(|k| *k == kind).count()
    }

    /// Closes the WebSockets that are open; new ones work.
    pub fn close_websockets(&self) {
        self.order(|| Order::Close);
        lock(&self.shared.sockets).clear();
    }

    /// The WebSockets that are open stay so and never say anything again; new ones work.
    pub fn freeze_websockets(&self) {
        self.order(|| Order::Freeze);
        lock(&self.shared.sockets).clear();
    }

    /// Announces anything to the subscriptions of a kind that stand, whatever they filter by.
    pub fn announce(&self, kind: &'static str, what: &Value) {
        self.order(|| Order::Announce(kind, what.clone()));
    }

    /// Announces the head at this height as if it were new.
    pub async fn announce_head(&self, height: u64) -> Result<(), String> {
        let head = json!([U64::from(height), false]);
        let head = self.shared.ask("eth_getBlockByNumber", head).await?;
        self.announce("newHeads", &head);
        Ok(())
    }

    /// Announces each log of a transaction as taken back.
    ///
    /// # Errors
    /// When the node does not answer, or has no such receipt.
    pub async fn announce_removed(&self, tx: TxHash) -> Result<(), String> {
        let mut receipt = self.shared.ask("eth_getTransactionReceipt", json!([tx])).await?;
        let logs = receipt["logs"].as_array_mut().ok_or("it has no logs")?;
        for log in logs {
            log["removed"] = json!(true);
            self.announce("logs", log);
        }
        Ok(())
    }

    fn order(&self, order: impl Fn() -> Order) {
        for socket in lock(&self.shared.sockets).values() {
            let _ = socket.orders.send(order());
        }
    }
}

/// Serves connections until it is dropped, and they are dropped with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                connections.spawn(http::serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
