//! What people say of what they do: their name, and why. Others read it beside what the program says, so
//! it is one line, and looks like one; and two names are of one person when they read alike.
//!
//! Letters of another script that look like these (a whole name in Cyrillic) are not told apart: a name that mixes
//! them with Latin ones is refused.

/// Refuses who did something, or why, where it is not one line.
///
/// # Errors
/// A sentence that names the option.
pub fn by(operator: &str, reason: &str) -> Result<(), String> {
    name(operator)?;
    one_line("reason", reason, 1_000)
}

/// Refuses what is to show that something is so, where it is not one line.
///
/// # Errors
/// A sentence that names the option.
pub fn evidence(text: &str) -> Result<(), String> {
    one_line("evidence", text, 1_000)
}

/// True when two operators' names are of one person: small and capital letters are the same.
pub fn is_same_person(one: &str, other: &str) -> bool {
    folded(one) == folded(other)
}

/// Without the difference between small and capital letters. Through capital ones first, because several small
/// letters have one of these (ß and ss, ſ and s, ς and σ); and once more, for what capital ones come to.
fn folded(name: &str) -> String {
    name.trim().to_uppercase().to_lowercase().to_uppercase()
}

/// Refuses a name that somebody could take for another one: it has letters, digits and a few signs, and no
/// space in it. A letter with its accent is one character, and not two.
fn name(text: &str) -> Result<(), String> {
    const OPTION: &str = "operator";
    one_line(OPTION, text, 63)?;
    let text = text.trim();
    let allowed = |c: char| (c.is_alphanumeric() && !is_odd_letter(c)) || "._@+-".contains(c);
    if let Some(c) = text.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "--{OPTION} must be a name of letters, digits and . _ @ + - without spaces: it holds U+{:04X}",
            u32::from(c)
        ));
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(format!("--{OPTION} must have a letter or a digit"));
    }
    let letters = || text.chars().filter(|c| c.is_alphabetic());
    if letters().any(is_latin) && !letters().all(is_latin) {
        return Err(format!(
            "--{OPTION} must not mix Latin letters with others, which may look the same"
        ));
    }
    Ok(())
}

/// Refuses a text that is empty, too long, or holds anything that could look like another line, or that nobody
/// sees: what is shown to a second person must not be forged by the first.
///
/// # Errors
/// A sentence that names the option.
fn one_line(option: &str, text: &str, most: usize) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().count() > most {
        return Err(format!("--{option} must have 1 to {most} characters"));
    }
    let odd = |c: char| c.is_control() || is_unseen(c);
    match text.chars().find(|c| odd(*c)) {
        Some(c) => {
            Err(format!("--{option} must be one line of text: it holds U+{:04X}", u32::from(c)))
        }
        None => Ok(()),
    }
}

/// Characters that break a line, turn the direction of writing, or that nobody sees: Unicode's categories Zl, Zp
/// and Cf, fillers, and what is put aside for nobody.
pub const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{fffe}'..='\u{ffff}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..
    )
}

/// Letters and digits that are another one's form: wide, raised, in a circle, of formulas.
const fn is_odd_letter(c: char) -> bool {
    matches!(
        c,
        '\u{aa}'
            | '\u{b2}'..='\u{b3}'
            | '\u{b9}'..='\u{ba}'
            | '\u{bc}'..='\u{be}'
            | '\u{2b0}'..='\u{2ff}'
            | '\u{1d00}'..='\u{1dbf}'
            | '\u{2070}'..='\u{218f}'
            | '\u{2460}'..='\u{2bff}'
            | '\u{a700}'..='\u{a7ff}'
            | '\u{ab30}'..='\u{ab6f}'
            | '\u{f900}'..='\u{fdff}'
            | '\u{fe70}'..='\u{ffef}'
            | '\u{10780}'..='\u{107bf}'
            | '\u{1d400}'..='\u{1d7ff}'
            | '\u{1df00}'..='\u{1dfff}'
            | '\u{1ee00}'..='\u{1eeff}'
            | '\u{1f100}'..='\u{1fbff}'
    )
}

const fn is_latin(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_look_like_another_line_is_refused() {
        for good in ["two exchanges", "é ✓", " a ", "e\u{301}", "資金 👍"] {
            assert_eq!(one_line("reason", good, 20), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "a\nhash 0x11",
            "a\rb",
            "a\tb",
            "a\u{1b}[1m",
            "a\u{85}b",
            "a\u{2028}b",
            "a\u{202e}b",
            "a\u{2067}b",
            "a\u{200b}b",
            "a\u{feff}b",
            "a\u{61c}b",
            "a\u{e0041}b",
            "a\u{ad}b",
            "123456789012345678901",
        ] {
            assert!(one_line("reason", bad, 20).is_err(), "{bad:?}");
            assert!(by("alice", bad).is_err() || bad.len() == 21, "{bad:?}");
            assert!(evidence(bad).is_err() || bad.len() == 21, "{bad:?}");
        }
    }

    #[test]
    fn a_name_cannot_be_taken_for_another_one() {
        for good in [
            "alice",
            "Alice.B",
            "alice@example.com",
            "a-b_c+d",
            "josé",
            "Ангелина",
            "花子",
            " bob ",
            "7",
        ] {
            assert_eq!(by(good, "why"), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            " ",
            "ali ce",
            "ali\u{a0}ce",
            "ali\u{3000}ce",
            "ali\u{200b}ce",
            "ali\u{200d}ce",
            "\u{202e}ecila",
            "ali\u{ad}ce",
            "alice\u{3164}",
            "alice\u{ffa0}",
            "alice\u{115f}",
            "jose\u{301}",
            "alice\u{378}",
            "alice\u{e0100}",
            "alice\u{e001}",
            "\u{430}lice",
            "alic\u{435}",
            "ａlice",
            "ａｌｉｃｅ",
            "𝐚𝐥𝐢𝐜𝐞",
            "ⓐlice",
            "alice²",
            "alice,bob",
            "alice/bob",
            "al\u{0}ice",
            "...",
        ] {
            assert!(by(bad, "why").is_err(), "{bad:?}");
        }
    }

    /// Every character is either refused in a name, or seen, and no space.
    #[test]
    fn no_character_of_a_name_is_unseen() {
        for c in '\0'..=char::MAX {
            if name(&format!("{c}{c}")).is_ok() {
                assert!(!c.is_whitespace() && !c.is_control() && !is_unseen(c), "{c:?}");
                assert!(c.is_alphanumeric() || "._@+-".contains(c), "{c:?}");
            }
        }
    }

    #[test]
    fn small_and_capital_letters_are_of_one_person() {
        for (one, other) in [
            ("alice", "ALICE"),
            (" alice", "Alice "),
            ("straße", "STRASSE"),
            ("οδυσσευς", "ΟΔΥΣΣΕΥΣ"),
            ("οδυσσευσ", "οδυσσευς"),
            ("boſs", "boss"),
            ("\u{212a}im", "kim"),
        ] {
            assert!(is_same_person(one, other), "{one} {other}");
        }
        assert!(!is_same_person("alice", "bob") && !is_same_person("alice", "alic"));
    }
}
