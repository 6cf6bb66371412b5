//! A pooler for tests, with one session of the server: each transaction of each client runs in it, as behind
//! PgBouncer with `pool_mode = transaction`. It takes settings that come with a connection, and forgets them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

/// Ask for TLS.
const SSL: u32 = 80_877_103;

pub struct PoolerProxy {
    pub port: u16,
    /// While it is set, all clients have one session; afterwards each new one has its own.
    pub shares: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

/// The one session, and what the server says when a session begins.
struct Session {
    server: TcpStream,
    hello: Vec<u8>,
}

type Shared = Arc<Mutex<Option<Session>>>;

impl PoolerProxy {
    #[expect(clippy::disallowed_methods, reason = "a test's own task, ended with the test")]
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shares = Arc::new(AtomicBool::new(true));
        let (session, is_shared) = (Shared::default(), Arc::clone(&shares));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Many small messages, each answered: none waits for the next one.
                client.set_nodelay(true).unwrap();
                let session = is_shared.load(Ordering::SeqCst).then(|| Arc::clone(&session));
                tokio::spawn(async move { drop(serve(client, server, session).await) });
            }
        });
        Self { port, shares, task }
    }
}

impl Drop for PoolerProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, server: u16, shared: Option<Shared>) -> io::Result<()> {
    let startup = loop {
        let body = body(&mut client).await?;
        if body.starts_with(&SSL.to_be_bytes()) {
            client.write_all(b"N").await?;
        } else {
            break body;
        }
    };
    let Some(shared) = shared else {
        let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
        server.write_all(&framed(None, &startup)).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    {
        let mut session = shared.lock().await;
        match &*session {
            None => *session = Some(begin(&mut client, server, &startup).await?),
            Some(known) => {
                client.write_all(&framed(Some(b'R'), &0u32.to_be_bytes())).await?;
                client.write_all(&known.hello).await?;
                client.write_all(&framed(Some(b'Z'), b"I")).await?;
            }
        }
    }
    let mut held: Option<OwnedMutexGuard<Option<Session>>> = None;
    loop {
        // Whatever a client says until it wants an answer.
        let mut said = Vec::new();
        loop {
            let Ok((kind, body)) = message(&mut client).await else {
                if let Some(mut session) = held {
                    *session = None; // it left in a transaction
                }
                return Ok(());
            };
            said.extend(framed(Some(kind), &body));
            match kind {
                b'X' => return Ok(()),
                b'Q' | b'S' => break,
                _ => {}
            }
        }
        let mut guard = match held.take() {
            Some(guard) => guard,
            None => Arc::clone(&shared).lock_owned().await,
        };
        let Some(session) = guard.as_mut() else { return Ok(()) };
        match answered(&mut client, session, &said).await {
            Ok(status) => held = (status != b'I').then_some(guard),
            Err(_) => {
                *guard = None;
                return Ok(());
            }
        }
    }
}

/// Whether the session is in a transaction afterwards, as the server says it.
async fn answered(client: &mut TcpStream, session: &mut Session, said: &[u8]) -> io::Result<u8> {
    session.server.write_all(said).await?;
    loop {
        let (kind, body) = message(&mut session.server).await?;
        client.write_all(&framed(Some(kind), &body)).await?;
        if kind == b'Z' {
            return Ok(body[0]);
        }
    }
}

/// Lets the first client sign in, without the settings that it sends.
async fn begin(client: &mut TcpStream, port: u16, startup: &[u8]) -> io::Result<Session> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut words: VecDeque<&[u8]> = startup[4..].split(|b| *b == 0).collect();
    let mut kept = startup[..4].to_vec();
    while let (Some(name), Some(value)) = (words.pop_front(), words.pop_front()) {
        if !name.is_empty() && name != b"options" {
            kept.extend([name, value].map(|word| [word, &[0]].concat()).concat());
        }
    }
    kept.push(0);
    server.write_all(&framed(None, &kept)).await?;
    let mut hello = Vec::new();
    loop {
        let (kind, body) = message(&mut server).await?;
        let whole = framed(Some(kind), &body);
        client.write_all(&whole).await?;
        match kind {
            // SASL and its continuation want an answer.
            b'R' if matches!(body[3], 10 | 11) => {
                let (kind, body) = message(client).await?;
                server.write_all(&framed(Some(kind), &body)).await?;
            }
            b'S' | b'K' => hello.extend(whole),
            b'Z' => return Ok(Session { server, hello }),
            _ => {}
        }
    }
}

async fn message(from: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    Ok((kind, body(from).await?))
}

async fn body(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    kind.into_iter().chain(length.to_be_bytes()).chain(body.iter().copied()).collect()
}
