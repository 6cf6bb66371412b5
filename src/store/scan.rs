//! Commit 1: what one step of the watch task learned, all or nothing.
//!
//! Orphan marks, new canonical blocks, sightings, the stages that follow from them, the scan record
//! and the cursor move in one transaction, which first checks that nobody moved the cursor or the
//! address book since the step looked.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::engine::{Store, StoreError, Tx};
use super::rows::{Cells, amount_bytes, corrupt, to_int};
use crate::domain::chain::{ChainView, Header};
use crate::domain::deposit::{Event, IgnoreReason, Stage, Verdict};
use crate::domain::ids::{AddressId, BlockRef, ChainId, Cursor, DepositId, DepositKey, Shape};
use crate::domain::transfer::{Content, Sighting};

/// A scan record is extended until it spans this many blocks; then a new row starts.
const SCAN_SPAN_MAX: u64 = 1_000;
/// Milliseconds in a day, for the quota of the worthless.
const DAY_MS: i64 = 86_400_000;

/// What the database knows of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// How far it is scanned.
    pub cursor: Cursor,
    /// The newest canonical blocks.
    pub view: ChainView,
}

/// Who looked, where, and how much there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRecord {
    /// First block, inclusive.
    pub from: BlockRef,
    /// Last block, inclusive.
    pub to: BlockRef,
    /// `by_hash` at the head, `by_range` in catch-up.
    pub method: &'static str,
    /// Who answered.
    pub provider: String,
    /// Logs in the answers.
    pub logs_seen: u64,
    /// Logs that concern our addresses.
    pub logs_matched: u64,
}

/// A sighting with what the rules said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightingToStore {
    /// The fact.
    pub sighting: Sighting,
    /// The judgement.
    pub verdict: Verdict,
}

/// One step's findings, decided on `expected` and `book_newest`.
#[derive(Debug, Clone)]
pub struct ScanChange {
    /// Chain.
    pub chain: ChainId,
    /// The cursor the step started from.
    pub expected: Cursor,
    /// The newest address the step knew.
    pub book_newest: AddressId,
    /// No longer canonical.
    pub orphaned: Vec<BlockRef>,
    /// Newly canonical, oldest first; the last one becomes the cursor.
    pub adopted: Vec<Header>,
    /// What was seen in them.
    pub sightings: Vec<SightingToStore>,
    /// The record of the scan.
    pub scan: ScanRecord,
    /// Blocks kept below the cursor.
    pub window: u64,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanOutcome {
    /// It is durable; this many deposits are new or changed.
    Committed {
        /// Deposits that changed.
        deposits: usize,
    },
    /// An address was registered meanwhile: match again.
    StaleBook,
    /// Somebody moved the cursor: look again.
    StaleCursor,
}

impl Store {
    /// The cursor and the newest `window` canonical blocks of a chain.
    ///
    /// # Errors
    /// When the database fails; a failed read is never "fresh".
    pub async fn chain_state(&self, chain: ChainId, window: u64) -> Result<ChainState, StoreError> {
        const DOING: &str = "read the chain's state";
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.reader.begin().await.map_err(StoreError::doing(DOING))?;
        let cursor = sqlx::query(
            "SELECT block_number, block_hash, start_number FROM cursors WHERE chain_id = $1",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
        let Some(cursor) = cursor else {
            return Ok(ChainState { cursor: Cursor::Fresh, view: ChainView::default() });
        };
        let at = cursor.block_ref("cursors")?;
        let floor = to_int(at.number.saturating_sub(window), "block")?;
        let blocks = sqlx::query(
            "SELECT block_number, block_hash FROM blocks
             WHERE chain_id = $1 AND canonical = 1 AND block_number >= $2
             ORDER BY block_number",
        )
        .bind(id)
        .bind(floor)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?
        .iter()
        .map(|row| row.block_ref("blocks"))
        .collect::<Result<Vec<_>, _>>()?;
        let view = ChainView::new(blocks, cursor.uint("cursors", "start_number")?);
        if view.tip() != Some(at) {
            return Err(corrupt("cursors", "block_hash", "the cursor is not the canonical tip"));
        }
        Ok(ChainState { cursor: Cursor::At(at), view })
    }

    /// Commits a step of the watch task.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn commit_scan(
        &self,
        change: &ScanChange,
        now_ms: i64,
    ) -> Result<ScanOutcome, StoreError> {
        const DOING: &str = "commit a scan";
        let chain = to_int(change.chain.0, "chain id")?;
        let mut tx = self.begin().await?;
        if cursor_in(&mut tx, chain).await? != change.expected {
            return Ok(ScanOutcome::StaleCursor);
        }
        if newest_address(&mut tx).await? != change.book_newest {
            return Ok(ScanOutcome::StaleBook);
        }
        for block in &change.orphaned {
            orphan(&mut tx, chain, *block, now_ms).await?;
        }
        for header in &change.adopted {
            sqlx::query(
                "INSERT INTO blocks
                   (chain_id, block_hash, block_number, parent_hash, block_time_ms, canonical)
                 VALUES ($1, $2, $3, $4, $5, 1)
                 ON CONFLICT (chain_id, block_hash) DO UPDATE SET canonical = 1",
            )
            .bind(chain)
            .bind(header.hash.to_vec())
            .bind(to_int(header.number, "block")?)
            .bind(header.parent_hash.to_vec())
            .bind(header.time_ms)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        }
        let deposits =
            record(&mut tx, chain, &change.sightings, change.unlisted_per_day, now_ms).await?;
        if let Some(tip) = change.adopted.last() {
            let start = change.adopted.first().map_or(tip.number, |h| h.number);
            move_cursor(&mut tx, chain, tip.block(), start, now_ms).await?;
            prune(&mut tx, chain, change.expected, tip.number, change.window).await?;
            write_scan(&mut tx, chain, &change.scan, now_ms).await?;
        }
        Self::commit(tx).await?;
        Ok(ScanOutcome::Committed { deposits })
    }

    /// Records sightings of a canonical block that an earlier answer had left out, or orders them
    /// anew. A block that is canonical no more is left alone, and so are transfers whose order a
    /// receipt has settled: a later answer that leaves one out may not move the others.
    ///
    /// # Errors
    /// When the database fails; nothing is written then.
    pub async fn commit_reread(
        &self,
        chain: ChainId,
        block: B256,
        sightings: &[SightingToStore],
        unlisted_per_day: i64,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let chain = to_int(chain.0, "chain id")?;
        let mut tx = self.begin().await?;
        let canonical = sqlx::query(
            "SELECT 1 FROM blocks WHERE chain_id = $1 AND block_hash = $2 AND canonical = 1",
        )
        .bind(chain)
        .bind(block.to_vec())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::doing("read a block"))?
        .is_some();
        if !canonical {
            return Ok(0);
        }
        let settled = settled(&mut tx, chain, block).await?;
        let open: Vec<SightingToStore> = sightings
            .iter()
            .filter(|s| !settled.contains(&DepositKey { n: 0, ..s.sighting.deposit }))
            .cloned()
            .collect();
        let deposits = record(&mut tx, chain, &open, unlisted_per_day, now_ms).await?;
        Self::commit(tx).await?;
        Ok(deposits)
    }
}

/// The keys, with `n` = 0, of the transfers in a block of which at least one went past `Pending`.
async fn settled(tx: &mut Tx, chain: i64, block: B256) -> Result<BTreeSet<DepositKey>, StoreError> {
    sqlx::query(
        "SELECT tx_hash, token, recipient FROM deposits
         WHERE chain_id = $1 AND block_hash = $2 AND shape = 'transfer'
           AND (stage IN ('confirmed', 'priced', 'credited')
                OR (stage = 'held' AND reason NOT IN ('receipt_mismatch', 'receipt_missing')))",
    )
    .bind(chain)
    .bind(block.to_vec())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing("read what is settled"))?
    .iter()
    .map(|row| {
        Ok(DepositKey {
            chain: ChainId(u64::try_from(chain).unwrap_or_default()),
            tx_hash: row.b256("deposits", "tx_hash")?,
            token: row.address("deposits", "token")?,
            recipient: row.address("deposits", "recipient")?,
            shape: Shape::Transfer,
            n: 0,
        })
    })
    .collect()
}

async fn cursor_in(tx: &mut Tx, chain: i64) -> Result<Cursor, StoreError> {
    let row = sqlx::query("SELECT block_number, block_hash FROM cursors WHERE chain_id = $1")
        .bind(chain)
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("read the cursor"))?;
    row.map_or(Ok(Cursor::Fresh), |row| Ok(Cursor::At(row.block_ref("cursors")?)))
}

async fn newest_address(tx: &mut Tx) -> Result<AddressId, StoreError> {
    let newest: Option<i64> = sqlx::query("SELECT MAX(address_id) FROM addresses")
        .fetch_one(&mut **tx)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::doing("read the newest address"))?;
    let newest = u32::try_from(newest.unwrap_or(0))
        .map_err(|_| corrupt("addresses", "address_id", "not an unsigned 32-bit number"))?;
    Ok(AddressId(newest))
}

/// Marks a block orphaned and walks the deposits that stood on it.
async fn orphan(tx: &mut Tx, chain: i64, block: BlockRef, now_ms: i64) -> Result<(), StoreError> {
    const DOING: &str = "orphan a block";
    sqlx::query("UPDATE blocks SET canonical = 0 WHERE chain_id = $1 AND block_hash = $2")
        .bind(chain)
        .bind(block.hash.to_vec())
        .execute(&mut **tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    let rows = sqlx::query(
        "SELECT deposit_id, stage, reason FROM deposits WHERE chain_id = $1 AND block_hash = $2",
    )
    .bind(chain)
    .bind(block.hash.to_vec())
    .fetch_all(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    for row in rows {
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let stage = stage_of(&row)?;
        if stage == Stage::Credited {
            tracing::error!(
                deposit.id = %id, block.number = block.number, block.hash = %block.hash,
                "a credited deposit's block was orphaned: the reorg was deeper than the finality policy"
            );
        }
        set_stage(tx, id, stage, stage.next(Event::Orphaned)?, now_ms).await?;
    }
    Ok(())
}

/// Records sightings and walks their deposits. Returns how many deposits changed.
async fn record(
    tx: &mut Tx,
    chain: i64,
    sightings: &[SightingToStore],
    unlisted_per_day: i64,
    now_ms: i64,
) -> Result<usize, StoreError> {
    let mut namespaces: BTreeMap<AddressId, i64> = BTreeMap::new();
    let mut changed: usize = 0;
    for SightingToStore { sighting, verdict } in sightings {
        let id = sighting.deposit.id();
        let known = sqlx::query(
            "SELECT deposit_id, stage, reason, block_hash, log_index FROM deposits
             WHERE deposit_id = $1",
        )
        .bind(id.0.to_vec())
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::doing("look up a deposit"))?;
        let seen = Event::Seen(*verdict);
        match known {
            None => {
                let worthless = *verdict == Verdict::Ignore(IgnoreReason::UnlistedToken);
                if worthless
                    && !within_quota(tx, sighting.address_id, unlisted_per_day, now_ms).await?
                {
                    continue;
                }
                let namespace = namespace_of(tx, &mut namespaces, sighting.address_id).await?;
                let stage = Stage::Orphaned.next(seen)?;
                insert_deposit(tx, chain, sighting, id, namespace, stage, now_ms).await?;
                changed = changed.saturating_add(1);
            }
            Some(row) => {
                let stage = stage_of(&row)?;
                let same_place = row.b256("deposits", "block_hash")? == sighting.key.block_hash
                    && row.uint("deposits", "log_index")? == sighting.key.log_index;
                // The same log again is no news, unless its block was orphaned meanwhile.
                if !(same_place && stage != Stage::Orphaned) && stage != Stage::Credited {
                    move_deposit(tx, id, sighting, stage, stage.next(seen)?, now_ms).await?;
                    changed = changed.saturating_add(1);
                }
            }
        }
        insert_sighting(tx, chain, sighting, id, now_ms).await?;
    }
    Ok(changed)
}

async fn insert_deposit(
    tx: &mut Tx,
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    namespace_id: i64,
    stage: Stage,
    now_ms: i64,
) -> Result<(), StoreError> {
    let key = &sighting.deposit;
    sqlx::query(
        "INSERT INTO deposits
           (deposit_id, chain_id, tx_hash, token, recipient, shape, n, address_id, namespace_id,
            block_hash, block_number, log_index, raw_amount, stage, reason,
            first_seen_at_ms, updated_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16)",
    )
    .bind(id.0.to_vec())
    .bind(chain)
    .bind(key.tx_hash.to_vec())
    .bind(key.token.to_vec())
    .bind(key.recipient.to_vec())
    .bind(key.shape.as_str())
    .bind(i64::from(key.n))
    .bind(i64::from(sighting.address_id.0))
    .bind(namespace_id)
    .bind(sighting.key.block_hash.to_vec())
    .bind(to_int(sighting.block_number, "block")?)
    .bind(to_int(sighting.key.log_index, "log index")?)
    .bind(amount_bytes(sighting.amount()))
    .bind(stage.as_str())
    .bind(stage.reason())
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("record a deposit"))?;
    Ok(())
}

/// Points a deposit at another sighting: after a reorg its block, log index and amount may differ.
async fn move_deposit(
    tx: &mut Tx,
    id: DepositId,
    sighting: &Sighting,
    from: Stage,
    to: Stage,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE deposits SET block_hash = $2, block_number = $3, log_index = $4, raw_amount = $5
         WHERE deposit_id = $1",
    )
    .bind(id.0.to_vec())
    .bind(sighting.key.block_hash.to_vec())
    .bind(to_int(sighting.block_number, "block")?)
    .bind(to_int(sighting.key.log_index, "log index")?)
    .bind(amount_bytes(sighting.amount()))
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move a deposit"))?;
    set_stage(tx, id, from, to, now_ms).await
}

async fn insert_sighting(
    tx: &mut Tx,
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (sender, amount, malformed, topics, data) = match &sighting.content {
        Content::Transfer { sender, amount } => {
            (Some(sender.to_vec()), Some(amount_bytes(*amount)), None, None, None)
        }
        Content::Malformed { why, topics, data } => {
            let topics = topics.iter().flat_map(|t| t.0).collect::<Vec<u8>>();
            (None, None, Some(why.as_str()), Some(topics), Some(data.to_vec()))
        }
    };
    sqlx::query(
        "INSERT INTO sightings
           (chain_id, block_hash, log_index, block_number, deposit_id, tx_hash, token, recipient,
            sender, raw_amount, malformed, topics, data, seen_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT (chain_id, block_hash, log_index)
           DO UPDATE SET deposit_id = excluded.deposit_id
           WHERE deposit_id <> excluded.deposit_id",
    )
    .bind(chain)
    .bind(sighting.key.block_hash.to_vec())
    .bind(to_int(sighting.key.log_index, "log index")?)
    .bind(to_int(sighting.block_number, "block")?)
    .bind(id.0.to_vec())
    .bind(sighting.deposit.tx_hash.to_vec())
    .bind(sighting.deposit.token.to_vec())
    .bind(sighting.deposit.recipient.to_vec())
    .bind(sender)
    .bind(amount)
    .bind(malformed)
    .bind(topics)
    .bind(data)
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("record a sighting"))?;
    Ok(())
}

/// Takes one from an address's quota for the day, or counts what did not fit.
async fn within_quota(
    tx: &mut Tx,
    address: AddressId,
    per_day: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    const DOING: &str = "count unlisted tokens";
    let day = now_ms.div_euclid(DAY_MS);
    sqlx::query(
        "INSERT INTO unlisted_quota (address_id, day, recorded, dropped) VALUES ($1, $2, 0, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let recorded = sqlx::query(
        "UPDATE unlisted_quota SET recorded = recorded + 1
         WHERE address_id = $1 AND day = $2 AND recorded < $3",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .bind(per_day)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    if recorded.rows_affected() > 0 {
        return Ok(true);
    }
    sqlx::query(
        "UPDATE unlisted_quota SET dropped = dropped + 1 WHERE address_id = $1 AND day = $2",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    Ok(false)
}

async fn namespace_of(
    tx: &mut Tx,
    cache: &mut BTreeMap<AddressId, i64>,
    address: AddressId,
) -> Result<i64, StoreError> {
    if let Some(namespace) = cache.get(&address) {
        return Ok(*namespace);
    }
    let namespace: i64 = sqlx::query("SELECT namespace_id FROM addresses WHERE address_id = $1")
        .bind(i64::from(address.0))
        .fetch_one(&mut **tx)
        .await
        .and_then(|row| row.try_get(0))
        .map_err(StoreError::doing("look up an address"))?;
    cache.insert(address, namespace);
    Ok(namespace)
}

pub(super) fn stage_of(row: &SqliteRow) -> Result<Stage, StoreError> {
    let stage = row.text("deposits", "stage")?;
    let reason = row.opt_text("deposits", "reason")?;
    Stage::parse(&stage, reason.as_deref())
        .ok_or_else(|| corrupt("deposits", "stage", "not a stage with its reason"))
}

/// Writes a stage, unless it is the one that stands there.
pub(super) async fn set_stage(
    tx: &mut Tx,
    id: DepositId,
    from: Stage,
    to: Stage,
    now_ms: i64,
) -> Result<(), StoreError> {
    if from == to {
        return Ok(());
    }
    sqlx::query(
        "UPDATE deposits SET stage = $2, reason = $3, updated_at_ms = $4 WHERE deposit_id = $1",
    )
    .bind(id.0.to_vec())
    .bind(to.as_str())
    .bind(to.reason())
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("change a deposit's stage"))?;
    Ok(())
}

async fn move_cursor(
    tx: &mut Tx,
    chain: i64,
    tip: BlockRef,
    start: u64,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO cursors (chain_id, block_number, block_hash, start_number, updated_at_ms)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (chain_id) DO UPDATE SET block_number = excluded.block_number,
           block_hash = excluded.block_hash, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(chain)
    .bind(to_int(tip.number, "block")?)
    .bind(tip.hash.to_vec())
    .bind(to_int(start, "block")?)
    .bind(now_ms)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("move the cursor"))?;
    Ok(())
}

/// Forgets blocks that have just left the window and hold no sighting. Looks only at the heights
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
    sqlx::query(
        "DELETE FROM blocks WHERE chain_id = $1 AND block_number >= $2 AND block_number < $3
           AND NOT EXISTS (SELECT 1 FROM sightings s WHERE s.chain_id = blocks.chain_id
                           AND s.block_hash = blocks.block_hash)",
    )
    .bind(chain)
    .bind(to_int(from, "block")?)
    .bind(to_int(keep, "block")?)
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing("prune blocks"))?;
    Ok(())
}

/// Extends the newest record when this scan continues it, else starts another.
async fn write_scan(
    tx: &mut Tx,
    chain: i64,
    scan: &ScanRecord,
    now_ms: i64,
) -> Result<(), StoreError> {
    const DOING: &str = "write the scan record";
    let from = to_int(scan.from.number, "block")?;
    let to = to_int(scan.to.number, "block")?;
    let seen = to_int(scan.logs_seen, "number of logs")?;
    let matched = to_int(scan.logs_matched, "number of logs")?;
    let span = to_int(SCAN_SPAN_MAX, "span")?;
    let extended = sqlx::query(
        "UPDATE scans SET to_number = $3, to_hash = $4, ended_at_ms = $7,
           logs_seen = logs_seen + $5, logs_matched = logs_matched + $6
         WHERE scan_id = (SELECT MAX(scan_id) FROM scans WHERE chain_id = $1)
           AND to_number = $2 - 1 AND method = $8 AND provider = $9 AND $3 - from_number < $10",
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
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    if extended.rows_affected() > 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO scans (chain_id, from_number, from_hash, to_number, to_hash, method, provider,
                            logs_seen, logs_matched, started_at_ms, ended_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
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
    .execute(&mut **tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    Ok(())
}
