//! SQLite's file as an operator has it: begun whole or not at all, opened only where it is safe, kept open
//! by the daemon, and what is done when one of its files is taken away meanwhile.

use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::db::sqlite::files::{Files, Lost};
use super::db::sqlite::place::{Place, find, opened};
use super::db::sqlite::{self, beside, note};
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
                let is_new = create(&real, network, &url, begin).await?;
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
                    StoreError::cannot_open(&url, StoreError::Database { doing: "read", source })
                })?;
                return Ok(Self::of(db, network, url, Some(real)));
            }
            Place::There(real, header, None) => {
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

    /// Keeps a file open for as long as a daemon runs, and watches it; its lock too, where it has taken it.
    ///
    /// # Errors
    /// When it cannot be opened once more, or is not there any more.
    pub async fn keep_open(&self, has_lock: bool) -> Result<Option<KeptOpen>, StoreError> {
        let (Some(real), Db::Sqlite { files: Some(files), .. }) = (&self.file, &self.db) else {
            return Ok(None);
        };
        let doing = StoreError::doing("keep the database open");
        let mut conn = sqlite::keep_open(real).await.map_err(&doing)?;
        let mark = if has_lock { sqlite::mark(&mut conn).await } else { None };
        let ends = if has_lock { &["-wal", "-shm", ".lock"][..] } else { &["-wal", "-shm"] };
        files.keep(ends, mark).map_err(|e| doing(sqlx::Error::Io(e)))?;
        note::clear(real);
        note::clear(files.name());
        Ok(Some(KeptOpen {
            real: real.clone(),
            files: Arc::clone(files),
            conn: Mutex::new(Some(conn)),
        }))
    }
}

/// Makes a new database and puts it into its place: no file is there that has no tables. False when somebody
/// else was faster.
async fn create(
    real: &Path,
    network: Network,
    url: &DatabaseUrl,
    begin: Begin,
) -> Result<bool, StoreError> {
    let failed = |e: io::Error| StoreError::Open { path: url.to_string(), why: e.to_string() };
    let new = NewFile::beside(real).map_err(failed)?;
    let doing = StoreError::doing("create a database");
    let db = sqlite::open_new(&new.0).map_err(&doing)?;
    let store = Store::of(db, network, url.clone(), Some(new.0.clone()));
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
            self.look().await;
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

    /// Looks at what is in the file.
    async fn look(&self) {
        let mut conn = self.conn.lock().await;
        let Some(conn) = conn.as_mut() else { return };
        let pages = async || sqlx::query_scalar("PRAGMA page_count").fetch_one(conn).await;
        self.files.look(pages).await;
    }

    /// True when one of the files is not at its place any more.
    #[must_use]
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
            if let Err(error) = conn.close().await {
                tracing::warn!(error = %error, "the database was not closed in order");
            }
            return None;
        };
        let saved = save(&mut conn, files, &self.real, lost).await;
        if saved.is_damaged || !files.is_at_its_place() {
            let mut names = vec![files.name()];
            if beside(files.name(), "") != self.real {
                names.push(&self.real);
            }
            for name in names {
                note::leave(name, &saved.told, saved.right.as_deref(), saved.is_damaged);
            }
        }
        if saved.is_damaged {
            // Closing it would bring what is in the -wal file into what is there now, and remove it.
            let _left_open = ManuallyDrop::new(conn);
            return Some(saved.told);
        }
        if let Err(error) = conn.close().await {
            tracing::warn!(error = %error, "the database was not closed in order");
        }
        if !files.is_at_its_place() && saved.right.is_some_and(|right| right != self.real) {
            files.remove_others();
        }
        Some(saved.told)
    }
}

/// What became of a database that was lost.
struct Saved {
    told: String,
    /// The file in which everything is.
    right: Option<PathBuf>,
    /// The file at its place must not be opened, nor what is in the `-wal` file be brought into it.
    is_damaged: bool,
}

/// Saves what was committed: in the database, where it has a name and nobody else can have opened it under that name;
/// else in a new file. Never in a file that was put into its place.
async fn save(conn: &mut SqliteConnection, files: &Files, real: &Path, lost: Lost) -> Saved {
    let what = format!("{} while the daemon had the database open: it stopped", lost.what);
    if lost.is_broken {
        return damaged(&what, real, "what is in the file is not what was written there");
    }
    let own = lost.database.filter(|database| {
        let wal = beside(database, "-wal");
        !wal.exists() || database == real || files.has(&wal)
    });
    match own {
        Some(database) => save_in(conn, files, real, &what, database).await,
        None => save_beside(conn, real, &what).await,
    }
}

/// Says that nothing could be saved, and how to go on.
fn damaged(what: &str, real: &Path, why: &str) -> Saved {
    let told = format!(
        "{what}. Nothing could be saved, because {why}: put {} and its -wal and -shm files away, restore a backup in their place, and delete {}; payments since that backup are credited again from the chain, and what was registered since is to be registered again",
        real.display(),
        beside(real, note::LOST).display(),
    );
    Saved { told, right: None, is_damaged: true }
}

/// In the file itself, wherever it is now.
async fn save_in(
    conn: &mut SqliteConnection,
    files: &Files,
    real: &Path,
    what: &str,
    database: PathBuf,
) -> Saved {
    let next = if database != real {
        "move it back before anything else is started, or let database.url name it"
    } else if files.is_at_its_place() {
        "start it again"
    } else {
        "let that name lead there again, or let database.url name it"
    };
    let at = database.display();
    let brought = whole(checkpoint(conn, "FULL").await);
    let told = match (brought, sqlite::head(conn).await) {
        (Err(why), Ok(_)) => format!(
            "{what}. What was committed last could not be brought into {at} ({why}), and may be lost: {next}; payments are credited again from the chain, and what was registered last is to be registered again"
        ),
        (_, Err(error)) => return damaged(what, &database, &error.to_string()),
        (Ok(()), Ok(head)) => {
            // What is in the -wal file is kept until it is seen that it is in the database.
            if let Err(why) = sqlite::is_whole(&database, &head).await {
                return damaged(what, &database, &format!("{at} cannot be read again ({why})"));
            }
            if let Err(why) = whole(checkpoint(conn, "TRUNCATE").await) {
                tracing::warn!(why, "the -wal file could not be emptied");
            }
            format!("{what}. All that was committed is in {at}: {next}")
        }
    };
    Saved { told, right: Some(database), is_damaged: false }
}

/// In a new file beside it; where there is no folder or no room for it, among the temporary files.
async fn save_beside(conn: &mut SqliteConnection, real: &Path, what: &str) -> Saved {
    let name = real.file_name().unwrap_or_default();
    let mut failed = String::new();
    for place in [real.to_owned(), std::env::temp_dir().join(name)] {
        let mut kept = beside(&place, ".kept");
        if kept.exists() {
            kept = beside(&place, &format!(".kept-{:08x}", fastrand::u32(..)));
        }
        match copy_into(conn, &kept).await {
            Ok(()) => {
                // What is still in there must never be read into the file that is there now.
                if let Err(why) = whole(checkpoint(conn, "TRUNCATE").await) {
                    tracing::warn!(why, "the -wal file could not be emptied");
                }
                let told = format!(
                    "{what}. All that was committed is in {}: move it to {} before anything else is started",
                    kept.display(),
                    real.display()
                );
                return Saved { told, right: Some(kept), is_damaged: false };
            }
            Err(why) => failed = format!("{failed}, nor in {} ({why})", kept.display()),
        }
    }
    let told = format!(
        "{what}. What was committed could not be saved{}: restore a backup",
        failed.replacen(", nor", "", 1)
    );
    Saved { told, right: None, is_damaged: false }
}

/// Copies all that was committed into a new file, and looks at it. Where that fails, no file is left.
async fn copy_into(conn: &mut SqliteConnection, kept: &Path) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(kept).map(drop).map_err(|e| e.to_string())?;
    let done = async {
        let head = sqlite::head(conn).await.map_err(|e| e.to_string())?;
        let sql = format!("VACUUM INTO '{}'", kept.display().to_string().replace('\'', "''"));
        let copied = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await;
        copied.map_err(|e| e.to_string())?;
        sqlite::is_whole(kept, &head).await
    };
    let done = done.await;
    if done.is_err() {
        drop(std::fs::remove_file(kept));
    }
    done
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
