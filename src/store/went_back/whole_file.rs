//! A small file that is there whole or not at all, also after a power cut: written beside its place, and named then.

use std::io;
use std::path::Path;

use tokio::fs;
use tokio::io::AsyncWriteExt;

/// Writes what is in a file beside its place. It is on the disk when this returns.
pub(in crate::store) async fn put(mut file: fs::File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes).await?;
    // What became of the write is said here, and by no sync.
    file.flush().await?;
    file.sync_all().await
}

/// Gives it its name. It has it on the disk when this returns.
pub(in crate::store) async fn name(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path).await?;
    // The new name is on the disk only when the folder is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}
