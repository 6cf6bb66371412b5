//! `ledger verify`: every journal is folded from its start, and everything that it says, or rests on, is
//! computed again from what is stored.
//!
//! It trusts no derived value: seals, ids, outcomes, amounts and balances are decided again by the functions
//! that decided them; the rows that follow are compared column by column, in both directions; what a credit
//! rests on is built again from rows; and what credits are priced by is decided again from the stored
//! answers. It works in one snapshot, page by page, repairs nothing, and goes on after a finding where it
//! can. Which columns it does not cover is said in docs/ledger-format.md.

mod addresses;
mod again;
mod compare;
mod ends;
mod finding;
mod house;
mod ignored;
mod journals;
mod market;
mod missing;
mod page;
mod payments;
mod pieces;
mod prices;
mod rests_on;
mod whole;

use super::db::Tx;
use super::engine::Store;
use super::errors::StoreError;
use super::ledger::installation_id;
use crate::domain::ids::Network;
use crate::domain::journal::EventKind;
use crate::store::db::query::query;
use crate::store::deposits::proofs::proofs;
use crate::store::deposits::screenings::screenings;
use journals::{Counted, Pass};

pub use again::PriceAgain;
pub(super) use finding::{Check, claim};
pub use finding::{Finding, Findings, Remedy};
pub use market::Priced;
pub use whole::Verification;

/// A ledger that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Number of journals: the house's, and one for each namespace.
    pub journals: i64,
    /// Number of records in all of them.
    pub records: i64,
    /// Credits that were given, also those that were undone.
    pub credits: i64,
    /// Sum of all namespaces' balances, in nanocredits.
    pub total_nano: i128,
    /// Credits that stand though their block is canonical no more: the reorg was deeper than the
    /// policy, and they will be reversed.
    pub on_orphaned_blocks: i64,
    /// Credits that were undone by a later record.
    pub reversed: i64,
    /// Credits whose receipt is proved against its block's hash, by what is kept.
    pub proved: i64,
    /// What credits are priced by.
    pub priced: Priced,
}

impl Store {
    /// Checks the whole ledger, and what it rests on, in one snapshot. Not the log over it:
    /// [`Store::verify_all`] does both.
    ///
    /// # Errors
    /// When the database fails. A value that cannot be read is a finding, not an error.
    pub async fn verify(&self) -> Result<Result<Verified, Findings>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        tx.take_time().await?;
        let held = ledger_in(&mut tx, self.network).await?;
        Self::abandon(tx).await?;
        Ok(held)
    }
}

/// The same in a transaction that reads.
async fn ledger_in(
    tx: &mut Tx,
    network: Network,
) -> Result<Result<Verified, Findings>, StoreError> {
    let mut found = Findings::default();
    let verified = match verified(tx, &mut found, network).await {
        Ok(verified) => Some(verified),
        Err(error) => {
            found.unreadable(error)?;
            None
        }
    };
    Ok(match verified {
        Some(verified) if found.is_empty() => Ok(verified),
        _ => Err(found),
    })
}

async fn verified(
    tx: &mut Tx,
    found: &mut Findings,
    network: Network,
) -> Result<Verified, StoreError> {
    let stamped = query("SELECT network FROM installation")
        .fetch_one(&mut *tx)
        .await?
        .text("installation", "network")?;
    if stamped != network.as_str() {
        found.add("installation", "row 1", "another network", Remedy::Sealed);
    }
    let installation = installation_id(&mut *tx).await?;
    let mut pass = Pass::new(&mut *tx, &mut *found, network, installation);
    pass.run().await?;
    let Pass { house, rests, counted, .. } = pass;
    house.close(tx, found).await?;
    ends::whole(tx, found).await?;
    counts(tx, found, &counted).await?;
    for checked in [payments::payments(tx, found).await, ignored::ignored(tx, found).await] {
        if let Err(error) = checked {
            found.unreadable(error)?;
        }
    }
    let priced = market::market(tx, found).await?;
    let checked = proofs(tx).await;
    found.take(checked)?;
    let checked = screenings(tx).await;
    found.take(checked)?;
    Ok(Verified {
        journals: counted.journals,
        records: counted.records,
        credits: counted.credits,
        total_nano: counted.total_nano,
        on_orphaned_blocks: rests.on_orphaned_blocks,
        reversed: counted.reversed,
        proved: rests.proved,
        priced,
    })
}

/// No deposit and no event claims a record that there is not. Where a journal could not be followed, the
/// numbers say nothing.
async fn counts(tx: &mut Tx, found: &mut Findings, counted: &Counted) -> Result<(), StoreError> {
    if !found.is_empty() {
        return Ok(());
    }
    let standing = counted.credits.saturating_sub(counted.reversed);
    let credited = query("SELECT COUNT(*) AS n FROM deposits WHERE stage = 'credited'")
        .fetch_one(&mut *tx)
        .await?
        .int("deposits", "n")?;
    if credited != standing {
        let problem = format!("{credited} are credited, and {standing} credits stand");
        found.add("deposits", "stage", problem, Remedy::PutBack);
    }
    let mut announced = 0i64;
    for sql in [
        "SELECT kind, COUNT(*) AS n FROM events_new GROUP BY kind",
        "SELECT kind, COUNT(*) AS n FROM events GROUP BY kind",
    ] {
        for row in &query(sql).fetch_all(&mut *tx).await? {
            if EventKind::parse(&row.text("events", "kind")?).is_some_and(of_records) {
                announced = announced.saturating_add(row.int("events", "n")?);
            }
        }
    }
    if announced != counted.announced {
        let wanted = counted.announced;
        let problem = format!("{announced} tell of records, and {wanted} records are told of");
        found.add("events", "count", problem, Remedy::NotOurs);
    }
    Ok(())
}

/// True for what only a record announces.
fn of_records(kind: EventKind) -> bool {
    use crate::domain::journal::Kind;
    Kind::ALL.into_iter().any(|of| EventKind::of(of) == Some(kind))
}
