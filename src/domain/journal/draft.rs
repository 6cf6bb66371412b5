//! A record before it has a place, and how it compares with what was written under its id before.

use alloy::primitives::B256;
use serde_json::Value;

use super::cause::{Cause, Effective, Unreadable};
use super::ids::{Genesis, RecordId};
use super::kind::Kind;
use super::record::{Record, cause_hash};

/// A record that is asked for: its cause with everything that follows from the cause alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Id: the same cause always gives the same.
    pub id: RecordId,
    /// What happened.
    pub cause: Cause,
    /// Kind.
    pub kind: Kind,
    /// The natural key that people use for what it is about.
    pub subject: String,
    /// When it takes effect.
    pub effective: Effective,
    /// JSON of the cause.
    pub text: String,
    /// Who does it, where a person does.
    pub operator: Option<String>,
    /// Whose key asks for it, where a key does.
    pub key_id: Option<String>,
    /// Decides whether the same is asked again.
    pub cause_hash: B256,
}

/// What was written under an id before, as far as a retry must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Place.
    pub seq: i64,
    /// Kind.
    pub kind: Kind,
    /// Subject.
    pub subject: String,
    /// When it took effect.
    pub effective_at_ms: i64,
    /// Who did it.
    pub operator: Option<String>,
    /// Whose key asked for it.
    pub key_id: Option<String>,
    /// JSON of the cause.
    pub cause: String,
    /// Hash of the cause.
    pub cause_hash: B256,
    /// JSON of the outcome.
    pub outcome: String,
}

impl Said {
    /// What a record says to a retry of its cause, with the hash of that cause.
    pub fn of(record: &Record, cause_hash: B256) -> Self {
        Self {
            seq: record.seq,
            kind: record.kind,
            subject: record.subject.clone(),
            effective_at_ms: record.effective_at_ms,
            operator: record.operator.clone(),
            key_id: record.key_id.clone(),
            cause: record.cause.clone(),
            cause_hash,
            outcome: record.outcome.clone(),
        }
    }
}

impl Draft {
    /// Drafts the record of a cause, for the journal with this genesis.
    pub fn new(
        genesis: Genesis,
        cause: Cause,
        operator: Option<String>,
        key_id: Option<String>,
    ) -> Result<Self, Unreadable> {
        let (kind, subject, effective) = (cause.kind(), cause.subject(), cause.effective());
        let text = cause.to_json()?;
        let cause_hash =
            cause_hash(kind, &subject, effective, operator.as_deref(), key_id.as_deref(), &text);
        let id = cause.record_id(genesis);
        Ok(Self { id, cause, kind, subject, effective, text, operator, key_id, cause_hash })
    }

    /// The instant at which it takes effect, if it is recorded at this one.
    pub const fn effective_at_ms(&self, recorded_at_ms: i64) -> i64 {
        match self.effective {
            Effective::At(ms) => ms,
            Effective::WhenRecorded => recorded_at_ms,
        }
    }

    /// Compares with what was written under this id before: the first field that differs, such as
    /// `operator` or `cause.raw_amount`; `None` where the same was asked.
    pub fn differs_from(&self, said: &Said) -> Option<String> {
        if self.cause_hash == said.cause_hash {
            return None;
        }
        let effective = matches!(self.effective, Effective::At(ms) if ms != said.effective_at_ms);
        let fields = [
            (self.kind != said.kind, "kind"),
            (self.subject != said.subject, "subject"),
            (effective, "effective_at_ms"),
            (self.operator != said.operator, "operator"),
            (self.key_id != said.key_id, "key_id"),
        ];
        if let Some((_, field)) = fields.into_iter().find(|(differs, _)| *differs) {
            return Some(field.to_owned());
        }
        Some(match first_difference(&said.cause, &self.text) {
            Some(key) => format!("cause.{key}"),
            // Nothing that it says differs, so what is stored as its hash is not its hash.
            None => "cause_hash".to_owned(),
        })
    }
}

/// The first key at which two JSON texts differ, in the order of the keys' names; `None` where they say the
/// same. A list differs as a whole.
pub fn first_difference(one: &str, other: &str) -> Option<String> {
    fn walk(key: &str, one: &Value, other: &Value) -> Option<String> {
        let (Value::Object(a), Value::Object(b)) = (one, other) else {
            return (one != other).then(|| key.to_owned());
        };
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        names.into_iter().find_map(|name| {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            match (a.get(name), b.get(name)) {
                (Some(x), Some(y)) => walk(&key, x, y),
                _ => Some(key),
            }
        })
    }
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (read(one), read(other)) {
        (Some(a), Some(b)) => walk("", &a, &b),
        _ => (one != other).then(|| "text".to_owned()),
    }
}
