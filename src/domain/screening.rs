//! Whether a payment's money may be taken: a list of addresses, and somebody who is asked over HTTP.
//!
//! Fail closed: what cannot be read is no answer, and a payment without one is not credited.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, U512};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::ids::{ChainId, DepositId};
use super::oracle::ticker::{answer, decimal, find, unquoted};
use super::seal::Canonical;
use super::wallet::parse_address;
use crate::domain::oracle::reading::{Body, start};

/// An answer over HTTP counts for so long; then whoever gave it is asked again before a credit. One of a
/// list counts while the list is the same.
pub const COUNTS_MS: i64 = 300_000;
/// Bytes of a file of addresses; a larger one is none.
pub const LIST_MAX: u64 = 16 * 1024 * 1024;

/// Which check was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The list of addresses.
    List,
    /// Somebody over HTTP.
    Http,
}

/// What a check said of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing speaks against it.
    Clear,
    /// People decide.
    Hit,
    /// It did not say anything that can be read, for too long.
    NoAnswer,
}

/// A check that is configured. A list is told from another one by the hash of its file, and a service
/// by its URL and how its answer is read: without secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which check.
    pub asked: Check,
    /// What is asked, as it is stored with the answer.
    pub question: String,
}

/// What a check said of a payment, whether or not it is configured now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub by: Wanted,
    /// What.
    pub outcome: Outcome,
    /// When.
    pub at_ms: i64,
}

impl Said {
    /// Whether it counts at this time: what was clear long ago, or is said to have been in the future,
    /// may be a hit by now.
    fn counts(&self, now_ms: i64) -> bool {
        self.outcome != Outcome::Clear
            || self.by.asked == Check::List
            || (0..COUNTS_MS).contains(&now_ms.saturating_sub(self.at_ms))
    }
}

/// What a check has said that counts now. Whoever did not answer was asked again, and an answer comes
/// before none.
pub fn said_by(said: &[Said], by: &Wanted, now_ms: i64) -> Option<Outcome> {
    said.iter().filter(|s| s.by == *by && s.counts(now_ms)).map(|s| s.outcome).min()
}

/// What each check said last, whoever counts.
pub fn said_last(said: &[Said]) -> Vec<&Said> {
    let mut last: Vec<&Said> = said.iter().collect();
    last.sort_by_key(|s| (&s.by, std::cmp::Reverse(s.at_ms)));
    last.dedup_by_key(|s| &s.by);
    last
}

/// What follows for a payment now; none while one of those that are wanted has not said anything. A hit
/// stays one, whoever gave it; any other answer counts for those that are wanted only.
pub fn judged(said: &[Said], wanted: &[Wanted], now_ms: i64) -> Option<Outcome> {
    if said.iter().any(|s| s.outcome == Outcome::Hit) {
        return Some(Outcome::Hit);
    }
    let mut all = Some(Outcome::Clear);
    for outcome in wanted.iter().map(|wanted| said_by(said, wanted, now_ms)) {
        match outcome {
            Some(Outcome::NoAnswer) => return Some(Outcome::NoAnswer),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

impl Check {
    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Http => "http",
        }
    }

    /// What is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::List, Self::Http].into_iter().find(|check| check.as_str() == text)
    }
}

impl Outcome {
    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Hit => "hit",
            Self::NoAnswer => "no_answer",
        }
    }

    /// What is stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Clear, Self::Hit, Self::NoAnswer].into_iter().find(|o| o.as_str() == text)
    }
}

/// A list of addresses, and the hash of the file that it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressList {
    addresses: BTreeSet<Address>,
    sha256: B256,
}

impl AddressList {
    /// Reads one address a line; `#` begins a comment.
    ///
    /// # Errors
    /// The first line that is no address, and what is wrong with it; or that there is none: a file that
    /// is being written is empty for a moment, and would let everybody pass.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut addresses = BTreeSet::new();
        for (number, line) in (1u32..).zip(text.lines()) {
            // Editors of Windows begin a file with a mark that nobody sees.
            let line = line.trim_start_matches('\u{feff}');
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let address = parse_address(line).map_err(|why| format!("line {number}: {why}"))?;
                addresses.insert(address);
            }
        }
        if addresses.is_empty() {
            return Err(
                "has no address: to screen without a list, take `list` out of the configuration"
                    .into(),
            );
        }
        let sha256 = B256::from_slice(Sha256::digest(text.as_bytes()).as_slice());
        Ok(Self { addresses, sha256 })
    }

    /// How many it has.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    /// The first of these that is on it.
    pub fn hit(&self, addresses: &[Address]) -> Option<Address> {
        addresses.iter().find(|address| self.addresses.contains(*address)).copied()
    }

    /// What was asked, as it is stored with the answer.
    pub fn question(&self) -> String {
        format!(r#"{{"sha256":"{}"}}"#, self.sha256)
    }
}

/// What is asked over HTTP, and how the answer is read. Without secrets: it is stored with each answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `{address}`, `{chain}` and `{tx}` stand for the payment's sender, chain id and transaction.
    pub url: String,
    /// Where the verdict stands in the answer (RFC 6901).
    pub verdict: String,
    /// The value that means a hit. Without one, every value but `clear` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit: Option<String>,
    /// The value that means that there is none. Without one, every plain value but `hit` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<String>,
}

impl Question {
    /// The URL for one payment.
    pub fn url(&self, sender: Address, chain: ChainId, tx: B256) -> String {
        self.filled(&sender.to_checksum(None), &chain.0.to_string(), &tx.to_string())
    }

    /// The URL with these in the places for them.
    pub fn filled(&self, address: &str, chain: &str, tx: &str) -> String {
        self.url.replace("{address}", address).replace("{chain}", chain).replace("{tx}", tx)
    }

    /// As it is stored with an answer.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What an answer says.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(&self, body: &Body) -> Result<Outcome, String> {
        if body.status != 200 {
            return Err(body.refusal());
        }
        if body.cut {
            return Err("the answer is too large".into());
        }
        self.read_text(&body.body)
    }

    /// The same, of an answer that was stored.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read_text(&self, text: &str) -> Result<Outcome, String> {
        let root = answer(text)?;
        let said = find(root, &self.verdict)
            .ok_or_else(|| format!("there is nothing at {} of {}", self.verdict, start(text)))?;
        let is = |word: &Option<String>| word.as_ref().map(|word| is(said, word));
        // Of another kind than the value that means a hit, it is not understood.
        let comparable = |word: &String| match (Kind::of(word), Kind::of(said.get())) {
            (Kind::Number, kind) => kind == Kind::Number,
            (_, kind) => matches!(kind, Kind::Number | Kind::Text | Kind::Bool),
        };
        match (is(&self.hit), is(&self.clear)) {
            (Some(true), _) | (None, Some(false)) => Ok(Outcome::Hit),
            (_, Some(true)) => Ok(Outcome::Clear),
            (Some(false), None) if self.hit.as_ref().is_some_and(comparable) => Ok(Outcome::Clear),
            _ => Err(format!(
                "{} is not a value that `hit` or `clear` explains",
                start(said.get().trim())
            )),
        }
    }
}

/// What kind of JSON a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parts,
    Number,
    Bool,
    Null,
    /// In quotes, or no JSON at all: a word as it is configured.
    Text,
}

impl Kind {
    fn of(text: &str) -> Self {
        let text = text.trim();
        if serde_json::from_str::<&RawValue>(text).is_err() {
            return Self::Text;
        }
        match text.as_bytes().first() {
            Some(b'{' | b'[') => Self::Parts,
            Some(b'"') => Self::Text,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

/// Whether an answer is the value that is configured. A list, an object, a number and `null` are
/// compared as such, and are no text that looks like them; any other word is what stands there, in
/// quotes or not.
fn is(said: &RawValue, word: &str) -> bool {
    let of = Kind::of(word);
    match of {
        Kind::Text | Kind::Bool => unquoted(said) == word,
        _ if Kind::of(said.get()) != of => false,
        Kind::Null => true,
        Kind::Number => exact(said.get()) == exact(word),
        Kind::Parts => {
            let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            read(said.get()).is_some_and(|said| Some(said) == read(word))
        }
    }
}

/// A number without what says nothing: 10, 10.0 and 1e1 are the same. One that is too long stays text.
fn exact(text: &str) -> (bool, String) {
    let text = text.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = |(mut mantissa, mut exponent): (U512, i32)| {
        let ten = U512::from(10);
        while !mantissa.is_zero() && mantissa.checked_rem(ten).is_some_and(|rest| rest.is_zero()) {
            mantissa = mantissa.checked_div(ten).unwrap_or_default();
            exponent = exponent.saturating_add(1);
        }
        let exponent = if mantissa.is_zero() { 0 } else { exponent };
        format!("{mantissa}e{exponent}")
    };
    let number = decimal(digits).map_or_else(|| digits.to_owned(), plain);
    (digits.len() < text.len() && number != "0e0", number)
}

/// The hash of one answer, by which the posting that rests on it names it.
pub fn answer_hash(
    deposit: DepositId,
    (block, sender): (B256, Address),
    (by, outcome): (&Wanted, Outcome),
    answer: &str,
    at_ms: i64,
) -> B256 {
    let mut bytes = Canonical::new("topupd/screening/v1");
    bytes
        .bytes(deposit.0.as_slice())
        .bytes(block.as_slice())
        .bytes(sender.as_slice())
        .text(by.asked.as_str())
        .text(outcome.as_str())
        .text(&by.question)
        .text(answer)
        .i64(at_ms);
    bytes.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(hit: Option<&str>, clear: Option<&str>) -> Question {
        let own = |word: Option<&str>| word.map(str::to_owned);
        Question {
            url: "http://x/{address}/{chain}?tx={tx}".into(),
            verdict: "/v".into(),
            hit: own(hit),
            clear: own(clear),
        }
    }

    #[test]
    fn a_list_is_read_line_by_line() {
        let one = Address::repeat_byte(0xab);
        let text = format!(
            "\u{feff}# sanctioned\n{}\r\n\n  {one:#x}   # the same\n{:#x}\n",
            one.to_checksum(None),
            Address::repeat_byte(1)
        );
        let list = AddressList::parse(&text).unwrap();
        assert_eq!(list.count(), 2);
        assert_eq!(list.hit(&[Address::ZERO, one]), Some(one));
        assert_eq!(list.hit(&[Address::ZERO]), None);
        let wrong = AddressList::parse("# one\n\n0x12\n").unwrap_err();
        assert!(wrong.starts_with("line 3: "), "{wrong}");
        // Another letter's case: not what somebody wrote down.
        let broken = one.to_checksum(None).replacen('A', "a", 1);
        assert!(AddressList::parse(&broken).is_err(), "{broken}");
        let more = AddressList::parse(&format!("{text}{:#x}\n", Address::repeat_byte(2))).unwrap();
        assert_ne!(list.question(), more.question());
        for nobody in ["", "\n \r\n", "# 0x00\n"] {
            assert!(AddressList::parse(nobody).unwrap_err().contains("no address"), "{nobody:?}");
        }
    }

    #[test]
    fn an_answer_says_hit_or_clear_or_nothing() {
        let (hit, clear, none) = (Some(Outcome::Hit), Some(Outcome::Clear), None);
        let table = [
            (Some("true"), None, "{\"v\":true}", hit),
            (Some("true"), None, "{\"v\":\"true\"}", hit),
            (Some("true"), None, "{\"v\":false}", clear),
            (Some("true"), None, "{\"v\":null}", none),
            (Some("true"), None, "{\"v\":[]}", none),
            (Some("true"), None, "{\"v\":{\"true\":1}}", none),
            (Some("true"), None, "{}", none),
            (Some("true"), None, "true", none),
            (Some("true"), None, "<html>", none),
            (Some("severe"), Some("low"), "{\"v\":\"severe\"}", hit),
            (Some("severe"), Some("low"), "{\"v\":\"low\"}", clear),
            (Some("severe"), Some("low"), "{\"v\":\"medium\"}", none),
            (None, Some("[]"), "{\"v\":[ ]}", clear),
            (None, Some("[]"), "{\"v\":[{\"category\":\"sanctions\"}]}", hit),
            (None, Some("[]"), "{\"w\":[]}", none),
            (None, Some("null"), "{\"v\":null}", clear),
            (None, Some("null"), "{\"v\":\"null\"}", hit),
            // What looks like a list or a number is none.
            (None, Some("[]"), "{\"v\":\"[]\"}", hit),
            (Some("severe"), Some("[]"), "{\"v\":\"[]\"}", none),
            (None, Some("[1, {\"a\":2}]"), "{\"v\":[1,{\"a\" : 2}]}", clear),
            (None, Some("0"), "{\"v\":\"0\"}", hit),
            (None, Some("0"), "{\"v\":-0.0e3}", clear),
            (Some("10"), None, "{\"v\":1.0E1}", hit),
            (Some("10"), None, "{\"v\":-10}", clear),
            (Some("10"), None, "{\"v\":9}", clear),
            (Some("10"), None, "{\"v\":\"10\"}", none),
            (Some("10"), None, "{\"v\":false}", none),
            // What names an error, or says something twice, says nothing.
            (None, Some("[]"), "{\"error\":\"quota\",\"v\":[]}", none),
            (None, Some("[]"), "{\"errors\":[{\"code\":7}],\"v\":[]}", none),
            (None, Some("[]"), "{\"error\":null,\"errors\":[],\"v\":[]}", clear),
            (None, Some("[]"), "{\"v\":[1],\"v\":[]}", none),
            (None, Some("[]"), "{\"v\":[1],\"\\u0076\":[]}", none),
            (None, Some("[]"), "{\"v\":[],\"w\":[{\"x\":1,\"x\":2}]}", none),
        ];
        for (word, other, text, wanted) in table {
            let question = question(word, other);
            assert_eq!(question.read_text(text).ok(), wanted, "{question:?} {text}");
        }
    }

    #[test]
    fn an_answer_counts_for_the_check_that_gave_it() {
        let (clear, hit, no) = (Outcome::Clear, Outcome::Hit, Outcome::NoAnswer);
        let by = |asked, question: &str| Wanted { asked, question: question.into() };
        let (one, two) = (by(Check::List, "one"), by(Check::List, "two"));
        let http = by(Check::Http, "one");
        let all = |outcomes: &[(&Wanted, Outcome)]| -> Vec<Said> {
            let said = |(by, outcome): &(&Wanted, _)| Said {
                by: (*by).clone(),
                outcome: *outcome,
                at_ms: 0,
            };
            outcomes.iter().map(said).collect()
        };
        for (said, wanted, follows) in [
            (&[][..], &[][..], Some(clear)),
            (&[], &[&one], None),
            (&[(&one, clear)], &[&one], Some(clear)),
            (&[(&one, clear)], &[&two], None),
            (&[(&one, clear)], &[&one, &http], None),
            (&[(&one, clear), (&http, clear)], &[&one, &http], Some(clear)),
            (&[(&one, no)], &[&one], Some(no)),
            (&[(&one, no), (&one, clear)], &[&one], Some(clear)),
            (&[(&one, clear), (&one, no)], &[&one], Some(clear)),
            // Of one that is not wanted any more, only a hit counts.
            (&[(&one, no)], &[], Some(clear)),
            (&[(&one, no), (&two, clear)], &[&two], Some(clear)),
            (&[(&one, no)], &[&two], None),
            (&[(&one, no)], &[&http, &one], Some(no)),
            (&[(&one, hit)], &[], Some(hit)),
            (&[(&one, hit), (&two, clear)], &[&two], Some(hit)),
        ] {
            let said = all(said);
            let wanted: Vec<Wanted> = wanted.iter().map(|w| (*w).clone()).collect();
            assert_eq!(judged(&said, &wanted, 0), follows, "{said:?} {wanted:?}");
        }
        // What somebody over HTTP let pass counts for a while; what a list did, as long as it is the same.
        let said = all(&[(&one, clear), (&http, clear)]);
        let wanted = [one.clone(), http.clone()];
        for (now, follows) in [(COUNTS_MS - 1, Some(clear)), (COUNTS_MS, None), (-1, None)] {
            assert_eq!(judged(&said, &wanted, now), follows, "{now}");
            assert_eq!(judged(&said, &wanted[..1], now), Some(clear), "{now}");
        }
        // A hit stays one, and so does that nobody answered, until somebody does.
        let said = all(&[(&http, clear), (&http, no)]);
        assert_eq!(judged(&said, std::slice::from_ref(&http), COUNTS_MS), Some(no));
        assert_eq!(judged(&all(&[(&http, hit)]), &[], COUNTS_MS), Some(hit));
    }

    #[test]
    fn the_url_names_the_payment() {
        let url = question(Some("x"), None).url(Address::ZERO, ChainId(8_453), B256::ZERO);
        assert_eq!(
            url,
            format!("http://x/{}/8453?tx={}", Address::ZERO.to_checksum(None), B256::ZERO)
        );
    }
}
