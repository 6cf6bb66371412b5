//! What comes from outside is made harmless where it is shown: secrets are left out, and characters
//! that a terminal obeys are written as what they are.
//!
//! What a provider said may hold anything: a key that it was sent, colours, a line that looks like ours.
//! Which texts are secret, whoever reads the configuration says ([`hide`]); none is guessed here. Answers lose
//! their keys where they come in, before they are cut and stored; this is the last net, for what else repeats
//! one. Our own sentences pass through it too: so short secrets and ordinary words are not looked for.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::{PoisonError, RwLock};

use crate::domain::said::is_unseen;
use crate::domain::secrets::Secrets;

static SECRETS: RwLock<Option<Secrets>> = RwLock::new(None);

/// From now on, none of these is shown.
pub fn hide(secrets: Secrets) {
    let mut all = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    all.get_or_insert_default().extend(secrets.unmistakable());
}

/// A text of any number of lines, as it may be shown.
pub(super) fn lines(text: &str) -> String {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    harmless(text, secrets.as_ref(), true)
}

/// A text as one line.
pub(super) fn line(text: &str) -> String {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    harmless(text, secrets.as_ref(), false)
}

fn harmless(text: &str, secrets: Option<&Secrets>, lines: bool) -> String {
    let text = secrets.map_or_else(|| text.into(), |secrets| Cow::from(secrets.removed(text)));
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && !(c == '\n' && lines)) || is_unseen(c) {
            // As JSON has it, so that what is JSON stays it.
            for half in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{half:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out_and_json_stays_json() {
        let said = "a\u{1b}[31mred\r\u{9b}2J \u{202e}x\ny";
        assert_eq!(harmless(said, None, true), "a\\u001b[31mred\\u000d\\u009b2J \\u202ex\ny");
        assert_eq!(harmless("one\ntwo", None, false), "one\\u000atwo");
        let json = serde_json::json!({ "why": "\u{9b}2J\u{202e}" }).to_string();
        let shown = harmless(&json, None, true);
        assert!(!shown.contains('\u{9b}'), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap()["why"],
            "\u{9b}2J\u{202e}"
        );
    }

    #[test]
    fn no_secret_is_shown_nor_a_part_of_one() {
        let secrets = Secrets::new(["abcd1234", "other", "1234"].map(str::to_owned)).unmistakable();
        let said = "key abcd1234, by another or other, or 1234";
        let shown = "key [hidden], by another or other, or 1234";
        assert_eq!(harmless(said, Some(&secrets), false), shown);
    }
}
