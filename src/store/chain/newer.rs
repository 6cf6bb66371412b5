//! Addresses that are registered while a chain's step is under way: what it scans without them is read again.
//!
//! A step takes no lock of the registers. With the cursor it stores the newest address that it knew. Whoever
//! registers notes where each chain stands, as far as he sees it, in the same commit as the addresses. The next step
//! that sees newer addresses than those known asks for the blocks that were scanned since the note, for these
//! addresses only, and until then none of their payments goes on (see `outgoing`).
//!
//! So nothing is missed, whichever of the two commits first: what was committed before the note is older than the
//! address (an import asks for that itself), and everything after it is in a scan record above the noted block, or
//! with a newer number than the noted record. It says nothing of what came to a derived address before it was given
//! out: nobody had it then.

use alloy::primitives::Address;

use crate::domain::ids::{AddressId, ChainId};
use crate::planted::{Fault, planted};
use crate::store::chain::backfills::{BackfillKind, request};
use crate::store::db::Tx;
use crate::store::db::query::query;
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::leases::LeasedStore;
use crate::store::rows::to_int;

/// What a chain knows of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Known {
    /// What its cursor was moved with; 0 before the first step.
    pub(in crate::store) known: AddressId,
    /// The newest one that is committed now.
    pub(in crate::store) newest: AddressId,
}

/// What a chain knows, and what there is, at one moment.
pub(in crate::store) async fn known(tx: &mut Tx, chain: i64) -> Result<Known, StoreError> {
    let row = query(
        "SELECT COALESCE((SELECT MAX(address_id) FROM addresses), 0) AS newest,
                COALESCE((SELECT known_address_id FROM cursors WHERE chain_id = $1), 0) AS known",
    )
    .bind(chain)
    .fetch_one(tx)
    .await?;
    Ok(Known {
        known: AddressId(row.uint32("cursors", "known")?),
        newest: AddressId(row.uint32("addresses", "newest")?),
    })
}

/// Notes where each chain stands, for addresses that are being registered: all with these ids and those between.
/// Whoever calls this registers, and so does it alone.
pub(in crate::store) async fn mark(
    tx: &mut Tx,
    (first, last): (AddressId, AddressId),
) -> Result<(), StoreError> {
    // No chain needs these any more. A chain that stands still keeps one row, whatever is registered.
    query(
        "DELETE FROM book_marks WHERE last_id <=
           (SELECT c.known_address_id FROM cursors c WHERE c.chain_id = book_marks.chain_id)",
    )
    .execute(&mut *tx)
    .await?;
    // In one statement, which sees the cursor and the scan record of one commit.
    query(
        "INSERT INTO book_marks (chain_id, block_number, scan_id, first_id, last_id)
         SELECT c.chain_id, c.block_number,
                COALESCE((SELECT MAX(s.scan_id) FROM scans s WHERE s.chain_id = c.chain_id), 0),
                $1, $2
         FROM cursors c WHERE true
         ON CONFLICT (chain_id, block_number, scan_id) DO UPDATE SET last_id = excluded.last_id",
    )
    .bind(i64::from(first.0))
    .bind(i64::from(last.0))
    .execute(tx)
    .await?;
    Ok(())
}

/// Asks for what was scanned up to the cursor without the addresses after `of.known`, up to `of.newest`.
pub(in crate::store) async fn read_again(
    tx: &mut Tx,
    chain: ChainId,
    of: Known,
    now_ms: i64,
) -> Result<(), StoreError> {
    if of.newest <= of.known || planted(Fault::NewerUnread) {
        return Ok(());
    }
    let Some((from, to)) = scanned_without(tx, to_int(chain.0, "chain id")?, of).await? else {
        return Ok(());
    };
    let first = query(
        "SELECT address_id, address FROM addresses WHERE address_id > $1
         ORDER BY address_id LIMIT 1",
    )
    .bind(i64::from(of.known.0))
    .fetch_one(&mut *tx)
    .await?;
    let kind = BackfillKind::Newer {
        first: first.address("addresses", "address")?,
        first_id: AddressId(first.uint32("addresses", "address_id")?),
        last_id: of.newest,
    };
    request(tx, chain, kind, from, to, now_ms).await
}

/// The blocks that were scanned without them: from the first above a note, or scanned anew since, to the cursor.
async fn scanned_without(
    tx: &mut Tx,
    chain: i64,
    of: Known,
) -> Result<Option<(u64, u64)>, StoreError> {
    // Without an upper limit: a note may have been joined by later ones since `of` was read.
    let row = query(
        "SELECT c.block_number, c.start_number,
           (SELECT MIN(CASE WHEN n.anew < n.block_number THEN n.anew ELSE n.block_number + 1 END)
            FROM (SELECT m.block_number,
                    COALESCE((SELECT MIN(s.from_number) FROM scans s WHERE s.chain_id = m.chain_id
                               AND s.scan_id > m.scan_id), m.block_number + 1) AS anew
                  FROM book_marks m WHERE m.chain_id = $1 AND m.last_id > $2) AS n) AS above,
           (SELECT COUNT(*) FROM addresses a WHERE a.address_id > $2 AND a.address_id <= $3
              AND NOT EXISTS (SELECT 1 FROM book_marks m WHERE m.chain_id = $1
                                AND a.address_id BETWEEN m.first_id AND m.last_id)) AS unnoted
         FROM cursors c WHERE c.chain_id = $1",
    )
    .bind(chain)
    .bind(i64::from(of.known.0))
    .bind(i64::from(of.newest.0))
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let to = row.uint("cursors", "block_number")?;
    let from = match row.opt_int("book_marks", "above")? {
        // Registered when the chain had no cursor yet: its first steps were under way.
        _ if row.int("addresses", "unnoted")? > 0 => row.uint("cursors", "start_number")?,
        Some(_) => row.uint("book_marks", "above")?,
        None => return Ok(None),
    };
    Ok((from <= to).then_some((from, to)))
}

impl Store {
    /// The addresses with these ids and those between; `None` where they are more than `most`.
    pub async fn addresses_between(
        &self,
        (first, last): (AddressId, AddressId),
        most: usize,
    ) -> Result<Option<Vec<(Address, AddressId)>>, StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let rows = query(
            "SELECT address_id, address FROM addresses WHERE address_id BETWEEN $1 AND $2
             ORDER BY address_id LIMIT $3",
        )
        .bind(i64::from(first.0))
        .bind(i64::from(last.0))
        .bind(limit)
        .fetch_all(&self.db)
        .await?;
        if rows.len() > most {
            return Ok(None);
        }
        let of = |row: &crate::store::db::Row| {
            Ok((
                row.address("addresses", "address")?,
                AddressId(row.uint32("addresses", "address_id")?),
            ))
        };
        rows.iter().map(of).collect::<Result<_, StoreError>>().map(Some)
    }
}

impl LeasedStore {
    /// Lets a chain know the addresses that were registered since it was stepped: asks for what was scanned
    /// without them.
    pub async fn meet_newer(&self, chain: ChainId, now_ms: i64) -> Result<(), StoreError> {
        let id = to_int(chain.0, "chain id")?;
        let mut tx = self.begin_held().await?;
        let of = known(&mut tx, id).await?;
        if of.newest <= of.known {
            return Store::abandon(tx).await;
        }
        read_again(&mut tx, chain, of, now_ms).await?;
        query("UPDATE cursors SET known_address_id = $2 WHERE chain_id = $1")
            .bind(id)
            .bind(i64::from(of.newest.0))
            .execute(&mut tx)
            .await?;
        Store::commit(tx).await
    }
}
