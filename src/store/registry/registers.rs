//! Who waits for whom when something is registered, or decided by what is registered.
//!
//! Whoever registers (namespaces, addresses, operators' acts) takes one row, and so comes one after another:
//! ids are given without gaps and become visible in their order. No commit of a chain takes that row: what a step
//! did not know is read once more later (see `newer`), and whose an address is never changes.
//!
//! Epochs have a row of their own. Whoever adds one takes it alone, and whoever decides by the epochs shares it.
//! Both are necessary: an epoch takes effect by the time of a payment's block, and is refused when a payment of its
//! time was decided without it. Were the epochs counted under no lock, a decision and a new epoch could pass each
//! other unseen, and the payment would stand under rules that are not its own. It makes nobody wait but a daemon
//! that starts with a new epoch in its configuration.
//!
//! On SQLite there is one writer, and no row need be taken.

use crate::domain::ids::AddressId;
use crate::store::db::Tx;
use crate::store::db::query::{Lock, query};
use crate::store::engine::Store;
use crate::store::errors::StoreError;

/// How often a row is waited for.
const TRIES: u32 = 3;

/// A row that stands for more than what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// For the ids that are given out.
    Registers,
    /// For the epochs.
    Epochs,
}

impl Store {
    /// Begins a transaction that registers something.
    ///
    /// # Errors
    /// [`StoreError::Busy`], where somebody else registers for too long.
    pub(in crate::store) async fn begin_registering(&self) -> Result<Tx, StoreError> {
        self.begin_with(Stands::Registers).await
    }

    /// Begins a transaction that adds epochs.
    ///
    /// # Errors
    /// [`StoreError::Busy`], where chains decide by the epochs all the time.
    pub(in crate::store) async fn begin_adding_epochs(&self) -> Result<Tx, StoreError> {
        self.begin_with(Stands::Epochs).await
    }

    async fn begin_with(&self, row: Stands) -> Result<Tx, StoreError> {
        let mut tries = 1u32;
        loop {
            let mut tx = self.begin().await?;
            match take(&mut tx, row, Lock::Update).await {
                Ok(()) => return Ok(tx),
                // Those who share a row may pass who waits for it alone.
                Err(error) if error.is_collision() && tries < TRIES => {
                    tries = tries.saturating_add(1);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes the row of whoever registers, in a transaction that is open already.
pub(in crate::store) async fn take_registers(tx: &mut Tx) -> Result<(), StoreError> {
    take(tx, Stands::Registers, Lock::Update).await
}

async fn take(tx: &mut Tx, row: Stands, lock: Lock) -> Result<(), StoreError> {
    if tx.writes_alone() {
        return Ok(());
    }
    let (sql, what) = match row {
        Stands::Registers => (
            "SELECT address_id FROM database_server WHERE only_row = 1",
            "the registers of namespaces, addresses and acts",
        ),
        Stands::Epochs => ("SELECT network FROM installation WHERE only_row = 1", "the epochs"),
    };
    query(sql).locked(lock).fetch_one(tx).await.map_err(StoreError::taking(what))?;
    Ok(())
}

/// Makes sure that the daemon knows every epoch there is; nobody adds one until the transaction ends.
///
/// A daemon that was started with an older configuration must neither judge nor price by it: another one may have
/// added an epoch since.
pub(in crate::store) async fn same_epochs(tx: &mut Tx, epochs: usize) -> Result<(), StoreError> {
    take(tx, Stands::Epochs, Lock::Share).await?;
    // After the lock, not with it: on PostgreSQL a statement sees what was committed when it began.
    knows_epochs(tx, epochs).await
}

/// The same at this moment, for who holds journals already: the epochs' row comes before these.
pub(in crate::store) async fn knows_epochs(tx: &mut Tx, epochs: usize) -> Result<(), StoreError> {
    let stored = query("SELECT COUNT(*) AS epochs FROM epochs")
        .fetch_one(tx)
        .await?
        .uint("epochs", "epochs")?;
    if usize::try_from(stored) != Ok(epochs) {
        return Err(StoreError::Outdated { stored, configured: epochs });
    }
    Ok(())
}

/// The newest address that is committed at this moment; 0 before the first one. Another one may be registered at
/// any time.
pub(in crate::store) async fn newest_address(tx: &mut Tx) -> Result<AddressId, StoreError> {
    let row =
        query("SELECT COALESCE(MAX(address_id), 0) AS newest FROM addresses").fetch_one(tx).await?;
    Ok(AddressId(row.uint32("addresses", "newest")?))
}
