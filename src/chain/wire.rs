//! What nodes write: blocks, logs and receipts in JSON, read into the house's own types.
//!
//! Only the fields that are used are read; everything else differs from chain to chain. The logs of
//! a range are read one by one from the text, and of those that are plainly not ours only the count
//! remains, so that an answer of many megabytes costs no more memory than its bytes.

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Address, B256, Bloom, Bytes, U64, hex};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::{RangeLogs, Receipt};
use crate::domain::chain::Header;
use crate::domain::transfer::{AddressBook, RawLog};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcHeader {
    number: Option<U64>,
    hash: Option<B256>,
    parent_hash: B256,
    timestamp: U64,
    #[serde(default)]
    logs_bloom: Option<Bloom>,
}

impl RpcHeader {
    pub(super) fn checked(self) -> Result<Header, String> {
        let (Some(number), Some(hash)) = (self.number, self.hash) else {
            return Err("a block without number or hash".into());
        };
        let time_ms = millis(self.timestamp).ok_or("a timestamp out of range")?;
        Ok(Header {
            number: number.to(),
            hash,
            parent_hash: self.parent_hash,
            time_ms,
            bloom: self.logs_bloom.unwrap_or_default(),
        })
    }
}

/// Seconds of a chain as epoch milliseconds.
fn millis(seconds: U64) -> Option<i64> {
    i64::try_from(seconds.to::<u64>()).ok()?.checked_mul(1_000)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcReceipt {
    transaction_hash: B256,
    block_hash: Option<B256>,
    status: Option<U64>,
    logs: Vec<RpcLog>,
}

impl RpcReceipt {
    /// The receipt and its transaction; `None` while that is in no block.
    pub(super) fn checked(self) -> Result<Option<(B256, Receipt)>, String> {
        let (tx, Some(block_hash)) = (self.transaction_hash, self.block_hash) else {
            return Ok(None);
        };
        let logs = self.logs.into_iter().map(RpcLog::checked).collect::<Result<Vec<_>, _>>()?;
        if logs.iter().any(|l| l.tx_hash != tx || l.block_hash != block_hash) {
            return Err("a log of another transaction or block".into());
        }
        let succeeded = self.status == Some(U64::from(1));
        Ok(Some((tx, Receipt { block_hash, succeeded, logs })))
    }
}

/// A block, of which only the transactions' hashes are asked.
#[derive(Debug, Deserialize)]
pub(super) struct RpcTransactions {
    pub(super) hash: Option<B256>,
    pub(super) transactions: Vec<B256>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_hash: Option<B256>,
    block_number: Option<U64>,
    transaction_hash: Option<B256>,
    log_index: Option<U64>,
    #[serde(default)]
    removed: bool,
}

impl RpcLog {
    pub(super) fn checked(self) -> Result<RawLog, String> {
        let (Some(block_hash), Some(block_number), Some(tx_hash), Some(log_index)) =
            (self.block_hash, self.block_number, self.transaction_hash, self.log_index)
        else {
            return Err("a log without its block, transaction or index".into());
        };
        if self.removed {
            return Err("a removed log".into());
        }
        if self.topics.len() > 4 {
            return Err("a log with more than four topics".into());
        }
        Ok(RawLog {
            address: self.address,
            topics: self.topics,
            data: self.data,
            block_hash,
            block_number: block_number.to(),
            tx_hash,
            log_index: log_index.to(),
        })
    }
}

/// A log whose parts still are the text they came in.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TextLog<'a> {
    address: &'a str,
    #[serde(borrow)]
    topics: Topics<'a>,
    data: &'a str,
    block_hash: &'a str,
    block_number: &'a str,
    transaction_hash: &'a str,
    log_index: &'a str,
    #[serde(default)]
    block_timestamp: Option<&'a str>,
    #[serde(default)]
    removed: bool,
}

/// Up to four topics, without a list on the heap.
struct Topics<'a> {
    all: [&'a str; 4],
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Topics<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Four;
        impl<'de> Visitor<'de> for Four {
            type Value = Topics<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("at most four topics")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Topics<'de>, A::Error> {
                let mut topics = Topics { all: [""; 4], count: 0 };
                while let Some(topic) = seq.next_element::<&'de str>()? {
                    let Some(place) = topics.all.get_mut(topics.count) else {
                        return Err(A::Error::custom("a log with more than four topics"));
                    };
                    *place = topic;
                    topics.count = topics.count.saturating_add(1);
                }
                Ok(topics)
            }
        }
        deserializer.deserialize_seq(Four)
    }
}

/// Reads the logs of a range of heights, and checks that they are of that range and of one chain.
#[derive(Clone, Copy)]
pub(super) struct RangeReader<'b> {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) book: &'b AddressBook,
}

impl<'de> DeserializeSeed<'de> for RangeReader<'_> {
    type Value = RangeLogs;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RangeLogs, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RangeReader<'_> {
    type Value = RangeLogs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of logs")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RangeLogs, A::Error> {
        let mut found = RangeLogs::default();
        // The block of the log before: most logs are of the same one.
        let mut last: (&str, &str, u64, B256) = ("", "", 0, B256::ZERO);
        let mut blocks: BTreeMap<u64, B256> = BTreeMap::new();
        while let Some(log) = seq.next_element::<TextLog<'de>>()? {
            found.seen = found.seen.saturating_add(1);
            if log.removed {
                return Err(A::Error::custom("a removed log"));
            }
            if (log.block_number, log.block_hash) != (last.0, last.1) {
                let number = quantity(log.block_number).map_err(A::Error::custom)?;
                let hash: B256 = log.block_hash.parse().map_err(A::Error::custom)?;
                if !(self.from..=self.to).contains(&number) {
                    return Err(A::Error::custom("logs outside of the range"));
                }
                if *blocks.entry(number).or_insert(hash) != hash {
                    return Err(A::Error::custom(format!("two blocks at {number}")));
                }
                last = (log.block_number, log.block_hash, number, hash);
            }
            let (number, hash) = (last.2, last.3);
            let Some(raw) = log.kept(self.book, number, hash).map_err(A::Error::custom)? else {
                continue;
            };
            if let Some(time) = log.block_timestamp {
                let seconds = quantity(time).map_err(A::Error::custom)?;
                // Nodes that do not know it say 0.
                if seconds > 0
                    && let Some(time_ms) = millis(U64::from(seconds))
                {
                    found.times.insert(number, time_ms);
                }
            }
            found.logs.push(raw);
        }
        Ok(found)
    }
}

impl TextLog<'_> {
    /// The log, unless its sender and recipient are plain to see and none of ours.
    fn kept(&self, book: &AddressBook, number: u64, hash: B256) -> Result<Option<RawLog>, String> {
        let unreadable = |what: &str| format!("{what} of a log cannot be read");
        if let ([_, from, to, _], 3 | 4) = (self.topics.all, self.topics.count) {
            let is_ours = |topic: &str| {
                let word: B256 = topic.parse().map_err(|_| unreadable("topic"))?;
                Ok::<_, String>(book.get(&Address::from_word(word)).is_some())
            };
            if !is_ours(to)? && !is_ours(from)? {
                return Ok(None);
            }
        }
        let topics = self.topics.all.iter().take(self.topics.count);
        Ok(Some(RawLog {
            address: self.address.parse().map_err(|_| unreadable("address"))?,
            topics: topics
                .map(|topic| topic.parse().map_err(|_| unreadable("topic")))
                .collect::<Result<_, _>>()?,
            data: hex::decode(self.data).map_err(|_| unreadable("data"))?.into(),
            block_hash: hash,
            block_number: number,
            tx_hash: self.transaction_hash.parse().map_err(|_| unreadable("transactionHash"))?,
            log_index: quantity(self.log_index)?,
        }))
    }
}

/// A number as JSON-RPC writes it (execution-apis, "Quantities").
fn quantity(text: &str) -> Result<u64, String> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| format!("{:?} is not a number", text.chars().take(20).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
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
        let whole: RpcLog = serde_json::from_value(log(1, 1, OURS)).unwrap();
        assert_eq!(found.logs[0], whole.checked().unwrap());
        assert_eq!(read(&[]), Ok(RangeLogs::default()));
    }

    #[test]
    fn what_leaves_our_addresses_is_kept() {
        let mut sent = log(1, 0, Address::repeat_byte(0xbb));
        sent["topics"][1] = json!(OURS.into_word());
        assert_eq!(read(&[sent]).unwrap().logs.len(), 1);
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
        assert!(changed("blockHash", json!("0x12")).contains("length"));
        assert!(changed("logIndex", json!(null)).contains("null"));
        assert!(changed("data", json!("0xzz")).contains("data"));
        let topics =
            json!([TRANSFER_TOPIC, TRANSFER_TOPIC, TRANSFER_TOPIC, TRANSFER_TOPIC, TRANSFER_TOPIC]);
        assert!(changed("topics", topics).contains("four topics"));
        let mut fork = log(1, 1, OURS);
        fork["blockHash"] = json!(B256::repeat_byte(7));
        assert!(read(&[log(1, 0, OURS), fork]).unwrap_err().contains("two blocks"));
        assert!(range_logs("null").is_err());
        assert!(range_logs("{}").is_err());
    }
}
