//! What those who were asked about a payment said, for people and machines: whoever releases a payment sees
//! what it is held for.

use serde_json::{Value, json};

use crate::cli::words::time;
use crate::store::Screening;

/// Characters of an answer that are shown; all of it is in the JSON.
const SHOWN: usize = 200;

/// A few lines for each answer, each with what stands before it. An answer may have lines of its own, and must not
/// look like ours.
pub(super) fn screened_lines(said: &[Screening]) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for s in said {
        let (asked, outcome) = (s.by.asked.as_str(), s.outcome.as_str());
        let sender = s.sender.to_checksum(None);
        lines.push(("screened", format!("{}  {asked}: {outcome}, about {sender}", time(s.at_ms))));
        lines.push(("", format!("asked {}", s.by.question)));
        if !s.answer.is_empty() {
            let start: String = s.answer.chars().take(SHOWN).collect();
            lines.push(("", format!("answer {}", start.replace('\n', "\\u000a"))));
        }
    }
    lines
}

pub(super) fn screening_json(s: &Screening) -> Value {
    json!({
        "asked": s.by.asked.as_str(), "outcome": s.outcome.as_str(),
        "block_hash": s.block, "sender": s.sender.to_checksum(None),
        "question": s.by.question, "answer": s.answer, "asked_at": time(s.at_ms),
    })
}
