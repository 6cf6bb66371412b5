//! Dust, added up once: which sums of a namespace's small payments stand, and which payments a sum
//! counts.
//!
//! A sum counts what stands in a range of places of the chain. What is counted is on hold; it leaves
//! the sum only through [`forget_dust`], in the commit that takes it from its place, or priced, once
//! the sum is enough.

use alloy::primitives::{Address, B256};

use crate::domain::deposit::{Event, HoldReason};
use crate::domain::ids::{ChainId, DepositId, NamespaceId};
use crate::domain::money::RawAmount;
use crate::planted::{Fault, planted};
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::deposits::open_deposit::{OpenDeposit, open_deposit, unmoved};
use crate::store::deposits::settle::select_open;
use crate::store::deposits::stages::set_stages;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::registry::registers::same_epochs;
use crate::store::rows::{amount_bytes, corrupt, to_int};

/// Rows in one page of dust.
const PAGE: i64 = 500;

/// A page of what is under way in these stages.
macro_rules! dust_page {
    ($stages:literal) => {
        select_open!(
            "WHERE d.chain_id = $1 AND ",
            $stages,
            " AND d.namespace_id = $2 AND d.token = $3
               AND (d.block_number, d.log_index) > ($4, $5) AND d.raw_amount < $6
             ORDER BY d.block_number, d.log_index LIMIT $7"
        )
    };
}

/// Whose dust, and of which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dusty {
    /// Owner.
    pub namespace: NamespaceId,
    /// Token.
    pub token: Address,
}

/// A place in the order of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    number: i64,
    index: i64,
}

impl Place {
    /// Before everything.
    pub const START: Self = Self { number: -1, index: -1 };

    /// Where a deposit stands.
    ///
    /// # Errors
    /// For a height that no chain has.
    pub fn of(deposit: &OpenDeposit) -> Result<Self, StoreError> {
        Ok(Self {
            number: to_int(deposit.block.number, "block")?,
            index: to_int(deposit.log_index, "log index")?,
        })
    }
}

/// How far a sum has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumState {
    /// More is counted into it.
    Open,
    /// It reached the minimum.
    Enough,
    /// All of it has a price: it is credited.
    Released,
}

impl SumState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Enough => "enough",
            Self::Released => "released",
        }
    }
}

/// A sum of dust, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSum {
    /// It counts what stands after this place…
    pub from: Place,
    /// …up to this one.
    pub to: Place,
    /// What that is together, while it is open.
    pub sum: RawAmount,
    /// How far it has come.
    pub state: SumState,
    /// Up to here each has a price.
    pub priced: Place,
    /// The hash of the rules it was counted by; `None` when it must be counted anew.
    pub rules: Option<B256>,
}

impl StoredSum {
    /// One that counts nothing yet, from a place on.
    pub const fn open(from: Place, rules: B256) -> Self {
        let (sum, state) = (RawAmount::ZERO, SumState::Open);
        Self { from, to: from, sum, state, priced: from, rules: Some(rules) }
    }
}

impl Store {
    /// The sums of a chain that have something to do besides counting what is new: those that are
    /// enough, or must be counted anew.
    pub async fn busy_dust(&self, chain: ChainId) -> Result<Vec<Dusty>, StoreError> {
        query(
            "SELECT DISTINCT namespace_id, token FROM dust_sums
             WHERE chain_id = $1 AND (state <> 'open' OR rules IS NULL)",
        )
        .bind(to_int(chain.0, "chain id")?)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let namespace = NamespaceId(row.int("dust_sums", "namespace_id")?);
            Ok(Dusty { namespace, token: row.address("dust_sums", "token")? })
        })
        .collect()
    }

    /// The sums of one namespace and token, in the order of the chain.
    pub async fn dust_sums(
        &self,
        chain: ChainId,
        dusty: Dusty,
    ) -> Result<Vec<StoredSum>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let sums = sums_in(&mut tx, to_int(chain.0, "chain id")?, dusty).await?;
        Self::abandon(tx).await?;
        Ok(sums)
    }

    /// A page of what is under way in one namespace and token after a place, below an amount: pending,
    /// or waiting for a price; where `fresh` is asked for, only what no sum counts, as far as its stage
    /// tells.
    pub async fn dust_after(
        &self,
        chain: ChainId,
        dusty: Dusty,
        after: Place,
        below: RawAmount,
        fresh: bool,
    ) -> Result<Vec<OpenDeposit>, StoreError> {
        query(if fresh {
            dust_page!("d.stage IN ('pending', 'confirmed')")
        } else {
            dust_page!(
                "d.stage IN ('pending', 'confirmed', 'priced', 'held')
               AND (d.stage IN ('pending', 'confirmed')
                    OR d.reason IN ('dust', 'no_epoch', 'no_token', 'no_price',
                                    'prices_disagree', 'breaker', 'depegged'))"
            )
        })
        .bind(to_int(chain.0, "chain id")?)
        .bind(dusty.namespace.0)
        .bind(dusty.token)
        .bind(after.number)
        .bind(after.index)
        .bind(amount_bytes(below))
        .bind(PAGE)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(open_deposit)
        .collect()
    }

    /// The sum that is open where a deposit belongs, for people; `None` where it is counted into one
    /// that is enough.
    pub async fn open_sum_of(&self, deposit: DepositId) -> Result<Option<RawAmount>, StoreError> {
        query(
            "SELECT s.sum FROM deposits d
             JOIN dust_sums s ON s.chain_id = d.chain_id AND s.namespace_id = d.namespace_id
                             AND s.token = d.token AND s.state = 'open'
                             AND (d.block_number, d.log_index) > (s.from_number, s.from_index)
             WHERE d.deposit_id = $1",
        )
        .bind(deposit.0)
        .fetch_optional(&self.db)
        .await?
        .map(|row| row.amount("dust_sums", "sum"))
        .transpose()
    }
}

impl LeasedStore {
    /// Puts the sums of a namespace and token in the place of those that it was decided on, and holds
    /// what they count. `looked_at` are the deposits that were counted; where one of them, or a sum,
    /// is not what it was any more, nothing is written, and the answer is false.
    pub async fn commit_dust(
        &self,
        chain: ChainId,
        dusty: Dusty,
        (before, after): (&[StoredSum], &[StoredSum]),
        looked_at: &[OpenDeposit],
        epochs: usize,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let chain = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        same_epochs(&mut tx, epochs).await?;
        let unmoved = unmoved(&mut tx, looked_at.iter()).await?;
        if unmoved.len() != looked_at.len() || sums_in(&mut tx, chain, dusty).await? != before {
            Store::abandon(tx).await?;
            return Ok(false);
        }
        let mut stages = Vec::new();
        for (id, stage) in unmoved {
            if !stage.is_counted_dust() {
                stages.push((id, stage.next(Event::Hold(HoldReason::Dust))?));
            }
        }
        set_stages(&mut tx, &stages, now_ms).await?;
        query("DELETE FROM dust_sums WHERE chain_id = $1 AND namespace_id = $2 AND token = $3")
            .bind(chain)
            .bind(dusty.namespace.0)
            .bind(dusty.token)
            .execute(&mut tx)
            .await?;
        let rows = after
            .iter()
            .map(|s| {
                vec![
                    chain.into(),
                    dusty.namespace.0.into(),
                    dusty.token.into(),
                    s.from.number.into(),
                    s.from.index.into(),
                    s.to.number.into(),
                    s.to.index.into(),
                    amount_bytes(s.sum).into(),
                    s.state.as_str().into(),
                    s.priced.number.into(),
                    s.priced.index.into(),
                    s.rules.map(|hash| hash.to_vec()).into(),
                ]
            })
            .collect();
        bulk(
            "INSERT INTO dust_sums
               (chain_id, namespace_id, token, from_number, from_index, to_number, to_index, sum,
                state, priced_number, priced_index, rules) {rows}",
            rows,
        )
        .execute(&mut tx)
        .await?;
        Store::commit(tx).await?;
        Ok(true)
    }
}

/// What stands in a block leaves its place, or may fall under other terms: a sum that counts some of it,
/// and is not released, is counted anew.
pub(in crate::store) async fn forget_dust(
    tx: &mut Tx,
    chain: i64,
    block: B256,
) -> Result<(), StoreError> {
    if planted(Fault::StaleDust) {
        return Ok(());
    }
    query(
        "UPDATE dust_sums SET rules = NULL
         WHERE state <> 'released' AND (chain_id, namespace_id, token) IN (
           SELECT d.chain_id, d.namespace_id, d.token FROM deposits d
           WHERE d.chain_id = $1 AND d.block_hash = $2 AND d.stage = 'held')",
    )
    .bind(chain)
    .bind(block)
    .execute(tx)
    .await?;
    Ok(())
}

async fn sums_in(tx: &mut Tx, chain: i64, dusty: Dusty) -> Result<Vec<StoredSum>, StoreError> {
    query(
        "SELECT from_number, from_index, to_number, to_index, sum, state, priced_number,
                priced_index, rules
         FROM dust_sums WHERE chain_id = $1 AND namespace_id = $2 AND token = $3
         ORDER BY from_number, from_index, state",
    )
    .bind(chain)
    .bind(dusty.namespace.0)
    .bind(dusty.token)
    .fetch_all(tx)
    .await?
    .iter()
    .map(stored_sum)
    .collect()
}

fn stored_sum(row: &Row) -> Result<StoredSum, StoreError> {
    let state = match row.text("dust_sums", "state")?.as_str() {
        "open" => SumState::Open,
        "enough" => SumState::Enough,
        "released" => SumState::Released,
        _ => return Err(corrupt("dust_sums", "state", "not a state")),
    };
    Ok(StoredSum {
        from: place(row, "from_number", "from_index")?,
        to: place(row, "to_number", "to_index")?,
        sum: row.amount("dust_sums", "sum")?,
        state,
        priced: place(row, "priced_number", "priced_index")?,
        rules: match row.is_null("rules") {
            true => None,
            false => Some(row.b256("dust_sums", "rules")?),
        },
    })
}

fn place(row: &Row, number: &str, index: &str) -> Result<Place, StoreError> {
    Ok(Place { number: row.int("dust_sums", number)?, index: row.int("dust_sums", index)? })
}
