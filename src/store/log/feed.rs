//! Events get their numbers in the feed: without gaps, in the order in which they were written. And the feed is read.

use alloy::primitives::B256;

use super::state::LogState;
use crate::store::Store;
use crate::store::db::query::query;
use crate::store::db::{Tx, Value, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::corrupt;

const TABLE: &str = "events_new";

/// Gives numbers to up to `most` events. Returns how many there were. One that has a number already was told
/// twice, and tells nothing new.
pub(super) async fn number(
    tx: &mut Tx,
    state: &mut LogState,
    most: i64,
) -> Result<usize, StoreError> {
    let rows = query(
        "SELECT n.position, n.event_id, n.kind, n.namespace_id, n.chain_id, n.subject, n.payload,
                n.at_ms, e.feed_no
         FROM events_new n LEFT JOIN events e ON e.event_id = n.event_id
         ORDER BY n.position LIMIT $1",
    )
    .bind(most)
    .fetch_all(&mut *tx)
    .await?;
    let mut numbered: Vec<Vec<Value>> = Vec::new();
    let mut positions = Vec::with_capacity(rows.len());
    for row in &rows {
        positions.push(vec![row.int(TABLE, "position")?.into()]);
        if row.opt_int("events", "feed_no")?.is_some() {
            continue;
        }
        state.feed_no = state.feed_no.saturating_add(1);
        numbered.push(vec![
            state.incarnation.into(),
            state.feed_no.into(),
            row.bytes(TABLE, "event_id")?.into(),
            row.text(TABLE, "kind")?.into(),
            row.opt_int(TABLE, "namespace_id")?.into(),
            row.opt_int(TABLE, "chain_id")?.into(),
            row.text(TABLE, "subject")?.into(),
            row.text(TABLE, "payload")?.into(),
            row.int(TABLE, "at_ms")?.into(),
        ]);
    }
    bulk(
        "INSERT INTO events (incarnation, feed_no, event_id, kind, namespace_id, chain_id, subject,
           payload, at_ms) {rows}",
        numbered,
    )
    .execute(tx)
    .await?;
    bulk("DELETE FROM events_new WHERE position {keys}", positions).execute(tx).await?;
    Ok(rows.len())
}

/// An event of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEvent {
    /// Its number in this incarnation of the feed.
    pub feed_no: i64,
    /// What tells it apart for ever: who gets it twice, sees that by this.
    pub id: B256,
    /// What happened, such as `deposit.credited`.
    pub kind: String,
    /// The key of what it is about, such as a deposit's id.
    pub subject: String,
    /// What there is to say.
    pub payload: serde_json::Value,
    /// When it happened.
    pub at_ms: i64,
}

impl Store {
    /// Events of the newest incarnation of the feed after this number, in their order.
    pub async fn feed(&self, after: i64, most: i64) -> Result<Vec<FeedEvent>, StoreError> {
        const TABLE: &str = "events";
        query(
            "SELECT e.feed_no, e.event_id, e.kind, e.subject, e.payload, e.at_ms
             FROM events e JOIN log_state l ON l.incarnation = e.incarnation
             WHERE e.feed_no > $1 ORDER BY e.feed_no LIMIT $2",
        )
        .bind(after)
        .bind(most)
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| {
            let payload = row.text(TABLE, "payload")?;
            Ok(FeedEvent {
                feed_no: row.int(TABLE, "feed_no")?,
                id: row.b256(TABLE, "event_id")?,
                kind: row.text(TABLE, "kind")?,
                subject: row.text(TABLE, "subject")?,
                payload: serde_json::from_str(&payload)
                    .map_err(|e| corrupt(TABLE, "payload", &e.to_string()))?,
                at_ms: row.int(TABLE, "at_ms")?,
            })
        })
        .collect()
    }
}
