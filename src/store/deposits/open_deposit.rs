//! A deposit that is not at its end, as it is settled.

use std::collections::BTreeMap;

use alloy::primitives::{B256, TxHash};

use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finality::{Finality, Verify};
use crate::domain::finding::NewFinding;
use crate::domain::ids::{AddressId, BlockRef, ChainId, DepositId, DepositKey, NamespaceId, Shape};
use crate::domain::money::RawAmount;
use crate::domain::pricing::Price;
use crate::domain::receipt_proof::ReceiptProof;
use crate::domain::terms::NoPrice;
use crate::domain::transfer::Sighting;
use crate::store::db::{Row, Tx};
use crate::store::deposits::stages::{stage_of, standings};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

/// A deposit that is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDeposit {
    /// Id.
    pub id: DepositId,
    /// Key.
    pub key: DepositKey,
    /// Our id of its recipient.
    pub address_id: AddressId,
    /// Owner.
    pub namespace: NamespaceId,
    /// Block it stands in.
    pub block: BlockRef,
    /// Time of that block.
    pub block_time_ms: i64,
    /// Its log there.
    pub log_index: u64,
    /// Who showed the log; not known of logs that were recorded before that was noted.
    pub log_provider: Option<String>,
    /// Amount in the log.
    pub raw: RawAmount,
    /// Stage.
    pub stage: Stage,
    /// When that stage was last written or looked at.
    pub updated_at_ms: i64,
    /// The height at which it is due, while it is pending.
    pub due_number: u64,
}

impl OpenDeposit {
    /// Its transaction, and the block that it stands in.
    pub fn in_block(&self) -> (B256, TxHash) {
        (self.block.hash, self.key.tx_hash)
    }

    fn place(&self) -> (B256, u64) {
        (self.block.hash, self.log_index)
    }
}

/// What is recorded of transactions, each in a block, in the order of its logs.
pub type RecordedOf = BTreeMap<(B256, TxHash), Vec<Sighting>>;

/// What made a deposit final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The deposit as it was when decided.
    pub deposit: OpenDeposit,
    /// The rule it satisfied.
    pub policy: Finality,
    /// The canonical tip then.
    pub head: BlockRef,
    /// Who showed the receipt.
    pub receipt_provider: String,
    /// Transfers to us in that receipt.
    pub receipt_transfers: u64,
    /// How the receipt was checked.
    pub verify: Verify,
    /// What proves the receipt, where it was proved.
    pub proof: Option<ReceiptProof>,
}

/// A deposit whose receipts do not say what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The deposit as it was when decided.
    pub deposit: OpenDeposit,
    /// Why it is held.
    pub reason: HoldReason,
    /// What somebody should look at, if this is one.
    pub finding: Option<NewFinding>,
}

/// What pricing said of a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pricing {
    /// The deposit as it was when decided.
    pub deposit: OpenDeposit,
    /// The price, or why there is none.
    pub outcome: Result<Price, NoPrice>,
}

/// The stages of the deposits that stand where they stood when the decision was made.
pub(in crate::store) async fn unmoved(
    tx: &mut Tx,
    deposits: impl Iterator<Item = &OpenDeposit> + Clone,
) -> Result<BTreeMap<DepositId, Stage>, StoreError> {
    let now = standings(tx, deposits.clone().map(|d| d.id)).await?;
    Ok(deposits
        .filter(|d| {
            now.get(&d.id).is_some_and(|now| now.place == d.place() && now.stage == d.stage)
        })
        .map(|d| (d.id, d.stage))
        .collect())
}

pub(in crate::store) fn open_deposit(row: &Row) -> Result<OpenDeposit, StoreError> {
    let chain = ChainId(row.uint("deposits", "chain_id")?);
    let shape = match row.text("deposits", "shape")?.as_str() {
        "transfer" => Shape::Transfer,
        "malformed" => Shape::Malformed,
        _ => return Err(corrupt("deposits", "shape", "not a shape")),
    };
    Ok(OpenDeposit {
        id: DepositId(row.b256("deposits", "deposit_id")?),
        key: DepositKey {
            chain,
            tx_hash: row.b256("deposits", "tx_hash")?,
            token: row.address("deposits", "token")?,
            recipient: row.address("deposits", "recipient")?,
            shape,
            n: row.uint32("deposits", "n")?,
        },
        address_id: AddressId(row.uint32("deposits", "address_id")?),
        namespace: NamespaceId(row.int("deposits", "namespace_id")?),
        block: row.block_ref("deposits")?,
        block_time_ms: row.int("blocks", "block_time_ms")?,
        log_index: row.uint("deposits", "log_index")?,
        log_provider: row.opt_text("sightings", "provider")?,
        raw: row.amount("deposits", "raw_amount")?,
        stage: stage_of(row)?,
        updated_at_ms: row.int("deposits", "updated_at_ms")?,
        due_number: row.uint("deposits", "due_number")?,
    })
}
