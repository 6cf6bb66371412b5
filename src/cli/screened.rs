//! What those who were asked about a payment said, for people and machines: whoever releases a payment sees
//! what it is held for.

use serde_json::{Value, json};

use super::time;
use crate::store::Screening;

/// Characters of an answer that are shown; all of it is in the JSON.
const SHOWN: usize = 200;

/// A few lines for each answer, in a column of this width.
pub(super) fn screened_text(said: &[Screening], width: usize) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| text.push_str(&format!("{key:<width$} {value}\n"));
    for s in said {
        let (asked, outcome) = (s.by.asked.as_str(), s.outcome.as_str());
        let sender = s.sender.to_checksum(None);
        line("screened", format!("{}  {asked}: {outcome}, about {sender}", time(s.at_ms)));
        line("", format!("asked {}", s.by.question));
        if !s.answer.is_empty() {
            line("", format!("answer {}", s.answer.chars().take(SHOWN).collect::<String>()));
        }
    }
    text
}

pub(super) fn screening_json(s: &Screening) -> Value {
    json!({
        "asked": s.by.asked.as_str(), "outcome": s.outcome.as_str(),
        "block_hash": s.block, "sender": s.sender.to_checksum(None),
        "question": s.by.question, "answer": s.answer, "asked_at": time(s.at_ms),
    })
}
