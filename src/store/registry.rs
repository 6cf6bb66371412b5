//! Namespaces and deposit addresses: what people register.
//!
//! An address is derived here and bound in the same transaction that takes its index, so that the
//! sequence has no gap and no address has two owners. Deriving needs the public key only.

pub(in crate::store) mod bound;
pub(in crate::store) mod given_out;
pub(in crate::store) mod imports;
pub(in crate::store) mod registers;
pub(in crate::store) mod wallets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::Address;

use crate::domain::ids::{AddressId, NamespaceName};
use crate::domain::journal::{Cause, JournalId, NamespaceOpened};
use crate::domain::transfer::AddressBook;
use crate::domain::wallet::AccountXpub;
use crate::store::db::query::query;
use crate::store::db::{Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::{Batch, Taking};
use crate::store::registry::bound::{ToBind, bind};
use crate::store::registry::given_out::{highest_id, refuse_if_back};
use crate::store::registry::wallets::known_key;

/// Registered children that are passed over before giving up.
const SKIP_MAX: u32 = 10_000;
/// Children that are looked up at a time.
const AT_ONCE: u32 = 64;
/// Addresses of the book that are read at a time.
const BOOK_PAGE: i64 = 4_000;

/// A namespace, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NamespaceRow {
    /// Name.
    #[serde(rename = "namespace")]
    pub name: NamespaceName,
    /// Number of its deposit addresses.
    pub addresses: i64,
    /// When it was added.
    pub created_at_ms: i64,
}

/// A deposit address, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AddressRow {
    /// The address; displays with its EIP-55 checksum.
    pub address: Address,
    /// Owner.
    pub namespace: NamespaceName,
    /// `derived` or `imported`.
    pub origin: String,
    /// Index below the account key, for a derived one.
    pub derivation_index: Option<i64>,
    /// When it was registered.
    pub created_at_ms: i64,
}

impl Store {
    /// Adds a namespace, and begins its journal.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the name is taken.
    pub async fn add_namespace(&self, name: &NamespaceName, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_registering().await?;
        self.add_namespace_in(&mut tx, name, now_ms).await?;
        Self::commit(tx).await?;
        self.remember(&format!("namespace {name} is")).await
    }

    /// The same in a transaction of whoever registers.
    pub(super) async fn add_namespace_in(
        &self,
        tx: &mut Tx,
        name: &NamespaceName,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::take(tx, self, [], Taking::ASecond).await?;
        let added = query(concat!(
            "INSERT INTO namespaces (namespace_id, name, created_at_ms)
             SELECT newest + 1, $1, $2 FROM (",
            highest_id!("namespaces", "namespace_id"),
            ") AS n WHERE true ON CONFLICT (name) DO NOTHING"
        ))
        .bind(name.as_str())
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        if added == 0 {
            return Err(StoreError::Refused(format!("namespace {name} exists already")));
        }
        let journal = JournalId(namespace_id(tx, name).await?);
        batch.open(tx, self, journal, name.as_str()).await?;
        let cause = Cause::NamespaceOpened(NamespaceOpened { name: name.to_string() });
        batch.note(tx, journal, cause, None).await?;
        batch.write(tx, self).await
    }

    /// All namespaces, by name.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceRow>, StoreError> {
        query(
            "SELECT n.name, n.created_at_ms, COUNT(a.address_id) AS addresses
             FROM namespaces n LEFT JOIN addresses a ON a.namespace_id = n.namespace_id
             GROUP BY n.namespace_id, n.name, n.created_at_ms ORDER BY n.name",
        )
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(NamespaceRow {
                name: row.parsed("namespaces", "name")?,
                addresses: row.int("namespaces", "addresses")?,
                created_at_ms: row.int("namespaces", "created_at_ms")?,
            })
        })
        .collect()
    }

    /// Derives the next address of the account key in use and binds it to a namespace.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown, the account has no child left, or another
    /// key is in use.
    pub async fn new_address(
        &self,
        namespace: &NamespaceName,
        xpub: &AccountXpub,
        now_ms: i64,
    ) -> Result<AddressRow, StoreError> {
        self.new_address_of(namespace, xpub, false, now_ms).await
    }

    /// Like [`Store::new_address`]; `new_wallet` says that the key is another one than the key in use,
    /// and shall be the key in use from now on.
    ///
    /// # Errors
    /// As there, and when the key is the one in use already.
    pub async fn new_address_of(
        &self,
        namespace: &NamespaceName,
        xpub: &AccountXpub,
        new_wallet: bool,
        now_ms: i64,
    ) -> Result<AddressRow, StoreError> {
        let row = self.new_addresses(namespace, xpub, new_wallet, 1, now_ms).await?.pop();
        row.ok_or_else(|| StoreError::Refused("no address was derived".into()))
    }

    /// Like [`Store::new_address_of`]: so many, or none.
    pub async fn new_addresses(
        &self,
        namespace: &NamespaceName,
        xpub: &AccountXpub,
        new_wallet: bool,
        count: u32,
        now_ms: i64,
    ) -> Result<Vec<AddressRow>, StoreError> {
        if self.is_on_another_server().await? {
            self.look_at_server("address new", now_ms).await?;
        }
        self.can_remember().await?;
        // Deriving takes longest, and nobody is to wait for it.
        let likely = self.known_key(xpub).await?;
        let ahead = children_from(&likely.key, likely.next_index, count)?;
        let mut tx = self.begin_registering().await?;
        let wanted = (namespace, xpub, new_wallet, count);
        let made = self.new_addresses_in(&mut tx, wanted, (&likely.key, &ahead), now_ms).await?;
        Self::commit(tx).await?;
        self.remember("the addresses (topupd address list) are").await?;
        Ok(made)
    }

    /// The same in a transaction of whoever registers. Children of this key that were derived ahead are not
    /// derived again.
    pub(super) async fn new_addresses_in(
        &self,
        tx: &mut Tx,
        (namespace, xpub, new_wallet, count): (&NamespaceName, &AccountXpub, bool, u32),
        (likely, ahead): (&AccountXpub, &BTreeMap<u32, Address>),
        now_ms: i64,
    ) -> Result<Vec<AddressRow>, StoreError> {
        refuse_if_back(tx).await?;
        let namespace_id = namespace_id(tx, namespace).await?;
        let known = known_key(tx, xpub).await?;
        known.allows(new_wallet).map_err(StoreError::Refused)?;
        let xpub = &known.key;
        let (wallet_id, next) = wallet(tx, xpub).await?;
        let none = BTreeMap::new();
        let ahead = if known.key == *likely { ahead } else { &none };
        let children = free_children(tx, xpub, (next, count), ahead).await?;
        let new: Vec<ToBind> = children
            .iter()
            .map(|(index, address)| ToBind {
                address: *address,
                namespace_id,
                child: Some((wallet_id, *index)),
            })
            .collect();
        let keys = BTreeMap::from([(wallet_id, xpub.clone())]);
        let bound = bind(tx, self, &new, &keys, now_ms).await?;
        let next = children.last().map_or(next, |(index, _)| index.saturating_add(1));
        query("UPDATE wallets SET next_index = $2 WHERE wallet_id = $1")
            .bind(wallet_id)
            .bind(i64::from(next))
            .execute(&mut *tx)
            .await?;
        bound.batch.write(tx, self).await?;
        let row = |(index, address): (u32, Address)| AddressRow {
            address,
            namespace: namespace.clone(),
            origin: "derived".into(),
            derivation_index: Some(i64::from(index)),
            created_at_ms: now_ms,
        };
        Ok(children.into_iter().map(row).collect())
    }

    /// Deposit addresses, oldest first, of one namespace or of all; at most so many.
    pub async fn addresses(
        &self,
        namespace: Option<&NamespaceName>,
        limit: i64,
    ) -> Result<Vec<AddressRow>, StoreError> {
        query(
            "SELECT a.address, n.name, a.origin, a.derivation_index, a.created_at_ms
             FROM addresses a JOIN namespaces n ON n.namespace_id = a.namespace_id
             WHERE $1 IS NULL OR n.name = $1 ORDER BY a.address_id LIMIT $2",
        )
        .bind(namespace.map(NamespaceName::as_str))
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(AddressRow {
                address: row.address("addresses", "address")?,
                namespace: row.parsed("namespaces", "name")?,
                origin: row.text("addresses", "origin")?,
                derivation_index: row.opt_int("addresses", "derivation_index")?,
                created_at_ms: row.int("addresses", "created_at_ms")?,
            })
        })
        .collect()
    }

    /// Every address that is registered. All tasks of this process have one table of them, which is
    /// read in pages. Cheap when there is nothing new.
    pub async fn book(&self) -> Result<Arc<AddressBook>, StoreError> {
        let mut book = self.book.lock().await;
        loop {
            let newest = book.newest();
            // With the newest known one, to see that it is still the same.
            let rows = query(
                "SELECT address_id, address FROM addresses WHERE address_id >= $1
                 ORDER BY address_id LIMIT $2",
            )
            .bind(i64::from(newest.0))
            .bind(BOOK_PAGE)
            .fetch_all(&self.db)
            .await?;
            if newest.0 > 0 {
                let is_known = match rows.first() {
                    Some(row) => book.get(&row.address("addresses", "address")?) == Some(newest),
                    None => false,
                };
                if !is_known {
                    return Err(StoreError::WentBack(format!(
                        "the address with id {} is missing, or another one",
                        newest.0
                    )));
                }
            }
            for row in &rows {
                let id = AddressId(row.uint32("addresses", "address_id")?);
                book.insert(row.address("addresses", "address")?, id);
            }
            if i64::try_from(rows.len()) != Ok(BOOK_PAGE) {
                return Ok(Arc::new(book.view()));
            }
        }
    }

    /// Whether a namespace is there.
    pub async fn has_namespace(&self, name: &NamespaceName) -> Result<bool, StoreError> {
        query("SELECT 1 AS one FROM namespaces WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.db)
            .await
            .map(|row| row.is_some())
            .map_err(StoreError::from)
    }

    /// Whose deposit address this is.
    pub async fn owner_of(&self, address: Address) -> Result<Option<NamespaceName>, StoreError> {
        query(
            "SELECT n.name FROM addresses a JOIN namespaces n ON n.namespace_id = a.namespace_id
             WHERE a.address = $1",
        )
        .bind(address.to_vec())
        .fetch_optional(&self.db)
        .await?
        .map(|row| row.parsed("namespaces", "name"))
        .transpose()
    }
}

/// The row of an account key, with its next child; for one that has none yet, the id that it gets.
async fn wallet(tx: &mut Tx, xpub: &AccountXpub) -> Result<(i64, u32), StoreError> {
    let row = query("SELECT wallet_id, next_index FROM wallets WHERE account_xpub = $1")
        .bind(xpub.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    if let Some(row) = row {
        return Ok((row.int("wallets", "wallet_id")?, row.uint32("wallets", "next_index")?));
    }
    // Whoever registers does so alone.
    let row = query("SELECT COALESCE(MAX(wallet_id), 0) + 1 AS wallet_id FROM wallets")
        .fetch_one(&mut *tx)
        .await?;
    Ok((row.int("wallets", "wallet_id")?, 0))
}

/// So many children of an account key.
fn children_from(
    xpub: &AccountXpub,
    first: u32,
    count: u32,
) -> Result<BTreeMap<u32, Address>, StoreError> {
    let child = |index| {
        let address = xpub.address(index).map_err(|e| StoreError::Refused(e.to_string()))?;
        Ok((index, address))
    };
    (first..first.saturating_add(count)).map(child).collect()
}

/// So many children from `first` on that are not registered already, as those that were imported
/// by hand may be. Those that were derived ahead are not derived again.
async fn free_children(
    tx: &mut Tx,
    xpub: &AccountXpub,
    (first, count): (u32, u32),
    ahead: &BTreeMap<u32, Address>,
) -> Result<Vec<(u32, Address)>, StoreError> {
    let mut free: Vec<(u32, Address)> = Vec::new();
    let (mut next, mut passed_over): (u32, u32) = (first, 0);
    loop {
        let have = u32::try_from(free.len()).unwrap_or(u32::MAX);
        // A few at a time: a server ends a transaction in which nothing is asked for some seconds.
        let missing = count.saturating_sub(have).min(AT_ONCE);
        if missing == 0 {
            return Ok(free);
        }
        let mut some = Vec::new();
        for index in next..next.saturating_add(missing) {
            let child = match ahead.get(&index) {
                Some(child) => *child,
                None => xpub.address(index).map_err(|e| StoreError::Refused(e.to_string()))?,
            };
            some.push((index, child));
        }
        next = next.saturating_add(missing);
        let keys = some.iter().map(|(_, address)| vec![(*address).into()]).collect();
        let taken: BTreeSet<Address> =
            bulk("SELECT address FROM addresses WHERE address {keys}", keys)
                .fetch_all(&mut *tx)
                .await?
                .iter()
                .map(|row| row.address("addresses", "address"))
                .collect::<Result<_, _>>()?;
        for child in some {
            passed_over = if taken.contains(&child.1) { passed_over.saturating_add(1) } else { 0 };
            if passed_over >= SKIP_MAX {
                return Err(StoreError::Refused(format!(
                    "the {SKIP_MAX} addresses from index {first} on are registered already"
                )));
            }
            if passed_over == 0 {
                free.push(child);
            }
        }
    }
}

pub(super) async fn namespace_id(tx: &mut Tx, name: &NamespaceName) -> Result<i64, StoreError> {
    let row = query("SELECT namespace_id FROM namespaces WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(&mut *tx)
        .await?;
    match row {
        Some(row) => row.int("namespaces", "namespace_id"),
        None => Err(StoreError::Refused(format!(
            "no namespace is called {name}; add it with: topupd namespace add {name}"
        ))),
    }
}
