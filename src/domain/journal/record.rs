//! A sealed line of a journal, and the two hashes: of what caused it, and of all that it says.

use alloy::primitives::B256;

use super::cause::Effective;
use super::entry::Entry;
use super::ids::{JournalId, RecordId};
use super::kind::Kind;
use crate::domain::seal::Canonical;

/// One sealed line of a journal. Never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Journal.
    pub journal: JournalId,
    /// Place in it, from 1, without gaps.
    pub seq: i64,
    /// Id: the same cause always gives the same.
    pub id: RecordId,
    /// What sort of thing it says.
    pub kind: Kind,
    /// The natural key that people use for what it is about.
    pub subject: String,
    /// JSON of what happened.
    pub cause: String,
    /// JSON of what that did.
    pub outcome: String,
    /// When it takes effect.
    pub effective_at_ms: i64,
    /// When it was written.
    pub recorded_at_ms: i64,
    /// Who did it, where a person did. Never empty.
    pub operator: Option<String>,
    /// Whose key asked for it, where a key did. Never empty.
    pub key_id: Option<String>,
    /// Legs; balanced within each unit.
    pub entries: Vec<Entry>,
    /// Seal of the record before, or the genesis.
    pub prev: B256,
    /// Hash over all of the above, and the entry of the log.
    pub seal: B256,
}

impl Record {
    /// The hash over everything else in the record.
    pub fn seal_hash(&self) -> B256 {
        let mut bytes = Canonical::new("topupd/record-seal/v1");
        bytes
            .bytes(self.prev.as_slice())
            .i64(self.seq)
            .bytes(self.id.0.as_slice())
            .text(self.kind.as_str())
            .text(&self.subject)
            .i64(self.effective_at_ms)
            .i64(self.recorded_at_ms)
            .text(self.operator.as_deref().unwrap_or_default())
            .text(self.key_id.as_deref().unwrap_or_default())
            .text(&self.cause)
            .text(&self.outcome)
            .u64(u64::try_from(self.entries.len()).unwrap_or(u64::MAX));
        for entry in &self.entries {
            bytes
                .text(&entry.account)
                .text(entry.amount.unit().as_str())
                .text(entry.side.as_str())
                .i64(entry.amount.nano());
        }
        bytes.finish()
    }
}

/// The hash of what caused a record, which is the same whenever the same is asked. A time that is that of
/// recording is no part of it: it is written as no bytes.
pub fn cause_hash(
    kind: Kind,
    subject: &str,
    effective: Effective,
    operator: Option<&str>,
    key_id: Option<&str>,
    cause: &str,
) -> B256 {
    let mut bytes = Canonical::new("topupd/cause/v1");
    bytes.text(kind.as_str()).text(subject);
    match effective {
        Effective::At(ms) => bytes.i64(ms),
        Effective::WhenRecorded => bytes.bytes(&[]),
    };
    bytes.text(operator.unwrap_or_default()).text(key_id.unwrap_or_default()).text(cause);
    bytes.finish()
}
