//! What was registered last, as a daemon remembers it: names for the day on which the database has lost them.

use std::collections::{BTreeSet, VecDeque};

use alloy::primitives::Address;
use serde::Serialize;

use crate::store::db::query::query;
use crate::store::db::{Tx, bulk};
use crate::store::errors::StoreError;

/// So many of each are remembered, the newest.
const KEPT: usize = 1_000;
const KEPT_ROWS: i64 = 1_000;

/// The newest addresses and namespaces.
#[derive(Debug, Default)]
pub(in crate::store) struct Recent {
    addresses: VecDeque<Registered>,
    namespaces: VecDeque<(i64, String)>,
    /// When it was read last: what was registered since, nobody remembers.
    read_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Serialize)]
struct Registered {
    id: i64,
    address: Address,
    namespace: String,
    /// Of a derived one.
    derivation_index: Option<i64>,
}

/// What the database does not know any more, in the order in which it was registered: a part of the detail of a finding.
#[derive(Debug, Serialize)]
pub(in crate::store) struct Lost {
    lost_addresses: Vec<Registered>,
    lost_namespaces: Vec<String>,
    /// All that is remembered is lost, and there was more before it.
    more_lost_before: bool,
    remembered_at_ms: Option<i64>,
}

impl Recent {
    /// Reads what is new.
    pub(in crate::store) async fn read(
        &mut self,
        tx: &mut Tx,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let rows = query(
            "SELECT a.address_id, a.address, n.name, a.derivation_index
             FROM addresses a JOIN namespaces n ON n.namespace_id = a.namespace_id
             WHERE a.address_id > $1 ORDER BY a.address_id DESC LIMIT $2",
        )
        .bind(self.addresses.back().map_or(0, |a| a.id))
        .bind(KEPT_ROWS)
        .fetch_all(&mut *tx)
        .await?;
        for row in rows.iter().rev() {
            self.addresses.push_back(Registered {
                id: row.int("addresses", "address_id")?,
                address: row.address("addresses", "address")?,
                namespace: row.text("namespaces", "name")?,
                derivation_index: row.opt_int("addresses", "derivation_index")?,
            });
        }
        let rows = query(
            "SELECT namespace_id, name FROM namespaces WHERE namespace_id > $1
             ORDER BY namespace_id DESC LIMIT $2",
        )
        .bind(self.namespaces.back().map_or(0, |(id, _)| *id))
        .bind(KEPT_ROWS)
        .fetch_all(tx)
        .await?;
        for row in rows.iter().rev() {
            let id = row.int("namespaces", "namespace_id")?;
            self.namespaces.push_back((id, row.text("namespaces", "name")?));
        }
        self.addresses.drain(..self.addresses.len().saturating_sub(KEPT));
        self.namespaces.drain(..self.namespaces.len().saturating_sub(KEPT));
        self.read_at_ms = Some(now_ms);
        Ok(())
    }

    /// What is remembered and is not there.
    pub(in crate::store) async fn lost(&self, tx: &mut Tx) -> Result<Lost, StoreError> {
        let keys = self.addresses.iter().map(|a| vec![a.address.into()]).collect();
        let there: BTreeSet<(Address, i64)> =
            bulk("SELECT address, address_id FROM addresses WHERE address {keys}", keys)
                .fetch_all(&mut *tx)
                .await?
                .iter()
                .map(|row| {
                    Ok((row.address("addresses", "address")?, row.int("addresses", "address_id")?))
                })
                .collect::<Result<_, StoreError>>()?;
        let keys = self.namespaces.iter().map(|(_, name)| vec![name.as_str().into()]).collect();
        let names: BTreeSet<String> = bulk("SELECT name FROM namespaces WHERE name {keys}", keys)
            .fetch_all(tx)
            .await?
            .iter()
            .map(|row| row.text("namespaces", "name"))
            .collect::<Result<_, _>>()?;
        let is_lost = |a: &&Registered| !there.contains(&(a.address, a.id));
        let addresses: Vec<_> = self.addresses.iter().filter(is_lost).cloned().collect();
        let namespaces = self.namespaces.iter().map(|(_, name)| name);
        let namespaces: Vec<_> = namespaces.filter(|n| !names.contains(*n)).cloned().collect();
        Ok(Lost {
            more_lost_before: addresses.len() == KEPT || namespaces.len() == KEPT,
            lost_addresses: addresses,
            lost_namespaces: namespaces,
            remembered_at_ms: self.read_at_ms,
        })
    }

    /// The database is another one now.
    pub(in crate::store) fn forget(&mut self) {
        *self = Self::default();
    }
}
