//! The keys of a log, as the house's records tell them: each signs that the next one takes its place.
//!
//! Who can write the database can write a record, but cannot sign with a key that they do not have. So a key counts
//! where the one before it has signed for it. Of the *first* key nothing in the database can say whose it is: whoever verifies
//! has it from the log's owner, and the daemon has it in its configuration.

use super::checkpoint::{Checkpoint, CheckpointError, Published};
use super::key::{KeyError, KeyName, PrivateKey, PublicKey};
use super::origin::Origin;
use super::text;
use crate::domain::journal::{Cause, LogKey, LogResumed};

/// The first line of what is signed. No checkpoint has four lines, so neither can be taken for the other.
const HANDOVER: &str = "topupd/log-key/v1";

/// Why the records of a log's keys do not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Not a key, or not of the origin that it is registered for.
    #[error("the record that registers {key} names no key of {origin}{}", why.map_or_else(String::new, |why| format!(": {why}")))]
    NotAKey {
        /// What it names.
        key: String,
        /// The log.
        origin: String,
        /// Why it cannot be read.
        why: Option<KeyError>,
    },
    /// It does not say that it replaces the one before, or the first one says that it replaces one.
    #[error("the record that registers the log's key {key} does not replace the key before it")]
    Replaces {
        /// The key.
        key: String,
    },
    /// The key before did not sign it.
    #[error(
        "the log's key {key} is said to replace {replaced}, which did not sign that: whoever wrote the record does not have that key"
    )]
    NotHandedOver {
        /// The key.
        key: String,
        /// The key before.
        replaced: String,
    },
    /// A key that was registered before.
    #[error("the log's key {key} is registered twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// The log has another name there.
    #[error("the log is called {found} there, and its records call it {expected}")]
    Origin {
        /// What the record says.
        found: String,
        /// What the ones before say.
        expected: String,
    },
    /// It was resumed under a name without a key of that name.
    #[error("the log was resumed as {0}, and its key was not registered under that name")]
    Nameless(String),
}

/// The text that the key `old` signs, so that `new` takes its place in the log `origin`.
pub fn handover(origin: &KeyName, old: &PublicKey, new: &PublicKey) -> String {
    format!("{HANDOVER}\n{origin}\n{old}\n{new}\n")
}

/// The cause of the record by which `new` takes the place of `old`, whose secret signs it.
pub fn handed_over(old: &PrivateKey, new: &PublicKey) -> LogKey {
    let signature = old.sign(handover(new.name(), old.public(), new).as_bytes());
    LogKey {
        public_key: new.to_string(),
        origin: new.name().to_string(),
        replaces: Some(old.public().to_string()),
        signature: Some(text::to_base64(&signature)),
    }
}

/// The cause of the record of a log's first key.
pub fn first_key(key: &PublicKey) -> LogKey {
    let origin = key.name().to_string();
    LogKey { public_key: key.to_string(), origin, replaces: None, signature: None }
}

/// All keys of a log and the names it went on under, each of which follows from the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyHistory {
    keys: Vec<PublicKey>,
    resumed: Vec<LogResumed>,
    /// The name that the log has by them.
    origin: Option<String>,
}

impl KeyHistory {
    /// Follows the records of keys and of resumptions, the oldest first. Others are passed over.
    ///
    /// # Errors
    /// [`HistoryError`]: the first one that does not follow.
    pub fn of<'c>(causes: impl IntoIterator<Item = &'c Cause>) -> Result<Self, HistoryError> {
        let mut this = Self::default();
        // A resumption waits for the record that gives the key its new name.
        let mut renamed: Option<&LogResumed> = None;
        for cause in causes {
            match cause {
                Cause::LogKey(key) => this.key(key, renamed.take())?,
                Cause::LogResumed(resumed) => {
                    if let Some(waits) = renamed {
                        return Err(HistoryError::Nameless(waits.origin.clone()));
                    }
                    this.resume(resumed)?;
                    renamed = this.last().is_some().then_some(resumed);
                }
                _ => {}
            }
        }
        match renamed {
            Some(waits) => Err(HistoryError::Nameless(waits.origin.clone())),
            None => Ok(this),
        }
    }

    fn key(&mut self, record: &LogKey, renamed: Option<&LogResumed>) -> Result<(), HistoryError> {
        let key = &record.public_key;
        let not = |why| {
            let (key, origin) = (key.clone(), record.origin.clone());
            HistoryError::NotAKey { key, origin, why }
        };
        let parsed: PublicKey = key.parse().map_err(|why| not(Some(why)))?;
        if parsed.to_string() != *key || parsed.name().as_str() != record.origin {
            return Err(not(None));
        }
        let replaced = self.last().map(ToString::to_string);
        if record.replaces != replaced {
            return Err(HistoryError::Replaces { key: key.clone() });
        }
        if self.keys.contains(&parsed) {
            return Err(HistoryError::Twice { key: key.clone() });
        }
        if let Some(before) = self.last() {
            let expected = renamed.map_or_else(|| before.name().to_string(), |r| r.origin.clone());
            if record.origin != expected {
                return Err(HistoryError::Origin { found: record.origin.clone(), expected });
            }
            let text = handover(parsed.name(), before, &parsed);
            let signature = record.signature.as_deref().and_then(text::from_base64);
            if !signature.is_some_and(|signature| before.made(&signature, text.as_bytes())) {
                let (key, replaced) = (key.clone(), before.to_string());
                return Err(HistoryError::NotHandedOver { key, replaced });
            }
        } else if record.signature.is_some() {
            return Err(HistoryError::Replaces { key: key.clone() });
        }
        self.origin = Some(record.origin.clone());
        self.keys.push(parsed);
        Ok(())
    }

    fn resume(&mut self, resumed: &LogResumed) -> Result<(), HistoryError> {
        // The first name of a log without a key is in no record.
        if let Some(expected) = self.origin.clone().filter(|origin| *origin != resumed.before) {
            return Err(HistoryError::Origin { found: resumed.before.clone(), expected });
        }
        let number = |origin: &str| {
            let name: KeyName = origin.parse().ok()?;
            match self.own() {
                Some(own) => Origin::of(&name, own),
                None => Origin::unsigned(&name),
            }
        };
        match (number(&resumed.before), number(&resumed.origin)) {
            (Some(before), Some(after))
                if before.number < after.number && before.own() == after.own() => {}
            _ => {
                let (found, expected) = (resumed.origin.clone(), resumed.before.clone());
                return Err(HistoryError::Origin { found, expected });
            }
        }
        self.origin = Some(resumed.origin.clone());
        self.resumed.push(resumed.clone());
        Ok(())
    }

    /// The key that signs now.
    pub fn last(&self) -> Option<&PublicKey> {
        self.keys.last()
    }

    /// All of them, the oldest first.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How often the log went on under another name, the oldest first.
    pub fn resumed(&self) -> &[LogResumed] {
        &self.resumed
    }

    /// The name that the log has by these records; none where no record says it.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The log's own name, that of its first key.
    fn own(&self) -> Option<&KeyName> {
        self.keys.first().map(PublicKey::name)
    }

    /// What a checkpoint says, after this log signed it: a key that was registered, under its own name or another of this
    /// log's (another copy of it may have gone on under that one, with the same secret). A log that never had a
    /// key, and is called `now`, has what nobody signed under one of its names.
    ///
    /// # Errors
    /// Why it is none of this log, in a sentence.
    pub fn signed<'p>(
        &self,
        known: &'p Published,
        now: &KeyName,
    ) -> Result<&'p Checkpoint, String> {
        let origin = &known.claimed().origin;
        let Some(own) = self.own() else {
            let own = |name| Origin::unsigned(name).map(|origin| origin.own().clone());
            return if known.is_signed() {
                Err("the checkpoint is signed, and this log never had a key: it is of another log"
                    .into())
            } else if own(origin).is_none() || own(origin) != own(now) {
                Err(CheckpointError::OtherLog { found: origin.clone() }.to_string())
            } else {
                Ok(known.claimed())
            };
        };
        if !known.is_signed() {
            return Err(
                "the checkpoint is not signed, and this log is: anybody can have written it".into(),
            );
        }
        let mut keys = Vec::new();
        if Origin::of(origin, own).is_some() {
            for key in &self.keys {
                let key = key.renamed(origin.clone());
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        known.verify(&keys).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::log::tree::TreeHead;

    const NAME: &str = "example.com/topupd";

    fn key(name: &str, seed: u8) -> PrivateKey {
        PrivateKey::from_seed(name.parse().unwrap(), [seed; 32]).unwrap()
    }

    fn resumed(before: &str, origin: &str) -> Cause {
        Cause::LogResumed(LogResumed {
            origin: origin.into(),
            before: before.into(),
            reason: "a test".into(),
            checkpoint: None,
            size: 5,
        })
    }

    fn next(old: &PrivateKey, new: &PrivateKey) -> Cause {
        Cause::LogKey(handed_over(old, new.public()))
    }

    /// A first key, one that replaced it, and a resumption.
    fn history() -> Vec<Cause> {
        let (a, b, b2) = (key(NAME, 1), key(NAME, 2), key("example.com/topupd/2", 2));
        vec![
            resumed("topupd/testnet/0a/1", "topupd/testnet/0a/2"),
            Cause::LogKey(first_key(a.public())),
            next(&a, &b),
            resumed(NAME, "example.com/topupd/2"),
            next(&b, &b2),
        ]
    }

    fn changed(at: usize, change: impl Fn(&mut LogKey)) -> Result<KeyHistory, HistoryError> {
        let mut causes = history();
        match &mut causes[at] {
            Cause::LogKey(key) => change(key),
            other => panic!("{other:?}"),
        }
        KeyHistory::of(&causes)
    }

    #[test]
    fn each_key_signs_for_the_next() {
        let causes = history();
        let held = KeyHistory::of(&causes).unwrap();
        assert_eq!(held.keys().len(), 3);
        assert_eq!(held.origin(), Some("example.com/topupd/2"));
        assert_eq!(held.resumed().len(), 2);
        assert_eq!(KeyHistory::of(&[]).unwrap(), KeyHistory::default());
        // In their order, and none left out.
        for without in 1..causes.len() {
            let mut fewer = causes.clone();
            fewer.remove(without);
            assert!(KeyHistory::of(&fewer).is_err(), "without {without}");
        }
        let twice: Vec<Cause> = causes.iter().chain([&causes[4]]).cloned().collect();
        assert!(KeyHistory::of(&twice).is_err());
    }

    #[test]
    fn a_key_that_nobody_handed_over_to_is_none() {
        let attacker = key(NAME, 9);
        let own = attacker.public().to_string();
        let by_itself = handed_over(&attacker, attacker.public()).signature;
        let not = |result| matches!(result, Err(HistoryError::NotHandedOver { .. }));
        // Without a signature, with one's own, with that for another key, and for another name.
        assert!(not(changed(2, |k| k.signature = None)));
        assert!(not(changed(2, |k| k.signature.clone_from(&by_itself))));
        assert!(not(changed(2, |k| k.public_key.clone_from(&own))));
        assert!(not(changed(4, |k| k.signature = k.signature.as_ref().map(|s| s.to_lowercase()))));
        let other_name = handed_over(&key(NAME, 2), key("example.com/topupd/3", 2).public());
        assert!(not(changed(4, |k| k.signature.clone_from(&other_name.signature))));
        // By the key's own secret, and not as the one that is registered.
        let unregistered = handed_over(&key("example.com/topupd/2", 2), key(NAME, 3).public());
        assert!(not(changed(2, |k| k.signature.clone_from(&unregistered.signature))));
        for (at, replaces) in [(1, Some("x")), (2, None), (2, Some("x")), (4, None)] {
            let replaced = changed(at, |k| k.replaces = replaces.map(str::to_owned));
            assert!(matches!(replaced, Err(HistoryError::Replaces { .. })), "{at} {replaces:?}");
        }
        assert!(changed(1, |k| k.signature = Some("AAAA".into())).is_err());
        assert!(changed(2, |k| k.origin = "example.com/other".into()).is_err());
        assert!(changed(2, |k| k.public_key.push('\n')).is_err());
    }

    #[test]
    fn names_that_do_not_follow() {
        let causes = history();
        for (before, origin) in [
            ("example.com/other", "example.com/topupd/2"),
            (NAME, NAME),
            (NAME, "example.com/other"),
            (NAME, "example.com/topupd/1"),
        ] {
            let mut other = causes.clone();
            other[3] = resumed(before, origin);
            assert!(matches!(KeyHistory::of(&other), Err(HistoryError::Origin { .. })), "{origin}");
        }
        let error = KeyHistory::of(&causes[..4]).unwrap_err();
        assert_eq!(error, HistoryError::Nameless("example.com/topupd/2".into()));
        // A rotation is no resumption.
        let mut other = causes[..2].to_vec();
        other.push(next(&key(NAME, 1), &key("example.com/topupd/2", 1)));
        assert!(matches!(KeyHistory::of(&other), Err(HistoryError::Origin { .. })));
    }

    #[test]
    fn checkpoints_of_this_log_and_of_others() {
        let held = KeyHistory::of(&history()).unwrap();
        let now: KeyName = "example.com/topupd/2".parse().unwrap();
        let of = |origin: &str, seed| {
            let origin: KeyName = origin.parse().unwrap();
            let checkpoint = Checkpoint { origin: origin.clone(), head: TreeHead::empty() };
            match seed {
                None => checkpoint.unsigned().unwrap(),
                Some(seed) => checkpoint.signed(&key(origin.as_str(), seed)).unwrap(),
            }
        };
        for (origin, seed, is_ours) in [
            (NAME, Some(1), true),
            (NAME, Some(2), true),
            ("example.com/topupd/2", Some(2), true),
            // Another copy went on under that name, with the same secret.
            ("example.com/topupd/7", Some(2), true),
            (NAME, Some(3), false),
            ("example.com/topupd/7", Some(3), false),
            ("example.com/other", Some(2), false),
            (NAME, None, false),
            ("example.com/topupd/7", None, false),
        ] {
            let known = of(origin, seed);
            assert_eq!(held.signed(&known, &now).is_ok(), is_ours, "{origin} {seed:?}");
        }
        let wrong = of(NAME, Some(1)).to_string().replacen("\n0\n", "\n1\n", 1);
        assert!(held.signed(&wrong.parse().unwrap(), &now).is_err());
        let never = KeyHistory::default();
        let now: KeyName = "topupd/testnet/0a/2".parse().unwrap();
        assert!(never.signed(&of("topupd/testnet/0a/1", None), &now).is_ok());
        assert!(never.signed(&of("topupd/testnet/0b/1", None), &now).is_err());
        assert!(never.signed(&of("topupd/testnet/0a/1", Some(1)), &now).is_err());
    }
}
