//! A file that nobody has open: what it was when it was opened to be read.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::store::db::sqlite::beside::beside;

/// A database that is read without its `-shm` file, because nobody has it open: each process that
/// does makes that file first, and keeps it for as long. What is read is right only while that stays
/// so, so each answer is followed by another look.
#[derive(Debug)]
pub(in crate::store) struct Frozen {
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

impl Frozen {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = path.metadata()?;
        Ok(Self { path: path.to_owned(), len: file.len(), modified: file.modified()? })
    }

    /// Fails when somebody has opened the database, or written it, since it was opened here.
    pub(crate) fn is_still(&self) -> sqlx::Result<()> {
        let now = Self::of(&self.path)?;
        if (now.len, now.modified) == (self.len, self.modified)
            && !beside(&self.path, "-shm").exists()
        {
            return Ok(());
        }
        Err(sqlx::Error::Io(io::Error::other(format!(
            "another process opened {} while it was read; run the command again",
            self.path.display()
        ))))
    }
}
