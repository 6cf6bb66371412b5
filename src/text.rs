//! Files of text that people name, read up to a bound: what they name may be a device without an end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

/// The text of a file of at most so many bytes.
///
/// # Errors
/// When it cannot be read, is no text, or is longer.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(most.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > most) {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it is longer than {most} bytes"),
        ));
    }
    Ok(text)
}

/// The line, from 1, on which an error stands; the first one where it does not say.
pub(crate) fn line_of(text: &str, at: Option<Range<usize>>) -> usize {
    let before = at.and_then(|at| text.get(..at.start));
    before.map_or(1, |before| before.split('\n').count())
}
