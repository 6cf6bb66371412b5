//! The proxy's WebSockets: what they say, what they do not, and that none outlives the proxy.

use std::time::Duration;

use alloy::primitives::{Address, U64};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use topupd::devnet::{AnvilOptions, Devnet, LocalChain};

use super::super::proxy::{Fault, Proxy};
use super::super::support::until;
use super::{Scene, request};

type Socket = WebSocketStream<TcpStream>;

async fn connect(proxy: &Proxy) -> Result<Socket, Error> {
    let port = proxy.ws().port().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    Ok(tokio_tungstenite::client_async(proxy.ws().as_str(), stream).await?.0)
}

/// The next thing it says; `None` when it is closed.
async fn next(socket: &mut Socket) -> Option<Value> {
    let wait = Duration::from_secs(180);
    match tokio::time::timeout(wait, socket.next()).await.unwrap()? {
        Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
        _ => None,
    }
}

async fn subscribe(socket: &mut Socket, params: Value) -> Value {
    let request = request("eth_subscribe", params);
    socket.send(Message::text(request.to_string())).await.unwrap();
    next(socket).await.unwrap()
}

/// The height of the next head; whatever else comes in between is an error.
async fn head(socket: &mut Socket, id: &Value) -> u64 {
    let message = next(socket).await.unwrap();
    assert_eq!(&message["params"]["subscription"], id, "{message}");
    message["params"]["result"]["number"].as_str().unwrap().parse::<U64>().unwrap().to()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_tells_what_the_node_tells_and_what_it_does_not() {
    let scene = Scene::new().await;
    let mut heads = connect(&scene.proxy).await.unwrap();
    let mut logs = connect(&scene.proxy).await.unwrap();
    let id = subscribe(&mut heads, json!(["newHeads"])).await["result"].clone();
    let filter = json!(["logs", { "address": scene.tokens.usdc }]);
    let of_logs = subscribe(&mut logs, filter).await["result"].clone();
    assert_eq!((scene.proxy.subscriptions("newHeads"), scene.proxy.subscriptions("logs")), (1, 1));
    assert_eq!(scene.proxy.requests("eth_subscribe"), 2);

    let tx = scene.pay(&[Address::repeat_byte(1)]).await[0];
    let height = scene.dev.height().await.unwrap();
    assert_eq!(head(&mut heads, &id).await, height);
    let log = next(&mut logs).await.unwrap();
    assert_eq!(log["params"]["result"]["transactionHash"], json!(tx));

    scene.proxy.announce_removed(tx).await.unwrap();
    let mut removed = next(&mut logs).await.unwrap();
    assert_eq!(removed["params"]["subscription"], of_logs);
    assert_eq!(removed["params"]["result"]["removed"].take(), json!(true));
    assert_eq!(removed["params"]["result"]["transactionHash"], json!(tx));
    scene.proxy.announce_head(height - 4).await.unwrap();
    assert_eq!(head(&mut heads, &id).await, height - 4);
    scene.proxy.announce("newHeads", &json!({ "number": "0xffffff" }));
    assert_eq!(head(&mut heads, &id).await, 0xff_ffff);

    // Heads come late to who is behind, and all at once when it is not any more.
    let behind = scene.proxy.set(Fault::Behind(2));
    scene.dev.mine(3).await.unwrap();
    assert_eq!(head(&mut heads, &id).await, height + 1);
    behind.lift();
    assert_eq!(head(&mut heads, &id).await, height + 2);
    assert_eq!(head(&mut heads, &id).await, height + 3);

    // The other branch speaks through the same subscription.
    let twin = scene.dev.twin().await.unwrap();
    scene.proxy.switch_to(&twin.http);
    until("moved", async || {
        twin.mine(1).await.unwrap();
        let wait = Duration::from_millis(100);
        tokio::time::timeout(wait, head(&mut heads, &id)).await.map(drop)
    })
    .await;

    let stop = request("eth_unsubscribe", json!([of_logs]));
    logs.send(Message::text(stop.to_string())).await.unwrap();
    assert_eq!(next(&mut logs).await.unwrap()["result"], json!(true));
    assert_eq!(scene.proxy.subscriptions("logs"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_falls_silent_closes_or_is_not_to_be_had() {
    let scene = Scene::new().await;
    let mut first = connect(&scene.proxy).await.unwrap();
    let id = subscribe(&mut first, json!(["newHeads"])).await["result"].clone();
    let height = scene.dev.height().await.unwrap();

    let silence = scene.proxy.set(Fault::Silence);
    scene.dev.mine(1).await.unwrap();
    until("swallowed", async || match silence.hits() {
        0 => Err(()),
        _ => Ok(()),
    })
    .await;
    silence.lift();
    scene.dev.mine(1).await.unwrap();
    assert_eq!(head(&mut first, &id).await, height + 2); // what was said meanwhile is lost

    // Frozen: this one for ever, the next one not.
    scene.proxy.freeze_websockets();
    let mut second = connect(&scene.proxy).await.unwrap();
    let other = subscribe(&mut second, json!(["newHeads"])).await["result"].clone();
    scene.dev.mine(1).await.unwrap();
    assert_eq!(head(&mut second, &other).await, height + 3);
    let nothing = tokio::time::timeout(Duration::from_millis(50), next(&mut first)).await;
    assert!(nothing.is_err(), "{nothing:?}");

    scene.proxy.close_websockets();
    assert!(next(&mut second).await.is_none());
    scene.proxy.set(Fault::NoWebSocket.times(1));
    assert!(connect(&scene.proxy).await.unwrap_err().to_string().contains("503"));

    let refusal = scene.proxy.set(Fault::Error(-32_601, "no subscriptions").on("eth_subscribe"));
    let mut third = connect(&scene.proxy).await.unwrap();
    let refused = subscribe(&mut third, json!(["newHeads"])).await;
    assert_eq!(refused["error"]["message"], "no subscriptions");
    refusal.lift();
    scene.proxy.set(Fault::Drop.on("eth_subscribe"));
    let request = request("eth_subscribe", json!(["newHeads"]));
    third.send(Message::text(request.to_string())).await.unwrap();
    assert!(next(&mut third).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_it_is_left_when_it_is_dropped() {
    let dev = Devnet::start(AnvilOptions::default()).await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let proxy = Proxy::to(&dev.http).await.unwrap();
    let port = proxy.http().port().unwrap();
    let through = LocalChain::at(proxy.http(), proxy.ws()).await.unwrap();
    let mut frozen = connect(&proxy).await.unwrap();
    subscribe(&mut frozen, json!(["newHeads"])).await;
    proxy.freeze_websockets();
    let mut open = connect(&proxy).await.unwrap();
    subscribe(&mut open, json!(["newHeads"])).await;
    assert!(tasks() >= before + 4); // the port and three connections
    drop(proxy);
    assert!(next(&mut frozen).await.is_none());
    assert!(next(&mut open).await.is_none());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    drop(through);
    until("all tasks ended", async || match tasks() {
        now if now > before => Err(now),
        _ => Ok(()),
    })
    .await;
}
