//! Account keys: which one addresses come from now, and how a configured one stands to it.
//!
//! A stored key is the one whose children are the addresses, and stays that: keys that were taken before
//! their place was checked go on as they began.

use crate::domain::wallet::{AccountXpub, WalletError};
use crate::store::db::query::query;
use crate::store::db::{On, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// How a configured key stands to the one in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No address was derived yet: it can become the key in use.
    First,
    /// It is the key in use.
    InUse,
    /// Another one is.
    Another(InUse),
}

/// The key that gave the last address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// It.
    pub key: AccountXpub,
    /// Its next child.
    pub next_index: u32,
}

/// A configured key, and what it means in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key whose children become addresses.
    pub key: AccountXpub,
    /// Its next child.
    pub next_index: u32,
    /// False for a key at another place than the documented one, which gave addresses before that
    /// was checked.
    pub is_documented: bool,
    /// How it stands to the one in use.
    pub standing: Standing,
}

impl KnownKey {
    /// Whether addresses may be derived from it, if the operator says or does not say that it is new.
    ///
    /// # Errors
    /// A sentence that says what it would mean.
    pub fn allows(&self, new_wallet: bool) -> Result<(), String> {
        match (&self.standing, new_wallet) {
            (Standing::First, _) | (Standing::InUse, false) | (Standing::Another(_), true) => {
                Ok(())
            }
            (Standing::InUse, true) => Err(format!(
                "--new-wallet says that wallet.account_xpub is another key than the one in use, and it is the same (fingerprint {}): leave it out, or configure the other key first",
                self.key.fingerprint()
            )),
            (Standing::Another(_), false) => Err(format!(
                "{}. If that is a mistake, put the old key back. If it is meant: topupd address new NAMESPACE --new-wallet",
                self.differs().unwrap_or_default()
            )),
        }
    }

    /// What is said of a key that is not the one in use; `None` for one that is, or is the first.
    pub fn differs(&self) -> Option<String> {
        let Standing::Another(in_use) = &self.standing else { return None };
        let first = |key: &AccountXpub, index| {
            key.address(index).map_or_else(|e| e.to_string(), |a| a.to_checksum(None))
        };
        Some(format!(
            "wallet.account_xpub is another key (fingerprint {}, its address {} is {}) than the one in use (fingerprint {}, its address 0 is {}, {} derived): new addresses would be of the new key alone, those given out stay registered and are credited as before, and what is paid to them can be moved with the old key only",
            self.key.fingerprint(),
            self.next_index,
            first(&self.key, self.next_index),
            in_use.key.fingerprint(),
            first(&in_use.key, 0),
            in_use.next_index
        ))
    }
}

impl Store {
    /// What a configured key means in this database.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for one that no address may come from, or when the database fails.
    pub async fn known_key(&self, configured: &AccountXpub) -> Result<KnownKey, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let known = known_key(&mut tx, configured).await;
        Self::abandon(tx).await?;
        known
    }
}

/// See [`Store::known_key`].
pub(in crate::store) async fn known_key(
    on: &mut Tx,
    configured: &AccountXpub,
) -> Result<KnownKey, StoreError> {
    // As it stands: before there was a rule, addresses came from the children of any key.
    let as_given = next_index(&mut *on, configured).await?;
    let (key, next_index, is_documented) = match (as_given, configured.receiving()) {
        (Some(next), receiving) => {
            (configured.clone(), next, receiving.is_ok_and(|key| key == *configured))
        }
        (None, Ok(key)) => {
            let next = next_index(&mut *on, &key).await?.unwrap_or(0);
            (key, next, true)
        }
        (None, Err(why @ WalletError::Place { .. })) => {
            return Err(StoreError::Refused(format!("wallet.account_xpub {why}")));
        }
        (None, Err(why)) => return Err(StoreError::Refused(format!("wallet.account_xpub: {why}"))),
    };
    // Each wallet's last address: the newest of them says which wallet is in use.
    let newest = query(
        "SELECT w.account_xpub, w.next_index FROM wallets w
         JOIN addresses a ON a.wallet_id = w.wallet_id
          AND a.derivation_index = (SELECT MAX(m.derivation_index) FROM addresses m
                                    WHERE m.wallet_id = w.wallet_id)
         ORDER BY a.address_id DESC LIMIT 1",
    )
    .fetch_optional(&mut *on)
    .await?;
    let standing = match newest {
        None => Standing::First,
        Some(row) => {
            let text = row.text("wallets", "account_xpub")?;
            if text == key.as_str() {
                Standing::InUse
            } else {
                let key = AccountXpub::parse(&text)
                    .map_err(|e| corrupt("wallets", "account_xpub", &e.to_string()))?;
                let next_index = row.uint32("wallets", "next_index")?;
                Standing::Another(InUse { key, next_index })
            }
        }
    };
    Ok(KnownKey { key, next_index, is_documented, standing })
}

async fn next_index(on: impl Into<On<'_>>, key: &AccountXpub) -> Result<Option<u32>, StoreError> {
    query("SELECT next_index FROM wallets WHERE account_xpub = $1")
        .bind(key.as_str())
        .fetch_optional(on)
        .await?
        .map(|row| row.uint32("wallets", "next_index"))
        .transpose()
}
