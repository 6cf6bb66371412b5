//! What SQLite's error codes mean, and what to do about them.

/// True for an error that says nothing about what was asked: the file is read-only, cannot be
/// opened or written, or the disk is full. Codes: <https://sqlite.org/rescode.html>; the low byte
/// of an extended code is the primary one.
pub(in crate::store) fn is_unavailable(code: &str) -> bool {
    const IOERR: u32 = 10;
    const FULL: u32 = 13;
    const CANTOPEN: u32 = 14;
    matches!(primary(code), Some(READONLY | IOERR | FULL | CANTOPEN))
}

/// True when there is no room: for what is written, or for the `-shm` file.
pub(in crate::store) fn is_full(code: &str) -> bool {
    const FULL: u32 = 13;
    const SHMSIZE: u32 = 4874;
    matches!(code.parse(), Ok(FULL | SHMSIZE))
}

/// True when the file cannot be written by us. While running it is waited for; at the start a person
/// must change it.
pub(in crate::store) fn is_read_only(code: &str) -> bool {
    primary(code) == Some(READONLY)
}

/// True when another connection wrote for longer than we wait.
pub(in crate::store) fn is_collision(code: &str) -> bool {
    const BUSY: u32 = 5;
    primary(code) == Some(BUSY)
}

/// True when a value is not one that the tables take: a constraint, or a trigger.
pub(in crate::store) fn is_bad_value(code: &str) -> bool {
    const CONSTRAINT: u32 = 19;
    const MISMATCH: u32 = 20;
    matches!(primary(code), Some(CONSTRAINT | MISMATCH))
}

/// True when a file was shorter than SQLite knows it: `SQLITE_IOERR_SHORT_READ`.
pub(crate) fn is_short(code: &str) -> bool {
    code == "522"
}

/// True when what is in the file cannot be a database: no waiting helps.
pub(crate) fn is_damaged(code: &str) -> bool {
    const CORRUPT: u32 = 11;
    const NOTADB: u32 = 26;
    matches!(primary(code), Some(CORRUPT | NOTADB))
}

/// What to do about it, for people.
pub(crate) fn advice(code: &str) -> Option<&'static str> {
    const MEMORY: u32 = 7;
    const IOERR: u32 = 10;
    const SHORT_READ: u32 = 522;
    // RDLOCK, UNLOCK, LOCK, CHECKRESERVEDLOCK; SHMOPEN, SHMLOCK, SHMMAP
    const LOCKS: [u32; 7] = [2314, 2058, 3850, 3594, 4618, 5130, 5386];
    const CORRUPT: u32 = 11;
    const CANTOPEN: u32 = 14;
    const PROTOCOL: u32 = 15;
    const NOTADB: u32 = 26;
    const MOVED: u32 = 1032;
    const NO_LOCKS: &str = "the file system gives no locks or no shared memory, as network drives do: put the database on a disk of this machine";
    if is_full(code) {
        return Some("make room on the disk, or raise the quota; a daemon goes on by itself then");
    }
    if is_collision(code) {
        return Some("another process is writing to it; nothing was changed, try again");
    }
    let extended = code.parse::<u32>().ok()?;
    Some(match (extended, extended & 0xff) {
        (SHORT_READ, _) => {
            "the database, or the -wal file beside it, is shorter than it was left: another program cut it, replaced it or removed it, or a copy was not finished. Stop topupd, put the database and the files beside it away as they are, and go on from a backup (docs/databases.md, \"Backup and restore\")"
        }
        (MOVED, _) => {
            "the database was moved, replaced or removed while it was open: stop topupd, move it back with the files beside it, and start again"
        }
        (code, _) if LOCKS.contains(&code) => NO_LOCKS,
        (_, PROTOCOL) => NO_LOCKS,
        (_, READONLY) => {
            "it can be read but not written from here; run this as the user that the daemon runs as, where the file and its folder can be written"
        }
        (_, IOERR) => {
            "the disk or its file system failed, or a limit was reached: see the log of the system (dmesg), the free space, quotas and `ulimit -f`"
        }
        (_, CORRUPT) => {
            "the database is damaged: stop topupd, put it and the files beside it away as they are, and go on from a backup (docs/databases.md, \"Backup and restore\")"
        }
        (_, NOTADB) => {
            "it is another kind of file, or its beginning was overwritten: see that database.url names the right file; a damaged one is replaced by a backup"
        }
        (_, CANTOPEN) => {
            "see that its folder is there, that the user of topupd may enter it and write in it, and that the process may open enough files (`ulimit -n`)"
        }
        (_, MEMORY) => "the machine has no memory left for it",
        _ => return None,
    })
}

pub(in crate::store) fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// `SQLITE_READONLY`.
pub(in crate::store) const READONLY: u32 = 8;
