//! A server that comes back as it was some time ago: how this process notices it, and what it does then.
//!
//! After an asynchronous failover, or with a backup restored under a running daemon, rows that were
//! committed and acknowledged are gone, and what this process remembers of them is wrong. So it remembers
//! a little of what the database held that never goes away by itself (the ledger's head, the newest address, which
//! process serves it), and compares it in every transaction that writes. Where that differs, nothing is
//! written any more until the keeper has looked ([`Store::look_at_server`]): it notes what is lost, takes
//! care that no id is given out twice, ends the leases, and forgets what was read.
//!
//! It finds no lost row again: blocks are read again from where the database stands, and what a person
//! registered, a person registers again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::{Address, B256, hex};
use serde_json::json;

use super::book::installation;
use super::db::{Db, Lock, On, Row, Tx, query};
use super::engine::Store;
use super::errors::StoreError;
use super::findings::{Noted, note_in};
use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::AddressId;
use crate::domain::transfer::AddressBook;

const DOING: &str = "compare the database with what was seen of it";
/// Lost addresses that a finding names at most, the newest ones.
const NAMED_MAX: u32 = 100;

/// What one process has seen of a database that only grows.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Facts>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    /// When the server's process began, in microseconds of its clock; 0 on SQLite. A server that is
    /// another one, or another time the same, differs.
    serving: Option<i64>,
    /// The newest posting.
    head: Option<(i64, B256)>,
    /// The newest address.
    address: Option<(AddressId, Address)>,
    /// The highest id of a namespace, and the next index of each account key.
    namespace_id: i64,
    next_indexes: BTreeMap<String, i64>,
}

impl Seen {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a look at the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerLook {
    /// It is the one that it was, perhaps started again; nothing that was seen is missing.
    Same,
    /// It is another one, or not as it was: a finding says so.
    Another,
}

/// What a transaction that writes compares, and sees.
macro_rules! compare {
    ($serving:literal) => {
        concat!(
            "SELECT h.seq, h.hash, a.address_id, a.address, ",
            $serving,
            " AS serving,
               (SELECT p.hash FROM postings p WHERE p.seq = $1) AS known_hash,
               (SELECT b.address FROM addresses b WHERE b.address_id = $2) AS known_address
             FROM ledger_head h
             LEFT JOIN addresses a ON a.address_id = (SELECT MAX(m.address_id) FROM addresses m)"
        )
    };
}

impl Store {
    /// Compares what this process has seen with what is there, and remembers what is new.
    ///
    /// # Errors
    /// [`StoreError::WentBack`], when it is another server or something is missing.
    pub(super) async fn compare(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let seen = self.seen.facts().clone();
        let Some(now) = facts(tx, &self.db, &seen).await? else { return Ok(()) };
        let mut what = now.missing.clone();
        if seen.serving.is_some_and(|serving| Some(serving) != now.facts.serving) {
            what.push("the server was started again, or is another one".into());
        }
        if !what.is_empty() {
            return Err(StoreError::WentBack(what.join("; ")));
        }
        let mut facts = self.seen.facts();
        // Nobody else may have looked meanwhile; a newer memory is never made older.
        if facts.serving == seen.serving {
            facts.serving = now.facts.serving;
            facts.head = facts.head.max(now.facts.head);
            facts.address = facts.address.max(now.facts.address);
        }
        Ok(())
    }

    /// Remembers the ids that were given out, for the day on which they are lost.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remember_ids(&self) -> Result<(), StoreError> {
        let rows = query(
            "SELECT w.account_xpub, w.next_index, n.newest FROM
               (SELECT COALESCE(MAX(namespace_id), 0) AS newest FROM namespaces) AS n
             LEFT JOIN wallets w ON true",
        )
        .fetch_all(&self.db)
        .await
        .map_err(StoreError::doing(DOING))?;
        let mut facts = self.seen.facts();
        for row in &rows {
            facts.namespace_id = facts.namespace_id.max(row.int("namespaces", "newest")?);
            if !row.is_null("account_xpub") {
                let next =
                    facts.next_indexes.entry(row.text("wallets", "account_xpub")?).or_default();
                *next = (*next).max(row.int("wallets", "next_index")?);
            }
        }
        Ok(())
    }

    /// Looks at the server, when it may be another one or may have gone back: notes it, sees to it that
    /// nothing that was given out is given out again, ends the leases of `holder`, and forgets what this process
    /// had read. Whoever reads from it afterwards reads what is there now.
    ///
    /// # Errors
    /// When the database fails; all stays as it was then.
    pub async fn look_at_server(
        &self,
        holder: &str,
        now_ms: i64,
    ) -> Result<ServerLook, StoreError> {
        let server = self.server().await?;
        let mut book = self.book.lock().await;
        let seen = self.seen.facts().clone();
        let mut tx = self.db.begin_write().await.map_err(StoreError::doing(DOING))?;
        installation(&mut tx, Lock::Update).await?;
        let Some(now) = facts(&mut tx, &self.db, &seen).await? else {
            Self::abandon(tx).await?;
            return Ok(ServerLook::Same);
        };
        let known = known_server(&mut tx).await?;
        let is_same = known.as_deref().is_none_or(|known| is_same(known, &server));
        let look =
            if is_same && now.missing.is_empty() { ServerLook::Same } else { ServerLook::Another };
        let mut noted = Noted::default();
        if look == ServerLook::Another {
            let lost = lost_addresses(&mut tx, &book).await?;
            let finding = finding(&seen, &now, known.as_deref(), &server, &lost, holder);
            noted = note_in(&mut tx, &[finding], now_ms).await?;
        }
        raise(&mut tx, &server, &seen, now_ms).await?;
        query("UPDATE leases SET token = token + 1, expires_at_ms = 0 WHERE holder = $1")
            .bind(holder)
            .execute(&mut tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        Self::commit(tx).await?;
        *book = AddressBook::large();
        {
            let mut facts = self.seen.facts();
            let Facts { serving, head, address, .. } = now.facts;
            *facts = Facts { serving, head, address, ..facts.clone() };
        }
        noted.say();
        Ok(look)
    }

    /// True when the database was on another server when somebody last looked.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn is_on_another_server(&self) -> Result<bool, StoreError> {
        let server = self.server().await?;
        Ok(known_server(&self.db).await?.is_some_and(|known| !is_same(&known, &server)))
    }

    /// Notes the server of a database that has not been on any.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn stamp_server(&self, now_ms: i64) -> Result<(), StoreError> {
        if known_server(&self.db).await?.is_some() {
            return Ok(());
        }
        let server = self.server().await?;
        let mut tx = self.begin().await?;
        raise(&mut tx, &server, &Facts::default(), now_ms).await?;
        Self::commit(tx).await
    }

    /// The system identifier and the timeline of the server; empty where it does not say: a standby, or
    /// a service that is no plain PostgreSQL.
    pub(super) async fn server(&self) -> Result<String, StoreError> {
        let Db::Postgres(_) = &self.db else { return Ok("sqlite".into()) };
        let mut parts = Vec::new();
        for ask in [
            "SELECT CAST(system_identifier AS TEXT) AS part FROM pg_control_system()",
            // At once after a promotion; pg_control_checkpoint() would say it only with the next checkpoint.
            "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS part",
        ] {
            match query(ask).fetch_one(&self.db).await {
                Ok(row) => parts.push(row.text("pg_control_system", "part")?),
                Err(error @ sqlx::Error::Database(_)) => {
                    let error = StoreError::Database { doing: DOING, source: error };
                    if error.is_away() {
                        return Err(error);
                    }
                    return Ok(String::new());
                }
                Err(source) => return Err(StoreError::Database { doing: DOING, source }),
            }
        }
        Ok(parts.join("/"))
    }
}

/// What is there, and what of the memory is not.
struct There {
    facts: Facts,
    missing: Vec<String>,
}

async fn facts(tx: &mut Tx, db: &Db, seen: &Facts) -> Result<Option<There>, StoreError> {
    let sql = match db {
        Db::Sqlite { .. } => compare!("0"),
        Db::Postgres(_) => {
            compare!("CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000 AS BIGINT)")
        }
    };
    let row = query(sql)
        .bind(seen.head.map_or(0, |(seq, _)| seq))
        .bind(i64::from(seen.address.map_or(0, |(id, _)| id.0)))
        .fetch_optional(tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    row.map(|row| there(&row, seen)).transpose()
}

fn there(row: &Row, seen: &Facts) -> Result<There, StoreError> {
    let mut missing = Vec::new();
    if let Some((seq, hash)) = seen.head
        && seq > 0
        && row.opt_bytes("postings", "known_hash")?.as_deref() != Some(hash.as_slice())
    {
        missing.push(format!("posting {seq} is missing, or another one"));
    }
    if let Some((id, address)) = seen.address
        && row.opt_bytes("addresses", "known_address")?.as_deref() != Some(address.as_slice())
    {
        missing.push(format!("address {address} (id {}) is missing, or another one", id.0));
    }
    let address = match row.opt_int("addresses", "address_id")? {
        None => None,
        Some(_) => Some((
            AddressId(row.uint32("addresses", "address_id")?),
            row.address("addresses", "address")?,
        )),
    };
    let facts = Facts {
        serving: Some(row.int("the server", "serving")?),
        head: Some((row.int("ledger_head", "seq")?, row.b256("ledger_head", "hash")?)),
        address,
        ..Facts::default()
    };
    Ok(There { facts, missing })
}

/// What is not known contradicts nothing.
fn is_same(known: &str, server: &str) -> bool {
    known == server || known.is_empty() || server.is_empty()
}

async fn known_server(on: impl Into<On<'_>>) -> Result<Option<String>, StoreError> {
    query("SELECT server FROM database_server WHERE only_row = 1")
        .fetch_optional(on)
        .await
        .map_err(StoreError::doing(DOING))?
        .map(|row| row.text("database_server", "server"))
        .transpose()
}

/// The newest addresses that this process knew and the database does not, with their ids.
async fn lost_addresses(
    tx: &mut Tx,
    book: &AddressBook,
) -> Result<Vec<(AddressId, Address)>, StoreError> {
    let mut lost = Vec::new();
    for (id, address) in book.newest_ones(NAMED_MAX) {
        let there = query("SELECT 1 AS one FROM addresses WHERE address_id = $1 AND address = $2")
            .bind(i64::from(id.0))
            .bind(address)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        if there.is_some() {
            break;
        }
        lost.push((id, address));
    }
    Ok(lost)
}

fn finding(
    seen: &Facts,
    now: &There,
    known: Option<&str>,
    server: &str,
    lost: &[(AddressId, Address)],
    holder: &str,
) -> NewFinding {
    let head = |facts: &Facts| facts.head.map(|(seq, hash)| json!({ "seq": seq, "hash": hash }));
    let address = |facts: &Facts| {
        facts.address.map(|(id, address)| json!({ "id": id.0, "address": address }))
    };
    let lost: Vec<_> = lost.iter().map(|(id, a)| json!({ "id": id.0, "address": a })).collect();
    let subject = format!(
        "{server} {}",
        now.facts.head.map(|(_, hash)| hex::encode(hash)).unwrap_or_default()
    );
    NewFinding {
        chain: None,
        kind: FindingKind::DatabaseWentBack,
        subject,
        detail: json!({
            "seen_by": holder,
            "missing": now.missing,
            "from": { "server": known, "head": head(seen), "newest_address": address(seen) },
            "to": { "server": server, "head": head(&now.facts), "newest_address": address(&now.facts) },
            "lost_addresses": lost,
        }),
    }
}

/// Stamps the server, and sees to it that nothing that was given out is given out again.
async fn raise(tx: &mut Tx, server: &str, seen: &Facts, now_ms: i64) -> Result<(), StoreError> {
    query(
        "INSERT INTO database_server (only_row, server, since_ms, address_id, namespace_id)
         VALUES (1, $1, $2, $3, $4)
         ON CONFLICT (only_row) DO UPDATE SET
           since_ms = CASE WHEN database_server.server = excluded.server
                           THEN database_server.since_ms ELSE excluded.since_ms END,
           server = excluded.server,
           address_id = CASE WHEN database_server.address_id > excluded.address_id
                             THEN database_server.address_id ELSE excluded.address_id END,
           namespace_id = CASE WHEN database_server.namespace_id > excluded.namespace_id
                               THEN database_server.namespace_id ELSE excluded.namespace_id END",
    )
    .bind(server)
    .bind(now_ms)
    .bind(i64::from(seen.address.map_or(0, |(id, _)| id.0)))
    .bind(seen.namespace_id)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    for (xpub, next) in &seen.next_indexes {
        query("UPDATE wallets SET next_index = $2 WHERE account_xpub = $1 AND next_index < $2")
            .bind(xpub)
            .bind(*next)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
    }
    Ok(())
}

/// Refuses to derive addresses while rows may be lost: the same one could be given to two customers.
///
/// # Errors
/// [`StoreError::Refused`], until an operator has looked.
pub(super) async fn refuse_if_back(tx: &mut Tx) -> Result<(), StoreError> {
    let open = query(
        "SELECT finding_id FROM findings WHERE kind = $1 AND state = 'open'
         ORDER BY finding_id LIMIT 1",
    )
    .bind(FindingKind::DatabaseWentBack.as_str())
    .fetch_optional(tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let Some(row) = open else { return Ok(()) };
    let id = row.int("findings", "finding_id")?;
    Err(StoreError::Refused(format!(
        "no address is derived now: the database went back, or is on another server, and an address that was given out may be lost, so that the same one could be given to a second customer. `topupd findings show {id}` says what is known; register again what is lost, and then: topupd findings explain {id} --operator NAME --reason TEXT"
    )))
}
