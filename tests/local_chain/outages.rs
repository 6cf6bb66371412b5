//! A WebSocket that dies without a word, a node that is restarted, a provider that is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use topupd::devnet::AnvilOptions;

use super::support::*;

/// Forwards TCP connections to a port; can stop forwarding without closing anything.
pub struct Proxy {
    pub port: u16,
    /// Connections that were there before say nothing any more; new ones work.
    frozen: Arc<AtomicBool>,
    /// No answer comes through, on any connection.
    pub cut: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = Arc::new(AtomicBool::new(false));
        let cut = Arc::new(AtomicBool::new(false));
        let silence = Arc::clone(&cut);
        let connections = Arc::new(AtomicUsize::new(0));
        let (freeze, count) = (Arc::clone(&frozen), Arc::clone(&connections));
        #[expect(clippy::disallowed_methods, reason = "a test's own server, ended with the test")]
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let born_frozen = freeze.load(Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                let server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let (cr, cw) = client.into_split();
                let (sr, sw) = server.into_split();
                // A connection made after the freeze works: only the old one went silent.
                let mut silent = vec![Arc::clone(&silence)];
                silent.extend((!born_frozen).then(|| Arc::clone(&freeze)));
                tokio::spawn(pump(cr, sw, Vec::new()));
                tokio::spawn(pump(sr, cw, silent));
            }
        });
        Self { port, frozen, cut, connections }
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: Vec<Arc<AtomicBool>>,
) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        if !silent.iter().any(|s| s.load(Ordering::SeqCst)) {
            let _ = to.write_all(&buffer[..n]).await;
        }
    }
}

/// Accepts WebSockets and the subscription, and then ends the connection; how often it did.
async fn accepts_and_ends() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    #[expect(clippy::disallowed_methods, reason = "a test's own server, ended with the test")]
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(mut socket) = tokio_tungstenite::accept_async(client).await else { continue };
            if let Some(Ok(asked)) = socket.next().await {
                let asked: Value = serde_json::from_str(asked.to_text().unwrap()).unwrap();
                let id = "0x00000000000000000000000000000001";
                let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": id });
                socket.send(Message::text(answer.to_string())).await.unwrap();
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, ended)
}

/// It is tried again less and less often, and meanwhile the chain is polled as if there were none.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_ends_again_and_again_is_tried_less_and_less_often() {
    let mut net = Net::new().await;
    let (port, ended) = accepts_and_ends().await;
    let ws = Some(format!("ws://127.0.0.1:{port}"));
    // Nothing would be found within this test by a poll that trusts in the WebSocket.
    let wants = Wants { ws, safety_poll_ms: 3_600_000, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    until("tried again", async || match ended.load(Ordering::SeqCst) {
        0..=2 => Err(()),
        _ => Ok(()),
    })
    .await;
    for payments in 1..=3 {
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        net.dev.mine(3).await.unwrap();
        until_credited(&store, payments).await;
    }
    // Twice as long each time: an hour is enough for 64.
    assert!(ended.load(Ordering::SeqCst) < 64);
    verify(&store).await;
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_dies_silently_costs_time_and_nothing_else() {
    let mut net = Net::new().await;
    let proxy = Proxy::to(net.dev.anvil.port()).await;
    let wants = Wants {
        ws: Some(format!("ws://127.0.0.1:{}", proxy.port)),
        safety_poll_ms: 150,
        ..Wants::default()
    };
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    let (token, to) = (net.tokens.usdc, net.addresses[0]);
    net.pay(0, token, to, 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 1).await;
    until("listening", async || {
        let now = proxy.connections.load(Ordering::SeqCst);
        if now >= 1 { Ok(()) } else { Err(now) }
    })
    .await;

    let before = proxy.connections.load(Ordering::SeqCst);
    proxy.frozen.store(true, Ordering::SeqCst);
    net.pay(0, token, to, 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 2).await; // found by polling

    until("connected again", async || {
        net.dev.mine(1).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = proxy.connections.load(Ordering::SeqCst);
        if now > before { Ok(()) } else { Err(now) }
    })
    .await;
    net.pay(0, token, to, 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 3).await;

    // Nor does it wait for a WebSocket that cannot be had at all.
    proxy.cut.store(true, Ordering::SeqCst);
    net.pay(0, token, to, 1_000_000).await;
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 4).await;
    verify(&store).await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_restarted_loses_and_doubles_nothing() {
    let state = tempfile::tempdir().unwrap();
    let options =
        AnvilOptions { state: Some(state.path().join("state.json")), ..AnvilOptions::default() };
    let mut net = Net::with(options).await;
    let daemon = net.daemon(&Wants::default()).await;
    let store = net.store().await;
    let (token, to) = (net.tokens.usdc, net.addresses[0]);
    for _ in 0..5 {
        net.pay(0, token, to, 1_000_000).await;
    }
    net.dev.mine(1).await.unwrap(); // some are credited before, some only after
    net.dev.anvil.restart().await.unwrap();
    for _ in 0..5 {
        net.pay(0, token, to, 1_000_000).await;
    }
    net.dev.mine(3).await.unwrap();
    until_credited(&store, 10).await;
    assert_eq!(balance(&store, "acme").await, "10000");
    verify(&store).await;
    daemon.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_made_while_the_daemon_was_down_are_credited_at_the_next_start() {
    let mut net = Net::new().await;
    let wants = Wants { ws: None, ..Wants::default() };
    let daemon = net.daemon(&wants).await;
    daemon.shutdown().await;
    let (token, to) = (net.tokens.usdt, net.addresses[1]);
    for _ in 0..3 {
        net.pay(0, token, to, 2_000_000).await;
    }
    net.dev.mine(400).await.unwrap(); // far behind: read by range
    net.pay(0, token, to, 2_000_000).await;
    net.dev.mine(3).await.unwrap();
    let daemon = net.daemon(&wants).await;
    let store = net.store().await;
    until_credited(&store, 4).await;
    assert_eq!(balance(&store, "bolt").await, "8000");
    verify(&store).await;
    daemon.shutdown().await;
}
