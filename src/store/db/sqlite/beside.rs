//! The names of the files beside a database's file.

use std::path::{Path, PathBuf};

/// A file that is kept beside the database.
pub(in crate::store) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What SQLite keeps beside a database that is open.
pub(in crate::store::db) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
