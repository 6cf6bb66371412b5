//! A block's receipts, proved by its hash: a header that hashes to it, and receipts that hash to the
//! header's receipts root (Ethereum yellow paper, 4.3; EIP-2718 for typed receipts).
//!
//! Then nobody can have invented, changed or left out a log of that block. Chains hash headers and
//! receipts differently, and what a node shows does not say how: each way that is known is tried,
//! which is safe, because the hash decides. What is not proved is which transaction a receipt belongs
//! to: its hash is no part of the receipt.

use alloy::consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy::primitives::{B256, Bloom, Bytes, Log, TxHash, keccak256, logs_bloom};
use alloy::rlp::{Encodable, Header as ListHeader, encode_fixed_size};
use alloy::trie::proof::ProofRetainer;
use alloy::trie::root::adjust_index_for_rlp;
use alloy::trie::{HashBuilder, Nibbles};

use super::field::{Field, hex_digits, object};
use super::wire::{RpcHeader, TextReceipt, succeeded, transfers};
use crate::chain::read::Receipt;
use crate::domain::chain::Header;
use crate::domain::receipt_proof::ReceiptProof;

/// The type of the deposit transactions of the OP stack. Their receipts have two more fields since
/// Canyon; between Regolith and Canyon a nonce is shown that was not hashed, and no version
/// (specs.optimism.io, "Deposits"; op-geth, `Receipts.EncodeIndex`).
const OP_DEPOSIT: u64 = 0x7e;
/// Celo's dynamic fee transactions (CIP-64). As a chain of the OP stack it hashes the base fee of their
/// receipts; before, it showed none.
const CELO_DYNAMIC: u64 = 0x7b;

/// A block and all its receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockProof {
    /// The header.
    pub header: Header,
    /// Every receipt that is proved, with its transaction and its `Transfer` logs.
    pub receipts: Vec<(TxHash, Receipt)>,
    /// A transaction of this block whose receipt lies outside of the root.
    pub outside: Option<TxHash>,
    /// What was hashed.
    pub sealed: Sealed,
}

/// A header and receipts, as they are hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    header: Vec<u8>,
    receipts: Vec<Vec<u8>>,
}

/// Why there is no proof.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoProof {
    /// The answer is none to the question.
    Nonsense(String),
    /// In no way that is known does it hash to the block's hash.
    Unproved(String),
}

object! {
    TextBlock {
        parent_hash: Field<'a> = "parentHash",
        uncles: Field<'a> = "sha3Uncles",
        miner: Field<'a> = "miner",
        state_root: Field<'a> = "stateRoot",
        transactions_root: Field<'a> = "transactionsRoot",
        receipts_root: Field<'a> = "receiptsRoot",
        logs_bloom: Field<'a> = "logsBloom",
        difficulty: Field<'a> = "difficulty",
        number: Field<'a> = "number",
        gas_limit: Field<'a> = "gasLimit",
        gas_used: Field<'a> = "gasUsed",
        timestamp: Field<'a> = "timestamp",
        extra_data: Field<'a> = "extraData",
        mix_hash: Field<'a> = "mixHash",
        nonce: Field<'a> = "nonce",
        base_fee: Field<'a> = "baseFeePerGas",
        withdrawals_root: Field<'a> = "withdrawalsRoot",
        blob_gas_used: Field<'a> = "blobGasUsed",
        excess_blob_gas: Field<'a> = "excessBlobGas",
        parent_beacon_root: Field<'a> = "parentBeaconBlockRoot",
        requests_hash: Field<'a> = "requestsHash",
        access_list_hash: Field<'a> = "blockAccessListHash",
        slot: Field<'a> = "slotNumber",
        ext_data_hash: Field<'a> = "extDataHash",
        ext_data_gas_used: Field<'a> = "extDataGasUsed",
        block_gas_cost: Field<'a> = "blockGasCost",
        time_milliseconds: Field<'a> = "timestampMilliseconds",
        min_delay_excess: Field<'a> = "minDelayExcess",
    }
}

impl BlockProof {
    /// Checks what a provider says of a block against the block's hash.
    ///
    /// # Errors
    /// What cannot be read, or does not hash to what.
    pub(super) fn check(hash: B256, block: &str, receipts: &str) -> Result<Self, NoProof> {
        let unreadable = |what: &str, why: serde_json::Error| {
            NoProof::Nonsense(format!("the {what} cannot be read: {why}"))
        };
        let read: TextBlock<'_> =
            serde_json::from_str(block).map_err(|e| unreadable("header", e))?;
        let RpcHeader(header) = serde_json::from_str(block).map_err(|e| unreadable("header", e))?;
        // The other fields are those that are hashed now; the block's own word for its hash proves
        // nothing.
        let header = Header { hash, ..header };
        let (sealed, root) = read.sealed(hash)?;
        let shown: Vec<TextReceipt<'_>> =
            serde_json::from_str(receipts).map_err(|e| unreadable("receipts", e))?;
        let mut all = Vec::with_capacity(shown.len());
        let mut index: u64 = 0;
        for receipt in &shown {
            all.push(receipt.read(&header, &mut index)?);
        }
        // Polygon's receipt of state syncs lies outside of the root, before PIP-74 put it inside.
        let outside = all.last().map(|(tx, ..)| *tx).filter(|tx| *tx == state_sync(&header));
        let inside = all.len().saturating_sub(usize::from(outside.is_some()));
        for (count, as_shown) in
            [(inside, true), (inside, false), (all.len(), true), (all.len(), false)]
        {
            let encoded: Vec<Vec<u8>> = all
                .iter()
                .take(count)
                .map(|(_, _, shown, computed)| if as_shown { shown } else { computed }.clone())
                .collect();
            if trie(&encoded, None).0 == root {
                let outside = outside.filter(|_| count < all.len());
                all.truncate(count);
                let receipts = all.into_iter().map(|(tx, receipt, ..)| (tx, receipt)).collect();
                let sealed = Sealed { header: sealed, receipts: encoded };
                return Ok(Self { header, receipts, outside, sealed });
            }
        }
        Err(NoProof::Unproved("the receipts do not hash to the header's receipts root".into()))
    }

    /// One that was hashed by whoever made the block, for scripted chains.
    #[cfg(feature = "planted")]
    pub(super) fn sealed(
        header: Header,
        receipts: Vec<(TxHash, Receipt)>,
        sealed: (Vec<u8>, Vec<Vec<u8>>),
    ) -> Self {
        let sealed = Sealed { header: sealed.0, receipts: sealed.1 };
        Self { header, receipts, outside: None, sealed }
    }

    /// What proves one transaction's receipt, to be kept.
    pub fn of(&self, tx: TxHash) -> Option<ReceiptProof> {
        let at = self.receipts.iter().position(|(of, _)| *of == tx)?;
        let receipt = self.sealed.receipts.get(at)?.clone().into();
        let (_, nodes) = trie(&self.sealed.receipts, Some(at));
        let header = self.sealed.header.clone().into();
        Some(ReceiptProof { header, index: u64::try_from(at).ok()?, receipt, nodes })
    }
}

/// The receipts root of a block with these receipts, each as it is hashed.
#[cfg(feature = "planted")]
pub(super) fn root_of(receipts: &[Vec<u8>]) -> B256 {
    trie(receipts, None).0
}

/// The root of a list, and the nodes that lead to one of its items (yellow paper, appendix D).
fn trie(items: &[Vec<u8>], target: Option<usize>) -> (B256, Vec<Bytes>) {
    if items.is_empty() {
        return (EMPTY_ROOT_HASH, Vec::new());
    }
    let key = |index: usize| Nibbles::unpack(encode_fixed_size(&index));
    let targets = target.map(key).into_iter().collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for place in 0..items.len() {
        let index = adjust_index_for_rlp(place, items.len());
        builder.add_leaf(key(index), items.get(index).map_or(&[], Vec::as_slice));
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    (root, nodes.into_iter().map(|(_, node)| node).collect())
}

/// The transaction that Polygon shows its state syncs under (bor, `GetDerivedBorTxHash`).
fn state_sync(header: &Header) -> TxHash {
    let number = header.number.to_be_bytes();
    keccak256([b"matic-bor-receipt-".as_slice(), &number, header.hash.as_slice()].concat())
}

/// How a field of a header is hashed.
#[derive(Clone, Copy)]
enum As {
    /// Without zeros in front.
    Number,
    Bytes,
}

impl TextBlock<'_> {
    /// The header as it is hashed, and its receipts root.
    fn sealed(&self, hash: B256) -> Result<(Vec<u8>, B256), NoProof> {
        let root = self.receipts_root.fixed("receiptsRoot of a block");
        let root = root.map_err(NoProof::Unproved)?;
        let mut first = Vec::new();
        for (field, kind, absent) in [
            (&self.parent_hash, As::Bytes, None),
            (&self.uncles, As::Bytes, Some(EMPTY_OMMER_ROOT_HASH.as_slice())),
            (&self.miner, As::Bytes, None),
            (&self.state_root, As::Bytes, None),
            (&self.transactions_root, As::Bytes, None),
            (&self.receipts_root, As::Bytes, None),
            (&self.logs_bloom, As::Bytes, None),
            (&self.difficulty, As::Number, Some(&[][..])),
            (&self.number, As::Number, None),
            (&self.gas_limit, As::Number, None),
            (&self.gas_used, As::Number, None),
            (&self.timestamp, As::Number, None),
            (&self.extra_data, As::Bytes, Some(&[][..])),
            (&self.mix_hash, As::Bytes, Some(&[0; 32][..])),
            (&self.nonce, As::Bytes, Some(&[0; 8][..])),
        ] {
            let item = raw(field, kind).or_else(|| Some(absent?.to_vec()));
            let unread = || NoProof::Unproved("a field of the header cannot be read".into());
            item.ok_or_else(unread)?.as_slice().encode(&mut first);
        }
        for rest in self.rests() {
            let items: Vec<_> = rest.iter().map(|(field, kind)| raw(field, *kind)).collect();
            // Fields at the end that are shown need not be hashed; of those before, none is left out.
            for count in (0..=items.len()).rev() {
                let mut body = first.clone();
                for item in items.iter().take(count) {
                    item.as_deref().unwrap_or_default().encode(&mut body);
                }
                let mut sealed = Vec::new();
                list(&body, &mut sealed);
                if keccak256(&sealed) == hash {
                    return Ok((sealed, root));
                }
            }
        }
        Err(NoProof::Unproved(format!("the header does not hash to {hash}")))
    }

    /// What follows the fields that all headers have: Ethereum's (EIP-1559, 4895, 4844, 4788, 7685,
    /// 7928), those of Avalanche's C-chain and of its subnets (coreth and subnet-evm,
    /// `HeaderSerializable`).
    fn rests(&self) -> [Vec<(&Field<'_>, As)>; 3] {
        let ethereum = vec![
            (&self.base_fee, As::Number),
            (&self.withdrawals_root, As::Bytes),
            (&self.blob_gas_used, As::Number),
            (&self.excess_blob_gas, As::Number),
            (&self.parent_beacon_root, As::Bytes),
            (&self.requests_hash, As::Bytes),
            (&self.access_list_hash, As::Bytes),
            (&self.slot, As::Number),
        ];
        let avalanche = |own: &[(_, As)]| {
            let blobs = [
                (&self.blob_gas_used, As::Number),
                (&self.excess_blob_gas, As::Number),
                (&self.parent_beacon_root, As::Bytes),
                (&self.time_milliseconds, As::Number),
                (&self.min_delay_excess, As::Number),
            ];
            own.iter().chain(&blobs).copied().collect::<Vec<_>>()
        };
        let c_chain = avalanche(&[
            (&self.ext_data_hash, As::Bytes),
            (&self.base_fee, As::Number),
            (&self.ext_data_gas_used, As::Number),
            (&self.block_gas_cost, As::Number),
        ]);
        let subnet = avalanche(&[(&self.base_fee, As::Number), (&self.block_gas_cost, As::Number)]);
        [ethereum, c_chain, subnet]
    }
}

impl TextReceipt<'_> {
    /// The receipt, and how it is hashed: with the bloom that is shown, and with that of its logs.
    /// `index` counts the logs of the block. What a chain may write otherwise than is known here proves
    /// nothing; what contradicts the question is no answer.
    fn read(
        &self,
        header: &Header,
        index: &mut u64,
    ) -> Result<(TxHash, Receipt, Vec<u8>, Vec<u8>), NoProof> {
        use NoProof::{Nonsense, Unproved};
        let tx = self.transaction_hash.fixed("transactionHash of a receipt");
        let tx: TxHash = tx.map_err(Nonsense)?;
        if self.block_hash.fixed("blockHash of a receipt") != Ok(header.hash) {
            return Err(Nonsense("a receipt of another block".into()));
        }
        let all = self.logs.as_ref().ok_or_else(|| Nonsense("a receipt without logs".into()))?;
        let kept = transfers(all).map_err(Nonsense)?;
        // Indexes are no part of what is hashed, but follow from the order.
        let mut places = Vec::new();
        let mut logs = Vec::with_capacity(all.len());
        for log in all {
            logs.push(log.hashed().map_err(Unproved)?);
            if log.is_transfer() {
                places.push(*index);
            }
            *index = index.saturating_add(1);
        }
        if !kept.iter().map(|log| log.log_index).eq(places) {
            return Err(Unproved("a log of the block has another index".into()));
        }
        let of_other = kept
            .iter()
            .any(|l| (l.tx_hash, l.block_hash, l.block_number) != (tx, header.hash, header.number));
        if of_other {
            return Err(Nonsense("a log of another transaction or block".into()));
        }
        let succeeded = succeeded(&self.status).map_err(Unproved)?;
        let computed = logs_bloom(&logs);
        let shown = self.logs_bloom.fixed("logsBloom").unwrap_or(computed);
        let encoded = self.encoded(succeeded, &logs, shown).map_err(Unproved)?;
        let other = self.encoded(succeeded, &logs, computed).map_err(Unproved)?;
        // What fails leaves no logs behind.
        let succeeded = succeeded.unwrap_or(!logs.is_empty());
        Ok((tx, Receipt { block_hash: header.hash, succeeded, logs: kept }, encoded, other))
    }

    /// The receipt as it is hashed: its type, unless it is the oldest, and a list.
    fn encoded(
        &self,
        succeeded: Option<bool>,
        logs: &[Log],
        bloom: Bloom,
    ) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        match (succeeded, &self.root) {
            (Some(succeeded), _) => succeeded.encode(&mut body),
            // Before Byzantium (EIP-658).
            (None, root) => root.fixed::<B256>("status of a receipt")?.encode(&mut body),
        }
        self.cumulative_gas_used.number("cumulativeGasUsed", u64::MAX)?.encode(&mut body);
        bloom.encode(&mut body);
        let mut all = Vec::new();
        for log in logs {
            log.encode(&mut all);
        }
        list(&all, &mut body);
        let kind = match &self.kind {
            Field::Absent => 0,
            kind => kind.number("type of a receipt", u64::from(u8::MAX))?,
        };
        let more = match kind {
            OP_DEPOSIT if self.deposit_receipt_version != Field::Absent => {
                vec![&self.deposit_nonce, &self.deposit_receipt_version]
            }
            CELO_DYNAMIC if self.base_fee != Field::Absent => vec![&self.base_fee],
            _ => Vec::new(),
        };
        for field in more {
            let number = raw(field, As::Number).ok_or("a field of a receipt cannot be read")?;
            number.as_slice().encode(&mut body);
        }
        let mut out = Vec::new();
        if let Some(kind) = u8::try_from(kind).ok().filter(|kind| *kind != 0) {
            out.push(kind);
        }
        list(&body, &mut out);
        Ok(out)
    }
}

/// A field's bytes, as they stand in a list.
fn raw(field: &Field<'_>, kind: As) -> Option<Vec<u8>> {
    match (field, kind) {
        (Field::Text(text), As::Bytes) => alloy::primitives::hex::decode(text.as_ref()).ok(),
        (Field::Text(text), As::Number) => {
            let digits = hex_digits(text)?.trim_start_matches('0');
            let even = if digits.len().is_multiple_of(2) { "" } else { "0" };
            alloy::primitives::hex::decode(format!("{even}{digits}")).ok()
        }
        (Field::Number(number), As::Number) => {
            Some(number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect())
        }
        _ => None,
    }
}

fn list(payload: &[u8], out: &mut Vec<u8>) {
    ListHeader { list: true, payload_length: payload.len() }.encode(out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
