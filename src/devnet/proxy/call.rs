//! One request as the proxy looks at it: its method and what it asks for.

use serde_json::{Value, json};

use crate::devnet::proxy::faults::{FINALIZED, LOGS_BY_HASH, LOGS_BY_RANGE, SAFE};

/// One JSON-RPC request, alone or as part of a batch.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) request: Value,
}

impl Call {
    pub(super) fn new(request: Value) -> Self {
        Self { method: request["method"].as_str().unwrap_or_default().to_owned(), request }
    }

    /// Its method, and the narrower name where there is one.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let part = match (self.method.as_str(), self.param(0).as_str()) {
            ("eth_getLogs", _) if self.param(0)["blockHash"].is_string() => Some(LOGS_BY_HASH),
            ("eth_getLogs", _) => Some(LOGS_BY_RANGE),
            ("eth_getBlockByNumber", Some("safe")) => Some(SAFE),
            ("eth_getBlockByNumber", Some("finalized")) => Some(FINALIZED),
            _ => None,
        };
        std::iter::once(self.method.as_str()).chain(part)
    }

    pub(super) fn param(&self, index: usize) -> Value {
        self.request["params"].get(index).cloned().unwrap_or_default()
    }

    /// The answer to it that has this `result` or `error`.
    pub(super) fn reply(&self, outcome: Value) -> Value {
        let mut reply = outcome;
        reply["jsonrpc"] = json!("2.0");
        reply["id"] = self.request["id"].clone();
        reply
    }

    pub(super) fn error(&self, code: i64, message: &str) -> Value {
        self.reply(json!({ "error": { "code": code, "message": message } }))
    }
}
