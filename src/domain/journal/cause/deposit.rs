//! The cause of a credit: everything that it was decided on, enough to compute it again without the daemon.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use super::worth::Worth;
use crate::domain::conversion::Conversion;
use crate::domain::finality::confirmations;
use crate::domain::ids::{BlockRef, ChainId, DepositKey, Shape, SightingKey};
use crate::domain::money::{Nanocredits, Rate, RawAmount};
use crate::domain::pricing::Price;

/// A deposit becomes credits of its namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositCredit {
    /// Namespace credited.
    pub namespace: String,
    /// Chain (EIP-155).
    pub chain_id: ChainId,
    /// Transaction.
    pub tx_hash: B256,
    /// Token contract.
    pub token: Address,
    /// Deposit address.
    pub recipient: Address,
    /// Which of the transaction's transfers of that token to that address.
    pub n: u32,
    /// Block of the sighting credited.
    pub block_hash: B256,
    /// Its height.
    pub block_number: u64,
    /// Its time, epoch milliseconds: the price instant, and when the credit takes effect.
    pub block_time_ms: i64,
    /// Index of the log in that block.
    pub log_index: u64,
    /// Who paid, by the token's word.
    pub sender: Address,
    /// Rule of finality that the block satisfied, such as `12 confirmations`.
    pub finality: String,
    /// Height of the canonical tip when it did.
    pub head_number: u64,
    /// Hash of that tip.
    pub head_hash: B256,
    /// Who showed the receipt that was read again.
    pub receipt_provider: String,
    /// Who showed the log, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_provider: Option<String>,
    /// How the receipt was checked: `second-provider`, `receipts-root` or `same-provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// The receipt's place in its block, where it was proved by `receipts-root`: the proof is kept in
    /// `receipt_proofs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_index: Option<u64>,
    /// How many times this deposit was credited and reversed before.
    pub reversals: u32,
    /// Amount in the log, base units.
    pub raw_amount: RawAmount,
    /// Decimals of the token.
    pub decimals: u8,
    /// Asset the token was taken as.
    pub asset: String,
    /// Epoch in force.
    pub epoch: String,
    /// Hash of the epoch's text.
    pub epoch_hash: B256,
    /// Rule: `par`, `fixed`, `market` or `convert`.
    pub rule: String,
    /// Credits per whole token under that rule; for market rules, the rate that the last step used.
    pub credits_per_token: Rate,
    /// The market prices and the arithmetic, for rules that need them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Conversion>,
    /// Always `down`.
    pub rounding: String,
    /// The result, in nanocredits.
    pub credits_nano: Nanocredits,
    /// The hashes of what was said when the payment was asked about: all that was said of its sender, in
    /// its block, before it was credited. Left out where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenings: Option<Vec<B256>>,
    /// The hashes of what people decided about it in its block before it was credited. Left out in the
    /// same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acts: Option<Vec<B256>>,
}

/// Where a credit comes from: the facts beside its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditFacts {
    /// Namespace to credit.
    pub namespace: String,
    /// Deposit.
    pub deposit: DepositKey,
    /// Sighting.
    pub sighting: SightingKey,
    /// Height of its block.
    pub block_number: u64,
    /// Time of its block.
    pub block_time_ms: i64,
    /// Who paid.
    pub sender: Address,
    /// Rule of finality satisfied.
    pub finality: String,
    /// Canonical tip when it was.
    pub head: BlockRef,
    /// Who showed the receipt.
    pub receipt_provider: String,
    /// Who showed the log.
    pub log_provider: Option<String>,
    /// How the receipt was checked.
    pub verify: Option<String>,
    /// The receipt's place in its block, where its proof is kept.
    pub receipt_index: Option<u64>,
    /// How many credits of this deposit were reversed.
    pub reversals: u32,
    /// Hash of the epoch's stored text.
    pub epoch_hash: B256,
    /// Hashes of what was said when it was asked about.
    pub screenings: Option<Vec<B256>>,
    /// Hashes of what people decided about it.
    pub acts: Option<Vec<B256>>,
}

impl DepositCredit {
    /// The cause of a priced deposit's credit.
    pub fn of(facts: CreditFacts, price: Price) -> Self {
        Self {
            namespace: facts.namespace,
            chain_id: facts.deposit.chain,
            tx_hash: facts.deposit.tx_hash,
            token: facts.deposit.token,
            recipient: facts.deposit.recipient,
            n: facts.deposit.n,
            block_hash: facts.sighting.block_hash,
            block_number: facts.block_number,
            block_time_ms: facts.block_time_ms,
            log_index: facts.sighting.log_index,
            sender: facts.sender,
            finality: facts.finality,
            head_number: facts.head.number,
            head_hash: facts.head.hash,
            receipt_provider: facts.receipt_provider,
            log_provider: facts.log_provider,
            verify: facts.verify,
            receipt_index: facts.receipt_index,
            reversals: facts.reversals,
            raw_amount: price.raw,
            decimals: price.decimals,
            asset: price.asset,
            epoch: price.epoch_id,
            epoch_hash: facts.epoch_hash,
            rule: price.rule.as_str().to_owned(),
            credits_per_token: price.rate,
            conversion: price.conversion,
            rounding: "down".to_owned(),
            credits_nano: price.credits,
            screenings: facts.screenings,
            acts: facts.acts,
        }
    }

    /// The deposit this credits.
    pub fn deposit_key(&self) -> DepositKey {
        DepositKey {
            chain: self.chain_id,
            tx_hash: self.tx_hash,
            token: self.token,
            recipient: self.recipient,
            shape: Shape::Transfer,
            n: self.n,
        }
    }

    /// The sighting it is credited on.
    pub fn sighting_key(&self) -> SightingKey {
        SightingKey { chain: self.chain_id, block_hash: self.block_hash, log_index: self.log_index }
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

    /// The first field that does not follow from the others, if there is one.
    pub fn contradicts_itself(&self) -> Option<&'static str> {
        let claims = [
            (self.rounding == "down", "rounding"),
            (self.deep_enough(), "finality"),
            (self.worth().holds(), "credits_nano"),
        ];
        claims.into_iter().find(|(holds, _)| !holds).map(|(_, field)| field)
    }

    /// True when the head named was as far above the block as the rule asks. What a tag stood for is not
    /// in the cause; then the head must at least not be below the block.
    fn deep_enough(&self) -> bool {
        let wanted = self.finality.strip_suffix(" confirmations");
        let wanted = wanted.map_or(Some(1), |n| n.parse::<u64>().ok());
        wanted.is_some_and(|n| confirmations(self.block_number, self.head_number) >= n)
    }
}
