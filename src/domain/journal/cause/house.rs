//! The causes of the house's records that move nothing: keys, rules, and what people decided.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::domain::act_kind::ActKind;
use crate::domain::acts::ActRow;
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::oracle::policy::policy_hash;
use crate::domain::pricing::epoch_hash;

/// A key from which deposit addresses are derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XpubRegistered {
    /// The extended public key whose children the addresses are (BIP-32).
    pub xpub: String,
    /// Its fingerprint, eight hexadecimal digits.
    pub fingerprint: String,
}

/// A dated pricing rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochAdded {
    /// Its name.
    pub id: String,
    /// In force from this instant, epoch milliseconds.
    pub starts_at_ms: i64,
    /// Its text, as credits name it by its hash.
    pub body: String,
    /// That hash.
    pub hash: B256,
}

impl EpochAdded {
    /// An epoch with its stored text.
    pub fn of(id: &str, starts_at_ms: i64, body: &str) -> Self {
        Self { id: id.to_owned(), starts_at_ms, body: body.to_owned(), hash: epoch_hash(body) }
    }

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        (epoch_hash(&self.body) != self.hash).then_some("hash")
    }
}

/// A policy by which prices are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyAdded {
    /// Its text, as prices name it by its hash.
    pub body: String,
    /// That hash.
    pub hash: B256,
}

impl PolicyAdded {
    /// A policy with its stored text.
    pub fn of(body: &str) -> Self {
        Self { body: body.to_owned(), hash: policy_hash(body) }
    }

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        (policy_hash(&self.body) != self.hash).then_some("hash")
    }
}

/// What an operator decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Its number.
    pub number: i64,
    /// What sort of act.
    pub act: ActKind,
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// The deposit that it is about; none for a latch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit: Option<DepositId>,
    /// Chain of the block that it is about.
    pub chain_id: ChainId,
    /// That block.
    pub block_hash: B256,
    /// Pair, of a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// The price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// Instant of the price that opened a latch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instant_ms: Option<i64>,
    /// The proposal that it approves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<i64>,
    /// The hash of that proposal, as the operator named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_hash: Option<B256>,
    /// The proposal that it withdraws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraws: Option<i64>,
    /// Why a latch was open, or what a release was proposed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latch: Option<String>,
    /// What a correction undoes and gives instead, as its table holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// When.
    pub at_ms: i64,
    /// The hash by which credits and approvals name it.
    pub hash: B256,
}

impl Act {
    /// The cause of a stored act.
    pub fn of(row: &ActRow) -> Self {
        Self {
            number: row.id,
            act: row.kind,
            operator: row.operator.clone(),
            reason: row.reason.clone(),
            deposit: row.deposit,
            chain_id: row.chain,
            block_hash: row.block_hash,
            pair: row.pair.clone(),
            price: row.price.clone(),
            instant_ms: row.instant_ms,
            approves: row.approves,
            approved_hash: row.approved_hash,
            withdraws: row.withdraws,
            latch: row.latch.clone(),
            correction: row.correction.clone(),
            at_ms: row.at_ms,
            hash: row.hash(),
        }
    }

    /// The act as its table holds it.
    pub fn row(&self) -> ActRow {
        ActRow {
            id: self.number,
            kind: self.act,
            operator: self.operator.clone(),
            reason: self.reason.clone(),
            deposit: self.deposit,
            chain: self.chain_id,
            block_hash: self.block_hash,
            pair: self.pair.clone(),
            price: self.price.clone(),
            instant_ms: self.instant_ms,
            approves: self.approves,
            approved_hash: self.approved_hash,
            withdraws: self.withdraws,
            latch: self.latch.clone(),
            correction: self.correction.clone(),
            at_ms: self.at_ms,
        }
    }

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        (self.row().hash() != self.hash).then_some("hash")
    }
}

/// The key that signs the log's checkpoints, which can move nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKey {
    /// The verifier's key, as signed notes write it.
    pub public_key: String,
    /// Origin of the log that it signs.
    pub origin: String,
    /// The key that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The signature by that key which hands over to this one, in base64; none of the first. What is signed:
    /// [`crate::domain::log::history::handover`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The log goes on under a new origin, after a backup was restored or a copy was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogResumed {
    /// The new origin.
    pub origin: String,
    /// The origin before.
    pub before: String,
    /// Why.
    pub reason: String,
    /// The last checkpoint that is known; none where nothing was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// How many records the log had: what it shares with the origin before.
    pub size: u64,
}
