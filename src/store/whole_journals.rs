//! A whole journal, as its owner asks for it: every record in its order, also those that move nothing.

use super::engine::Store;
use super::errors::StoreError;
use super::ledger::records_after;
use crate::domain::journal::{JournalId, Record};
use crate::store::db::query::query;

impl Store {
    /// The next records of a journal behind a place, with their entries: at most so many.
    pub async fn records_of(
        &self,
        journal: JournalId,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Record>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let found = records_after(&mut tx, journal, after, limit).await?;
        Self::abandon(tx).await?;
        Ok(found.into_iter().map(|(record, _)| record).collect())
    }

    /// The name of the namespace that a journal is of; `None` for the house's, and where there is none.
    pub async fn name_of(&self, journal: JournalId) -> Result<Option<String>, StoreError> {
        query("SELECT name FROM namespaces WHERE namespace_id = $1")
            .bind(journal.0)
            .fetch_optional(&self.db)
            .await?
            .map(|row| row.text("namespaces", "name"))
            .transpose()
    }
}
