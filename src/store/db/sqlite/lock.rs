//! The lock of the one daemon on a SQLite file, and the mark of the file that is written into it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;

use crate::store::db::sqlite::beside::beside;

/// The lock that one daemon holds on a SQLite file, until dropped or killed.
#[derive(Debug)]
pub struct DaemonLock {
    #[expect(dead_code, reason = "held, not used: the system unlocks it when it is dropped")]
    file: File,
    /// The database itself, where it has several names. Never closed: that would take away SQLite's locks on it.
    database: Option<ManuallyDrop<File>>,
}

impl Drop for DaemonLock {
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            drop(database.unlock());
        }
    }
}

/// What came of taking it.
pub(in crate::store) enum Taken {
    Lock(DaemonLock),
    /// Another process holds it.
    Held,
    /// Another process holds that of another name of the file.
    HeldElsewhere,
}

/// Takes the daemon's lock.
pub(in crate::store) fn lock(path: &Path) -> io::Result<Taken> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Taken::Held),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    let database = of_all_names(path);
    if let Some(database) = &database
        && matches!(database.try_lock(), Err(TryLockError::WouldBlock))
    {
        return Ok(Taken::HeldElsewhere);
    }
    Ok(Taken::Lock(DaemonLock { file, database }))
}

/// True while a daemon holds the lock of this database, by whatever name.
pub(super) fn is_held(path: &Path) -> bool {
    let is_locked = |file: &File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    if File::open(beside(path, ".lock")).is_ok_and(|file| is_locked(&file)) {
        return true;
    }
    of_all_names(path).is_some_and(|database| {
        let is_held = is_locked(&database);
        drop(database.unlock());
        is_held
    })
}

/// What to lock of a database that has several names: itself. Others lock it too (`flock topupd.db …`), so one with one name
/// is left to them; and elsewhere than on Linux such a lock is in the way of SQLite's own.
fn of_all_names(path: &Path) -> Option<ManuallyDrop<File>> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let has_several = path.metadata().is_ok_and(|file| file.nlink() > 1);
        has_several.then(|| File::open(path).ok().map(ManuallyDrop::new)).flatten()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// Writes into the lock file that the database has this mark; 0: none.
pub(super) fn write_mark(path: &Path, mark: u32) -> io::Result<()> {
    let text = if mark == 0 { String::new() } else { format!("{mark}\n") };
    let mut file = OpenOptions::new().write(true).truncate(true).open(beside(path, ".lock"))?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// The mark that a daemon wrote down which did not end in order.
pub(super) fn read_mark(path: &Path) -> Option<u32> {
    std::fs::read_to_string(beside(path, ".lock")).ok()?.trim().parse().ok()
}
