//! The server: as much of HTTP/1.1 as a JSON-RPC client speaks, and the way of a request through
//! the faults.
//!
//! Written by hand, because a truncated body or a connection closed instead of an answer is what
//! an HTTP library is there to prevent.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::faults::Fault;
use super::{lies, websocket};
use crate::devnet::proxy::call::Call;
use crate::devnet::proxy::shared::Shared;

/// What stands between a node and its clients says it like this.
const PAGE: &str =
    "<html><head><title>Error</title></head><body><h1>Error</h1><hr>nginx</body></html>";
const JSON: &str = "application/json";

/// An answer on its way to the client.
struct Answer {
    status: u16,
    kind: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Only half of the body is sent.
    cut: bool,
    /// Bytes of white space after the body.
    padding: u64,
}

impl Answer {
    fn new(status: u16, kind: &'static str, body: Vec<u8>) -> Self {
        Self { status, kind, headers: String::new(), body, cut: false, padding: 0 }
    }

    fn page(status: u16) -> Self {
        Self::new(status, "text/html", PAGE.into())
    }
}

/// What a client sent.
struct Received {
    body: Vec<u8>,
    /// Its key, if it wants a WebSocket.
    websocket: Option<String>,
}

/// Serves one connection until one of the two closes it.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = receive(&mut stream).await {
        let Some(key) = received.websocket else {
            let Some(answer) = shared.answer(&received.body).await else { return };
            if shared.send(&mut stream, answer).await.is_none() {
                return;
            }
            continue;
        };
        let rules = shared.rules.borrow().clone();
        let no = |fault| matches!(fault, Fault::NoWebSocket);
        if rules.iter().any(|rule| no(rule.fault) && rule.take()) {
            shared.send(&mut stream, Answer::page(503)).await;
            return;
        }
        let buffered = stream.buffer().to_vec();
        return websocket::serve(stream.into_inner(), buffered, &key, shared).await;
    }
}

/// `None` at the end of the connection, and for what is not understood.
async fn receive(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut received = Received { body: Vec::new(), websocket: None };
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue }; // the request line
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "sec-websocket-key" => received.websocket = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).await.ok()?;
    Some(received)
}

impl Shared {
    /// `None`: the connection is to be closed.
    async fn send(&self, stream: &mut BufReader<TcpStream>, answer: Answer) -> Option<()> {
        static SPACES: [u8; 65_536] = [b' '; 65_536];
        let length = u64::try_from(answer.body.len()).ok()?.saturating_add(answer.padding);
        let Answer { status, kind, headers, .. } = &answer;
        let head = format!(
            "HTTP/1.1 {status} \r\nContent-Type: {kind}\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        let end = if answer.cut { answer.body.len() / 2 } else { answer.body.len() };
        let mut bytes = head.into_bytes();
        bytes.extend(answer.body.get(..end).unwrap_or_default());
        stream.write_all(&bytes).await.ok()?;
        self.sent(bytes.len());
        let mut padding = answer.padding;
        while padding > 0 && !answer.cut {
            let some = usize::try_from(padding).map_or(SPACES.len(), |p| p.min(SPACES.len()));
            stream.write_all(SPACES.get(..some)?).await.ok()?;
            self.sent(some);
            padding = padding.saturating_sub(u64::try_from(some).ok()?);
        }
        (!answer.cut).then_some(())
    }

    /// The way of a request through the faults. `None`: the connection is to be closed.
    async fn answer(&self, body: &[u8]) -> Option<Answer> {
        let (requests, batch) = match serde_json::from_slice(body) {
            Ok(Value::Array(requests)) => (requests, true),
            Ok(request) => (vec![request], false),
            Err(_) => return Some(Answer::page(400)),
        };
        let calls: Vec<Call> = requests.into_iter().map(Call::new).collect();
        calls.iter().for_each(|call| self.count(call));
        let rules = self.rules.borrow().clone();
        let rules = || rules.iter().filter(|r| calls.iter().any(|call| r.concerns(call.names())));

        for rule in rules() {
            if let Fault::Delay(delay) = rule.fault
                && rule.take()
            {
                tokio::time::sleep(delay).await;
            }
        }
        for rule in rules() {
            let instead = match rule.fault {
                Fault::Drop => None,
                Fault::Html(status) => Some(Answer::page(status)),
                Fault::TooMany { retry_after } => {
                    let headers = format!("Retry-After: {retry_after}\r\n");
                    Some(Answer { headers, ..Answer::page(429) })
                }
                _ => continue,
            };
            if rule.take() {
                return instead;
            }
        }
        for rule in rules() {
            if let Fault::BatchOf(most) = rule.fault
                && batch
                && calls.len() > most
                && rule.take()
            {
                let error = json!({ "code": -32_600, "message": "batch too large" });
                let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
                return Some(Answer::new(200, JSON, serde_json::to_vec(&body).ok()?));
            }
        }
        let mut answers = Vec::new();
        for call in &calls {
            match self.answer_to(call).await {
                Ok(answer) => answers.push(answer),
                // What a gateway says about a node that is not there.
                Err(_) => return Some(Answer::page(502)),
            }
        }
        let body = if batch { Value::from(answers) } else { answers.remove(0) };
        let mut answer = Answer::new(200, JSON, serde_json::to_vec(&body).ok()?);
        for rule in rules() {
            match rule.fault {
                Fault::Truncated if rule.take() => answer.cut = true,
                Fault::Huge(bytes) if rule.take() => {
                    answer.padding = answer.padding.saturating_add(bytes)
                }
                _ => {}
            }
        }
        Some(answer)
    }

    /// The answer to one call, as far as it is about JSON. Fails when the node does not answer.
    async fn answer_to(&self, call: &Call) -> Result<Value, String> {
        let rules = self.rules_for(call);
        for rule in &rules {
            let outcome = match (rule.fault, call.method.as_str()) {
                (Fault::Error(code, message), _) if rule.take() => {
                    return Ok(call.error(code, message));
                }
                (Fault::Says(result), _) => {
                    serde_json::from_str(result).map_err(|e| e.to_string())?
                }
                (Fault::WrongChain(id), "eth_chainId") => json!(format!("{id:#x}")),
                (Fault::WrongChain(id), "net_version") => json!(id.to_string()),
                _ => continue,
            };
            if rule.take() {
                return Ok(call.reply(json!({ "result": outcome })));
            }
        }
        if call.method == "eth_call" {
            for rule in &rules {
                if let Fault::Pruned(kept) = rule.fault
                    && self.is_older(call, kept).await?
                    && rule.take()
                {
                    return Ok(call.error(-32_000, "missing trie node 0x12 (path ) state 0x34"));
                }
            }
        }
        let older = match self.ceiling(&rules).await? {
            Some(ceiling) => self.behind(call, ceiling).await?,
            None => None,
        };
        let lagging = || rules.iter().filter(|rule| lies::lag(rule.fault, 0).is_some());
        let mut answer = match older {
            // Each of them is one reason for it.
            Some(older) if lagging().filter(|rule| rule.take()).count() > 0 => call.reply(older),
            _ => self.forward(&call.request).await?,
        };
        if let Some(result) = answer.get_mut("result") {
            for rule in &rules {
                let mut changed = result.clone();
                if lies::alter(call, rule, &mut changed) && rule.take() {
                    *result = changed;
                }
            }
        }
        Ok(answer)
    }

    /// True for a call in the state after a block that is more than so many blocks below the tip.
    async fn is_older(&self, call: &Call, kept: u64) -> Result<bool, String> {
        let hash = call.param(1)["blockHash"].clone();
        if hash.is_null() {
            return Ok(false);
        }
        let height = |value: &Value| {
            let digits = value.as_str().unwrap_or_default().trim_start_matches("0x");
            u64::from_str_radix(digits, 16).map_err(|e| e.to_string())
        };
        let block = self.ask("eth_getBlockByHash", json!([hash, false])).await?;
        let tip = self.ask("eth_blockNumber", json!([])).await?;
        Ok(height(&block["number"])?.saturating_add(kept) < height(&tip)?)
    }

    /// Asks the node something of the proxy's own.
    pub(super) async fn ask(&self, method: &str, params: Value) -> Result<Value, String> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut answer = self.forward(&request).await?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Asks the node a client's question with other parameters.
    pub(super) async fn ask_instead(&self, call: &Call, params: Value) -> Result<Value, String> {
        let mut request = call.request.clone();
        request["params"] = params;
        self.forward(&request).await
    }

    async fn forward(&self, request: &Value) -> Result<Value, String> {
        let upstream = self.upstream.borrow().clone();
        let body = request.to_string();
        let request = self.client.post(upstream).header("content-type", JSON).body(body);
        let answer = request.send().await.map_err(|e| e.to_string())?;
        let body = answer.bytes().await.map_err(|e| e.to_string())?;
        serde_json::from_slice(&body).map_err(|e| e.to_string())
    }
}
