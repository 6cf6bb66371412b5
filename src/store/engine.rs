//! Opening a database: connect, compare its schema and network, give a new one its tables and stamp it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use super::db::{Again, DatabaseUrl, Tx};
use super::errors::StoreError;
use super::time::StoreClock;
use crate::chance::{Chance, SystemChance};
use crate::domain::ids::Network;
use crate::domain::transfer::AddressBook;
use crate::planted::crashes;
use crate::store::db::pools::Db;
use crate::store::deposits::confirmed::Confirmed;
use crate::store::went_back::seen::Seen;

/// Where the database is, and how it is used.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where.
    pub url: DatabaseUrl,
    /// Who connects, as a server's list of connections shows it.
    pub client: String,
    /// Most connections to a server at once.
    pub connections: u32,
    /// After this long without a word, a server ends our transaction. No longer than a lease.
    pub idle_in_transaction: Duration,
    /// Reads `url` again, when the server does not let us in any more.
    pub again: Option<Again>,
    /// Where the ids of installations and the salts of journals come from.
    pub chance: Arc<dyn Chance>,
}

impl From<DatabaseUrl> for Database {
    fn from(url: DatabaseUrl) -> Self {
        let idle_in_transaction = Duration::from_secs(5);
        Self {
            url,
            client: "topupd".into(),
            connections: 10,
            idle_in_transaction,
            again: None,
            chance: Arc::new(SystemChance),
        }
    }
}

impl FromStr for Database {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<DatabaseUrl>().map(Self::from)
    }
}

/// A database of one network.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) db: Db,
    pub(super) network: Network,
    /// What [`Store::book`] has read.
    pub(super) book: Arc<Mutex<AddressBook>>,
    /// What this process has confirmed in it.
    pub(super) confirmed: Arc<Confirmed>,
    /// What this process has seen in it.
    pub(super) seen: Arc<Seen>,
    /// Whose time it goes by.
    pub(super) time: Arc<StoreClock>,
    /// Told after each commit of this process.
    pub(super) committed: Arc<Notify>,
    /// Where salts come from.
    pub(super) chance: Arc<dyn Chance>,
    pub(super) url: DatabaseUrl,
    /// The file, after all links; none on PostgreSQL.
    pub(super) file: Option<PathBuf>,
    /// It was created when it was opened.
    pub(super) is_new: bool,
}

/// Where a new SQLite database may be begun. On PostgreSQL, that decides who creates the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Nowhere.
    Never,
    /// Where there is no file.
    New,
    /// In a file too that has no tables.
    Anywhere,
    /// Nowhere; and a file that is there is opened though its `-wal` file is missing or cut: somebody said so.
    Restored,
}

impl Store {
    pub(super) fn of(db: Db, network: Network, url: DatabaseUrl, file: Option<PathBuf>) -> Self {
        let book = Arc::new(Mutex::new(AddressBook::large()));
        let (seen, time) = (Arc::default(), Arc::default());
        let (chance, committed) = (Arc::new(SystemChance), Arc::default());
        let (confirmed, is_new) = (Arc::default(), false);
        Self { db, network, book, confirmed, seen, time, committed, chance, url, file, is_new }
    }

    /// True for a file that others on this machine may read or write.
    pub fn is_open_to_others(&self) -> bool {
        #[cfg(unix)]
        if let Some(path) = &self.file {
            let mode = |file: std::fs::Metadata| {
                std::os::unix::fs::PermissionsExt::mode(&file.permissions())
            };
            return path.metadata().is_ok_and(|file| mode(file) & 0o077 != 0);
        }
        false
    }

    /// True for a file that is only read, while nobody has it open: each answer is an error once
    /// somebody has.
    pub fn stands_still(&self) -> bool {
        matches!(&self.db, Db::Sqlite { frozen: Some(_), .. })
    }

    /// Begins a writing transaction, if the database is still the one that this process knows.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let mut tx = self.db.begin_write().await?;
        // On the heap, as every future that writes has this one in it.
        match Box::pin(self.compare(&mut tx)).await {
            Ok(()) => {
                let committed = Arc::clone(&self.committed);
                tx.after_commit(move || committed.notify_one());
                Ok(tx)
            }
            Err(error @ StoreError::WentBack(_)) => {
                Self::abandon(tx).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn commit(tx: Tx) -> Result<(), StoreError> {
        if crashes() {
            return Err(StoreError::Refused("crashed before a commit, as planted".into()));
        }
        tx.commit().await.map_err(StoreError::from)
    }

    /// Ends a transaction in which nothing is to be written.
    pub(super) async fn abandon(tx: Tx) -> Result<(), StoreError> {
        tx.abandon().await.map_err(StoreError::from)
    }

    /// Told after each commit of this process: for whoever looks for what was committed.
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// The database without its password, for people.
    pub fn shown(&self) -> String {
        self.url.to_string()
    }

    /// The network that the database is stamped with.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// 32 bytes that nobody can guess.
    pub(super) fn draw(&self) -> Result<[u8; 32], StoreError> {
        let none = || StoreError::Refused("the operating system gives no random bytes".into());
        self.chance.draw().ok_or_else(none)
    }
}
