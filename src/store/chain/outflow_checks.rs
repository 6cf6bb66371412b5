//! What is one provider's word of all that left our addresses, and what others say of it.
//!
//! What follows for deposits is decided where their money's origin is looked at.

use alloy::primitives::Address;

use crate::domain::finding::{FindingKind, NewFinding};
use crate::domain::ids::{AddressId, ChainId, SightingKey};
use crate::domain::transfer::Outgoing;
use crate::store::chain::outgoing::matters;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::note_in;
use crate::store::leases::LeasedStore;
use crate::store::rows::{amount_bytes, to_int};

/// Transfers from one address that are asked about at once.
const DOUBTFUL_MAX: i64 = 64;

/// A transfer from one of our addresses that is one provider's word, or disputed, and matters.
#[derive(Debug, Clone)]
pub struct DoubtfulOutflow {
    /// What is said to have left.
    pub outgoing: Outgoing,
    /// The address.
    pub address: Address,
    /// Somebody else controls it.
    pub imported: bool,
    /// Who showed it.
    pub provider: String,
    /// Two contradict each other about it.
    pub disputed: bool,
}

/// What others say of a transfer that left one of our addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Another one shows it, or a proof.
    Shown,
    /// One against one.
    Disputed,
    /// Two say that there is none, or a proof does.
    Refuted,
}

impl Checked {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Disputed => "disputed",
            Self::Refuted => "refuted",
        }
    }
}

/// What became of a question about a transfer that left one of our addresses.
#[derive(Debug, Clone)]
pub struct OutflowCheck {
    /// What was asked about.
    pub outflow: DoubtfulOutflow,
    /// What follows.
    pub checked: Checked,
    /// Who showed it, or who did not.
    pub said_by: Vec<String>,
}

impl LeasedStore {
    /// What is said to have left an address, and matters, and is not certain; the newest first, and a
    /// bounded number.
    pub async fn doubtful_outflows(
        &self,
        chain: ChainId,
        address: Address,
    ) -> Result<Vec<DoubtfulOutflow>, StoreError> {
        query(concat!(
            "SELECT o.block_hash, o.log_index, o.block_number, o.tx_hash, o.token, o.address_id,
                    o.recipient, o.raw_amount, o.n, o.provider, o.checked, a.origin
             FROM addresses a
             JOIN outgoing o ON o.chain_id = $1 AND o.address_id = a.address_id
             JOIN blocks b ON b.chain_id = o.chain_id AND b.block_hash = o.block_hash
             WHERE a.address = $2 AND b.canonical = 1
               AND (o.checked IS NULL OR o.checked = 'disputed') AND ",
            matters!(),
            " ORDER BY o.block_number DESC, o.log_index LIMIT $3"
        ))
        .bind(to_int(chain.0, "chain id")?)
        .bind(address.to_vec())
        .bind(DOUBTFUL_MAX)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            Ok(DoubtfulOutflow {
                outgoing: Outgoing {
                    key: SightingKey {
                        chain,
                        block_hash: row.b256("outgoing", "block_hash")?,
                        log_index: row.uint("outgoing", "log_index")?,
                    },
                    block_number: row.uint("outgoing", "block_number")?,
                    tx_hash: row.b256("outgoing", "tx_hash")?,
                    token: row.address("outgoing", "token")?,
                    address_id: AddressId(row.uint32("outgoing", "address_id")?),
                    recipient: row.address("outgoing", "recipient")?,
                    amount: row.amount("outgoing", "raw_amount")?,
                    n: row.uint32("outgoing", "n")?,
                },
                address,
                imported: row.text("addresses", "origin")? == "imported",
                provider: row.text("outgoing", "provider")?,
                disputed: row.opt_text("outgoing", "checked")?.is_some(),
            })
        })
        .collect()
    }

    /// Notes what others say of transfers that left our addresses, and what somebody should look at.
    pub async fn commit_outflow_checks(
        &self,
        checks: &[OutflowCheck],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        if checks.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        let mut findings = Vec::new();
        for OutflowCheck { outflow, checked, said_by } in checks {
            let DoubtfulOutflow { outgoing, address, provider, .. } = outflow;
            let chain = outgoing.key.chain;
            query(
                "UPDATE outgoing SET checked = $9, second_provider = $10
                 WHERE chain_id = $1 AND block_hash = $2 AND tx_hash = $3 AND token = $4
                   AND address_id = $5 AND recipient = $6 AND raw_amount = $7 AND n = $8
                   AND COALESCE(checked, '') <> 'shown'",
            )
            .bind(to_int(chain.0, "chain id")?)
            .bind(outgoing.key.block_hash)
            .bind(outgoing.tx_hash)
            .bind(outgoing.token)
            .bind(i64::from(outgoing.address_id.0))
            .bind(outgoing.recipient)
            .bind(amount_bytes(outgoing.amount))
            .bind(i64::from(outgoing.n))
            .bind(checked.as_str())
            .bind(said_by.first().map(String::as_str))
            .execute(&mut tx)
            .await?;
            let detail = serde_json::json!({
                "address": address, "recipient": outgoing.recipient, "token": outgoing.token,
                "raw_amount": outgoing.amount, "tx_hash": outgoing.tx_hash,
                "block_number": outgoing.block_number, "block_hash": outgoing.key.block_hash,
                "log_index": outgoing.key.log_index, "shown_by": provider,
                "checked": checked.as_str(), "said_by": said_by,
            });
            let (kind, subject) = match checked {
                Checked::Refuted => {
                    let key = outgoing.key;
                    let subject = format!("log {} of block {}", key.log_index, key.block_hash);
                    (FindingKind::LogNotShown, format!("{subject}, shown by {provider}"))
                }
                _ if !outflow.imported => continue,
                _ => (FindingKind::OutflowOfImportedAddress, address.to_string()),
            };
            findings.push(NewFinding { chain: Some(chain), kind, subject, detail });
        }
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }
}
