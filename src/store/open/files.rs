//! SQLite's file as an operator has it: begun whole or not at all, and opened only where it is safe.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chance::Chance;
use crate::domain::ids::Network;
use crate::store::db::query::query;
use crate::store::db::sqlite::beside::beside;
use crate::store::db::sqlite::note;
use crate::store::db::sqlite::place::{Place, find, opened};
use crate::store::db::{DatabaseUrl, sqlite};
use crate::store::engine::{Begin, Store};
use crate::store::errors::StoreError;

impl Store {
    /// Opens a file, or begins it.
    pub(in crate::store) async fn open_file(
        path: &Path,
        network: Network,
        begin: Begin,
        chance: &Arc<dyn Chance>,
    ) -> Result<Self, StoreError> {
        let url = DatabaseUrl::Sqlite(path.to_owned());
        let refused = |why| StoreError::Open { path: url.to_string(), why };
        let place = find(path, begin == Begin::Restored).await.map_err(refused)?;
        let (real, is_new) = match place {
            Place::Missing(_) if matches!(begin, Begin::Never | Begin::Restored) => {
                return Err(StoreError::NoDatabase { path: url.to_string() });
            }
            Place::Missing(real) if begin == Begin::New && beside(&real, ".lock").exists() => {
                let lock = beside(&real, ".lock");
                return Err(refused(format!(
                    "there is no such file, but {} says that a daemon ran on one here: it was moved, renamed or deleted. Put it back; or, to begin a new database without it, say --create. Nothing was created",
                    lock.display()
                )));
            }
            Place::Missing(real) => {
                let is_new = create(&real, network, &url, (begin, chance)).await?;
                // Whoever closes it, SQLite apart, takes SQLite's locks away.
                opened(&real);
                if is_new {
                    tracing::info!(database = %url, "there was no database: created a new one");
                }
                (real, is_new)
            }
            Place::There(real, _, Some(why)) => {
                if begin != Begin::Never {
                    return Err(refused(why));
                }
                let db = sqlite::open_to_read(&real, Some(why.into())).await.map_err(|source| {
                    StoreError::cannot_open(
                        &url,
                        StoreError::Database { doing: "read".into(), source },
                    )
                })?;
                return Ok(Self::of(db, network, url, Some(real)));
            }
            Place::There(real, header, None) => {
                // What is in a -wal file too, is seen only once it is open.
                if let Some(header) = header.filter(|header| !header.is_in_use) {
                    let open = |source| StoreError::Database { doing: "open".into(), source };
                    let failed = |e| StoreError::cannot_open(&url, open(e));
                    let (tables, ours) = sqlite::count_tables(&real).await.map_err(failed)?;
                    let (what, may_begin) = header.without_tables(&real, tables);
                    if ours < 2 && !(may_begin && begin == Begin::Anywhere) {
                        return Err(StoreError::without_tables(&url, what, may_begin));
                    }
                }
                (real, false)
            }
        };
        let db = sqlite::open(path, &real).await.map_err(|source| {
            StoreError::cannot_open(&url, StoreError::Database { doing: "connect".into(), source })
        })?;
        // Perhaps it was lost, and another one put there, just before.
        if let Some(found) = note::of_file(&real, &[path, &real]) {
            db.close().await;
            return Err(refused(found.why()));
        }
        db.take_away_left_mark().await;
        Ok(Self { is_new, ..Self::of(db, network, url, Some(real)) })
    }

    /// True when there was no file, and this created it.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Closes a file in order: what was committed is in it alone then, unless somebody else has it open.
    pub async fn close_file(&self) {
        if self.file.is_some() {
            self.db.close().await;
        }
    }

    /// Closes it, and removes the file that was created for it, unless something is in it or somebody else uses it.
    pub async fn discard(&self) {
        let is_bare = self.is_new && matches!(self.refuse_other_network().await, Ok(false));
        let lock = self.lock_for_daemon();
        self.db.close().await;
        if let (true, Ok(Some(_)), Some(file)) = (is_bare, &lock, &self.file) {
            for end in ["", "-wal", "-shm", ".lock"] {
                drop(std::fs::remove_file(beside(file, end)));
            }
        }
    }
}

/// Makes a new database and puts it into its place: no file is there that has no tables. False when somebody
/// else was faster.
async fn create(
    real: &Path,
    network: Network,
    url: &DatabaseUrl,
    (begin, chance): (Begin, &Arc<dyn Chance>),
) -> Result<bool, StoreError> {
    let failed = |e: io::Error| StoreError::Open { path: url.to_string(), why: e.to_string() };
    let new = NewFile::beside(real).map_err(failed)?;
    let db = sqlite::open_new(&new.0).map_err(StoreError::doing("make a new file"))?;
    let mut store = Store::of(db, network, url.clone(), Some(new.0.clone()));
    store.chance = Arc::clone(chance);
    let mut made = store.migrate().await.map(drop);
    // What is copied into it brings its own stamp.
    if made.is_ok() && begin == Begin::New {
        made = match store.clock_ms().await {
            Ok(now_ms) => store.stamp(now_ms).await,
            Err(error) => Err(error),
        };
    }
    if made.is_ok() {
        // It stays so in the file, and nobody has to wait until all others have closed it.
        made = query("PRAGMA journal_mode = WAL")
            .execute(&store.db)
            .await
            .map(drop)
            .map_err(StoreError::from);
    }
    store.close().await;
    made?;
    new.name(real).map_err(failed)
}

/// A file that is removed unless it gets its name.
struct NewFile(PathBuf);

impl NewFile {
    fn beside(real: &Path) -> io::Result<Self> {
        let path = beside(real, &format!(".new-{:08x}", fastrand::u32(..)));
        std::fs::File::create_new(&path)?;
        Ok(Self(path))
    }

    /// Gives it its name, unless somebody else was faster: then theirs is as good, and this is false.
    fn name(self, real: &Path) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(CWD, &self.0, CWD, real, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => return Ok(false),
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if real.exists() { Ok(false) } else { std::fs::rename(&self.0, real).map(|()| true) }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        for end in ["", "-journal", "-wal", "-shm"] {
            drop(std::fs::remove_file(beside(&self.0, end)));
        }
    }
}
