//! The mark that a file has in its header while a daemon runs on it (`user_version`, which is topupd's). It tells three things
//! of a file: that what is committed lies in a `-wal` file, so that one without it is not whole; that it is the file that
//! this daemon has, and no copy that was put over it; and, by the lock file, whether the `-wal` file beside it is its own.

use std::path::Path;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{AssertSqlSafe, Connection, query_scalar, raw_sql};

use super::{lock, options};

/// The first byte of each mark: another number is somebody else's.
const FIRST: u32 = 0x74 << 24;

pub(super) fn is_one(number: u32) -> bool {
    number >> 24 == FIRST >> 24
}

/// Marks the file. None where that cannot be written now.
pub(in crate::store) async fn set(conn: &mut SqliteConnection) -> Option<u32> {
    let mark = FIRST | fastrand::u32(..1 << 24);
    // It is seen once it is in the file: those who read are waited for, and for some seconds only.
    let sql = format!("PRAGMA user_version = {mark}; PRAGMA wal_checkpoint(FULL)");
    raw_sql(AssertSqlSafe(sql)).execute(conn).await.ok().map(|_| mark)
}

/// Takes it away, of a file whose lock this process holds: what is in it is whole again once it is closed.
pub(in crate::store) async fn take_away(
    conn: &mut SqliteConnection,
    real: &Path,
) -> sqlx::Result<()> {
    forget(real);
    raw_sql("PRAGMA user_version = 0").execute(conn).await.map(drop)
}

/// From now on the lock file says of no `-wal` file whose it is.
pub(in crate::store) fn forget(real: &Path) {
    drop(lock::write_mark(real, 0));
}

/// Of a copy that nobody else has open.
pub(in crate::store) async fn take_away_of_copy(path: &Path) -> sqlx::Result<()> {
    let mut conn = sqlx::ConnectOptions::connect(&options(path)?).await?;
    let done = raw_sql("PRAGMA user_version = 0").execute(&mut conn).await;
    conn.close().await?;
    done.map(drop)
}

/// Takes away that of a daemon that did not end in order: whoever closes the file last removes its `-wal` file. Where that
/// cannot be done, the file stays as it is.
pub(in crate::store::db) async fn take_away_left(writer: &SqlitePool, real: &Path) {
    const READ: &str = "PRAGMA user_version";
    let done = async {
        let mark: i64 = query_scalar(READ).fetch_one(writer).await?;
        let is_one = |mark| u32::try_from(mark).is_ok_and(is_one);
        if !is_one(mark) || lock::is_held(real) {
            return Ok(());
        }
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mark: i64 = query_scalar(READ).fetch_one(&mut *tx).await?;
        // A daemon takes its lock first, and then marks the file.
        if is_one(mark) && !lock::is_held(real) {
            forget(real);
            raw_sql("PRAGMA user_version = 0").execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    if let Err(error) = done.await {
        tracing::debug!(error = %error, "the mark of a daemon that was killed could not be taken away");
    }
}
