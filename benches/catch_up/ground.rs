//! What a bench stands on: one chain of one provider and one token, a new database with our addresses,
//! and the lease on the chain. Shared with `benches/settling.rs`.

use std::path::Path;
use std::time::Duration;

use alloy::primitives::{Address, keccak256};
use topupd::config::Config;
use topupd::store::{Acquired, LeasedStore, Store, chain_task};

/// The chain.
pub const CHAIN: u64 = 31_337;
/// Its token.
pub const TOKEN: Address = Address::repeat_byte(0xc1);

/// One of our addresses.
pub fn address(i: usize) -> Address {
    Address::from_word(keccak256(format!("address {i}")))
}

/// The configuration of the chain from a block on.
pub fn config(database: &Path, url: &str, first: u64) -> Config {
    let text = format!(
        r#"
network = "testnet"
[database]
url = "sqlite:{}"
[chains.bench]
chain_id = {CHAIN}
start_block = {first}
verify = "same-provider"
providers = [{{ name = "bench", http = "{url}" }}]
finality = [{{ confirmations = 2 }}]
tokens = [{{ symbol = "USDC", address = "{TOKEN}", decimals = 6 }}]
[[epochs]]
id = "one"
starts_at = "2020-01-01T00:00:00Z"
phase = "testnet"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1000" }} }}
"#,
        database.display(),
    );
    Config::parse(&text, "bench", []).unwrap()
}

/// A new database with so many of our addresses in so many namespaces, and the lease on the chain.
pub async fn store(config: &Config, addresses: usize, namespaces: usize) -> LeasedStore {
    let store = Store::open(&config.database, config.network, 0).await.unwrap();
    store.sync_epochs(&config.epochs, 0).await.unwrap();
    let names: Vec<_> = (0..namespaces).map(|i| format!("n{i}").parse().unwrap()).collect();
    for name in &names {
        store.add_namespace(name, 0).await.unwrap();
    }
    for i in 0..addresses {
        store.import_address(&names[i % namespaces], address(i), 0).await.unwrap();
    }
    let task = chain_task(config.chains.first().unwrap().rules.id);
    let hour = Duration::from_secs(3_600);
    let Acquired::Ours(lease) = store.acquire(&task, "bench", hour, true).await.unwrap() else {
        panic!("the lease is taken whoever has it")
    };
    store.holding(lease)
}
