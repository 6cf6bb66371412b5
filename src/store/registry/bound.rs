//! Addresses become a namespace's own: the records that say so, and their rows.
//!
//! Whoever calls this registers, and has made sure that the addresses are nobody's. One record a namespace, and a key
//! of the addresses' own, whatever their number: it holds the root over them, and each row names its record.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;

use crate::domain::ids::AddressId;
use crate::domain::journal::{AddressesBound, Cause, JournalId, XpubRegistered};
use crate::domain::wallet::AccountXpub;
use crate::store::chain::newer::mark;
use crate::store::db::query::query;
use crate::store::db::{Tx, Value, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::{Batch, Taking};
use crate::store::registry::given_out::highest_id;
use crate::store::rows::corrupt;

/// An address that becomes a namespace's own.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct ToBind {
    pub(in crate::store) address: Address,
    pub(in crate::store) namespace_id: i64,
    /// Which child of which account key it is; none where somebody else controls it.
    pub(in crate::store) child: Option<(i64, u32)>,
}

/// What was bound: its records, and the ids of the first and the last address.
pub(in crate::store) struct BoundNow {
    pub(in crate::store) batch: Batch,
    pub(in crate::store) first_id: AddressId,
    pub(in crate::store) last_id: AddressId,
}

/// Binds addresses, which get ids in their order. `keys` are the account keys of those that are children.
pub(in crate::store) async fn bind(
    tx: &mut Tx,
    store: &Store,
    new: &[ToBind],
    keys: &BTreeMap<i64, AccountXpub>,
    now_ms: i64,
) -> Result<BoundNow, StoreError> {
    let fresh = without_addresses(tx, keys).await?;
    let house = (!fresh.is_empty()).then_some(JournalId::HOUSE);
    let journals = new.iter().map(|one| JournalId(one.namespace_id)).chain(house);
    let mut batch = Batch::take(tx, store, journals, Taking::ASecond).await?;
    for key in fresh.iter().filter_map(|wallet| keys.get(wallet)) {
        let (xpub, fingerprint) = (key.as_str().to_owned(), key.fingerprint());
        let cause = Cause::XpubRegistered(XpubRegistered { xpub, fingerprint });
        batch.note(tx, JournalId::HOUSE, cause, None).await?;
    }
    let mut groups: BTreeMap<(i64, Option<i64>), Vec<&ToBind>> = BTreeMap::new();
    for one in new {
        let wallet = one.child.map(|(wallet, _)| wallet);
        groups.entry((one.namespace_id, wallet)).or_default().push(one);
    }
    let mut records: BTreeMap<(i64, Option<i64>), i64> = BTreeMap::new();
    for ((namespace_id, wallet), group) in groups {
        let journal = JournalId(namespace_id);
        let namespace = batch.account(journal)?.row().name.clone();
        let bound = match wallet.map(|wallet| keys.get(&wallet)) {
            None => {
                let addresses: Vec<Address> = group.iter().map(|one| one.address).collect();
                AddressesBound::imported(&namespace, &addresses)
            }
            Some(Some(key)) => {
                let children: Vec<(u32, Address)> =
                    group.iter().filter_map(|one| Some((one.child?.1, one.address))).collect();
                AddressesBound::derived(&namespace, &key.fingerprint(), &children)
            }
            Some(None) => return Err(corrupt("wallets", "account_xpub", "is missing")),
        };
        let place = batch.note(tx, journal, Cause::AddressesBound(bound), None).await?;
        records.insert((namespace_id, wallet), place.seq);
    }
    add_wallets(tx, keys).await?;
    let (first_id, last_id) = insert(tx, new, &records, now_ms).await?;
    mark(tx, (first_id, last_id)).await?;
    Ok(BoundNow { batch, first_id, last_id })
}

/// Those of these account keys that have given no address yet: what is in the house's journal of them comes first.
async fn without_addresses(
    tx: &mut Tx,
    keys: &BTreeMap<i64, AccountXpub>,
) -> Result<BTreeSet<i64>, StoreError> {
    let mut fresh = BTreeSet::new();
    for wallet in keys.keys() {
        let given = query("SELECT 1 AS one FROM addresses WHERE wallet_id = $1 LIMIT 1")
            .bind(*wallet)
            .fetch_optional(&mut *tx)
            .await?;
        if given.is_none() {
            fresh.insert(*wallet);
        }
    }
    Ok(fresh)
}

/// Rows of account keys that are used for the first time.
async fn add_wallets(tx: &mut Tx, keys: &BTreeMap<i64, AccountXpub>) -> Result<(), StoreError> {
    for (wallet, key) in keys {
        query(
            "INSERT INTO wallets (wallet_id, account_xpub, next_index) VALUES ($1, $2, 0)
             ON CONFLICT (account_xpub) DO NOTHING",
        )
        .bind(*wallet)
        .bind(key.as_str())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    new: &[ToBind],
    records: &BTreeMap<(i64, Option<i64>), i64>,
    now_ms: i64,
) -> Result<(AddressId, AddressId), StoreError> {
    let newest = query(highest_id!("addresses", "address_id"))
        .fetch_one(&mut *tx)
        .await?
        .uint32("addresses", "newest")?;
    let full = || StoreError::Refused("no more addresses can be registered".into());
    let mut next = newest;
    let mut rows: Vec<(Address, u32, &ToBind)> = Vec::with_capacity(new.len());
    for one in new {
        next = next.checked_add(1).ok_or_else(full)?;
        rows.push((one.address, next, one));
    }
    // In the order of the index that costs most: each of its pages is written once.
    rows.sort_unstable_by_key(|(address, ..)| *address);
    let rows = rows
        .into_iter()
        .map(|(address, id, one)| {
            let record = records.get(&(one.namespace_id, one.child.map(|(wallet, _)| wallet)));
            let origin = if one.child.is_some() { "derived" } else { "imported" };
            let row: Vec<Value> = vec![
                i64::from(id).into(),
                address.into(),
                one.namespace_id.into(),
                now_ms.into(),
                origin.into(),
                one.child.map(|(wallet, _)| wallet).into(),
                one.child.map(|(_, index)| i64::from(index)).into(),
                record.copied().into(),
            ];
            row
        })
        .collect();
    bulk(
        "INSERT INTO addresses (address_id, address, namespace_id, created_at_ms, origin, wallet_id,
                                derivation_index, record_seq)
         SELECT column1, column2, column3, column4, column5, column6, column7, column8
         FROM ({rows}) AS r",
        rows,
    )
    .execute(tx)
    .await?;
    Ok((AddressId(newest.saturating_add(1)), AddressId(next)))
}
