//! What nodes write: blocks, logs and receipts in JSON, read into the house's own types.
//!
//! Only what decides is read, and that strictly; everything else differs from chain to chain, and no
//! shape of it is an error ([`super::field`]). The logs of a range are read one by one from the text,
//! and of those that are plainly not ours only the count remains, so that an answer of many
//! megabytes costs no more memory than its bytes.

use std::collections::BTreeMap;
use std::fmt;

use alloy::primitives::{Address, B256, Bloom, Log};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::{Field, object};
use crate::chain::read::{RangeLogs, Receipt};
use crate::domain::chain::Header;
use crate::domain::transfer::{AddressBook, RawLog, TRANSFER_TOPIC};

/// No chain has as many blocks: as far as numbers of JSON are exact (RFC 8259), and far below what
/// the store can hold.
const NUMBER_MAX: u64 = (1 << 53) - 1;
/// No block has as many logs.
const INDEX_MAX: u64 = u32::MAX as u64;
/// The last second of the year 9999, behind which a time cannot be written any more.
const SECONDS_MAX: u64 = 253_402_300_799;

object! {
    TextHeader {
        number: Field<'a> = "number",
        hash: Field<'a> = "hash",
        parent_hash: Field<'a> = "parentHash",
        timestamp: Field<'a> = "timestamp",
        logs_bloom: Field<'a> = "logsBloom",
    }
}

/// A block's header.
#[derive(Debug, Clone)]
pub(super) struct RpcHeader(pub(super) Header);

impl<'de> Deserialize<'de> for RpcHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextHeader::deserialize(deserializer)?.checked().map(Self).map_err(D::Error::custom)
    }
}

impl TextHeader<'_> {
    fn checked(&self) -> Result<Header, String> {
        let time_ms = millis(self.timestamp.number("timestamp of a block", SECONDS_MAX)?);
        Ok(Header {
            number: self.number.number("number of a block", NUMBER_MAX)?,
            hash: self.hash.fixed("hash of a block")?,
            parent_hash: self.parent_hash.fixed("parentHash of a block")?,
            time_ms: time_ms.ok_or("a timestamp out of range")?,
            // What cannot be read as one says nothing.
            bloom: self.logs_bloom.fixed::<Bloom>("logsBloom").unwrap_or_default(),
        })
    }
}

/// Seconds of a chain as epoch milliseconds.
fn millis(seconds: u64) -> Option<i64> {
    i64::try_from(seconds).ok()?.checked_mul(1_000)
}

object! {
    /// A receipt: what decides, and what is hashed besides ([`super::proof`]).
    TextReceipt {
        transaction_hash: Field<'a> = "transactionHash",
        block_hash: Field<'a> = "blockHash",
        kind: Field<'a> = "type",
        status: Field<'a> = "status",
        root: Field<'a> = "root",
        cumulative_gas_used: Field<'a> = "cumulativeGasUsed",
        logs_bloom: Field<'a> = "logsBloom",
        logs: Option<Vec<TextLog<'a>>> = "logs",
        deposit_nonce: Field<'a> = "depositNonce",
        deposit_receipt_version: Field<'a> = "depositReceiptVersion",
        base_fee: Field<'a> = "baseFee",
    }
}

/// A receipt and its transaction; `None` while that is in no block.
#[derive(Debug)]
pub(super) struct RpcReceipt(pub(super) Option<(B256, Receipt)>);

impl<'de> Deserialize<'de> for RpcReceipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextReceipt::deserialize(deserializer)?.checked().map(Self).map_err(D::Error::custom)
    }
}

impl TextReceipt<'_> {
    fn checked(&self) -> Result<Option<(B256, Receipt)>, String> {
        let tx = self.transaction_hash.fixed("transactionHash of a receipt")?;
        if self.block_hash == Field::Absent {
            return Ok(None);
        }
        let block_hash = self.block_hash.fixed("blockHash of a receipt")?;
        let all = self.logs.as_ref().ok_or("a receipt without logs")?;
        let logs = transfers(all)?;
        if logs.iter().any(|l| l.tx_hash != tx || l.block_hash != block_hash) {
            return Err("a log of another transaction or block".into());
        }
        let succeeded = match succeeded(&self.status)? {
            Some(succeeded) => succeeded,
            // What fails leaves no logs behind (yellow paper, 6.1).
            None => !all.is_empty(),
        };
        Ok(Some((tx, Receipt { block_hash, succeeded, logs })))
    }
}

/// What a receipt's status says (EIP-658); `None` where there is none.
pub(super) fn succeeded(status: &Field<'_>) -> Result<Option<bool>, String> {
    match status {
        Field::Absent => Ok(None),
        Field::Flag(flag) => Ok(Some(*flag)),
        status => Ok(Some(status.number("status of a receipt", u64::MAX)? == 1)),
    }
}

/// A block, of which only the transactions' hashes are asked.
#[derive(Debug, Deserialize)]
pub(super) struct RpcTransactions {
    pub(super) hash: Option<B256>,
    pub(super) transactions: Vec<B256>,
}

/// The `Transfer` logs of a list; the others decide nothing, and need not be readable.
#[derive(Debug)]
pub(super) struct RpcLogs(pub(super) Vec<RawLog>);

impl<'de> Deserialize<'de> for RpcLogs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let logs = Vec::<TextLog<'de>>::deserialize(deserializer)?;
        transfers(&logs).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn transfers(logs: &[TextLog<'_>]) -> Result<Vec<RawLog>, String> {
    logs.iter().filter(|log| log.is_transfer()).map(TextLog::raw).collect()
}

object! {
    /// A log whose parts still are the text they came in.
    TextLog {
        address: Field<'a> = "address",
        topics: Topics<'a> = "topics",
        data: Field<'a> = "data",
        block_hash: Field<'a> = "blockHash",
        block_number: Field<'a> = "blockNumber",
        transaction_hash: Field<'a> = "transactionHash",
        log_index: Field<'a> = "logIndex",
        block_timestamp: Field<'a> = "blockTimestamp",
        removed: Field<'a> = "removed",
    }
}

impl TextLog<'_> {
    pub(super) fn is_transfer(&self) -> bool {
        let [first, ..] = &self.topics.all;
        first.fixed("topic").is_ok_and(|topic: B256| topic == TRANSFER_TOPIC)
    }

    /// True when its recipient is plain to see and none of ours, and it does not come from one of ours
    /// either.
    fn is_of_others(&self, book: &AddressBook) -> Result<bool, String> {
        let ([_, from, to, _], 3 | 4) = (&self.topics.all, self.topics.count) else {
            return Ok(false);
        };
        let to: B256 = to.fixed("topic of a log")?;
        let is_ours = |word: B256| book.get(&Address::from_word(word)).is_some();
        Ok(!is_ours(to) && !from.fixed("topic of a log").is_ok_and(is_ours))
    }

    /// What of it is hashed.
    pub(super) fn hashed(&self) -> Result<Log, String> {
        let (address, topics) = (self.address.fixed("address of a log")?, self.topics.read()?);
        Ok(Log::new_unchecked(address, topics, self.data.bytes("data of a log")?))
    }

    fn number(&self) -> Result<u64, String> {
        self.block_number.number("blockNumber of a log", NUMBER_MAX)
    }

    fn hash(&self) -> Result<B256, String> {
        self.block_hash.fixed("blockHash of a log")
    }

    /// Its block's time, where it plainly tells: nodes that do not know it say 0, or nothing.
    fn time_ms(&self) -> Option<i64> {
        let seconds = self.block_timestamp.number("blockTimestamp", SECONDS_MAX).ok()?;
        millis(seconds).filter(|time| *time > 0)
    }

    /// All of it.
    fn raw(&self) -> Result<RawLog, String> {
        if self.removed.is_true() {
            return Err("a removed log".into());
        }
        Ok(RawLog {
            address: self.address.fixed("address of a log")?,
            topics: self.topics.read()?,
            data: self.data.bytes("data of a log")?,
            block_hash: self.hash()?,
            block_number: self.number()?,
            tx_hash: self.transaction_hash.fixed("transactionHash of a log")?,
            log_index: self.log_index.number("logIndex of a log", INDEX_MAX)?,
        })
    }
}

/// Up to four topics, without a list on the heap. Some nodes fill them up with null.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Topics<'a> {
    all: [Field<'a>; 4],
    count: usize,
    too_many: bool,
}

impl Topics<'_> {
    pub(super) fn read(&self) -> Result<Vec<B256>, String> {
        if self.too_many {
            return Err("a log with more than four topics".into());
        }
        self.all.iter().take(self.count).map(|topic| topic.fixed("topic of a log")).collect()
    }
}

impl<'a> Deserialize<'a> for Topics<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Four;
        impl<'a> Visitor<'a> for Four {
            type Value = Topics<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Topics<'a>, A::Error> {
                let mut topics = Topics::default();
                let mut at: usize = 0;
                while let Some(topic) = seq.next_element::<Field<'a>>()? {
                    at = at.saturating_add(1);
                    if topic == Field::Absent {
                        continue;
                    }
                    match topics.all.get_mut(at.saturating_sub(1)) {
                        Some(place) => (*place, topics.count) = (topic, at),
                        None => topics.too_many = true,
                    }
                }
                Ok(topics)
            }

            // What is no list has no topics.
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Topics<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Topics::default())
            }
            fn visit_unit<E>(self) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Topics<'a>, E> {
                Ok(Topics::default())
            }
        }
        deserializer.deserialize_any(Four)
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
        let mut last = (Field::Absent, Field::Absent);
        let mut blocks: BTreeMap<u64, B256> = BTreeMap::new();
        while let Some(mut log) = seq.next_element::<TextLog<'de>>()? {
            found.seen = found.seen.saturating_add(1);
            let ours = !log.is_of_others(self.book).map_err(A::Error::custom)?;
            if (&log.block_number, &log.block_hash) != (&last.0, &last.1) {
                match (log.number(), log.hash()) {
                    (Ok(number), _) if !(self.from..=self.to).contains(&number) => {
                        return Err(A::Error::custom("logs outside of the range"));
                    }
                    (Ok(number), Ok(hash)) if *blocks.entry(number).or_insert(hash) != hash => {
                        return Err(A::Error::custom(format!("two blocks at {number}")));
                    }
                    (Err(why), _) | (_, Err(why)) if ours => return Err(A::Error::custom(why)),
                    _ => {}
                }
            }
            if ours && log.is_transfer() {
                let raw = log.raw().map_err(A::Error::custom)?;
                if let Some(time_ms) = log.time_ms() {
                    found.times.insert(raw.block_number, time_ms);
                }
                found.logs.push(raw);
            }
            last = (std::mem::take(&mut log.block_number), std::mem::take(&mut log.block_hash));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
