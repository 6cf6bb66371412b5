//! A block that is read once more: because its logs or its time were not what another provider shows.

use std::collections::BTreeSet;

use alloy::primitives::B256;

use crate::domain::finding::NewFinding;
use crate::domain::ids::{ChainId, DepositKey, Shape};
use crate::planted::{Fault, planted};
use crate::store::chain::outgoing::record_outgoing;
use crate::store::chain::scan::record;
use crate::store::chain::scanned::{Seen, SightingToStore};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::deposits::dust::forget_dust;
use crate::store::deposits::stages::standings;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::findings::note_in;
use crate::store::leases::LeasedStore;
use crate::store::registry::registers::same_epochs;
use crate::store::rows::to_int;

impl LeasedStore {
    /// Corrects the time of a block that one provider had told alone, when two say otherwise, and has
    /// price sources asked anew. What a credit rests on stays. True when it was corrected.
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
        .await?;
        if corrected > 0 {
            forget_dust(&mut tx, to_int(chain.0, "chain id")?, block).await?;
        }
        if corrected > 0 && !planted(Fault::StaleQuotes) {
            query("DELETE FROM captures WHERE chain_id = $1 AND block_hash = $2")
                .bind(to_int(chain.0, "chain id")?)
                .bind(block)
                .execute(&mut tx)
                .await?;
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
                .await?
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
pub(in crate::store) async fn unsettled(
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
    .await?
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
