//! Checkpoints and proof files: against the public forms, and against everything that only looks like them.

use super::super::checkpoint::{Checkpoint, CheckpointError, ForkError, Published};
use super::super::key::{KeyError, KeyName, PrivateKey, PublicKey};
use super::super::note::{NOTE_BYTES_MAX, NoteError};
use super::super::proof::Plan;
use super::super::proof_file::{EXTRA_BYTES_MAX, ProofFile, ProofFileError};
use super::super::tree::{Hash, ProofError, Root, TreeHead};
use super::{Log, entries, flipped};

const ORIGIN: &str = "example.com/topupd";
const SIGNED: &str = "example.com/topupd\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\n\
    — example.com/topupd b/ZNIUl2S0v3KhLMNHKQzA2xCy2FU6KI3dCyZHDjWOJtcHWYQE/xwsmD5ATEfIkZzTq/Ue+3kDcqw+85wiKWl8ttqAg=\n";

fn key(name: &str, first: u8) -> PrivateKey {
    let seed = std::array::from_fn(|n| first + u8::try_from(n).unwrap());
    PrivateKey::from_seed(name.parse().unwrap(), seed).unwrap()
}

fn public(key: &PrivateKey) -> PublicKey {
    key.public().clone()
}

fn log() -> Log {
    Log::of(&entries().iter().map(|entry| Hash::of_leaf(entry)).collect::<Vec<_>>())
}

fn checkpoint() -> Checkpoint {
    Checkpoint { origin: ORIGIN.parse().unwrap(), head: log().edge.head() }
}

#[test]
fn the_signed_checkpoint_of_eight_records() {
    let ours = key(ORIGIN, 0);
    let published = checkpoint().signed(&ours).unwrap();
    assert_eq!(published.to_string(), SIGNED);
    let again: Published = SIGNED.parse().unwrap();
    assert_eq!(again, published);
    assert_eq!(again.verify(&[public(&ours)]), Ok(&checkpoint()));
}

#[test]
fn a_checkpoint_without_a_key_says_so() {
    let published = checkpoint().unsigned().unwrap();
    assert_eq!(published.to_string(), checkpoint().to_string());
    assert!(!published.is_signed());
    let again: Published = published.to_string().parse().unwrap();
    assert_eq!(again, published);
    assert_eq!(again.claimed(), &checkpoint());
    assert_eq!(again.verify(&[public(&key(ORIGIN, 0))]), Err(CheckpointError::Unsigned));
}

/// Two keys while one is replaced: each reader knows one of them, or both.
#[test]
fn a_new_key_signs_beside_the_old_one() {
    let (old, new) = (key(ORIGIN, 0), key(ORIGIN, 100));
    let mut published = checkpoint().signed(&old).unwrap();
    published.sign(&new).unwrap();
    let published: Published = published.to_string().parse().unwrap();
    for known in [vec![public(&old)], vec![public(&new)], vec![public(&old), public(&new)]] {
        assert_eq!(published.verify(&known), Ok(&checkpoint()));
    }
    let stranger = key(ORIGIN, 50);
    let unknown = CheckpointError::Note(NoteError::NoKnownKey);
    assert_eq!(published.verify(&[public(&stranger)]), Err(unknown));
    let damaged: Published = published.to_string().replace("b/ZNIUl2", "b/ZNIUl3").parse().unwrap();
    let wrong = damaged.verify(&[public(&old), public(&new)]);
    assert!(matches!(wrong, Err(CheckpointError::Note(NoteError::WrongSignature { .. }))));
}

/// Who trusts a key for one log does not trust it for another.
#[test]
fn a_key_signs_for_the_log_of_its_name_only() {
    let name: KeyName = "example.com/topupd/2".parse().unwrap();
    let other = key(ORIGIN, 0).renamed(name.clone()).unwrap();
    let refused = CheckpointError::OtherKey { key: name, origin: ORIGIN.parse().unwrap() };
    assert_eq!(checkpoint().signed(&other), Err(refused));
    let published: Published = SIGNED.parse().unwrap();
    let found = ORIGIN.parse().unwrap();
    assert_eq!(published.verify(&[public(&other)]), Err(CheckpointError::OtherLog { found }));
    // A note of another log that a trusted key signed, by whatever accident.
    let text = SIGNED.replacen(ORIGIN, "example.com/other", 1);
    let published: Published = text.parse().unwrap();
    let found = "example.com/other".parse().unwrap();
    let known = [public(&key(ORIGIN, 0))];
    assert_eq!(published.verify(&known), Err(CheckpointError::OtherLog { found }));
}

#[test]
fn every_changed_letter_of_a_checkpoint_is_found() {
    let known = [public(&key(ORIGIN, 0))];
    for (at, letter) in SIGNED.char_indices().filter(|(_, letter)| letter.is_ascii()) {
        let with = if letter == '1' { "2" } else { "1" };
        let mut changed = SIGNED.to_owned();
        changed.replace_range(at..=at, with);
        let verified = changed.parse::<Published>().map(|p| p.verify(&known).map(|_| ()));
        assert!(!matches!(verified, Ok(Ok(()))), "{at} {letter:?}");
    }
    assert!(SIGNED.parse::<Published>().unwrap().verify(&known).is_ok());
}

#[test]
fn texts_that_are_no_checkpoints() {
    let root = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=";
    let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for (text, reason) in [
        (String::new(), CheckpointError::Lines),
        ("\n".into(), CheckpointError::Lines),
        ("a\n8\n".into(), CheckpointError::Lines),
        (format!("a\n8\n{root}"), CheckpointError::Lines),
        (format!("{}\n8\n{root}\n", "a".repeat(400)), CheckpointError::Lines),
        (format!("a\n8\n{root}\nmore\n"), CheckpointError::Extension),
        (format!("a\n8\n{root}\n\n"), CheckpointError::Extension),
        (format!("\n8\n{root}\n"), CheckpointError::Origin(KeyError::NoName)),
        (format!("a b\n8\n{root}\n"), CheckpointError::Origin(KeyError::NameCharacter(' '))),
        (format!("a\r\n8\n{root}\n"), CheckpointError::Origin(KeyError::NameCharacter('\r'))),
        (format!("a\n08\n{root}\n"), CheckpointError::Size),
        (format!("a\n\n{root}\n"), CheckpointError::Size),
        (format!("a\n-8\n{root}\n"), CheckpointError::Size),
        (format!("a\n9223372036854775808\n{root}\n"), CheckpointError::Size),
        (format!("a\n8\n{root} \n"), CheckpointError::Root),
        ("a\n8\nAAAA\n".into(), CheckpointError::Root),
        ("a\n8\n0x5dc9\n".into(), CheckpointError::Root),
        (format!("a\n0\n{root}\n"), CheckpointError::NotEmpty),
    ] {
        assert_eq!(text.parse::<Checkpoint>(), Err(reason), "{text:?}");
        assert!(text.parse::<Published>().is_err(), "{text:?}");
    }
    let parsed: Checkpoint = format!("a\n0\n{empty}\n").parse().unwrap();
    assert_eq!(parsed.head, TreeHead::empty());
}

#[test]
fn what_may_be_signed_after_what() {
    let at = |origin: &str, size, root| {
        let head = TreeHead { size, root: Root(Hash([root; 32])) };
        Checkpoint { origin: origin.parse().unwrap(), head }
    };
    let kept = at("a", 8, 1);
    assert_eq!(at("a", 8, 1).may_follow(&kept), Ok(()));
    assert_eq!(at("a", 9, 2).may_follow(&kept), Ok(()));
    assert_eq!(at("a", 8, 2).may_follow(&kept), Err(ForkError::OtherRoot { size: 8 }));
    assert_eq!(at("a", 7, 1).may_follow(&kept), Err(ForkError::Shrunk { kept: 8, size: 7 }));
    let other = at("b", 9, 1).may_follow(&kept);
    let [kept, origin] = ["a", "b"].map(|name| name.parse().unwrap());
    assert_eq!(other, Err(ForkError::OtherLog { kept, origin }));
}

fn proof(index: u64, extra: Option<&[u8]>) -> ProofFile {
    let path = log().read(Plan::inclusion(index, 8));
    let checkpoint = checkpoint().signed(&key(ORIGIN, 0)).unwrap();
    ProofFile { extra: extra.map(Into::into), index, path, checkpoint }
}

#[test]
fn a_proof_file_proves_its_entry_alone() {
    let known = [public(&key(ORIGIN, 0))];
    for (entry, index) in entries().iter().zip(0..) {
        for extra in [None, Some(b"".as_slice()), Some(b"what else")] {
            let file = proof(index, extra);
            let again: ProofFile = file.to_string().parse().unwrap();
            assert_eq!(again, file);
            assert_eq!(again.verify(entry, &known), Ok(&checkpoint()));
            let wrong = again.verify(b"another entry", &known);
            assert_eq!(wrong, Err(ProofFileError::Proof(ProofError::OtherRoot)));
        }
    }
    let text = proof(5, Some(b"x")).to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra eA==\nindex 5\n"));
    assert!(text.ends_with(&format!("=\n\n{SIGNED}")));
}

#[test]
fn a_proof_of_a_log_of_one_record_has_no_hashes() {
    let head = Log::of(&[Hash::of_leaf(b"x")]).edge.head();
    let checkpoint = Checkpoint { origin: ORIGIN.parse().unwrap(), head }.unsigned().unwrap();
    let file = ProofFile { extra: None, index: 0, path: vec![], checkpoint };
    let again: ProofFile = file.to_string().parse().unwrap();
    assert_eq!(again, file);
    assert!(again.verify_unsigned(b"x").is_ok());
    let known = [public(&key(ORIGIN, 0))];
    let unsigned = ProofFileError::Checkpoint(CheckpointError::Unsigned);
    assert_eq!(again.verify(b"x", &known), Err(unsigned));
}

#[test]
fn a_changed_proof_file_proves_nothing() {
    let (known, entry) = ([public(&key(ORIGIN, 0))], entries().remove(5));
    let right = proof(5, None);
    for n in 0..3 {
        let mut file = right.clone();
        file.path[n] = flipped(file.path[n], 99 * n);
        assert_eq!(file.verify(&entry, &known), Err(ProofError::OtherRoot.into()));
    }
    for index in [0, 4, 6, 7, 8, u64::MAX] {
        let file = ProofFile { index, ..right.clone() };
        assert!(file.verify(&entry, &known).is_err(), "{index}");
    }
    let head = TreeHead { size: 8, root: Root(Hash([1; 32])) };
    let other = Checkpoint { origin: ORIGIN.parse().unwrap(), head };
    let checkpoint = other.signed(&key(ORIGIN, 0)).unwrap();
    let file = ProofFile { checkpoint, ..right };
    assert_eq!(file.verify(&entry, &known), Err(ProofError::OtherRoot.into()));
}

#[test]
fn texts_that_are_no_proof_files() {
    let hash = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n";
    let first = "c2sp.org/tlog-proof@v1\n";
    let large = format!("extra {}AA==\n", "AAAA".repeat(EXTRA_BYTES_MAX / 3 + 1));
    for (text, reason) in [
        (String::new(), ProofFileError::FirstLine),
        (format!("c2sp.org/tlog-proof@v2\nindex 5\n\n{SIGNED}"), ProofFileError::FirstLine),
        (format!("c2sp.org/tlog-proof@v1 \nindex 5\n\n{SIGNED}"), ProofFileError::FirstLine),
        (format!("{first}index 5\n{hash}"), ProofFileError::NoCheckpoint),
        (format!("{first}index 5\n{hash}{SIGNED}"), ProofFileError::Hash { number: 2 }),
        (format!("{first}\n{SIGNED}"), ProofFileError::Index),
        (format!("{first}{hash}\n{SIGNED}"), ProofFileError::Index),
        (format!("{first}index 05\n\n{SIGNED}"), ProofFileError::Index),
        (format!("{first}index  5\n\n{SIGNED}"), ProofFileError::Index),
        (format!("{first}index -5\n\n{SIGNED}"), ProofFileError::Index),
        (format!("{first}extra !\nindex 5\n\n{SIGNED}"), ProofFileError::Extra),
        (format!("{first}{large}index 5\n\n{SIGNED}"), ProofFileError::Extra),
        (format!("{first}index 5\nextra eA==\n\n{SIGNED}"), ProofFileError::Hash { number: 1 }),
        (format!("{first}index 5\n{hash}AAAA\n\n{SIGNED}"), ProofFileError::Hash { number: 2 }),
        (format!("{first}index 5\n{}\n{SIGNED}", hash.repeat(65)), ProofFileError::TooManyHashes),
        (format!("{first}index 5\n\n"), ProofFileError::Checkpoint(CheckpointError::Lines)),
        ("x".repeat(NOTE_BYTES_MAX * 2), ProofFileError::TooLong),
    ] {
        assert_eq!(text.parse::<ProofFile>(), Err(reason), "{:?}", &text[..text.len().min(60)]);
    }
}
