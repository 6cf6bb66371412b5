//! SENSE. Prices over HTTP: tickers, and Pyth's Hermes; and whoever is asked about a payment before it
//! is credited.
//!
//! It asks and hands over the raw answer with its hash; what the answer means is decided in
//! [`crate::domain::oracle`], from what was stored. Sources on chains are asked through the chains'
//! own providers. It does not retry, and no error of it carries a URL or a header. Of an answer that
//! repeats the key that was sent, everything but the key is handed over: nobody stores it by mistake.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::B256;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::domain::oracle::reading::Body;
use crate::domain::oracle::source::{Reads, SourceSpec};
use crate::domain::secrets::Secrets;

/// Bytes of an answer that are kept; a longer one is no ticker.
const KEPT_MAX: usize = 64 * 1024;
/// The same of an error's page.
const ERROR_KEPT_MAX: usize = 1024;

/// Asks sources over HTTP.
#[derive(Debug, Default)]
pub struct Web {
    /// None where nothing is asked.
    client: Option<reqwest::Client>,
    /// Headers by the hash of the source that they are sent to.
    headers: BTreeMap<B256, Vec<(String, String)>>,
}

impl Web {
    /// A client that waits so long for an answer, and sends these headers.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(
        timeout: Duration,
        headers: BTreeMap<B256, Vec<(String, String)>>,
    ) -> Result<Self, String> {
        // Installed once a process; a second call finds it there, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("topupd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| e.without_url().to_string())?;
        Ok(Self { client: Some(client), headers })
    }

    /// Asks a source about an instant. `None` for one that is not asked over HTTP.
    ///
    /// # Errors
    /// Why there is no answer at all. An answer that is nonsense is one.
    pub async fn ask(
        &self,
        source: &SourceSpec,
        at_ms: i64,
        clock: &dyn Clock,
    ) -> Option<Result<Body, String>> {
        let url = match &source.reads {
            Reads::Http(ticker) => ticker.url.clone(),
            Reads::Pyth(feed) => format!("{}{}", feed.url, feed.path(at_ms)),
            Reads::Chainlink(_)
            | Reads::UniswapV3(_)
            | Reads::UniswapV3After(_)
            | Reads::Fixed { .. } => return None,
        };
        let headers = self.headers.get(&source.hash()).map(Vec::as_slice).unwrap_or_default();
        Some(self.fetch(&url, headers, at_ms, clock).await)
    }

    /// Asks a URL. What comes back has none of what the headers say.
    ///
    /// # Errors
    /// Why there is no answer at all. An answer that is nonsense is one.
    pub async fn fetch(
        &self,
        url: &str,
        headers: &[(String, String)],
        at_ms: i64,
        clock: &dyn Clock,
    ) -> Result<Body, String> {
        let secrets = Secrets::of_headers(headers);
        let mut body =
            self.answer(url, headers, at_ms, clock).await.map_err(|why| secrets.removed(&why))?;
        let removed = secrets.removed(&body.body);
        if removed != body.body {
            body.sha256 = B256::from_slice(Sha256::digest(removed.as_bytes()).as_slice());
            body.body = removed;
        }
        Ok(body)
    }

    /// The answer as it came.
    async fn answer(
        &self,
        url: &str,
        headers: &[(String, String)],
        at_ms: i64,
        clock: &dyn Clock,
    ) -> Result<Body, String> {
        let client = self.client.as_ref().ok_or("nothing is asked over HTTP here")?;
        let mut request =
            client.get(url).header(ACCEPT, "application/json").header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(said)?;
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|v| v.to_str().ok());
        if let Some(encoding) = encoding.filter(|e| !e.eq_ignore_ascii_case("identity")) {
            let encoding: String = encoding.chars().take(20).collect();
            return Err(format!("an answer encoded as {encoding}, which was not asked for"));
        }
        let status = response.status().as_u16();
        let most = if status == 200 { KEPT_MAX } else { ERROR_KEPT_MAX };
        let (mut kept, mut hash, mut cut) = (Vec::new(), Sha256::new(), false);
        while let Some(chunk) = response.chunk().await.map_err(said)? {
            hash.update(&chunk);
            cut = kept.len().saturating_add(chunk.len()) > most;
            if cut {
                break; // the rest is not worth the wait
            }
            kept.extend_from_slice(&chunk);
        }
        Ok(Body {
            at_ms,
            fetched_at_ms: clock.now_ms(),
            status,
            body: String::from_utf8_lossy(&kept).into_owned(),
            sha256: B256::from_slice(hash.finalize().as_slice()),
            cut,
        })
    }
}

/// The innermost cause: the outer messages name the URL.
fn said(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".into();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
