//! Ids and addresses that were given out: how they are remembered, and never given out again where the
//! database has lost them.
//!
//! It registers nothing: what is lost, a person registers again.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;

use crate::domain::finding::FindingKind;
use crate::domain::transfer::AddressBook;
use crate::domain::wallet::{AccountXpub, WalletError};
use crate::store::db::pools::Db;
use crate::store::db::query::query;
use crate::store::db::{On, Tx};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;
use crate::store::went_back::facts::{Children, Facts};

/// The highest id of a table that was ever given out, as far as this database or a daemon knows; 0 before the
/// first. `$table` has it as `$id`, and `database_server` the highest that was lost.
macro_rules! highest_id {
    ($table:literal, $id:literal) => {
        concat!(
            "SELECT MAX(id) AS newest FROM (SELECT COALESCE(MAX(",
            $id,
            "), 0) AS id FROM ",
            $table,
            " UNION ALL SELECT ",
            $id,
            " FROM database_server) AS ids"
        )
    };
}
pub(in crate::store) use highest_id;

/// The children of each account key.
pub(in crate::store) async fn given_out(
    on: impl Into<On<'_>>,
) -> Result<BTreeMap<String, Children>, StoreError> {
    query(
        "SELECT w.account_xpub, w.next_index,
           (SELECT MAX(a.derivation_index) + 1 FROM addresses a WHERE a.wallet_id = w.wallet_id)
             AS registered
         FROM wallets w",
    )
    .fetch_all(on)
    .await?
    .iter()
    .map(|row| {
        let registered = row.opt_int("addresses", "registered")?.unwrap_or(0);
        let next = row.int("wallets", "next_index")?;
        Ok((row.text("wallets", "account_xpub")?, Children { registered, next }))
    })
    .collect()
}

/// Which children of account keys were given out, as far as their addresses are remembered: the next
/// indexes themselves are read less often than these.
pub(in crate::store) fn remember_children(
    seen: &mut Facts,
    now: &Facts,
    book: &AddressBook,
) -> Result<(), StoreError> {
    let is_known = |child| {
        book.get(&child).is_some() || seen.address.is_some_and(|(_, newest)| newest == child)
    };
    let mut all = Facts { children: now.children.clone(), ..Facts::default() };
    all.absorb_children(&seen.children);
    for (text, children) in &mut all.children {
        let bad = |e: WalletError| corrupt("wallets", "account_xpub", &e.to_string());
        let xpub = AccountXpub::parse(text).map_err(bad)?;
        while let Ok(index) = u32::try_from(children.next)
            && xpub.address(index).is_ok_and(is_known)
        {
            children.next = children.next.saturating_add(1);
            children.registered = children.next;
        }
    }
    seen.children = all.children;
    Ok(())
}

/// What was given out, and the database does not know.
pub(in crate::store) async fn missing_of(
    tx: &mut Tx,
    seen: &Facts,
    now: &Facts,
) -> Result<Vec<String>, StoreError> {
    let mut missing = Vec::new();
    if let Some((id, name)) = &seen.namespace {
        // One that was missing when somebody last looked, was said then: the ids were raised above it.
        let there = query(
            "SELECT 1 AS one FROM namespaces WHERE namespace_id = $1 AND name = $2
             UNION ALL SELECT 1 FROM database_server WHERE namespace_id >= $1",
        )
        .bind(*id)
        .bind(name)
        .fetch_optional(tx)
        .await?;
        if there.is_none() {
            missing.push(format!("namespace {name} (id {id}) is missing, or another one"));
        }
    }
    for (xpub, known) in &seen.children {
        let stored = now.children.get(xpub).map_or(0, |children| children.next);
        if stored < known.registered {
            missing.push(format!(
                "addresses of an account key were given out up to index {}, and are missing from index {stored} on",
                known.registered.saturating_sub(1)
            ));
        }
    }
    Ok(missing)
}

/// Stamps the server, and sees to it that nothing that was given out is given out again.
pub(in crate::store) async fn raise(
    tx: &mut Tx,
    server: &str,
    seen: &Facts,
    now_ms: i64,
) -> Result<(), StoreError> {
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
    .bind(seen.namespace.as_ref().map_or(0, |(id, _)| *id))
    .execute(&mut *tx)
    .await?;
    for (xpub, children) in &seen.children {
        query(
            "INSERT INTO wallets (wallet_id, account_xpub, next_index)
             SELECT COALESCE(MAX(wallet_id), 0) + 1, $1, $2 FROM wallets WHERE true
             ON CONFLICT (account_xpub) DO UPDATE SET
               next_index = CASE WHEN wallets.next_index > excluded.next_index
                                 THEN wallets.next_index ELSE excluded.next_index END",
        )
        .bind(xpub)
        .bind(children.next)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// So many children of an account key are left out: more than can be given out between two looks of a daemon,
/// a thousand in one commit.
const SPARE: u32 = 10_000;
/// How far back lost children are looked for: among those left out, and as many before as a daemon remembers.
const LOST_MAX: u32 = SPARE + 1_000;
/// And after the last one that is registered, so many at most: a copy may have been put back several times.
const GAP_MAX: u32 = 10 * SPARE;
/// Children that an account key has: those above are hardened (BIP-32), which no public key derives.
pub(in crate::store) const INDEXES: i64 = 2_147_483_648;

/// What is known of addresses that a database lost, while nobody has explained yet how it went back.
#[derive(Debug, Default)]
pub(in crate::store) struct LostAddresses {
    /// Children of account keys that are registered no more: each with its wallet and index. Whoever registers one
    /// again does not bring somebody else's address.
    pub(in crate::store) children: BTreeMap<Address, (i64, u32)>,
    /// Whose they were, as the findings say it: each with its namespace and the finding.
    owners: BTreeMap<Address, (String, i64)>,
}

impl LostAddresses {
    /// Of these addresses. Derives thousands of children, and so not in a transaction.
    pub(in crate::store) async fn among(
        db: &Db,
        wanted: impl Iterator<Item = Address>,
    ) -> Result<Self, StoreError> {
        let mut lost = Self::default();
        let mut tx = db.begin_read().await?;
        let findings = open_findings(&mut tx).await?;
        let wallets = if findings.is_empty() { Vec::new() } else { gaps(&mut tx).await? };
        tx.abandon().await?;
        for (finding, detail) in findings {
            lost.owners
                .extend(owners(&detail)?.map(|(address, owner)| (address, (owner, finding))));
        }
        let mut wanted: BTreeSet<Address> = wanted.collect();
        for (wallet, xpub, indexes) in wallets {
            for index in indexes {
                if wanted.is_empty() {
                    return Ok(lost);
                }
                if let Ok(child) = xpub.address(index)
                    && wanted.remove(&child)
                {
                    lost.children.insert(child, (wallet, index));
                }
            }
        }
        Ok(lost)
    }

    /// Why an address is not bound to this namespace, if it was lost by another one.
    pub(in crate::store) fn by_another(&self, address: Address, namespace: &str) -> Option<String> {
        let (owner, finding) = self.owners.get(&address).filter(|(owner, _)| owner != namespace)?;
        Some(format!(
            "{address} was given out to {owner} before the database went back, and is not bound to {namespace}: topupd address import {owner} {address}. If that is wrong, explain finding {finding} first"
        ))
    }
}

/// The addresses that a finding names as lost, each with its namespace.
fn owners(detail: &str) -> Result<impl Iterator<Item = (Address, String)>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Detail {
        lost_addresses: Vec<Owned>,
    }
    #[derive(serde::Deserialize)]
    struct Owned {
        address: Address,
        namespace: String,
    }
    let detail: Detail =
        serde_json::from_str(detail).map_err(|e| corrupt("findings", "detail", &e.to_string()))?;
    Ok(detail.lost_addresses.into_iter().map(|lost| (lost.address, lost.namespace)))
}

/// Of each account key, the indexes that were given out or left out and are registered no more: those first that
/// follow what is registered.
async fn gaps(tx: &mut Tx) -> Result<Vec<(i64, AccountXpub, Vec<u32>)>, StoreError> {
    let rows = query("SELECT wallet_id, account_xpub, next_index FROM wallets")
        .fetch_all(&mut *tx)
        .await?;
    let mut gaps = Vec::with_capacity(rows.len());
    for row in &rows {
        let wallet = row.int("wallets", "wallet_id")?;
        let xpub = AccountXpub::parse(&row.text("wallets", "account_xpub")?)
            .map_err(|e| corrupt("wallets", "account_xpub", &e.to_string()))?;
        let next = row.uint32("wallets", "next_index")?;
        let registered =
            query("SELECT MAX(derivation_index) AS newest FROM addresses WHERE wallet_id = $1")
                .bind(wallet)
                .fetch_one(&mut *tx)
                .await?
                .opt_int("addresses", "newest")?
                .map_or(0, |newest| u32::try_from(newest).unwrap_or(u32::MAX));
        let first = next.saturating_sub(LOST_MAX).min(registered.saturating_sub(1_000));
        let first = first.max(next.saturating_sub(GAP_MAX));
        let taken: BTreeSet<u32> = query(
            "SELECT derivation_index FROM addresses
             WHERE wallet_id = $1 AND derivation_index >= $2",
        )
        .bind(wallet)
        .bind(i64::from(first))
        .fetch_all(&mut *tx)
        .await?
        .iter()
        .map(|row| row.uint32("addresses", "derivation_index"))
        .collect::<Result<_, _>>()?;
        let after = taken.last().map_or(first, |last| last.saturating_add(1));
        let free = (after..next).chain((first..after).rev());
        gaps.push((wallet, xpub, free.filter(|index| !taken.contains(index)).collect()));
    }
    Ok(gaps)
}

/// Leaves out some children of each account key after the last one that anybody remembers: of those given out
/// since the last look, nobody may remember any.
pub(in crate::store) async fn spare(tx: &mut Tx) -> Result<(), StoreError> {
    query(
        "UPDATE wallets SET next_index =
           CASE WHEN next_index + $1 > $2 THEN $2 ELSE next_index + $1 END",
    )
    .bind(i64::from(SPARE))
    .bind(INDEXES)
    .execute(tx)
    .await?;
    Ok(())
}

/// What nobody has explained yet: each finding with its detail.
async fn open_findings(tx: &mut Tx) -> Result<Vec<(i64, String)>, StoreError> {
    query(
        "SELECT finding_id, detail FROM findings WHERE kind = $1 AND state = 'open'
         ORDER BY finding_id",
    )
    .bind(FindingKind::DatabaseWentBack.as_str())
    .fetch_all(tx)
    .await?
    .iter()
    .map(|row| Ok((row.int("findings", "finding_id")?, row.text("findings", "detail")?)))
    .collect()
}

/// Refuses to derive addresses while rows may be lost: the same one could be given to two customers.
///
/// # Errors
/// [`StoreError::Refused`], until an operator has looked.
pub(in crate::store) async fn refuse_if_back(tx: &mut Tx) -> Result<(), StoreError> {
    let findings = open_findings(tx).await?;
    let Some((first, _)) = findings.first() else { return Ok(()) };
    let all = findings.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ");
    Err(StoreError::Refused(format!(
        "no address is derived now: the database went back, or is on another server (findings still open: {all}), and an address that was given out may be lost, so that the same one could be given to a second customer. `topupd findings show {first}` says what is known; register again what is lost, and then, for each: topupd findings explain {first} --operator NAME --reason TEXT"
    )))
}
