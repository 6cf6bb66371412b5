//! A day of blocks, one a second, as fast as they can be followed: does memory stay flat?
//!
//! `cargo bench --bench endurance` follows 86,400 blocks of a chain that two providers make up from the
//! height alone, so that nothing of it is kept outside of topupd; a payment in every tenth block. It
//! prints the resident memory at each tenth of the way, and fails when it ends above 64 MiB or grows
//! in the second half by more than a tenth.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark stops at the first thing that is not as expected"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, Bloom, Bytes, TxHash, U256, keccak256};
use topupd::chain::BlockProof;
use topupd::chain::pool::Pool;
use topupd::chain::read::{RangeLogs, Receipt};
use topupd::chain::source::{CallOutcome, ChainSource, SourceError, Tag, TokenCode};
use topupd::clock::ManualClock;
use topupd::config::Config;
use topupd::domain::chain::Header;
use topupd::domain::ids::BlockRef;
use topupd::domain::log_filter::LogFilter;
use topupd::domain::oracle::reading::Call;
use topupd::domain::transfer::{AddressBook, RawLog, TRANSFER_TOPIC};
use topupd::store::{Acquired, Store, chain_task};
use topupd::tasks::prices::market::Market;
use topupd::tasks::rescan::outcome::LookCache;
use topupd::tasks::rescan::recheck;
use topupd::tasks::settle::settle;
use topupd::tasks::survey::survey;
use topupd::tasks::watch::{WatchCache, watch};

const TOKEN: Address = Address::repeat_byte(0xc0);
const GENESIS_MS: i64 = 1_700_000_000_000;
/// A payment in each so-many-th block.
const EVERY: u64 = 10;
/// Most that may be resident in the end, in MiB, without an address book to speak of.
const MOST_MIB: u64 = 64;

struct Endless {
    name: &'static str,
    tip: Arc<AtomicU64>,
    to: Address,
}

fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

fn tx(number: u64) -> TxHash {
    keccak256(format!("tx {number}"))
}

impl Endless {
    fn header_of(&self, number: u64) -> Option<Header> {
        (number <= self.tip.load(Ordering::Relaxed)).then(|| Header {
            number,
            hash: hash(number),
            parent_hash: hash(number.wrapping_sub(1)),
            time_ms: GENESIS_MS + i64::try_from(number).unwrap() * 1_000,
            bloom: Bloom::ZERO,
        })
    }

    fn logs_of(&self, number: u64) -> Vec<RawLog> {
        let log = || RawLog {
            address: TOKEN,
            topics: vec![TRANSFER_TOPIC, B256::ZERO, self.to.into_word()],
            data: Bytes::copy_from_slice(&U256::from(1_000_000).to_be_bytes::<32>()),
            block_hash: hash(number),
            block_number: number,
            tx_hash: tx(number),
            log_index: 0,
        };
        if number.is_multiple_of(EVERY) { vec![log()] } else { Vec::new() }
    }
}

impl ChainSource for Endless {
    fn provider(&self) -> &str {
        self.name
    }
    async fn chain_id(&self) -> Result<u64, SourceError> {
        Ok(31_337)
    }
    fn announced(&self) -> Option<Header> {
        None
    }
    async fn latest(&self) -> Result<Header, SourceError> {
        Ok(self.header_of(self.tip.load(Ordering::Relaxed)).unwrap())
    }
    async fn tagged(&self, _: Tag) -> Result<Option<Header>, SourceError> {
        Ok(None)
    }
    async fn header_at(&self, number: u64) -> Result<Option<Header>, SourceError> {
        Ok(self.header_of(number))
    }
    async fn header(&self, wanted: B256) -> Result<Option<Header>, SourceError> {
        let tip = self.tip.load(Ordering::Relaxed);
        let found = (tip.saturating_sub(64)..=tip).find(|n| hash(*n) == wanted);
        Ok(found.and_then(|n| self.header_of(n)))
    }
    async fn logs_in_block(
        &self,
        block: BlockRef,
        _: &LogFilter,
    ) -> Result<Vec<RawLog>, SourceError> {
        Ok(self.logs_of(block.number))
    }
    async fn logs_in_range(
        &self,
        from: u64,
        to: u64,
        _: &LogFilter,
        _: &Arc<AddressBook>,
    ) -> Result<RangeLogs, SourceError> {
        let logs: Vec<_> = (from..=to).flat_map(|n| self.logs_of(n)).collect();
        let seen = u64::try_from(logs.len()).unwrap();
        Ok(RangeLogs { seen, logs, ..RangeLogs::default() })
    }
    async fn receipt(&self, wanted: TxHash) -> Result<Option<Receipt>, SourceError> {
        let tip = self.tip.load(Ordering::Relaxed);
        let number = (tip.saturating_sub(64)..=tip).find(|n| tx(*n) == wanted);
        Ok(number.map(|n| Receipt { block_hash: hash(n), succeeded: true, logs: self.logs_of(n) }))
    }
    async fn receipts_in_block(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        let receipt =
            Receipt { block_hash: block.hash, succeeded: true, logs: self.logs_of(block.number) };
        Ok(Some(vec![(tx(block.number), receipt)]))
    }
    async fn proof(&self, _: B256) -> Result<Option<BlockProof>, SourceError> {
        Ok(None)
    }
    async fn call_at(&self, calls: &[(B256, Call)]) -> Result<Vec<CallOutcome>, SourceError> {
        Ok(calls.iter().map(|_| CallOutcome::NoState("no contracts here".into())).collect())
    }

    async fn code(&self, _: Address) -> Result<TokenCode, SourceError> {
        Ok(TokenCode { hash: B256::ZERO, implementation: Address::ZERO, flags: Vec::new() })
    }
}

/// Resident memory, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[tokio::main]
async fn main() {
    let blocks: u64 = std::env::var("BLOCKS").ok().and_then(|n| n.parse().ok()).unwrap_or(86_400);
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let text = format!(
        r#"
network = "testnet"
database = {{ url = "sqlite:{}" }}
[chains.endless]
chain_id = 31337
start_block = 1
providers = [
  {{ name = "ann", http = "http://127.0.0.1:1" }}, {{ name = "bob", http = "http://127.0.0.1:2" }},
]
finality = [{{ confirmations = 12 }}]
tokens = [{{ symbol = "USDC", address = "{TOKEN}", decimals = 6 }}]
[[epochs]]
id = "one"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1" }} }}
"#,
        dir.path().join("topupd.db").display()
    );
    let config = Config::parse(&text, "bench", []).unwrap();
    let rules = &config.chains.first().unwrap().rules;
    let store = Store::open(&config.database, config.network, 0).await.unwrap();
    store.sync_epochs(&config.epochs, 0).await.unwrap();
    let (namespace, to) = ("bench".parse().unwrap(), Address::repeat_byte(7));
    store.add_namespace(&namespace, 0).await.unwrap();
    store.import_address(&namespace, to, 0).await.unwrap();
    let day = Duration::from_secs(86_400);
    let Acquired::Ours(lease) =
        store.acquire(&chain_task(rules.id), "bench", day, true).await.unwrap()
    else {
        panic!("the lease is taken whoever has it")
    };
    let store = store.holding(lease);
    let tip = Arc::new(AtomicU64::new(0));
    let pool =
        Pool::admitted(["ann", "bob"].map(|name| Endless { name, tip: Arc::clone(&tip), to }));
    let clock = ManualClock::at(GENESIS_MS);
    let (mut cache, mut second) = (WatchCache::new(rules), LookCache::new(rules));

    let began = Instant::now();
    let mut sizes = Vec::new();
    let mut credited = 0;
    for number in 1..=blocks {
        tip.store(number, Ordering::Relaxed);
        clock.advance_ms(1_000);
        watch(rules, &pool, &store, &clock, &mut cache).await.unwrap();
        credited +=
            settle(rules, &pool, &Market::default(), &store, &clock).await.unwrap().credited;
        if number.is_multiple_of(15) {
            survey(rules, &pool, &store, &clock).await.unwrap();
            recheck(rules, &pool, &store, &clock, &mut second).await.unwrap();
        }
        if number.is_multiple_of(blocks / 10) {
            sizes.push(resident());
            println!("block {number}: {} MiB resident, {credited} credited", resident());
        }
    }
    println!("{blocks} blocks in {:.0} s", began.elapsed().as_secs_f64());
    let (Some(half), Some(end)) = (sizes.get(4), sizes.last()) else { panic!("too few blocks") };
    assert!(*end <= MOST_MIB && *end <= half + half / 10 + 1, "not flat: {sizes:?}");
    assert!(u64::try_from(credited).unwrap() + 2 >= blocks / EVERY);
}
