//! A million watched addresses: memory an address, and nanoseconds a log, beside a bare hash set.
//!
//! `cargo bench --bench matching`. Memory is the growth of the process's resident set, as Linux
//! reports it; the yardstick is `std`'s `HashSet<Address>` with its default hasher, in the same run.
#![expect(clippy::unwrap_used, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

use alloy::primitives::{Address, B256, Bytes, keccak256};
use topupd::domain::ids::{AddressId, ChainId};
use topupd::domain::transfer::{AddressBook, RawLog, TRANSFER_TOPIC, match_logs};

const ADDRESSES: u32 = 1_000_000;
const LOGS: u32 = 200_000;
/// One log in so many is to one of our addresses.
const OURS: u32 = 50;

fn address(i: u32) -> Address {
    Address::from_word(keccak256(i.to_be_bytes()))
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = status.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}

fn log(i: u32) -> RawLog {
    let to = if i.is_multiple_of(OURS) { address(i % ADDRESSES) } else { address(ADDRESSES + i) };
    RawLog {
        address: Address::repeat_byte(1),
        topics: vec![TRANSFER_TOPIC, address(i ^ 7).into_word(), to.into_word()],
        data: Bytes::from_static(&[1; 32]),
        block_hash: B256::repeat_byte(2),
        block_number: 1,
        tx_hash: B256::from(keccak256(i.to_le_bytes())),
        log_index: u64::from(i),
    }
}

fn main() {
    let logs: Vec<RawLog> = (0..LOGS).map(log).collect();

    let before = resident_bytes();
    let mut book = AddressBook::large();
    for i in 0..ADDRESSES {
        book.insert(address(i), AddressId(i + 1));
    }
    let book_bytes = (resident_bytes() - before) / f64::from(ADDRESSES);

    let before = resident_bytes();
    let set: HashSet<Address> = (0..ADDRESSES).map(address).collect();
    let set_bytes = (resident_bytes() - before) / f64::from(ADDRESSES);

    let mut ours = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        let found = match_logs(ChainId(1), black_box(&logs), black_box(&book)).len();
        ours.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(LOGS));
        assert_eq!(found, usize::try_from(LOGS / OURS).unwrap());

        let start = Instant::now();
        let hits = logs
            .iter()
            .filter(|log| {
                log.topics.get(2).is_some_and(|to| set.contains(&Address::from_word(*to)))
            })
            .count();
        bare.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(LOGS));
        assert_eq!(black_box(hits), found);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let (ours, bare) = (median(&mut ours), median(&mut bare));
    println!("{ADDRESSES} addresses, {LOGS} logs, 1 in {OURS} ours; median of 9");
    println!("                        address book   HashSet<Address>");
    println!("bytes an address        {book_bytes:>12.1}   {set_bytes:>12.1}");
    println!("nanoseconds a log       {ours:>12.1}   {bare:>12.1}   ratio {:.2}", ours / bare);
}
