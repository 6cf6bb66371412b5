//! Commit 1: what one step of the watch task learned, all or nothing.
//!
//! Orphan marks, new canonical blocks, sightings, the stages that follow from them, the scan record
//! and the cursor move in one transaction, which first checks that nobody moved the cursor since the step looked.
//! Addresses may be registered at any time: it takes no lock of theirs (see `newer`).

pub(in crate::store) mod forks;
pub(in crate::store) mod reread;
pub(in crate::store) mod sightings;

use crate::domain::chain::ChainView;
use crate::domain::ids::{AddressId, BlockRef, ChainId, Cursor};
use crate::store::chain::halts::halt_in;
use crate::store::chain::newer::{Known, known, read_again};
use crate::store::chain::outgoing::record_outgoing;
use crate::store::chain::scanned::{ChainState, ScanChange, ScanOutcome, ScanRecord, Seen};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::note_in;
use crate::store::leases::LeasedStore;
use crate::store::registry::registers::same_epochs;
use crate::store::rows::{corrupt, to_int};

pub(in crate::store) use crate::store::chain::scan::forks::{adopt, cut_scans, orphan, orphan_all};
pub(in crate::store) use crate::store::chain::scan::reread::unsettled;
pub(in crate::store) use crate::store::chain::scan::sightings::record;

/// A scan record is extended until it spans this many blocks; then a new row starts.
const SCAN_SPAN_MAX: u64 = 1_000;

impl Store {
    /// The cursor and the newest `window` canonical blocks of a chain.
    ///
    /// # Errors
    /// When the database fails; a failed read is never "fresh".
    pub async fn chain_state(&self, chain: ChainId, window: u64) -> Result<ChainState, StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.db.begin_read().await?;
        let cursor =
            query("SELECT block_number, block_hash, start_number FROM cursors WHERE chain_id = $1")
                .bind(id)
                .fetch_optional(&mut tx)
                .await?;
        let Some(cursor) = cursor else {
            Self::abandon(tx).await?;
            return Ok(ChainState {
                cursor: Cursor::Fresh,
                view: ChainView::default(),
                halted: None,
                has_newer: false,
            });
        };
        let at = cursor.block_ref("cursors")?;
        let floor = to_int(at.number.saturating_sub(window), "block")?;
        let blocks = query(
            "SELECT block_number, block_hash FROM blocks
             WHERE chain_id = $1 AND canonical = 1 AND block_number >= $2
             ORDER BY block_number",
        )
        .bind(id)
        .bind(floor)
        .fetch_all(&mut tx)
        .await?
        .iter()
        .map(|row| row.block_ref("blocks"))
        .collect::<Result<Vec<_>, _>>()?;
        let halted = halt_in(&mut tx, id).await?;
        let book = known(&mut tx, id).await?;
        Self::abandon(tx).await?;
        let view = ChainView::new(blocks, cursor.uint("cursors", "start_number")?);
        if view.tip() != Some(at) {
            return Err(corrupt("cursors", "block_hash", "the cursor is not the canonical tip"));
        }
        Ok(ChainState { cursor: Cursor::At(at), view, halted, has_newer: book.newest > book.known })
    }
}

impl LeasedStore {
    /// Commits a step of the watch task.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] for an answer that cannot be; otherwise when the database fails, or
    /// knows an epoch that this daemon does not. Nothing is written then.
    pub async fn commit_scan(
        &self,
        change: &ScanChange,
        now_ms: i64,
    ) -> Result<ScanOutcome, StoreError> {
        self.scan_step(change, now_ms).await.map_err(StoreError::of_an_answer)
    }

    async fn scan_step(&self, change: &ScanChange, now_ms: i64) -> Result<ScanOutcome, StoreError> {
        let chain = to_int(change.chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        if cursor_in(&mut tx, chain).await? != change.expected {
            Store::abandon(tx).await?;
            return Ok(ScanOutcome::StaleCursor);
        }
        same_epochs(&mut tx, change.epochs).await?;
        let book = known(&mut tx, chain).await?;
        if !change.fits(book) {
            Store::abandon(tx).await?;
            return Ok(ScanOutcome::StaleBook);
        }
        // Under no lock: an address that is registered from here on is noted with where this chain stands, and
        // the next step asks for what this one scans without it.
        let met = Known { newest: change.book_newest, ..book };
        read_again(&mut tx, change.chain, met, now_ms).await?;
        orphan_all(&mut tx, chain, &change.orphaned, now_ms).await?;
        adopt(&mut tx, chain, &change.adopted).await?;
        let seen = Seen {
            sightings: &change.sightings,
            outgoing: &change.outgoing,
            provider: &change.scan.provider,
            overrules: false,
            unlisted_per_day: change.unlisted_per_day,
            findings: &change.findings,
        };
        let (deposits, mut findings) = record(&mut tx, chain, seen, now_ms).await?;
        findings.extend_from_slice(&change.findings);
        findings.extend(record_outgoing(&mut tx, chain, seen, now_ms).await?);
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        if let Some(tip) = change.adopted.last() {
            let start = change.adopted.first().map_or(tip.number, |h| h.number);
            move_cursor(&mut tx, chain, (tip.block(), start), change.book_newest, now_ms).await?;
            prune(&mut tx, chain, change.expected, tip.number, change.window).await?;
            write_scan(&mut tx, chain, &change.scan, now_ms).await?;
        }
        Store::commit(tx).await?;
        noted.say();
        Ok(ScanOutcome::Committed { deposits })
    }
}

pub(in crate::store) async fn cursor_in(tx: &mut Tx, chain: i64) -> Result<Cursor, StoreError> {
    let row = query("SELECT block_number, block_hash FROM cursors WHERE chain_id = $1")
        .bind(chain)
        .fetch_optional(&mut *tx)
        .await?;
    row.map_or(Ok(Cursor::Fresh), |row| Ok(Cursor::At(row.block_ref("cursors")?)))
}

async fn move_cursor(
    tx: &mut Tx,
    chain: i64,
    (tip, start): (BlockRef, u64),
    known: AddressId,
    now_ms: i64,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO cursors (chain_id, block_number, block_hash, start_number, updated_at_ms,
                              known_address_id)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (chain_id) DO UPDATE SET block_number = excluded.block_number,
           block_hash = excluded.block_hash, updated_at_ms = excluded.updated_at_ms,
           known_address_id = excluded.known_address_id",
    )
    .bind(chain)
    .bind(to_int(tip.number, "block")?)
    .bind(tip.hash.to_vec())
    .bind(to_int(start, "block")?)
    .bind(now_ms)
    .bind(i64::from(known.0))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Forgets blocks that have just left the window and hold no transfer to or from us. Looks only at the heights
/// that this step pushed out, so that its cost does not grow with the database.
async fn prune(
    tx: &mut Tx,
    chain: i64,
    before: Cursor,
    tip: u64,
    window: u64,
) -> Result<(), StoreError> {
    let Cursor::At(before) = before else { return Ok(()) };
    let keep = tip.saturating_sub(window);
    let from = before.number.saturating_sub(window.saturating_mul(2)).min(keep);
    query(
        "DELETE FROM blocks WHERE chain_id = $1 AND block_number >= $2 AND block_number < $3
           AND NOT EXISTS (SELECT 1 FROM sightings s WHERE s.chain_id = blocks.chain_id
                           AND s.block_hash = blocks.block_hash)
           AND NOT EXISTS (SELECT 1 FROM outgoing o WHERE o.chain_id = blocks.chain_id
                           AND o.block_hash = blocks.block_hash)",
    )
    .bind(chain)
    .bind(to_int(from, "block")?)
    .bind(to_int(keep, "block")?)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Extends the newest record when this scan continues it, else starts another.
async fn write_scan(
    tx: &mut Tx,
    chain: i64,
    scan: &ScanRecord,
    now_ms: i64,
) -> Result<(), StoreError> {
    let from = to_int(scan.from.number, "block")?;
    let to = to_int(scan.to.number, "block")?;
    let seen = to_int(scan.logs_seen, "number of logs")?;
    let matched = to_int(scan.logs_matched, "number of logs")?;
    let span = to_int(SCAN_SPAN_MAX, "span")?;
    let extended = query(
        "UPDATE scans SET to_number = $3, valid_to = $3, to_hash = $4, ended_at_ms = $7,
           logs_seen = logs_seen + $5, logs_matched = logs_matched + $6
         WHERE scan_id = (SELECT MAX(scan_id) FROM scans WHERE chain_id = $1)
           AND to_number = $2 - 1 AND valid_to = to_number AND method = $8 AND provider = $9
           AND $3 - from_number < $10 AND filter = $11",
    )
    .bind(chain)
    .bind(from)
    .bind(to)
    .bind(scan.to.hash.to_vec())
    .bind(seen)
    .bind(matched)
    .bind(now_ms)
    .bind(scan.method)
    .bind(&scan.provider)
    .bind(span)
    .bind(scan.filter)
    .execute(&mut *tx)
    .await?;
    if extended > 0 {
        return Ok(());
    }
    query(
        "INSERT INTO scans (chain_id, from_number, from_hash, to_number, to_hash, method, provider,
                            logs_seen, logs_matched, started_at_ms, ended_at_ms, valid_to, filter)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $4, $11)",
    )
    .bind(chain)
    .bind(from)
    .bind(scan.from.hash.to_vec())
    .bind(to)
    .bind(scan.to.hash.to_vec())
    .bind(scan.method)
    .bind(&scan.provider)
    .bind(seen)
    .bind(matched)
    .bind(now_ms)
    .bind(scan.filter)
    .execute(&mut *tx)
    .await?;
    Ok(())
}
