//! stdout and stderr. Nothing else in the tree writes to them.
//!
//! A result that cannot be written to stdout is an error of the command. What goes to stderr is said
//! to whoever listens: when nobody does (a full disk, a closed terminal, a reader that went away),
//! nothing follows from it. `println!` and `eprintln!` panic there, so they are not used
//! (`tests/tidy.rs`).

use std::io::{ErrorKind, Write};

/// Writes a whole answer to stdout, as a line of its own. A reader that went away (`| head`) has
/// had enough, which is no error.
///
/// # Errors
/// Whatever else keeps it from being written, such as a full disk.
pub fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}

/// Says a line on stderr.
pub fn note(line: &str) {
    let _ = Stderr.write_all(format!("{line}\n").as_bytes());
}

/// stderr as a place for logs: writing to it always succeeds, whether it does or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
