//! The first page of a file, as a daemon looks at it, and its length.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek, SeekFrom};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How the first page of a file is not what it was.
pub(super) enum Changed {
    /// It is another database, or none.
    Other,
    /// It has another mark.
    Mark,
    /// It has only so many bytes.
    Shorter(u64),
}

/// What is in the file itself, without what is in the `-wal` file: <https://sqlite.org/fileformat2.html>.
#[derive(Debug)]
pub(super) struct Content {
    /// Never closed: that would take away SQLite's locks on the file.
    file: ManuallyDrop<File>,
    page_size: u64,
    /// In the header of the file while this daemon has it, and of no other file: what was there before, until what
    /// was put there is.
    marks: Option<(u32, u32)>,
    program: u32,
    seen: Mutex<Read>,
}

/// What was read of it last.
#[derive(Debug)]
struct Read {
    len: u64,
    /// The number that each change of the first page makes larger.
    changes: u32,
    /// The mark is in it; and that was told.
    is_marked: bool,
    is_told: bool,
}

impl Content {
    pub(super) fn of(real: &Path, mark: Option<u32>) -> io::Result<Self> {
        let file = ManuallyDrop::new(File::open(real)?);
        let (len, header) = (file.metadata()?.len(), header(&file)?);
        Ok(Self {
            page_size: page_size(&header),
            marks: mark.map(|mark| (number(&header, 60), mark)),
            program: number(&header, 68),
            seen: Mutex::new(Read {
                len,
                changes: number(&header, 24),
                is_marked: false,
                is_told: false,
            }),
            file,
        })
    }

    pub(super) fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_size)
    }

    fn seen(&self) -> MutexGuard<'_, Read> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_so_long(&self, len: u64) {
        self.seen().len = len;
    }

    /// The mark, once, when it is in the file.
    pub(super) fn is_marked_now(&self) -> Option<u32> {
        let mut seen = self.seen();
        let is_new = seen.is_marked && !seen.is_told;
        seen.is_told = seen.is_marked;
        self.marks.filter(|_| is_new).map(|(_, mark)| mark)
    }

    pub(super) fn changed(&self) -> Option<Changed> {
        // What cannot be looked at is told by whoever needs it.
        let len = self.file.metadata().ok()?.len();
        let mut seen = self.seen();
        let header = match header(&self.file) {
            Ok(header) => header,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Some(Changed::Shorter(len)),
            Err(_) => return None,
        };
        let (changes, mark) = (number(&header, 24), number(&header, 60));
        if !header.starts_with(MAGIC) || number(&header, 68) != self.program {
            return Some(Changed::Other);
        }
        if let Some((old, new)) = self.marks {
            if mark != new && (seen.is_marked || mark != old) {
                return Some(Changed::Mark);
            }
            seen.is_marked |= mark == new;
        }
        if changes < seen.changes {
            return Some(Changed::Other);
        }
        seen.changes = changes;
        if len < seen.len {
            return Some(Changed::Shorter(len));
        }
        seen.len = len;
        None
    }
}

/// What each SQLite file begins with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// Its first bytes.
pub(super) fn header(mut file: &File) -> io::Result<[u8; 100]> {
    let mut bytes = [0; 100];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The number in so many of them as 32 bits have.
pub(super) fn number(header: &[u8; 100], at: usize) -> u32 {
    let part = header.get(at..at.saturating_add(4)).unwrap_or_default();
    part.iter().fold(0, |all, byte| all << 8 | u32::from(*byte))
}

/// How long a page is.
pub(super) fn page_size(header: &[u8; 100]) -> u64 {
    match number(header, 16) >> 16 {
        1 => 65_536,
        size => size.into(),
    }
}
