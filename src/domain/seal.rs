//! The one canonical byte encoding behind every id and every link of the ledger's hash chain.
//!
//! Every field is written with its length before it, so that no two different records can read
//! alike (joining fields with a separator, as others do, lets them). It does not serialise for
//! storage: nothing is ever decoded from these bytes.

use alloy::primitives::B256;
use sha2::{Digest, Sha256};

/// A sha-256 over length-prefixed fields, opened with a domain word.
#[derive(Debug)]
pub struct Canonical(Sha256);

impl Canonical {
    /// Opens an encoding. `domain` separates kinds of record and versions of the encoding.
    pub fn new(domain: &str) -> Self {
        let mut this = Self(Sha256::new());
        this.text(domain);
        this
    }

    /// Appends bytes: 8 bytes of big-endian length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// Appends text as UTF-8 bytes.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends an unsigned number as 8 big-endian bytes.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Appends a signed number as 8 big-endian bytes, two's complement.
    pub fn i64(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Closes the encoding.
    pub fn finish(self) -> B256 {
        B256::from_slice(self.0.finalize().as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let hash = |fields: &[&str]| {
            let mut c = Canonical::new("test");
            for field in fields {
                c.text(field);
            }
            c.finish()
        };
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["ab"]), hash(&["ab", ""]));
        assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
    }

    /// `printf '\0\0\0\0\0\0\0\4test\0\0\0\0\0\0\0\2ab' | sha256sum`.
    #[test]
    fn golden_vector() {
        let mut c = Canonical::new("test");
        c.text("ab");
        assert_eq!(
            c.finish().to_string(),
            "0x516fa7d35de9d1a11ab68c81088661def1df10eea4cc2314e14681ac185e813d"
        );
    }
}
