//! One provider: how it is reached and asked, and what is remembered of it between two questions.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256};
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Value;
use tokio::sync::Notify;
use url::Url;

use crate::chain::field::hex_digits;
use crate::chain::jsonrpc::{Endpoint, NoAnswer, Size, Unread};
use crate::chain::read::RangeLogs;
use crate::chain::rpc_error::cleaned;
use crate::chain::secrets::of_url;
use crate::chain::source::SourceError;
use crate::chain::wire::{RangeReader, RpcHeader};
use crate::domain::chain::Header;
use crate::domain::secrets::Secrets;
use crate::domain::transfer::AddressBook;

/// Polls that find a tip which the WebSocket did not announce, before it counts as dead.
pub(super) const SILENT_POLLS_MAX: u32 = 2;

/// How a provider is reached, and what it bears.
#[derive(Debug, Clone)]
pub struct ProviderOptions {
    /// Its name, for logs and evidence.
    pub name: String,
    /// JSON-RPC over HTTP.
    pub http: Url,
    /// JSON-RPC over WebSocket.
    pub ws: Option<Url>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Most requests a second.
    pub per_second: Option<u32>,
    /// Most blocks in one request for logs.
    pub range_max: u64,
}

/// A provider of one chain.
#[derive(Debug)]
pub struct RpcSource {
    pub(super) options: ProviderOptions,
    pub(super) http: Endpoint,
    heads: Mutex<Heads>,
    pub(super) silent_polls: AtomicU32,
    /// For so many blocks it is not asked for all receipts in one answer.
    pub(super) no_receipts_at_once: AtomicU32,
    /// Questions to contracts in one request, as far as it is known to bear them.
    pub(super) batch: AtomicUsize,
    pub(super) reconnect: Notify,
    /// Parts of the URLs that must not be repeated.
    secrets: Secrets,
}

impl RpcSource {
    /// A source over HTTP, with an optional WebSocket.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(options: ProviderOptions) -> Result<Self, SourceError> {
        // Installed once a process; a second call finds it there, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .timeout(options.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| SourceError::Unavailable {
                provider: options.name.clone(),
                method: "connect",
                why: e.without_url().to_string(),
            })?;
        let mut secrets = self::secrets(&options.http);
        secrets.extend(options.ws.iter().flat_map(self::secrets));
        let http = Endpoint::new(client, options.http.clone(), options.timeout, options.per_second);
        Ok(Self {
            options,
            http,
            secrets: Secrets::new(secrets),
            heads: Mutex::default(),
            silent_polls: AtomicU32::new(0),
            no_receipts_at_once: AtomicU32::new(0),
            batch: AtomicUsize::new(BATCH),
            reconnect: Notify::new(),
        })
    }

    /// HTTP requests sent so far.
    pub fn requests(&self) -> u64 {
        self.http.requests()
    }

    /// Bytes received so far, over HTTP.
    pub fn bytes_received(&self) -> u64 {
        self.http.bytes_received()
    }

    /// True while new heads are being announced, so that polling may be slow.
    pub fn is_live(&self) -> bool {
        self.heads().live
    }

    /// Asks anything. Used directly for what is not about following the chain.
    pub async fn ask<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<R, SourceError> {
        self.ask_and_read(method, params, PhantomData).await
    }

    async fn ask_and_read<R>(
        &self,
        method: &'static str,
        params: impl Serialize,
        result: impl for<'de> DeserializeSeed<'de, Value = R>,
    ) -> Result<R, SourceError> {
        self.http.ask(method, params, result).await.map_err(|error| self.classify(method, error))
    }

    /// Like [`RpcSource::ask`], for what cannot be had in parts.
    pub(super) async fn ask_whole<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<R, SourceError> {
        self.whole(method, params).await.map_err(|error| self.classify(method, error))
    }

    pub(super) async fn whole<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<R, NoAnswer> {
        self.http.answer(method, params, Size::Whole).await?.read(PhantomData)
    }

    pub(super) fn cleaned(&self, text: &str) -> String {
        cleaned(text, &self.secrets)
    }

    pub(super) fn invalid(&self, method: &'static str, why: impl Into<String>) -> SourceError {
        let why = self.cleaned(&why.into());
        SourceError::Invalid { provider: self.options.name.clone(), method, why }
    }

    pub(super) fn unproved(&self, why: &str) -> SourceError {
        SourceError::Unproved { provider: self.options.name.clone(), why: self.cleaned(why) }
    }

    pub(super) fn heads(&self) -> std::sync::MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn block(
        &self,
        method: &'static str,
        params: (Value, bool),
    ) -> Result<Option<Header>, SourceError> {
        let block: Option<RpcHeader> = self.ask(method, params).await?;
        Ok(block.map(|RpcHeader(header)| header))
    }

    /// Reads the logs of a range, a large answer beside the task, so that several are read at once.
    pub(super) async fn read_range(
        &self,
        answer: Unread,
        from: u64,
        to: u64,
        book: Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let large = answer.len() >= LARGE;
        let read = move || answer.read(RangeReader { from, to, book: &book });
        let logs = if large {
            let read = tokio::task::spawn_blocking(read).await;
            read.unwrap_or_else(|e| Err(NoAnswer::Nonsense(format!("reading it failed: {e}"))))
        } else {
            read()
        };
        logs.map_err(|error| self.classify(LOGS_IN_RANGE, error))
    }

    pub(super) async fn storage(
        &self,
        contract: Address,
        slot: B256,
    ) -> Result<Address, SourceError> {
        const METHOD: &str = "eth_getStorageAt";
        let word: String = self.ask(METHOD, (contract, slot, "latest")).await?;
        // Some nodes leave out zeros in front, down to nothing.
        let digits = hex_digits(&word).filter(|digits| digits.len() <= 64);
        let digits = digits.ok_or_else(|| self.invalid(METHOD, "not the word of a slot"))?;
        let word = format!("{digits:0>64}").parse().unwrap_or_default();
        Ok(Address::from_word(word))
    }
}

/// Bytes of an answer from which on it is read beside the task.
pub(super) const LARGE: usize = 128 * 1024;

/// Questions to contracts in one request.
pub(super) const BATCH: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Heads {
    /// A WebSocket subscription stands.
    pub(super) subscribed: bool,
    /// It has announced something.
    pub(super) live: bool,
    /// Announced and not yet asked for.
    pub(super) fresh: Option<Header>,
    /// The newest height announced.
    pub(super) announced: u64,
    /// The newest height polled.
    pub(super) polled: u64,
}

/// The same method on the wire, told apart because only a range can be made smaller.
pub(super) const LOGS_IN_RANGE: &str = "eth_getLogs over a range";

/// What may be a key in a URL, and every longer part of its path: a provider repeats what it was sent.
pub(super) fn secrets(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().filter(|part| part.len() >= 8);
    let parts = path.chain(url.query()).map(str::to_owned);
    parts.chain(of_url(url)).filter(|s| !s.is_empty()).collect()
}
