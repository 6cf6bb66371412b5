//! The one dialect of `--json`; `docs/json.md` says it for readers.
//!
//! Every answer goes through [`dialect`], so that no command has words of its own for times, chains,
//! addresses and large numbers.

use alloy::primitives::Address;
use serde_json::{Value, json};

/// Lengths of time, which stay numbers; every other key that ends in `_ms` is an instant.
const DURATIONS: &[&str] = &["latency_ms"];
/// The largest number that every reader of JSON reads as it is written.
const NUMBER_MAX: u64 = 1 << 53;

/// A value as it is shown: instants as RFC 3339 under `…_at`, chains as CAIP-2, addresses with their
/// EIP-55 checksum, and no number that a reader could round.
pub(super) fn dialect(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().map(field).collect()),
        Value::Array(items) => Value::Array(items.into_iter().map(dialect).collect()),
        Value::String(text) => Value::String(checksummed(text)),
        Value::Number(number) if is_exact(&number) => Value::Number(number),
        Value::Number(number) => Value::String(number.to_string()),
        other => other,
    }
}

fn field((key, value): (String, Value)) -> (String, Value) {
    match (key.as_str(), &value) {
        ("chain" | "chain_id", Value::Number(id)) => {
            ("chain".into(), json!(format!("eip155:{id}")))
        }
        ("chain_id", Value::Null) => ("chain".into(), Value::Null),
        (_, Value::Number(_) | Value::Null)
            if key.ends_with("_ms") && !DURATIONS.contains(&key.as_str()) =>
        {
            let shown = value.as_i64().map_or(Value::Null, |ms| json!(crate::cli::words::time(ms)));
            (at(&key), shown)
        }
        // Small ones too: a field has one type.
        (_, Value::Number(number)) if key.ends_with("_nano") => (key, json!(number.to_string())),
        _ => (key, dialect(value)),
    }
}

/// `seen_at_ms` is `seen_at`, `instant_ms` is `instant_at`, `block_time_ms` is `block_at`; `at_ms`, the time
/// that somebody was asked about, is `as_of_at`.
fn at(key: &str) -> String {
    let stem = key.trim_end_matches("_ms");
    let stem = stem.trim_end_matches("_time");
    match stem {
        "at" => "as_of_at".to_owned(),
        _ if stem.ends_with("_at") => stem.to_owned(),
        _ => format!("{stem}_at"),
    }
}

fn is_exact(number: &serde_json::Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => n <= NUMBER_MAX,
        (None, Some(n)) => n.unsigned_abs() <= NUMBER_MAX,
        (None, None) => false,
    }
}

fn checksummed(text: String) -> String {
    let is_address = text.len() == 42
        && text.strip_prefix("0x").is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_address {
        return text;
    }
    text.parse::<Address>().map_or(text, |address| address.to_checksum(None))
}

/// A list under its name, and whether `--limit` cut it.
pub(super) fn list(name: &str, items: Vec<Value>, truncated: bool) -> Value {
    json!({ (name): items, "truncated": truncated })
}

/// An object with more fields.
pub(super) fn with(value: Value, more: Value) -> Value {
    match (value, more) {
        (Value::Object(mut fields), Value::Object(more)) => {
            fields.extend(more);
            Value::Object(fields)
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_shown_speaks_the_dialect() {
        let given = json!({
            "chain": 8453, "chain_id": 1, "seen_at_ms": 1_700_000_000_123i64, "gone_at_ms": null,
            "block_time_ms": 0, "at_ms": 1_000, "latency_ms": 7, "n": u64::MAX, "credits_nano": 1, "f": 0.5, "m": i64::MIN,
            "token": "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
            "of": [{ "instant_ms": 5, "hash": "0xABCD" }], "text": "0xzz",
        });
        let shown = json!({
            "chain": "eip155:1", "seen_at": "2023-11-14T22:13:20.123Z", "gone_at": null,
            "block_at": "1970-01-01T00:00:00Z", "as_of_at": "1970-01-01T00:00:01Z", "latency_ms": 7,
            "n": "18446744073709551615", "credits_nano": "1", "f": "0.5", "m": "-9223372036854775808",
            "token": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "of": [{ "instant_at": "1970-01-01T00:00:00.005Z", "hash": "0xABCD" }], "text": "0xzz",
        });
        assert_eq!(dialect(given), shown);
    }
}
