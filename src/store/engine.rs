//! Opening a database: connect, compare its schema and network, give a new one its tables and stamp it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Notify};

use super::confirmed::Confirmed;
use super::db::sqlite::place::wal_is_missing;
use super::db::{Again, DatabaseUrl, Db, PgSettings, Server, Tx, query};
use super::errors::StoreError;
use super::ledger::{create, installation_id};
use super::time::StoreClock;
use crate::chance::{Chance, SystemChance};
use crate::domain::ids::Network;
use crate::domain::journal::JournalId;
use crate::domain::transfer::AddressBook;
use crate::planted::crashes;
use crate::store::seen::Seen;

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
    /// Opens or creates the database, with its tables, and stamps or checks its network.
    ///
    /// # Errors
    /// See [`StoreError`]; a database that is refused is left as it was.
    pub async fn open(
        database: &Database,
        network: Network,
        now_ms: i64,
    ) -> Result<Self, StoreError> {
        let store = Self::connect(database, network, Begin::New).await?;
        store.prepare(now_ms).await?;
        Ok(store)
    }

    /// Creates the tables of a connected database that has none, and stamps it. True when it created them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prepare(&self, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.migrate().await?;
        self.stamp(now_ms).await?;
        self.stamp_server(now_ms).await?;
        self.heed_testers();
        Ok(is_new)
    }

    /// Like [`Store::open`], for those who only read: a database that is not there is a mistyped
    /// path, and an empty one would verify.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_existing(database: &Database, network: Network) -> Result<Self, StoreError> {
        Self::opened(database, network, Begin::Never).await
    }

    /// The same for a file that somebody says is a copy, or all that is left: see [`Begin::Restored`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_restored(database: &Database, network: Network) -> Result<Self, StoreError> {
        Self::opened(database, network, Begin::Restored).await
    }

    async fn opened(
        database: &Database,
        network: Network,
        begin: Begin,
    ) -> Result<Self, StoreError> {
        match Self::connected(database, network, begin).await? {
            (store, true) => Ok(store),
            (store, false) => Err(StoreError::NoTables { path: store.shown() }),
        }
    }

    /// Connects, and refuses any other schema and the other network. Changes nothing that is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn connect(
        database: &Database,
        network: Network,
        begin: Begin,
    ) -> Result<Self, StoreError> {
        Self::connected(database, network, begin).await.map(|(store, _)| store)
    }

    /// A connected store, and whether it has its tables.
    async fn connected(
        database: &Database,
        network: Network,
        begin: Begin,
    ) -> Result<(Self, bool), StoreError> {
        let mut store = match &database.url {
            DatabaseUrl::Sqlite(path) => {
                Self::open_file(path, network, begin, &database.chance).await?
            }
            DatabaseUrl::Postgres(url) => {
                let settings = PgSettings {
                    client: database.client.clone(),
                    connections: database.connections,
                    idle_in_transaction: database.idle_in_transaction,
                    again: database.again.clone(),
                };
                let db = Server::open(url, settings).await.map(Db::Postgres);
                let db = db.map_err(|source| {
                    let error = StoreError::Database { doing: "connect", source };
                    if error.is_unavailable() && !error.is_refused() {
                        return error;
                    }
                    StoreError::cannot_open(&database.url, error)
                })?;
                Self::of(db, network, database.url.clone(), None)
            }
        };
        store.chance = Arc::clone(&database.chance);
        store.clock_ms().await?;
        let has_tables = store.has_schema().await?;
        if has_tables {
            let is_stamped = store.refuse_other_network().await?;
            store.heed_testers();
            store.clock_ms().await?;
            if let Some(file) = &store.file
                && !is_stamped
                && begin != Begin::Anywhere
            {
                let what = format!(
                    "it has tables and nothing in them; it is a `db copy` that was not finished (delete it then), or {}",
                    wal_is_missing(file)
                );
                return Err(StoreError::without_tables(&database.url, what, true));
            }
        } else if store.file.is_some() && begin != Begin::Anywhere {
            let why = "it has none of topupd's tables".to_owned();
            return Err(StoreError::without_tables(&database.url, why, true));
        }
        Ok((store, has_tables))
    }

    pub(super) fn of(db: Db, network: Network, url: DatabaseUrl, file: Option<PathBuf>) -> Self {
        let book = Arc::new(Mutex::new(AddressBook::large()));
        let (seen, time) = (Arc::default(), Arc::default());
        let (chance, committed) = (Arc::new(SystemChance), Arc::default());
        let (confirmed, is_new) = (Arc::default(), false);
        Self { db, network, book, confirmed, seen, time, committed, chance, url, file, is_new }
    }

    /// True for a file that others on this machine may read or write.
    #[must_use]
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
    #[must_use]
    pub fn stands_still(&self) -> bool {
        matches!(&self.db, Db::Sqlite { frozen: Some(_), .. })
    }

    /// Begins a writing transaction, if the database is still the one that this process knows.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let doing = StoreError::doing("begin a transaction");
        let mut tx = self.db.begin_write().await.map_err(doing)?;
        match self.compare(&mut tx).await {
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
        tx.commit().await.map_err(StoreError::doing("commit"))
    }

    /// Ends a transaction in which nothing is to be written.
    pub(super) async fn abandon(tx: Tx) -> Result<(), StoreError> {
        tx.abandon().await.map_err(StoreError::doing("roll back"))
    }

    /// Told after each commit of this process: for whoever looks for what was committed.
    #[must_use]
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// The database without its password, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        self.url.to_string()
    }

    /// The network that the database is stamped with.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Writes the stamp and the genesis of the house's journal into a new database.
    pub(super) async fn stamp(&self, now_ms: i64) -> Result<(), StoreError> {
        const DOING: &str = "stamp the database";
        let stamped = query("SELECT 1 AS one FROM installation, log_state")
            .fetch_optional(&self.db)
            .await
            .map_err(StoreError::doing(DOING))?;
        if stamped.is_some() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        query(
            "INSERT INTO installation (only_row, network, installation_id, created_at_ms)
             VALUES (1, $1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(self.network.as_str())
        .bind(self.draw()?.to_vec())
        .bind(now_ms)
        .execute(&mut tx)
        .await
        .map_err(StoreError::doing(DOING))?;
        // By what is stamped: another daemon may have been first.
        create(&mut tx, self, JournalId::HOUSE, None).await?;
        self.begin_log(&mut tx, now_ms).await?;
        Self::commit(tx).await?;
        if let Db::Sqlite { .. } = &self.db {
            // A copy of the file alone is a database from now on.
            query("PRAGMA wal_checkpoint(PASSIVE)")
                .execute(&self.db)
                .await
                .map_err(StoreError::doing(DOING))?;
        }
        // Somebody else may have stamped it first, for the other network.
        self.refuse_other_network().await.map(drop)
    }

    /// The log before its first leaf: RFC 6962 says what its root is.
    async fn begin_log(&self, tx: &mut Tx, now_ms: i64) -> Result<(), StoreError> {
        let id = installation_id(&mut *tx).await?;
        let empty = B256::from_slice(Sha256::digest([]).as_slice());
        query(
            "INSERT INTO log_state (only_row, origin, size, root, edge, incarnation, feed_no, at_ms)
             VALUES (1, $1, 0, $2, $3, 1, 0, $4) ON CONFLICT DO NOTHING",
        )
        .bind(super::log::name_without_key(self.network.as_str(), &id))
        .bind(empty)
        .bind(Vec::<u8>::new())
        .bind(now_ms)
        .execute(tx)
        .await
        .map_err(StoreError::doing("begin the log"))?;
        Ok(())
    }

    /// 32 bytes that nobody can guess.
    pub(super) fn draw(&self) -> Result<[u8; 32], StoreError> {
        let none = || StoreError::Refused("the operating system gives no random bytes".into());
        self.chance.draw().ok_or_else(none)
    }

    /// Whether it is stamped at all.
    pub(super) async fn refuse_other_network(&self) -> Result<bool, StoreError> {
        let row = query("SELECT network FROM installation")
            .fetch_optional(&self.db)
            .await
            .map_err(StoreError::doing("read the network stamp"))?;
        let Some(row) = row else { return Ok(false) };
        let stamped: Network = row.parsed("installation", "network")?;
        if stamped == self.network {
            Ok(true)
        } else {
            let path = self.shown();
            Err(StoreError::OtherNetwork { path, stamped, wanted: self.network })
        }
    }
}
