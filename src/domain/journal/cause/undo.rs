//! The causes that undo a credit: its block is not canonical any more, or two people correct it.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use super::super::ids::RecordId;
use super::deposit::DepositCredit;
use super::worth::Worth;
use crate::domain::conversion::{Conversion, Leg};
use crate::domain::ids::{ChainId, DepositId};
use crate::domain::money::{Nanocredits, Rate, RawAmount};
use crate::domain::said::is_same_person;

/// A credit is undone, because its block is not canonical any more. Takes effect when it is recorded: the
/// credits were there until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositReversal {
    /// Namespace that was credited.
    pub namespace: String,
    /// The deposit that was.
    pub deposit: DepositId,
    /// Place of the record undone, in the same journal.
    pub reverses_seq: i64,
    /// Its id.
    pub reverses_record_id: RecordId,
    /// Its seal.
    pub reverses_seal: B256,
    /// Chain (EIP-155).
    pub chain_id: ChainId,
    /// The block credited, which is not canonical any more.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// The block that is canonical at that height instead.
    pub canonical_hash: B256,
    /// Height of the canonical tip when this was decided.
    pub head_number: u64,
    /// Hash of that tip.
    pub head_hash: B256,
    /// Rule of finality that the other block has satisfied since.
    pub finality: String,
    /// Who says so.
    pub providers: Vec<String>,
    /// What was given, all of which is taken back, in nanocredits.
    pub credits_nano: Nanocredits,
}

impl DepositReversal {
    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        let claims = [
            (self.canonical_hash != self.block_hash, "canonical_hash"),
            (!self.providers.is_empty(), "providers"),
        ];
        claims.into_iter().find(|(holds, _)| !holds).map(|(_, field)| field)
    }
}

/// What a payment is worth after a correction, with its grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Valued {
    /// Amount in the log, base units: a correction does not change what was paid.
    pub raw_amount: RawAmount,
    /// Decimals of the token.
    pub decimals: u8,
    /// Asset the token is taken as.
    pub asset: String,
    /// Epoch in force.
    pub epoch: String,
    /// Hash of the epoch's text.
    pub epoch_hash: B256,
    /// Rule: `par`, `fixed`, `market` or `convert`.
    pub rule: String,
    /// Credits per whole token under that rule; for market rules, the rate that the last step used.
    pub credits_per_token: Rate,
    /// The prices, by hand or by the market, and the arithmetic, for rules that need them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// Always `down`.
    pub rounding: String,
    /// The result, in nanocredits.
    pub credits_nano: Nanocredits,
}

impl Valued {
    /// What a payment was worth when it was credited.
    pub fn of(credit: &DepositCredit) -> Self {
        Self {
            raw_amount: credit.raw_amount,
            decimals: credit.decimals,
            asset: credit.asset.clone(),
            epoch: credit.epoch.clone(),
            epoch_hash: credit.epoch_hash,
            rule: credit.rule.clone(),
            credits_per_token: credit.credits_per_token,
            conversion: credit.conversion.clone(),
            rounding: credit.rounding.clone(),
            credits_nano: credit.credits_nano,
        }
    }

    /// The prices that it rests on.
    pub fn legs(&self) -> &[Leg] {
        self.conversion.as_ref().map_or(&[], |conversion| &conversion.legs)
    }

    /// The payment and its price.
    pub fn worth(&self) -> Worth<'_> {
        Worth {
            asset: &self.asset,
            raw: self.raw_amount,
            decimals: self.decimals,
            rule: &self.rule,
            rate: self.credits_per_token,
            conversion: self.conversion.as_ref(),
            credits: self.credits_nano,
        }
    }
}

/// Two people undo a credit and give it again at another amount, in one record. Takes effect when it is
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositCorrection {
    /// Namespace that was credited.
    pub namespace: String,
    /// The deposit that was.
    pub deposit: DepositId,
    /// Place of the record whose credit is corrected, in the same journal.
    pub corrects_seq: i64,
    /// Its id.
    pub corrects_record_id: RecordId,
    /// Its seal.
    pub corrects_seal: B256,
    /// What it gave, in nanocredits.
    pub credited_nano: Nanocredits,
    /// Why.
    pub reason: String,
    /// What shows it: a text, such as an address of a page or of a ticket.
    pub evidence: String,
    /// Who proposed it.
    pub proposer: String,
    /// Who approved it: somebody else.
    pub approver: String,
    /// Number of the act that approved it.
    pub act: i64,
    /// Hash of that act.
    pub act_hash: B256,
    /// What the payment is worth instead.
    pub again: Valued,
}

impl DepositCorrection {
    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        let claims = [
            (!self.reason.trim().is_empty(), "reason"),
            (!self.evidence.trim().is_empty(), "evidence"),
            (!self.proposer.trim().is_empty(), "proposer"),
            (
                !self.approver.trim().is_empty() && !is_same_person(&self.approver, &self.proposer),
                "approver",
            ),
            (self.again.rounding == "down", "again.rounding"),
            (self.again.worth().holds(), "again.credits_nano"),
        ];
        claims.into_iter().find(|(holds, _)| !holds).map(|(_, field)| field)
    }
}
