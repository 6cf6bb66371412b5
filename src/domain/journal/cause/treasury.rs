//! The cause of a settlement: a purchase of the treasury, as the chain shows it, and the part of it that
//! goes to one conversion.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::super::ids::{JournalId, RecordId};
use crate::domain::ids::ChainId;
use crate::domain::money::{MoneyError, Nanodollars, RawAmount};

/// A part of what a conversion owes was bought by the treasury. Takes effect at the purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreasurySettlement {
    /// Journal of the credit whose conversion owes.
    pub obligation_journal: JournalId,
    /// Place of that credit.
    pub obligation_seq: i64,
    /// Its record id.
    pub obligation_record_id: RecordId,
    /// The stablecoin that came in.
    pub asset: String,
    /// What the obligation is owed for, all of it, in billionths of a dollar.
    pub obligation_usd_nano: Nanodollars,
    /// The asset owed.
    pub into_asset: String,
    /// How much of it, all of it, base units.
    pub tokens: RawAmount,
    /// Chain of the purchase (EIP-155).
    pub chain_id: ChainId,
    /// Its transaction.
    pub tx_hash: B256,
    /// Block of the transaction.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// Its time.
    pub block_time_ms: i64,
    /// The treasury's address.
    pub treasury: Address,
    /// Who showed the receipt.
    pub providers: Vec<String>,
    /// Stablecoin paid by the whole purchase, base units.
    pub purchase_paid: RawAmount,
    /// Its decimals on that chain.
    pub purchase_decimals: u8,
    /// Tokens received by the whole purchase, base units.
    pub purchase_tokens: RawAmount,
    /// Tokens of it that settle this conversion.
    pub settled_tokens: RawAmount,
}

impl TreasurySettlement {
    /// What the whole purchase cost, a stablecoin taken at its face.
    pub fn paid_usd(&self) -> Result<Nanodollars, MoneyError> {
        Nanodollars::at_face_rounded_down(self.purchase_paid, self.purchase_decimals)
    }

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        let claims = [
            (!self.obligation_journal.is_house(), "obligation_journal"),
            (self.obligation_seq > 0, "obligation_seq"),
            (self.obligation_usd_nano >= Nanodollars::ZERO, "obligation_usd_nano"),
            (!self.providers.is_empty(), "providers"),
            (
                self.settled_tokens > RawAmount::ZERO
                    && self.settled_tokens <= self.tokens
                    && self.settled_tokens <= self.purchase_tokens,
                "settled_tokens",
            ),
        ];
        claims.into_iter().find(|(holds, _)| !holds).map(|(_, field)| field)
    }
}
