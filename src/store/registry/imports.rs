//! Addresses that somebody else controls: one at a time, or many from a file.
//!
//! Money may have come to them before, and left them again: the blocks that were scanned already are
//! read once more, and payments to them wait for it. Many that come together ask for that together.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;

use crate::domain::ids::{ChainId, NamespaceName};
use crate::domain::wallet::AccountXpub;
use crate::store::chain::backfills::{BackfillKind, request_scanned};
use crate::store::db::{Tx, Value, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::registry::bound::{BoundNow, ToBind, bind};
use crate::store::registry::given_out::LostAddresses;
use crate::store::registry::namespace_id;
use crate::store::rows::corrupt;

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
        self.import_address_in(&mut tx, namespace, (address, child), since, now_ms).await?;
        Self::commit(tx).await?;
        self.remember(&format!("{address} is")).await?;
        Ok(child.map(|(_, index)| index))
    }

    /// The same in a transaction of whoever registers. `child` says which child of which account key it is, where it
    /// was one that was lost.
    pub(in crate::store) async fn import_address_in(
        &self,
        tx: &mut Tx,
        namespace: &NamespaceName,
        (address, child): (Address, Option<(i64, u32)>),
        since: &[(ChainId, u64)],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let namespace_id = namespace_id(tx, namespace).await?;
        let one = NewAddress { namespace: namespace.clone(), address };
        if !owners(tx, &[one]).await?.is_empty() {
            return Err(StoreError::Refused(format!(
                "{address} is registered already; an address belongs to one namespace for ever"
            )));
        }
        let new = [ToBind { address, namespace_id, child }];
        let keys = account_keys(tx, &new).await?;
        let bound = bind(tx, self, &new, &keys, now_ms).await?;
        request_scanned(tx, BackfillKind::Address(address), since, None, now_ms).await?;
        bound.batch.write(tx, self).await
    }

    /// Binds many addresses in one commit, all or none of them. Those that are bound as asked already
    /// are passed over, so that a file can be taken again from its beginning.
    pub async fn import_addresses(
        &self,
        batch: &[NewAddress],
        since: &[(ChainId, u64)],
        now_ms: i64,
    ) -> Result<Imported, StoreError> {
        let lost = LostAddresses::among(&self.db, batch.iter().map(|new| new.address)).await?;
        let mut tx = self.begin_registering().await?;
        let imported = self.import_addresses_in(&mut tx, batch, &lost, since, now_ms).await?;
        Self::commit(tx).await?;
        self.remember("the addresses are").await?;
        Ok(imported)
    }

    /// The same in a transaction of whoever registers.
    pub(in crate::store) async fn import_addresses_in(
        &self,
        tx: &mut Tx,
        batch: &[NewAddress],
        lost: &LostAddresses,
        since: &[(ChainId, u64)],
        now_ms: i64,
    ) -> Result<Imported, StoreError> {
        let namespaces = namespaces(tx, batch).await?;
        let mut owners = owners(tx, batch).await?;
        let mut new: Vec<ToBind> = Vec::new();
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
                    let child = lost.children.get(address).copied();
                    new.push(ToBind { address: *address, namespace_id: *wanted, child });
                }
                Some(owner) if owner == wanted => {}
                Some(_) => refused.push((
                    place,
                    format!("{address} belongs to another namespace, and does so for ever"),
                )),
            }
        }
        if !refused.is_empty() || new.is_empty() {
            let all = Imported::All { new: 0 };
            return Ok(if refused.is_empty() { all } else { Imported::Refused(refused) });
        }
        let count = new.len();
        let keys = account_keys(tx, &new).await?;
        let bound = bind(tx, self, &new, &keys, now_ms).await?;
        let BoundNow { batch, first_id, last_id } = bound;
        if let Some(first) = new.first().map(|one| one.address) {
            let together = BackfillKind::Addresses { first, first_id, last_id };
            request_scanned(tx, together, since, None, now_ms).await?;
        }
        batch.write(tx, self).await?;
        Ok(Imported::All { new: count })
    }
}

/// The account keys of those that are children, by their rows.
async fn account_keys(
    tx: &mut Tx,
    new: &[ToBind],
) -> Result<BTreeMap<i64, AccountXpub>, StoreError> {
    let wallets: BTreeSet<i64> =
        new.iter().filter_map(|one| one.child).map(|(wallet, _)| wallet).collect();
    let keys = wallets.into_iter().map(|wallet| vec![wallet.into()]).collect();
    bulk("SELECT wallet_id, account_xpub FROM wallets WHERE wallet_id {keys}", keys)
        .fetch_all(tx)
        .await?
        .iter()
        .map(|row| {
            let key = AccountXpub::parse(&row.text("wallets", "account_xpub")?)
                .map_err(|e| corrupt("wallets", "account_xpub", &e.to_string()))?;
            Ok((row.int("wallets", "wallet_id")?, key))
        })
        .collect()
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
        .await?
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
        .await?
        .iter()
        .map(|row| {
            Ok((row.address("addresses", "address")?, row.int("addresses", "namespace_id")?))
        })
        .collect()
}
