//! Events get their numbers in the feed: without gaps, in the order in which they were written.

use crate::store::db::{Tx, Value, bulk, query};
use crate::store::errors::StoreError;

use super::state::LogState;

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
    .await
    .map_err(StoreError::doing("read events without a number"))?;
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
    .await
    .map_err(StoreError::doing("number events"))?;
    bulk("DELETE FROM events_new WHERE position {keys}", positions)
        .execute(tx)
        .await
        .map_err(StoreError::doing("take events that got a number"))?;
    Ok(rows.len())
}
