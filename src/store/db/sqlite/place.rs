//! A SQLite file before it is opened: whether there is one, whether it is ours, and whether it is safe to
//! open it where it lies.
//!
//! What was committed last is in the `-wal` file, which belongs to the *name* of the database: whoever
//! opens the file under another name, or another file under this one, destroys what is in it. SQLite does not
//! look, so this does, by the locks that each process holds on the files that it has open. Closing a
//! file takes away all locks that this process holds on it, SQLite's too: so each file is
//! looked at once, before this process opens it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::content::{MAGIC, header, number, page_size};
use super::note::Found;
use super::{APPLICATION_ID, note};
use crate::store::db::sqlite::beside::{BESIDE, beside};

#[cfg(unix)]
use super::{lock, mark};

/// Another process that opens or closes a database holds some of its locks for a moment. What is
/// there at every look is no such moment.
const LOOKS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);

/// Files that this process has opened.
static OPENED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// What lies where a database should be. Links are followed: the other files lie beside the real one.
pub(in crate::store) enum Place {
    Missing(PathBuf),
    /// Its header, unless it cannot be read or was looked at before; and why it is only to be read, if so.
    There(PathBuf, Option<Header>, Option<String>),
}

/// What the first bytes of a file say: <https://sqlite.org/fileformat2.html>.
#[derive(Debug)]
pub(in crate::store) struct Header {
    is_empty: bool,
    /// It is written through a `-wal` file.
    is_wal: bool,
    /// A `-wal` or `-journal` file lies beside it.
    pub(in crate::store) is_in_use: bool,
}

/// Why a file must not be opened.
struct Trouble {
    why: String,
    /// A person can say that it is opened as it is.
    may_restore: bool,
}

/// Finds it. `restored`: somebody has said that it is a copy, or that nothing more is left of it.
///
/// # Errors
/// A sentence on why it must not be opened, nor begun, here.
pub(in crate::store) async fn find(path: &Path, restored: bool) -> Result<Place, String> {
    let file = match path.metadata() {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return missing(path).map(Place::Missing),
        Err(e) => return Err(format!("it cannot be looked at: {e}")),
    };
    if !file.is_file() {
        let what = if file.is_dir() { "a folder" } else { "no regular file" };
        return Err(format!("it is {what}; database.url names a file"));
    }
    let real = path.canonicalize().map_err(|e| format!("it cannot be looked at: {e}"))?;
    // A daemon that loses it leaves a note before the others can go on: it is read after the wait.
    let noted = || match note::of_file(&real, &[path, &real]) {
        Some(Found::Damaged(why)) => Err(why),
        Some(Found::Other(why)) => Ok(Some(why)),
        None => Ok(None),
    };
    if known().contains(&real) {
        return Ok(Place::There(real.clone(), None, noted()?));
    }
    for look in 1.. {
        noted()?;
        let Some(Trouble { why, may_restore }) = trouble(&real) else { break };
        if look == LOOKS {
            if restored && may_restore {
                // It belongs to nothing that is there.
                drop(std::fs::remove_file(beside(&real, "-shm")));
                break;
            }
            return Err(format!("{why}. Nothing was changed"));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let other = noted()?;
    let header = Header::of(&real)?;
    opened(&real);
    Ok(Place::There(real, header, other))
}

/// From now on this process has the file open, and looks at it no more.
pub(in crate::store) fn opened(real: &Path) {
    known().insert(real.to_owned());
}

fn known() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a file that is not there would be begun.
fn missing(path: &Path) -> Result<PathBuf, String> {
    if let Some(why) = note::of_missing(&[path]) {
        return Err(why);
    }
    if let Ok(target) = path.read_link() {
        return Err(format!("it is a link to {}, where there is no file", target.display()));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            format!("its folder, {}, is not there: create the folder first", folder.display())
        }
        _ => format!("its folder, {}, cannot be looked at: {e}", folder.display()),
    })?;
    let real = folder.join(path.file_name().ok_or("it names no file")?);
    if let Some(why) = note::of_missing(&[&real]) {
        return Err(why);
    }
    let left: Vec<_> = BESIDE.iter().map(|end| beside(&real, end)).filter(|f| f.exists()).collect();
    let lock = beside(&real, ".lock");
    let is_held = super::lock::is_held(&real);
    let Some(one) = left.first().or(is_held.then_some(&lock)) else {
        return match super::lock::read_mark(&real) {
            None => Ok(real),
            // A stop in good order leaves none.
            Some(_) => Err(format!(
                "there is no such file, but {} says that a daemon ran on it and was killed: the database was moved, renamed or deleted since. Put it back to where it was, with its -wal file; only if nothing of it is wanted any more, delete {0} and begin anew. Nothing was created",
                lock.display()
            )),
        };
    };
    let by = if is_held { ", and a daemon still runs on it" } else { "" };
    let names: Vec<_> = left.iter().map(|f| f.display().to_string()).collect();
    let or = if names.is_empty() {
        String::new()
    } else {
        format!(
            "; only if nothing of it is wanted any more, delete {} and begin anew",
            names.join(" and ")
        )
    };
    Err(format!(
        "there is no such file, but there is {}: the database was moved, renamed or deleted while it was open{by}. Put it back to where it was, because what was written last is in its -wal file{or}. Nothing was created",
        one.display()
    ))
}

impl Header {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence on why this is no database of ours.
    fn of(path: &Path) -> Result<Option<Self>, String> {
        // Who may not read it is told by SQLite.
        let Ok(file) = File::open(path) else { return Ok(None) };
        let Ok(len) = file.metadata().map(|file| file.len()) else { return Ok(None) };
        let has_content = |end| beside(path, end).metadata().is_ok_and(|file| file.len() > 0);
        let is_in_use = has_content("-wal") || has_content("-journal");
        if len == 0 {
            if is_in_use {
                return Err(format!(
                    "it is empty, and what was written last is still in the -wal or -journal file beside it: it was cut off or replaced; put the right file in its place. Nothing was changed: opening it would delete {}",
                    beside(path, "-wal").display()
                ));
            }
            return Ok(Some(Self { is_empty: true, is_wal: false, is_in_use }));
        }
        let Some(header) = header(&file).ok().filter(|header| header.starts_with(MAGIC)) else {
            return Err(
                "it is no SQLite database but another file, or a damaged one: let database.url name the right one, or restore a backup. Nothing was changed"
                    .into(),
            );
        };
        let program = number(&header, 68);
        if program != 0 && program != APPLICATION_ID {
            return Err(format!(
                "it is the database of another program (its application_id is {program}). Nothing was changed"
            ));
        }
        let should = u64::from(number(&header, 28)).saturating_mul(page_size(&header));
        // The number of pages counts only where these two agree.
        if !is_in_use && number(&header, 24) == number(&header, 92) && len < should {
            return Err(format!(
                "it has {len} bytes and should have {should}: it was cut off, or copied while it was written and without its -wal file; take another copy, with topupd db backup. Nothing was changed"
            ));
        }
        Ok(Some(Self { is_empty: false, is_wal: header.get(19) == Some(&2), is_in_use }))
    }

    /// What a file is that has none of our tables, and whether a new database may be begun in it.
    pub(in crate::store) fn without_tables(&self, path: &Path, others: i64) -> (String, bool) {
        if others > 0 {
            let what = format!(
                "it is the database of another program: it has {others} tables, and none of topupd's"
            );
            return (what, false);
        }
        if self.is_empty {
            return ("it is an empty file".into(), true);
        }
        if self.is_wal {
            return (format!("there is nothing in it yet, and {}", wal_is_missing(path)), true);
        }
        ("it is a SQLite database without a table".into(), true)
    }
}

/// What a copy is of the `.db` alone.
pub(in crate::store) fn wal_is_missing(path: &Path) -> String {
    format!(
        "its -wal file is missing: what was committed is in there. A copy of the .db alone, made while it is open, is none: put the -wal file to it, as {}, or take a copy with topupd db backup",
        beside(path, "-wal").display()
    )
}

/// Why SQLite must not open this file under this name, if so.
#[cfg(unix)]
fn trouble(path: &Path) -> Option<Trouble> {
    /// What everybody locks a part of who has the file open, as `os_unix.c` of SQLite has it.
    const DATABASE: (u64, u64) = (0x4000_0000, 512);
    const INDEX: (u64, u64) = (120, 9);
    let shm = beside(path, "-shm");
    // Who may not look is told by SQLite.
    let database = holder(path, DATABASE).ok()?;
    let index = if shm.exists() { Some(holder(&shm, INDEX).ok()?) } else { None };
    let has_wal = beside(path, "-wal").exists();
    let why = match (database, index) {
        (Some(by), None | Some(None)) => format!(
            "{by} has it open under another name, or its -shm file was deleted: the -wal file that would be used here is not the right one. Use the name that it has there, or stop that process"
        ),
        (None, Some(Some(by))) => format!(
            "the -wal file beside it belongs to another file, which {by} has open: the database was replaced. Stop that process first, and put the right file in its place"
        ),
        (Some(by), Some(Some(_))) if !has_wal => format!(
            "its -wal file was deleted while {by} had it open. Stop that process first: topupd saves what was in it"
        ),
        (None, index) => return left_alone(path, index.is_some(), has_wal),
        _ => return None,
    };
    Some(Trouble { why, may_restore: false })
}

/// The same where nobody has it open.
#[cfg(unix)]
fn left_alone(path: &Path, has_shm: bool, has_wal: bool) -> Option<Trouble> {
    const RESTORE: &str = "if there is none any more, `topupd db restored` opens it as it is, and `topupd ledger verify` says whether it holds";
    let (shm, wal) = (beside(path, "-shm"), beside(path, "-wal"));
    let mark = File::open(path).and_then(|file| header(&file)).map_or(0, |h| number(&h, 60));
    let restore = |why| Some(Trouble { why, may_restore: true });
    let refuse = |why| Some(Trouble { why, may_restore: false });
    if !has_wal && has_shm {
        return restore(format!(
            "its -wal file is missing, with what was committed last, though {} is still there. Put it back; {RESTORE}",
            shm.display()
        ));
    }
    if !has_wal && let Some(wal) = wal_of_another_name(path) {
        return refuse(format!(
            "it has several names (hard links), and what was committed last is in {}, which belongs to another one: use that name, or remove it",
            wal.display()
        ));
    }
    if !has_wal && mark::is_one(mark) {
        return restore(format!(
            "{}; {RESTORE}. That is right too for a copy that is whole (by sqlite3's .backup), and after a crash when another program has tidied up",
            wal_is_missing(path)
        ));
    }
    if has_shm && super::journal::is_cut(&shm, &wal) {
        return restore(format!(
            "{} was cut off, or written over, by another program, and what was committed last was in it. Put the right one back; {RESTORE}",
            wal.display()
        ));
    }
    let is_stale = wal.metadata().is_ok_and(|file| file.len() > 0)
        && lock::read_mark(path).is_some_and(|before| before != mark);
    if is_stale {
        return refuse(format!(
            "{} belongs to the file that was here before: put that file back; or, if this one is the right one, delete {} and {}",
            wal.display(),
            wal.display(),
            shm.display()
        ));
    }
    None
}

/// The `-wal` file that lies beside another name of this file, in the same folder.
#[cfg(unix)]
fn wal_of_another_name(path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let own = path.metadata().ok().filter(|file| file.nlink() > 1)?;
    let own = (own.dev(), own.ino());
    let files = std::fs::read_dir(path.parent()?).ok()?;
    files.flatten().map(|file| file.path()).find(|wal| {
        let name = wal.to_str().and_then(|name| name.strip_suffix("-wal"));
        name.is_some_and(|name| matches!(crate::store::db::sqlite::file_id::id(Path::new(name)), Ok(id) if id == own))
    })
}

#[cfg(not(unix))]
fn trouble(_: &Path) -> Option<Trouble> {
    None
}

/// Another process that holds a lock; its number is not always known.
#[cfg(unix)]
struct Holder(Option<rustix::process::Pid>);

#[cfg(unix)]
impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {}", pid.as_raw_nonzero()),
            None => write!(f, "another process"),
        }
    }
}

#[cfg(unix)]
fn holder(path: &Path, (start, length): (u64, u64)) -> std::io::Result<Option<Holder>> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    let ask = Flock { start, length, ..FlockType::WriteLock.into() };
    Ok(fcntl_getlk(File::open(path)?, &ask)?.map(|lock| Holder(lock.pid)))
}
