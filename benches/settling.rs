//! From seen to credited: payments that came in many blocks at once, as after an outage, with one
//! question for all receipts of a block, and beside it, in the same run, with one for each payment.
//!
//! `cargo bench --bench settling [-- PAYMENTS PER_BLOCK]` (20,000 and 50 unless said). The provider is
//! a thread of this process that answers over HTTP; the second time it has no `eth_getBlockReceipts`.
//! Also what one question for all receipts costs, in questions for one, and an activation while all wait.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a benchmark stops at the first surprise, and prints ratios"
)]

#[path = "catch_up/ground.rs"]
mod ground;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use alloy::primitives::{Address, B256, keccak256};
use serde_json::{Value, json};
use topupd::chain::pool::Pool;
use topupd::chain::rpc::node::RpcSource;
use topupd::chain::source::ChainSource;
use topupd::clock::{Clock, SystemClock};
use topupd::domain::chain_rules::ChainRules;
use topupd::domain::finality::{Finality, Policy, Tier};
use topupd::domain::ids::BlockRef;
use topupd::domain::transfer::TRANSFER_TOPIC;
use topupd::store::LeasedStore;
use topupd::tasks::prices::market::Market;
use topupd::tasks::settle::confirming::Settled;
use topupd::tasks::settle::settle;
use topupd::tasks::watch::step::Watched;
use topupd::tasks::watch::{WatchCache, watch};

use ground::{CHAIN, TOKEN, address, config, store};

const FIRST: u64 = 1_000;
const ADDRESSES: u64 = 1_000;

/// A chain in which each transaction of each block pays us.
struct Node {
    blocks: u64,
    per_block: u64,
    has_block_receipts: bool,
    heights: HashMap<B256, u64>,
    txs: HashMap<B256, (u64, u64)>,
    asked: AtomicU64,
}

impl Node {
    fn new(blocks: u64, per_block: u64, has_block_receipts: bool) -> Self {
        let numbers = FIRST..FIRST + blocks + 3;
        let heights = numbers.clone().map(|n| (hash(n), n)).collect();
        let places = (FIRST..FIRST + blocks).flat_map(|n| (0..per_block).map(move |i| (n, i)));
        let txs = places.map(|(n, i)| (tx(n, i), (n, i))).collect();
        Self { blocks, per_block, has_block_receipts, heights, txs, asked: AtomicU64::new(0) }
    }

    fn tip(&self) -> u64 {
        FIRST + self.blocks + 2
    }

    fn header(&self, number: u64) -> Value {
        if !(FIRST..=self.tip()).contains(&number) {
            return Value::Null;
        }
        json!({ "number": format!("{number:#x}"), "hash": hash(number), "parentHash": hash(number - 1),
            "timestamp": format!("{:#x}", 1_700_000_000 + number),
            "logsBloom": format!("0x{}", "00".repeat(256)), "transactions": [] })
    }

    fn log(&self, number: u64, i: u64) -> Value {
        json!({ "address": TOKEN, "blockNumber": format!("{number:#x}"), "blockHash": hash(number),
            "blockTimestamp": format!("{:#x}", 1_700_000_000 + number), "removed": false,
            "topics": [TRANSFER_TOPIC, Address::repeat_byte(0xee).into_word(),
                       address(((number * self.per_block + i) % ADDRESSES) as usize).into_word()],
            "data": format!("0x{:064x}", 1_000_000), "transactionHash": tx(number, i),
            "transactionIndex": format!("{i:#x}"), "logIndex": format!("{i:#x}") })
    }

    fn receipt(&self, number: u64, i: u64) -> Value {
        json!({ "transactionHash": tx(number, i), "blockHash": hash(number), "status": "0x1",
            "blockNumber": format!("{number:#x}"), "transactionIndex": format!("{i:#x}"),
            "cumulativeGasUsed": "0x5208", "gasUsed": "0x5208", "effectiveGasPrice": "0x3b9aca00",
            "from": Address::repeat_byte(0xee), "to": TOKEN, "type": "0x2", "contractAddress": null,
            "logsBloom": format!("0x{}", "00".repeat(256)), "logs": [self.log(number, i)] })
    }

    fn answer(&self, request: &Value) -> Value {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let params = &request["params"];
        let number = |text: &Value| match text.as_str().unwrap_or_default() {
            "latest" => self.tip(),
            "safe" | "finalized" => FIRST,
            text => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0),
        };
        let by_hash = |text: &Value| {
            let hash = text.as_str().and_then(|t| t.parse::<B256>().ok());
            hash.and_then(|h| self.heights.get(&h).copied()).unwrap_or(0)
        };
        let paying = FIRST..FIRST + self.blocks;
        let result = match request["method"].as_str().unwrap_or_default() {
            "eth_chainId" => json!(format!("{CHAIN:#x}")),
            "eth_getBlockByNumber" => self.header(number(&params[0])),
            "eth_getBlockByHash" => self.header(by_hash(&params[0])),
            "eth_getLogs" => {
                let of = &params[0];
                let (from, to) = match by_hash(&of["blockHash"]) {
                    0 => (number(&of["fromBlock"]), number(&of["toBlock"])),
                    n => (n, n),
                };
                let numbers = (from..=to).filter(|n| paying.contains(n));
                let logs = numbers.flat_map(|n| (0..self.per_block).map(move |i| self.log(n, i)));
                Value::Array(logs.collect())
            }
            "eth_getTransactionReceipt" => {
                let tx =
                    params[0].as_str().and_then(|t| t.parse::<B256>().ok()).unwrap_or_default();
                self.txs.get(&tx).map_or(Value::Null, |(n, i)| self.receipt(*n, *i))
            }
            "eth_getBlockReceipts" if self.has_block_receipts => {
                let n = by_hash(&params[0]);
                (0..self.per_block).map(|i| self.receipt(n, i)).collect()
            }
            _ => {
                let error = json!({ "code": -32_601, "message": "the method does not exist" });
                return json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
            }
        };
        json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut reader, mut line, mut length) = (BufReader::new(stream), String::new(), 0);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim().to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if !text.is_empty() {
                continue;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let answer = match serde_json::from_slice(&body)? {
                Value::Array(all) => all.iter().map(|one| self.answer(one)).collect(),
                one => self.answer(&one),
            };
            let (answer, mut out) = (answer.to_string(), stream);
            write!(
                out,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    }

    fn serve(self) -> (Arc<Self>, String) {
        let node = Arc::new(self);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = Arc::clone(&node);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let node = Arc::clone(&serving);
                std::thread::spawn(move || drop(node.converse(&stream)));
            }
        });
        (node, url)
    }
}

fn hash(number: u64) -> B256 {
    keccak256(format!("block {number}"))
}

fn tx(number: u64, i: u64) -> B256 {
    keccak256(format!("tx {number} {i}"))
}

/// Seconds from seen to credited, and requests.
async fn credited(payments: u64, per_block: u64, has_block_receipts: bool) -> (f64, u64) {
    let (node, url) = Node::new(payments / per_block, per_block, has_block_receipts).serve();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("topupd.db"), &url, FIRST);
    let chain = config.chains.first().unwrap();
    let store = store(&config, ADDRESSES as usize, 1).await;
    let (provider, _) = chain.providers.first().unwrap().clone();
    let pool = Pool::admitted([RpcSource::new(provider).unwrap()]);
    let clock: &dyn Clock = &SystemClock;
    let mut cache = WatchCache::new(&chain.rules);
    while watch(&chain.rules, &pool, &store, clock, &mut cache).await.unwrap() != Watched::Idle {}

    if has_block_receipts {
        waiting(&chain.rules, &pool, &store).await;
    }
    let (began, before) = (Instant::now(), node.asked.load(Ordering::Relaxed));
    let (market, mut done) = (Market::default(), 0u64);
    loop {
        let step = settle(&chain.rules, &pool, &market, &store, clock).await.unwrap();
        done += step.credited as u64;
        if step == Settled::default() {
            break;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(done, payments);
    let asked = node.asked.load(Ordering::Relaxed) - before;
    if has_block_receipts {
        threshold(pool.all().next().unwrap(), per_block).await;
    }
    assert!(store.verify().await.unwrap().is_ok());
    (seconds, asked)
}

/// What an activation takes while none of the payments is deep enough, after the first one.
async fn waiting(rules: &ChainRules, pool: &Pool<RpcSource>, store: &LeasedStore) {
    let tier = Tier { up_to_usd: None, finality: Finality::Confirmations(1_000_000) };
    let rules = ChainRules { policy: Policy::new(vec![tier]).unwrap(), ..rules.clone() };
    let (market, clock) = (Market::default(), &SystemClock);
    let rounds = 20u32;
    let mut times = Vec::new();
    for _ in 0..=rounds {
        let began = Instant::now();
        let settled = settle(&rules, pool, &market, store, clock).await.unwrap();
        assert_eq!(settled.credited, 0);
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    println!(
        "while all wait: the first activation takes {:.1} ms, each further one {:.1} ms",
        times[0],
        times[1..].iter().sum::<f64>() / f64::from(rounds)
    );
}

/// What the receipts of a block cost in one answer, in receipts that are asked for one by one.
async fn threshold(source: &RpcSource, per_block: u64) {
    let rounds = 100;
    let began = Instant::now();
    for n in FIRST..FIRST + rounds {
        let block = BlockRef { number: n, hash: hash(n) };
        assert!(source.receipts_at_once(block).await.unwrap().is_some());
    }
    let all = began.elapsed();
    let began = Instant::now();
    for n in FIRST..FIRST + rounds {
        assert!(source.receipt(tx(n, 0)).await.unwrap().is_some());
    }
    println!(
        "all {per_block} receipts of a block cost as much as {:.1} that are asked for one by one",
        all.as_secs_f64() / began.elapsed().as_secs_f64()
    );
}

#[tokio::main]
async fn main() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<u64>().ok());
    let (payments, per_block) = (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(50));
    let (seconds, asked) = credited(payments, per_block, true).await;
    println!(
        "{payments} payments, {per_block} a block: credited in {seconds:.1} s, {asked} requests"
    );
    let (one_by_one, asked) = credited(payments, per_block, false).await;
    println!("receipts one by one: {one_by_one:.1} s, {asked} requests");
    println!("ratio {:.2}; {:.0} payments/s", seconds / one_by_one, payments as f64 / seconds);
}
