//! A server of tickers: what it answers is said by the test, path by path.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use topupd::devnet::WebServer;

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// A running server. Dropping it closes the port.
pub struct Tickers {
    pub url: String,
    answers: Answers,
    requests: Arc<Mutex<Vec<String>>>,
    _server: WebServer,
}

impl Tickers {
    pub async fn start() -> Self {
        let (answers, requests): (Answers, Arc<Mutex<Vec<String>>>) = Default::default();
        let (served, seen) = (Arc::clone(&answers), Arc::clone(&requests));
        let server = WebServer::start(Arc::new(move |head: &str| {
            seen.lock().unwrap().push(head.to_owned());
            let target = head.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            let known = served.lock().unwrap().get(path).cloned();
            known.unwrap_or_else(|| (404, "not found".to_owned()))
        }))
        .await
        .unwrap();
        Self { url: server.url(), answers, requests, _server: server }
    }

    /// From now on, this is the answer to a path.
    pub fn set(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}
