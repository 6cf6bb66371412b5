//! A provider on this machine, in a process of its own: HTTP/1.1 with keep-alive, a thread a
//! connection, answers ready to be sent. A range of logs is one slice of memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use serde_json::{Value, json};
use topupd::domain::transfer::TRANSFER_TOPIC;

use crate::ground::{CHAIN, TOKEN};
use crate::history::{FIRST, Plan, Wire};
use crate::process;

/// Most logs in one answer, as Infura has it.
const LOGS_MAX: u64 = 10_000;
/// Blocks that the tags lie below the tip.
const SAFE: u64 = 32;
const FINALIZED: u64 = 64;

/// What was asked since the last time somebody looked.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Journal {
    /// Parameters of every `eth_getLogs` that was answered with logs.
    pub ranges: Vec<Value>,
    /// Logs in those answers.
    pub logs: u64,
    /// Bytes of those answers.
    pub log_bytes: u64,
    /// `eth_getLogs` that were answered with an error.
    pub refused: u64,
    /// Requests, by method.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Most `eth_getLogs` under way at once.
    pub peak: usize,
}

/// The server, seen by who started it. Killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(plan: Plan, latency_ms: u64) -> Self {
        let mut command = process::again("serve");
        command.args(plan.args()).arg(format!("--latency-ms={latency_ms}"));
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}/", port.trim()) }
    }

    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.child.id())
    }

    /// What was asked since the last time.
    pub async fn journal(&self, client: &reqwest::Client) -> Journal {
        let asked = r#"{"jsonrpc":"2.0","id":1,"method":"bench_journal","params":[]}"#;
        let answer = client.post(&self.url).body(asked).send().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        serde_json::from_value(answer["result"].take()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves the plan's history, until killed or until whoever started this is gone.
pub fn serve(plan: Plan, latency: Duration) {
    let provider: &'static Provider = Box::leak(Box::new(Provider {
        wire: Wire::new(plan),
        latency,
        journal: Mutex::default(),
        under_way: AtomicUsize::new(0),
    }));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    thread::spawn(|| {
        drop(io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0)
    });
    for stream in listener.incoming().flatten() {
        thread::spawn(move || drop(provider.converse(&stream)));
    }
}

struct Provider {
    wire: Wire,
    latency: Duration,
    journal: Mutex<Journal>,
    under_way: AtomicUsize,
}

type Parts<'a> = Vec<Cow<'a, [u8]>>;

/// Why there is no answer, as JSON-RPC says it.
struct Refusal(i64, String);

impl Provider {
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(body) = read_request(&mut reader)? {
            let request: Value = serde_json::from_slice(&body)?;
            let logs = request["method"] == "eth_getLogs";
            if logs {
                let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                let mut journal = self.journal.lock().unwrap();
                journal.peak = journal.peak.max(under_way);
            }
            let parts = match &request {
                Value::Array(batch) => self.answer_all(batch),
                one => self.answer(one),
            };
            thread::sleep(self.latency);
            let sent = send(stream, &parts);
            if logs {
                self.under_way.fetch_sub(1, Ordering::SeqCst);
            }
            sent?;
        }
        Ok(())
    }

    fn answer_all(&self, batch: &[Value]) -> Parts<'_> {
        let mut parts: Parts<'_> = vec![Cow::Borrowed(b"[")];
        for (i, request) in batch.iter().enumerate() {
            if i > 0 {
                parts.push(Cow::Borrowed(b","));
            }
            parts.extend(self.answer(request));
        }
        parts.push(Cow::Borrowed(b"]"));
        parts
    }

    fn answer(&self, request: &Value) -> Parts<'_> {
        let method = request["method"].as_str().unwrap_or_default();
        let head = |kind| format!(r#"{{"jsonrpc":"2.0","id":{},"{kind}":"#, request["id"]);
        if method == "bench_journal" {
            let journal = std::mem::take(&mut *self.journal.lock().unwrap());
            let text = serde_json::to_string(&journal).unwrap();
            return vec![Cow::Owned(format!("{}{text}}}", head("result")).into_bytes())];
        }
        let (parts, logs): (Parts<'_>, Option<u64>) = match self.result(method, &request["params"])
        {
            Ok(Answer::Logs(json, count)) => {
                let head = Cow::Owned((head("result") + "[").into_bytes());
                (vec![head, Cow::Borrowed(json), Cow::Borrowed(b"]}")], Some(count))
            }
            Ok(Answer::Json(json)) => {
                (vec![Cow::Owned(head("result").into_bytes()), json, Cow::Borrowed(b"}")], None)
            }
            Err(Refusal(code, message)) => {
                let error = json!({ "code": code, "message": message });
                (vec![Cow::Owned(format!("{}{error}}}", head("error")).into_bytes())], None)
            }
        };
        let bytes = length(&parts) as u64;
        let mut journal = self.journal.lock().unwrap();
        journal.bytes += bytes;
        *journal.requests.entry(method.to_owned()).or_default() += 1;
        if let Some(count) = logs {
            journal.ranges.push(request["params"].clone());
            journal.logs += count;
            journal.log_bytes += bytes;
        } else if method == "eth_getLogs" {
            journal.refused += 1;
        }
        parts
    }

    fn result(&self, method: &str, params: &Value) -> Result<Answer<'_>, Refusal> {
        let header = |number: Option<u64>| {
            let json = number.and_then(|n| self.wire.header(n)).unwrap_or(b"null");
            Ok(Answer::Json(Cow::Borrowed(json)))
        };
        match method {
            "eth_chainId" => {
                Ok(Answer::Json(Cow::Owned(json!(format!("{CHAIN:#x}")).to_string().into_bytes())))
            }
            "eth_getBlockByNumber" => header(self.number(&params[0])),
            "eth_getBlockByHash" => header(self.by_hash(&params[0])),
            "eth_getLogs" => self.logs(&params[0]),
            _ => Err(Refusal(-32_601, format!("the method {method} does not exist"))),
        }
    }

    fn logs(&self, criteria: &Value) -> Result<Answer<'_>, Refusal> {
        let invalid = |why: &str| Refusal(-32_602, why.to_owned());
        let topics = criteria["topics"].as_array().map_or(&[][..], Vec::as_slice);
        if topics.len() > 1 {
            return Err(invalid("this server tells transfers by their token only"));
        }
        let is_transfer = topics.iter().flat_map(words::<B256>).any(|t| t == TRANSFER_TOPIC);
        if !is_transfer || words::<Address>(&criteria["address"]).all(|a| a != TOKEN) {
            return Ok(Answer::Logs(b"", 0));
        }
        let (from, to) = if criteria["blockHash"].is_null() {
            (self.number(&criteria["fromBlock"]), self.number(&criteria["toBlock"]))
        } else {
            let Some(number) = self.by_hash(&criteria["blockHash"]) else {
                return Err(Refusal(-32_000, "unknown block".into()));
            };
            (Some(number), Some(number))
        };
        let Plan { transfers, .. } = self.wire.plan();
        let (Some(from @ FIRST..), Some(to)) = (from, to) else {
            return Err(invalid("invalid block range params"));
        };
        if from > to || to > self.wire.plan().tip() {
            return Err(invalid("invalid block range params"));
        }
        let count = (to - from + 1) * transfers;
        if count > LOGS_MAX {
            let fits = from + (LOGS_MAX / transfers).max(1) - 1;
            return Err(Refusal(
                -32_005,
                format!(
                    "query returned more than {LOGS_MAX} results. Try with this block range [{from:#x}, {fits:#x}]."
                ),
            ));
        }
        Ok(Answer::Logs(self.wire.logs(from, to), count))
    }

    /// A height, written as one or as a tag.
    fn number(&self, block: &Value) -> Option<u64> {
        let tip = self.wire.plan().tip();
        match block.as_str()? {
            "latest" | "pending" => Some(tip),
            "safe" => Some(tip.saturating_sub(SAFE)),
            "finalized" => Some(tip.saturating_sub(FINALIZED)),
            "earliest" => Some(FIRST),
            number => u64::from_str_radix(number.strip_prefix("0x")?, 16).ok(),
        }
    }

    fn by_hash(&self, hash: &Value) -> Option<u64> {
        self.wire.height(&hash.as_str()?.parse().ok()?)
    }
}

enum Answer<'a> {
    /// Logs without the brackets around them, and how many.
    Logs(&'a [u8], u64),
    Json(Cow<'a, [u8]>),
}

/// One value or a list of them.
fn words<T: std::str::FromStr>(value: &Value) -> impl Iterator<Item = T> + '_ {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().filter_map(|v| v.as_str()?.parse().ok())
}

/// The body of the next request; `None` when there is none any more.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            _ if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}

fn length(parts: &Parts<'_>) -> usize {
    parts.iter().map(|p| p.len()).sum()
}

fn send(mut stream: &TcpStream, parts: &Parts<'_>) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        length(parts)
    );
    let mut slices = vec![IoSlice::new(head.as_bytes())];
    slices.extend(parts.iter().map(|p| IoSlice::new(p)));
    let mut left = slices.as_mut_slice();
    // Also skips what is empty, of which nothing would ever be written.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.write_vectored(left)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}
