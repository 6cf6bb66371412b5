//! The ledger and the log over its records, verified together: whoever asks whether an installation holds asks
//! for both, in one snapshot.
//!
//! Neither knows of the other: a record that is right and has no leaf is the log's finding, and one that is wrong
//! and has one is the ledger's.

use super::{Findings, Verified, ledger_in};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::log::{VerifiedLog, verify_log_in};

/// What was found of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The ledger, or all that does not hold of it.
    pub ledger: Result<Verified, Findings>,
    /// The log, or what does not hold of it, in a sentence.
    pub log: Result<VerifiedLog, String>,
}

impl Verification {
    /// Both, or what does not hold, in sentences.
    ///
    /// # Errors
    /// What does not hold.
    pub fn both(self) -> Result<(Verified, VerifiedLog), String> {
        match (self.ledger, self.log) {
            (Ok(ledger), Ok(log)) => Ok((ledger, log)),
            (Err(findings), Ok(_)) => Err(format!("the ledger does not hold: {findings}")),
            (Ok(_), Err(what)) => Err(format!("the log does not hold: {what}")),
            (Err(findings), Err(what)) => {
                Err(format!("the ledger does not hold: {findings}; nor does the log: {what}"))
            }
        }
    }
}

impl Store {
    /// Checks the whole ledger and what it rests on, and the whole log, in one snapshot.
    ///
    /// # Errors
    /// When the database fails. What does not hold, or cannot be read, is no error.
    pub async fn verify_all(&self) -> Result<Verification, StoreError> {
        let mut tx = self.db.begin_read().await?;
        tx.take_time().await?;
        let ledger = ledger_in(&mut tx, self.network).await?;
        let log = match verify_log_in(&mut tx, None).await {
            Err(error @ StoreError::Corrupt { .. }) => Err(error.to_string()),
            held => held?,
        };
        Self::abandon(tx).await?;
        Ok(Verification { ledger, log })
    }
}
