//! How a database is opened, what is refused, and what a new one is stamped with.

pub(in crate::store) mod files;
pub(in crate::store) mod kept_open;
pub(in crate::store) mod saving;
pub(in crate::store) mod schema;

use std::sync::Arc;

use alloy::primitives::B256;
use sha2::{Digest, Sha256};

use crate::domain::ids::Network;
use crate::domain::journal::JournalId;
use crate::store::db::pools::Db;
use crate::store::db::query::query;
use crate::store::db::sqlite::place::wal_is_missing;
use crate::store::db::{DatabaseUrl, PgSettings, Server, Tx};
use crate::store::engine::{Begin, Database, Store};
use crate::store::errors::StoreError;
use crate::store::ledger::{create, installation_id};

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
    pub async fn prepare(&self, now_ms: i64) -> Result<bool, StoreError> {
        let is_new = self.migrate().await?;
        self.stamp(now_ms).await?;
        self.stamp_server(now_ms).await?;
        self.heed_testers();
        Ok(is_new)
    }

    /// Like [`Store::open`], for those who only read: a database that is not there is a mistyped
    /// path, and an empty one would verify.
    pub async fn open_existing(database: &Database, network: Network) -> Result<Self, StoreError> {
        Self::opened(database, network, Begin::Never).await
    }

    /// The same for a file that somebody says is a copy, or all that is left: see [`Begin::Restored`].
    pub async fn open_restored(database: &Database, network: Network) -> Result<Self, StoreError> {
        Self::opened(database, network, Begin::Restored).await
    }

    pub(super) async fn opened(
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
    pub async fn connect(
        database: &Database,
        network: Network,
        begin: Begin,
    ) -> Result<Self, StoreError> {
        Self::connected(database, network, begin).await.map(|(store, _)| store)
    }

    /// A connected store, and whether it has its tables.
    pub(super) async fn connected(
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
                    let error = StoreError::Database { doing: "connect".into(), source };
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

    /// Writes the stamp and the genesis of the house's journal into a new database.
    pub(super) async fn stamp(&self, now_ms: i64) -> Result<(), StoreError> {
        let stamped =
            query("SELECT 1 AS one FROM installation, log_state").fetch_optional(&self.db).await?;
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
        .await?;
        // By what is stamped: another daemon may have been first.
        create(&mut tx, self, JournalId::HOUSE, None).await?;
        self.begin_log(&mut tx, now_ms).await?;
        Self::commit(tx).await?;
        if let Db::Sqlite { .. } = &self.db {
            // A copy of the file alone is a database from now on.
            query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.db).await?;
        }
        // Somebody else may have stamped it first, for the other network.
        self.refuse_other_network().await.map(drop)
    }

    /// The log before its first leaf: RFC 6962 says what its root is.
    pub(super) async fn begin_log(&self, tx: &mut Tx, now_ms: i64) -> Result<(), StoreError> {
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
        .await?;
        Ok(())
    }

    /// Whether it is stamped at all.
    pub(super) async fn refuse_other_network(&self) -> Result<bool, StoreError> {
        let row = query("SELECT network FROM installation").fetch_optional(&self.db).await?;
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
