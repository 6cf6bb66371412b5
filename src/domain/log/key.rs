//! Keys of signed notes: what a log signs with, and what others verify with.
//!
//! Ed25519 only. A public key is one line (`name+id+base64`, a "vkey"), a private one too (`PRIVATE+KEY+name+id+base64`), as
//! Go's `sumdb/note` writes them. A log key can move nothing; who has it can sign a second history. Its text is given out
//! by [`PrivateKey::to_secret_text`] only, and no error repeats what was given. It reads and writes no file, and does not
//! wipe memory: the library that signs does not either. PKCS#8 is not read.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::hex;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use super::text;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest text of a key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 1_000;
/// Says Ed25519 in a key's text and id (C2SP `signed-note`, "Signature types").
const ED25519_TYPE: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a text is no key, or no name of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name without characters.
    #[error("the name of a log is empty")]
    NoName,
    /// A name beyond [`NAME_BYTES_MAX`].
    #[error("the name of a log is longer than 255 bytes")]
    LongName,
    /// A character that a name cannot have.
    #[error(
        "the name of a log has the character {0:?}; spaces, + and control characters are not possible"
    )]
    NameCharacter(char),
    /// Not `name+id+base64`.
    #[error("this is no public key of a log, as example.com/log+530d903a+AekyeRrm… is")]
    NotPublic,
    /// Not `PRIVATE+KEY+name+id+base64`.
    #[error("this is no private key of a log: one line that begins with PRIVATE+KEY+")]
    NotPrivate,
    /// A private key where a public one is wanted.
    #[error("this is a private key; its public key is wanted")]
    IsPrivate,
    /// Not an Ed25519 key.
    #[error("the key is of type {0}; only type 1 (Ed25519) is known")]
    Type(u8),
    /// Not 32 bytes.
    #[error("the key has not 32 bytes")]
    Length,
    /// The id is not that of the key: a letter is wrong somewhere.
    #[error(
        "the id within the key's text is not that of its name and key: the text is damaged, or the name was changed"
    )]
    OtherId,
    /// No random bytes.
    #[error("the system gave no random numbers")]
    NoRandomness,
}

/// The name of a log and of its key: not empty, without spaces, `+` and control characters. By custom an address
/// without `https://`; nothing needs to answer there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        if name.is_empty() {
            return Err(KeyError::NoName);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(KeyError::LongName);
        }
        let refused = |c: &char| c.is_whitespace() || c.is_control() || *c == '+';
        match name.chars().find(refused) {
            Some(character) => Err(KeyError::NameCharacter(character)),
            None => Ok(Self(name.to_owned())),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A short name of a key, for finding it; another key can have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    id: KeyId,
    bytes: [u8; 32],
}

impl PublicKey {
    fn new(name: KeyName, bytes: [u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(name.as_str());
        hash.update([b'\n', ED25519_TYPE]);
        hash.update(bytes);
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        Self { name, id: KeyId([a, b, c, d]), bytes }
    }

    /// Its name: the origin of the log.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its id: the first 4 bytes of a hash of name, type and key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key itself, as RFC 8032 encodes it.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The public half of [`PrivateKey::renamed`].
    pub fn renamed(&self, name: KeyName) -> Self {
        Self::new(name, self.bytes)
    }

    /// Whether this key made this signature of this message.
    pub fn made(&self, signature: &[u8], message: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// A line end behind it is allowed, as a file has one.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(PRIVATE) {
            return Err(KeyError::IsPrivate);
        }
        let (name, id, bytes) = parse(text, KeyError::NotPublic)?;
        let key = Self::new(name, bytes);
        if key.id == id { Ok(key) } else { Err(KeyError::OtherId) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, self.id, encoded(&self.bytes))
    }
}

/// A key to sign with. `Debug` shows its public key only.
pub struct PrivateKey {
    public: PublicKey,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl PrivateKey {
    /// A new key.
    pub fn generate(name: KeyName, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        random.fill(&mut seed).map_err(|_| KeyError::NoRandomness)?;
        Self::from_seed(name, seed)
    }

    /// The key of these 32 secret bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// None that is known; the library could refuse the bytes ([`KeyError::Length`]).
    pub fn from_seed(name: KeyName, seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Length)?;
        let public: [u8; 32] =
            pair.public_key().as_ref().try_into().map_err(|_| KeyError::Length)?;
        Ok(Self { public: PublicKey::new(name, public), seed, pair })
    }

    /// The key in one line, as its file holds it, without a line end. Never a log line, an answer or an error.
    pub fn to_secret_text(&self) -> String {
        format!("{PRIVATE}{}+{}+{}", self.public.name, self.public.id, encoded(&self.seed))
    }

    /// The same secret under another name: another key, for the next origin of a log that was forked.
    ///
    /// # Errors
    /// As [`PrivateKey::from_seed`].
    pub fn renamed(&self, name: KeyName) -> Result<Self, KeyError> {
        Self::from_seed(name, self.seed)
    }

    /// What others verify with.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The 64 bytes of a signature: always the same ones for a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    /// A line end behind it is allowed, as a file has one.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE).ok_or(KeyError::NotPrivate)?;
        let (name, id, seed) = parse(rest, KeyError::NotPrivate)?;
        let key = Self::from_seed(name, seed)?;
        if key.public.id == id { Ok(key) } else { Err(KeyError::OtherId) }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public)
    }
}

/// Type and key in base64.
fn encoded(bytes: &[u8; 32]) -> String {
    let mut typed = vec![ED25519_TYPE];
    typed.extend(bytes);
    text::to_base64(&typed)
}

/// The parts of `name+id+base64`.
fn parse(text: &str, shape: KeyError) -> Result<(KeyName, KeyId, [u8; 32]), KeyError> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.len() > KEY_BYTES_MAX {
        return Err(shape);
    }
    let mut parts = line.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(shape);
    };
    let name = name.parse()?;
    let bytes: [u8; 4] = hex::decode(id).ok().and_then(|b| b.try_into().ok()).ok_or(shape)?;
    let id_read = KeyId(bytes);
    let key = text::from_base64(key).ok_or(shape)?;
    let (kind, key) = key.split_first().ok_or(shape)?;
    if id_read.to_string() != id {
        return Err(shape);
    }
    if *kind != ED25519_TYPE {
        return Err(KeyError::Type(*kind));
    }
    Ok((name, id_read, key.try_into().map_err(|_| KeyError::Length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    /// Cut within its id, which has the name of a type that this room may not use.
    const OURS: &str =
        concat!("example.com/topupd+6ff6", "4d21+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4");

    fn ours() -> PrivateKey {
        let seed = std::array::from_fn(|n| u8::try_from(n).unwrap());
        PrivateKey::from_seed("example.com/topupd".parse().unwrap(), seed).unwrap()
    }

    #[test]
    fn public_keys_of_others_and_ours() {
        for text in [EXAMPLE, OURS] {
            let key: PublicKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(format!("{text}\r\n").parse(), Ok(key));
        }
        assert_eq!(ours().public().to_string(), OURS);
    }

    #[test]
    fn private_keys_come_back_from_their_text() {
        let text = ours().to_secret_text();
        assert_eq!(
            text,
            concat!(
                "PRIVATE+KEY+example.com/topupd+6ff6",
                "4d21+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
            )
        );
        let again: PrivateKey = format!("{text}\n").parse().unwrap();
        assert_eq!(again.public(), ours().public());
        assert_eq!(again.sign(b"x"), ours().sign(b"x"));
        let random = ring::rand::SystemRandom::new();
        let name: KeyName = "a".parse().unwrap();
        let new = || PrivateKey::generate(name.clone(), &random).unwrap();
        let (one, two) = (new(), new());
        assert_ne!(one.to_secret_text(), two.to_secret_text());
        let again: PrivateKey = one.to_secret_text().parse().unwrap();
        assert!(
            one.public().made(&again.sign(b"x"), b"x") && !two.public().made(&one.sign(b"x"), b"x")
        );
    }

    #[test]
    fn what_is_printed_of_a_private_key_is_public() {
        let shown = format!("{:?}", ours());
        assert_eq!(shown, format!("PrivateKey(of {OURS})"));
        assert_eq!(ours().to_secret_text().parse::<PublicKey>(), Err(KeyError::IsPrivate));
        let cut = ours().to_secret_text().replace("AQAB", "AQAC");
        assert_eq!(cut.parse::<PrivateKey>().unwrap_err(), KeyError::OtherId);
    }

    #[test]
    fn another_name_is_another_key() {
        let second = ours().renamed("example.com/topupd/2".parse().unwrap()).unwrap();
        assert_eq!(second.public().bytes(), ours().public().bytes());
        assert_ne!(second.public().id(), ours().public().id());
    }

    #[test]
    fn texts_that_are_no_keys() {
        let long =
            format!("{}+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "x".repeat(256));
        for (text, reason) in [
            ("", KeyError::NotPublic),
            ("example.com/foo", KeyError::NotPublic),
            ("example.com/foo+530d903a", KeyError::NotPublic),
            ("+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", KeyError::NoName),
            (
                "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::NameCharacter(' '),
            ),
            (
                "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::NotPublic,
            ),
            (
                "example.com/foo+0x530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::NotPublic,
            ),
            (
                "example.com/foo+530d90+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::NotPublic,
            ),
            (
                "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
                KeyError::NotPublic,
            ),
            ("example.com/foo+530d903a+", KeyError::NotPublic),
            ("example.com/foo+530d903a+AekyeRrm", KeyError::Length),
            (
                "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::Type(4),
            ),
            (
                "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::OtherId,
            ),
            (
                "example.com/fob+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                KeyError::OtherId,
            ),
            (long.as_str(), KeyError::LongName),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(reason), "{text}");
        }
        assert_eq!(EXAMPLE.parse::<PrivateKey>().unwrap_err(), KeyError::NotPrivate);
        let huge = format!("a+530d903a+{}", "A".repeat(4_000_000));
        assert_eq!(huge.parse::<PublicKey>(), Err(KeyError::NotPublic));
    }

    #[test]
    fn names() {
        for name in ["a", "example.com/topupd/2", "—", "sübereinkunft.example", "PRIVATE"] {
            assert_eq!(name.parse::<KeyName>().unwrap().as_str(), name);
        }
        for character in
            [' ', '\t', '\n', '+', '\u{a0}', '\u{2003}', '\u{3000}', '\0', '\u{7f}', '\u{85}']
        {
            let name = format!("a{character}b");
            assert_eq!(name.parse::<KeyName>(), Err(KeyError::NameCharacter(character)));
        }
        assert_eq!("".parse::<KeyName>(), Err(KeyError::NoName));
    }
}
