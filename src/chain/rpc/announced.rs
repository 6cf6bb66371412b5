//! Heads that a provider announces over its WebSocket: a hint that says "look now". When it dies, silently or not,
//! nothing is lost but time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy::primitives::B256;
use alloy::pubsub::Subscription;
use alloy::rpc::client::{RpcClient, WsConnect};
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use tokio::sync::Notify;
use url::Url;

use crate::chain::rpc::node::RpcSource;
use crate::chain::websocket::Once;
use crate::chain::wire::RpcHeader;

/// Pause before a WebSocket is connected again.
const RECONNECT: Duration = Duration::from_secs(1);
/// The longest pause, for one that ends again and again before it announced anything.
const RECONNECT_MAX: Duration = Duration::from_secs(60);

impl RpcSource {
    /// Keeps the subscription to `newHeads` alive, and wakes `poke` at each head. Runs until
    /// dropped; without a WebSocket it just waits.
    pub async fn listen(&self, poke: &Notify) {
        let Some(url) = self.options.ws.clone() else { return std::future::pending().await };
        let (mut pause, mut said) = (RECONNECT, String::new());
        loop {
            let why = tokio::select! {
                ended = self.subscription(url.clone(), poke) => ended,
                () = self.reconnect.notified() => "it is silent while blocks are mined".to_owned(),
            };
            let before = std::mem::take(&mut *self.heads());
            self.heads().polled = before.polled;
            // Whoever announces nothing before it ends is asked less and less often, and named once.
            pause =
                if before.live { RECONNECT } else { pause.saturating_mul(2).min(RECONNECT_MAX) };
            if before.live || said != why {
                tracing::warn!(
                    provider = self.options.name,
                    why,
                    "websocket ended; polling goes on, and it is tried again"
                );
            }
            said = why;
            poke.notify_one();
            tokio::time::sleep(pause).await;
        }
    }

    /// One subscription, from connect to its end; says why it ended.
    async fn subscription(&self, url: Url, poke: &Notify) -> String {
        let connect = Once(WsConnect::new(url.as_str()));
        let connected =
            tokio::time::timeout(self.options.timeout, RpcClient::connect_pubsub(connect));
        let client = match connected.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return self.ws_error(&error),
            Err(_) => return "connecting timed out".into(),
        };
        let asked = client.request::<_, B256>("eth_subscribe", ("newHeads",));
        let id = match tokio::time::timeout(self.options.timeout, asked).await {
            Ok(Ok(id)) => id,
            Ok(Err(error)) => return self.ws_error(&error),
            Err(_) => return "eth_subscribe timed out".into(),
        };
        // The client's own way to a subscription panics where the connection has ended meanwhile.
        let Some(frontend) = client.pubsub_frontend() else { return "it is no websocket".into() };
        let mut heads: Subscription<RpcHeader> = match frontend.get_subscription(id).await {
            Ok(raw) => raw.into(),
            Err(error) => return self.ws_error(&error),
        };
        self.heads().subscribed = true;
        poke.notify_one(); // heads may have been missed before
        loop {
            match heads.recv().await {
                Ok(RpcHeader(header)) => {
                    self.silent_polls.store(0, Ordering::Relaxed);
                    let mut heads = self.heads();
                    // Only now: one that accepts and says nothing is no reason to poll less.
                    heads.live = true;
                    heads.announced = heads.announced.max(header.number);
                    heads.fresh = Some(header);
                    drop(heads);
                    poke.notify_one();
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                    return "the connection was closed".into();
                }
            }
        }
    }

    /// Answers within the timeout whether the WebSocket accepts a subscription.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn check_websocket(&self) -> Result<&'static str, String> {
        let Some(url) = self.options.ws.clone() else { return Ok("not configured; polling only") };
        let poke = Notify::new();
        tokio::select! {
            why = self.subscription(url, &poke) => Err(why),
            () = poke.notified() => Ok("answers"),
        }
    }

    /// Why the WebSocket does not serve.
    fn ws_error(&self, error: &TransportError) -> String {
        let text = match error {
            RpcError::ErrorResp(payload) => format!("error {}: {}", payload.code, payload.message),
            // The outer message of a failed connection names the URL; the cause does not.
            RpcError::Transport(TransportErrorKind::Custom(inner)) => {
                let mut cause: &dyn std::error::Error = inner.as_ref();
                while let Some(next) = cause.source() {
                    cause = next;
                }
                cause.to_string()
            }
            other => other.to_string(),
        };
        self.cleaned(&text)
    }
}
