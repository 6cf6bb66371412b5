//! What a daemon does with a database that it lost: what was committed is saved, and whoever reads its last line knows where.

use std::path::{Path, PathBuf};

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::store::db::sqlite;
use crate::store::db::sqlite::beside::beside;
use crate::store::db::sqlite::files::{Files, Harm, Lost};
use crate::store::db::sqlite::{mark, note};

/// What became of a database that was lost.
pub(in crate::store) struct Saved {
    pub(in crate::store) told: String,
    /// The file in which everything is.
    pub(in crate::store) right: Option<PathBuf>,
    /// The file at its place must not be opened, nor what is in the `-wal` file be brought into it.
    pub(in crate::store) is_damaged: bool,
}

/// Saves what was committed: in the database, where it has a name and nobody else can have opened it under that name;
/// else in a new file. Never in a file that was put into its place.
pub(in crate::store) async fn save(
    conn: &mut SqliteConnection,
    files: &Files,
    real: &Path,
    lost: Lost,
) -> Saved {
    let what = format!("{} while the daemon had the database open: it stopped", lost.what);
    if let Some(harm) = lost.harm {
        return harmed(&what, real, harm);
    }
    // What is saved is whole by itself.
    let is_plain = mark::take_away(conn, real).await.map_err(|e| e.to_string());
    let own = lost.database.filter(|database| {
        let wal = beside(database, "-wal");
        !wal.exists() || database == real || files.has(&wal)
    });
    match own {
        Some(database) => save_in(conn, files, real, &what, database, is_plain).await,
        None => {
            let saved = save_beside(conn, real, &what).await;
            // What is still in there must never be read into the file that is there now.
            if saved.right.is_some()
                && let Err(why) = whole(checkpoint(conn, "TRUNCATE").await)
            {
                tracing::warn!(why, "the -wal file could not be emptied");
            }
            saved
        }
    }
}

/// What is in the files is left as it is.
fn harmed(what: &str, real: &Path, harm: Harm) -> Saved {
    let (at, note) = (real.display(), beside(real, note::LOST));
    let (wal, note) = (beside(real, "-wal"), note.display());
    let told = match harm {
        Harm::Content => {
            return damaged(what, real, "what is in the file is not what was written there");
        }
        Harm::Noted => what.to_owned(),
        Harm::Mark => {
            // The -wal file is its own, whatever its mark.
            mark::forget(real);
            format!(
                "{what}. If that was done with SQLite itself (PRAGMA user_version, .restore), delete {note} and start it again: `topupd ledger verify` says whether it holds. If a file was copied over it, put {at} and its -wal and -shm files away, restore a backup in their place, and delete {note}"
            )
        }
        Harm::Journal => format!(
            "{what}. What was committed in the last seconds is lost with it, and {at} alone may not be whole: put it and its -wal and -shm files away, restore a backup in their place, and delete {note}; or, without a backup, delete {note}, {} and the -shm file: `topupd db restored` opens {at} as it is then, and `topupd ledger verify` says whether it holds. Payments are credited again from the chain, and what was registered since is to be registered again",
            wal.display()
        ),
    };
    Saved { told, right: None, is_damaged: true }
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

/// In the file itself, wherever it is now. Where somebody reads or writes it for long, only a part of what was committed gets
/// into it, and it is no database without its `-wal` file.
async fn save_in(
    conn: &mut SqliteConnection,
    files: &Files,
    real: &Path,
    what: &str,
    database: PathBuf,
    is_plain: Result<(), String>,
) -> Saved {
    let next = if database != real {
        "move it back before anything else is started, or let database.url name it"
    } else if !files.is_at_its_place() {
        "let that name lead there again, or let database.url name it"
    } else if files.note().is_some() {
        "do first what that note says"
    } else {
        "start it again"
    };
    let at = database.display();
    let wal = beside(real, "-wal");
    let brought = match is_plain {
        Ok(()) => whole(checkpoint(conn, "FULL").await),
        Err(why) => Err(why),
    };
    let told = match (brought, sqlite::head(conn).await) {
        (_, Err(error)) => return damaged(what, &database, &error.to_string()),
        (Err(why), Ok(_)) if database == real && files.has(&wal) => {
            tracing::warn!(why, "what was committed last is in the -wal file only");
            format!("{what}. All that was committed is in {at} and its -wal file: {next}")
        }
        (Err(why), Ok(_)) => {
            tracing::warn!(
                why,
                "what was committed could not be brought into the database: copying it"
            );
            let mut saved = save_beside(conn, real, what).await;
            if saved.right.is_none() && files.has(&wal) {
                let also =
                    format!("; or keep {} with {at}: together they are whole", wal.display());
                saved.told.push_str(&also);
            }
            return saved;
        }
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
        mark::take_away_of_copy(kept).await.map_err(|e| e.to_string())?;
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
pub(in crate::store) async fn checkpoint(
    conn: &mut SqliteConnection,
    how: &str,
) -> sqlx::Result<(i64, i64, i64)> {
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
