//! Deposits as people ask for them: lists, and one with its whole life and evidence.

use alloy::primitives::{Address, B256};

use crate::domain::deposit::{HoldReason, Stage};
use crate::domain::finality::confirmations;
use crate::domain::ids::{AddressId, BlockRef, ChainId, DepositId, NamespaceName};
use crate::domain::journal::Record;
use crate::domain::money::{Nanocredits, RawAmount};
use crate::domain::oracle::reading::PriceInstant;
use crate::store::db::Row;
use crate::store::db::query::query;
use crate::store::deposits::stages::stage_of;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::{record_row, select_records};
use crate::store::rows::to_int;

/// Which deposits to list.
#[derive(Debug, Clone, Default)]
pub struct DepositFilter {
    /// Only of this namespace.
    pub namespace: Option<NamespaceName>,
    /// Only in this stage (by its word, whatever the reason).
    pub stage: Option<String>,
    /// Only of this transaction.
    pub tx: Option<B256>,
    /// Only to this deposit address.
    pub address: Option<Address>,
    /// At most this many, newest first.
    pub limit: i64,
}

/// A deposit, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositRow {
    /// Id.
    pub id: DepositId,
    /// Owner.
    pub namespace: String,
    /// Chain.
    pub chain: ChainId,
    /// Transaction.
    pub tx_hash: B256,
    /// Token contract.
    pub token: Address,
    /// Deposit address.
    pub recipient: Address,
    /// Our id of it.
    pub address_id: AddressId,
    /// Which transfer within the transaction.
    pub n: u32,
    /// Height of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Time of its block.
    pub block_time_ms: i64,
    /// Amount, base units.
    pub raw: RawAmount,
    /// Stage.
    pub stage: Stage,
    /// Confirmations now; 0 when orphaned.
    pub confirmations: u64,
    /// The record of its namespace's journal that credited it, or that undid the credit.
    pub record_seq: Option<i64>,
    /// Credits of its price, when it has one; of its correction, when it was corrected.
    pub credits: Option<Nanocredits>,
    /// First seen.
    pub first_seen_at_ms: i64,
    /// Last changed or looked at.
    pub updated_at_ms: i64,
    /// Since when it stands where it stands, if that was noted.
    pub since_ms: Option<i64>,
}

impl DepositRow {
    /// The block that its price is of.
    pub const fn instant(&self) -> PriceInstant {
        let block = BlockRef { number: self.block_number, hash: self.block_hash };
        PriceInstant { chain: self.chain, block, time_ms: self.block_time_ms }
    }
}

/// An installation in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// How many deposits are in each stage.
    pub stages: Vec<(String, i64)>,
    /// Number of journals: the house's and one of each namespace.
    pub journals: i64,
    /// Number of records in all of them.
    pub records: i64,
    /// Credits that were given, also those that were undone.
    pub credits: i64,
}

/// One sighting of a deposit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightingRow {
    /// Block.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// Its time.
    pub block_time_ms: i64,
    /// True when the block is canonical now.
    pub canonical: bool,
    /// Log within the block.
    pub log_index: u64,
    /// Who paid, by the token's word.
    pub sender: Option<Address>,
    /// How much.
    pub raw: Option<RawAmount>,
    /// What is wrong with the log.
    pub malformed: Option<String>,
    /// When we saw it.
    pub seen_at_ms: i64,
}

/// What made a deposit final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmationRow {
    /// The rule that it satisfied.
    pub policy: String,
    /// The height of the tip then.
    pub head: u64,
    /// Who showed the receipt.
    pub receipt_provider: String,
    /// Transfers to us in that receipt.
    pub receipt_transfers: u64,
    /// How the receipt was checked; not known of old ones.
    pub verify: Option<String>,
    /// The proof of the receipt is kept.
    pub proof_kept: bool,
    /// When.
    pub confirmed_at_ms: i64,
}

/// A deposit with everything behind it, as named values in order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositDetail {
    /// The deposit.
    pub deposit: DepositRow,
    /// All sightings, also in orphaned blocks.
    pub sightings: Vec<SightingRow>,
    /// What made it final.
    pub confirmation: Option<ConfirmationRow>,
    /// What it is worth: epoch, rule, credits per token, time fixed.
    pub price: Option<(String, String, String, i64)>,
    /// The record of its newest credit.
    pub credit: Option<Record>,
}

macro_rules! select_deposit {
    ($conditions:literal) => {
        concat!(
            "SELECT d.deposit_id, n.name, d.chain_id, d.tx_hash, d.token, d.recipient, d.n,
                    d.address_id, d.block_number, d.block_hash, d.log_index, d.raw_amount, d.stage, d.reason,
                    d.record_seq, d.first_seen_at_ms, d.updated_at_ms, d.since_ms,
                    COALESCE(l.amount_nano, r.credits_nano) AS credits_nano, b.block_time_ms, c.block_number AS head_number
             FROM deposits d
             JOIN namespaces n ON n.namespace_id = d.namespace_id
             JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
             LEFT JOIN cursors c ON c.chain_id = d.chain_id
             LEFT JOIN prices r ON r.deposit_id = d.deposit_id AND r.block_hash = d.block_hash
                               AND r.log_index = d.log_index
             LEFT JOIN lots l ON l.journal_id = d.namespace_id AND l.lot_seq = d.record_seq ",
            $conditions
        )
    };
}

impl Store {
    /// Deposits, newest first.
    pub async fn deposits(&self, filter: &DepositFilter) -> Result<Vec<DepositRow>, StoreError> {
        // Each by its own index: that of a transaction begins with the chain, and an address has one
        // owner.
        let found = match (filter.tx, filter.address) {
            (None, None) => query(select_deposit!(
                "WHERE ($1 IS NULL OR n.name = $1) AND ($2 IS NULL OR d.stage = $2)
                 ORDER BY d.first_seen_at_ms DESC, d.block_number DESC, d.log_index DESC LIMIT $3"
            )),
            (Some(_), _) => query(select_deposit!(
                "WHERE d.chain_id IN (SELECT chain_id FROM cursors) AND d.tx_hash = $4
                   AND ($5 IS NULL OR d.recipient = $5)
                   AND ($1 IS NULL OR n.name = $1) AND ($2 IS NULL OR d.stage = $2)
                 ORDER BY d.first_seen_at_ms DESC, d.block_number DESC, d.log_index DESC LIMIT $3"
            )),
            (None, Some(_)) => query(select_deposit!(
                "WHERE d.namespace_id = (SELECT namespace_id FROM addresses WHERE address = $4)
                   AND d.recipient = $4
                   AND ($1 IS NULL OR n.name = $1) AND ($2 IS NULL OR d.stage = $2)
                 ORDER BY d.first_seen_at_ms DESC, d.block_number DESC, d.log_index DESC LIMIT $3"
            )),
        };
        let found = found
            .bind(filter.namespace.as_ref().map(NamespaceName::as_str))
            .bind(filter.stage.as_deref())
            .bind(filter.limit);
        let address = filter.address.map(|address| address.to_vec());
        let found = match filter.tx {
            Some(tx) => found.bind(tx.to_vec()).bind(address),
            None if address.is_some() => found.bind(address),
            None => found,
        };
        found.fetch_all(&self.db).await?.iter().map(deposit_row).collect()
    }

    /// Deposits that stand in a block and are held for this reason, in the order of the block.
    pub async fn held_in(
        &self,
        chain: ChainId,
        block: B256,
        reason: HoldReason,
        limit: i64,
    ) -> Result<Vec<DepositRow>, StoreError> {
        query(select_deposit!(
            "WHERE d.chain_id = $1 AND d.block_hash = $2 AND d.stage = 'held' AND d.reason = $3
             ORDER BY d.log_index LIMIT $4"
        ))
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .bind(reason.as_str())
        .bind(limit)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(deposit_row)
        .collect()
    }

    /// One deposit with its whole life, or `None` when there is no such deposit.
    pub async fn deposit(&self, id: DepositId) -> Result<Option<DepositDetail>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let row = query(select_deposit!("WHERE d.deposit_id = $1"))
            .bind(id.0.to_vec())
            .fetch_optional(&mut tx)
            .await?;
        let Some(row) = row else {
            Self::abandon(tx).await?;
            return Ok(None);
        };
        let deposit = deposit_row(&row)?;
        let log_index = row.int("deposits", "log_index")?;
        let sightings = query(
            "SELECT s.block_hash, s.block_number, b.block_time_ms, b.canonical, s.log_index,
                    s.sender, s.raw_amount, s.malformed, s.seen_at_ms
             FROM sightings s
             JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
             WHERE s.deposit_id = $1 ORDER BY s.seen_at_ms, s.block_number",
        )
        .bind(id.0.to_vec())
        .fetch_all(&mut tx)
        .await?
        .iter()
        .map(sighting_row)
        .collect::<Result<_, _>>()?;
        let confirmation = query(
            "SELECT c.policy, c.head_number, c.receipt_provider, c.receipt_transfers,
                    c.confirmed_at_ms, c.verify, p.receipt_index
             FROM confirmations c
             LEFT JOIN receipt_proofs p ON p.chain_id = $4 AND p.block_hash = c.block_hash
                                       AND p.tx_hash = $5 AND c.verify = 'receipts-root'
             WHERE c.deposit_id = $1 AND c.block_hash = $2 AND c.log_index = $3
             ORDER BY c.reversals DESC LIMIT 1",
        )
        .bind(id.0.to_vec())
        .bind(deposit.block_hash.to_vec())
        .bind(log_index)
        .bind(to_int(deposit.chain.0, "chain id")?)
        .bind(deposit.tx_hash.to_vec())
        .fetch_optional(&mut tx)
        .await?
        .map(|row| {
            Ok::<_, StoreError>(ConfirmationRow {
                policy: row.text("confirmations", "policy")?,
                head: row.uint("confirmations", "head_number")?,
                receipt_provider: row.text("confirmations", "receipt_provider")?,
                receipt_transfers: row.uint("confirmations", "receipt_transfers")?,
                verify: row.opt_text("confirmations", "verify")?,
                proof_kept: !row.is_null("receipt_index"),
                confirmed_at_ms: row.int("confirmations", "confirmed_at_ms")?,
            })
        })
        .transpose()?;
        let price = query(
            "SELECT epoch_id, rule, credits_per_token, priced_at_ms FROM prices
             WHERE deposit_id = $1 AND block_hash = $2 AND log_index = $3",
        )
        .bind(id.0.to_vec())
        .bind(deposit.block_hash.to_vec())
        .bind(log_index)
        .fetch_optional(&mut tx)
        .await?
        .map(|row| {
            Ok::<_, StoreError>((
                row.text("prices", "epoch_id")?,
                row.text("prices", "rule")?,
                row.text("prices", "credits_per_token")?,
                row.int("prices", "priced_at_ms")?,
            ))
        })
        .transpose()?;
        let credit = query(select_records!(
            "JOIN credits k ON k.journal_id = q.journal_id AND k.seq = q.seq
             WHERE k.deposit_id = $1 ORDER BY k.seq DESC LIMIT 1"
        ))
        .bind(id.0.to_vec())
        .fetch_optional(&mut tx)
        .await?
        .map(|row| record_row(&row))
        .transpose()?;
        Self::abandon(tx).await?;
        Ok(Some(DepositDetail { deposit, sightings, confirmation, price, credit }))
    }

    /// How far a chain is scanned, and when that was written; `None` if it never was.
    pub async fn cursor(&self, chain: ChainId) -> Result<Option<(BlockRef, i64)>, StoreError> {
        query("SELECT block_number, block_hash, updated_at_ms FROM cursors WHERE chain_id = $1")
            .bind(to_int(chain.0, "chain id")?)
            .fetch_optional(&self.db)
            .await?
            .map(|row| Ok((row.block_ref("cursors")?, row.int("cursors", "updated_at_ms")?)))
            .transpose()
    }

    /// How many deposits stand where, and where the ledger ends.
    pub async fn status(&self) -> Result<StatusRow, StoreError> {
        // Their numbers have no gaps.
        let count = query(
            "SELECT COUNT(*) AS journals, CAST(SUM(seq) AS BIGINT) AS records,
                    (SELECT COUNT(*) FROM credits) AS credits FROM journals",
        )
        .fetch_one(&self.db)
        .await?;
        let stages =
            query("SELECT stage, COUNT(*) AS deposits FROM deposits GROUP BY stage ORDER BY stage")
                .fetch_all(&self.db)
                .await?
                .iter()
                .map(|row| Ok((row.text("deposits", "stage")?, row.int("deposits", "deposits")?)))
                .collect::<Result<_, StoreError>>()?;
        Ok(StatusRow {
            stages,
            journals: count.int("journals", "journals")?,
            records: count.int("journals", "records")?,
            credits: count.int("credits", "credits")?,
        })
    }
}

fn deposit_row(row: &Row) -> Result<DepositRow, StoreError> {
    let stage = stage_of(row)?;
    let block_number = row.uint("deposits", "block_number")?;
    let head = row.opt_int("cursors", "head_number")?.and_then(|n| u64::try_from(n).ok());
    let depth = head.map_or(0, |head| confirmations(block_number, head));
    Ok(DepositRow {
        id: DepositId(row.b256("deposits", "deposit_id")?),
        namespace: row.text("namespaces", "name")?,
        chain: ChainId(row.uint("deposits", "chain_id")?),
        tx_hash: row.b256("deposits", "tx_hash")?,
        token: row.address("deposits", "token")?,
        recipient: row.address("deposits", "recipient")?,
        address_id: AddressId(row.uint32("deposits", "address_id")?),
        n: row.uint32("deposits", "n")?,
        block_number,
        block_hash: row.b256("deposits", "block_hash")?,
        block_time_ms: row.int("blocks", "block_time_ms")?,
        raw: row.amount("deposits", "raw_amount")?,
        // Its block is gone.
        confirmations: if matches!(stage, Stage::Orphaned | Stage::Reversed) { 0 } else { depth },
        stage,
        record_seq: row.opt_int("deposits", "record_seq")?,
        // What it was worth, nobody has.
        credits: row
            .opt_int("prices", "credits_nano")?
            .filter(|_| !matches!(stage, Stage::Reversed | Stage::Held(HoldReason::Conflict)))
            .map(Nanocredits),
        first_seen_at_ms: row.int("deposits", "first_seen_at_ms")?,
        updated_at_ms: row.int("deposits", "updated_at_ms")?,
        since_ms: row.opt_int("deposits", "since_ms")?,
    })
}

fn sighting_row(row: &Row) -> Result<SightingRow, StoreError> {
    Ok(SightingRow {
        block_hash: row.b256("sightings", "block_hash")?,
        block_number: row.uint("sightings", "block_number")?,
        block_time_ms: row.int("blocks", "block_time_ms")?,
        canonical: row.int("blocks", "canonical")? == 1,
        log_index: row.uint("sightings", "log_index")?,
        sender: row.opt_address("sightings", "sender")?,
        raw: row.opt_amount("sightings", "raw_amount")?,
        malformed: row.opt_text("sightings", "malformed")?,
        seen_at_ms: row.int("sightings", "seen_at_ms")?,
    })
}
