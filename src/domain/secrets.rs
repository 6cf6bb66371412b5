//! Which texts are secret, and how they are taken out of what somebody says, however they are written there.
//!
//! A server that is asked with a key may repeat it: as it was sent, a word of it, with percent signs, escapes
//! of JSON or HTML, in base64, in capital letters, or only its beginning. All of these are found in one pass
//! over the text as it stands, and over what it says when it is decoded; what overlaps is one gap.
//!
//! Some values of headers are no secrets (`en`, `8453`, `other`), and would tear holes into everything. A short
//! one is looked for where it stands alone, an ordinary word only as a whole, and a short number not at all.

use std::collections::BTreeMap;
use std::fmt;

/// Instead of a secret.
pub const HIDDEN: &str = "[hidden]";
/// Shorter texts stand in everything that is written.
const SHORTEST: usize = 4;
/// From this length on a secret is found inside of words, in any letter case, encoded, and by its beginning.
const LONG: usize = 8;
/// A longer number may be a key.
const NUMBER_MAX: usize = 12;
/// A longer word of small letters may be a key.
pub const WORD_MAX: usize = 20;
/// How often a text may have been encoded.
const LAYERS: usize = 3;
/// A longer text is not decoded: whoever is asked sends none.
const DECODED_MAX: usize = 1 << 20;
/// Words before a credential that say what it is.
const SCHEMES: &[&str] = &["bearer", "basic", "token", "digest", "apikey", "api-key", "key"];

/// Texts that are not shown and not stored. Not shown by `Debug` either.
#[derive(Clone, Default)]
pub struct Secrets {
    /// By their first byte as a small letter; each once.
    all: BTreeMap<u8, Vec<Secret>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Secret {
    bytes: Vec<u8>,
    is_word: bool,
}

/// A byte of a text, perhaps decoded, and where it came from.
#[derive(Clone, Copy)]
struct Byte {
    byte: u8,
    from: usize,
    to: usize,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} secrets)", self.all.values().map(Vec::len).fold(0, usize::saturating_add))
    }
}

impl Secrets {
    /// These, and what they are in base64.
    pub fn new(texts: impl IntoIterator<Item = String>) -> Self {
        let mut this = Self::default();
        texts.into_iter().for_each(|text| this.add(&text));
        this
    }

    /// The values of headers, and each word of them.
    pub fn of_headers(headers: &[(String, String)]) -> Self {
        Self::new(headers.iter().flat_map(|(_, value)| of_header(value)))
    }

    /// Adds all of the others.
    pub fn extend(&mut self, others: Self) {
        others.all.into_values().flatten().for_each(|secret| self.keep(secret.bytes));
    }

    /// Without short ones and ordinary words: these stand in our own sentences.
    pub fn unmistakable(mut self) -> Self {
        self.all.retain(|_, secrets| {
            secrets.retain(|secret| secret.is_long() && !secret.is_word);
            !secrets.is_empty()
        });
        self
    }

    /// A text without any of them.
    pub fn removed(&self, text: &str) -> String {
        let mut gaps = Vec::new();
        let mut bytes: Vec<Byte> = Vec::new();
        if !self.all.is_empty() {
            let plain = text.bytes().enumerate();
            bytes =
                plain.map(|(at, byte)| Byte { byte, from: at, to: at.saturating_add(1) }).collect();
            self.find(&bytes, &mut gaps);
        }
        for _ in 0..LAYERS {
            let is_encoded = bytes.iter().any(|b| matches!(b.byte, b'%' | b'\\' | b'&'));
            if !is_encoded || text.len() > DECODED_MAX {
                break;
            }
            let before = bytes.len();
            bytes = decoded(&bytes);
            // Every escape is longer than what it stands for.
            if bytes.len() == before {
                break;
            }
            self.find(&bytes, &mut gaps);
        }
        without(text, gaps)
    }

    fn add(&mut self, text: &str) {
        let text = text.trim();
        if text.len() < SHORTEST || is_short_number(text) {
            return;
        }
        self.keep(text.as_bytes().to_vec());
        if text.len() >= LONG {
            (0..3).flat_map(|before| in_base64(text.as_bytes(), before)).for_each(|t| self.keep(t));
        }
    }

    fn keep(&mut self, bytes: Vec<u8>) {
        let Some(first) = bytes.first().map(u8::to_ascii_lowercase) else { return };
        let secret = Secret { is_word: is_word(&bytes), bytes };
        let here = self.all.entry(first).or_default();
        if !here.contains(&secret) {
            here.push(secret);
        }
    }

    /// Where in the text they stand.
    fn find(&self, text: &[Byte], gaps: &mut Vec<(usize, usize)>) {
        for at in 0..text.len() {
            let Some((first, rest)) = text.get(at..).and_then(|rest| Some((rest.first()?, rest)))
            else {
                break;
            };
            let before = at.checked_sub(1).and_then(|before| text.get(before));
            let here = self.all.get(&first.byte.to_ascii_lowercase()).into_iter().flatten();
            let longest = here.filter_map(|secret| secret.found(before, rest)).max();
            if let Some(last) = longest.and_then(|n| rest.get(..n)?.last()) {
                gaps.push((first.from, last.to));
            }
        }
    }
}

impl Secret {
    const fn is_long(&self) -> bool {
        self.bytes.len() >= LONG
    }

    /// How much of it stands at the beginning of a text, if that is enough to be it.
    fn found(&self, before: Option<&Byte>, text: &[Byte]) -> Option<usize> {
        let same = |(said, own): &(&Byte, &u8)| match self.is_long() {
            true => said.byte.eq_ignore_ascii_case(own),
            false => said.byte == **own,
        };
        let length = text.iter().zip(&self.bytes).take_while(same).count();
        let goes_on = |b: Option<&Byte>| b.is_some_and(|b| b.byte.is_ascii_alphanumeric());
        let is_found = if length == self.bytes.len() {
            self.is_long() || (!goes_on(before) && !goes_on(text.get(length)))
        } else {
            // Cut off. Digits alone may be a price or a time.
            let begun = self.bytes.get(..length).unwrap_or_default();
            length >= LONG
                && !self.is_word
                && !begun.iter().all(|b| matches!(b, b'0'..=b'9' | b'.'))
        };
        is_found.then_some(length)
    }
}

/// What is secret of a header's value: all of it, its words, what these are set to, and the user and
/// password of Basic.
pub fn of_header(value: &str) -> Vec<String> {
    let value = value.trim();
    let is_scheme = |word: &str| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
    let credential = match value.split_once(char::is_whitespace) {
        Some((scheme, rest)) if is_scheme(scheme) => rest.trim(),
        _ => value,
    };
    let mut secrets = vec![credential.to_owned()];
    for word in credential.split(|c: char| c.is_whitespace() || c == ',' || c == ';') {
        let set = word.split_once('=').map(|(_, set)| set.trim_matches(['"', '=']));
        secrets.extend([Some(word), set].into_iter().flatten().map(str::to_owned));
        if let Some(plain) = from_base64(word).filter(|plain| plain.contains(':')) {
            secrets.extend(plain.splitn(2, ':').map(str::to_owned));
            secrets.push(plain);
        }
    }
    secrets.retain(|secret| !secret.is_empty() && !is_scheme(secret));
    secrets
}

/// A number that may as well be a price, a port or a chain.
pub fn is_short_number(text: &str) -> bool {
    text.len() < NUMBER_MAX && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// A word of small letters, or several: a name, or something that is said.
pub fn is_word(text: &[u8]) -> bool {
    let separates = |b: &u8| matches!(b, b'-' | b'_');
    text.iter().all(|b| b.is_ascii_lowercase() || separates(b))
        && (text.len() < WORD_MAX || text.iter().any(separates))
}

/// The text without what stands in the gaps, which may overlap.
fn without(text: &str, mut gaps: Vec<(usize, usize)>) -> String {
    gaps.sort_unstable();
    let (mut shown, mut at, mut hidden_to) = (String::with_capacity(text.len()), 0, None);
    for (from, to) in gaps {
        // A beginning of a secret may end within a character.
        let to = (to..=text.len()).find(|to| text.is_char_boundary(*to)).unwrap_or(text.len());
        if hidden_to.is_none_or(|hidden_to| from > hidden_to) {
            shown.push_str(text.get(at..from).unwrap_or_default());
            shown.push_str(HIDDEN);
        }
        at = at.max(to);
        hidden_to = Some(at);
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// One layer of percent signs, escapes of JSON and HTML taken off.
fn decoded(text: &[Byte]) -> Vec<Byte> {
    let mut all = Vec::with_capacity(text.len());
    let mut at = 0usize;
    while let Some((first, rest)) = text.get(at..).and_then(|rest| Some((rest.first()?, rest))) {
        let escaped = matches!(first.byte, b'%' | b'\\' | b'&').then(|| {
            let start: Vec<u8> = rest.iter().take(8).map(|b| b.byte).collect();
            escape(&start)
        });
        let Some((said, length)) = escaped.flatten() else {
            all.push(*first);
            at = at.saturating_add(1);
            continue;
        };
        let last = rest.get(..length).and_then(|escaped| escaped.last()).unwrap_or(first);
        let of = |byte: u8| Byte { byte, from: first.from, to: last.to };
        match said {
            Escaped::Char(c) => all.extend(c.encode_utf8(&mut [0; 4]).bytes().map(of)),
            Escaped::Byte(byte) => all.push(of(byte)),
        }
        at = at.saturating_add(length);
    }
    all
}

enum Escaped {
    Char(char),
    Byte(u8),
}

/// What an escape at the beginning of a text stands for, and its length.
fn escape(text: &[u8]) -> Option<(Escaped, usize)> {
    let hex = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (said, length) = match text {
        [b'%', ..] => (Escaped::Byte(u8::try_from(hex(1, 3)?).ok()?), 3),
        [b'\\', b'u', ..] => (Escaped::Char(char::from_u32(hex(2, 6)?)?), 6),
        [b'\\', b'x', ..] => (Escaped::Byte(u8::try_from(hex(2, 4)?).ok()?), 4),
        [b'\\', c @ (b'/' | b'\\' | b'"' | b'\''), ..] => (Escaped::Byte(*c), 2),
        [b'&', b'#', ..] => {
            let end = text.iter().position(|b| *b == b';')?;
            let number = std::str::from_utf8(text.get(2..end)?).ok()?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            (Escaped::Char(char::from_u32(number)?), end.saturating_add(1))
        }
        _ => {
            let names = [("&amp;", b'&'), ("&quot;", b'"'), ("&lt;", b'<'), ("&gt;", b'>')];
            let (name, byte) = names.iter().find(|(name, _)| text.starts_with(name.as_bytes()))?;
            (Escaped::Byte(*byte), name.len())
        }
    };
    Some((said, length))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What base64 has of a text wherever it stands in something longer, with so many bytes before it (of three):
/// in both of its alphabets.
fn in_base64(text: &[u8], before: usize) -> Vec<Vec<u8>> {
    let bytes = std::iter::repeat_n(0u8, before).chain(text.iter().copied());
    let bits: Vec<u8> = bytes.flat_map(|byte| (0..8).rev().map(move |n| (byte >> n) & 1)).collect();
    // A digit that is also of what stands before or after it is left out.
    let digits = bits.chunks_exact(6).skip(before.saturating_mul(8).div_ceil(6));
    let digits = digits.map(|six| six.iter().fold(0u8, |n, bit| (n << 1) | bit));
    let plain: Vec<u8> =
        digits.filter_map(|digit| BASE64.get(usize::from(digit)).copied()).collect();
    let in_urls = plain.iter().map(|b| match b {
        b'+' => b'-',
        b'/' => b'_',
        b => *b,
    });
    let in_urls = in_urls.collect();
    vec![plain, in_urls]
}

/// A text that was written in base64.
fn from_base64(text: &str) -> Option<String> {
    let mut bits = Vec::new();
    for byte in text.trim_end_matches('=').bytes() {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        };
        let digit = u8::try_from(BASE64.iter().position(|b| *b == byte)?).ok()?;
        bits.extend((0..6).rev().map(|n| (digit >> n) & 1));
    }
    let bytes = bits.chunks_exact(8).map(|eight| eight.iter().fold(0u8, |n, bit| (n << 1) | bit));
    String::from_utf8(bytes.collect()).ok().filter(|t| !t.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Secrets {
        Secrets::of_headers(&[("authorization".into(), value.into())])
    }

    #[test]
    fn a_key_is_found_however_it_is_repeated() {
        let key = headers("Bearer tok_abcdef+/123456==");
        for (said, shown) in [
            ("bad token tok_abcdef+/123456==", "bad token [hidden]"),
            ("Bearer tok_abcdef+/123456==", "Bearer [hidden]"),
            ("TOK_ABCDEF+/123456==!", "[hidden]!"),
            ("?k=tok_abcdef%2B%2f123456%3D%3D&x", "?k=[hidden]&x"),
            ("?k=tok_abcdef%252B/123456==", "?k=[hidden]"),
            (r#"{"k":"tok_abcdef+\/123456=="}"#, r#"{"k":"[hidden]"}"#),
            (r#"{"k":"tok_\u0061bcdef+\/123456\u003d="}"#, r#"{"k":"[hidden]"}"#),
            (r#"{"k":"{\"k\":\"tok_abcdef+\\\/123456==\"}"}"#, r#"{"k":"{\"k\":\"[hidden]\"}"}"#),
            ("<b>tok_abcdef&#43;&#x2f;123456==</b>", "<b>[hidden]</b>"),
            ("cut: tok_abcdef", "cut: [hidden]"),
            ("cut: tok_abcdef…", "cut: [hidden]…"),
            ("tok_abcx", "tok_abcx"),
            ("your bearer token is missing", "your bearer token is missing"),
            ("dG9rX2FiY2RlZisvMTIzNDU2PT0=", "[hidden]0="),
        ] {
            assert_eq!(key.removed(said), shown, "{said}");
        }
        for before in ["a", "ab", "abc", "{\"token\":\""] {
            let text: Vec<u8> = format!("{before}tok_abcdef+/123456==\"}}").into_bytes();
            let shown = key.removed(&String::from_utf8(in_base64(&text, 0).remove(0)).unwrap());
            assert!(shown.contains(HIDDEN), "{shown}");
            assert!(!shown.contains("2FiY2RlZ") && !shown.contains("rX2FiY2"), "{shown}");
        }
        assert_eq!(format!("{key:?}").matches("tok_").count(), 0);
    }

    #[test]
    fn of_basic_the_user_and_the_password_are_hidden_too() {
        // anna:correct-Horse9
        let basic = headers("Basic YW5uYTpjb3JyZWN0LUhvcnNlOQ==");
        for said in
            ["YW5uYTpjb3JyZWN0LUhvcnNlOQ==", "anna:correct-Horse9", "correct-Horse9", "anna"]
        {
            assert_eq!(basic.removed(&format!("no such user <{said}>")), "no such user <[hidden]>");
        }
        let set = headers("Token token=\"a1b2c3d4e5\", id=77aa88bb99");
        assert_eq!(set.removed("a1b2c3d4e5 77aa88bb99"), "[hidden] [hidden]");
    }

    #[test]
    fn what_overlaps_is_one_gap_and_a_short_one_uncovers_nothing() {
        let mut all = headers("abcd");
        all.extend(headers("Bearer tok_abcdef+/123456=="));
        all.extend(headers("def+/1234"));
        assert_eq!(all.removed("key tok_abcdef+/123456==, abcd."), "key [hidden], [hidden].");
        assert_eq!(all.removed("xabcdx abcdé"), "xabcdx [hidden]é");
        let two = Secrets::new(["aaaa1111bbbb".to_owned(), "bbbb2222cccc".to_owned()]);
        assert_eq!(two.removed("aaaa1111bbbb2222cccc!"), "[hidden]!");
    }

    #[test]
    fn ordinary_words_and_numbers_stay_where_nothing_is_repeated() {
        let other = headers("other");
        assert_eq!(other.removed("another operator; other"), "another operator; [hidden]");
        assert_eq!(other.unmistakable().removed("an other operator"), "an other operator");
        assert_eq!(headers("0.9998").removed("{\"p\":0.9998}"), "{\"p\":0.9998}");
        // A price may begin as a key does.
        assert_eq!(headers("00000000123456789abc").removed("0.00000000123"), "0.00000000123");
        let key = headers("Bearer a1B2c3D4e5").unmistakable();
        assert_eq!(key.removed("x a1B2c3D4e5"), "x [hidden]");
        for odd in ["", "%", "%2", "\\", "\\u12", "&#;", "&#x;", "é%C3%A4\u{1f600}"] {
            assert_eq!(key.removed(odd), odd);
        }
        assert_eq!(
            headers("schlüssel9").removed("schl%C3%BCssel9 schlüssel9"),
            "[hidden] [hidden]"
        );
    }
}
