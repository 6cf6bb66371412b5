//! Commit what a second look found: sightings that were missed, with the progress of whoever
//! looked, be it the second pass over a scan record or a backfill.

use std::collections::BTreeMap;

use alloy::primitives::B256;

use crate::domain::chain::Header;
use crate::domain::deposit::{Event, Verdict};
use crate::domain::finding::{Gone, NewFinding};
use crate::domain::ids::{AddressId, BlockRef, ChainId, Cursor, DepositId};
use crate::domain::transfer::{Content, Outgoing, Sighting};
use crate::planted::{Fault, planted};
use crate::store::chain::backfills::{Backfill, BackfillKind, request};
use crate::store::chain::coverage::ScanRow;
use crate::store::chain::outgoing::record_outgoing;
use crate::store::chain::scan::{adopt, cursor_in, orphan, record, unsettled};
use crate::store::chain::scanned::{Seen, SightingToStore};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::deposits::stages::{set_stages, stage_of};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::{gone_in, note_in};
use crate::store::leases::LeasedStore;
use crate::store::registry::registers::{newest_address, same_epochs};
use crate::store::rows::{amount_bytes, to_int};

/// Whose progress a second look moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Nobody's: another look at the same blocks follows.
    None,
    /// The second pass over a scan record.
    Recheck(&'a ScanRow),
    /// Backfills that go on from the same block.
    Backfill(&'a [Backfill]),
}

/// What a second look found, and how far it went.
#[derive(Debug, Clone)]
pub struct SecondLook<'a> {
    /// Chain.
    pub chain: ChainId,
    /// Whose progress it is, as it was when the look began.
    pub progress: Progress<'a>,
    /// The last block looked at.
    pub to: u64,
    /// Headers of the blocks that hold sightings.
    pub headers: Vec<Header>,
    /// What was seen in them.
    pub sightings: Vec<SightingToStore>,
    /// What left our addresses in them.
    pub outgoing: Vec<Outgoing>,
    /// Logs in the answers.
    pub logs_seen: u64,
    /// Who answered.
    pub provider: String,
    /// How many epochs the sightings were judged by.
    pub epochs: usize,
    /// The newest address that was looked for.
    pub book_newest: AddressId,
    /// Transfers of unlisted tokens recorded per address and day.
    pub unlisted_per_day: i64,
    /// What somebody should look at.
    pub findings: Vec<NewFinding>,
}

/// What became of a second look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookOutcome {
    /// It is durable; this many deposits are new or changed.
    Committed {
        /// Deposits that changed.
        deposits: usize,
    },
    /// The progress or the address book moved meanwhile: look again.
    Stale,
    /// Another block is recorded at this height. One that was recorded on the word of a log alone,
    /// far below the tip, nobody has compared since.
    Contradicts {
        /// The block recorded.
        recorded: BlockRef,
        /// The one that was shown now.
        shown: Box<Header>,
    },
}

impl LeasedStore {
    /// Records what a second look found, with its progress.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] for an answer that cannot be; otherwise when the database fails.
    /// Nothing is written then.
    pub async fn commit_second_look(
        &self,
        look: &SecondLook<'_>,
        now_ms: i64,
    ) -> Result<LookOutcome, StoreError> {
        self.second_look(look, now_ms).await.map_err(StoreError::of_an_answer)
    }

    async fn second_look(
        &self,
        look: &SecondLook<'_>,
        now_ms: i64,
    ) -> Result<LookOutcome, StoreError> {
        let chain = to_int(look.chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        same_epochs(&mut tx, look.epochs).await?;
        // Addresses that were registered since its book was read are not missed: what was scanned before is older
        // than they are, and what they need of it is asked for, and read from two, by itself. Those of a book
        // that are not there any more are another matter.
        if newest_address(&mut tx).await? < look.book_newest {
            Store::abandon(tx).await?;
            return Ok(LookOutcome::Stale);
        }
        if let Some(outcome) = contradiction(&mut tx, chain, look.to, &look.headers).await? {
            Store::abandon(tx).await?;
            return Ok(outcome);
        }
        for sighting in &look.sightings {
            let time = look.headers.iter().find(|h| h.number == sighting.sighting.block_number);
            reconsider(&mut tx, chain, &sighting.sighting, time, now_ms).await?;
        }
        adopt(&mut tx, chain, &look.headers).await?;
        let mut by_block: BTreeMap<B256, Vec<SightingToStore>> = BTreeMap::new();
        for sighting in &look.sightings {
            by_block.entry(sighting.sighting.key.block_hash).or_default().push(sighting.clone());
        }
        let mut deposits: usize = 0;
        let mut findings = look.findings.clone();
        if planted(Fault::ShortBackfill) && !matches!(look.progress, Progress::Recheck(_)) {
            by_block.pop_last();
        }
        for (block, sightings) in by_block {
            let open = unsettled(&mut tx, chain, block, &sightings).await?;
            let seen = Seen {
                sightings: &open,
                outgoing: &[],
                provider: &look.provider,
                overrules: false,
                unlisted_per_day: look.unlisted_per_day,
                findings: &[],
            };
            let (changed, found) = record(&mut tx, chain, seen, now_ms).await?;
            deposits = deposits.saturating_add(changed);
            findings.extend(found);
        }
        if !move_progress(&mut tx, chain, look, deposits, now_ms).await? {
            Store::abandon(tx).await?;
            return Ok(LookOutcome::Stale);
        }
        let seen = Seen {
            sightings: &[],
            outgoing: &look.outgoing,
            provider: &look.provider,
            overrules: false,
            unlisted_per_day: look.unlisted_per_day,
            findings: &[],
        };
        findings.extend(record_outgoing(&mut tx, chain, seen, now_ms).await?);
        let noted = note_in(&mut tx, &findings, now_ms).await?;
        Store::commit(tx).await?;
        noted.say();
        Ok(LookOutcome::Committed { deposits })
    }

    /// Puts another block in the place of one that was recorded on one provider's word. Its deposits
    /// are orphaned like those of any block that turns out not to be canonical.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] for a header that cannot be; otherwise when the database fails.
    /// Nothing is written then.
    pub async fn commit_replaced(
        &self,
        chain: ChainId,
        recorded: BlockRef,
        shown: &Header,
        finding: &NewFinding,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.replace(chain, recorded, shown, finding, now_ms)
            .await
            .map_err(StoreError::of_an_answer)
    }

    async fn replace(
        &self,
        chain: ChainId,
        recorded: BlockRef,
        shown: &Header,
        finding: &NewFinding,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        let mut replaced = false;
        if let Some(LookOutcome::Contradicts { recorded: found, .. }) =
            contradiction(&mut tx, id, shown.number, &[*shown]).await?
            && found == recorded
        {
            replaced = true;
            orphan(&mut tx, id, recorded, now_ms).await?;
            adopt(&mut tx, id, &[*shown]).await?;
            // Whoever looked may have looked for a few addresses only.
            let (kind, number) = (BackfillKind::Rescan, shown.number);
            request(&mut tx, chain, kind, number, number, now_ms).await?;
        }
        let noted = note_in(&mut tx, std::slice::from_ref(finding), now_ms).await?;
        if replaced {
            let (chain, subject) = (Some(chain), finding.subject.clone());
            gone_in(&mut tx, &[Gone { chain, kind: finding.kind, subject }], now_ms).await?;
        }
        Store::commit(tx).await?;
        noted.say();
        Ok(())
    }
}

/// A transfer that was turned away, on one provider's word about its contents or its block's time,
/// is looked at anew when another one says otherwise: what is right, two must agree on.
async fn reconsider(
    tx: &mut Tx,
    chain: i64,
    shown: &Sighting,
    header: Option<&Header>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let amount = match shown.content {
        Content::Transfer { amount, .. } => Some(amount_bytes(amount)),
        Content::Malformed { .. } => None,
    };
    let turned_away = query(
        "SELECT d.deposit_id, d.stage, d.reason FROM sightings s
         JOIN deposits d ON d.deposit_id = s.deposit_id AND d.block_hash = s.block_hash
                        AND d.log_index = s.log_index
         JOIN blocks b ON b.chain_id = s.chain_id AND b.block_hash = s.block_hash
         WHERE s.chain_id = $1 AND s.block_hash = $2 AND s.log_index = $3 AND d.stage = 'ignored'
           AND (s.token <> $4 OR s.recipient <> $5 OR b.block_time_ms <> $7
                OR COALESCE(s.raw_amount, $4) <> COALESCE($6, $4))",
    )
    .bind(chain)
    .bind(shown.key.block_hash)
    .bind(to_int(shown.key.log_index, "log index")?)
    .bind(shown.deposit.token.to_vec())
    .bind(shown.deposit.recipient.to_vec())
    .bind(amount)
    .bind(header.map_or(0, |h| h.time_ms))
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = turned_away else { return Ok(()) };
    let id = DepositId(row.b256("deposits", "deposit_id")?);
    let next = stage_of(&row)?.next(Event::Seen(Verdict::Accept))?;
    set_stages(tx, &[(id, next)], now_ms).await
}

/// Why headers up to `to` cannot be recorded: the cursor is below, or one contradicts what is
/// canonical.
async fn contradiction(
    tx: &mut Tx,
    chain: i64,
    to: u64,
    headers: &[Header],
) -> Result<Option<LookOutcome>, StoreError> {
    let stale = Ok(Some(LookOutcome::Stale));
    let Cursor::At(cursor) = cursor_in(tx, chain).await? else { return stale };
    if cursor.number < to {
        return stale;
    }
    for header in headers {
        let known =
            query("SELECT block_number FROM blocks WHERE chain_id = $1 AND block_hash = $2")
                .bind(chain)
                .bind(header.hash)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(row) = known {
            let number = row.uint("blocks", "block_number")?;
            if number != header.number {
                let recorded = BlockRef { number, hash: header.hash };
                let shown = Box::new(*header);
                return Ok(Some(LookOutcome::Contradicts { recorded, shown }));
            }
        }
        let canonical = query(
            "SELECT block_hash FROM blocks
             WHERE chain_id = $1 AND block_number = $2 AND canonical = 1",
        )
        .bind(chain)
        .bind(to_int(header.number, "block")?)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = canonical else { continue };
        let hash = row.b256("blocks", "block_hash")?;
        if hash != header.hash {
            let recorded = BlockRef { number: header.number, hash };
            return Ok(Some(LookOutcome::Contradicts { recorded, shown: Box::new(*header) }));
        }
    }
    Ok(None)
}

/// Moves the progress on from where it was when the look began; false when somebody else did.
async fn move_progress(
    tx: &mut Tx,
    chain: i64,
    look: &SecondLook<'_>,
    deposits: usize,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let to = to_int(look.to, "block")?;
    let seen = to_int(look.logs_seen, "number of logs")?;
    let added = i64::try_from(deposits).unwrap_or(i64::MAX);
    let moved = match look.progress {
        Progress::None => return Ok(true),
        Progress::Recheck(scan) => {
            let before = match scan.rechecked_to {
                Some(number) => to_int(number, "block")?,
                None => -1,
            };
            query(
                "UPDATE scans SET rechecked_to = $2, recheck_provider = $3,
                   recheck_logs = recheck_logs + $4, recheck_added = recheck_added + $5
                 WHERE scan_id = $1 AND COALESCE(rechecked_to, -1) = $6 AND valid_to >= $2",
            )
            .bind(scan.scan_id)
            .bind(to)
            .bind(&look.provider)
            .bind(seen)
            .bind(added)
            .bind(before)
            .execute(tx)
            .await
        }
        Progress::Backfill(backfills) => {
            for backfill in backfills {
                let moved = query(
                    "UPDATE backfills SET next_number = $6, logs_seen = logs_seen + $7,
                       found = found + $8,
                       finished_at_ms = CASE WHEN $6 > to_number THEN $9 END
                     WHERE chain_id = $1 AND kind = $2 AND subject = $3 AND from_number = $4
                       AND to_number = $5 AND next_number = $10 AND finished_at_ms IS NULL
                       AND COALESCE(last_id, 0) = $11",
                )
                .bind(chain)
                .bind(backfill.kind.as_str())
                .bind(backfill.kind.subject())
                .bind(to_int(backfill.from, "block")?)
                .bind(to_int(backfill.to, "block")?)
                .bind(to.saturating_add(1))
                .bind(seen)
                .bind(added)
                .bind(now_ms)
                .bind(to_int(backfill.next, "block")?)
                // More addresses may have joined it since.
                .bind(backfill.kind.ids().map_or(0, |(_, last)| last))
                .execute(&mut *tx)
                .await?;
                if moved == 0 {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
    };
    Ok(moved? > 0)
}
