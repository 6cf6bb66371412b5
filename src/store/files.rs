//! SQLite's file as an operator has it: begun whole or not at all, opened only where it is safe, kept open
//! by the daemon, and what is done when one of its files is taken away meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::db::sqlite::files::{Files, Lost};
use super::db::sqlite::place::{LOST, Place, find, opened};
use super::db::sqlite::{self, beside};
use super::db::{DatabaseUrl, Db, query};
use super::engine::{Begin, Store};
use super::errors::StoreError;
use crate::domain::ids::Network;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After so many looks, what is in the `-wal` file is brought into the database: whoever has nothing but
/// that lacks no more than the last half minute.
const CHECKPOINT: u32 = 30;

impl Store {
    /// Opens a file, or begins it.
    pub(super) async fn open_file(
        path: &Path,
        network: Network,
        begin: Begin,
    ) -> Result<Self, StoreError> {
        let url = DatabaseUrl::Sqlite(path.to_owned());
        let refused = |why| StoreError::Open { path: url.to_string(), why };
        let (real, is_new) = match find(path).await.map_err(refused)? {
            Place::Missing(_) if begin == Begin::Never => {
                return Err(StoreError::NoDatabase { path: url.to_string() });
            }
            Place::Missing(real) => {
                create(&real, network, &url).await?;
                // Whoever closes it, SQLite apart, takes SQLite's locks away.
                opened(&real);
                tracing::info!(database = %url, "there was no database: created a new one");
                (real, true)
            }
            Place::There(real, header) => {
                // What is in a -wal file too, is seen only once it is open.
                if let Some(header) = header.filter(|header| !header.is_in_use) {
                    let open = |source| StoreError::Database { doing: "open", source };
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
            StoreError::cannot_open(&url, StoreError::Database { doing: "connect", source })
        })?;
        Ok(Self { is_new, ..Self::of(db, network, url, Some(real)) })
    }

    /// True when there was no file, and this created it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Closes a file in order: what was committed is in it alone then, unless somebody else has it open.
    pub async fn close_file(&self) {
        if self.file.is_some() {
            self.db.close().await;
        }
    }

    /// Keeps a file open for as long as a daemon runs, and watches it; its lock too, where it has taken it.
    ///
    /// # Errors
    /// When it cannot be opened once more, or is not there any more.
    pub async fn keep_open(&self, has_lock: bool) -> Result<Option<KeptOpen>, StoreError> {
        let (Some(real), Db::Sqlite { files: Some(files), .. }) = (&self.file, &self.db) else {
            return Ok(None);
        };
        let doing = StoreError::doing("keep the database open");
        let conn = sqlite::keep_open(real).await.map_err(&doing)?;
        let ends = if has_lock { &["-wal", "-shm", ".lock"][..] } else { &["-wal", "-shm"] };
        files.keep(real, ends).map_err(|e| doing(sqlx::Error::Io(e)))?;
        drop(std::fs::remove_file(beside(real, LOST)));
        Ok(Some(KeptOpen {
            real: real.clone(),
            files: Arc::clone(files),
            conn: Mutex::new(Some(conn)),
        }))
    }
}

/// Makes a new database and puts it into its place: no file is there that has no tables.
async fn create(real: &Path, network: Network, url: &DatabaseUrl) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::Open { path: url.to_string(), why: e.to_string() };
    let new = NewFile::beside(real).map_err(failed)?;
    let doing = StoreError::doing("create a database");
    let db = sqlite::open_new(&new.0).map_err(&doing)?;
    let store = Store::of(db, network, url.clone(), Some(new.0.clone()));
    let mut made = store.migrate().await.map(drop);
    if made.is_ok() {
        // It stays so in the file, and nobody has to wait until all others have closed it.
        made = query("PRAGMA journal_mode = WAL").execute(&store.db).await.map(drop).map_err(doing);
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

    /// Gives it its name, unless somebody else was faster: then theirs is as good.
    fn name(self, real: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(CWD, &self.0, CWD, real, RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::EXIST) => return Ok(()),
                // Not every file system can.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if real.exists() { Ok(()) } else { std::fs::rename(&self.0, real) }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        for end in ["", "-journal", "-wal", "-shm"] {
            drop(std::fs::remove_file(beside(&self.0, end)));
        }
    }
}

/// A file that is kept open, and watched.
#[derive(Debug)]
pub struct KeptOpen {
    real: PathBuf,
    files: Arc<Files>,
    /// While it is open, nobody removes the `-wal` file: a file that is another one was replaced.
    conn: Mutex<Option<SqliteConnection>>,
}

impl KeptOpen {
    /// Ends when one of the files is not at its place any more, or it is told to stop. Meanwhile, brings what is in the `-wal` file into the
    /// database, now and then.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        for look in 1_u32.. {
            if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
            if let Some(lost) = self.files.lost() {
                tracing::error!(why = lost.what, "stopping: the database was taken away");
                return;
            }
            if look % CHECKPOINT == 0
                && let Some(conn) = self.conn.lock().await.as_mut()
                && let Err(error) = checkpoint(conn, "PASSIVE").await
            {
                tracing::warn!(error = %error, "the -wal file cannot be brought into the database; trying again");
            }
        }
    }

    /// True when one of the files is not at its place any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.files.lost().is_some()
    }

    /// Closes it: nobody else of this process has it open. When a file was lost, saves what can be saved
    /// first, and returns what an operator must know.
    pub async fn close(&self) -> Option<String> {
        let mut conn = self.conn.lock().await.take()?;
        let told = match self.files.lost() {
            None => None,
            Some(lost) => {
                let told = save(&mut conn, &self.files, &self.real, lost).await;
                if !self.real.exists() {
                    // The folder may be away too: then nothing can be begun there either.
                    drop(std::fs::write(beside(&self.real, LOST), &told));
                }
                Some(told)
            }
        };
        if let Err(error) = conn.close().await {
            tracing::warn!(error = %error, "the database was not closed in order");
        }
        told
    }
}

/// Saves what was committed: in the database, where it has a name and nobody else can have opened it under that name;
/// else in a new file. Never in a file that was put into its place.
async fn save(conn: &mut SqliteConnection, files: &Files, real: &Path, lost: Lost) -> String {
    let what = format!("{} while the daemon had the database open", lost.what);
    let own = lost.database.filter(|database| {
        let wal = beside(database, "-wal");
        !wal.exists() || database == real || files.has(&wal)
    });
    if let Some(database) = own {
        let next = if database == real {
            "start it again"
        } else {
            "move it back before anything else is started, or let database.url name it"
        };
        return match whole(checkpoint(conn, "TRUNCATE").await) {
            Ok(()) => {
                format!(
                    "{what}: it stopped. All that was committed is in {}: {next}",
                    database.display()
                )
            }
            Err(why) => format!(
                "{what}: it stopped. What was committed last could not be brought into {} ({why}), and may be lost: {next}; payments are credited again from the chain, and what was registered last is to be registered again",
                database.display()
            ),
        };
    }
    let mut kept = beside(real, ".kept");
    if kept.exists() {
        kept = beside(real, &format!(".kept-{:08x}", fastrand::u32(..)));
    }
    let sql = format!("VACUUM INTO '{}'", kept.display().to_string().replace('\'', "''"));
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await {
        Ok(_) => {
            // What is still in there must never be read into the file that is there now.
            if let Err(why) = whole(checkpoint(conn, "TRUNCATE").await) {
                tracing::warn!(why, "the -wal file could not be emptied");
            }
            format!(
                "{what}: it stopped. All that was committed is in {}: move it to {} before anything else is started",
                kept.display(),
                real.display()
            )
        }
        Err(error) => format!(
            "{what}: it stopped. What was committed could not be saved in {} ({error}): restore a backup",
            kept.display()
        ),
    }
}

/// Brings what is in the `-wal` file into the database; whether somebody was in the way, the pages that were in it and
/// those that were brought.
async fn checkpoint(conn: &mut SqliteConnection, how: &str) -> sqlx::Result<(i64, i64, i64)> {
    let sql = format!("PRAGMA wal_checkpoint({how})");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_one(conn).await
}

fn whole(done: sqlx::Result<(i64, i64, i64)>) -> Result<(), String> {
    match done {
        Ok((0, ..)) => Ok(()),
        Ok((_, pages, brought)) if pages == brought => Ok(()),
        Ok((_, pages, brought)) => {
            Err(format!("another process reads it; {brought} of {pages} pages"))
        }
        Err(error) => Err(error.to_string()),
    }
}
