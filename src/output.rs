//! stdout and stderr. Nothing else in the tree writes to them.
//!
//! A result that cannot be written to stdout is an error of the command. What goes to stderr is said
//! to whoever listens: when nobody does (a full disk, a closed terminal, a reader that went away, or one
//! that does not read), nothing follows from it. `println!` and `eprintln!` panic there, so they are not used
//! (`tests/tidy.rs`). What is written is made harmless first (`shown`).

mod shown;

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

pub use shown::hide;

/// Writes a whole answer to stdout, as a line of its own. A reader that went away (`| head`) has
/// had enough, which is no error.
///
/// # Errors
/// Whatever else keeps it from being written, such as a full disk.
pub fn answer(text: &str) -> std::io::Result<()> {
    let text = shown::lines(text);
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e),
        _ => Ok(()),
    }
}

/// Says a line on stderr.
pub fn note(line: &str) {
    say(format!("{}\n", shown::line(line.trim_end())).into_bytes());
}

/// stderr as a place for logs: writing to it always succeeds, whether it does or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A record of the log comes whole, and is one line.
        note(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits until what was said so far is written, but no longer than a second: for the end of the program.
pub fn finish() {
    let state = QUEUE.state();
    let pending = |state: &mut State| !state.lines.is_empty() || state.is_writing;
    drop(QUEUE.moved.wait_timeout_while(state, FINISH_MAX, pending));
}

/// Most bytes that wait for a reader. What is said beyond them is lost.
const WAITING_MAX: usize = 1 << 20;
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What was said and is not written yet. A pipe whose reader does not read keeps whoever writes to it
/// waiting: so one thread does that for all others.
struct Queue {
    state: Mutex<State>,
    moved: Condvar,
    writer: Once,
}

struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    is_writing: bool,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Line(Vec<u8>),
    /// So many lines were lost here.
    Lost(u64),
}

static QUEUE: Queue = Queue::new();

impl Queue {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: VecDeque::new(),
                bytes: 0,
                lost: 0,
                is_writing: false,
            }),
            moved: Condvar::new(),
            writer: Once::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line, unless too much is waiting already.
    fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        let bytes = state.bytes.saturating_add(line.len());
        if bytes > WAITING_MAX {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.bytes = bytes;
        state.lines.push_back(line);
        drop(state);
        self.moved.notify_all();
    }

    /// Waits for something to write. What was lost, was lost after all that still waits.
    fn next(&self) -> Next {
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes = state.bytes.saturating_sub(line.len());
                state.is_writing = true;
                return Next::Line(line);
            }
            if state.lost > 0 {
                return Next::Lost(std::mem::take(&mut state.lost));
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes line after line, for ever.
    fn write_all(&self) {
        loop {
            match self.next() {
                Next::Line(line) => {
                    let _ = std::io::stderr().lock().write_all(&line);
                    self.state().is_writing = false;
                    self.moved.notify_all();
                }
                // This comes through the queue too, which is empty now.
                Next::Lost(lines) => tracing::warn!(
                    lines.lost = lines,
                    "nobody read the log for a while, and lines of it are lost"
                ),
            }
        }
    }
}

fn say(line: Vec<u8>) {
    QUEUE.writer.call_once(|| {
        // A machine that has no thread for it shows no log.
        drop(std::thread::Builder::new().name("stderr".into()).spawn(|| QUEUE.write_all()));
    });
    QUEUE.push(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_said_after_what_did() {
        let queue = Queue::new();
        let line = vec![b'x'; WAITING_MAX / 4];
        for _ in 0..7 {
            queue.push(line.clone());
        }
        for _ in 0..4 {
            assert_eq!(queue.next(), Next::Line(line.clone()));
        }
        assert_eq!(queue.next(), Next::Lost(3));
        queue.push(line.clone());
        assert_eq!(queue.next(), Next::Line(line));
    }
}
