//! A server that comes back as it was some time ago: how this process notices it, and what it does then.
//!
//! After an asynchronous failover, or with a backup restored under a running daemon, rows that were
//! committed and acknowledged are gone, and what this process remembers of them is wrong. So it remembers
//! a little of what the database held that never goes away by itself (the newest record that it saw and the newest that
//! it wrote, the newest address, which process serves it), and compares it in every transaction that writes; its
//! other commits of late, once a second and when it looks. Where that differs, nothing is written any more until the keeper has looked ([`Store::look_at_server`]): it notes what is lost, takes
//! care that no id is given out twice, ends the leases, and forgets what was read.
//!
//! It finds no lost row again: blocks are read again from where the database stands, and what a person
//! registered, a person registers again. Where the log has a key, what was seen is kept beside it ([`crate::store::went_back::memory`]), so
//! that a process which starts knows it too. It cannot tell an old server from the right one after a start:
//! only a process that has seen the newer one refuses the older.

pub(super) mod detail;
pub(in crate::store) mod facts;
pub(in crate::store) mod memory;
pub(in crate::store) mod memory_file;
pub(in crate::store) mod own_commits;
pub(in crate::store) mod recent;
pub(in crate::store) mod seen;
pub(in crate::store) mod whole_file;

use self::detail::finding;
use super::db::{On, Row, Tx};
use super::engine::Store;
use super::errors::StoreError;
use super::findings::{Noted, note_in};
use super::ledger::RecordPlace;
use super::log::pause;
use crate::domain::ids::AddressId;
use crate::domain::journal::JournalId;
use crate::domain::transfer::AddressBook;
use crate::store::db::pools::Db;
use crate::store::db::query::query;
use crate::store::registry::given_out::{given_out, missing_of, raise, remember_children, spare};
use crate::store::registry::registers::take_registers;
use crate::store::went_back::facts::{Facts, There};
use crate::store::went_back::own_commits::{OwnCommits, SeenRecord};
use crate::store::went_back::seen::Recalled;

/// What a transaction that writes compares, and sees.
macro_rules! compare {
    ($serving:literal) => {
        concat!(
            "SELECT h.journal_id, h.seq, h.seal, a.address_id, a.address, n.namespace_id, n.name, ",
            $serving,
            " AS serving,
               (SELECT p.seal FROM records p WHERE p.journal_id = $1 AND p.seq = $2) AS known_head,
               (SELECT p.seal FROM records p WHERE p.journal_id = $3 AND p.seq = $4) AS known_wrote,
               (SELECT b.address FROM addresses b WHERE b.address_id = $5) AS known_address
             FROM installation i
             LEFT JOIN records h
               ON h.journal_id = COALESCE(
                    (SELECT u.journal_id FROM unlogged u ORDER BY u.position DESC LIMIT 1),
                    (SELECT f.journal_id FROM log_leaves f ORDER BY f.leaf_index DESC LIMIT 1))
              AND h.seq = COALESCE(
                    (SELECT u.seq FROM unlogged u ORDER BY u.position DESC LIMIT 1),
                    (SELECT f.seq FROM log_leaves f ORDER BY f.leaf_index DESC LIMIT 1))
             LEFT JOIN addresses a ON a.address_id = (SELECT MAX(m.address_id) FROM addresses m)
             LEFT JOIN namespaces n ON n.namespace_id = (SELECT MAX(o.namespace_id) FROM namespaces o)"
        )
    };
}

impl Store {
    /// Compares what this process has seen with what is there, and remembers what is new.
    ///
    /// # Errors
    /// [`StoreError::WentBack`], when it is another server or something is missing.
    pub(super) async fn compare(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let recalled = self.seen.recalled().clone();
        self.compare_with(tx, recalled).await
    }

    /// The same with what was recalled before the transaction began: a snapshot need not have what was kept since.
    async fn compare_with(
        &self,
        tx: &mut Tx,
        recalled: Option<Recalled>,
    ) -> Result<(), StoreError> {
        let seen = self.seen.facts().clone();
        let Some(now) = facts(tx, &self.db, &seen).await? else { return Ok(()) };
        let mut what = now.missing.clone();
        // What another process has seen is compared in full, once.
        if let Some(recalled) = &recalled {
            let children = given_out(&mut *tx).await?;
            let there = Facts { children, ..now.facts.clone() };
            let more = self.missing_of(tx, recalled, &there).await?;
            what.extend(more.into_iter().filter(|more| !now.missing.contains(more)));
        }
        if seen.serving.is_some() && seen.serving != now.facts.serving {
            what.push("the server was started again, or is another one".into());
        }
        if !what.is_empty() {
            return Err(StoreError::WentBack(what.join("; ")));
        }
        {
            let mut waiting = self.seen.recalled();
            if *waiting == recalled {
                *waiting = None;
            }
        }
        let mut facts = self.seen.facts();
        // Nobody else may have looked meanwhile; a newer memory is never made older.
        if facts.serving == seen.serving {
            facts.serving = now.facts.serving;
            facts.head = now.facts.head.or(facts.head);
            facts.address = facts.address.max(now.facts.address);
            facts.namespace = facts.namespace.take().max(now.facts.namespace);
        }
        Ok(())
    }

    /// What of a memory is not there.
    async fn missing_of(
        &self,
        tx: &mut Tx,
        recalled: &Recalled,
        there: &Facts,
    ) -> Result<Vec<String>, StoreError> {
        let mut missing = match facts(tx, &self.db, &recalled.facts).await? {
            Some(there) => there.missing,
            None => Vec::new(),
        };
        missing.extend(missing_of(tx, &recalled.facts, there).await?);
        missing.extend(recalled.older.iter().cloned());
        Ok(missing)
    }

    /// True when this process has committed a record.
    pub fn has_written(&self) -> bool {
        self.seen.facts().wrote.is_some()
    }

    /// Compares what this process has seen with what is there, also where it writes nothing, and remembers
    /// the ids that were given out, for the day on which they are lost.
    ///
    /// # Errors
    /// [`StoreError::WentBack`], when it is another server or something is missing.
    pub async fn compare_now(&self) -> Result<(), StoreError> {
        // Before the database is read, which holds whatever was kept before. What cannot be read is said when it is kept.
        drop(self.recall_again().await);
        let recalled = self.seen.recalled().clone();
        let mut tx = self.db.begin_read().await?;
        let own = self.seen.own().clone();
        let compared = match self.compare_with(&mut tx, recalled).await {
            Ok(()) => match own.missing(&mut tx).await {
                Ok(missing) if missing.is_empty() => Ok(()),
                Ok(missing) => Err(StoreError::WentBack(missing.join("; "))),
                Err(error) => Err(error),
            },
            refused => refused,
        };
        let given_out = given_out(&mut tx).await;
        let records = records(&mut tx).await;
        let recent = match compared {
            Ok(()) => {
                let now_ms = self.clock().now_ms();
                self.seen.recent.lock().await.read(&mut tx, now_ms).await
            }
            Err(_) => Ok(()),
        };
        Self::abandon(tx).await?;
        compared?;
        recent?;
        let records = records?;
        let mut facts = self.seen.facts();
        facts.records = facts.records.max(Some(records));
        facts.absorb_children(&given_out?);
        Ok(())
    }

    /// Looks at the server, when it may be another one or may have gone back: notes it, sees to it that
    /// nothing that was given out is given out again, ends the leases of `holder`, and forgets what this process
    /// had read. Whoever reads from it afterwards reads what is there now.
    ///
    /// # Errors
    /// When the database fails; all stays as it was then.
    pub async fn look_at_server(&self, holder: &str, now_ms: i64) -> Result<(), StoreError> {
        let server = self.server().await?;
        let mut book = self.book.lock().await;
        let mut recent = self.seen.recent.lock().await;
        drop(self.recall_again().await);
        let mut seen = self.seen.facts().clone();
        if let Some(why) = is_older(&server, &seen.server) {
            return Err(StoreError::WentBack(why));
        }
        let mut tx = self.db.begin_write().await?;
        // Leases before registers, as everybody takes them.
        query("UPDATE leases SET token = token + 1, expires_at_ms = 0 WHERE holder = $1")
            .bind(holder)
            .execute(&mut tx)
            .await?;
        take_registers(&mut tx).await?;
        let Some(mut now) = facts(&mut tx, &self.db, &seen).await? else {
            Self::abandon(tx).await?;
            return Ok(());
        };
        let children = given_out(&mut tx).await?;
        let records = Some(records(&mut tx).await?);
        now.facts = Facts { server, children, records, ..now.facts };
        remember_children(&mut seen, &now.facts, &book)?;
        let mut missing = missing_of(&mut tx, &seen, &now.facts).await?;
        let recalled = self.seen.recalled().clone();
        if let Some(recalled) = &recalled {
            missing.extend(self.missing_of(&mut tx, recalled, &now.facts).await?);
            seen.absorb(&recalled.facts);
        }
        let own = self.seen.own().clone();
        missing.extend(own.missing(&mut tx).await?);
        for what in missing {
            if !now.missing.contains(&what) {
                now.missing.push(what);
            }
        }
        let server = &now.facts.server;
        let known = known_server(&mut tx).await?;
        let is_same = known.as_deref().is_none_or(|known| is_same(known, server));
        let went_back = !is_same || !now.missing.is_empty();
        let mut noted = Noted::default();
        if went_back {
            let lost = recent.lost(&mut tx).await?;
            let finding = finding(&seen, &now, known.as_deref(), &lost, (holder, now_ms));
            noted = note_in(&mut tx, &[finding], now_ms).await?;
        }
        raise(&mut tx, server, &seen, now_ms).await?;
        if went_back {
            spare(&mut tx).await?;
            // After the leases, as whoever adds to the log takes its row.
            pause(&mut tx, "the database went back, is another copy, or is on another server")
                .await?;
        }
        Self::commit(tx).await?;
        *book = AddressBook::large();
        recent.forget();
        *self.seen.own() = OwnCommits::default();
        *self.seen.recalled() = None;
        {
            let mut facts = self.seen.facts();
            // The ids stay, which are never given out again.
            let namespace = now.facts.namespace.max(facts.namespace.take()).max(seen.namespace);
            let children = std::mem::take(&mut facts.children);
            *facts = Facts { namespace, children, ..now.facts };
            facts.absorb_children(&seen.children);
        }
        noted.say();
        // Commands go by it from now on. Where it cannot be kept, the next round says so.
        drop(self.keep_seen().await);
        Ok(())
    }

    /// Notes that this database was put back, as a person says who knows it.
    pub async fn note_restored(&self, now_ms: i64) -> Result<(), StoreError> {
        self.stamp_server(now_ms).await?;
        // Nothing is compared: that it is not as it was left, is what is said.
        let mut tx = self.db.begin_write().await?;
        query("UPDATE database_server SET server = 'restored'").execute(&mut tx).await?;
        Self::commit(tx).await?;
        self.look_at_server("db restored", now_ms).await
    }

    /// True when the database was on another server when somebody last looked.
    pub(super) async fn is_on_another_server(&self) -> Result<bool, StoreError> {
        let server = self.server().await?;
        Ok(known_server(&self.db).await?.is_some_and(|known| !is_same(&known, &server)))
    }

    /// Notes the server of a database that has not been on any.
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
        // The timeline at once after a promotion: pg_control_checkpoint() would say it only with the next
        // checkpoint. And the table, because a dump that is loaded makes it anew.
        let asked = query(
            "SELECT CAST(system_identifier AS TEXT)
               || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
               || '/' || CAST(CAST(CAST('database_server' AS regclass) AS oid) AS TEXT) AS server
             FROM pg_control_system()",
        );
        match asked.fetch_one(&self.db).await {
            Ok(row) => row.text("pg_control_system", "server"),
            Err(failed) => {
                let is_said = matches!(failed.source, sqlx::Error::Database(_));
                let error = StoreError::from(failed);
                if is_said && !error.is_away() { Ok(String::new()) } else { Err(error) }
            }
        }
    }
}

pub(super) async fn facts(tx: &mut Tx, db: &Db, seen: &Facts) -> Result<Option<There>, StoreError> {
    let sql = match db {
        Db::Sqlite { .. } => compare!("''"),
        Db::Postgres(_) => {
            compare!(
                "CAST(pg_postmaster_start_time() AS TEXT) || '/' || CAST(CAST('database_server' AS regclass) AS oid)"
            )
        }
    };
    let row = query(sql)
        .bind(seen.head.map_or(0, |record| record.place.journal.0))
        .bind(seen.head.map_or(0, |record| record.place.seq))
        .bind(seen.wrote.map_or(0, |record| record.place.journal.0))
        .bind(seen.wrote.map_or(0, |record| record.place.seq))
        .bind(i64::from(seen.address.map_or(0, |(id, _)| id.0)))
        .fetch_optional(tx)
        .await?;
    row.map(|row| there(&row, seen)).transpose()
}

fn there(row: &Row, seen: &Facts) -> Result<There, StoreError> {
    let mut missing = Vec::new();
    let mut known = vec![(seen.head, "known_head")];
    if seen.wrote != seen.head {
        known.push((seen.wrote, "known_wrote"));
    }
    for (record, column) in known {
        if let Some(record) = record
            && row.opt_bytes("records", column)?.as_deref() != Some(record.seal.as_slice())
        {
            missing.push(record.is_missing());
        }
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
        serving: Some(row.text("the server", "serving")?),
        head: match row.opt_int("records", "seq")? {
            None => None,
            Some(seq) => Some(SeenRecord {
                place: RecordPlace { journal: JournalId(row.int("records", "journal_id")?), seq },
                seal: row.b256("records", "seal")?,
            }),
        },
        address,
        namespace: match row.opt_int("namespaces", "namespace_id")? {
            None => None,
            Some(id) => Some((id, row.text("namespaces", "name")?)),
        },
        ..Facts::default()
    };
    Ok(There { facts, missing })
}

/// How many records there are: their numbers have no gaps.
async fn records(tx: &mut Tx) -> Result<i64, StoreError> {
    query("SELECT CAST(COALESCE(SUM(seq), 0) AS BIGINT) AS records FROM journals")
        .fetch_one(tx)
        .await?
        .int("journals", "records")
}

/// What is not known contradicts nothing.
fn is_same(known: &str, server: &str) -> bool {
    known == server || known.is_empty() || server.is_empty()
}

async fn known_server(on: impl Into<On<'_>>) -> Result<Option<String>, StoreError> {
    query("SELECT server FROM database_server WHERE only_row = 1")
        .fetch_optional(on)
        .await?
        .map(|row| row.text("database_server", "server"))
        .transpose()
}

/// Why a server is not to be written to: it is of the same cluster as the one that was seen, and was left
/// behind when that one was promoted.
fn is_older(server: &str, seen: &str) -> Option<String> {
    // System identifier, timeline, table.
    let parts = |server| str::splitn(server, 3, '/').collect::<Vec<_>>();
    let ([cluster, timeline, table], [of, newest, its]) = (&parts(server)[..], &parts(seen)[..])
    else {
        return None;
    };
    let number = |timeline| u32::from_str_radix(timeline, 16).ok();
    (cluster == of && table == its && number(timeline)? < number(newest)?).then(|| {
        format!(
            "this server is of timeline {timeline}, and one of timeline {newest} of the same cluster was seen: it is an old primary that was left behind. Stop it, or lead the database's name to the new one; if this one is right after all, start the daemon again"
        )
    })
}
