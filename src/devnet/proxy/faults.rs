//! What can be wrong, for which requests, and how often.
//!
//! Only names and counters; how a fault is done stands in `http.rs`, `lies.rs` and `websocket.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, TxHash, U256};

/// `eth_getLogs` by `fromBlock` and `toBlock`, as the method of a rule or a counter.
pub const LOGS_BY_RANGE: &str = "eth_getLogs by range";
/// `eth_getLogs` by `blockHash`, as the method of a rule or a counter.
pub const LOGS_BY_HASH: &str = "eth_getLogs by hash";

/// A block by the tag `safe`, as the method of a rule or a counter.
pub const SAFE: &str = "eth_getBlockByNumber of safe";
/// A block by the tag `finalized`, as the method of a rule or a counter.
pub const FINALIZED: &str = "eth_getBlockByNumber of finalized";

/// True for the names that only split up another method.
pub(super) fn is_part(name: &str) -> bool {
    [LOGS_BY_RANGE, LOGS_BY_HASH, SAFE, FINALIZED].contains(&name)
}

/// One thing that is wrong.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The answer comes so much later.
    Delay(Duration),
    /// The connection is closed instead of an answer. A request over a WebSocket closes that.
    Drop,
    /// HTTP 429 with `Retry-After`, in seconds.
    TooMany {
        /// Seconds after which the client may ask again.
        retry_after: u64,
    },
    /// A page for people under this status, such as a gateway's 502.
    Html(u16),
    /// Half of the answer, then the connection is closed.
    Truncated,
    /// The answer, followed by so many bytes of white space. A client that stops reading in time
    /// needs no memory for it.
    Huge(u64),
    /// A JSON-RPC error in an HTTP 200. Also over a WebSocket.
    Error(i64, &'static str),
    /// This result, in JSON, whatever is asked.
    Says(&'static str),
    /// Another `eth_chainId` and `net_version`.
    WrongChain(u64),
    /// So many blocks behind: `latest`, `safe`, `finalized` and announced heads are older, and what
    /// is above is unknown. Logs of a range that ends above are those up to there, without an
    /// error; logs of an unknown block are one. Restricted to `eth_getLogs` it is a node whose
    /// index of logs lags.
    Behind(u64),
    /// The same, but at this height for ever.
    StuckAt(u64),
    /// `eth_getLogs` lies.
    Logs(Lie),
    /// Receipts lie about their logs.
    Receipt(Lie),
    /// There is no such receipt.
    NoReceipt,
    /// A block, asked for by its hash, has another `gasUsed`: it hashes to nothing that is known.
    HashesOtherwise,
    /// `eth_call` in the state after a block that is more than so many blocks old is refused, as by
    /// a node that has pruned it.
    Pruned(u64),
    /// A batch of more than so many questions is refused with one error.
    BatchOf(usize),
    /// `eth_call` says double of what a price feed answers.
    Doubled,
    /// WebSockets stay open and nothing goes through in either direction, whatever the method; new
    /// ones too. What the node says in the meantime is lost, and is what is counted.
    Silence,
    /// WebSockets are refused with a 503.
    NoWebSocket,
}

/// How a list of logs is changed. With [`Rule::of`], only as far as it is that transaction's.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// There are none.
    Empty,
    /// The last one is missing.
    LastMissing,
    /// The last one is there twice.
    LastTwice,
    /// Every `logIndex` is so much higher.
    Shifted(u64),
    /// Every amount is this.
    Amount(U256),
    /// There is one more: a copy of the last, with the next `logIndex`. An empty list stays empty.
    Invented(Invention),
}

/// What an invented log has that the copied one has not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Invention {
    /// Another recipient.
    pub to: Option<Address>,
    /// Another amount.
    pub amount: Option<U256>,
    /// Another transaction.
    pub tx: Option<TxHash>,
}

impl Fault {
    /// Only for this method; see also [`LOGS_BY_RANGE`] and [`LOGS_BY_HASH`].
    pub fn on(self, method: &str) -> Rule {
        Rule::from(self).on(method)
    }

    /// Only for the logs or the receipt of this transaction.
    pub fn of(self, tx: TxHash) -> Rule {
        Rule::from(self).of(tx)
    }

    /// Only so many times.
    pub fn times(self, times: u64) -> Rule {
        Rule::from(self).times(times)
    }
}

/// A fault and the requests that it is for: all, unless restricted.
#[derive(Debug)]
pub struct Rule {
    pub(super) fault: Fault,
    method: Option<String>,
    pub(super) tx: Option<TxHash>,
    times: u64,
    pub(super) hits: AtomicU64,
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { fault, method: None, tx: None, times: u64::MAX, hits: AtomicU64::new(0) }
    }
}

impl Rule {
    /// See [`Fault::on`].
    pub fn on(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// See [`Fault::of`].
    pub fn of(self, tx: TxHash) -> Self {
        Self { tx: Some(tx), ..self }
    }

    /// See [`Fault::times`].
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// True for a request of one of these names, as long as it is not used up.
    pub(super) fn concerns<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let method = self.method.as_deref();
        self.hits.load(Ordering::SeqCst) < self.times
            && method.is_none_or(|wanted| names.any(|name| name == wanted))
    }

    /// Uses it once; false when others have used it up.
    pub(super) fn take(&self) -> bool {
        let one = |hits| (hits < self.times).then_some(hits + 1);
        self.hits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one).is_ok()
    }
}
