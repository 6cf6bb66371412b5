//! A block's receipts, proved by its hash: a header that hashes to it, and receipts that hash to the
//! header's receipts root (Ethereum yellow paper, 4.3; EIP-2718 for typed receipts).
//!
//! Then nobody can have invented, changed or left out a log of that block. What is not proved is
//! which transaction a receipt belongs to: its hash is no part of the receipt.

use alloy::consensus::proofs::ordered_trie_root_with_encoder;
use alloy::primitives::{B256, Bloom, TxHash, U64};
use alloy::rlp::{BufMut, Encodable, Header as ListHeader};
use serde::Deserialize;

use super::Receipt;
use super::wire::{FullLog, RpcHeader};
use crate::domain::chain::Header;

/// The type of the deposit transactions of the OP stack, whose receipts have two more fields
/// (specs.optimism.io, "Deposits": receipts since Regolith and Canyon).
const OP_DEPOSIT: u8 = 0x7e;

/// A block and all its receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockProof {
    /// The header.
    pub header: Header,
    /// Every receipt, with its transaction.
    pub receipts: Vec<(TxHash, Receipt)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FullReceipt {
    transaction_hash: TxHash,
    block_hash: B256,
    #[serde(default, rename = "type")]
    kind: U64,
    #[serde(default)]
    status: Option<U64>,
    #[serde(default)]
    root: Option<B256>,
    cumulative_gas_used: U64,
    logs_bloom: Bloom,
    logs: Vec<FullLog>,
    #[serde(default)]
    deposit_nonce: Option<U64>,
    #[serde(default)]
    deposit_receipt_version: Option<U64>,
}

impl BlockProof {
    /// Checks what a provider says of a block against the block's hash.
    ///
    /// # Errors
    /// What does not hash to what.
    pub(super) fn check(hash: B256, block: &str, receipts: &str) -> Result<Self, String> {
        let sealed: alloy::consensus::Header =
            serde_json::from_str(block).map_err(|e| format!("the header cannot be read: {e}"))?;
        if sealed.hash_slow() != hash {
            return Err(format!("the header does not hash to {hash}"));
        }
        let RpcHeader(header) = serde_json::from_str(block).map_err(|e| e.to_string())?;
        // The other fields are those that were just hashed; the number of the block's own hash
        // field proves nothing.
        let header = Header { hash, ..header };
        let receipts: Vec<FullReceipt> = serde_json::from_str(receipts)
            .map_err(|e| format!("the receipts cannot be read: {e}"))?;
        let mut encoded = Vec::with_capacity(receipts.len());
        let mut proved = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            if receipt.block_hash != hash {
                return Err("a receipt of another block".into());
            }
            let (tx_hash, kind) = (receipt.transaction_hash, receipt.kind);
            let succeeded = receipt.status == Some(U64::from(1));
            let parts = Parts::of(&receipt)?;
            let logs: Vec<_> = receipt.logs.into_iter().map(|FullLog(log)| log).collect();
            let of_other = logs.iter().any(|l| l.tx_hash != tx_hash || l.block_hash != hash);
            if of_other {
                return Err("a log of another transaction or block".into());
            }
            encoded.push(parts.encoded(kind, &logs)?);
            proved.push((tx_hash, Receipt { block_hash: hash, succeeded, logs }));
        }
        // Indexes are no part of what is hashed, but follow from the order.
        let mut index: u64 = 0;
        for (_, receipt) in &proved {
            for log in &receipt.logs {
                if log.log_index != index || log.block_number != header.number {
                    return Err(format!("log {index} of the block has another index or height"));
                }
                index = index.saturating_add(1);
            }
        }
        let root = ordered_trie_root_with_encoder(&encoded, |receipt, out| out.put_slice(receipt));
        if root != sealed.receipts_root {
            return Err("the receipts do not hash to the header's receipts root".into());
        }
        Ok(Self { header, receipts: proved })
    }
}

/// What stands in a receipt before and after its logs.
struct Parts {
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Parts {
    fn of(receipt: &FullReceipt) -> Result<Self, String> {
        let mut first = Vec::new();
        match (receipt.status, receipt.root) {
            (Some(status), _) => (status == U64::from(1)).encode(&mut first),
            // Before Byzantium (EIP-658).
            (None, Some(root)) => root.encode(&mut first),
            (None, None) => return Err("a receipt without a status".into()),
        }
        receipt.cumulative_gas_used.to::<u64>().encode(&mut first);
        receipt.logs_bloom.encode(&mut first);
        let mut last = Vec::new();
        if receipt.kind == U64::from(OP_DEPOSIT) {
            let extras = [receipt.deposit_nonce, receipt.deposit_receipt_version];
            for extra in extras.into_iter().flatten() {
                extra.to::<u64>().encode(&mut last);
            }
        }
        Ok(Self { first, last })
    }

    /// The receipt as it is hashed: its type, unless it is the oldest, and a list.
    fn encoded(
        &self,
        kind: U64,
        logs: &[crate::domain::transfer::RawLog],
    ) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for log in logs {
            let mut one = Vec::new();
            log.address.encode(&mut one);
            log.topics.encode(&mut one);
            log.data.encode(&mut one);
            list(&one, &mut all);
        }
        let mut body = self.first.clone();
        list(&all, &mut body);
        body.extend_from_slice(&self.last);
        let kind = u8::try_from(kind.to::<u64>()).map_err(|_| "a receipt of an unknown type")?;
        let mut out = Vec::new();
        if kind != 0 {
            out.push(kind);
        }
        list(&body, &mut out);
        Ok(out)
    }
}

fn list(payload: &[u8], out: &mut Vec<u8>) {
    ListHeader { list: true, payload_length: payload.len() }.encode(out);
    out.extend_from_slice(payload);
}
