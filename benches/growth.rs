//! Many addresses on SQLite: how fast a file of them is taken, how long a daemon reads them at its start,
//! and what they cost in memory for the tasks of three chains.
//!
//! `cargo bench --bench growth`; ADDRESSES says how many, 10 million if it does not. Memory is the
//! growth of the process's resident set, as Linux reports it.
#![expect(clippy::unwrap_used, clippy::float_arithmetic, reason = "a benchmark prints ratios")]

use std::sync::Arc;
use std::time::Instant;

use alloy::primitives::{Address, keccak256};
use topupd::domain::ids::{NamespaceName, Network};
use topupd::domain::transfer::AddressBook;
use topupd::store::{Database, Imported, NewAddress, Store};

/// As `address import --file` takes them.
const BATCH: u32 = 10_000;
/// Tasks that have a book: three of each of three chains.
const TASKS: usize = 9;

fn address(i: u32) -> Address {
    Address::from_word(keccak256(i.to_be_bytes()))
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = status.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}

#[tokio::main]
async fn main() {
    let wanted = std::env::var("ADDRESSES").ok().and_then(|n| n.parse().ok());
    let addresses: u32 = wanted.unwrap_or(10_000_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("growth.db");
    let database: Database = format!("sqlite:{}", path.display()).parse().unwrap();
    let open = || Store::open(&database, Network::Testnet, 0);
    let store = open().await.unwrap();
    let namespace: NamespaceName = "acme".parse().unwrap();
    store.add_namespace(&namespace, 0).await.unwrap();

    let (start, mut slowest) = (Instant::now(), 0.0f64);
    let mut ids = 0..addresses;
    loop {
        let batch: Vec<NewAddress> = ids
            .by_ref()
            .take(usize::try_from(BATCH).unwrap())
            .map(|i| NewAddress { namespace: namespace.clone(), address: address(i) })
            .collect();
        if batch.is_empty() {
            break;
        }
        let one = Instant::now();
        let imported = store.import_addresses(&batch, &[], 0).await.unwrap();
        assert_eq!(imported, Imported::All { new: batch.len() });
        slowest = slowest.max(one.elapsed().as_secs_f64());
    }
    let taken = start.elapsed().as_secs_f64();
    store.close().await;
    let file = path.metadata().unwrap().len();

    let before = resident_bytes();
    let store = open().await.unwrap();
    let start = Instant::now();
    let mut books: Vec<Arc<AddressBook>> = Vec::new();
    for _ in 0..TASKS {
        books.push(store.book().await.unwrap());
    }
    let read = start.elapsed().as_secs_f64();
    let bytes = (resident_bytes() - before) / f64::from(addresses);
    for book in &books {
        assert_eq!(u32::try_from(book.len()), Ok(addresses));
        assert!(book.get(&address(7)).is_some() && book.get(&address(addresses)).is_none());
    }

    println!("{addresses} addresses on SQLite, {file} bytes of database");
    println!(
        "taken                {:>10.0} a second; the slowest {BATCH} took {slowest:.2} s",
        f64::from(addresses) / taken
    );
    println!("read at the start    {read:>10.1} s");
    println!("memory               {bytes:>10.1} bytes an address, for {TASKS} tasks together");
}
