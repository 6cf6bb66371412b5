//! Epochs: append-only, stored as the texts that credits name by their hash, each with a record of the house.

use std::collections::BTreeMap;

use crate::domain::journal::{Cause, EpochAdded, JournalId};
use crate::domain::pricing::{Epoch, EpochBook, epoch_hash};
use crate::store::db::query::query;
use crate::store::db::{On, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::ledger::Batch;
use crate::store::rows::corrupt;

impl Store {
    /// The epochs, by their stored texts.
    ///
    /// # Errors
    /// When the database fails or a row is not what was written.
    pub async fn epochs(&self) -> Result<EpochBook, StoreError> {
        stored_epochs(&self.db).await
    }

    /// Stores the configured epochs that are new, and makes sure the others have not changed.
    ///
    /// # Errors
    /// [`StoreError::EpochChanged`] naming the first one that differs, and
    /// [`StoreError::Refused`] for one that is missing or would change the past; nothing is
    /// stored then.
    pub async fn sync_epochs(&self, epochs: &EpochBook, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_adding_epochs().await?;
        let new = new_epochs(&mut tx, epochs).await?;
        if new.is_empty() {
            return Self::abandon(tx).await;
        }
        let mut batch = Batch::of_house(&mut tx, self).await?;
        for (epoch, body) in new {
            let cause = EpochAdded::of(&epoch.id, epoch.starts_at_ms, &body);
            batch.note(&mut tx, JournalId::HOUSE, Cause::EpochAdded(cause), None).await?;
            query(
                "INSERT INTO epochs (epoch_id, starts_at_ms, body, body_hash, recorded_at_ms)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&epoch.id)
            .bind(epoch.starts_at_ms)
            .bind(&body)
            .bind(epoch_hash(&body).to_vec())
            .bind(now_ms)
            .execute(&mut tx)
            .await?;
        }
        self.commit_with(tx, batch).await
    }

    /// Whether [`Store::sync_epochs`] would take these epochs: how many it would store. Writes nothing.
    pub async fn check_epochs(&self, epochs: &EpochBook) -> Result<usize, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let new = new_epochs(&mut tx, epochs).await.map(|new| new.len());
        Self::abandon(tx).await?;
        new
    }
}

/// The epochs, by their stored texts.
pub(in crate::store) async fn stored_epochs(
    on: impl Into<On<'_>>,
) -> Result<EpochBook, StoreError> {
    let rows =
        query("SELECT body, body_hash FROM epochs ORDER BY starts_at_ms").fetch_all(on).await?;
    let mut epochs = Vec::with_capacity(rows.len());
    for row in &rows {
        let body = row.text("epochs", "body")?;
        if epoch_hash(&body) != row.b256("epochs", "body_hash")? {
            return Err(corrupt("epochs", "body", "body_hash is not the hash of body"));
        }
        let epoch = serde_json::from_str(&body);
        epochs.push(epoch.map_err(|e| corrupt("epochs", "body", &e.to_string()))?);
    }
    EpochBook::new(epochs).map_err(|why| corrupt("epochs", "body", &why))
}

/// The configured epochs that are not stored, with their texts, if the others are as they are stored.
async fn new_epochs<'e>(
    tx: &mut Tx,
    epochs: &'e EpochBook,
) -> Result<Vec<(&'e Epoch, String)>, StoreError> {
    let stored = query("SELECT epoch_id, body FROM epochs ORDER BY starts_at_ms")
        .fetch_all(&mut *tx)
        .await?;
    let mut bodies = BTreeMap::new();
    for row in &stored {
        let id = row.text("epochs", "epoch_id")?;
        if !epochs.all().iter().any(|e| e.id == id) {
            return Err(StoreError::Refused(format!(
                "epoch {id:?} is stored and missing in the configuration: epochs are append-only, put it back"
            )));
        }
        bodies.insert(id, row.text("epochs", "body")?);
    }
    let mut new = Vec::new();
    for epoch in epochs.all() {
        let body = epoch.body()?;
        match bodies.remove(&epoch.id) {
            Some(stored) if stored != body => {
                let id = epoch.id.clone();
                return Err(StoreError::EpochChanged { id, stored, configured: body });
            }
            Some(_) => continue,
            None => {}
        }
        let until = epochs.after(epoch).map(|next| next.starts_at_ms);
        if decided_between(tx, epoch.starts_at_ms, until).await? {
            return Err(StoreError::Refused(format!(
                "epoch {:?} is new and would cover deposits that were decided without it: a new epoch must start later",
                epoch.id
            )));
        }
        new.push((epoch, body));
    }
    Ok(new)
}

/// True when a deposit of that time was priced or turned away by the rules of an epoch.
async fn decided_between(
    tx: &mut Tx,
    from_ms: i64,
    until_ms: Option<i64>,
) -> Result<bool, StoreError> {
    let decided = query(
        "SELECT 1 FROM deposits d
         JOIN blocks b ON b.chain_id = d.chain_id AND b.block_hash = d.block_hash
         WHERE b.block_time_ms >= $1 AND ($2 IS NULL OR b.block_time_ms < $2)
           AND (d.stage IN ('priced', 'credited') OR d.reason IN ('not_accepted', 'below_minimum', 'dust', 'no_price',
                             'prices_disagree', 'breaker', 'depegged'))
         LIMIT 1",
    )
    .bind(from_ms)
    .bind(until_ms)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(decided.is_some())
}
