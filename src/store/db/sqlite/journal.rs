//! How much must be in the `-wal` file, as the `-shm` file beside it says: <https://sqlite.org/walformat.html>. SQLite itself
//! looks only when it reads, and takes a shorter one, at its next start, for one that was never longer.

#![cfg(unix)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Before the first frame, and before the page in each frame.
const HEADER: u64 = 32;
const FRAME: u64 = 24;

/// What is known of a `-wal` file: the number that its frames bear, how many there are, how many of them are in the database
/// too, and how long a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index {
    salt: [u8; 8],
    frames: u32,
    brought: u32,
    page: u32,
}

impl Index {
    /// None while it is written, and where there is none yet.
    pub(super) fn of(shm: &File) -> Option<Self> {
        let bytes = read::<144>(shm, 0).ok()?;
        let ([one, two, more], _) = bytes.as_chunks::<48>() else { return None };
        if one != two || one.get(12) != Some(&1) {
            return None;
        }
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
        let page = u16::from_ne_bytes(one.get(14..16)?.try_into().ok()?);
        Some(Self {
            salt: one.get(32..40)?.try_into().ok()?,
            frames: number(one.get(16..20)?)?,
            brought: number(more.get(..4)?)?,
            page: if page == 1 { 65_536 } else { page.into() },
        })
    }

    /// Where a frame begins, counted from 1, or the last one ends.
    fn at(&self, frame: u32) -> u64 {
        let each = u64::from(self.page).saturating_add(FRAME);
        u64::from(frame).saturating_sub(1).saturating_mul(each).saturating_add(HEADER)
    }

    /// True when the `-wal` file lacks frames that are nowhere else.
    pub(super) fn is_cut(&self, wal: &File) -> bool {
        let Ok(len) = wal.metadata().map(|file| file.len()) else { return false };
        let is_begun = read::<4>(wal, 0).is_ok_and(|begin| begin.starts_with(&[0x37, 0x7f, 6]));
        self.frames > self.brought && (len < self.at(self.frames.saturating_add(1)) || !is_begun)
    }

    /// True when what is written there is not what the index knows: somebody cut it, and it grew again since. What was
    /// cut off begins somewhere, and ends with the frame that was the last one then: that is the last one that was seen
    /// before, or a later one.
    pub(super) fn is_of_another(&self, wal: &File, before: Option<Self>) -> bool {
        let bears = |at| matches!(read::<8>(wal, at), Ok(salt) if salt == self.salt);
        let first = before.filter(|b| b.salt == self.salt).map_or(1, |b| b.frames.max(1));
        self.frames > self.brought
            && !(bears(16)
                && (first..=self.frames).all(|frame| bears(self.at(frame).saturating_add(8))))
    }
}

/// What is seen of a `-wal` file that somebody keeps open.
#[derive(Debug)]
pub(super) struct Journal {
    /// The `-shm` file. Never closed: that would take away SQLite's locks on it.
    index: ManuallyDrop<File>,
    wal: PathBuf,
    seen: Mutex<Option<Index>>,
}

impl Journal {
    pub(super) fn of(shm: &Path, wal: PathBuf) -> io::Result<Self> {
        Ok(Self { index: ManuallyDrop::new(File::open(shm)?), wal, seen: Mutex::new(None) })
    }

    /// True when the file lacks what was committed. Whoever writes it just then can make it look so.
    pub(super) fn is_cut(&self) -> bool {
        let (Some(now), Ok(wal)) = (Index::of(&self.index), File::open(&self.wal)) else {
            return false;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cut = now.is_cut(&wal) || now.is_of_another(&wal, *seen);
        // Once all is in the database, it is begun anew, with another number.
        let is_cut = is_cut && Index::of(&self.index).is_some_and(|then| then.salt == now.salt);
        if !is_cut {
            *seen = Some(now);
        }
        is_cut
    }
}

/// Whether a `-wal` file that nobody has open lacks what was committed.
pub(super) fn is_cut(shm: &Path, wal: &Path) -> bool {
    let index = File::open(shm).ok().and_then(|shm| Index::of(&shm));
    index.is_some_and(|index| File::open(wal).is_ok_and(|wal| index.is_cut(&wal)))
}

fn read<const N: usize>(file: &File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

    use super::*;

    /// Cut anywhere behind what was seen last, and grown again before the next look: noticed.
    #[tokio::test]
    async fn a_hole_that_was_grown_over_is_noticed() {
        for from in 1..=4 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            let mut db = SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", path.display()))
                .await
                .unwrap();
            let mut run = async |sql: &str| {
                let sql = AssertSqlSafe(sql.to_owned());
                sqlx::raw_sql(sql).execute(&mut db).await.map(drop)
            };
            run("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0").await.unwrap();
            run("CREATE TABLE t (b BLOB)").await.unwrap();
            let beside = |end: &str| folder.path().join(format!("a.db{end}"));
            let journal = Journal::of(&beside("-shm"), beside("-wal")).unwrap();
            assert!(!journal.is_cut());
            let wal = File::options().write(true).open(beside("-wal")).unwrap();
            let seen = wal.metadata().unwrap().len();
            for _ in 0..8 {
                run("INSERT INTO t VALUES (randomblob(9000))").await.unwrap();
            }
            let all = wal.metadata().unwrap().len();
            wal.set_len(seen + (all - seen) / 5 * from).unwrap();
            // What it writes after the cut has pages enough in its own memory, or fails: it may not go unnoticed.
            drop(run("CREATE TABLE u (b BLOB)").await);
            drop(run("INSERT INTO u VALUES (randomblob(9000))").await);
            assert!(journal.is_cut(), "cut at {from} fifths");
        }
    }
}
