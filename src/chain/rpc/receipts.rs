//! The receipts of a whole block, from a node that has them in one answer, and from one that has not.

use alloy::primitives::TxHash;
use futures_util::stream;
use futures_util::stream::{StreamExt, TryStreamExt};
use serde_json::value::RawValue;

use super::{RECEIPT, RECEIPTS};
use crate::chain::jsonrpc::NoAnswer;
use crate::chain::read::Receipt;
use crate::chain::rpc::node::RpcSource;
use crate::chain::rpc_error::range_too_large;
use crate::chain::source::{ChainSource, SourceError};
use crate::chain::wire::{RpcReceipt, RpcTransactions};
use crate::domain::ids::BlockRef;

/// Bytes of a block's receipts, one by one: as many as in one answer.
const RECEIPTS_MAX: usize = 160 * 1024 * 1024;
pub(super) const TOO_LARGE: &str = "the receipts of its block are too large to be read";
/// Receipts asked for at once where a block's cannot be had in one answer.
const RECEIPTS_AT_ONCE: usize = 4;

impl RpcSource {
    /// Receipts that are said to be a block's.
    pub(super) fn all_of(
        &self,
        block: BlockRef,
        receipts: Option<Vec<RpcReceipt>>,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        let Some(receipts) = receipts else { return Ok(None) };
        let mut all = Vec::with_capacity(receipts.len());
        for RpcReceipt(receipt) in receipts {
            match receipt.filter(|(_, receipt)| receipt.block_hash == block.hash) {
                Some(receipt) => all.push(receipt),
                None => return Err(self.invalid(RECEIPTS, "a receipt of another block")),
            }
        }
        Ok(Some(all))
    }

    /// The receipts of a block whose transactions are known by their hashes only.
    pub(super) async fn receipts_one_by_one(
        &self,
        block: BlockRef,
    ) -> Result<Option<Vec<(TxHash, Receipt)>>, SourceError> {
        const METHOD: &str = "eth_getBlockByHash";
        let listed: Option<RpcTransactions> = self.ask(METHOD, (block.hash, false)).await?;
        let Some(listed) = listed else { return Ok(None) };
        if listed.hash != Some(block.hash) {
            return Err(self.invalid(METHOD, format!("another block for {}", block.hash)));
        }
        let receipts = stream::iter(listed.transactions)
            .map(|tx| async move {
                let receipt = self.receipt(tx).await?;
                Ok::<_, SourceError>(receipt.map(|receipt| (tx, receipt)))
            })
            .buffered(RECEIPTS_AT_ONCE);
        let receipts: Vec<Option<(TxHash, Receipt)>> = receipts.try_collect().await?;
        // One that is missing or of another block: not all of them can be had.
        let here = |(_, receipt): &(TxHash, Receipt)| receipt.block_hash == block.hash;
        Ok(receipts.into_iter().map(|receipt| receipt.filter(here)).collect())
    }

    /// The receipts of a block's transactions, as a list in text.
    pub(super) async fn texts_of_receipts(&self, block: &str) -> Result<String, SourceError> {
        let listed: RpcTransactions = serde_json::from_str(block)
            .map_err(|e| self.invalid("eth_getBlockByHash", e.to_string()))?;
        let mut asked = stream::iter(listed.transactions)
            .map(|tx| self.whole::<Box<RawValue>>(RECEIPT, (tx,)))
            .buffered(RECEIPTS_AT_ONCE);
        let (mut receipts, mut bytes) = (Vec::new(), 0usize);
        while let Some(answer) = asked.next().await {
            let receipt = match answer {
                Ok(receipt) => receipt,
                Err(NoAnswer::TooLarge) => return Err(self.unproved(TOO_LARGE)),
                Err(error) => match self.classify(RECEIPT, error) {
                    SourceError::Refused { why, .. } if range_too_large(&why) => {
                        return Err(self.unproved(&why));
                    }
                    error => return Err(error),
                },
            };
            bytes = bytes.saturating_add(receipt.get().len());
            if bytes > RECEIPTS_MAX {
                return Err(self.unproved(TOO_LARGE));
            }
            receipts.push(receipt);
        }
        let receipts: Vec<_> = receipts.iter().map(|receipt| receipt.get()).collect();
        Ok(if receipts.contains(&"null") {
            "null".into()
        } else {
            format!("[{}]", receipts.join(","))
        })
    }
}
