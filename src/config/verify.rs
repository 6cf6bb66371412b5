//! `verify`: how receipts are checked, and how where a block cannot be proved.

use crate::domain::finality::Verify;

const WORDS: &str = "\"second-provider\", \"receipts-root\" or \"same-provider\"";
const FALLBACKS: &str = "[\"receipts-root\", \"second-provider\"], or with one provider [\"receipts-root\", \"same-provider\"]";

/// The way that is configured, and the one to fall back on.
///
/// # Errors
/// Why these words make no sense with so many providers; continues the name of the key.
pub(super) fn chosen(
    words: Option<Vec<String>>,
    providers: usize,
) -> Result<(Verify, Option<Verify>), String> {
    let words = words.unwrap_or_else(|| vec![Verify::SecondProvider.as_str().to_owned()]);
    let mut ways = Vec::new();
    for text in words {
        let way = Verify::parse(&text).ok_or_else(|| {
            format!("{text:?} is not known: it is {WORDS}, or a list such as {FALLBACKS}")
        })?;
        if ways.contains(&way) {
            return Err(format!("{text:?} stands there twice"));
        }
        ways.push(way);
    }
    let (first, fallback) = match ways.as_slice() {
        [] => {
            return Err(format!("is an empty list: it is {WORDS}, or a list such as {FALLBACKS}"));
        }
        [first] => (*first, None),
        [Verify::ReceiptsRoot, other] => (Verify::ReceiptsRoot, Some(*other)),
        [Verify::ReceiptsRoot, ..] => {
            return Err(format!("has more than one way to fall back on: it is {FALLBACKS}"));
        }
        _ => {
            return Err(format!(
                "\"receipts-root\" must stand first: only where a block cannot be proved is there another way: {FALLBACKS}"
            ));
        }
    };
    match (first, fallback) {
        (Verify::SecondProvider, _) if providers < 2 => Err(
            "with one provider, nobody else can confirm what it says: add a second one, or accept that with verify = \"same-provider\" or \"receipts-root\"".into(),
        ),
        (_, Some(Verify::SecondProvider)) if providers < 2 => Err(
            "with one provider there is no second one to fall back on: add one, or accept the word of the only one with verify = [\"receipts-root\", \"same-provider\"]".into(),
        ),
        (_, Some(Verify::SameProvider)) if providers > 1 => Err(
            "with several providers, one of them alone must not decide: fall back on \"second-provider\"".into(),
        ),
        chosen => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verify::{ReceiptsRoot, SameProvider, SecondProvider};

    fn of(words: &[&str], providers: usize) -> Result<(Verify, Option<Verify>), String> {
        chosen(Some(words.iter().map(|&word| word.to_owned()).collect()), providers)
    }

    #[test]
    fn a_way_and_another_one_to_fall_back_on() {
        assert_eq!(chosen(None, 2), Ok((SecondProvider, None)));
        for providers in [1, 2, 3] {
            for (word, way) in [("receipts-root", ReceiptsRoot), ("same-provider", SameProvider)] {
                assert_eq!(of(&[word], providers), Ok((way, None)));
            }
        }
        assert_eq!(of(&["second-provider"], 2), Ok((SecondProvider, None)));
        let both = of(&["receipts-root", "second-provider"], 2);
        assert_eq!(both, Ok((ReceiptsRoot, Some(SecondProvider))));
        let both = of(&["receipts-root", "same-provider"], 1);
        assert_eq!(both, Ok((ReceiptsRoot, Some(SameProvider))));
    }

    #[test]
    fn nonsense_is_refused_with_what_to_do() {
        assert!(chosen(None, 1).unwrap_err().contains("add a second one"));
        let cases: [(&[&str], usize, &str); 9] = [
            (&[], 2, "empty"),
            (&["trust"], 2, "\"trust\" is not known"),
            (&["receipts-root", "receipts-root"], 2, "twice"),
            (&["second-provider", "receipts-root"], 2, "must stand first"),
            (&["second-provider", "same-provider"], 2, "must stand first"),
            (&["receipts-root", "second-provider", "same-provider"], 2, "more than one"),
            (&["receipts-root", "second-provider"], 1, "no second one"),
            (&["receipts-root", "same-provider"], 2, "fall back on \"second-provider\""),
            (&["second-provider"], 1, "add a second one"),
        ];
        for (words, providers, part) in cases {
            let why = of(words, providers).unwrap_err();
            assert!(why.contains(part), "{words:?}: {why}");
        }
    }
}
