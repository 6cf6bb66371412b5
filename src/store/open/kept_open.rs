//! A SQLite file that a daemon keeps open: marked, watched, and closed in order, or saved when it is lost.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::store::db::pools::Db;
use crate::store::db::sqlite::beside::beside;
use crate::store::db::sqlite::files::{Files, Harm};
use crate::store::db::sqlite::note::Found;
use crate::store::db::sqlite::{Taken, mark, note};
use crate::store::db::{DaemonLock, sqlite};
use crate::store::engine::Store;
use crate::store::errors::StoreError;
use crate::store::open::saving;
use crate::store::open::saving::Saved;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks, what is in the `-wal` file is brought into the database: whoever has nothing but
/// that lacks no more than the last half minute.
const CHECKPOINT: u32 = 30;

impl Store {
    /// Takes the lock that only one daemon may hold on a SQLite file; on PostgreSQL there is none,
    /// because there each task has its lease. The operating system releases it when the process
    /// ends, however it ends.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when it is held.
    pub fn lock_for_daemon(&self) -> Result<Option<DaemonLock>, StoreError> {
        let Some(path) = &self.file else { return Ok(None) };
        match sqlite::lock(path) {
            Ok(Taken::Lock(lock)) => Ok(Some(lock)),
            Ok(Taken::Held) => {
                Err(StoreError::Locked { path: self.shown(), by: "its lock file is held" })
            }
            Ok(Taken::HeldElsewhere) => Err(StoreError::Locked {
                path: self.shown(),
                by: "it has this file open under another name",
            }),
            Err(e) => Err(StoreError::Open {
                path: self.shown(),
                why: format!(
                    "the daemon's lock, {}.lock, cannot be taken: {e}; this needs a file and a folder that can be written",
                    path.display()
                ),
            }),
        }
    }

    /// Keeps a file open for as long as a daemon runs, and watches it; its lock too, where it has taken it.
    ///
    /// # Errors
    /// When it cannot be opened once more, is not there any more, or was lost by another daemon meanwhile.
    pub async fn keep_open(&self, has_lock: bool) -> Result<Option<KeptOpen>, StoreError> {
        let (Some(real), Db::Sqlite { files: Some(files), .. }) = (&self.file, &self.db) else {
            return Ok(None);
        };
        if let Some(found) = files.note() {
            return Err(StoreError::Open { path: self.shown(), why: found.why() });
        }
        let doing = StoreError::doing("keep the database open");
        let mut conn = ManuallyDrop::new(sqlite::keep_open(real).await.map_err(&doing)?);
        let mark = if has_lock { mark::set(&mut conn).await } else { None };
        let kept = KeptOpen {
            real: real.clone(),
            files: Arc::clone(files),
            conn: Mutex::new(Some(conn)),
            has_mark: mark.is_some(),
        };
        let ends = if has_lock { &["-wal", "-shm", ".lock"][..] } else { &["-wal", "-shm"] };
        if let Err(error) = files.keep(ends, mark) {
            drop(kept.close().await);
            return Err(doing(sqlx::Error::Io(error)));
        }
        // What they say was seen above: it is here again.
        note::clear(real);
        note::clear(files.name());
        kept.look().await;
        Ok(Some(kept))
    }
}

/// A file that is kept open, and watched.
#[derive(Debug)]
pub struct KeptOpen {
    real: PathBuf,
    files: Arc<Files>,
    /// While it is open, nobody removes the `-wal` file: a file that is another one was replaced. It is closed in order
    /// or not at all: else that file would go, and the mark would stay.
    conn: Mutex<Option<ManuallyDrop<SqliteConnection>>>,
    has_mark: bool,
}

impl KeptOpen {
    /// Ends when one of the files is not at its place any more, or it is told to stop. Meanwhile, brings what is in the `-wal` file into the
    /// database, now and then.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        for look in 1_u32.. {
            let pause = async {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.files.doubted() => {}
                }
            };
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            self.look().await;
            if let Some(lost) = self.files.lost() {
                tracing::error!(why = lost.what, "stopping: the database was taken away");
                return;
            }
            if look % CHECKPOINT == 0
                && let Some(conn) = self.conn.lock().await.as_mut()
                && let Err(error) = saving::checkpoint(conn, "PASSIVE").await
            {
                tracing::warn!(error = %error, "the -wal file cannot be brought into the database; trying again");
            }
        }
    }

    /// Looks at what is in the file.
    async fn look(&self) {
        let conn = self.conn.lock().await;
        if conn.is_none() {
            return;
        }
        self.files.look().await;
        let (what, harm) = match self.files.note() {
            None => return,
            Some(Found::Other(why)) => (why, None),
            Some(Found::Damaged(why)) => (why, Some(Harm::Noted)),
        };
        self.files.broke(
            format!("another daemon left a note about {} ({what})", self.real.display()),
            harm,
        );
    }

    /// True when one of the files is not at its place any more.
    pub fn is_lost(&self) -> bool {
        self.files.lost().is_some()
    }

    /// Closes it: nobody else of this process has it open. When a file was lost, saves what can be saved
    /// first, and returns what an operator must know.
    pub async fn close(&self) -> Option<String> {
        self.look().await;
        let mut conn = self.conn.lock().await.take()?;
        let files = &self.files;
        let Some(lost) = files.lost() else {
            let is_whole = !self.has_mark || mark::take_away(&mut conn, &self.real).await.is_ok();
            // What is not whole by itself keeps its -wal file.
            if is_whole {
                close(conn).await;
            }
            return None;
        };
        let is_noted = lost.harm == Some(Harm::Noted);
        let mut saved = saving::save(&mut conn, files, &self.real, lost).await;
        let is_in_place = files.is_at_its_place() && saved.right.as_ref() == Some(&self.real);
        if !is_in_place && !is_noted {
            self.leave_note(&mut saved);
        }
        // Closing it would bring what is in the -wal file into what is there now, and remove it.
        let right = saved.right.filter(|_| !saved.is_damaged);
        if let Some(right) = right {
            close(conn).await;
            if right != self.real {
                files.remove_others();
            }
        }
        Some(saved.told)
    }

    fn leave_note(&self, saved: &mut Saved) {
        let name = self.files.name();
        let mut names = vec![name];
        if beside(name, "") != self.real {
            names.push(&self.real);
        }
        for name in names {
            if !note::leave(name, &saved.told, saved.right.as_deref(), saved.is_damaged) {
                let lost = beside(name, note::LOST);
                saved.told = format!(
                    "{}. This could not be written into {}: delete that when it is done",
                    saved.told,
                    lost.display()
                );
            }
        }
    }
}

async fn close(conn: ManuallyDrop<SqliteConnection>) {
    if let Err(error) = ManuallyDrop::into_inner(conn).close().await {
        tracing::warn!(error = %error, "the database was not closed in order");
    }
}
