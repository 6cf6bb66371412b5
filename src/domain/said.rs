//! What people say of what they do: their name, and why. Others read it beside what the program says, so
//! it is one line, and looks like one.

/// Refuses who did something, or why, where it is not one line.
///
/// # Errors
/// A sentence that names the option.
pub fn by(operator: &str, reason: &str) -> Result<(), String> {
    one_line("operator", operator, 63)?;
    one_line("reason", reason, 1_000)
}

/// Refuses what is to show that something is so, where it is not one line.
///
/// # Errors
/// A sentence that names the option.
pub fn evidence(text: &str) -> Result<(), String> {
    one_line("evidence", text, 1_000)
}

/// Refuses a text that is empty, too long, or holds anything that could look like another line: what is
/// shown to a second person must not be forged by the first.
///
/// # Errors
/// A sentence that names the option.
fn one_line(option: &str, text: &str, most: usize) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().count() > most {
        return Err(format!("--{option} must have 1 to {most} characters"));
    }
    let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    match text.chars().find(|c| odd(*c)) {
        Some(c) => {
            Err(format!("--{option} must be one line of text: it holds U+{:04X}", u32::from(c)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_look_like_another_line_is_refused() {
        for good in ["two exchanges", "é ✓", " a "] {
            assert_eq!(one_line("reason", good, 20), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "a\nhash 0x11",
            "a\rb",
            "a\u{1b}[1m",
            "a\u{85}b",
            "a\u{2028}b",
            "123456789012345678901",
        ] {
            assert!(one_line("reason", bad, 20).is_err(), "{bad:?}");
        }
    }
}
