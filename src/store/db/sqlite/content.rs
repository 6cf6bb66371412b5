//! The first page of a file, as a daemon looks at it, and its length.
//!
//! What the database has in all is more than that while some of it is in the `-wal` file alone: it is not asked here.

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
    /// It has fewer bytes than it had, and than its first page says.
    Shorter,
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

    fn seen(&self) -> MutexGuard<'_, Read> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Some(Changed::Shorter),
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
        // Whoever tidies it up (VACUUM) makes it shorter too, and says so in the first page, which is brought into
        // the file with the rest. What was committed since may be in the `-wal` file alone, and does not count.
        let whole = u64::from(number(&header, 28)).saturating_mul(self.page_size);
        if len < seen.len && len < whole {
            return Some(Changed::Shorter);
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

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

    use super::*;

    async fn run(db: &mut SqliteConnection, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(db).await.unwrap();
    }

    /// A file that was tidied up and has grown since, in its `-wal` file alone, is whole; one that was cut is not.
    #[tokio::test]
    async fn a_file_is_shorter_because_it_was_tidied_up_or_cut() {
        const FILL: &str = "INSERT INTO t SELECT randomblob(400000)";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let url = format!("sqlite:{}?mode=rwc", path.display());
        let mut db = SqliteConnection::connect(&url).await.unwrap();
        run(&mut db, "PRAGMA journal_mode = WAL").await;
        run(&mut db, "PRAGMA wal_autocheckpoint = 0").await;
        run(&mut db, "CREATE TABLE t (b BLOB)").await;
        run(&mut db, FILL).await;
        run(&mut db, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        let len = || path.metadata().unwrap().len();
        let content = Content::of(&path, None).unwrap();
        let long = len();
        run(&mut db, "DELETE FROM t; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").await;
        run(&mut db, FILL).await;
        assert!(len() < long, "{} is not shorter than {long}", len());
        assert!(content.changed().is_none());

        run(&mut db, "PRAGMA wal_checkpoint(TRUNCATE)").await;
        assert!(content.changed().is_none());
        File::options().write(true).open(&path).unwrap().set_len(len() - 4096).unwrap();
        assert!(matches!(content.changed(), Some(Changed::Shorter)));
    }
}
