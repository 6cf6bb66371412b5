//! When pending deposits are due: found by an index, so that the many that wait are not read each time
//! for the few that are deep enough.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, TxHash};

use crate::domain::ids::ChainId;
use crate::domain::money::RawAmount;
use crate::store::db::bulk;
use crate::store::db::query::query;
use crate::store::deposits::open_deposit::{OpenDeposit, open_deposit};
use crate::store::deposits::settle::{PAGE, select_open};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// Deposits that are looked at anew in one commit, when the rules changed.
const RENEWED: i64 = 10_000;

/// What a pending deposit is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueBy {
    /// Nobody has looked at it yet; at the height of its block.
    New,
    /// The chain as it is followed; at this height.
    Depth,
    /// The `safe` tag; at the height of its block.
    Safe,
    /// The `finalized` tag; at the height of its block.
    Finalized,
}

impl DueBy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Depth => "depth",
            Self::Safe => "safe",
            Self::Finalized => "finalized",
        }
    }
}

/// The pending payments of one transaction in one block: token and amount of each.
pub type PaidTogether = BTreeMap<(TxHash, B256), Vec<(Address, RawAmount)>>;

impl Store {
    /// A page of a chain's pending deposits that are due at a height or below, after the given one.
    pub async fn due_deposits(
        &self,
        chain: ChainId,
        by: DueBy,
        up_to: u64,
        after: Option<&OpenDeposit>,
    ) -> Result<Vec<OpenDeposit>, StoreError> {
        let (number, id) = match after {
            None => (-1, Vec::new()),
            Some(last) => (to_int(last.due_number, "block")?, last.id.0.to_vec()),
        };
        let sql = select_open!(
            "WHERE d.chain_id = $1 AND d.stage = 'pending' AND d.due_by = $2
               AND d.due_number <= $3 AND (d.due_number, d.deposit_id) > ($4, $5)
             ORDER BY d.due_number, d.deposit_id LIMIT $6"
        );
        query(sql)
            .bind(to_int(chain.0, "chain id")?)
            .bind(by.as_str())
            .bind(i64::try_from(up_to).unwrap_or(i64::MAX))
            .bind(number)
            .bind(id)
            .bind(PAGE)
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(open_deposit)
            .collect()
    }

    /// True when a pending deposit waits for this.
    pub async fn waits_for(&self, chain: ChainId, by: DueBy) -> Result<bool, StoreError> {
        let found = query(
            "SELECT 1 FROM deposits WHERE chain_id = $1 AND stage = 'pending' AND due_by = $2
             LIMIT 1",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(by.as_str())
        .fetch_optional(&self.db)
        .await?;
        Ok(found.is_some())
    }

    /// What is pending of the transactions of these deposits.
    pub async fn paid_together(&self, page: &[OpenDeposit]) -> Result<PaidTogether, StoreError> {
        let txs: BTreeSet<(u64, TxHash)> =
            page.iter().map(|d| (d.key.chain.0, d.key.tx_hash)).collect();
        let rows = txs
            .into_iter()
            .map(|(chain, tx)| Ok(vec![to_int(chain, "chain id")?.into(), tx.into()]))
            .collect::<Result<_, StoreError>>()?;
        let mut tx = self.db.begin_read().await?;
        let found = bulk(
            "SELECT d.tx_hash, d.block_hash, d.token, d.raw_amount FROM {each}
             JOIN deposits d ON d.chain_id = r.column1 AND d.tx_hash = r.column2
             WHERE d.stage = 'pending'",
            rows,
        )
        .fetch_all(&mut tx)
        .await?;
        Self::abandon(tx).await?;
        let mut together = PaidTogether::new();
        for row in found {
            let place = (row.b256("deposits", "tx_hash")?, row.b256("deposits", "block_hash")?);
            let paid = (row.address("deposits", "token")?, row.amount("deposits", "raw_amount")?);
            together.entry(place).or_default().push(paid);
        }
        Ok(together)
    }
}

impl LeasedStore {
    /// Notes when deposits are to be looked at next, of those that stand where they stood.
    pub async fn commit_due(&self, due: &[(OpenDeposit, DueBy, u64)]) -> Result<(), StoreError> {
        if due.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_held().await?;
        let rows = due
            .iter()
            .map(|(deposit, by, number)| {
                let number = i64::try_from(*number).unwrap_or(i64::MAX);
                let block = deposit.block.hash.into();
                vec![deposit.id.0.into(), by.as_str().into(), number.into(), block]
            })
            .collect();
        // The stage in words that no index knows: SQLite would read all that is pending by one.
        bulk(
            "UPDATE deposits SET due_by = r.column2, due_number = r.column3
             FROM ({rows}) AS r
             WHERE deposits.deposit_id = r.column1 AND deposits.block_hash = r.column4
               AND COALESCE(deposits.stage, '') = 'pending'",
            rows,
        )
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await
    }

    /// Has all pending deposits of a chain looked at anew, when they were last looked at by other
    /// rules: they may be due earlier now, or later.
    pub async fn renew_due(&self, chain: ChainId, rules: B256) -> Result<(), StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let known = query("SELECT due_rules FROM cursors WHERE chain_id = $1")
            .bind(id)
            .fetch_optional(&self.db)
            .await?;
        let Some(known) = known else { return Ok(()) };
        if known.opt_bytes("cursors", "due_rules")?.as_deref() == Some(rules.as_slice()) {
            return Ok(());
        }
        loop {
            let mut tx = self.begin_held().await?;
            let renewed = query(
                "UPDATE deposits SET due_by = 'new', due_number = block_number
                 WHERE deposit_id IN (SELECT deposit_id FROM deposits
                   WHERE chain_id = $1 AND stage = 'pending'
                     AND due_by IN ('depth', 'safe', 'finalized') LIMIT $2)",
            )
            .bind(id)
            .bind(RENEWED)
            .execute(&mut tx)
            .await?;
            if renewed == 0 {
                query("UPDATE cursors SET due_rules = $2 WHERE chain_id = $1")
                    .bind(id)
                    .bind(rules)
                    .execute(&mut tx)
                    .await?;
            }
            Store::commit(tx).await?;
            if renewed == 0 {
                return Ok(());
            }
        }
    }
}
