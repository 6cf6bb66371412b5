//! Addresses that somebody else controls: one at a time, or many from a file.
//!
//! Money may have come to them before, and left them again: the blocks that were scanned already are
//! read once more, and payments to them wait for it. Many that come together ask for that together.

use std::collections::BTreeMap;

use alloy::primitives::Address;

use super::backfills::{BackfillKind, request_scanned};
use super::book::namespace_id;
use super::db::{Tx, Value, bulk, query};
use super::engine::Store;
use super::errors::StoreError;
use super::given_out::{LostAddresses, highest_id};
use crate::domain::ids::{AddressId, ChainId, NamespaceName};

/// An address that is to be bound to a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// Who is credited for what arrives there.
    pub namespace: NamespaceName,
    /// It.
    pub address: Address,
}

/// What became of many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// All of them are bound as asked.
    All {
        /// Those that were not before.
        new: usize,
    },
    /// Nothing was done, because of these: their places among those given, and what is wrong.
    Refused(Vec<(usize, String)>),
}

impl Store {
    /// Binds an address that someone else controls to a namespace.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the namespace is unknown or the address is bound already.
    pub async fn import_address(
        &self,
        namespace: &NamespaceName,
        address: Address,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.import_address_since(namespace, address, &[], now_ms).await.map(drop)
    }

    /// Like [`Store::import_address`]. Money may have come to the address before: the old blocks of
    /// every chain are read again for it, from the block that is declared for the chain, or else
    /// from the first one that was scanned. One that is a child of an account key, and was lost when the
    /// database went back, becomes derived as it was; its index is answered then.
    ///
    /// # Errors
    /// As there.
    pub async fn import_address_since(
        &self,
        namespace: &NamespaceName,
        address: Address,
        since: &[(ChainId, u64)],
        now_ms: i64,
    ) -> Result<Option<u32>, StoreError> {
        let lost = LostAddresses::among(&self.db, [address].into_iter()).await?;
        if let Some(why) = lost.by_another(address, namespace.as_str()) {
            return Err(StoreError::Refused(why));
        }
        let child = lost.children.get(&address).copied();
        let mut tx = self.begin_registering().await?;
        let namespace_id = namespace_id(&mut tx, namespace).await?;
        query(concat!(
            "INSERT INTO addresses (address_id, address, namespace_id, origin, wallet_id,
                                    derivation_index, created_at_ms)
             SELECT newest + 1, $1, $2, $3, $4, $5, $6 FROM (",
            highest_id!("addresses", "address_id"),
            ") AS n"
        ))
        .bind(address.to_vec())
        .bind(namespace_id)
        .bind(origin(child))
        .bind(child.map(|(wallet, _)| wallet))
        .bind(child.map(|(_, index)| i64::from(index)))
        .bind(now_ms)
        .execute(&mut tx)
        .await
        .map_err(|e| taken(e, address))?;
        request_scanned(&mut tx, BackfillKind::Address(address), since, None, now_ms).await?;
        Self::commit(tx).await?;
        Ok(child.map(|(_, index)| index))
    }

    /// Binds many addresses in one commit, all or none of them. Those that are bound as asked already
    /// are passed over, so that a file can be taken again from its beginning.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn import_addresses(
        &self,
        batch: &[NewAddress],
        since: &[(ChainId, u64)],
        now_ms: i64,
    ) -> Result<Imported, StoreError> {
        let lost = LostAddresses::among(&self.db, batch.iter().map(|new| new.address)).await?;
        let mut tx = self.begin_registering().await?;
        let namespaces = namespaces(&mut tx, batch).await?;
        let mut owners = owners(&mut tx, batch).await?;
        let mut new: Vec<(Address, i64)> = Vec::new();
        let mut refused = Vec::new();
        for (place, NewAddress { namespace, address }) in batch.iter().enumerate() {
            let Some(wanted) = namespaces.get(namespace.as_str()) else {
                refused.push((place, format!("no namespace is called {namespace}")));
                continue;
            };
            if let Some(why) = lost.by_another(*address, namespace.as_str()) {
                refused.push((place, why));
                continue;
            }
            match owners.get(address) {
                None => {
                    owners.insert(*address, *wanted);
                    new.push((*address, *wanted));
                }
                Some(owner) if owner == wanted => {}
                Some(_) => refused.push((
                    place,
                    format!("{address} belongs to another namespace, and does so for ever"),
                )),
            }
        }
        if !refused.is_empty() || new.is_empty() {
            Self::abandon(tx).await?;
            let all = Imported::All { new: 0 };
            return Ok(if refused.is_empty() { all } else { Imported::Refused(refused) });
        }
        let count = new.len();
        let together = bind(&mut tx, new, &lost.children, now_ms).await?;
        request_scanned(&mut tx, together, since, None, now_ms).await?;
        Self::commit(tx).await?;
        Ok(Imported::All { new: count })
    }
}

/// Where an address comes from: a child of an account key, or somebody else.
fn origin(child: Option<(i64, u32)>) -> &'static str {
    if child.is_some() { "derived" } else { "imported" }
}

/// Writes addresses that are not there yet, in their order.
async fn bind(
    tx: &mut Tx,
    new: Vec<(Address, i64)>,
    children: &BTreeMap<Address, (i64, u32)>,
    now_ms: i64,
) -> Result<BackfillKind, StoreError> {
    const DOING: &str = "register addresses";
    let newest = query(highest_id!("addresses", "address_id"))
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?
        .uint32("addresses", "newest")?;
    let full = || StoreError::Refused("no more addresses can be registered".into());
    let mut next = newest;
    let mut rows: Vec<(Address, i64, u32)> = Vec::with_capacity(new.len());
    for (address, namespace) in new {
        next = next.checked_add(1).ok_or_else(full)?;
        rows.push((address, namespace, next));
    }
    let first = rows.first().map(|(address, ..)| *address).ok_or_else(full)?;
    // In the order of the index that costs most: each of its pages is written once.
    rows.sort_unstable();
    let rows = rows
        .into_iter()
        .map(|(address, namespace, id)| {
            let child = children.get(&address).copied();
            vec![
                i64::from(id).into(),
                address.into(),
                namespace.into(),
                now_ms.into(),
                origin(child).into(),
                child.map(|(wallet, _)| wallet).into(),
                child.map(|(_, index)| i64::from(index)).into(),
            ]
        })
        .collect();
    bulk(
        "INSERT INTO addresses (address_id, address, namespace_id, created_at_ms, origin, wallet_id,
                                derivation_index)
         SELECT column1, column2, column3, column4, column5, column6, column7 FROM ({rows}) AS r",
        rows,
    )
    .execute(tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let (first_id, last_id) = (AddressId(newest.saturating_add(1)), AddressId(next));
    Ok(BackfillKind::Addresses { first, first_id, last_id })
}

/// The namespaces that are named and there are.
async fn namespaces(
    tx: &mut Tx,
    batch: &[NewAddress],
) -> Result<BTreeMap<String, i64>, StoreError> {
    let named: BTreeMap<&str, ()> = batch.iter().map(|new| (new.namespace.as_str(), ())).collect();
    let names: Vec<Vec<Value>> = named.into_keys().map(|name| vec![name.into()]).collect();
    bulk("SELECT namespace_id, name FROM namespaces WHERE name {keys}", names)
        .fetch_all(tx)
        .await
        .map_err(StoreError::doing("look up namespaces"))?
        .iter()
        .map(|row| Ok((row.text("namespaces", "name")?, row.int("namespaces", "namespace_id")?)))
        .collect()
}

/// Whose the addresses are that are bound already.
async fn owners(tx: &mut Tx, batch: &[NewAddress]) -> Result<BTreeMap<Address, i64>, StoreError> {
    let mut addresses: Vec<Address> = batch.iter().map(|new| new.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let keys = addresses.into_iter().map(|address| vec![address.into()]).collect();
    bulk("SELECT address, namespace_id FROM addresses WHERE address {keys}", keys)
        .fetch_all(tx)
        .await
        .map_err(StoreError::doing("look up addresses"))?
        .iter()
        .map(|row| {
            Ok((row.address("addresses", "address")?, row.int("addresses", "namespace_id")?))
        })
        .collect()
}

fn taken(error: sqlx::Error, address: Address) -> StoreError {
    match &error {
        sqlx::Error::Database(e) if e.is_unique_violation() => StoreError::Refused(format!(
            "{address} is registered already; an address belongs to one namespace for ever"
        )),
        _ => StoreError::Database { doing: "register an address", source: error },
    }
}
