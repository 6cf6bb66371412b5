//! One JSON-RPC 2.0 question over HTTP, and its answer in bytes.
//!
//! Own code and not alloy's transport, because that hides what is needed here: the `Retry-After`
//! of a 429, a bound on the size of an answer, the bytes themselves, so that large answers are
//! decoded without a copy, and the number of the question, which the answer must repeat. What is
//! said beside a result is read in whatever shape it comes ([`crate::chain::rpc_error`]). It does not retry. No
//! error of it carries the URL.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess,
    Visitor,
};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::field::Field;
use crate::chain::rpc_error::ErrorObject;

/// Largest answer that is read. A range with more logs is asked for in parts.
const ANSWER_MAX: usize = 32 * 1024 * 1024;
/// Largest one where there are no parts: a block's receipts. As many bytes of logs as the gas of
/// the largest blocks pays for (300 million, 8 a byte), in hexadecimal, fit twice.
const WHOLE_MAX: usize = 160 * 1024 * 1024;
/// One answer that large at a time, whoever asks.
static LARGE: Semaphore = Semaphore::const_new(1);
/// Bytes of an unreadable answer that are shown.
const SHOWN_MAX: usize = 200;
/// Of the average latency, the weight of the newest answer is one in this many.
const LATENCY_WEIGHT: u64 = 8;

/// One endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: reqwest::Client,
    url: Url,
    timeout: Duration,
    /// Least time between two questions.
    spacing: Option<Duration>,
    next: Mutex<Option<Instant>>,
    /// Requests sent.
    asked: AtomicU64,
    /// The number of the next question.
    ids: AtomicU64,
    received: AtomicU64,
    latency_ms: AtomicU64,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Not reached, cut off, or timed out.
    Unreachable(String),
    TimedOut,
    TooLarge,
    /// 429, with what `Retry-After` says, in milliseconds.
    RateLimited(Option<u64>),
    Status(u16, String),
    /// A JSON-RPC error object.
    Error(ErrorObject),
    /// No JSON, with a status of success: a page, a sentence, nothing.
    Text(String),
    /// Not an answer to the question.
    Nonsense(String),
}

#[derive(Serialize)]
struct Question<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

/// Reads a whole answer in one pass: the result by `result`, the rest by itself.
struct Reader<S> {
    result: S,
}

/// The bytes of an answer.
pub(super) struct Unread {
    body: Body,
    id: u64,
}

/// Bytes, and the turn of a large answer, until it is read.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Unread {
    pub(super) fn len(&self) -> usize {
        self.body.bytes.len()
    }

    pub(super) fn read<R>(
        &self,
        result: impl for<'de> DeserializeSeed<'de, Value = R>,
    ) -> Result<R, NoAnswer> {
        result_of(&self.body.bytes, self.id, result)
    }
}

/// What an answer holds.
struct Answer<R> {
    id: Id,
    result: Option<R>,
    error: Option<ErrorObject>,
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Reader<S> {
    type Value = Answer<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut answer = Answer { id: Id(None), result: None, error: None };
        let mut seed = Some(self.result);
        while let Some(key) = map.next_key::<Field<'de>>()? {
            let name = if let Field::Text(name) = &key { name.as_ref() } else { "" };
            match (name, seed.take()) {
                ("result", Some(result)) => answer.result = Some(map.next_value_seed(result)?),
                ("result", None) => return Err(A::Error::duplicate_field("result")),
                (other, kept) => {
                    seed = kept;
                    match other {
                        "id" => answer.id = Id::of(&map.next_value()?),
                        "error" => answer.error = ErrorObject::of(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
            }
        }
        Ok(answer)
    }
}

/// The number of an answer: as it was sent, or as a text or with a decimal point.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id(Option<u64>);

impl Id {
    fn of(value: &Value) -> Self {
        Self(match value {
            Value::Number(number) => number.to_string().trim_end_matches(".0").parse().ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        })
    }
}

impl Endpoint {
    /// An endpoint that is asked at most so many times a second.
    pub(super) fn new(
        client: reqwest::Client,
        url: Url,
        timeout: Duration,
        per_second: Option<u32>,
    ) -> Self {
        let spacing = per_second.and_then(|n| Duration::from_secs(1).checked_div(n));
        Self {
            client,
            url,
            timeout,
            spacing,
            next: Mutex::default(),
            asked: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            received: AtomicU64::new(0),
            latency_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn latency_ms(&self) -> u64 {
        self.latency_ms.load(Ordering::Relaxed)
    }

    /// Asks, and reads the result with `result`.
    pub(super) async fn ask<R>(
        &self,
        method: &str,
        params: impl Serialize,
        result: impl for<'de> DeserializeSeed<'de, Value = R>,
    ) -> Result<R, NoAnswer> {
        self.answer(method, params, Size::Part).await?.read(result)
    }

    /// Asks, for an answer that is read later.
    pub(super) async fn answer(
        &self,
        method: &str,
        params: impl Serialize,
        size: Size,
    ) -> Result<Unread, NoAnswer> {
        self.wait_for_turn().await;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let question = Question { jsonrpc: "2.0", id, method, params };
        let body = self.exchange(&question, size).await?;
        Ok(Unread { body, id })
    }

    /// Asks several things at once: one request, as JSON-RPC 2.0 calls a batch. The answers are in
    /// the order of the questions.
    pub(super) async fn ask_all<R: DeserializeOwned>(
        &self,
        method: &str,
        params: &[impl Serialize],
    ) -> Result<Vec<Result<R, NoAnswer>>, NoAnswer> {
        self.wait_for_turn().await;
        let many = u64::try_from(params.len()).unwrap_or(u64::MAX);
        let first = self.ids.fetch_add(many, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let questions: Vec<_> = (first..)
            .zip(params)
            .map(|(id, params)| Question { jsonrpc: "2.0", id, method, params })
            .collect();
        let body = self.exchange(&questions, Size::Part).await?.bytes;
        let body = json_of(&body)?;
        let unreadable = |why: String| NoAnswer::Nonsense(format!("{why}: {}", shown(body)));
        if body.starts_with(b"{") {
            // One object for all questions: an error, or somebody who knows no batches.
            let alone = result_of(body, first, PhantomData::<R>);
            return Err(alone.err().unwrap_or_else(|| unreadable("one answer to many".into())));
        }
        let answers: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|e| unreadable(e.to_string()))?;
        let mut by_id = BTreeMap::new();
        for answer in answers {
            let read = answer_of(answer.get().as_bytes(), PhantomData::<IgnoredAny>);
            match read.map_err(|e| unreadable(e.to_string()))?.id {
                Id(Some(id)) => drop(by_id.insert(id, answer.get())),
                Id(None) => return Err(unreadable("an answer without a number".into())),
            }
        }
        Ok((first..)
            .zip(params)
            .map(|(id, _)| match by_id.get(&id) {
                Some(answer) => result_of(answer.as_bytes(), id, PhantomData),
                None => Err(NoAnswer::Nonsense("a question was left out".into())),
            })
            .collect())
    }

    async fn exchange(&self, question: &impl Serialize, size: Size) -> Result<Body, NoAnswer> {
        let question = serde_json::to_vec(question)
            .map_err(|e| NoAnswer::Nonsense(format!("the question cannot be written: {e}")))?;
        let began = Instant::now();
        let body = tokio::time::timeout(self.timeout, self.fetch(question, size))
            .await
            .map_err(|_| NoAnswer::TimedOut)??;
        self.learn_latency(began.elapsed());
        Ok(body)
    }

    async fn fetch(&self, question: Vec<u8>, size: Size) -> Result<Body, NoAnswer> {
        let mut response = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .body(question)
            .send()
            .await
            .map_err(|e| unreachable(&e))?;
        let status = response.status();
        if status.as_u16() == 429 {
            let header = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
            // The other form, a date, is rare; the pause that follows without one serves as well.
            let seconds = header.and_then(|text| text.trim().parse::<u64>().ok());
            return Err(NoAnswer::RateLimited(seconds.map(|s| s.saturating_mul(1_000))));
        }
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|v| v.to_str().ok());
        let encoding = encoding.filter(|e| !e.eq_ignore_ascii_case("identity") && !e.is_empty());
        let encoding = encoding.map(str::to_owned);
        let mut body = Body::default();
        while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(&e))? {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            self.received.fetch_add(length, Ordering::Relaxed);
            let length = body.bytes.len().saturating_add(chunk.len());
            if length > size.most() {
                return Err(NoAnswer::TooLarge);
            }
            if length > ANSWER_MAX && body._turn.is_none() {
                body._turn = LARGE.acquire().await.ok();
            }
            body.bytes.extend_from_slice(&chunk);
        }
        let gzip = body.bytes.starts_with(&[0x1f, 0x8b]).then(|| "gzip".to_owned());
        if let Some(encoding) = encoding.filter(|_| json_of(&body.bytes).is_err()).or(gzip) {
            let why = format!("an answer encoded as {encoding}, which was not asked for");
            return Err(NoAnswer::Nonsense(why));
        }
        // Some providers say what is wrong in a JSON-RPC error with a status of 400 or 500.
        if !status.is_success() && json_of(&body.bytes).is_err() {
            return Err(NoAnswer::Status(status.as_u16(), shown(&body.bytes)));
        }
        Ok(body)
    }

    async fn wait_for_turn(&self) {
        let Some(spacing) = self.spacing else { return };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = turn.checked_add(spacing);
            turn
        };
        tokio::time::sleep_until(turn.into()).await;
    }

    fn learn_latency(&self, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let before = self.latency_ms();
        let after = match before {
            0 => took,
            _ => before.saturating_mul(LATENCY_WEIGHT - 1).saturating_add(took) / LATENCY_WEIGHT,
        };
        self.latency_ms.store(after.max(1), Ordering::Relaxed);
    }
}

/// How large an answer may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// What is larger is asked for in parts.
    Part,
    /// There are no parts.
    Whole,
}

impl Size {
    const fn most(self) -> usize {
        match self {
            Self::Part => ANSWER_MAX,
            Self::Whole => WHOLE_MAX,
        }
    }
}

fn result_of<'a, S: DeserializeSeed<'a>>(
    body: &'a [u8],
    id: u64,
    result: S,
) -> Result<S::Value, NoAnswer> {
    let unreadable =
        |why: String| NoAnswer::Nonsense(format!("cannot be read: {why}: {}", shown(body)));
    let body = json_of(body)?;
    // A list of one, for the only question asked.
    let list: Option<[&RawValue; 1]> = match body {
        [b'[', ..] => serde_json::from_slice(body).map_err(|e| unreadable(e.to_string()))?,
        _ => None,
    };
    let body = list.map_or(body, |[only]| only.get().as_bytes());
    let answer = match answer_of(body, result) {
        Ok(answer) => answer,
        // Whatever stands where the result would: an error says more.
        Err(why) => match answer_of(body, PhantomData::<IgnoredAny>) {
            Ok(Answer { error: Some(error), .. }) => return Err(NoAnswer::Error(error)),
            _ => return Err(unreadable(why.to_string())),
        },
    };
    if let Some(error) = answer.error.filter(|e| answer.result.is_none() || e.says_something()) {
        return Err(NoAnswer::Error(error));
    }
    if answer.id != Id(Some(id)) {
        return Err(NoAnswer::Nonsense("an answer to another question".into()));
    }
    answer.result.ok_or_else(|| NoAnswer::Nonsense("an answer without a result".into()))
}

fn answer_of<'a, S: DeserializeSeed<'a>>(
    body: &'a [u8],
    result: S,
) -> Result<Answer<S::Value>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let answer = deserializer.deserialize_map(Reader { result })?;
    deserializer.end().map(|()| answer)
}

/// What looks like JSON, without a mark of its byte order and spaces before it.
fn json_of(body: &[u8]) -> Result<&[u8], NoAnswer> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    match text {
        [b'{' | b'[', ..] => Ok(text),
        [] => Err(NoAnswer::Text("an empty answer".into())),
        text => Err(NoAnswer::Text(format!("no JSON: {}", shown(text)))),
    }
}

fn shown(body: &[u8]) -> String {
    let start = body.get(..body.len().min(SHOWN_MAX)).unwrap_or_default();
    String::from_utf8_lossy(start).into_owned()
}

/// The innermost cause: the outer messages name the URL.
fn unreachable(error: &reqwest::Error) -> NoAnswer {
    if error.is_timeout() && !error.is_connect() {
        return NoAnswer::TimedOut;
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    NoAnswer::Unreachable(cause.to_string())
}

#[cfg(test)]
mod tests;
