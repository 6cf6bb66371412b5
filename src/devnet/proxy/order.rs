//! What the proxy tells a WebSocket that is open.

use serde_json::Value;
use tokio::sync::mpsc;

/// An open WebSocket, as the proxy sees it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// One of each subscription.
    pub(super) kinds: Vec<String>,
}

/// What a WebSocket is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Close,
    Freeze,
    Announce(&'static str, Value),
}
