//! Which file a path leads to: its device and its number there.

use std::io;
use std::path::Path;

#[cfg(unix)]
pub(super) fn id(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
pub(super) fn id(_: &Path) -> io::Result<(u64, u64)> {
    Err(io::Error::from(ErrorKind::Unsupported))
}
