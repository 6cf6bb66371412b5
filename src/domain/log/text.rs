//! Base64 and decimal numbers, as the text formats of the log have them: one spelling for each value.
//!
//! Whatever has a second spelling (a missing `=`, bits that are left over, a leading zero or `+`) is refused, so
//! that a text that was parsed is printed again byte for byte. It bounds nothing: callers bound the text.

use super::tree::LARGEST_SIZE;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The standard base64 of RFC 4648 §4, padded.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| three.get(n).copied().unwrap_or(0);
        let bits = u32::from_be_bytes([0, at(0), at(1), at(2)]);
        for (place, digit) in [bits >> 18, bits >> 12, bits >> 6, bits].into_iter().enumerate() {
            let digit = usize::try_from(digit & 63).ok().and_then(|digit| DIGITS.get(digit));
            let digit = digit.filter(|_| place <= three.len()).copied().unwrap_or(b'=');
            text.push(char::from(digit));
        }
    }
    text
}

/// The bytes of a text that [`to_base64`] writes; of no other one.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0u32;
        for place in 0..4 {
            let digit = match four.get(place) {
                Some(byte) => u32::try_from(DIGITS.iter().position(|d| d == byte)?).ok()?,
                None => 0,
            };
            bits = (bits << 6) | digit;
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend(decoded.iter().take(four.len().saturating_sub(1)));
    }
    (to_base64(&bytes) == text).then_some(bytes)
}

/// The 32 bytes of a hash in base64.
pub(super) fn hash_from_base64(text: &str) -> Option<[u8; 32]> {
    from_base64(text)?.try_into().ok()
}

/// A number without sign and leading zeros, at most [`LARGEST_SIZE`].
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number <= LARGEST_SIZE && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn base64_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(to_base64(plain.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(to_base64(&[0xfb, 0xff, 0xfe]), "+//+");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_base64(&to_base64(&all)), Some(all));
    }

    #[test]
    fn a_second_spelling_is_refused() {
        for text in [
            "Zg",
            "Zg=",
            "Zg===",
            "Zh==",
            "Zm9=",
            "Z",
            "=",
            "====",
            "Zm9v=",
            "Zm9v====",
            " Zg==",
            "Zg==\n",
            "-__-",
            "Zg==Zg==",
            "Zm\u{e9}v",
        ] {
            assert_eq!(from_base64(text), None, "{text:?}");
        }
    }

    #[test]
    fn decimals_have_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("9223372036854775807"), Some(LARGEST_SIZE));
        for text in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            "-0",
            " 1",
            "1 ",
            "1\n",
            "0x1",
            "1_0",
            "9223372036854775808",
            "18446744073709551616",
            "\u{0661}",
        ] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }
}
