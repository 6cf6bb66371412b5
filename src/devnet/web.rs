//! A small HTTP server for the demo and the tests: somebody who gives prices.
//!
//! It reads GET requests and answers with what a function says. No more of HTTP than that.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The head of a request in, status and body out. The first line of the head names the path.
pub type Handler = Arc<dyn Fn(&str) -> (u16, String) + Send + Sync>;

/// Longest head that is read.
const HEAD_MAX: usize = 16 * 1024;

/// A running server on a free port of 127.0.0.1. Dropping it closes the port.
#[derive(Debug)]
pub struct WebServer {
    port: u16,
    _task: JoinSet<()>,
}

impl WebServer {
    /// Starts it.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(handler: Handler) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        connections.spawn(serve(stream, Arc::clone(&handler)));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, _task: task })
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn serve(stream: TcpStream, handler: Handler) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        let read = stream.read_line(&mut head).await.unwrap_or(0);
        if read == 0 || head.len() > HEAD_MAX {
            return;
        }
        if head.get(before..).is_some_and(|line| line.trim().is_empty()) {
            break;
        }
    }
    let (status, body) = handler(&head);
    let answer = format!(
        "HTTP/1.1 {status} \r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // Who went away meanwhile needs no answer.
    let _ = stream.write_all(answer.as_bytes()).await;
}
