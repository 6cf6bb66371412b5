//! Blocks in every way of hashing that is known. No chain was asked: the blocks are made up, and
//! hashed here as the chains' own rules say, with code of its own.

use alloy::primitives::{Address, U256, hex};
use serde_json::{Value, json};

use super::*;
use crate::domain::transfer::TRANSFER_TOPIC;

/// Items of a list, each already encoded.
fn rlp(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    list(&items.concat(), &mut out);
    out
}

fn bytes(raw: &[u8]) -> Vec<u8> {
    alloy::rlp::encode(raw)
}

fn number(number: u64) -> Vec<u8> {
    alloy::rlp::encode(number)
}

fn log() -> Log {
    let to = Address::repeat_byte(0xaa).into_word();
    let topics = vec![TRANSFER_TOPIC, Address::repeat_byte(1).into_word(), to];
    Log::new_unchecked(Address::repeat_byte(2), topics, B256::from(U256::from(5)).to_vec().into())
}

/// A receipt as it is hashed, with what stands behind its logs.
fn receipt(kind: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let bloom = logs_bloom(&[log()]);
    let mut items =
        vec![number(1), number(21_000), bytes(bloom.as_slice()), rlp(&[alloy::rlp::encode(log())])];
    items.extend_from_slice(more);
    let mut out = if kind == 0 { Vec::new() } else { vec![kind] };
    out.extend(rlp(&items));
    out
}

struct Made {
    hash: B256,
    block: Value,
    receipts: Vec<Value>,
}

/// A block with these receipts inside of its root, and its header's own fields behind the others: name,
/// value as shown, value as hashed.
fn made(receipts: &[Vec<u8>], own: &[(&str, Value, Vec<u8>)]) -> Made {
    let root = alloy::consensus::proofs::ordered_trie_root_with_encoder(receipts, |r, out| {
        out.extend_from_slice(r);
    });
    let bloom = logs_bloom(&[log()]);
    let mut items = vec![
        bytes(&[4; 32]),
        bytes(EMPTY_OMMER_ROOT_HASH.as_slice()),
        bytes(&[0; 20]),
        bytes(&[1; 32]),
        bytes(&[2; 32]),
        bytes(root.as_slice()),
        bytes(bloom.as_slice()),
        number(0),
        number(7),
        number(30_000_000),
        number(21_000),
        number(1_700_000_000),
        bytes(b"x"),
        bytes(&[0; 32]),
        bytes(&[0; 8]),
    ];
    items.extend(own.iter().map(|(.., hashed)| hashed.clone()));
    let hash = keccak256(rlp(&items));
    let mut block = json!({
        "hash": hash, "parentHash": B256::repeat_byte(4), "sha3Uncles": EMPTY_OMMER_ROOT_HASH,
        "miner": Address::ZERO, "stateRoot": B256::repeat_byte(1),
        "transactionsRoot": B256::repeat_byte(2), "receiptsRoot": root, "logsBloom": bloom,
        "difficulty": "0x0", "number": "0x7", "gasLimit": "0x1c9c380", "gasUsed": "0x5208",
        "timestamp": "0x6553f100", "extraData": "0x78", "mixHash": B256::ZERO,
        "nonce": "0x0000000000000000", "size": null, "transactions": {},
    });
    for (name, shown, _) in own {
        block[name] = shown.clone();
    }
    let receipts = (0..receipts.len()).map(|at| shown(hash, at)).collect();
    Made { hash, block, receipts }
}

fn tx(at: usize) -> B256 {
    B256::from(U256::from(at + 100))
}

/// The receipt at a place, as a node shows it.
fn shown(block: B256, at: usize) -> Value {
    let log = log();
    json!({
        "transactionHash": tx(at), "blockHash": block, "type": "0x2", "status": "0x1",
        "cumulativeGasUsed": "0x5208", "logsBloom": logs_bloom(std::slice::from_ref(&log)), "root": null,
        "logs": [{
            "address": log.address, "topics": log.data.topics(), "data": log.data.data,
            "blockHash": block, "blockNumber": "0x7", "transactionHash": tx(at),
            "logIndex": format!("{at:#x}"), "removed": null, "blockTimestamp": 1,
        }],
    })
}

impl Made {
    fn check(&self) -> Result<BlockProof, NoProof> {
        BlockProof::check(self.hash, &self.block.to_string(), &json!(self.receipts).to_string())
    }
}

fn quantity(name: &'static str, value: u64) -> (&'static str, Value, Vec<u8>) {
    (name, json!(format!("{value:#x}")), number(value))
}

fn word(name: &'static str, byte: u8) -> (&'static str, Value, Vec<u8>) {
    (name, json!(B256::repeat_byte(byte)), bytes(&[byte; 32]))
}

#[test]
fn headers_of_each_kind_are_proved() {
    let ethereum = [
        quantity("baseFeePerGas", 7),
        word("withdrawalsRoot", 5),
        quantity("blobGasUsed", 0),
        quantity("excessBlobGas", 300),
        word("parentBeaconBlockRoot", 6),
        word("requestsHash", 7),
    ];
    let avalanche = [
        word("extDataHash", 8),
        quantity("baseFeePerGas", 7),
        quantity("extDataGasUsed", 0),
        quantity("blockGasCost", 100_000),
        quantity("blobGasUsed", 0),
        quantity("excessBlobGas", 0),
        word("parentBeaconBlockRoot", 0),
        quantity("timestampMilliseconds", 1_700_000_000_123),
        quantity("minDelayExcess", 7_970_124),
    ];
    let subnet = [quantity("baseFeePerGas", 7), quantity("blockGasCost", 0)];
    for own in [&ethereum[..], &ethereum[..1], &[], &avalanche, &avalanche[..4], &subnet] {
        let mut made = made(&[receipt(2, &[]), receipt(2, &[])], own);
        let proof = made.check().unwrap();
        assert_eq!((proof.receipts.len(), proof.header.number), (2, 7));
        // Shown beside, and not hashed.
        made.block["slotNumber"] = json!("0x5");
        assert!(made.check().is_ok());
        made.block["gasUsed"] = json!("0x5209");
        assert!(matches!(made.check(), Err(NoProof::Unproved(_))));
    }
}

#[test]
fn receipts_of_each_kind_are_proved() {
    let cases: [(u8, Value, Vec<Vec<u8>>); 6] = [
        (0, json!({ "type": null }), vec![]),
        (0x6a, json!({ "type": "0x6a", "gasUsedForL1": "0x0" }), vec![]),
        // Between Regolith and Canyon the nonce is shown, and not hashed.
        (0x7e, json!({ "type": "0x7e", "depositNonce": "0x3" }), vec![]),
        (
            0x7e,
            json!({ "type": "0x7e", "depositNonce": "0x3", "depositReceiptVersion": "0x1" }),
            vec![number(3), number(1)],
        ),
        (0x7b, json!({ "type": "0x7b", "baseFee": "0x5d21dba00" }), vec![number(25_000_000_000)]),
        (0x7b, json!({ "type": "0x7b", "baseFee": null }), vec![]),
    ];
    for (kind, fields, more) in cases {
        let mut made = made(&[receipt(kind, &more)], &[quantity("baseFeePerGas", 7)]);
        for (name, value) in fields.as_object().unwrap() {
            made.receipts[0][name] = value.clone();
        }
        assert!(made.check().is_ok(), "{fields}");
        made.receipts[0]["logsBloom"] = json!("0x");
        assert!(made.check().is_ok(), "{fields} without a bloom");
        made.receipts[0]["cumulativeGasUsed"] = json!("0x1");
        assert!(matches!(made.check(), Err(NoProof::Unproved(_))), "{fields}");
    }
}

#[test]
fn a_state_sync_outside_of_the_root_is_passed_over_and_proves_nothing() {
    let mut made = made(&[receipt(2, &[])], &[quantity("baseFeePerGas", 7)]);
    let sync = {
        let number = 7u64.to_be_bytes();
        keccak256([&b"matic-bor-receipt-"[..], &number, made.hash.as_slice()].concat())
    };
    let mut last = shown(made.hash, 1);
    (last["transactionHash"], last["type"]) = (json!(sync), json!("0x0"));
    last["logs"][0]["transactionHash"] = json!(sync);
    made.receipts.push(last);
    let proof = made.check().unwrap();
    assert_eq!((proof.receipts.len(), proof.outside), (1, Some(sync)));
    assert!(proof.of(sync).is_none());
    // Any other receipt that is added is none of the block's.
    made.receipts[1] = shown(made.hash, 1);
    assert!(matches!(made.check(), Err(NoProof::Unproved(_))));
}

#[test]
fn what_is_kept_proves_a_receipt_by_itself_and_no_byte_of_it_can_be_another() {
    let receipts: Vec<_> = (0..200).map(|_| receipt(2, &[])).collect();
    let made = made(&receipts, &[quantity("baseFeePerGas", 7)]);
    let proof = made.check().unwrap();
    for at in [0, 1, 127, 128, 199] {
        let kept = proof.of(tx(at)).unwrap();
        assert_eq!(kept.logs(made.hash).unwrap(), [log()], "{at}");
        assert!(kept.logs(B256::ZERO).is_err());
        let other = ReceiptProof { index: kept.index + 1, ..kept.clone() };
        assert!(at == 199 || other.logs(made.hash).is_err() || at + 1 < 200);
    }
    let kept = proof.of(tx(3)).unwrap();
    let flipped = |bytes: &Bytes, at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    for at in 0..kept.header.len() {
        let header = flipped(&kept.header, at);
        assert!(ReceiptProof { header, ..kept.clone() }.logs(made.hash).is_err(), "header {at}");
    }
    for at in 0..kept.receipt.len() {
        let receipt = flipped(&kept.receipt, at);
        assert!(ReceiptProof { receipt, ..kept.clone() }.logs(made.hash).is_err(), "receipt {at}");
    }
    for node in 0..kept.nodes.len() {
        for at in 0..kept.nodes[node].len() {
            let mut changed = kept.clone();
            changed.nodes[node] = flipped(&kept.nodes[node], at);
            assert!(changed.logs(made.hash).is_err(), "node {node} {}", hex::encode([0]));
        }
    }
    let index = kept.index + 500;
    assert!(ReceiptProof { index, ..kept.clone() }.logs(made.hash).is_err());
    assert!(ReceiptProof { nodes: vec![], ..kept }.logs(made.hash).is_err());
}

#[test]
fn what_is_kept_shows_the_transfers_of_its_receipt_and_no_others() {
    use crate::domain::ids::{ChainId, DepositKey, Shape};
    use crate::domain::money::RawAmount;
    use crate::domain::transfer::Content;
    let made = made(&[receipt(2, &[]), receipt(2, &[])], &[]);
    let kept = made.check().unwrap().of(tx(1)).unwrap();
    let nodes = ReceiptProof::nodes_of(&kept.nodes_in_one()).unwrap();
    assert_eq!(nodes, kept.nodes);
    let deposit = DepositKey {
        chain: ChainId(1),
        tx_hash: tx(1),
        token: Address::repeat_byte(2),
        recipient: Address::repeat_byte(0xaa),
        shape: Shape::Transfer,
        n: 0,
    };
    let paid = |from: u8, amount: u64| Content::Transfer {
        sender: Address::repeat_byte(from),
        amount: RawAmount(U256::from(amount)),
    };
    assert_eq!(kept.shows(made.hash, &deposit, &paid(1, 5)), Ok(()));
    assert!(kept.shows(B256::ZERO, &deposit, &paid(1, 5)).is_err());
    assert!(kept.shows(made.hash, &deposit, &paid(1, 6)).is_err());
    assert!(kept.shows(made.hash, &deposit, &paid(2, 5)).is_err());
    for other in [
        DepositKey { n: 1, ..deposit },
        DepositKey { token: Address::ZERO, ..deposit },
        DepositKey { recipient: Address::ZERO, ..deposit },
    ] {
        assert!(kept.shows(made.hash, &other, &paid(1, 5)).is_err());
    }
}
