//! The files of an open database, and whether they are still where they were.
//!
//! A process that has a file open goes on with it when it is deleted, moved or replaced, and
//! notices nothing: what it commits then, nobody finds again.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::beside;

/// A file that looks changed is looked at once more after this time.
const PAUSE: Duration = Duration::from_millis(50);

/// The files of one database.
#[derive(Debug)]
pub(in crate::store) struct Files {
    database: Known,
    /// Its name after all links.
    real: PathBuf,
    /// Those beside it; they stay the same only while somebody keeps the database open.
    others: OnceLock<Vec<Known>>,
    content: OnceLock<Content>,
    /// What happened to what is in the file.
    broken: OnceLock<String>,
}

/// One that is not at its place any more.
#[derive(Debug)]
pub(in crate::store) struct Lost {
    /// Which, and what happened to it.
    pub(in crate::store) what: String,
    /// Where the database is now; none where that is not known, or it was deleted.
    pub(in crate::store) database: Option<PathBuf>,
    /// What is in the file is not what was written there.
    pub(in crate::store) is_broken: bool,
}

impl Files {
    /// Of a database that was just opened. `path` is how the operator calls it.
    pub(super) fn of(path: &Path, real: &Path) -> io::Result<Self> {
        Ok(Self {
            database: Known::of(path.to_owned())?,
            real: real.to_owned(),
            others: OnceLock::new(),
            content: OnceLock::new(),
            broken: OnceLock::new(),
        })
    }

    /// From now on, somebody keeps it open: those beside it are watched too.
    pub(in crate::store) fn keep(&self, ends: &[&str], mark: Option<u32>) -> io::Result<()> {
        let others = ends.iter().map(|end| Known::of(beside(&self.real, end)));
        let others = others.collect::<io::Result<_>>()?;
        self.others.get_or_init(|| others);
        if cfg!(unix) {
            let content = Content::of(&self.real, mark)?;
            self.content.get_or_init(|| content);
        }
        Ok(())
    }

    /// The first file that is not at its place any more.
    pub(in crate::store) fn lost(&self) -> Option<Lost> {
        let name = |file: &Known| file.path.display().to_string();
        if let Some(what) = self.broken.get() {
            return Some(Lost { what: what.clone(), database: None, is_broken: true });
        }
        if self.database.gone().is_some() && matches!(self.database.is_at(&self.real), Ok(true)) {
            let what =
                format!("{} no longer leads to {}", name(&self.database), self.real.display());
            return Some(Lost { what, database: Some(self.real.clone()), is_broken: false });
        }
        if let Some(gone) = self.database.gone() {
            let what = format!("{} {gone}", name(&self.database));
            return Some(Lost { what, database: self.database.now_at(), is_broken: false });
        }
        let gone = |file: &Known| file.gone().map(|gone| format!("{} {gone}", name(file)));
        let what = self.others.get()?.iter().find_map(gone)?;
        Some(Lost { what, database: Some(self.real.clone()), is_broken: false })
    }

    /// How the operator calls it.
    pub(in crate::store) fn name(&self) -> &Path {
        &self.database.path
    }

    /// True when the operator's name leads to it.
    pub(in crate::store) fn is_at_its_place(&self) -> bool {
        self.database.gone().is_none()
    }

    /// Looks whether what is in the file is still what was written there; `pages` is asked for what the
    /// database has. From the first time that it is not, the database is lost.
    pub(in crate::store) async fn look(&self, pages: impl AsyncFnOnce() -> sqlx::Result<i64>) {
        let Some(content) = self.content.get() else { return };
        if content.changed().is_none() {
            return;
        }
        // Perhaps somebody was just writing it.
        tokio::time::sleep(PAUSE).await;
        let what = match content.changed() {
            None => return,
            Some(Changed::Other) => "was written over by another program",
            Some(Changed::Shorter(len)) => {
                // Whoever tidies it up (VACUUM) makes it shorter too.
                let whole = pages()
                    .await
                    .is_ok_and(|pages| u64::try_from(pages).is_ok_and(|n| content.bytes(n) <= len));
                if whole {
                    return content.is_so_long(len);
                }
                "was cut off, or written over, by another program"
            }
        };
        self.broke(format!("{} {what}", self.database.path.display()));
    }

    /// What is in it cannot be trusted any more. Counts only while it is kept open.
    pub(in crate::store) fn broke(&self, what: String) {
        if self.others.get().is_some() {
            self.broken.get_or_init(|| what);
        }
    }

    /// Removes those beside a database that is not there any more, which belong to no other file.
    pub(in crate::store) fn remove_others(&self) {
        for end in ["-wal", "-shm"] {
            let path = beside(&self.real, end);
            if self.has(&path) {
                drop(std::fs::remove_file(path));
            }
        }
    }

    /// Fails when one is lost: nothing is opened or written then.
    pub(in crate::store::db) fn are_there(&self) -> sqlx::Result<()> {
        self.lost().map_or(Ok(()), |lost| Err(sqlx::Error::Io(io::Error::other(lost.what))))
    }

    /// True when this is one of the files beside the open database.
    pub(in crate::store) fn has(&self, path: &Path) -> bool {
        let others = self.others.get().map(Vec::as_slice).unwrap_or_default();
        others.iter().any(|file| matches!(file.is_at(path), Ok(true)))
    }
}

/// How the first page of a file is not what it was.
enum Changed {
    /// It is another database, or none.
    Other,
    /// It has only so many bytes.
    Shorter(u64),
}

/// What is in the file itself, without what is in the `-wal` file: <https://sqlite.org/fileformat2.html>.
#[derive(Debug)]
struct Content {
    /// Never closed: that would take away SQLite's locks on the file.
    file: ManuallyDrop<File>,
    page_size: u64,
    /// In the header of the file while this daemon has it, and of no other file: what was there before, or what
    /// was put there.
    marks: Option<(u32, u32)>,
    program: u32,
    /// How long it was, and the number that each change of the first page makes larger.
    seen: Mutex<(u64, u32)>,
}

impl Content {
    fn of(real: &Path, mark: Option<u32>) -> io::Result<Self> {
        let file = ManuallyDrop::new(File::open(real)?);
        let (len, header) = (file.metadata()?.len(), header(&file)?);
        let size = u64::from(number(&header, 16) >> 16);
        Ok(Self {
            page_size: if size == 1 { 65_536 } else { size },
            marks: mark.map(|mark| (number(&header, 60), mark)),
            program: number(&header, 68),
            seen: Mutex::new((len, number(&header, 24))),
            file,
        })
    }

    fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_size)
    }

    fn is_so_long(&self, len: u64) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0 = len;
    }

    fn changed(&self) -> Option<Changed> {
        // What cannot be looked at is told by whoever needs it.
        let len = self.file.metadata().ok()?.len();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let header = match header(&self.file) {
            Ok(header) => header,
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Some(Changed::Shorter(len)),
            Err(_) => return None,
        };
        let (changes, mark) = (number(&header, 24), number(&header, 60));
        let is_ours = header.starts_with(b"SQLite format 3\0")
            && number(&header, 68) == self.program
            && changes >= seen.1
            && self.marks.is_none_or(|(old, new)| mark == old || mark == new);
        if !is_ours {
            return Some(Changed::Other);
        }
        seen.1 = changes;
        if len < seen.0 {
            return Some(Changed::Shorter(len));
        }
        seen.0 = len;
        None
    }
}

#[cfg(unix)]
fn header(file: &File) -> io::Result<[u8; 100]> {
    let mut bytes = [0; 100];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(not(unix))]
fn header(_: &File) -> io::Result<[u8; 100]> {
    Err(io::Error::from(ErrorKind::Unsupported))
}

fn number(header: &[u8; 100], at: usize) -> u32 {
    let part = header.get(at..at.saturating_add(4)).unwrap_or_default();
    part.iter().fold(0, |all, byte| all << 8 | u32::from(*byte))
}

/// A file that is the same as long as its device and number are.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    #[cfg(unix)]
    id: (u64, u64),
    /// Tells where it is now, and keeps its number from being given to another file. One that was opened so, nobody
    /// can read, and closing it takes away no lock of SQLite's.
    #[cfg(target_os = "linux")]
    file: std::os::fd::OwnedFd,
}

impl Known {
    fn of(path: PathBuf) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let file = {
            use rustix::fs::{Mode, OFlags, open};
            open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?
        };
        Ok(Self {
            #[cfg(unix)]
            id: id(&path)?,
            path,
            #[cfg(target_os = "linux")]
            file,
        })
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        #[cfg(unix)]
        return Ok(id(path)? == self.id);
        #[cfg(not(unix))]
        path.metadata().map(|_| true)
    }

    /// What happened to it.
    fn gone(&self) -> Option<String> {
        let put = match self.is_at(&self.path) {
            Ok(true) => return None,
            Ok(false) => " and another file put in its place",
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => "",
            // Nobody knows.
            Err(_) => return None,
        };
        Some(match self.now_at() {
            Some(place) => format!("was moved to {}{put}", place.display()),
            None if cfg!(target_os = "linux") => format!("was deleted{put}"),
            None => format!("was moved or deleted{put}"),
        })
    }

    /// Its name now, if it has one and that is known.
    fn now_at(&self) -> Option<PathBuf> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let links = rustix::fs::fstat(&self.file).ok()?.st_nlink;
            let name = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let place = std::fs::read_link(name).ok().filter(|_| links > 0)?;
            // The name by which it was opened may be gone, and another one left.
            matches!(self.is_at(&place), Ok(true)).then_some(place)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }
}

#[cfg(unix)]
pub(super) fn id(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
pub(super) fn id(_: &Path) -> io::Result<(u64, u64)> {
    Err(io::Error::from(ErrorKind::Unsupported))
}
