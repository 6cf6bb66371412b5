//! Journals: how one begins, and how the rows of several are taken by whoever writes to them.
//!
//! The house's comes first, then the namespaces' in the order of their ids, and all in one statement: two who want
//! the same ones wait for each other, and never both at once. Whoever takes a journal has written no row before.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{journal_row, select_journals};
use crate::domain::account::Account;
use crate::domain::journal::{Genesis, JournalId, genesis};
use crate::planted::{Fault, planted};
use crate::store::db::query::{Lock, query};
use crate::store::db::{On, Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// How long journals that somebody else holds are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Taking {
    /// A second: whoever holds one longer may be frozen.
    ASecond,
    /// Not at all: what somebody else holds is left out.
    WhatIsFree,
    /// They are not taken, only looked at: nothing can be written then.
    OnlyLooking,
}

/// Takes the rows of these journals until the transaction ends.
///
/// # Errors
/// [`StoreError::Busy`], where somebody else holds one of them; [`StoreError::Corrupt`], where one
/// that must be there is not.
pub(super) async fn take(
    tx: &mut Tx,
    ids: impl Iterator<Item = JournalId>,
    how: Taking,
) -> Result<BTreeMap<JournalId, Account>, StoreError> {
    let keys: Vec<_> = ids.map(|id| vec![id.0.into()]).collect();
    let wanted = keys.len();
    if wanted == 0 {
        return Ok(BTreeMap::new());
    }
    let lock = match how {
        Taking::ASecond => {
            tx.hurry().await?;
            Some(Lock::NoKeyUpdate)
        }
        Taking::WhatIsFree => Some(Lock::NoKeyUpdateOfFree),
        Taking::OnlyLooking => None,
    };
    let found = bulk(select_journals!("WHERE j.journal_id {keys} ORDER BY j.journal_id"), keys);
    let found = match lock {
        Some(lock) => found.locked(lock),
        None => found,
    };
    let found = found.fetch_all(tx).await.map_err(StoreError::taking("journals"))?;
    let mut taken = BTreeMap::new();
    for row in &found {
        let mut row = journal_row(row)?;
        if planted(Fault::Backdated) {
            row.head.recorded_at_ms = 0;
        }
        taken.insert(row.journal, Account::at(row));
    }
    if taken.len() < wanted && how != Taking::WhatIsFree {
        return Err(StoreError::Impossible("a journal that is written to is missing".into()));
    }
    Ok(taken)
}

/// Journals that somebody else holds, for people who wait for them.
pub(super) async fn busy(store: &Store, ids: &BTreeSet<JournalId>) -> StoreError {
    const NAMED: usize = 3;
    let of: Vec<JournalId> = ids.iter().copied().filter(|id| !id.is_house()).collect();
    let mut names: Vec<String> = Vec::new();
    for id in of.iter().take(NAMED) {
        // In the transaction, nothing can be asked any more.
        let row = query("SELECT name FROM namespaces WHERE namespace_id = $1").bind(id.0);
        let name = match row.fetch_optional(&store.db).await {
            Ok(Some(row)) => row.text("namespaces", "name").ok(),
            Ok(None) | Err(_) => None,
        };
        names.push(name.unwrap_or_else(|| format!("number {}", id.0)));
    }
    let more = of.len().saturating_sub(names.len());
    let mut said = names.join(", ");
    if more > 0 {
        said = format!("{said} and {more} more");
    }
    let what = match (ids.contains(&JournalId::HOUSE), of.is_empty()) {
        (true, true) => "the house's journal".to_owned(),
        (true, false) => format!("the house's journal or that of namespace {said}"),
        (false, _) if of.len() == 1 => format!("the journal of namespace {said}"),
        (false, _) => format!("the journal of one of the namespaces {said}"),
    };
    StoreError::Busy { what }
}

/// Begins a journal, with a salt that nobody can guess. `name` is the namespace's; none for the house. One that is
/// there already stays as it is.
pub(in crate::store) async fn create(
    tx: &mut Tx,
    store: &Store,
    journal: JournalId,
    name: Option<&str>,
) -> Result<Account, StoreError> {
    let salt = store.draw()?;
    let genesis = genesis(store.network, &installation_id(&mut *tx).await?, name, &salt);
    query(
        "INSERT INTO journals (journal_id, kind, genesis, salt, seq, seal, recorded_at_ms, posted_nano, debt_nano,
                               addresses)
         VALUES ($1, $2, $3, $4, 0, $3, 0, 0, 0, 0) ON CONFLICT (journal_id) DO NOTHING",
    )
    .bind(journal.0)
    .bind(if journal.is_house() { "house" } else { "namespace" })
    .bind(genesis.0)
    .bind(salt.to_vec())
    .execute(tx)
    .await?;
    Ok(Account::fresh(journal, genesis, name.unwrap_or_default()))
}

/// What tells this installation from every other one.
pub(in crate::store) async fn installation_id(
    on: impl Into<On<'_>>,
) -> Result<Vec<u8>, StoreError> {
    query("SELECT installation_id FROM installation WHERE only_row = 1")
        .fetch_one(on)
        .await?
        .bytes("installation", "installation_id")
}

/// What the owner of a namespace needs beside its records to verify its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalStart {
    /// What the first record names as the one before it.
    pub genesis: Genesis,
    /// Its salt: whoever does not have it cannot compute the genesis.
    pub salt: Vec<u8>,
    /// What tells this installation from every other one.
    pub installation: Vec<u8>,
}

impl Store {
    /// How a journal begins; `None` where there is none.
    pub async fn journal_start(
        &self,
        journal: JournalId,
    ) -> Result<Option<JournalStart>, StoreError> {
        let row = query("SELECT genesis, salt FROM journals WHERE journal_id = $1")
            .bind(journal.0)
            .fetch_optional(&self.db)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(JournalStart {
            genesis: Genesis(row.b256("journals", "genesis")?),
            salt: row.bytes("journals", "salt")?,
            installation: installation_id(&self.db).await?,
        }))
    }

    /// The journal of a namespace; `None` where no namespace is called so.
    pub async fn journal_of(&self, namespace: &str) -> Result<Option<JournalId>, StoreError> {
        query("SELECT namespace_id FROM namespaces WHERE name = $1")
            .bind(namespace)
            .fetch_optional(&self.db)
            .await?
            .map(|row| Ok(JournalId(row.int("namespaces", "namespace_id")?)))
            .transpose()
    }
}
