//! What payments that are deep enough wait for, as only the settle task knows it. Written when it
//! changes, in one commit an activation: many may wait for long.

use std::collections::BTreeMap;

use crate::domain::ids::{ChainId, DepositId};
use crate::domain::waiting::Wait;
use crate::store::db::query::query;
use crate::store::db::{Tx, bulk};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::{corrupt, to_int};

/// How long a chain's payments have been waiting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// How many wait though they are deep enough.
    pub payments: usize,
    /// Since when the first of them does.
    pub since_ms: Option<i64>,
    /// When a payment went on last.
    pub went_on_at_ms: Option<i64>,
}

impl Store {
    /// What was noted of these deposits: what each waits for, the failure that was met, and since when it
    /// waits for this.
    pub async fn waits_of(
        &self,
        deposits: impl IntoIterator<Item = DepositId>,
    ) -> Result<BTreeMap<DepositId, (Wait, String, i64)>, StoreError> {
        let ids = deposits.into_iter().map(|id| vec![id.0.into()]).collect();
        let mut tx = self.db.begin_read().await?;
        let rows = bulk(
            "SELECT deposit_id, code, why, COALESCE(code_since_ms, since_ms) AS since_ms
             FROM waits WHERE deposit_id {keys}",
            ids,
        )
        .fetch_all(&mut tx)
        .await?;
        Self::abandon(tx).await?;
        rows.iter()
            .map(|row| {
                let wait = wait_of(&row.text("waits", "code")?)?;
                let noted = (wait, row.text("waits", "why")?, row.int("waits", "since_ms")?);
                Ok((DepositId(row.b256("waits", "deposit_id")?), noted))
            })
            .collect()
    }
}

impl LeasedStore {
    /// Notes what a chain's payments wait for, all of them: who is not among them waits no more. What
    /// is noted already with the same code stays as it is.
    pub async fn commit_waits(
        &self,
        chain: ChainId,
        waits: &BTreeMap<DepositId, (Wait, String)>,
        now_ms: i64,
    ) -> Result<Waits, StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let rows = query("SELECT deposit_id, code, since_ms FROM waits WHERE chain_id = $1")
            .bind(id)
            .fetch_all(&self.db)
            .await?;
        let mut noted: BTreeMap<DepositId, (Wait, i64)> = BTreeMap::new();
        for row in &rows {
            let wait = wait_of(&row.text("waits", "code")?)?;
            let since = row.int("waits", "since_ms")?;
            noted.insert(DepositId(row.b256("waits", "deposit_id")?), (wait, since));
        }
        let over: Vec<_> =
            noted.keys().filter(|id| !waits.contains_key(id)).map(|id| vec![id.0.into()]).collect();
        let new: Vec<_> = waits
            .iter()
            .filter(|(id, (wait, _))| noted.get(id).is_none_or(|(noted, _)| noted != wait))
            .map(|(deposit, (wait, why))| {
                // PostgreSQL takes no NUL in a text.
                let why = why.replace('\0', " ");
                let (wait, since) = (wait.as_str().into(), now_ms.into());
                vec![deposit.0.into(), id.into(), wait, why.into(), since, now_ms.into()]
            })
            .collect();
        if !over.is_empty() || !new.is_empty() {
            let mut tx = self.begin_held().await?;
            for (sql, rows) in [
                ("DELETE FROM waits WHERE deposit_id {keys}", over),
                (
                    "INSERT INTO waits (deposit_id, chain_id, code, why, since_ms, code_since_ms)
                     {rows}
                     ON CONFLICT (deposit_id) DO UPDATE SET code = excluded.code,
                       why = excluded.why, code_since_ms = excluded.code_since_ms",
                    new,
                ),
            ] {
                bulk(sql, rows).execute(&mut tx).await?;
            }
            Store::commit(tx).await?;
        }
        let went_on = query("SELECT went_on_at_ms FROM cursors WHERE chain_id = $1")
            .bind(id)
            .fetch_optional(&self.db)
            .await?;
        let since = |id| noted.get(id).map_or(now_ms, |(_, since)| *since);
        Ok(Waits {
            payments: waits.len(),
            since_ms: waits.keys().map(since).min(),
            went_on_at_ms: went_on
                .map(|row| row.opt_int("cursors", "went_on_at_ms"))
                .transpose()?
                .flatten(),
        })
    }
}

/// Notes that a payment of this chain went on.
pub(in crate::store) async fn went_on_in(
    tx: &mut Tx,
    chain: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    query("UPDATE cursors SET went_on_at_ms = $2 WHERE chain_id = $1")
        .bind(chain)
        .bind(now_ms)
        .execute(tx)
        .await?;
    Ok(())
}

fn wait_of(code: &str) -> Result<Wait, StoreError> {
    Wait::parse(code).ok_or_else(|| corrupt("waits", "code", "not a reason to wait"))
}
