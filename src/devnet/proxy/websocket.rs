//! A WebSocket between a client and whichever node is upstream.
//!
//! Messages are passed on; it knows the subscriptions, so that it can move them to another node,
//! hold back what a node that is behind has not seen, and announce what nobody has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};
use url::Url;

use super::faults::{Fault, Rule};
use super::lies::{height_of, lag};
use crate::devnet::proxy::call::Call;
use crate::devnet::proxy::order::{Order, Socket};
use crate::devnet::proxy::shared::{Shared, lock};

/// Ids of requests that the proxy makes on a client's connection.
const OWN: &str = "proxy";

/// Something that was subscribed to.
struct Subscription {
    kind: String,
    params: Value,
    /// The request that asks for it.
    asked_by: Value,
    /// As the client knows it; `None` until the first node has said it.
    id: Option<Value>,
    /// As the present node knows it.
    upstream: Option<Value>,
}

struct Relay {
    shared: Arc<Shared>,
    number: u64,
    client: WebSocketStream<TcpStream>,
    server: WebSocketStream<TcpStream>,
    subscriptions: Vec<Subscription>,
    /// Notifications above the height that a node which is behind knows.
    held: VecDeque<(u64, Value)>,
    /// The highest block that was announced.
    head: u64,
}

/// Answers the handshake, and relays until one of the two ends it.
pub(super) async fn serve(
    mut stream: TcpStream,
    buffered: Vec<u8>,
    key: &str,
    shared: Arc<Shared>,
) {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 \r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let mut upstream = shared.upstream.subscribe();
    let url = upstream.borrow_and_update().clone();
    let Some(server) = connect(&url).await else { return };
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    shared.sent(head.len());
    let client = WebSocketStream::from_partially_read(stream, buffered, Role::Server, None).await;
    let number = NUMBERS.fetch_add(1, Ordering::SeqCst);
    let (orders, received) = mpsc::unbounded_channel();
    lock(&shared.sockets).insert(number, Socket { orders, kinds: Vec::new() });
    let (subscriptions, held) = (Vec::new(), VecDeque::new());
    let mut relay = Relay { shared, number, client, server, subscriptions, held, head: 0 };
    relay.run(received, upstream).await;
    let _ = relay.client.close(None).await;
}

async fn connect(upstream: &Url) -> Option<WebSocketStream<TcpStream>> {
    let address = (upstream.host_str()?, upstream.port_or_known_default()?);
    let stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let mut url = upstream.clone();
    url.set_scheme("ws").ok()?;
    let (socket, _) = tokio_tungstenite::client_async(url.as_str(), stream).await.ok()?;
    Some(socket)
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.shared.sockets).remove(&self.number);
    }
}

impl Relay {
    /// `None` when it is over.
    async fn run(
        &mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut upstream: watch::Receiver<Url>,
    ) -> Option<()> {
        let mut rules = self.shared.rules.subscribe();
        loop {
            let silent = |rule: &&Arc<Rule>| matches!(rule.fault, Fault::Silence);
            let silence = rules.borrow().iter().find(silent).cloned();
            tokio::select! {
                // A peer that hangs answers no pings either, so nothing is read from the client.
                message = self.client.next(), if silence.is_none() => self.client_says(message?).await?,
                message = self.server.next() => {
                    let message = message?.ok()?;
                    // It may have been lifted before the node said this.
                    let silence = rules.borrow().iter().find(silent).cloned();
                    match silence {
                        Some(rule) => drop(rule.take()),
                        None => self.server_says(&message).await?,
                    }
                }
                order = orders.recv() => match order {
                    None | Some(Order::Freeze) => std::future::pending().await,
                    Some(Order::Close) => return None,
                    Some(Order::Announce(..)) if silence.is_some() => {}
                    Some(Order::Announce(kind, what)) => self.announce(kind, &what).await?,
                },
                Ok(()) = upstream.changed() => {
                    let url = upstream.borrow_and_update().clone();
                    self.switch(&url).await?;
                }
                Ok(()) = rules.changed() => self.release().await?,
            }
        }
    }

    async fn client_says(&mut self, message: Result<Message, Error>) -> Option<()> {
        let message = match message.ok()? {
            Message::Text(text) => text,
            Message::Close(_) => return None,
            _ => return Some(()), // pings are answered by the library
        };
        let mut call = Call::new(serde_json::from_str(&message).ok()?);
        self.shared.count(&call);
        for rule in self.shared.rules_for(&call) {
            match rule.fault {
                Fault::Drop if rule.take() => return None,
                Fault::Error(code, message) if rule.take() => {
                    return self.tell(&call.error(code, message)).await;
                }
                _ => {}
            }
        }
        if call.method == "eth_subscribe" {
            self.subscriptions.push(Subscription {
                kind: call.param(0).as_str().unwrap_or_default().to_owned(),
                params: call.request["params"].clone(),
                asked_by: call.request["id"].clone(),
                id: None,
                upstream: None,
            });
        }
        if call.method == "eth_unsubscribe" {
            let known = Some(call.param(0));
            let position = self.subscriptions.iter().position(|s| s.id == known);
            if let Some(position) = position {
                let gone = self.subscriptions.remove(position);
                call.request["params"][0] = gone.upstream.unwrap_or_default();
                self.publish();
            }
        }
        self.server.send(Message::text(call.request.to_string())).await.ok()
    }

    async fn server_says(&mut self, message: &Message) -> Option<()> {
        let Message::Text(text) = message else { return Some(()) };
        let mut message: Value = serde_json::from_str(text).ok()?;
        if message["method"] == "eth_subscription" {
            return self.notification(message).await;
        }
        let id = message["id"].clone();
        let asked = self.subscriptions.iter().position(|s| s.asked_by == id);
        let asked = asked.and_then(|asked| self.subscriptions.get_mut(asked));
        if let (Some(subscription), Some(result)) = (asked, message.get("result").cloned()) {
            subscription.asked_by = Value::Null;
            let first = subscription.id.is_none();
            subscription.id.get_or_insert_with(|| result.clone());
            subscription.upstream = Some(result);
            if first {
                self.publish();
            }
        }
        let own = id.as_str().is_some_and(|id| id.starts_with(OWN));
        if own { Some(()) } else { self.tell(&message.take()).await }
    }

    /// Passes it on under the id that the client knows, as soon as its block is low enough.
    async fn notification(&mut self, mut message: Value) -> Option<()> {
        let params = &mut message["params"];
        let upstream = Some(params["subscription"].clone());
        if let Some(known) = self.subscriptions.iter().find(|s| s.upstream == upstream) {
            params["subscription"] = known.id.clone().unwrap_or_default();
        }
        let result = &params["result"];
        let number = height_of(&result["number"]).or_else(|| height_of(&result["blockNumber"]));
        let Some(number) = number else { return self.tell(&message).await };
        self.head = self.head.max(number);
        self.held.push_back((number, message));
        self.release().await
    }

    /// Lets out what is held and need not be.
    async fn release(&mut self) -> Option<()> {
        let call = Call::new(json!({ "method": "eth_subscription" }));
        let rules = self.shared.rules_for(&call);
        let ceiling = rules.iter().filter_map(|rule| lag(rule.fault, self.head)).min();
        while let Some((number, message)) = self.held.pop_front() {
            if ceiling.is_some_and(|height| number > height) {
                self.held.push_front((number, message));
                return Some(());
            }
            self.tell(&message).await?;
        }
        Some(())
    }

    async fn announce(&mut self, kind: &str, what: &Value) -> Option<()> {
        let ids = self.subscriptions.iter().filter(|s| s.kind == kind).filter_map(|s| s.id.clone());
        for id in ids.collect::<Vec<_>>() {
            let params = json!({ "subscription": id, "result": what });
            let message =
                json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params });
            self.tell(&message).await?;
        }
        Some(())
    }

    /// Connects to another node and subscribes there to the same.
    async fn switch(&mut self, url: &Url) -> Option<()> {
        self.server = connect(url).await?;
        (self.head, self.held) = (0, VecDeque::new());
        for (i, subscription) in self.subscriptions.iter_mut().enumerate() {
            subscription.upstream = None;
            // One that the old node has not confirmed keeps the client's id, and its answer goes
            // to the client.
            if subscription.id.is_some() {
                subscription.asked_by = json!(format!("{OWN} {i}"));
            }
            let request = json!({
                "jsonrpc": "2.0",
                "id": subscription.asked_by,
                "method": "eth_subscribe",
                "params": subscription.params,
            });
            self.server.send(Message::text(request.to_string())).await.ok()?;
        }
        Some(())
    }

    async fn tell(&mut self, message: &Value) -> Option<()> {
        let text = message.to_string();
        self.shared.sent(text.len());
        self.client.send(Message::text(text)).await.ok()
    }

    /// Makes the subscriptions known to the proxy.
    fn publish(&self) {
        if let Some(socket) = lock(&self.shared.sockets).get_mut(&self.number) {
            let standing = self.subscriptions.iter().filter(|s| s.id.is_some());
            socket.kinds = standing.map(|s| s.kind.clone()).collect();
        }
    }
}
