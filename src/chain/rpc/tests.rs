//! What a provider says over HTTP, and what it is taken for.

use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use url::Url;

use super::*;
use crate::chain::rpc::node::ProviderOptions;

/// A provider, what it was sent, and its server.
type Answering = (RpcSource, Arc<Mutex<String>>, JoinSet<()>);

/// A provider that answers one request, whatever it is, and what it was sent.
async fn answering(head: &'static str, body: Vec<u8>) -> Answering {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let sent = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&sent);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut request, mut chunk) = (String::new(), [0; 4096]);
        // A question ends with its object.
        while !request.ends_with('}') {
            let read = stream.read(&mut chunk).await.unwrap();
            request.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        *kept.lock().unwrap() = request.to_lowercase();
        let length = body.len();
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    });
    let (name, timeout) = ("main".into(), Duration::from_secs(20));
    let options = ProviderOptions { name, http, ws: None, timeout, per_second: None, range_max: 1 };
    (RpcSource::new(options).unwrap(), sent, task)
}

async fn logs(head: &'static str, body: &[u8]) -> Result<RangeLogs, SourceError> {
    let (source, sent, _task) = answering(head, body.to_vec()).await;
    let filter = LogFilter::Tokens(vec![Address::ZERO]);
    let logs = source.logs_in_range(1, 9, &filter, &Arc::default()).await;
    assert!(sent.lock().unwrap().contains("accept-encoding: identity"));
    logs
}

#[tokio::test]
async fn every_way_of_refusing_a_range_is_called_what_it_is() {
    use SourceError::{Invalid, RangeTooLarge, RateLimited, Refused, Unavailable};
    let said = |body: &str| format!("{{\"id\":0,\"error\":{body}}}").into_bytes();
    let large = "query returned more than 10000 results";
    for body in [
        format!("{{\"code\":\"-32005\",\"message\":\"{large}\"}}"),
        format!("\"{large}\""),
        format!("{{\"code\":-32005,\"message\":null,\"data\":\"{large}\"}}"),
        format!("{{\"code\":-32005.5,\"message\":{{\"text\":\"{large}\"}}}}"),
        format!("{{\"code\":-32602,\"message\":\"no\",\"data\":{{\"a\":\"{large}\"}}}}"),
        "{\"code\":-32000,\"message\":\"context deadline exceeded\"}".into(),
    ] {
        let error = logs("200 OK", &said(&body)).await.unwrap_err();
        assert!(matches!(error, RangeTooLarge { .. }), "{body}: {error}");
    }
    for (head, body) in [
        ("504 Gateway Timeout", "<html>504</html>"),
        ("524 A", "error code: 524"),
        ("400 Bad Request", "block range is too large"),
        ("413 Request Entity Too Large", "no"),
        ("200 OK", "query exceeds block range limit"),
    ] {
        let error = logs(head, body.as_bytes()).await.unwrap_err();
        assert!(matches!(error, RangeTooLarge { .. }), "{head} {body}: {error}");
    }
    let error = logs("200 OK", b"").await.unwrap_err();
    assert!(matches!(error, Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("an empty answer"), "{error}");
    let error = logs("200 OK", b"<html>maintenance").await.unwrap_err();
    assert!(error.to_string().contains("<html>maintenance"), "{error}");
    let error = logs("502 Bad Gateway", b"upstream").await.unwrap_err();
    assert!(matches!(error, Unavailable { .. }), "{error}");
    let error = logs("200 OK", &said("\"Forwarder error: 1000.\"")).await.unwrap_err();
    assert!(matches!(error, Refused { .. }), "{error}");
    let error = logs("200 OK", &said("\"too many requests\\u0000\"")).await.unwrap_err();
    assert!(matches!(&error, RateLimited { why, .. } if !why.contains('\0')), "{error}");
    let error = logs("200 OK", br#"{"id":0,"result":null}"#).await.unwrap_err();
    assert!(matches!(error, Invalid { .. }), "{error}");
    assert!(error.to_string().contains("a list of logs"), "{error}");
    for (head, body) in [
        ("200 OK\r\nContent-Encoding: gzip", &[0x1f, 0x8b, 8, 0][..]),
        ("200 OK", &[0x1f, 0x8b, 8, 0][..]),
        ("200 OK\r\nContent-Encoding: br", &[0x8b, 8, 0][..]),
    ] {
        let error = logs(head, body).await.unwrap_err();
        assert!(matches!(error, Invalid { .. }), "{error}");
        assert!(error.to_string().contains("encoded as"), "{error}");
    }
    let plain = logs("200 OK\r\nContent-Encoding: gzip", br#"{"id":0,"result":[]}"#).await;
    assert_eq!(plain, Ok(RangeLogs::default()));
}

#[tokio::test]
async fn an_empty_slot_is_empty_however_it_is_written() {
    for (said, is) in [
        ("0x", Some(Address::ZERO)),
        ("0x0", Some(Address::ZERO)),
        ("0x1f", Some(Address::with_last_byte(0x1f))),
        ("1f", None),
    ] {
        let body = format!("{{\"id\":0,\"result\":\"{said}\"}}").into_bytes();
        let (source, _, _task) = answering("200 OK", body).await;
        assert_eq!(source.storage(Address::ZERO, EIP_1967).await.ok(), is, "{said}");
    }
}

#[tokio::test]
async fn receipts_that_are_too_large_to_be_read_prove_nothing_and_are_no_failure() {
    let block = format!("{{\"hash\":\"{0}\",\"transactions\":[\"{0}\"]}}", B256::ZERO);
    for (said, unproved) in [("response size exceeded", true), ("try again", false)] {
        let body = format!("{{\"id\":0,\"error\":{{\"code\":-32000,\"message\":\"{said}\"}}}}");
        let (source, _, _task) = answering("200 OK", body.into_bytes()).await;
        let error = source.texts_of_receipts(&block).await.unwrap_err();
        assert_eq!(matches!(error, SourceError::Unproved { .. }), unproved, "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_provider_is_named_without_its_url() {
    let url = Url::parse("http://user:hunter2@127.0.0.1:1/v2/SECRET").unwrap();
    let source = RpcSource::new(ProviderOptions {
        name: "main".into(),
        http: url,
        ws: None,
        timeout: Duration::from_secs(2),
        per_second: None,
        range_max: 1,
    })
    .unwrap();
    let text = source.latest().await.unwrap_err().to_string();
    assert!(text.starts_with("main did not answer eth_getBlockByNumber: "), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("SECRET"), "{text}");
}
