//! What this process has confirmed itself and not credited yet: what the receipts showed, kept apart from the database.
//!
//! Rows that wait for a price or for people can be written by others meanwhile; a credit by a confirmation without a
//! proof rests on this. It need not be complete: what another process confirmed, or this one before a restart, or
//! what found no room, is confirmed again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use alloy::primitives::{Address, B256};

use crate::domain::ids::DepositId;
use crate::domain::journal::DepositCredit;
use crate::domain::money::RawAmount;
use crate::store::deposits::open_deposit::OpenDeposit;
use crate::store::deposits::stages::Shown;

/// Payments that are remembered.
const MOST: usize = 100_000;

/// What a receipt showed of a payment, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paid {
    block_hash: B256,
    block_time_ms: i64,
    log_index: u64,
    sender: Option<Address>,
    raw: RawAmount,
}

/// What was confirmed, by payment.
#[derive(Debug, Default)]
pub(in crate::store) struct Confirmed(Mutex<BTreeMap<DepositId, Paid>>);

impl Confirmed {
    /// Remembers payments where they stand, with how much it was, and who paid.
    pub(in crate::store) fn remember<'d>(
        &self,
        deposits: impl Iterator<Item = &'d OpenDeposit>,
        shown: &BTreeMap<DepositId, Shown>,
    ) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for deposit in deposits {
            let Some(shown) = shown.get(&deposit.id) else { continue };
            if known.len() >= MOST {
                known.pop_first();
            }
            let paid = Paid {
                block_hash: deposit.block.hash,
                block_time_ms: deposit.block_time_ms,
                log_index: deposit.log_index,
                sender: shown.sender,
                raw: shown.raw,
            };
            known.insert(deposit.id, paid);
        }
    }

    /// Whether a credit is of just what was confirmed here.
    pub(in crate::store) fn has(&self, id: DepositId, cause: &DepositCredit) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).is_some_and(|paid| {
            *paid
                == Paid {
                    block_hash: cause.block_hash,
                    block_time_ms: cause.block_time_ms,
                    log_index: cause.log_index,
                    sender: Some(cause.sender),
                    raw: cause.raw_amount,
                }
        })
    }

    pub(in crate::store) fn forget(&self, ids: impl Iterator<Item = DepositId>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            known.remove(&id);
        }
    }
}
