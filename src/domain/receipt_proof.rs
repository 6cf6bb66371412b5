//! A receipt's way to its block's hash, kept beside the credit that rests on it: a pruned node cannot
//! give it later, and nobody needs to be asked to check it.
//!
//! The header hashes to the block's hash and names a root; the nodes lead from that root to the
//! receipt (yellow paper, 4.3 and appendix D).

use alloy::primitives::{B256, Bytes, Log, keccak256};
use alloy::rlp::{Decodable, Header as Item, PayloadView};
use alloy::trie::Nibbles;
use alloy::trie::proof::verify_proof;

use super::ids::{AddressId, DepositKey};
use super::transfer::{AddressBook, Content, RawLog, match_logs};

/// What a header's list holds at this place (yellow paper, 4.3).
const RECEIPTS_ROOT: usize = 5;
/// The same.
const TIMESTAMP: usize = 11;
/// What a receipt's list holds at this place.
const LOGS: usize = 3;

/// A receipt of a block, and why it must be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptProof {
    /// The header, as it is hashed.
    pub header: Bytes,
    /// The receipt's place in its block.
    pub index: u64,
    /// The receipt, as it is hashed.
    pub receipt: Bytes,
    /// From the root to the receipt.
    pub nodes: Vec<Bytes>,
}

impl ReceiptProof {
    /// The nodes in one value, to be stored: a list in RLP.
    pub fn nodes_in_one(&self) -> Vec<u8> {
        alloy::rlp::encode(&self.nodes)
    }

    /// What [`ReceiptProof::nodes_in_one`] gave.
    pub fn nodes_of(mut bytes: &[u8]) -> Option<Vec<Bytes>> {
        let nodes = Vec::decode(&mut bytes).ok()?;
        bytes.is_empty().then_some(nodes)
    }

    /// Checks that a deposit's transfer is among the receipt's logs, in this block: the same token,
    /// parties and amount, and as many of its kind before it.
    ///
    /// # Errors
    /// What is not so.
    pub fn shows(
        &self,
        block: B256,
        deposit: &DepositKey,
        content: &Content,
    ) -> Result<(), &'static str> {
        let logs: Vec<RawLog> = (0u64..)
            .zip(self.logs(block)?)
            .map(|(log_index, log)| RawLog {
                address: log.address,
                topics: log.data.topics().to_vec(),
                data: log.data.data,
                block_hash: block,
                block_number: 0,
                tx_hash: deposit.tx_hash,
                log_index,
            })
            .collect();
        let mut book = AddressBook::default();
        book.insert(deposit.recipient, AddressId(0));
        let shown = match_logs(deposit.chain, &logs, &book);
        let is_it = |s: &super::transfer::Sighting| s.deposit == *deposit && s.content == *content;
        if shown.iter().any(is_it) { Ok(()) } else { Err("the receipt does not show the transfer") }
    }

    /// Whether the header says this time, to the second.
    pub fn is_of(&self, time_ms: i64) -> bool {
        let said = item(&self.header, TIMESTAMP).and_then(|item| u64::decode(&mut &*item).ok());
        said.is_some_and(|said| i64::try_from(said) == Ok(time_ms.div_euclid(1_000)))
    }

    /// The receipt's logs, if all of it hashes to a block's hash.
    ///
    /// # Errors
    /// What does not.
    pub fn logs(&self, block: B256) -> Result<Vec<Log>, &'static str> {
        if keccak256(&self.header) != block {
            return Err("the header does not hash to the block's hash");
        }
        let root = item(&self.header, RECEIPTS_ROOT).ok_or("the header cannot be read")?;
        let root = B256::decode(&mut &*root).map_err(|_| "the header has no receipts root")?;
        let key = Nibbles::unpack(alloy::rlp::encode_fixed_size(&self.index));
        verify_proof(root, key, Some(self.receipt.to_vec()), &self.nodes)
            .map_err(|_| "the receipt does not hash to the header's receipts root")?;
        let body = match self.receipt.first() {
            // A type stands before the list (EIP-2718).
            Some(0..=0x7f) => self.receipt.get(1..).unwrap_or_default(),
            _ => &self.receipt,
        };
        let logs = item(body, LOGS).ok_or("the receipt cannot be read")?;
        Vec::decode(&mut &*logs).map_err(|_| "the receipt's logs cannot be read")
    }
}

/// An item of a list, with its own header.
fn item(list: &[u8], at: usize) -> Option<&[u8]> {
    match Item::decode_raw(&mut &*list).ok()? {
        PayloadView::List(items) => items.get(at).copied(),
        PayloadView::String(_) => None,
    }
}
