//! Signed notes (C2SP `signed-note`): a text, and lines below it with who signed it.
//!
//! ```text
//! This is an example message.
//!
//! — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
//! ```
//!
//! What a note says counts only after [`Note::verify`]. Signatures of keys that the reader does not know are kept, printed
//! again, and prove nothing; witnesses' cosignatures are among them. What the text means is not decided here.

use std::fmt;
use std::str::FromStr;

use super::key::{KeyId, KeyName, PrivateKey, PublicKey};
use super::text;

/// The longest note that is looked at, in bytes. 16 signatures of the largest kind that is known have 110,000.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// The most signatures of a note. The specification wants 16 or more.
pub const SIGNATURES_MAX: usize = 64;

/// Why a text is no signed note, or not signed by who should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Beyond [`NOTE_BYTES_MAX`].
    #[error("the note is longer than 256 KiB")]
    TooLong,
    /// A control character other than a line end.
    #[error("the note has the control character {0:?}")]
    ControlCharacter(char),
    /// The text does not end with a line end.
    #[error("the text of a note must end with a line end")]
    NoLineEnd,
    /// There is no blank line with signatures behind it.
    #[error("the note has no signatures: a blank line and lines that begin with — are missing")]
    NoSignatures,
    /// A line behind the text is no signature.
    #[error("line {line} behind the text is no signature: — name base64")]
    NotASignature {
        /// Which one, from 1.
        line: usize,
    },
    /// Beyond [`SIGNATURES_MAX`].
    #[error("the note has more than 64 signatures")]
    TooManySignatures,
    /// The signature that names a known key is not of this key and text.
    #[error(
        "the signature of {name} (key {id}) is wrong: the text was changed, or another key signed it"
    )]
    WrongSignature {
        /// The key's name.
        name: KeyName,
        /// The key's id.
        id: KeyId,
    },
    /// Nobody signed it who is known.
    #[error("the note is not signed by a key that is known here")]
    NoKnownKey,
}

/// Somebody's signature of a note, checked or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: KeyName,
    /// The id of the key.
    pub id: KeyId,
    /// The signature: 64 bytes for Ed25519, others for other kinds; not empty.
    pub bytes: Vec<u8>,
}

/// A text with signatures; without any until the first one is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note that nobody signed yet.
    ///
    /// # Errors
    /// [`NoteError`] where the text cannot be that of a note.
    pub fn new(text: String) -> Result<Self, NoteError> {
        bounded(&text)?;
        if !text.ends_with('\n') {
            return Err(NoteError::NoLineEnd);
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// What is signed: with its last line end, without the blank line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signatures, in their order.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature, in place of an older one of the same key.
    pub fn sign(&mut self, key: &PrivateKey) -> Result<(), NoteError> {
        let (name, id) = (key.public().name().clone(), key.public().id());
        let bytes = key.sign(self.text.as_bytes());
        let signature = Signature { name, id, bytes };
        let same = |s: &&mut Signature| s.name == signature.name && s.id == signature.id;
        if let Some(older) = self.signatures.iter_mut().find(same) {
            *older = signature;
        } else if self.signatures.len() < SIGNATURES_MAX {
            self.signatures.push(signature);
        } else {
            return Err(NoteError::TooManySignatures);
        }
        Ok(())
    }

    /// The keys, of those that are known, that signed this text. Signatures of others are passed over.
    ///
    /// # Errors
    /// [`NoteError::WrongSignature`] where one signature of a known key is wrong, though others are right;
    /// [`NoteError::NoKnownKey`] where none is of a known key.
    pub fn verify<'k>(&self, known: &'k [PublicKey]) -> Result<Vec<&'k PublicKey>, NoteError> {
        let mut signers: Vec<&PublicKey> = Vec::new();
        for signature in &self.signatures {
            let (name, id) = (&signature.name, signature.id);
            for key in known.iter().filter(|key| key.name() == name && key.id() == id) {
                if !key.made(&signature.bytes, self.text.as_bytes()) {
                    return Err(NoteError::WrongSignature { name: name.clone(), id });
                }
                if !signers.contains(&key) {
                    signers.push(key);
                }
            }
        }
        if signers.is_empty() { Err(NoteError::NoKnownKey) } else { Ok(signers) }
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        bounded(note)?;
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (n, line) in lines.split('\n').enumerate() {
            if n >= SIGNATURES_MAX {
                return Err(NoteError::TooManySignatures);
            }
            let wrong = NoteError::NotASignature { line: n.saturating_add(1) };
            signatures.push(signature(line).ok_or(wrong)?);
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }
}

impl fmt::Display for Note {
    /// As it is parsed again; where nobody signed, the text alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.signatures.is_empty() {
            f.write_str("\n")?;
        }
        for Signature { name, id, bytes } in &self.signatures {
            let identified: Vec<u8> = id.0.iter().chain(bytes).copied().collect();
            writeln!(f, "— {name} {}", text::to_base64(&identified))?;
        }
        Ok(())
    }
}

fn bounded(note: &str) -> Result<(), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong);
    }
    match note.chars().find(|c| *c < ' ' && *c != '\n') {
        Some(character) => Err(NoteError::ControlCharacter(character)),
        None => Ok(()),
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    let decoded = text::from_base64(encoded)?;
    let (id, bytes) = decoded.split_first_chunk::<4>()?;
    if bytes.is_empty() {
        return None;
    }
    Some(Signature { name: name.parse().ok()?, id: KeyId(*id), bytes: bytes.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\
        — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key(name: &str, seed: u8) -> PrivateKey {
        PrivateKey::from_seed(name.parse().unwrap(), [seed; 32]).unwrap()
    }

    fn public(key: &PrivateKey) -> PublicKey {
        key.public().clone()
    }

    /// The vector of the specification's authors.
    #[test]
    fn a_note_of_others_is_verified() {
        let note: Note = NOTE.parse().unwrap();
        let known = [KEY.parse().unwrap()];
        assert_eq!(note.text(), "This is an example message.\n");
        assert_eq!(note.verify(&known).unwrap(), [&known[0]]);
        assert_eq!(note.to_string(), NOTE);
        let changed: Note = NOTE.replace("example message", "exemple message").parse().unwrap();
        let (name, id) = (known[0].name().clone(), known[0].id());
        assert_eq!(changed.verify(&known), Err(NoteError::WrongSignature { name, id }));
    }

    #[test]
    fn one_wrong_signature_of_a_known_key_refuses_the_note() {
        let (right, other) = (key("a", 1), key("b", 2));
        let mut note = Note::new("x\n".into()).unwrap();
        note.sign(&right).unwrap();
        note.sign(&other).unwrap();
        let known = [public(&right), public(&other)];
        assert_eq!(note.verify(&known).unwrap().len(), 2);
        for n in 0..2 {
            for bit in [0, 255, 511] {
                let mut damaged = note.clone();
                damaged.signatures[n].bytes[bit / 8] ^= 1 << (bit % 8);
                let error = damaged.verify(&known).unwrap_err();
                assert!(
                    matches!(error, NoteError::WrongSignature { name, .. } if name == *known[n].name())
                );
                // Who does not know that key has no use for it, and no harm from it.
                let others = [known[1 - n].clone()];
                assert_eq!(damaged.verify(&others).unwrap(), [&others[0]]);
            }
        }
        let mut short = note.clone();
        short.signatures[0].bytes.truncate(63);
        assert!(short.verify(&known).is_err());
    }

    /// Name and id together are the key.
    #[test]
    fn keys_that_share_a_name_or_an_id_are_other_keys() {
        let (signer, same_name) = (key("a", 1), key("a", 2));
        let mut note = Note::new("x\n".into()).unwrap();
        note.sign(&signer).unwrap();
        assert_eq!(note.verify(&[public(&same_name)]), Err(NoteError::NoKnownKey));
        let mut same_id = note.clone();
        same_id.signatures[0].name = "b".parse().unwrap();
        assert_eq!(same_id.verify(&[public(&signer)]), Err(NoteError::NoKnownKey));
        assert_eq!(note.verify(&[]), Err(NoteError::NoKnownKey));
    }

    #[test]
    fn many_signatures_and_not_endless_ones() {
        let mut note = Note::new("x\n".into()).unwrap();
        for n in 0..SIGNATURES_MAX {
            note.sign(&key(&format!("k{n}"), u8::try_from(n).unwrap())).unwrap();
        }
        let again: Note = note.to_string().parse().unwrap();
        assert_eq!(again, note);
        assert!(SIGNATURES_MAX >= 16 && again.verify(&[public(&key("k63", 63))]).is_ok());
        note.sign(&key("k3", 3)).unwrap();
        assert_eq!(again, note, "a key signs once, and always the same");
        assert_eq!(note.sign(&key("one-more", 9)), Err(NoteError::TooManySignatures));
        let line = note.to_string().lines().last().unwrap().to_owned();
        let more = format!("{note}{line}\n");
        assert_eq!(more.parse::<Note>(), Err(NoteError::TooManySignatures));
    }

    #[test]
    fn the_last_blank_line_separates() {
        let signer = key("a", 1);
        for text in [
            "\n",
            "\n\n",
            "a\n\nb\n",
            "a\n\n",
            "— a AAAAAAA=\n",
            "a\n\n— a AAAAAAA=\n",
            "\u{e9}\u{2028}\n",
        ] {
            let mut note = Note::new(text.into()).unwrap();
            assert_eq!(note.to_string(), text);
            note.sign(&signer).unwrap();
            let again: Note = note.to_string().parse().unwrap();
            assert_eq!(again, note, "{text:?}");
            assert!(again.verify(&[public(&signer)]).is_ok());
        }
    }

    #[test]
    fn texts_that_are_no_notes() {
        let line = "— a AAAAAAA=";
        for (text, reason) in [
            (String::new(), NoteError::NoSignatures),
            ("x\n".into(), NoteError::NoSignatures),
            ("x\n\n".into(), NoteError::NoSignatures),
            (format!("x\n{line}\n"), NoteError::NoSignatures),
            (format!("x\n\n{line}"), NoteError::NoSignatures),
            (format!("x\n\n{line}\n\n"), NoteError::NoSignatures),
            (format!("x\n\n\n{line}\nx\n"), NoteError::NotASignature { line: 2 }),
            ("x\n\n- a AAAAAAA=\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n—  a AAAAAAA=\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n— a  AAAAAAA=\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n— a+b AAAAAAA=\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n— a AAAAAA==\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n— a AAAAAAB=\n".into(), NoteError::NotASignature { line: 1 }),
            ("x\n\n— a AAAAAAA= \n".into(), NoteError::NotASignature { line: 1 }),
            (format!("x\r\n\n{line}\n"), NoteError::ControlCharacter('\r')),
            (format!("x\0\n\n{line}\n"), NoteError::ControlCharacter('\0')),
            (format!("x\n\n{line}\t\n"), NoteError::ControlCharacter('\t')),
            (format!("{}\n\n{line}\n", "x".repeat(NOTE_BYTES_MAX)), NoteError::TooLong),
        ] {
            assert_eq!(text.parse::<Note>(), Err(reason), "{:?}", &text[..text.len().min(40)]);
        }
        assert_eq!(Note::new("x".into()), Err(NoteError::NoLineEnd));
        assert_eq!(Note::new(String::new()), Err(NoteError::NoLineEnd));
    }
}
