//! What comes from outside is made harmless where it is shown: secrets are left out, and characters
//! that a terminal obeys are written as what they are.
//!
//! What a provider said may hold anything: a key that it was sent, colours, a line that looks like ours.
//! Which texts are secret, whoever reads the configuration says ([`hide`]); none is guessed here.

use std::fmt::Write;
use std::sync::{PoisonError, RwLock};

/// Instead of a secret.
const HIDDEN: &str = "[hidden]";

/// Longest first, so that none leaves a part of another one.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on, none of these is shown.
pub fn hide(secrets: impl IntoIterator<Item = String>) {
    let mut all = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    all.extend(secrets.into_iter().filter(|secret| !secret.is_empty()));
    all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    all.dedup();
}

/// A text of any number of lines, as it may be shown.
pub(super) fn lines(text: &str) -> String {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    harmless(text, &secrets, true)
}

/// A text as one line.
pub(super) fn line(text: &str) -> String {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    harmless(text, &secrets, false)
}

fn harmless(text: &str, secrets: &[String], lines: bool) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), HIDDEN);
        }
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && !(c == '\n' && lines)) || turns(c) {
            // As JSON has it, so that what is JSON stays it.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters that turn the direction of writing, or that nobody sees.
const fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out_and_json_stays_json() {
        let said = "a\u{1b}[31mred\r\u{9b}2J \u{202e}x\ny";
        assert_eq!(harmless(said, &[], true), "a\\u001b[31mred\\u000d\\u009b2J \\u202ex\ny");
        assert_eq!(harmless("one\ntwo", &[], false), "one\\u000atwo");
        let json = serde_json::json!({ "why": "\u{9b}2J\u{202e}" }).to_string();
        let shown = harmless(&json, &[], true);
        assert!(!shown.contains('\u{9b}'), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap()["why"],
            "\u{9b}2J\u{202e}"
        );
    }

    #[test]
    fn no_secret_is_shown_nor_a_part_of_one() {
        let secrets = ["abcd1234".to_owned(), "1234".to_owned()];
        assert_eq!(harmless("key abcd1234, or 1234", &secrets, false), "key [hidden], or [hidden]");
    }
}
