//! A server of tickers: what it answers is said by the test, path by path.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// A running server. Dropping it closes the port.
pub struct Tickers {
    pub url: String,
    answers: Answers,
    requests: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Tickers {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let (answers, requests): (Answers, Arc<Mutex<Vec<String>>>) = Default::default();
        let mut task = JoinSet::new();
        let (served, seen) = (Arc::clone(&answers), Arc::clone(&requests));
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (served, seen) = (Arc::clone(&served), Arc::clone(&seen));
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut head = Vec::new();
                    loop {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                        head.push(line);
                    }
                    let target = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().unwrap().push(head.concat());
                    let path = target.split('?').next().unwrap_or_default().to_owned();
                    let none = || (404, "not found".to_owned());
                    let (status, body) =
                        served.lock().unwrap().get(&path).cloned().unwrap_or_else(none);
                    let head = format!(
                        "HTTP/1.1 {status} \r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(body.as_bytes()).await;
                });
            }
        });
        Self { url, answers, requests, _task: task }
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
