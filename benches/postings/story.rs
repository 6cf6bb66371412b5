//! A database full of priced deposits, made by the store's own commits; the first of them is timed.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, Bloom, U256, keccak256};
use topupd::domain::chain::Header;
use topupd::domain::deposit::{Stage, Verdict};
use topupd::domain::finality::{Finality, Verify};
use topupd::domain::ids::{
    AddressId, BlockRef, ChainId, Cursor, DepositId, DepositKey, Network, Shape, SightingKey,
};
use topupd::domain::money::RawAmount;
use topupd::domain::pricing::{EpochBook, Token, price};
use topupd::domain::transfer::{Content, Sighting};
use topupd::store::{
    Acquired, Confirmation, LeasedStore, OpenDeposit, Pricing, ScanChange, ScanOutcome, ScanRecord,
    SightingToStore, Store, chain_task,
};

use crate::epochs::epochs;
use crate::{SCAN, per_second};

const TOKEN: Address = Address::repeat_byte(0xc1);
const NAMESPACES: usize = 50;
const ADDRESSES: usize = 1_000;
/// Blocks in one commit of catch-up.
const BLOCKS: usize = 10;

pub struct Plan {
    pub chains: usize,
    /// On each chain.
    pub deposits: usize,
}

pub struct Story {
    pub stores: Vec<LeasedStore>,
    /// Deposits a second, through commit 1, by one writer.
    pub scanned: f64,
    ready: Vec<Vec<DepositId>>,
}

impl Story {
    pub async fn new(url: &str, plan: &Plan) -> Self {
        let mut database: topupd::store::Database = url.parse().unwrap();
        database.connections = 20;
        let store = Store::open(&database, Network::Testnet, 0).await.unwrap();
        let epochs = epochs();
        store.sync_epochs(&epochs, 0).await.unwrap();
        let names: Vec<_> = (0..NAMESPACES).map(|i| format!("n{i}").parse().unwrap()).collect();
        for name in &names {
            store.add_namespace(name, 0).await.unwrap();
        }
        for i in 0..ADDRESSES {
            store.import_address(&names[i % NAMESPACES], address(i), 0).await.unwrap();
        }
        let (mut stores, mut ready) = (Vec::new(), Vec::new());
        let mut scanning = Duration::ZERO;
        for chain in 0..plan.chains {
            let id = ChainId(1 + chain as u64);
            let hour = Duration::from_secs(3_600);
            let Acquired::Ours(lease) =
                store.acquire(&chain_task(id), "bench", hour, true).await.unwrap()
            else {
                panic!("the lease is taken whoever has it")
            };
            let leased = store.holding(lease);
            let (ids, took) = deposits(&leased, (id, plan.chains), plan.deposits, &epochs).await;
            scanning += took;
            ready.push(ids);
            stores.push(leased);
        }
        let scanned = per_second(plan.chains * plan.deposits, scanning);
        Self { stores, scanned, ready }
    }

    /// The next priced deposits of a chain.
    pub fn take(&mut self, chain: usize, count: usize) -> Vec<DepositId> {
        self.ready[chain].drain(..count).collect()
    }

    /// Verifies every credit, column by column, and all that it rests on; how many of them a second.
    pub async fn verify(&self) -> f64 {
        let began = Instant::now();
        let verified = self.stores[0].verify().await.unwrap().unwrap();
        per_second(usize::try_from(verified.credits).unwrap(), began.elapsed())
    }

    pub async fn close(self) {
        self.stores[0].close().await;
    }
}

fn address(i: usize) -> Address {
    Address::from_word(keccak256(format!("address {i}")))
}

fn header(chain: ChainId, number: u64) -> Header {
    let hash = |n: u64| keccak256(format!("block {chain} {n}"));
    Header {
        number,
        hash: hash(number),
        parent_hash: hash(number.wrapping_sub(1)),
        time_ms: 1_000,
        bloom: Bloom::ZERO,
    }
}

/// Which address a chain's payment goes to. Where there are several chains, each pays to one namespace of its own.
fn paid(chain: ChainId, chains: usize, i: usize) -> usize {
    let own = usize::try_from(chain.0).unwrap() - 1;
    if chains == 1 { i % ADDRESSES } else { i % (ADDRESSES / NAMESPACES) * NAMESPACES + own }
}

fn sighting(
    (chain, chains): (ChainId, usize),
    block: &Header,
    log_index: u64,
    i: usize,
) -> SightingToStore {
    let paid = paid(chain, chains, i);
    let deposit = DepositKey {
        chain,
        tx_hash: keccak256(format!("tx {chain} {i}")),
        token: TOKEN,
        recipient: address(paid),
        shape: Shape::Transfer,
        n: 0,
    };
    let sighting = Sighting {
        key: SightingKey { chain, block_hash: block.hash, log_index },
        block_number: block.number,
        deposit,
        address_id: AddressId(paid as u32 + 1),
        content: Content::Transfer {
            sender: Address::repeat_byte(0xee),
            amount: RawAmount(U256::from(1_000_000 + i)),
        },
    };
    SightingToStore { sighting, verdict: Verdict::Accept }
}

/// Sees, confirms and prices so many deposits; how long seeing them took.
async fn deposits(
    store: &LeasedStore,
    (chain, chains): (ChainId, usize),
    count: usize,
    epochs: &EpochBook,
) -> (Vec<DepositId>, Duration) {
    let (mut cursor, mut took, mut number) = (Cursor::Fresh, Duration::ZERO, 0u64);
    for from in (0..count).step_by(SCAN) {
        let adopted: Vec<Header> = (0..BLOCKS as u64).map(|i| header(chain, number + i)).collect();
        let in_commit = SCAN.min(count - from);
        let sightings = (0..in_commit)
            .map(|i| sighting((chain, chains), &adopted[i % BLOCKS], (i / BLOCKS) as u64, from + i))
            .collect();
        let tip = adopted[BLOCKS - 1].block();
        let change = ScanChange {
            chain,
            expected: cursor,
            book_newest: AddressId(ADDRESSES as u32),
            lags: false,
            epochs: 1,
            orphaned: Vec::new(),
            outgoing: Vec::new(),
            sightings,
            scan: ScanRecord {
                from: adopted[0].block(),
                to: tip,
                method: "by_range",
                provider: "bench".into(),
                filter: "tokens",
                logs_seen: in_commit as u64,
                logs_matched: in_commit as u64,
            },
            adopted,
            window: 64,
            unlisted_per_day: 0,
            findings: Vec::new(),
        };
        let began = Instant::now();
        let done = store.commit_scan(&change, 0).await.unwrap();
        took += began.elapsed();
        assert_eq!(done, ScanOutcome::Committed { deposits: in_commit });
        (cursor, number) = (Cursor::At(tip), number + BLOCKS as u64);
    }
    let head = BlockRef { number, hash: B256::ZERO };
    let token =
        Token { chain, address: TOKEN, symbol: "USDC".into(), asset: "USDC".into(), decimals: 6 };
    let mut ids = Vec::new();
    for stage in [Stage::Pending, Stage::Confirmed] {
        let mut after: Option<OpenDeposit> = None;
        loop {
            let page = store.open_deposits(chain, stage, number, after.as_ref()).await.unwrap();
            let Some(last) = page.last().cloned() else { break };
            after = Some(last);
            if stage == Stage::Pending {
                let confirmations: Vec<_> = page
                    .into_iter()
                    .map(|deposit| Confirmation {
                        deposit,
                        policy: Finality::Confirmations(1),
                        head,
                        receipt_provider: "bench".into(),
                        receipt_transfers: 1,
                        verify: Verify::SameProvider,
                        proof: None,
                    })
                    .collect();
                store.commit_confirmed(&confirmations, &[], 0).await.unwrap();
            } else {
                ids.extend(page.iter().map(|d| d.id));
                let pricings: Vec<_> = page
                    .into_iter()
                    .map(|deposit| Pricing {
                        outcome: price(deposit.raw, &token, epochs, deposit.block_time_ms, &[]),
                        deposit,
                    })
                    .collect();
                store.commit_priced(&pricings, 1, 0).await.unwrap();
            }
        }
    }
    assert_eq!(ids.len(), count);
    (ids, took)
}
