//! A chain seen through one JSON-RPC provider: HTTP for every question, WebSocket as a hint.
//!
//! Polling is the truth. The WebSocket subscription to `newHeads` only says "look now", and saves
//! the request for the tip; when it dies, silently or not, nothing is lost but time. Answers are
//! checked to be answers to the question. No error carries a URL, because URLs carry keys.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxHash, U64};
use alloy::rpc::client::{RpcClient, WsConnect};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use url::Url;

use super::{ChainSource, LogFilter, Receipt, SourceError, Tag};
use crate::domain::chain::Header;
use crate::domain::ids::BlockRef;
use crate::domain::transfer::{RawLog, TRANSFER_TOPIC};

/// Characters of a provider's error text that are kept.
const WHY_MAX: usize = 300;
/// Polls that find a tip which the WebSocket did not announce, before it counts as dead.
const SILENT_POLLS_MAX: u32 = 2;
/// Pause before a WebSocket is connected again.
const RECONNECT: Duration = Duration::from_secs(1);

/// A provider of one chain.
#[derive(Debug)]
pub struct RpcSource {
    provider: String,
    client: RpcClient,
    timeout: Duration,
    ws: Option<Url>,
    heads: Mutex<Heads>,
    silent_polls: AtomicU32,
    requests: AtomicU64,
    reconnect: Notify,
    /// Parts of the URLs that must not be repeated.
    secrets: Vec<String>,
}

#[derive(Debug, Default)]
struct Heads {
    /// A WebSocket subscription stands.
    live: bool,
    /// Announced and not yet asked for.
    fresh: Option<Header>,
    /// The newest height announced.
    announced: u64,
    /// The newest height polled.
    polled: u64,
}

impl RpcSource {
    /// A source over HTTP, with an optional WebSocket.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(
        provider: String,
        http: Url,
        ws: Option<Url>,
        timeout: Duration,
    ) -> Result<Self, SourceError> {
        // Installed once a process; a second call finds it there, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let unusable = |why: String| SourceError::Unavailable {
            provider: provider.clone(),
            method: "connect",
            why,
        };
        let http_client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| unusable(e.without_url().to_string()))?;
        let mut secrets = self::secrets(&http);
        secrets.extend(ws.iter().flat_map(self::secrets));
        Ok(Self {
            client: RpcClient::new_http_with_client(http_client, http),
            secrets,
            provider,
            timeout,
            ws,
            heads: Mutex::default(),
            silent_polls: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            reconnect: Notify::new(),
        })
    }

    /// HTTP requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// True while new heads are being announced, so that polling may be slow.
    pub fn is_live(&self) -> bool {
        self.heads().live
    }

    /// Keeps the subscription to `newHeads` alive, and wakes `poke` at each head. Runs until
    /// dropped; without a WebSocket it just waits.
    pub async fn listen(&self, poke: &Notify) {
        let Some(url) = self.ws.clone() else { return std::future::pending().await };
        loop {
            tokio::select! {
                ended = self.subscription(url.clone(), poke) => {
                    tracing::warn!(provider = self.provider, why = ended, "websocket ended");
                }
                () = self.reconnect.notified() => {
                    tracing::warn!(provider = self.provider,
                        "websocket is silent while blocks are mined; connecting again");
                }
            }
            let polled = self.heads().polled;
            *self.heads() = Heads { polled, ..Heads::default() };
            poke.notify_one();
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// One subscription, from connect to its end; says why it ended.
    async fn subscription(&self, url: Url, poke: &Notify) -> String {
        let connect = WsConnect::new(url.as_str()).with_max_retries(0);
        let connected = tokio::time::timeout(self.timeout, RpcClient::connect_pubsub(connect));
        let client = match connected.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return self.why(&error),
            Err(_) => return "connecting timed out".into(),
        };
        let asked = client.request::<_, B256>("eth_subscribe", ("newHeads",));
        let id = match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(id)) => id,
            Ok(Err(error)) => return self.why(&error),
            Err(_) => return "eth_subscribe timed out".into(),
        };
        let mut heads = client.get_subscription::<RpcHeader>(id).await;
        self.heads().live = true;
        poke.notify_one(); // heads may have been missed before
        loop {
            match heads.recv().await {
                Ok(head) => {
                    if let Ok(header) = self.header_of("newHeads", head) {
                        self.silent_polls.store(0, Ordering::Relaxed);
                        let mut heads = self.heads();
                        heads.announced = heads.announced.max(header.number);
                        heads.fresh = Some(header);
                        drop(heads);
                        poke.notify_one();
                    }
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
        let Some(url) = self.ws.clone() else { return Ok("not configured; polling only") };
        let poke = Notify::new();
        tokio::select! {
            why = self.subscription(url, &poke) => Err(why),
            () = poke.notified() => Ok("answers"),
        }
    }

    /// Asks anything. Used directly for what is not about following the chain.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, SourceError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let wire = if method == LOGS_IN_RANGE { LOGS_IN_BLOCK } else { method };
        let answer = self.client.request::<P, R>(wire, params);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.classify(method, &error)),
            Err(_) => Err(self.timed_out(method)),
        }
    }

    fn timed_out(&self, method: &'static str) -> SourceError {
        let provider = self.provider.clone();
        // Too much was asked for, or the provider is down: fewer blocks help with the first.
        if method == LOGS_IN_RANGE {
            return SourceError::RangeTooLarge { provider, why: "timed out".into() };
        }
        SourceError::Unavailable { provider, method, why: "timed out".into() }
    }

    fn classify(&self, method: &'static str, error: &TransportError) -> SourceError {
        let provider = self.provider.clone();
        let why = self.why(error);
        match error {
            RpcError::DeserError { .. } | RpcError::NullResp => {
                SourceError::Invalid { provider, method, why }
            }
            RpcError::Transport(TransportErrorKind::Custom(inner))
                if inner
                    .downcast_ref::<reqwest::Error>()
                    .is_some_and(|e| e.is_timeout() && !e.is_connect()) =>
            {
                self.timed_out(method)
            }
            RpcError::ErrorResp(_) | RpcError::Transport(_)
                if [LOGS_IN_BLOCK, LOGS_IN_RANGE].contains(&method)
                    && says_range_too_large(&why) =>
            {
                SourceError::RangeTooLarge { provider, why }
            }
            RpcError::ErrorResp(_) if !says_rate_limited(&why) => {
                SourceError::Refused { provider, method, why }
            }
            _ => SourceError::Unavailable { provider, method, why },
        }
    }

    /// What an error says, without URLs and not endless.
    fn why(&self, error: &TransportError) -> String {
        let text = match error {
            RpcError::ErrorResp(payload) => format!("error {}: {}", payload.code, payload.message),
            RpcError::DeserError { err, .. } => format!("cannot be read: {err}"),
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
        let mut text = without_urls(&text);
        // A provider may repeat the key that it was sent.
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), "[…]");
        }
        text.chars().take(WHY_MAX).collect()
    }

    fn invalid(&self, method: &'static str, why: impl Into<String>) -> SourceError {
        SourceError::Invalid { provider: self.provider.clone(), method, why: why.into() }
    }

    fn heads(&self) -> std::sync::MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn header_of(&self, method: &'static str, block: RpcHeader) -> Result<Header, SourceError> {
        let (Some(number), Some(hash)) = (block.number, block.hash) else {
            return Err(self.invalid(method, "a block without number or hash"));
        };
        let seconds = i64::try_from(block.timestamp.to::<u64>()).ok();
        let time_ms = seconds
            .and_then(|s| s.checked_mul(1_000))
            .ok_or_else(|| self.invalid(method, "a timestamp out of range"))?;
        Ok(Header { number: number.to(), hash, parent_hash: block.parent_hash, time_ms })
    }

    async fn block(
        &self,
        method: &'static str,
        params: (Value, bool),
    ) -> Result<Option<Header>, SourceError> {
        let block: Option<RpcHeader> = self.ask(method, params).await?;
        block.map(|block| self.header_of(method, block)).transpose()
    }

    fn log_of(&self, method: &'static str, log: RpcLog) -> Result<RawLog, SourceError> {
        let (Some(block_hash), Some(block_number), Some(tx_hash), Some(log_index)) =
            (log.block_hash, log.block_number, log.transaction_hash, log.log_index)
        else {
            return Err(self.invalid(method, "a log without its block, transaction or index"));
        };
        if log.removed {
            return Err(self.invalid(method, "a removed log"));
        }
        if log.topics.len() > 4 {
            return Err(self.invalid(method, "a log with more than four topics"));
        }
        Ok(RawLog {
            address: log.address,
            topics: log.topics,
            data: log.data,
            block_hash,
            block_number: block_number.to(),
            tx_hash,
            log_index: log_index.to(),
        })
    }

    async fn logs(
        &self,
        method: &'static str,
        blocks: Map<String, Value>,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        let mut criteria = blocks;
        let wanted = match filter {
            LogFilter::Tokens(tokens) => {
                criteria.insert("address".into(), json!(tokens));
                criteria.insert("topics".into(), json!([TRANSFER_TOPIC]));
                tokens
            }
            LogFilter::Recipients(to) => {
                let words: Vec<B256> = to.iter().map(|a| a.into_word()).collect();
                criteria.insert("topics".into(), json!([TRANSFER_TOPIC, null, words]));
                to
            }
        };
        if wanted.is_empty() {
            return Ok(Vec::new()); // an empty list means "any" to some nodes and "none" to others
        }
        let logs: Vec<RpcLog> = self.ask(method, (criteria,)).await?;
        logs.into_iter().map(|log| self.log_of(method, log)).collect()
    }
}

const LOGS_IN_BLOCK: &str = "eth_getLogs";
/// The same method on the wire, told apart because only a range can be made smaller.
const LOGS_IN_RANGE: &str = "eth_getLogs over a range";

impl ChainSource for RpcSource {
    fn provider(&self) -> &str {
        &self.provider
    }

    fn announced(&self) -> Option<Header> {
        self.heads().fresh.take()
    }

    async fn latest(&self) -> Result<Header, SourceError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let header = self.block(METHOD, (json!("latest"), false)).await?;
        let header = header.ok_or_else(|| self.invalid(METHOD, "no latest block"))?;
        // Silent: a subscription stands, and the tip rose since the last poll without a word.
        let silent = {
            let mut heads = self.heads();
            let rose = header.number > heads.polled;
            heads.polled = heads.polled.max(header.number);
            heads.live && header.number > heads.announced && rose
        };
        if silent && self.silent_polls.fetch_add(1, Ordering::Relaxed) >= SILENT_POLLS_MAX {
            self.silent_polls.store(0, Ordering::Relaxed);
            self.reconnect.notify_one();
        }
        Ok(header)
    }

    async fn tagged(&self, tag: Tag) -> Result<Option<Header>, SourceError> {
        let tag = match tag {
            Tag::Safe => "safe",
            Tag::Finalized => "finalized",
        };
        self.block("eth_getBlockByNumber", (json!(tag), false)).await
    }

    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        const METHOD: &str = "eth_getBlockByNumber";
        let header = self.block(METHOD, (json!(U64::from(number)), false)).await?;
        match header {
            Some(header) if header.number != number => {
                Err(self.invalid(METHOD, format!("block {} for {number}", header.number)))
            }
            other => Ok(other),
        }
    }

    async fn header(&self, hash: B256) -> Result<Option<Header>, SourceError> {
        const METHOD: &str = "eth_getBlockByHash";
        let header = self.block(METHOD, (json!(hash), false)).await?;
        match header {
            Some(header) if header.hash != hash => {
                Err(self.invalid(METHOD, format!("block {} for {hash}", header.hash)))
            }
            other => Ok(other),
        }
    }

    async fn logs_in_block(
        &self,
        block: BlockRef,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        let criteria = Map::from_iter([("blockHash".into(), json!(block.hash))]);
        let logs = self.logs(LOGS_IN_BLOCK, criteria, filter).await?;
        let here = |l: &RawLog| l.block_hash == block.hash && l.block_number == block.number;
        if logs.iter().all(here) {
            Ok(logs)
        } else {
            Err(self.invalid(LOGS_IN_BLOCK, "logs of another block"))
        }
    }

    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        let criteria = Map::from_iter([
            ("fromBlock".into(), json!(U64::from(from))),
            ("toBlock".into(), json!(U64::from(to))),
        ]);
        let logs = self.logs(LOGS_IN_RANGE, criteria, filter).await?;
        if logs.iter().all(|l| (from..=to).contains(&l.block_number)) {
            Ok(logs)
        } else {
            Err(self.invalid(LOGS_IN_RANGE, "logs outside of the range"))
        }
    }

    async fn receipt(&self, tx: TxHash) -> Result<Option<Receipt>, SourceError> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let receipt: Option<RpcReceipt> = self.ask(METHOD, (tx,)).await?;
        let Some(receipt) = receipt else { return Ok(None) };
        let Some(block_hash) = receipt.block_hash else { return Ok(None) };
        let logs = receipt
            .logs
            .into_iter()
            .map(|log| self.log_of(METHOD, log))
            .collect::<Result<Vec<_>, _>>()?;
        let foreign = logs.iter().any(|l| l.tx_hash != tx || l.block_hash != block_hash);
        if receipt.transaction_hash != tx || foreign {
            return Err(self.invalid(METHOD, "the receipt of another transaction or block"));
        }
        let succeeded = receipt.status == Some(U64::from(1));
        Ok(Some(Receipt { block_hash, succeeded, logs }))
    }
}

/// The fields of a block that are read. Everything else differs from chain to chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcHeader {
    number: Option<U64>,
    hash: Option<B256>,
    parent_hash: B256,
    timestamp: U64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_hash: Option<B256>,
    block_number: Option<U64>,
    transaction_hash: Option<B256>,
    log_index: Option<U64>,
    #[serde(default)]
    removed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcReceipt {
    transaction_hash: B256,
    block_hash: Option<B256>,
    status: Option<U64>,
    logs: Vec<RpcLog>,
}

/// User, password, query, and every longer part of the path: where keys are put.
fn secrets(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().filter(|part| part.len() >= 8);
    let parts = [Some(url.username()), url.password(), url.query()];
    path.chain(parts.into_iter().flatten()).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Recognises that a provider wants to be asked less often.
fn says_rate_limited(why: &str) -> bool {
    const RATE: &[&str] = &[
        "rate limit",
        "too many requests",
        "request limit",
        "exceeded the quota",
        "reached the quota",
        "under too much load",
        "capacity limit",
        "http error 429",
    ];
    let why = why.to_lowercase();
    RATE.iter().any(|text| why.contains(text))
}

/// Recognises the many ways of saying "fewer blocks, please". Rate limits use some of the same
/// words and are recognised first: asking for fewer blocks would not help with those.
fn says_range_too_large(why: &str) -> bool {
    const RANGE: &[&str] = &[
        "block range",
        "blocks range",
        "range is too",
        "range too large",
        "max range",
        "maximum is set to",
        "too many requested blocks",
        "requested too many blocks",
        "limited to",
        "up to a",
        "more than",
        "exceeds max results",
        "query exceeds",
        "too many results",
        "too many logs",
        "response size",
        "response too large",
        "response is too big",
        "exceeds the range",
        "exceeds limit of",
        "limit exceeded",
        "must be smaller than size",
        "blocks distance",
        "ranges over",
        "try paginating",
        "logs returned",
        "request timed out",
        "-32614",
        "http error 413",
    ];
    let lower = why.to_lowercase();
    !says_rate_limited(why) && RANGE.iter().any(|text| lower.contains(text))
}

/// Replaces everything that looks like a URL: keys live in paths, queries and user names alike.
fn without_urls(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        words.push(if word.contains("://") { "[url]" } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of real providers; the first column says whether fewer blocks would help.
    #[test]
    fn range_errors_are_told_from_rate_limits() {
        let table = [
            (
                true,
                "error -32602: Log response size exceeded. this block range should work: [0x0, 0x1]",
            ),
            (
                true,
                "error -32005: query returned more than 10000 results. Try with this block range [0x1, 0x2]",
            ),
            (true, "error -32000: requested too many blocks from 1 to 2, maximum is set to 2048"),
            (true, "error -32614: eth_getLogs is limited to a 10,000 range"),
            (true, "error -32600: block range is too wide"),
            (true, "error -32000: logs matched by query exceeds limit of 10000"),
            (true, "error -32000: backend response too large"),
            (true, "error -32000: query exceeds max results 20000, retry with the range 1-2"),
            (true, "error -32005: limit exceeded"),
            (false, "error -32005: daily request count exceeded, request rate limited"),
            (false, "error 429: Too Many Requests"),
            (false, "error -32000: unknown block"),
            (false, "error -32000: header not found"),
            (false, "connection refused"),
        ];
        for (fewer_helps, text) in table {
            assert_eq!(says_range_too_large(text), fewer_helps, "{text}");
        }
    }

    #[test]
    fn urls_do_not_leave() {
        let text = "error sending request for url (https://user:key@eth.example/v2/SECRET?k=1)";
        assert_eq!(without_urls(text), "error sending request for url [url]");
    }

    #[tokio::test]
    async fn an_unreachable_provider_is_named_without_its_url() {
        let url = Url::parse("http://user:hunter2@127.0.0.1:1/v2/SECRET").unwrap();
        let source = RpcSource::new("main".into(), url, None, Duration::from_secs(2)).unwrap();
        let text = source.latest().await.unwrap_err().to_string();
        assert!(text.starts_with("main did not answer eth_getBlockByNumber: "), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("SECRET"), "{text}");
    }
}
