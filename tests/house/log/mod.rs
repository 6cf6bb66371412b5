//! The log: the sequencer over records that a test writes, and what stops it.

mod forks;
mod handed_over;
mod health;
mod keys;
mod kills;
mod proofs;
mod rounds;
mod stops;
mod written;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::B256;
use tempfile::TempDir;
use topupd::clock::ManualClock;
use topupd::domain::ids::Network;
use topupd::domain::journal::{JournalId, Record};
use topupd::domain::log::key::PrivateKey;
use topupd::store::{Acquired, LeasedStore, LogSigner, LogState, Round, Store, VerifiedLog};
use topupd::tasks::sequence::{SEQUENCE_TASK, Sequenced, sequence};

pub use self::written::{sealed, values, write_records};
use super::support::{GENESIS_MS, NAMESPACES, TestDatabase, name};
use crate::database::{Cell, Sql};

pub const ORIGIN: &str = "example.com/topupd";

/// A database with some namespaces, the sequencer's lease, and a key in a folder of its own.
pub struct Logged {
    pub database: TestDatabase,
    pub store: LeasedStore,
    pub signer: Option<LogSigner>,
    pub dir: TempDir,
    clock: ManualClock,
}

impl Logged {
    /// One whose log is signed.
    pub async fn new() -> Self {
        let mut this = Self::unsigned().await;
        this.signer = Some(this.key(1));
        this
    }

    pub async fn unsigned() -> Self {
        let database = TestDatabase::emptied(crate::ENGINE).await;
        let clock = ManualClock::at(GENESIS_MS);
        let store = Store::open(&database.database(), Network::Testnet, GENESIS_MS).await.unwrap();
        for namespace in NAMESPACES {
            store.add_namespace(&name(namespace), GENESIS_MS).await.unwrap();
        }
        let store = held(store.timed_by(std::sync::Arc::new(clock.clone())), "one").await;
        let dir = tempfile::tempdir().unwrap();
        Self { database, store, signer: None, dir, clock }
    }

    /// A key of the log's name, in this folder.
    pub fn key(&self, seed: u8) -> LogSigner {
        let key = PrivateKey::from_seed(ORIGIN.parse().unwrap(), [seed; 32]).unwrap();
        LogSigner::new(key, self.dir.path().join(format!("{seed}.key")))
    }

    /// Where its last checkpoint is kept.
    pub fn kept(&self) -> PathBuf {
        topupd::store::kept_beside(self.signer.as_ref().unwrap().file())
    }

    /// Rounds until nothing waits.
    pub async fn sequence(&self) -> Sequenced {
        self.clock.advance_ms(1_000);
        sequence(&self.store, self.signer.as_ref(), true).await.unwrap()
    }

    /// The same, which must not be stopped.
    pub async fn goes_on(&self) -> LogState {
        let done = self.sequence().await;
        assert!(!matches!(done.last, Round::Stopped(_)), "{done:?}");
        self.state().await
    }

    /// The word of what stopped it.
    pub async fn stopped(&self) -> &'static str {
        match self.sequence().await.last {
            Round::Stopped(stop) => stop.code(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn state(&self) -> LogState {
        self.store.log_state().await.unwrap()
    }

    pub async fn verify(&self) -> Result<VerifiedLog, String> {
        self.store.verify_log(None).await.unwrap()
    }

    /// Why somebody should look at it, by the configured key.
    pub async fn health(&self) -> Vec<String> {
        self.store.log_health(self.signer.as_ref()).await.unwrap()
    }

    /// The open findings about the log.
    pub async fn findings(&self) -> Vec<String> {
        let all = self.store.findings(1_000).await.unwrap();
        let open = all.into_iter().filter(|f| f.state == "open" && f.kind.starts_with("log_"));
        open.map(|f| format!("{} {}", f.kind, f.subject)).collect()
    }

    /// Writes records as a writer of a journal does, some of which move something.
    pub async fn write(&self, journal: i64, count: usize) -> Vec<Record> {
        write_records(&mut self.database.sql().await, journal, count).await
    }

    /// A connection for which no guard stands.
    pub async fn meddle(&self) -> Sql {
        let mut sql = self.database.sql().await;
        sql.drop_guards().await;
        sql
    }

    /// Closes the store, lets somebody put another database in place, and opens it again.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        let database = self.database.database();
        let store = Store::open(&database, Network::Testnet, GENESIS_MS).await.unwrap();
        let clock = std::sync::Arc::new(self.clock.clone());
        self.store = held(store.timed_by(clock), "two").await;
    }
}

/// A store in the hands of the sequencer with this name.
pub async fn held(store: Store, who: &str) -> LeasedStore {
    let hour = Duration::from_secs(3_600);
    match store.acquire(SEQUENCE_TASK, who, hour, true).await.unwrap() {
        Acquired::Ours(lease) => store.holding(lease),
        taken => panic!("{taken:?}"),
    }
}

/// The seals in the order of their leaves, with their journals and numbers, straight from the tables.
pub async fn leaves(database: &TestDatabase) -> Vec<(i64, i64, Vec<u8>)> {
    let rows = database
        .sql()
        .await
        .rows(
            "SELECT l.journal_id, l.seq, r.seal FROM log_leaves l
             JOIN records r ON r.journal_id = l.journal_id AND r.seq = l.seq ORDER BY l.leaf_index",
        )
        .await;
    rows.into_iter()
        .map(|row| match row.as_slice() {
            [Cell::Int(journal), Cell::Int(seq), Cell::Bytes(seal)] => {
                (*journal, *seq, seal.clone())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

/// How many records each journal has in the log: their numbers go from 1 on, in this order.
pub fn in_their_order(leaves: &[(i64, i64, Vec<u8>)]) -> BTreeMap<i64, i64> {
    let mut last = BTreeMap::new();
    for (journal, seq, _) in leaves {
        let before = last.insert(*journal, *seq).unwrap_or(0);
        assert_eq!(before + 1, *seq, "of journal {journal}");
    }
    last
}
