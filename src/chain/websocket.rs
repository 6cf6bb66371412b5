//! A WebSocket that is connected once.
//!
//! The library's service connects again by itself, at once and for ever, whatever ended a connection:
//! a server that accepts and then closes would be asked thousands of times a second. When to try again
//! is decided by whoever listens.

use alloy::pubsub::{ConnectionHandle, PubSubConnect};
use alloy::rpc::client::WsConnect;
use alloy::transports::{TransportErrorKind, TransportResult};

/// Where to connect.
#[derive(Debug, Clone)]
pub(super) struct Once(pub(super) WsConnect);

impl PubSubConnect for Once {
    fn is_local(&self) -> bool {
        self.0.is_local()
    }

    async fn connect(&self) -> TransportResult<ConnectionHandle> {
        Ok(self.0.connect().await?.with_max_retries(0))
    }

    async fn try_reconnect(&self) -> TransportResult<ConnectionHandle> {
        Err(TransportErrorKind::backend_gone())
    }
}
