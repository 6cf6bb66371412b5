//! The files of an open database, and whether they are still where they were.
//!
//! A process that has a file open goes on with it when it is deleted, moved or replaced, and
//! notices nothing: what it commits then, nobody finds again.

use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Notify;

use super::content::{Changed, Content};
use super::{lock, note};
use crate::store::db::sqlite::beside::beside;
use crate::store::db::sqlite::file_id::id;

#[cfg(unix)]
use super::journal::Journal;

/// A file that looks changed is looked at once more after this time.
const PAUSE: Duration = Duration::from_millis(50);
/// So often, where it is too short: pages are brought into it one by one, the first one first.
const LOOKS: u32 = 10;

/// The files of one database.
#[derive(Debug)]
pub(in crate::store) struct Files {
    database: Known,
    /// Its name after all links.
    real: PathBuf,
    /// Those beside it; they stay the same only while somebody keeps the database open.
    others: OnceLock<Vec<Known>>,
    content: OnceLock<Content>,
    #[cfg(unix)]
    journal: OnceLock<Journal>,
    /// Why it is not gone on with, though the files are where they were.
    broken: OnceLock<(String, Option<Harm>)>,
    /// Somebody met something for which they should be looked at.
    doubt: Notify,
}

/// What is wrong with what is in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Harm {
    /// It is not what was written there.
    Content,
    /// All is well but the mark.
    Mark,
    /// The `-wal` file lacks what was committed last.
    Journal,
    /// Another daemon left a note that says so.
    Noted,
}

/// One that is not at its place any more.
#[derive(Debug)]
pub(in crate::store) struct Lost {
    /// Which, and what happened to it.
    pub(in crate::store) what: String,
    /// Where the database is now; none where that is not known, or it was deleted.
    pub(in crate::store) database: Option<PathBuf>,
    /// What is wrong with what is in it.
    pub(in crate::store) harm: Option<Harm>,
}

impl Files {
    /// Of a database that was just opened. `path` is how the operator calls it.
    pub(super) fn of(path: &Path, real: &Path) -> io::Result<Self> {
        Ok(Self {
            database: Known::of(path.to_owned())?,
            real: real.to_owned(),
            others: OnceLock::new(),
            content: OnceLock::new(),
            #[cfg(unix)]
            journal: OnceLock::new(),
            broken: OnceLock::new(),
            doubt: Notify::new(),
        })
    }

    /// From now on, somebody keeps it open: those beside it are watched too.
    pub(in crate::store) fn keep(&self, ends: &[&str], mark: Option<u32>) -> io::Result<()> {
        let others = ends.iter().map(|end| Known::of(beside(&self.real, end)));
        let others = others.collect::<io::Result<_>>()?;
        self.others.get_or_init(|| others);
        #[cfg(unix)]
        {
            let content = Content::of(&self.real, mark)?;
            self.content.get_or_init(|| content);
            let journal = Journal::of(&beside(&self.real, "-shm"), beside(&self.real, "-wal"))?;
            self.journal.get_or_init(|| journal);
        }
        Ok(())
    }

    /// The first file that is not at its place any more.
    pub(in crate::store) fn lost(&self) -> Option<Lost> {
        let name = |file: &Known| file.path.display().to_string();
        if let Some((what, harm)) = self.broken.get() {
            return Some(Lost {
                what: what.clone(),
                database: Some(self.real.clone()),
                harm: *harm,
            });
        }
        if self.database.gone().is_some() && matches!(self.database.is_at(&self.real), Ok(true)) {
            let what =
                format!("{} no longer leads to {}", name(&self.database), self.real.display());
            return Some(Lost { what, database: Some(self.real.clone()), harm: None });
        }
        if let Some(gone) = self.database.gone() {
            let what = format!("{} {gone}", name(&self.database));
            return Some(Lost { what, database: self.database.now_at(), harm: None });
        }
        let gone = |file: &Known| file.gone().map(|gone| format!("{} {gone}", name(file)));
        let what = self.others.get()?.iter().find_map(gone)?;
        Some(Lost { what, database: Some(self.real.clone()), harm: None })
    }

    /// Its name after all links.
    pub(in crate::store) fn real(&self) -> &Path {
        &self.real
    }

    /// How the operator calls it.
    pub(in crate::store) fn name(&self) -> &Path {
        &self.database.path
    }

    /// What a note beside it says, unless it is the file that the note means.
    pub(in crate::store) fn note(&self) -> Option<note::Found> {
        note::of_file(&self.real, &[self.name(), &self.real])
    }

    /// True when the operator's name leads to it.
    pub(in crate::store) fn is_at_its_place(&self) -> bool {
        self.database.gone().is_none()
    }

    /// Looks whether what is in the files is still what was written there. From the first time that it is not, the
    /// database is lost.
    pub(in crate::store) async fn look(&self) {
        let Some(content) = self.content.get() else { return };
        let (changed, is_cut) = (content.changed(), self.is_cut());
        if changed.is_none() && !is_cut {
            return self.write_mark(content);
        }
        // Perhaps somebody was just writing it.
        tokio::time::sleep(PAUSE).await;
        if is_cut && self.is_cut() {
            return self.broke(self.was_cut(), Some(Harm::Journal));
        }
        let mut changed = content.changed();
        for _ in 1..LOOKS {
            if matches!(changed, Some(Changed::Shorter)) {
                tokio::time::sleep(PAUSE).await;
                changed = content.changed();
            }
        }
        let name = self.database.path.display();
        match changed {
            None => {}
            Some(Changed::Other) => {
                let what = format!("{name} was written over by another program");
                self.broke(what, Some(Harm::Content));
            }
            Some(Changed::Mark) => {
                let what =
                    format!("the mark of {name} (user_version) was changed by another program");
                self.broke(what, Some(Harm::Mark));
            }
            Some(Changed::Shorter) => {
                let what = format!("{name} was cut off, or written over, by another program");
                self.broke(what, Some(Harm::Content));
            }
        }
    }

    fn is_cut(&self) -> bool {
        #[cfg(unix)]
        return self.journal.get().is_some_and(Journal::is_cut);
        #[cfg(not(unix))]
        false
    }

    /// Once the mark is in the file: the `-wal` file of the file with this mark is the one beside it.
    fn write_mark(&self, content: &Content) {
        if let Some(mark) = content.is_marked_now()
            && let Err(error) = lock::write_mark(&self.real, mark)
        {
            tracing::warn!(error = %error, "the mark of the database could not be written into its lock file");
        }
    }

    /// SQLite met something that cannot be: where the `-wal` file was cut, that is why.
    pub(in crate::store::db) fn damaged(&self, what: String) {
        if self.is_cut() {
            self.broke(self.was_cut(), Some(Harm::Journal));
        } else {
            self.broke(what, Some(Harm::Content));
        }
    }

    fn was_cut(&self) -> String {
        let wal = beside(&self.real, "-wal");
        format!("{} was cut off, or written over, by another program", wal.display())
    }

    /// It is not gone on with. Counts only while it is kept open.
    pub(in crate::store) fn broke(&self, what: String, harm: Option<Harm>) {
        if self.others.get().is_some() {
            self.broken.get_or_init(|| (what, harm));
        }
    }

    /// They are looked at at once.
    pub(in crate::store) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Ends when somebody doubts.
    pub(in crate::store) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Removes those beside a database that is not there any more, or not whole, which belong to no other file.
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
