//! Old blocks that are to be read again: for addresses and tokens that were registered after them,
//! or because an operator asked.

use alloy::primitives::Address;

use crate::domain::ids::{AddressId, ChainId, DepositKey};
use crate::planted::{Fault, planted};
use crate::store::db::query::query;
use crate::store::db::{Row, Tx};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::rows::{corrupt, to_int};

/// Old blocks that are to be read again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Backfill {
    /// Chain.
    pub chain: ChainId,
    /// For what.
    pub kind: BackfillKind,
    /// First block.
    pub from: u64,
    /// Last block, inclusive.
    pub to: u64,
    /// The first one not read yet.
    pub next: u64,
    /// Logs in the answers so far.
    pub logs_seen: u64,
    /// Transfers to us that were new.
    pub found: u64,
    /// When it was asked for.
    pub requested_at_ms: i64,
    /// When it was done.
    pub finished_at_ms: Option<i64>,
}

/// What a backfill is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillKind {
    /// An address that was registered late.
    Address(Address),
    /// Addresses that were registered late, together: all with these ids and those between.
    Addresses {
        /// The one with the first id.
        first: Address,
        /// The lowest id.
        first_id: AddressId,
        /// The highest id.
        last_id: AddressId,
    },
    /// Addresses that were registered while these blocks were scanned without them: all with these ids and
    /// those between.
    Newer {
        /// The one with the first id.
        first: Address,
        /// The lowest id.
        first_id: AddressId,
        /// The highest id.
        last_id: AddressId,
    },
    /// A token that was configured late.
    Token(Address),
    /// Everything, because an operator asked for it.
    Rescan,
}

impl BackfillKind {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address(_) | Self::Addresses { .. } => "address",
            Self::Newer { .. } => "newer",
            Self::Token(_) => "token",
            Self::Rescan => "rescan",
        }
    }

    pub(in crate::store) fn subject(self) -> Vec<u8> {
        match self {
            Self::Address(address)
            | Self::Addresses { first: address, .. }
            | Self::Newer { first: address, .. }
            | Self::Token(address) => address.to_vec(),
            Self::Rescan => Vec::new(),
        }
    }

    /// True for addresses, be it one or many.
    pub const fn is_of_addresses(self) -> bool {
        matches!(self, Self::Address(_) | Self::Addresses { .. } | Self::Newer { .. })
    }

    /// The first and the last id of many addresses.
    pub(in crate::store) fn ids(self) -> Option<(i64, i64)> {
        match self {
            Self::Addresses { first_id, last_id, .. } | Self::Newer { first_id, last_id, .. } => {
                Some((i64::from(first_id.0), i64::from(last_id.0)))
            }
            Self::Address(_) | Self::Token(_) | Self::Rescan => None,
        }
    }
}

impl Backfill {
    /// True while it may show where a deposit's money went before: the deposit waits for it.
    pub fn concerns(&self, deposit: &DepositKey, of: AddressId, block_number: u64) -> bool {
        match self.kind {
            BackfillKind::Address(address) => address == deposit.recipient,
            BackfillKind::Addresses { first_id, last_id, .. }
            | BackfillKind::Newer { first_id, last_id, .. } => (first_id..=last_id).contains(&of),
            BackfillKind::Token(token) => token == deposit.token && block_number <= self.to,
            BackfillKind::Rescan => false,
        }
    }
}

impl Store {
    /// The backfills of a chain that are not finished, lowest next block first.
    pub async fn open_backfills(&self, chain: ChainId) -> Result<Vec<Backfill>, StoreError> {
        self.backfill_rows(chain, true).await
    }

    /// All backfills of a chain, also finished ones.
    pub async fn backfills(&self, chain: ChainId) -> Result<Vec<Backfill>, StoreError> {
        self.backfill_rows(chain, false).await
    }

    async fn backfill_rows(&self, chain: ChainId, open: bool) -> Result<Vec<Backfill>, StoreError> {
        query(
            "SELECT kind, subject, first_id, last_id, from_number, to_number, next_number, logs_seen,
                    found, requested_at_ms, finished_at_ms FROM backfills
             WHERE chain_id = $1 AND ($2 = 0 OR finished_at_ms IS NULL)
             ORDER BY next_number, kind, subject",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(i64::from(open))
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| backfill_row(chain, row))
        .collect()
    }

    /// Asks for old blocks to be read again. One that is under way goes on; one that was finished
    /// begins anew.
    pub async fn request_rescan(
        &self,
        chain: ChainId,
        from: u64,
        to: u64,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        request(&mut tx, chain, BackfillKind::Rescan, from, to, now_ms).await?;
        Self::commit(tx).await
    }
}

/// Asks for what was scanned before to be read again: of one chain or of all, each from the block
/// that is declared for it, or else from its first one, to where it is scanned now.
pub(in crate::store) async fn request_scanned(
    tx: &mut Tx,
    kind: BackfillKind,
    since: &[(ChainId, u64)],
    only: Option<ChainId>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let rows = query("SELECT chain_id, block_number, start_number FROM cursors ORDER BY chain_id")
        .fetch_all(&mut *tx)
        .await?;
    for row in rows {
        let chain = ChainId(row.uint("cursors", "chain_id")?);
        if only.is_some_and(|only| only != chain) {
            continue;
        }
        let declared = since.iter().find(|(c, _)| *c == chain).map(|(_, block)| *block);
        let from = declared.unwrap_or(row.uint("cursors", "start_number")?);
        let to = row.uint("cursors", "block_number")?;
        let left_out = match kind {
            BackfillKind::Token(_) => planted(Fault::NoTokenBackfill),
            _ => planted(Fault::NoBackfill),
        };
        if from <= to && !left_out {
            request(tx, chain, kind, from, to, now_ms).await?;
        }
    }
    Ok(())
}

pub(in crate::store) async fn request(
    tx: &mut Tx,
    chain: ChainId,
    kind: BackfillKind,
    from: u64,
    to: u64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let ids = kind.ids();
    if let Some((first, last)) = ids {
        // What came just before, and is not begun, is read together with these.
        let joined = query(
            "UPDATE backfills SET last_id = $5
             WHERE chain_id = $1 AND last_id = $4 AND from_number = $2 AND to_number = $3
               AND kind = $6 AND next_number = from_number AND finished_at_ms IS NULL",
        )
        .bind(to_int(chain.0, "chain id")?)
        .bind(to_int(from, "block")?)
        .bind(to_int(to, "block")?)
        .bind(first.saturating_sub(1))
        .bind(last)
        .bind(kind.as_str())
        .execute(&mut *tx)
        .await?;
        if joined > 0 {
            return Ok(());
        }
    }
    query(
        "INSERT INTO backfills (chain_id, kind, subject, from_number, to_number, next_number,
                                requested_at_ms, first_id, last_id)
         VALUES ($1, $2, $3, $4, $5, $4, $6, $7, $8)
         ON CONFLICT (chain_id, kind, subject, from_number, to_number) DO UPDATE SET
           next_number = excluded.from_number, logs_seen = 0, found = 0, finished_at_ms = NULL,
           requested_at_ms = excluded.requested_at_ms
         WHERE backfills.finished_at_ms IS NOT NULL",
    )
    .bind(to_int(chain.0, "chain id")?)
    .bind(kind.as_str())
    .bind(kind.subject())
    .bind(to_int(from, "block")?)
    .bind(to_int(to, "block")?)
    .bind(now_ms)
    .bind(ids.map(|(first, _)| first))
    .bind(ids.map(|(_, last)| last))
    .execute(tx)
    .await?;
    Ok(())
}

fn backfill_row(chain: ChainId, row: &Row) -> Result<Backfill, StoreError> {
    let kind = match row.text("backfills", "kind")?.as_str() {
        "address" if row.opt_int("backfills", "last_id")?.is_some() => BackfillKind::Addresses {
            first: row.address("backfills", "subject")?,
            first_id: AddressId(row.uint32("backfills", "first_id")?),
            last_id: AddressId(row.uint32("backfills", "last_id")?),
        },
        "newer" => BackfillKind::Newer {
            first: row.address("backfills", "subject")?,
            first_id: AddressId(row.uint32("backfills", "first_id")?),
            last_id: AddressId(row.uint32("backfills", "last_id")?),
        },
        "address" => BackfillKind::Address(row.address("backfills", "subject")?),
        "token" => BackfillKind::Token(row.address("backfills", "subject")?),
        "rescan" => BackfillKind::Rescan,
        _ => return Err(corrupt("backfills", "kind", "not a kind")),
    };
    Ok(Backfill {
        chain,
        kind,
        from: row.uint("backfills", "from_number")?,
        to: row.uint("backfills", "to_number")?,
        next: row.uint("backfills", "next_number")?,
        logs_seen: row.uint("backfills", "logs_seen")?,
        found: row.uint("backfills", "found")?,
        requested_at_ms: row.int("backfills", "requested_at_ms")?,
        finished_at_ms: row.opt_int("backfills", "finished_at_ms")?,
    })
}
