//! The last signed checkpoint, kept beside the key: outside of the database, so that it does not go back with it.
//!
//! It is on the disk, under a name of its own, before the commit that stores the same checkpoint; after that commit it
//! gets its name, and before that nothing more is signed. So on a full disk nothing is signed, and at most the last
//! one has not got its name, when the process dies in between; it is written at the next start.
//! The first one is written before the key is registered: so where a key is registered and none is there, it was
//! taken away, or this is another machine. It says nothing of whoever has another copy of the key.
//!
//! When a key is replaced, the checkpoint that the next one signed takes the place of its own: it signs nothing more,
//! whichever database it is given.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tokio::fs;
use tokio::sync::{Mutex, MutexGuard};

use super::state::LogSigner;
use super::stop::Stop;
use crate::domain::log::checkpoint::{CheckpointError, Published};
use crate::domain::log::note::NOTE_BYTES_MAX;
use crate::planted::dies;
use crate::store::db::sqlite::beside::beside;
use crate::store::went_back::whole_file::{name, put};

/// Where the checkpoint of a key's log is kept.
pub fn kept_beside(key_file: &Path) -> PathBuf {
    beside(key_file, ".checkpoint")
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
        Err(error) => Err(failed(
            &path,
            "is not one that the key beside it signed (after log rotate that is so on purpose: a key that was replaced signs nothing more)",
            &error,
        )),
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
    prepare(signer, checkpoint).await?.keep().await
}

/// A checkpoint that is on the disk, and not yet in place of the one before.
pub(super) struct Prepared<'a> {
    signer: &'a LogSigner,
    checkpoint: Published,
    new: PathBuf,
    /// One at a time in this process; others have other names.
    _alone: MutexGuard<'static, ()>,
}

static WRITING: Mutex<()> = Mutex::const_new(());

/// Puts a checkpoint on the disk, beside the one that is kept. Where there is no room for it, it must not be signed.
pub(super) async fn prepare<'a>(
    signer: &'a LogSigner,
    checkpoint: &Published,
) -> Result<Prepared<'a>, Stop> {
    let path = kept_beside(signer.file());
    if dies() {
        return Err(failed(&path, "cannot be written", &"killed, as planted"));
    }
    let alone = WRITING.lock().await;
    let new = beside(&path, &format!(".new-{}", std::process::id()));
    let written =
        async { put(fs::File::create(&new).await?, checkpoint.to_string().as_bytes()).await };
    written.await.map_err(|error| failed(&path, "cannot be written", &error))?;
    Ok(Prepared { signer, checkpoint: checkpoint.clone(), new, _alone: alone })
}

impl Prepared<'_> {
    /// Gives it its name. It has it on the disk when this returns.
    pub(super) async fn keep(self) -> Result<(), Stop> {
        let path = kept_beside(self.signer.file());
        if dies() {
            return Err(failed(&path, "cannot be written", &"killed, as planted"));
        }
        // Whoever slept since its commit may come after a newer one.
        if let Ok(Some(there)) = read(self.signer).await
            && there.claimed().origin == self.checkpoint.claimed().origin
            && there.claimed().head.size > self.checkpoint.claimed().head.size
        {
            // Nothing is done with what is left of it.
            let _ = fs::remove_file(&self.new).await;
            return Ok(());
        }
        let named = name(&self.new, &path).await;
        named.map_err(|error| failed(&path, "cannot be written", &error))
    }
}

fn failed(path: &Path, what: &str, why: &dyn std::fmt::Display) -> Stop {
    Stop::Kept(format!(
        "the last checkpoint, {}, {what}: {why}. Nothing more is signed before it can be: it shows whether the database went back",
        path.display()
    ))
}
