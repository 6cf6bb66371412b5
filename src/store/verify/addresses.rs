//! Addresses belong to whom the records of their namespace say: of a namespace's addresses, each record
//! binds just those that name it, in the order of their ids.
//!
//! Only what one record binds is in memory at a time.

use std::collections::VecDeque;

use alloy::primitives::Address;

use super::finding::{Findings, Remedy};
use crate::domain::journal::{AddressesBound, JournalId, Origin, addresses_root};
use crate::domain::wallet::AccountXpub;
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::errors::StoreError;

/// Addresses read at a time.
const PAGE: i64 = 1_000;

/// A row of an address.
struct Bound {
    address: Address,
    /// The record that bound it.
    seq: i64,
    /// The word stored.
    origin: String,
    index: Option<u32>,
    wallet: Option<String>,
}

/// The addresses of one namespace, behind the last one that a record bound.
pub(super) struct Addresses {
    journal: JournalId,
    /// The record and the id of the last address that was read.
    after: (i64, i64),
    ahead: VecDeque<Bound>,
    /// The key that was read last, with its fingerprint: most addresses are of one.
    key: Option<(String, String)>,
}

impl Addresses {
    pub(super) const fn of(journal: JournalId) -> Self {
        Self { journal, after: (i64::MIN, 0), ahead: VecDeque::new(), key: None }
    }

    /// The next one, which stays.
    async fn peek(&mut self, tx: &mut Tx) -> Result<Option<&Bound>, StoreError> {
        if self.ahead.is_empty() {
            let rows = query(
                "SELECT a.address_id, a.address, a.record_seq, a.origin, a.derivation_index,
                        w.account_xpub
                 FROM addresses a LEFT JOIN wallets w ON w.wallet_id = a.wallet_id
                 WHERE a.namespace_id = $1 AND (a.record_seq, a.address_id) > ($2, $3)
                 ORDER BY a.record_seq, a.address_id LIMIT $4",
            )
            .bind(self.journal.0)
            .bind(self.after.0)
            .bind(self.after.1)
            .bind(PAGE)
            .fetch_all(tx)
            .await?;
            for row in &rows {
                let seq = row.int("addresses", "record_seq")?;
                self.after = (seq, row.int("addresses", "address_id")?);
                let xpub = row.opt_text("wallets", "account_xpub")?;
                let wallet = xpub.map(|xpub| self.fingerprint(xpub));
                let index = match row.is_null("derivation_index") {
                    true => None,
                    false => Some(row.uint32("addresses", "derivation_index")?),
                };
                let origin = row.text("addresses", "origin")?;
                let address = row.address("addresses", "address")?;
                self.ahead.push_back(Bound { address, seq, origin, index, wallet });
            }
        }
        Ok(self.ahead.front())
    }

    fn fingerprint(&mut self, xpub: String) -> String {
        if let Some((key, fingerprint)) = &self.key
            && *key == xpub
        {
            return fingerprint.clone();
        }
        let fingerprint = match AccountXpub::parse(&xpub) {
            Ok(key) => key.fingerprint(),
            Err(why) => why.to_string(),
        };
        self.key = Some((xpub, fingerprint.clone()));
        fingerprint
    }

    /// The addresses that name a record are those that it binds.
    pub(super) async fn bind(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
        (seq, name): (i64, &str),
        record: &AddressesBound,
    ) -> Result<(), StoreError> {
        let mut addresses = Vec::new();
        let origin = match record.origin {
            Origin::Derived => "derived",
            Origin::Imported => "imported",
        };
        let mut indexes = record.indexes.iter().flat_map(|(first, last)| *first..=*last);
        while self.peek(tx).await?.is_some_and(|bound| bound.seq <= seq) {
            let Some(bound) = self.ahead.pop_front() else { break };
            if bound.seq < seq {
                unbound(found, bound.address);
                continue;
            }
            let claims = [
                (bound.origin == origin, "origin"),
                (bound.index == indexes.next(), "derivation_index"),
                (bound.wallet == record.wallet, "wallet_id"),
            ];
            for (_, column) in claims.iter().filter(|(same, _)| !same) {
                let problem = format!("{column} is not what record {name} says");
                found.add("addresses", bound.address, problem, Remedy::PutBack);
            }
            addresses.push(bound.address);
        }
        let count = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
        if count != record.count || addresses_root(&addresses) != record.root {
            let which = match (addresses.as_slice(), record.address) {
                ([one], _) => one.to_string(),
                (_, Some(one)) => one.to_string(),
                _ => format!("record {name}"),
            };
            let problem = format!(
                "record {name} bound {}, and {count} name it, or others than it bound",
                record.count
            );
            found.add("addresses", which, problem, Remedy::PutBack);
        }
        Ok(())
    }

    /// No address is left that no record bound.
    pub(super) async fn close(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
    ) -> Result<(), StoreError> {
        while self.peek(tx).await?.is_some() {
            let Some(bound) = self.ahead.pop_front() else { break };
            unbound(found, bound.address);
        }
        Ok(())
    }
}

fn unbound(found: &mut Findings, address: Address) {
    found.add("addresses", address, "no record bound it to its namespace", Remedy::NotOurs);
}
