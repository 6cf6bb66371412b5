//! Commit 1: what one step of the watch task learned, all or nothing.
//!
//! Orphan marks, new canonical blocks, sightings, the stages that follow from them, the scan record
//! and the cursor move in one transaction, which first checks that nobody moved the cursor since the step looked.
//! Addresses may be registered at any time: it takes no lock of theirs (see `newer`).

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256};

use super::db::{Tx, Value, bulk, query};
use super::dust::forget_dust;
use super::engine::Store;
use super::errors::StoreError;
use super::events::tell_seen;
use super::findings::{note_in, undisputed};
use super::halts::{Halt, halt_in};
use super::leases::LeasedStore;
use super::newer::{Known, known, read_again};
use super::outgoing::record_outgoing;
use super::registers::same_epochs;
use super::rows::{amount_bytes, corrupt, to_int};
use super::stages::{Standing, set_stages, stage_of, standings};
use crate::domain::chain::{ChainView, Header};
use crate::domain::deposit::{Event, HoldReason, IgnoreReason, Stage, Verdict};
use crate::domain::finding::{FindingKind, NewFinding, of_deposit};
use crate::domain::ids::{AddressId, BlockRef, ChainId, Cursor, DepositId, DepositKey, Shape};
use crate::domain::transfer::{Content, Outgoing, Sighting};
use crate::planted::{Fault, planted};

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
    /// Why the chain stands still until somebody decides, if it does.
    pub halted: Option<Halt>,
    /// Addresses were registered since its last step, or while that was under way.
    pub has_newer: bool,
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
    /// Which logs were asked for: `tokens` or `recipients`.
    pub filter: &'static str,
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
    /// It may be committed where newer ones are there by now: what it scanned without them is read again for
    /// them. Otherwise it is to be matched once more, which costs less.
    pub lags: bool,
    /// How many epochs the sightings were judged by.
    pub epochs: usize,
    /// No longer canonical.
    pub orphaned: Vec<BlockRef>,
    /// Newly canonical, oldest first; the last one becomes the cursor.
    pub adopted: Vec<Header>,
    /// What was seen in them.
    pub sightings: Vec<SightingToStore>,
    /// What left our addresses in them.
    pub outgoing: Vec<Outgoing>,
    /// The record of the scan.
    pub scan: ScanRecord,
    /// Blocks kept below the cursor.
    pub window: u64,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// What somebody should look at.
    pub findings: Vec<NewFinding>,
}

impl ScanChange {
    /// Whether it was matched with the addresses that are there. A book that has more was read from a database
    /// which has gone back since; one that has less than the step before is an old one.
    fn fits(&self, book: Known) -> bool {
        let newest = self.book_newest;
        newest == book.newest || (self.lags && newest < book.newest && newest >= book.known)
    }
}

/// Sightings, and who showed them.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What was seen.
    pub sightings: &'a [SightingToStore],
    /// What left our addresses.
    pub outgoing: &'a [Outgoing],
    /// Who showed it.
    pub provider: &'a str,
    /// Two say so: what one alone had shown at the same places is corrected.
    pub overrules: bool,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// What somebody should look at.
    pub findings: &'a [NewFinding],
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanOutcome {
    /// It is durable; this many deposits are new or changed.
    Committed {
        /// Deposits that changed.
        deposits: usize,
    },
    /// An address was registered meanwhile, or the book is of another time: match again.
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
        let mut tx = self.db.begin_read().await.map_err(StoreError::doing(DOING))?;
        let cursor =
            query("SELECT block_number, block_hash, start_number FROM cursors WHERE chain_id = $1")
                .bind(id)
                .fetch_optional(&mut tx)
                .await
                .map_err(StoreError::doing(DOING))?;
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
        .await
        .map_err(StoreError::doing(DOING))?
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

    /// Corrects the time of a block that one provider had told alone, when two say otherwise, and has
    /// price sources asked anew. What a credit rests on stays. True when it was corrected.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn commit_block_time(
        &self,
        chain: ChainId,
        block: B256,
        time_ms: i64,
        finding: &NewFinding,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin_held().await?;
        let noted = note_in(&mut tx, std::slice::from_ref(finding), now_ms).await?;
        let corrected = query(
            "UPDATE blocks SET block_time_ms = $3
             WHERE chain_id = $1 AND block_hash = $2 AND block_time_ms <> $3
               AND NOT EXISTS (SELECT 1 FROM credits k JOIN deposits d
                                 ON d.deposit_id = k.deposit_id
                               WHERE d.chain_id = $1 AND k.block_hash = $2)",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(block)
        .bind(time_ms)
        .execute(&mut tx)
        .await
        .map_err(StoreError::doing("correct the time of a block"))?;
        if corrected > 0 {
            forget_dust(&mut tx, to_int(chain.0, "chain id")?, block).await?;
        }
        if corrected > 0 && !planted(Fault::StaleQuotes) {
            query("DELETE FROM captures WHERE chain_id = $1 AND block_hash = $2")
                .bind(to_int(chain.0, "chain id")?)
                .bind(block)
                .execute(&mut tx)
                .await
                .map_err(StoreError::doing("correct the time of a block"))?;
        }
        Store::commit(tx).await?;
        noted.say();
        Ok(corrected > 0)
    }

    /// Records sightings of a canonical block that an earlier answer had left out, or orders them
    /// anew. A block that is canonical no more is left alone, and so are transfers whose order a
    /// receipt has settled: a later answer that leaves one out may not move the others.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] for an answer that cannot be; otherwise when the database fails.
    /// Nothing is written then.
    pub async fn commit_reread(
        &self,
        chain: ChainId,
        block: B256,
        seen: Seen<'_>,
        epochs: usize,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        self.reread(chain, block, seen, epochs, now_ms).await.map_err(StoreError::of_an_answer)
    }

    async fn reread(
        &self,
        chain: ChainId,
        block: B256,
        seen: Seen<'_>,
        epochs: usize,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let chain = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        same_epochs(&mut tx, epochs).await?;
        let canonical =
            query("SELECT 1 FROM blocks WHERE chain_id = $1 AND block_hash = $2 AND canonical = 1")
                .bind(chain)
                .bind(block.to_vec())
                .fetch_optional(&mut tx)
                .await
                .map_err(StoreError::doing("read a block"))?
                .is_some();
        if !canonical {
            Store::abandon(tx).await?;
            return Ok(0);
        }
        let open = unsettled(&mut tx, chain, block, seen.sightings).await?;
        let seen = Seen { sightings: &open, ..seen };
        let (deposits, mut findings) = record(&mut tx, chain, seen, now_ms).await?;
        findings.extend_from_slice(seen.findings);
        findings.extend(record_outgoing(&mut tx, chain, seen, now_ms).await?);
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(deposits)
    }
}

/// Those sightings of a block that may be recorded: the order of transfers that a receipt has
/// settled stays, so to those only more can be added, after them.
pub(super) async fn unsettled(
    tx: &mut Tx,
    chain: i64,
    block: B256,
    sightings: &[SightingToStore],
) -> Result<Vec<SightingToStore>, StoreError> {
    let settled = settled(tx, chain, block).await?;
    if settled.is_empty() {
        return Ok(sightings.to_vec());
    }
    let first = |s: &SightingToStore| DepositKey { n: 0, ..s.sighting.deposit };
    let known = standings(tx, sightings.iter().map(|s| s.sighting.deposit.id())).await?;
    let place = |s: &SightingToStore| known.get(&s.sighting.deposit.id()).map(|k| k.place);
    let moved: BTreeSet<DepositKey> = sightings
        .iter()
        .filter(|s| {
            place(s).is_some_and(|p| p != (s.sighting.key.block_hash, s.sighting.key.log_index))
        })
        .map(first)
        .collect();
    let may = |s: &&SightingToStore| {
        !settled.contains(&first(s)) || (place(s).is_none() && !moved.contains(&first(s)))
    };
    Ok(sightings.iter().filter(may).cloned().collect())
}

/// The keys, with `n` = 0, of the transfers in a block of which at least one went past `Pending`.
async fn settled(tx: &mut Tx, chain: i64, block: B256) -> Result<BTreeSet<DepositKey>, StoreError> {
    query(
        "SELECT tx_hash, token, recipient FROM deposits
         WHERE chain_id = $1 AND block_hash = $2 AND shape = 'transfer'
           AND (stage IN ('confirmed', 'priced', 'credited')
                OR (stage = 'held' AND reason NOT IN ('receipt_mismatch', 'receipt_missing',
                                                      'providers_disagree', 'unproved')))",
    )
    .bind(chain)
    .bind(block.to_vec())
    .fetch_all(&mut *tx)
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

pub(super) async fn cursor_in(tx: &mut Tx, chain: i64) -> Result<Cursor, StoreError> {
    let row = query("SELECT block_number, block_hash FROM cursors WHERE chain_id = $1")
        .bind(chain)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::doing("read the cursor"))?;
    row.map_or(Ok(Cursor::Fresh), |row| Ok(Cursor::At(row.block_ref("cursors")?)))
}

/// Makes blocks canonical.
pub(super) async fn adopt(tx: &mut Tx, chain: i64, headers: &[Header]) -> Result<(), StoreError> {
    let moved = at_other_heights(tx, chain, headers).await?;
    let rows = headers
        .iter()
        .map(|header| {
            Ok(vec![
                chain.into(),
                header.hash.into(),
                to_int(header.number, "block")?.into(),
                header.parent_hash.into(),
                header.time_ms.into(),
                1i64.into(),
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    bulk(
        "INSERT INTO blocks
           (chain_id, block_hash, block_number, parent_hash, block_time_ms, canonical) {rows}
         ON CONFLICT (chain_id, block_hash)
           DO UPDATE SET canonical = 1, block_number = excluded.block_number",
        rows,
    )
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing("adopt blocks"))?;
    for block in moved {
        lift(tx, chain, block).await?;
    }
    Ok(())
}

/// What stands in a block stands at its height, also when that had been told wrongly.
async fn lift(tx: &mut Tx, chain: i64, block: BlockRef) -> Result<(), StoreError> {
    for sql in [
        "UPDATE sightings SET block_number = $3 WHERE chain_id = $1 AND block_hash = $2
            AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
                  AND k.block_hash = sightings.block_hash
                  AND k.log_index = sightings.log_index)",
        "UPDATE outgoing SET block_number = $3 WHERE chain_id = $1 AND block_hash = $2",
        "UPDATE deposits SET block_number = $3
          WHERE block_hash = $2 AND deposit_id IN (SELECT s.deposit_id FROM sightings s
                  WHERE s.chain_id = $1 AND s.block_hash = $2)",
    ] {
        query(sql)
            .bind(chain)
            .bind(block.hash)
            .bind(to_int(block.number, "block")?)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing("correct the height of a block"))?;
    }
    Ok(())
}

/// Those of the blocks that are recorded at other heights. One that is canonical at one height is
/// not at another one, too.
async fn at_other_heights(
    tx: &mut Tx,
    chain: i64,
    headers: &[Header],
) -> Result<Vec<BlockRef>, StoreError> {
    let rows = headers
        .iter()
        .map(|h| Ok(vec![chain.into(), h.hash.into(), to_int(h.number, "block")?.into()]))
        .collect::<Result<_, StoreError>>()?;
    let elsewhere = bulk(
        "SELECT b.block_number, b.block_hash, b.canonical, r.column3 AS told FROM {each}
         JOIN blocks b ON b.chain_id = r.column1 AND b.block_hash = r.column2
         WHERE b.block_number <> r.column3",
        rows,
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("adopt blocks"))?;
    let mut moved = Vec::with_capacity(elsewhere.len());
    for row in elsewhere {
        let known = row.block_ref("blocks")?;
        if row.int("blocks", "canonical")? != 0 {
            let why = format!("block {} is the one at height {}", known.hash, known.number);
            return Err(StoreError::Impossible(why));
        }
        moved.push(BlockRef { number: row.uint("blocks", "told")?, hash: known.hash });
    }
    Ok(moved)
}

/// Marks blocks orphaned, newest first, walks the deposits that stood on them, and cuts the scan
/// records that covered them.
pub(super) async fn orphan_all(
    tx: &mut Tx,
    chain: i64,
    blocks: &[BlockRef],
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(lowest) = blocks.iter().map(|b| b.number).min() else { return Ok(()) };
    for block in blocks {
        orphan(tx, chain, *block, now_ms).await?;
    }
    if planted(Fault::UncutScans) {
        return Ok(());
    }
    cut_scans(tx, chain, lowest).await
}

/// From this height on, no scan record covers what is canonical.
pub(super) async fn cut_scans(tx: &mut Tx, chain: i64, height: u64) -> Result<(), StoreError> {
    // A record that lies above as a whole covers nothing: it ends before it begins.
    query(
        "UPDATE scans SET valid_to = CASE WHEN from_number > $2 THEN from_number ELSE $2 END - 1
         WHERE chain_id = $1 AND valid_to >= $2",
    )
    .bind(chain)
    .bind(to_int(height, "block")?)
    .execute(tx)
    .await
    .map_err(StoreError::doing("cut scan records"))?;
    Ok(())
}

/// Marks a block orphaned and walks the deposits that stood on it.
pub(super) async fn orphan(
    tx: &mut Tx,
    chain: i64,
    block: BlockRef,
    now_ms: i64,
) -> Result<(), StoreError> {
    const DOING: &str = "orphan a block";
    query("UPDATE blocks SET canonical = 0 WHERE chain_id = $1 AND block_hash = $2")
        .bind(chain)
        .bind(block.hash.to_vec())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    let rows = query(
        "SELECT deposit_id, stage, reason, namespace_id, record_seq FROM deposits
         WHERE chain_id = $1 AND block_hash = $2",
    )
    .bind(chain)
    .bind(block.hash.to_vec())
    .fetch_all(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let mut stages = Vec::with_capacity(rows.len());
    for row in rows {
        let id = DepositId(row.b256("deposits", "deposit_id")?);
        let stage = stage_of(&row)?;
        if stage == Stage::Credited {
            tracing::error!(
                deposit.id = %id, block.number = block.number, block.hash = %block.hash,
                "a credited deposit's block was orphaned: the reorg was deeper than the finality policy; unless the block comes back, the credit will be reversed"
            );
            if planted(Fault::ForgottenOrphan) {
                continue;
            }
            query(
                "INSERT INTO unfounded (journal_id, seq, chain_id, orphaned_at_ms)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(row.int("deposits", "namespace_id")?)
            .bind(row.int("deposits", "record_seq")?)
            .bind(chain)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::doing(DOING))?;
        }
        let next = stage.next(Event::Orphaned)?;
        if next != stage {
            stages.push((id, next));
        }
    }
    forget_dust(tx, chain, block.hash).await?;
    undisputed(tx, chain, stages.iter().map(|(id, _)| *id), now_ms).await?;
    set_stages(tx, &stages, now_ms).await
}

/// Records sightings and walks their deposits. Returns how many deposits changed, and what somebody
/// should look at.
pub(super) async fn record(
    tx: &mut Tx,
    chain: i64,
    seen: Seen<'_>,
    now_ms: i64,
) -> Result<(usize, Vec<NewFinding>), StoreError> {
    let Seen { sightings, provider, overrules, unlisted_per_day, .. } = seen;
    let mut known = standings(tx, sightings.iter().map(|s| s.sighting.deposit.id())).await?;
    let owners = owners(tx, sightings).await?;
    let taken = taken(tx, chain, sightings, overrules).await?;
    let mut changed: usize = 0;
    let (mut deposits, mut facts, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    let (mut contradicted, mut told) = (Vec::new(), Vec::new());
    for SightingToStore { sighting, verdict } in sightings {
        let id = sighting.deposit.id();
        let place = (sighting.key.block_hash, sighting.key.log_index);
        let seen = Event::Seen(*verdict);
        let taken = taken.contains(&place);
        match known.get(&id).copied() {
            None => {
                let worthless = *verdict == Verdict::Ignore(IgnoreReason::UnlistedToken);
                if worthless
                    && !within_quota(tx, sighting.address_id, unlisted_per_day, now_ms).await?
                {
                    continue;
                }
                let stage = seen_as(Stage::Orphaned, seen, taken)?;
                contradicted.extend(found_taken(chain, sighting, stage, provider));
                let namespace = owner(&owners, sighting)?;
                deposits.push(deposit_row(chain, sighting, id, namespace, stage, now_ms)?);
                told.push(id);
                let raw = sighting.amount();
                known.insert(id, Standing { stage, place, raw, canonical: true });
                changed = changed.saturating_add(1);
            }
            Some(Standing { stage, place: stands, raw, canonical }) => {
                // The same log again is no news, unless its block was orphaned meanwhile, its
                // token was listed, or what it says was corrected.
                let listed = stage == Stage::Ignored(IgnoreReason::UnlistedToken)
                    && *verdict == Verdict::Accept;
                let gone = matches!(stage, Stage::Orphaned | Stage::Reversed);
                let corrected = overrules && raw != sighting.amount();
                let news = stands != place || gone || listed || corrected;
                // One that stands somewhere does not leave it for a place that is another one's.
                let mut stays = stage == Stage::Credited || (taken && !gone && !listed);
                // A transaction is in one block: one's word does not move it to another one.
                let open = stage == Stage::Pending || stage.is_held_for_its_receipt();
                stays |= canonical && stands.0 != place.0 && open && !overrules;
                if news && !stays {
                    let next = seen_as(stage, seen, taken)?;
                    contradicted.extend(found_taken(chain, sighting, next, provider));
                    moved.push((id, sighting, stage, next));
                    told.push(id);
                    let raw = sighting.amount();
                    known.insert(id, Standing { stage: next, place, raw, canonical: true });
                    changed = changed.saturating_add(1);
                }
            }
        }
        if !taken {
            facts.push(sighting_row(chain, sighting, id, provider, now_ms)?);
        }
    }
    bulk(
        "INSERT INTO deposits
           (deposit_id, chain_id, tx_hash, token, recipient, shape, n, address_id, namespace_id,
            block_hash, block_number, log_index, raw_amount, stage, reason,
            first_seen_at_ms, updated_at_ms, due_number) {rows}",
        deposits,
    )
    .execute(tx)
    .await
    .map_err(StoreError::doing("record deposits"))?;
    let ignored = moved.iter().filter(|(.., next)| matches!(next, Stage::Ignored(_)));
    undisputed(tx, chain, ignored.map(|(id, ..)| *id), now_ms).await?;
    for (id, sighting, from, next) in moved {
        move_deposit(tx, id, sighting, from, next, now_ms).await?;
    }
    tell_seen(tx, told.into_iter(), now_ms).await?;
    // What a receipt has confirmed, no later answer moves.
    let insert = if overrules {
        "INSERT INTO sightings
           (chain_id, block_hash, log_index, block_number, deposit_id, tx_hash, token, recipient,
            sender, raw_amount, malformed, topics, data, provider, seen_at_ms) {rows}
         ON CONFLICT (chain_id, block_hash, log_index)
           DO UPDATE SET deposit_id = excluded.deposit_id, tx_hash = excluded.tx_hash,
             token = excluded.token, recipient = excluded.recipient, sender = excluded.sender,
             raw_amount = excluded.raw_amount, malformed = excluded.malformed,
             topics = excluded.topics, data = excluded.data, provider = excluded.provider
           WHERE (sightings.deposit_id <> excluded.deposit_id
              OR sightings.tx_hash <> excluded.tx_hash OR sightings.token <> excluded.token
              OR sightings.recipient <> excluded.recipient
              OR COALESCE(sightings.sender, excluded.tx_hash)
                 <> COALESCE(excluded.sender, excluded.tx_hash)
              OR COALESCE(sightings.raw_amount, excluded.token)
                 <> COALESCE(excluded.raw_amount, excluded.token))
             AND NOT EXISTS (SELECT 1 FROM deposits d WHERE d.deposit_id = sightings.deposit_id
                   AND d.block_hash = sightings.block_hash AND d.log_index = sightings.log_index
                   AND d.stage IN ('confirmed', 'priced', 'credited'))
             AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
                   AND k.block_hash = sightings.block_hash
                   AND k.log_index = sightings.log_index)"
    } else {
        "INSERT INTO sightings
           (chain_id, block_hash, log_index, block_number, deposit_id, tx_hash, token, recipient,
            sender, raw_amount, malformed, topics, data, provider, seen_at_ms) {rows}
         ON CONFLICT (chain_id, block_hash, log_index)
           DO UPDATE SET deposit_id = excluded.deposit_id
           WHERE sightings.deposit_id <> excluded.deposit_id
             AND sightings.tx_hash = excluded.tx_hash
             AND NOT EXISTS (SELECT 1 FROM deposits d WHERE d.deposit_id = sightings.deposit_id
                   AND d.block_hash = sightings.block_hash AND d.log_index = sightings.log_index
                   AND d.stage IN ('confirmed', 'priced', 'credited'))
             AND NOT EXISTS (SELECT 1 FROM credits k WHERE k.deposit_id = sightings.deposit_id
                   AND k.block_hash = sightings.block_hash
                   AND k.log_index = sightings.log_index)"
    };
    bulk(insert, facts).execute(tx).await.map_err(StoreError::doing("record sightings"))?;
    Ok((changed, contradicted))
}

/// The places of sightings at which another transaction's log is recorded: one of the two was never
/// there, or somebody numbers logs in a way of its own. The first stays. Two who say so may put
/// another one in its place once its own deposit is held, because nobody else has it, orphaned, or
/// stands elsewhere.
async fn taken(
    tx: &mut Tx,
    chain: i64,
    sightings: &[SightingToStore],
    overrules: bool,
) -> Result<BTreeSet<(B256, u64)>, StoreError> {
    let rows = sightings
        .iter()
        .map(|SightingToStore { sighting: s, .. }| {
            let log_index = to_int(s.key.log_index, "log index")?;
            let (block, tx_hash) = (s.key.block_hash, s.deposit.tx_hash);
            Ok(vec![chain.into(), block.into(), log_index.into(), tx_hash.into()])
        })
        .collect::<Result<_, StoreError>>()?;
    let mut taken = BTreeSet::new();
    let found = bulk(
        "SELECT s.block_hash, s.log_index, d.stage, d.reason,
                CAST(CASE WHEN d.block_hash = s.block_hash AND d.log_index = s.log_index
                          THEN 1 ELSE 0 END AS BIGINT) AS stands
         FROM {each}
         JOIN sightings s ON s.chain_id = r.column1 AND s.block_hash = r.column2
                         AND s.log_index = r.column3
         JOIN deposits d ON d.deposit_id = s.deposit_id
         WHERE s.tx_hash <> r.column4",
        rows,
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("look for other transactions"))?;
    for row in found {
        let stage = stage_of(&row)?;
        let stands = row.int("deposits", "stands")? == 1;
        let disowned = !stands || stage == Stage::Orphaned || stage.is_held_for_its_receipt();
        if !(overrules && disowned) {
            taken.insert((
                row.b256("sightings", "block_hash")?,
                row.uint("sightings", "log_index")?,
            ));
        }
    }
    Ok(taken)
}

/// The stage of a deposit that was seen. In a place that is another transaction's it is not pending:
/// its own log is not recorded, and what two say of it must come first.
fn seen_as(stage: Stage, seen: Event, taken: bool) -> Result<Stage, StoreError> {
    let next = stage.next(seen)?;
    if taken && next == Stage::Pending {
        return Ok(next.next(Event::Hold(HoldReason::ProvidersDisagree))?);
    }
    Ok(next)
}

/// What to say of a deposit whose place another transaction has: nothing else tells of it, before its
/// receipts are compared.
fn found_taken(
    chain: i64,
    sighting: &Sighting,
    stage: Stage,
    provider: &str,
) -> Option<NewFinding> {
    let is_held = stage == Stage::Held(HoldReason::ProvidersDisagree);
    is_held.then(|| NewFinding {
        chain: u64::try_from(chain).ok().map(ChainId),
        kind: FindingKind::ProvidersDisagree,
        subject: of_deposit(sighting.deposit.id()),
        detail: serde_json::json!({
            "tx_hash": sighting.deposit.tx_hash, "block_hash": sighting.key.block_hash,
            "log_index": sighting.key.log_index, "provider": provider,
            "why": "another transaction is recorded at the same place",
        }),
    })
}

fn deposit_row(
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    namespace_id: i64,
    stage: Stage,
    now_ms: i64,
) -> Result<Vec<Value>, StoreError> {
    let key = &sighting.deposit;
    Ok(vec![
        id.0.into(),
        chain.into(),
        key.tx_hash.into(),
        key.token.into(),
        key.recipient.into(),
        key.shape.as_str().into(),
        i64::from(key.n).into(),
        i64::from(sighting.address_id.0).into(),
        namespace_id.into(),
        sighting.key.block_hash.into(),
        to_int(sighting.block_number, "block")?.into(),
        to_int(sighting.key.log_index, "log index")?.into(),
        amount_bytes(sighting.amount()).into(),
        stage.as_str().into(),
        stage.reason().into(),
        now_ms.into(),
        now_ms.into(),
        to_int(sighting.block_number, "block")?.into(),
    ])
}

fn sighting_row(
    chain: i64,
    sighting: &Sighting,
    id: DepositId,
    provider: &str,
    now_ms: i64,
) -> Result<Vec<Value>, StoreError> {
    let (sender, amount, malformed, topics, data) = match &sighting.content {
        Content::Transfer { sender, amount } => {
            (Some(sender.to_vec()), Some(amount_bytes(*amount)), None, None, None)
        }
        Content::Malformed { why, topics, data } => {
            let topics = topics.iter().flat_map(|t| t.0).collect::<Vec<u8>>();
            (None, None, Some(why.as_str()), Some(topics), Some(data.to_vec()))
        }
    };
    Ok(vec![
        chain.into(),
        sighting.key.block_hash.into(),
        to_int(sighting.key.log_index, "log index")?.into(),
        to_int(sighting.block_number, "block")?.into(),
        id.0.into(),
        sighting.deposit.tx_hash.into(),
        sighting.deposit.token.into(),
        sighting.deposit.recipient.into(),
        sender.into(),
        amount.into(),
        malformed.into(),
        topics.into(),
        data.into(),
        provider.into(),
        now_ms.into(),
    ])
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
    query(
        "UPDATE deposits SET block_hash = $2, block_number = $3, log_index = $4, raw_amount = $5,
           stage = $6, reason = $7, updated_at_ms = COALESCE($8, updated_at_ms),
           record_seq = NULL, due_by = 'new', due_number = $3
         WHERE deposit_id = $1",
    )
    .bind(id.0)
    .bind(sighting.key.block_hash)
    .bind(to_int(sighting.block_number, "block")?)
    .bind(to_int(sighting.key.log_index, "log index")?)
    .bind(amount_bytes(sighting.amount()))
    .bind(to.as_str())
    .bind(to.reason())
    // How long it has been pending counts from when it became so.
    .bind((from != to).then_some(now_ms))
    .execute(tx)
    .await
    .map_err(StoreError::doing("move a deposit"))?;
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
    query(
        "INSERT INTO unlisted_quota (address_id, day, recorded, dropped) VALUES ($1, $2, 0, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    let recorded = query(
        "UPDATE unlisted_quota SET recorded = recorded + 1
         WHERE address_id = $1 AND day = $2 AND recorded < $3",
    )
    .bind(i64::from(address.0))
    .bind(day)
    .bind(per_day)
    .execute(&mut *tx)
    .await
    .map_err(StoreError::doing(DOING))?;
    if recorded > 0 {
        return Ok(true);
    }
    query("UPDATE unlisted_quota SET dropped = dropped + 1 WHERE address_id = $1 AND day = $2")
        .bind(i64::from(address.0))
        .bind(day)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::doing(DOING))?;
    Ok(false)
}

/// Whose an address is: it, and its namespace.
type Owners = BTreeMap<AddressId, (Address, i64)>;

/// The namespace that is paid. An id is no proof of it: whoever read the book read it from a database that
/// may have gone back since.
fn owner(owners: &Owners, paid: &Sighting) -> Result<i64, StoreError> {
    let (id, recipient) = (paid.address_id, paid.deposit.recipient);
    match owners.get(&id) {
        Some((address, namespace)) if *address == recipient => Ok(*namespace),
        _ => Err(StoreError::WentBack(format!(
            "address {recipient} (id {}) is missing, or another one",
            id.0
        ))),
    }
}

/// The owners of the addresses that were paid.
async fn owners(tx: &mut Tx, sightings: &[SightingToStore]) -> Result<Owners, StoreError> {
    let ids: BTreeSet<AddressId> = sightings.iter().map(|s| s.sighting.address_id).collect();
    bulk(
        "SELECT address_id, address, namespace_id FROM addresses WHERE address_id {keys}",
        ids.into_iter().map(|id| vec![i64::from(id.0).into()]).collect(),
    )
    .fetch_all(tx)
    .await
    .map_err(StoreError::doing("look up addresses"))?
    .iter()
    .map(|row| {
        let id = AddressId(row.uint32("addresses", "address_id")?);
        Ok((id, (row.address("addresses", "address")?, row.int("addresses", "namespace_id")?)))
    })
    .collect()
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
    .await
    .map_err(StoreError::doing("move the cursor"))?;
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
    .await
    .map_err(StoreError::doing(DOING))?;
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
    .await
    .map_err(StoreError::doing(DOING))?;
    Ok(())
}
