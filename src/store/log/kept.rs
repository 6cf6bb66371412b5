//! The last signed checkpoint, kept beside the key: outside of the database, so that it does not go back with it.
//!
//! It is written after the commit that stores the same checkpoint, and before anything more is signed. So at
//! most the last one can be missing, when the process dies in between; it is written at the next start.
//! The first one is written before the key is registered: so where a key is registered and none is there, it was
//! taken away, or this is another machine. It says nothing of whoever has another copy of the key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use crate::domain::log::checkpoint::{CheckpointError, Published};
use crate::domain::log::note::NOTE_BYTES_MAX;
use crate::planted::dies;

use super::state::LogSigner;
use super::stop::Stop;

/// Where the checkpoint of a key's log is kept.
#[must_use]
pub fn kept_beside(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".checkpoint");
    PathBuf::from(name)
}

/// What is kept, which this key signed; none where there is no file.
pub(super) async fn read(signer: &LogSigner) -> Result<Option<Published>, Stop> {
    let path = kept_beside(signer.file());
    let text = match fs::read(&path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, "cannot be read", &error)),
    };
    let text = Some(text).filter(|text| text.len() <= NOTE_BYTES_MAX);
    let text = text.and_then(|text| String::from_utf8(text).ok());
    let parsed = text.as_deref().unwrap_or_default().parse();
    let kept: Published = parsed.map_err(|error| failed(&path, "is no checkpoint", &error))?;
    let key = signer.public_for(&kept.claimed().origin);
    let signed = match key {
        Some(key) => kept.verify(&[key]).map(drop),
        None => Err(CheckpointError::OtherLog { found: kept.claimed().origin.clone() }),
    };
    match signed {
        Ok(()) => Ok(Some(kept)),
        Err(error) => Err(failed(&path, "is not one that the key beside it signed", &error)),
    }
}

impl LogSigner {
    /// What is kept beside the key, where something must be.
    ///
    /// # Errors
    /// [`Stop::Kept`] where nothing is, or it cannot be read, or this key did not sign it.
    pub async fn kept(&self) -> Result<Published, Stop> {
        read(self).await?.ok_or_else(|| missing(self))
    }
}

/// There is none, and there must be.
pub(super) fn missing(signer: &LogSigner) -> Stop {
    let path = kept_beside(signer.file());
    Stop::Kept(format!(
        "the last checkpoint, {0}, is missing. Nothing is signed without it: it shows whether the database went back, and whoever puts an older database in its place takes it away first. Put it back, or on another machine copy it together with the key; an older one is enough. Where it is lost everywhere, and the database did not go back: topupd log checkpoint > {0}",
        path.display()
    ))
}

/// Keeps a checkpoint in place of the one before. It is on the disk when this returns.
pub(super) async fn write(signer: &LogSigner, checkpoint: &Published) -> Result<(), Stop> {
    let path = kept_beside(signer.file());
    if dies() {
        return Err(failed(&path, "cannot be written", &"killed, as planted"));
    }
    // Whoever slept since its commit may come after a newer one.
    if let Ok(Some(there)) = read(signer).await
        && there.claimed().origin == checkpoint.claimed().origin
        && there.claimed().head.size > checkpoint.claimed().head.size
    {
        return Ok(());
    }
    let written = replace(&path, checkpoint.to_string().as_bytes()).await;
    written.map_err(|error| failed(&path, "cannot be written", &error))
}

/// One at a time in this process; others have other names.
static WRITING: Mutex<()> = Mutex::const_new(());

async fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let _alone = WRITING.lock().await;
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(new);
    let mut file = fs::File::create(&new).await?;
    file.write_all(text).await?;
    file.sync_all().await?;
    drop(file);
    fs::rename(&new, path).await?;
    // The new name is on the disk only when the folder is.
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        fs::File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}

fn failed(path: &Path, what: &str, why: &dyn std::fmt::Display) -> Stop {
    Stop::Kept(format!(
        "the last checkpoint, {}, {what}: {why}. Nothing more is signed before it can be: it shows whether the database went back",
        path.display()
    ))
}
