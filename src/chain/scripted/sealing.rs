//! Blocks of scripted chains, hashed as those of Ethereum are.

use alloy::consensus::{Header as EthereumHeader, Receipt as EthereumReceipt};
use alloy::primitives::{B256, Log, TxHash, keccak256};

use crate::chain::BlockProof;
use crate::chain::proof::root_of;
use crate::chain::read::Receipt;
use crate::domain::chain::Header;

/// Header and receipts of a block, as they are hashed: of the oldest kind, and all of success.
#[derive(Debug, Clone)]
pub struct Sealing {
    header: Vec<u8>,
    receipts: Vec<Vec<u8>>,
}

impl Sealing {
    /// The block's hash.
    pub fn hash(&self) -> B256 {
        keccak256(&self.header)
    }

    /// What its block's hash proves of these receipts, in the same order.
    pub fn proves(self, header: Header, receipts: Vec<(TxHash, Receipt)>) -> BlockProof {
        BlockProof::sealed(header, receipts, (self.header, self.receipts))
    }
}

/// Seals a block of this height, parent and time: by the logs of its transactions, and by a number that tells it from
/// others like it.
pub fn seal(
    (number, parent_hash, time_ms): (u64, B256, i64),
    salt: u64,
    txs: impl Iterator<Item = Vec<Log>>,
) -> Sealing {
    let receipts: Vec<Vec<u8>> = txs
        .zip(1u64..)
        .map(|(logs, gas)| {
            let receipt = EthereumReceipt { status: true.into(), cumulative_gas_used: gas, logs };
            alloy::rlp::encode(receipt.with_bloom())
        })
        .collect();
    let timestamp = u64::try_from(time_ms.checked_div(1_000).unwrap_or_default());
    let header = alloy::rlp::encode(EthereumHeader {
        number,
        parent_hash,
        receipts_root: root_of(&receipts),
        timestamp: timestamp.unwrap_or_default(),
        nonce: salt.to_be_bytes().into(),
        ..EthereumHeader::default()
    });
    Sealing { header, receipts }
}
