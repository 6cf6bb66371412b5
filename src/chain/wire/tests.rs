//! Every shape that a node writes a header, a log or a receipt in.

use alloy::primitives::{U64, U256};
use serde_json::{Value, json};

use super::*;
use crate::domain::ids::AddressId;
use crate::domain::transfer::TRANSFER_TOPIC;

const OURS: Address = Address::repeat_byte(0xaa);

fn book() -> AddressBook {
    let mut book = AddressBook::default();
    book.insert(OURS, AddressId(1));
    book
}

fn log(number: u64, index: u64, to: Address) -> Value {
    json!({
        "address": Address::repeat_byte(1), "data": format!("0x{:064x}", 5),
        "topics": [TRANSFER_TOPIC, Address::ZERO.into_word(), to.into_word()],
        "blockHash": B256::from(U256::from(number)), "blockNumber": U64::from(number),
        "transactionHash": B256::repeat_byte(9), "transactionIndex": "0x0",
        "logIndex": U64::from(index), "blockTimestamp": "0x64", "removed": false,
    })
}

fn range_logs(text: &str) -> Result<RangeLogs, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let reader = RangeReader { from: 1, to: 9, book: &book() };
    reader.deserialize(&mut deserializer).map_err(|e| e.to_string())
}

fn read(logs: &[Value]) -> Result<RangeLogs, String> {
    range_logs(&json!(logs).to_string())
}

#[test]
fn logs_of_others_are_counted_and_ours_are_kept() {
    let other = Address::repeat_byte(0xbb);
    let found = read(&[log(1, 0, other), log(1, 1, OURS), log(2, 0, other)]).unwrap();
    assert_eq!(found.seen, 3);
    assert_eq!(found.logs.len(), 1);
    assert_eq!(found.times, BTreeMap::from([(1, 100_000)]));
    let whole: RpcLogs = serde_json::from_value(json!([log(1, 1, OURS)])).unwrap();
    assert_eq!(found.logs, whole.0);
    assert_eq!(read(&[]), Ok(RangeLogs::default()));
}

#[test]
fn a_log_whose_recipient_stands_elsewhere_is_kept_for_a_closer_look() {
    let mut odd = log(1, 0, OURS);
    odd["topics"] = json!([TRANSFER_TOPIC]);
    assert_eq!(read(&[odd]).unwrap().logs.len(), 1);
}

#[test]
fn logs_that_cannot_be_of_this_range_are_refused() {
    let changed = |key: &str, value: Value| {
        let mut log = log(1, 0, OURS);
        log[key] = value;
        read(&[log]).unwrap_err()
    };
    assert!(changed("removed", json!(true)).contains("removed"));
    assert!(changed("blockNumber", json!("0xa")).contains("outside"));
    assert!(changed("blockNumber", json!("10")).contains("number"));
    assert!(changed("blockHash", json!("0x12")).contains("blockHash"));
    assert!(changed("logIndex", json!(null)).contains("logIndex"));
    assert!(changed("logIndex", json!("0xffffffffffffffff")).contains("too large"));
    assert!(changed("logIndex", json!("0x100000000")).contains("too large"));
    assert!(changed("blockNumber", json!("0x8000000000000000")).contains("too large"));
    assert!(changed("address", json!(null)).contains("address"));
    assert!(changed("transactionHash", json!("0x1")).contains("transactionHash"));
    assert!(changed("data", json!("0xzz")).contains("data"));
    let ours = OURS.into_word();
    let topics = json!([TRANSFER_TOPIC, ours, ours, ours, ours]);
    assert!(changed("topics", topics).contains("four topics"));
    let mut fork = log(1, 1, OURS);
    fork["blockHash"] = json!(B256::repeat_byte(7));
    assert!(read(&[log(1, 0, OURS), fork]).unwrap_err().contains("two blocks"));
    assert!(range_logs("null").is_err());
    assert!(range_logs("{}").is_err());
}

#[test]
fn what_decides_nothing_of_a_log_may_have_any_shape() {
    for odd in ODD {
        let odd: Value = serde_json::from_str(odd).unwrap();
        for key in ["blockTimestamp", "transactionIndex", "removed", "more"] {
            let mut log = log(1, 0, OURS);
            log[key] = odd.clone();
            let found = read(&[log.clone()]).unwrap_or_else(|e| panic!("{log}: {e}"));
            assert_eq!(found.logs.len(), 1);
            if key == "blockTimestamp" {
                let told = odd.as_u64().map(|s| (1, i64::try_from(s).unwrap() * 1_000));
                assert_eq!(found.times, told.into_iter().collect(), "{odd}");
            }
        }
        // Of somebody else's log only the recipient decides.
        for key in ["address", "data", "blockHash", "transactionHash", "logIndex", "removed"] {
            let mut foreign = log(1, 0, Address::repeat_byte(0xbb));
            foreign[key] = odd.clone();
            assert_eq!(read(&[foreign, log(1, 1, OURS)]).unwrap().logs.len(), 1, "{key} {odd}");
        }
    }
    // Escapes of JSON, a name that stands there twice, numbers of JSON.
    let text = json!([log(1, 3, OURS)]).to_string().replace("0x", "\\u0030x");
    assert_eq!(range_logs(&text).unwrap().logs[0].log_index, 3);
    let twice = text.replace("\"removed\":false", "\"removed\":false,\"removed\":null");
    assert_eq!(range_logs(&twice).unwrap().logs.len(), 1);
    let twice = text.replace("\"removed\":false", "\"logIndex\":\"0x1\"");
    assert!(range_logs(&twice).unwrap_err().contains("logIndex"));
    let mut plain = log(1, 3, OURS);
    (plain["logIndex"], plain["blockNumber"]) = (json!(3), json!(1));
    assert_eq!(read(&[plain]).unwrap().logs[0].log_index, 3);
}

#[test]
fn a_header_is_read_whatever_its_bloom_is_and_strictly_where_it_decides() {
    let header = |key: &str, value: Value| {
        let mut header = json!({
            "number": "0x5", "hash": B256::repeat_byte(5), "parentHash": B256::repeat_byte(4),
            "timestamp": "0x64", "logsBloom": Bloom::repeat_byte(1), "miner": null,
        });
        header[key] = value;
        serde_json::from_value::<RpcHeader>(header).map(|h| h.0).map_err(|e| e.to_string())
    };
    assert_eq!(header("size", json!({})).unwrap().bloom, Bloom::repeat_byte(1));
    for odd in [json!(null), json!("0x"), json!("0x1234"), json!(7), json!([])] {
        assert_eq!(header("logsBloom", odd).unwrap().bloom, Bloom::ZERO);
    }
    assert_eq!(header("number", json!("0x0007")).unwrap().number, 7);
    for (key, wrong) in [
        ("number", json!("0x8000000000000000")),
        ("number", json!(null)),
        ("number", json!("12")),
        ("timestamp", json!("0xffffffffffff")),
        ("timestamp", json!("100")),
        ("hash", json!(null)),
        ("parentHash", json!("0x")),
    ] {
        assert!(header(key, wrong.clone()).is_err(), "{key} {wrong}");
    }
}

#[test]
fn a_receipt_rests_on_its_transfers_alone() {
    let mut ours = log(1, 0, OURS);
    let tx = ours["transactionHash"].clone();
    let receipt = |logs: Value, status: Value| {
        let receipt = json!({
            "transactionHash": tx, "blockHash": B256::from(U256::from(1)), "logs": logs,
            "status": status, "type": null, "logsBloom": "0x", "contractAddress": {},
        });
        serde_json::from_value::<RpcReceipt>(receipt).map(|r| r.0.unwrap().1)
    };
    for (status, succeeded) in [
        (json!("0x1"), true),
        (json!("0x01"), true),
        (json!(1), true),
        (json!(true), true),
        (json!(null), true),
        (json!("0x0"), false),
        (json!(false), false),
    ] {
        assert_eq!(receipt(json!([ours]), status).unwrap().succeeded, succeeded);
    }
    assert!(!receipt(json!([]), json!(null)).unwrap().succeeded);
    let foreign = json!({ "address": null, "topics": null, "data": null, "logIndex": "0x1" });
    let padded = {
        let mut log = log(1, 2, OURS);
        log["topics"] = json!([TRANSFER_TOPIC, null, null, null]);
        log["data"] = json!(null);
        log
    };
    let found = receipt(json!([ours, foreign, padded]), json!("0x1")).unwrap();
    assert_eq!(found.logs.len(), 2);
    assert_eq!((found.logs[1].topics.len(), found.logs[1].data.len()), (1, 0));
    assert!(receipt(json!(null), json!("0x1")).is_err());
    assert!(receipt(json!([ours]), json!("yes")).is_err());
    ours["logIndex"] = json!("0x100000000");
    assert!(receipt(json!([ours]), json!("0x1")).is_err());
}

/// Values in shapes that nobody expects.
const ODD: &[&str] = &[
    "null",
    "7",
    "-7",
    "7.5",
    "1e300",
    "false",
    "\"\"",
    "\"0x\"",
    "\"1700000000\"",
    "\"0xzz\"",
    "\"0x0\"",
    "{}",
    "{\"a\":[1]}",
    "[]",
    "[null]",
];
