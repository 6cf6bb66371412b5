//! The files of an open database, and whether they are still where they were.
//!
//! A process that has a file open goes on with it when it is deleted, moved or replaced, and
//! notices nothing: what it commits then, nobody finds again.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::beside;

/// The files of one database.
#[derive(Debug)]
pub(in crate::store) struct Files {
    database: Known,
    /// Those beside it; they stay the same only while somebody keeps the database open.
    others: OnceLock<Vec<Known>>,
}

/// One that is not at its place any more.
#[derive(Debug)]
pub(in crate::store) struct Lost {
    /// Which, and what happened to it.
    pub(in crate::store) what: String,
    /// Where the database is now; none where that is not known, or it was deleted.
    pub(in crate::store) database: Option<PathBuf>,
}

impl Files {
    /// Of a database that was just opened. `path` is how the operator calls it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { database: Known::of(path.to_owned())?, others: OnceLock::new() })
    }

    /// From now on, somebody keeps it open: those beside it are watched too.
    pub(in crate::store) fn keep(&self, real: &Path, ends: &[&str]) -> io::Result<()> {
        let others = ends.iter().map(|end| Known::of(beside(real, end)));
        let others = others.collect::<io::Result<_>>()?;
        self.others.get_or_init(|| others);
        Ok(())
    }

    /// The first file that is not at its place any more.
    pub(in crate::store) fn lost(&self) -> Option<Lost> {
        let name = |file: &Known| file.path.display().to_string();
        if let Some(gone) = self.database.gone() {
            let what = format!("{} {gone}", name(&self.database));
            return Some(Lost { what, database: self.database.now_at() });
        }
        let gone = |file: &Known| file.gone().map(|gone| format!("{} {gone}", name(file)));
        let what = self.others.get()?.iter().find_map(gone)?;
        Some(Lost { what, database: Some(self.database.path.clone()) })
    }

    /// Fails when one is lost: nothing is opened or written then.
    pub(in crate::store::db) fn are_there(&self) -> sqlx::Result<()> {
        self.lost().map_or(Ok(()), |lost| Err(sqlx::Error::Io(io::Error::other(lost.what))))
    }

    /// True when this is the `-wal` file of the open database.
    pub(in crate::store) fn has(&self, path: &Path) -> bool {
        let others = self.others.get().map(Vec::as_slice).unwrap_or_default();
        others.iter().any(|file| matches!(file.is_at(path), Ok(true)))
    }
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
fn id(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map(|file| (file.dev(), file.ino()))
}
