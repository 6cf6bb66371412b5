//! What providers say when they will not answer, and what is meant.
//!
//! The same number means different things at different providers, so texts are matched before
//! codes. A text that is not known is a refusal, which is tried again and elsewhere; nothing here
//! decides whether an answer is true. What they say is kept on one line and without secrets,
//! wherever it goes: a log, a page, a database. Where it is shown, control characters are written out.

use serde_json::Value;

use crate::domain::secrets::Secrets;

/// Characters of a provider's error text that are kept.
const WHY_MAX: usize = 300;

/// A JSON-RPC error, whatever its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorObject {
    /// 0 where there is none, or none that fits.
    pub(super) code: i64,
    /// The code as it was written.
    shown: String,
    pub(super) message: String,
    /// Words beside the message.
    pub(super) data: String,
}

impl ErrorObject {
    /// What stands where an error would; nothing where that is null.
    pub(super) fn of(error: Value) -> Option<Self> {
        let (code, message, data) = match error {
            Value::Null => return None,
            Value::Object(mut parts) => {
                let mut part = |key| parts.remove(key).unwrap_or_default();
                let (code, message, data) = (part("code"), part("message"), part("data"));
                if code.is_null() && message.is_null() && data.is_null() && !parts.is_empty() {
                    (Value::Null, Value::Object(parts), Value::Null)
                } else {
                    (code, message, data)
                }
            }
            code @ Value::Number(_) => (code, Value::Null, Value::Null),
            text => (Value::Null, text, Value::Null),
        };
        let shown = words(code).trim_end_matches(".0").to_owned();
        // What a contract returned is no words.
        let data = Some(words(data)).filter(|data| !data.starts_with("0x")).unwrap_or_default();
        Some(Self { code: shown.parse().unwrap_or(0), shown, message: words(message), data })
    }

    /// False for one that stands beside a result only because a field must have a value.
    pub(super) fn says_something(&self) -> bool {
        let empty = ["", "0", "false", "{}", "[]"];
        [&self.shown, &self.message, &self.data].iter().any(|text| !empty.contains(&text.as_str()))
    }

    /// All of it, for people and for whoever looks for words that are known.
    pub(super) fn text(&self) -> String {
        let code = if self.shown.is_empty() { String::new() } else { format!(" {}", self.shown) };
        let said = [format!("error{code}"), self.message.clone(), self.data.clone()];
        said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
    }
}

fn words(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Recognises that a provider wants to be asked less often.
pub(super) fn rate_limited(why: &str) -> bool {
    const RATE: &[&str] = &[
        "rate limit",
        "rate-limit",
        "ratelimit",
        "too many requests",
        "request limit",
        "exceeded the quota",
        "reached the quota",
        "reached the free tier",
        "monthly capacity",
        "limit for your current plan",
        "compute units per second",
        "under too much load",
        "capacity limit",
        "capacity exceeded",
        "no server available",
        "http status 429",
    ];
    contains(why, RATE)
}

/// Recognises the many ways of saying "fewer blocks, please". Rate limits use some of the same
/// words and are recognised first: asking for fewer blocks would not help with those.
pub(super) fn range_too_large(why: &str) -> bool {
    const RANGE: &[&str] = &[
        "block range",
        "blocks range",
        "range is too",
        "range too large",
        "range exceeds",
        "max range",
        "maximum is set to",
        "too many requested blocks",
        "requested too many blocks",
        "number of requested blocks",
        "limited to",
        "up to a",
        "at most",
        "more than",
        "exceeds max results",
        "query exceeds",
        "query timeout exceeded",
        "too many results",
        "too many logs",
        "logs over more",
        "response size",
        "response too large",
        "response is too big",
        "range allowed",
        "exceeds limit of",
        "limit exceeded",
        "must be smaller than size",
        "blocks distance",
        "ranges over",
        "try paginating",
        "too large, max is",
        "logs returned",
        "range limit",
        "requested range",
        "timed out",
        "timeout",
        "deadline exceeded",
        "-32614",
        "http status 413",
    ];
    !rate_limited(why) && contains(why, RANGE)
}

/// Recognises that a node does not keep the state after a block any more. Not "block not found": a
/// node that does not know the block may be late.
pub(super) fn no_state(why: &str) -> bool {
    const PRUNED: &[&str] = &[
        // geth
        "missing trie node",
        "historical state unavailable",
        "state histories haven't been fully indexed",
        "historical state not available",
        // erigon
        "old data not available due to pruning",
        "data before txnum=",
        // reth
        "exceeds maximum proof window",
        // anvil
        "blockoutofrangeerror",
        "but requested was",
        // providers of archive nodes
        "access to archive state",
        "required to access archive",
        "archive requests require",
        "access to archival",
        "archive node",
        // others, as drpcorg/nodecore lists them
        "no state available for block",
        "node state is pruned",
        "state already discarded",
        "running with state pruning",
        "version has either been pruned",
        "has been pruned; earliest available is",
        "state is not available",
        "no state found for block",
        "state not found for block",
        "state does not maintain archive data",
    ];
    const BOTH: &[(&str, &str)] = &[
        ("historical state", "is not available"),
        ("state 0x", "is not available"),
        ("state at block", "is pruned"),
    ];
    contains(why, PRUNED) || BOTH.iter().any(|(a, b)| contains(why, &[a]) && contains(why, &[b]))
}

/// The reason that a contract gave for reverting, where that is what the node says: nodes wrap it
/// in different words.
pub(super) fn reverted(code: i64, why: &str) -> Option<String> {
    let lower = why.to_lowercase();
    if code != 3 && !lower.contains("revert") {
        return None;
    }
    let after = ["reverted", "revert"].iter().find_map(|word| {
        let at = lower.rfind(word)?.checked_add(word.len())?;
        why.get(at..)
    });
    let reason = after.unwrap_or_default().trim_start_matches([':', ' ', '\'', '"']);
    Some(reason.trim_end_matches(['\'', '"', ' ']).to_owned())
}

fn contains(why: &str, texts: &[&str]) -> bool {
    let why = why.to_lowercase();
    texts.iter().any(|text| why.contains(text))
}

/// A text without URLs and secrets, on one line and not endless.
pub(super) fn cleaned(text: &str, secrets: &Secrets) -> String {
    // A provider may repeat the key that it was sent.
    let text = secrets.removed(&without_urls(text));
    // PostgreSQL takes no NUL.
    text.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }).take(WHY_MAX).collect()
}

/// Replaces everything that looks like a URL: keys live in paths, queries and user names alike.
fn without_urls(text: &str) -> String {
    let words = text.split_whitespace();
    words
        .map(|word| if word.contains("://") { "[url]" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use crate::chain::rpc_error::*;

    #[test]
    fn reasons_for_reverting_read_alike_whatever_the_node() {
        for (code, said, reason) in [
            (3, "execution reverted: OLD", Some("OLD")),
            (-32000, "VM Exception while processing transaction: revert OLD", Some("OLD")),
            (3, "execution reverted", Some("")),
            (-32603, "reverted with reason string 'OLD'", Some("with reason string 'OLD")),
            (-32000, "out of gas", None),
        ] {
            assert_eq!(reverted(code, said).as_deref(), reason, "{said}");
        }
        for gone in [
            "missing trie node 0xab (path ) state 0x12 is not available, not found",
            "historical state 0x12ab is not available",
            "state at block #123 is pruned",
            "BlockOutOfRangeError: block height is 10 but requested was 1",
        ] {
            assert!(no_state(gone), "{gone}");
        }
        for other in ["header not found", "unknown block", "execution reverted", "busy"] {
            assert!(!no_state(other), "{other}");
        }
    }

    /// What they mean.
    #[derive(Debug, PartialEq)]
    enum Means {
        FewerBlocks,
        LessOften,
        Else,
    }
    use Means::*;

    /// Texts of real providers.
    #[test]
    fn range_errors_are_told_from_rate_limits() {
        let table = [
            (
                FewerBlocks,
                "error -32602: Log response size exceeded. this block range should work: [0x0, 0x1]",
            ),
            (
                FewerBlocks,
                "error -32005: query returned more than 10000 results. Try with this block range [0x1, 0x2]",
            ),
            (
                FewerBlocks,
                "error -32000: requested too many blocks from 1 to 2, maximum is set to 2048",
            ),
            (FewerBlocks, "error -32614: eth_getLogs is limited to a 10,000 range"),
            (FewerBlocks, "error -32600: block range is too wide"),
            (FewerBlocks, "error -32000: logs matched by query exceeds limit of 10000"),
            (FewerBlocks, "error -32000: backend response too large"),
            (
                FewerBlocks,
                "error -32000: query exceeds max results 20000, retry with the range 1-2",
            ),
            (FewerBlocks, "error -32005: limit exceeded"),
            (FewerBlocks, "error -32000: Max range: 800"),
            (FewerBlocks, "error -32000: Maximum allowed number of requested blocks is 3500"),
            (
                FewerBlocks,
                "error -32600: You can make eth_getLogs requests with up to a 2K block range",
            ),
            (FewerBlocks, "error -32000: please limit the query to at most 1000 blocks"),
            (FewerBlocks, "error -32000: exceeds the range allowed for your plan (5000 > 1024)"),
            (FewerBlocks, "error -32000: ranges over 10000 blocks are not supported on freetier"),
            (FewerBlocks, "error -32000: query must be smaller than size 1024"),
            (FewerBlocks, "error -32000: eth_getLogs range is too large, max is 1k blocks"),
            (FewerBlocks, "error -32002: request timed out"),
            (FewerBlocks, "error -32000: context deadline exceeded"),
            (FewerBlocks, "error -32602: range 1000000 exceeds limit of 10000"),
            (
                FewerBlocks,
                "error -32602: invalid params: {\"payload\":\"range 9009594 is bigger than range limit 2000\"}",
            ),
            (FewerBlocks, "error -32000: requested range is not allowed: exceeds 10 blocks"),
            (FewerBlocks, "error -32016: eth_getLogs request was canceled due to enabled timeout."),
            (FewerBlocks, "error -32005: Too many logs requested"),
            (FewerBlocks, "http status 504: upstream request timeout"),
            (Else, "error -32001: Unable to complete request at this time."),
            (Else, "error: Internal server error. Forwarder error: 1000."),
            (FewerBlocks, "error -32000: response size should not greater than 10000000 bytes"),
            (LessOften, "error -32005: daily request count exceeded, request rate limited"),
            (LessOften, "error 429: Too Many Requests"),
            (LessOften, "http status 429"),
            (LessOften, "error -32029: Monthly capacity limit exceeded"),
            (LessOften, "error -32000: you've reached the free tier limit"),
            (LessOften, "error 429: Your app has exceeded its compute units per second capacity"),
            (LessOften, "error -32005: project ID request rate exceeded the quota"),
            (Else, "error -32000: unknown block"),
            (Else, "error -32000: block 21429 not found"),
            (Else, "error -32000: header not found"),
            (Else, "connection refused"),
        ];
        for (means, text) in table {
            let found = match (rate_limited(text), range_too_large(text)) {
                (true, _) => LessOften,
                (false, true) => FewerBlocks,
                (false, false) => Else,
            };
            assert_eq!(found, means, "{text}");
        }
    }

    #[test]
    fn urls_and_secrets_do_not_leave() {
        let text =
            "error sending request for url (https://user:key@eth.example/v2/SECRET?k=1)\nagain";
        assert_eq!(cleaned(text, &Secrets::default()), "error sending request for url [url] again");
        let secrets = Secrets::new(["hunter2".to_owned()]);
        assert_eq!(cleaned("no such key: hunter2", &secrets), "no such key: [hidden]");
        // Written out once, where it is shown.
        let said = cleaned("a\0b\u{1b}[31mc\u{85}d\te\r\nf", &secrets);
        assert_eq!(said, "a\u{fffd}b\u{1b}[31mc d e f");
    }
}
