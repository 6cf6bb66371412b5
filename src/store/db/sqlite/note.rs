//! What a daemon leaves beside a database that it lost, for whoever starts the next program: which file is the
//! right one. Until that one is back, nothing is written to what lies in its place, and nothing is begun there.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::db::sqlite::beside::beside;

/// The end of its name.
pub(in crate::store) const LOST: &str = ".lost";
/// Before the device and the number of the right file, in the last line.
const RIGHT: &str = "the right file has the number ";
/// The last line where there is no right file any more.
const DAMAGED: &str = "the database is damaged, and must not be opened";
const UNSAID: &str = "a daemon lost its database, and could not write down what it knows: see the last line of its log, and do that (if it does not say where the database is, restore a backup); then delete the file whose name ends in .lost";

/// What can be done with a file beside which it lies.
pub(in crate::store) enum Found {
    /// What is there is not the right file: it is only read.
    Other(String),
    /// It is damaged: it is not even read.
    Damaged(String),
}

impl Found {
    pub(in crate::store) fn why(self) -> String {
        match self {
            Self::Other(why) | Self::Damaged(why) => why,
        }
    }
}

/// Leaves it. Where the disk is full, an empty one refuses too: false then.
pub(in crate::store) fn leave(
    at: &Path,
    text: &str,
    right: Option<&Path>,
    is_damaged: bool,
) -> bool {
    let path = beside(at, LOST);
    let last = match right.and_then(|right| crate::store::db::sqlite::file_id::id(right).ok()) {
        _ if is_damaged => DAMAGED.to_owned(),
        Some((device, number)) => format!("{RIGHT}{device} {number}"),
        None => String::new(),
    };
    let new = beside(at, &format!("{LOST}-{:08x}", fastrand::u32(..)));
    let written = std::fs::write(&new, format!("{text}\n{last}\n"));
    let Err(error) = written.and_then(|()| std::fs::rename(&new, &path)) else { return true };
    drop(std::fs::remove_file(&new));
    // The folder may be away too: then nothing can be begun there either.
    let is_empty = std::fs::File::create(&path).is_ok();
    if is_empty {
        let path = path.display();
        tracing::warn!(error = %error, "what became of the database could not be written into {path}");
    }
    !is_empty
}

/// Takes it away: the right file is at its place.
pub(in crate::store) fn clear(at: &Path) {
    drop(std::fs::remove_file(beside(at, LOST)));
}

/// The first one beside these names of a place: its file, what it says, and its last line.
fn first(names: &[&Path]) -> Option<(PathBuf, String, String)> {
    names.iter().map(|name| beside(name, LOST)).find_map(|path| {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return None,
            Err(_) => String::new(),
        };
        if text.trim().is_empty() {
            return Some((path, UNSAID.to_owned(), DAMAGED.to_owned()));
        }
        let (text, last) = text.trim().rsplit_once('\n').unwrap_or((text.trim(), ""));
        Some((path, text.trim().replace('\n', " "), last.to_owned()))
    })
}

/// Where there is no file: why none is begun.
pub(in crate::store) fn of_missing(names: &[&Path]) -> Option<String> {
    let (path, text, _) = first(names)?;
    let path = path.display();
    Some(format!(
        "there is no such file. The daemon that had it said: {text}. Only if nothing of it is wanted any more, delete {path} and begin anew"
    ))
}

/// Where there is one: what is wrong with it.
pub(in crate::store) fn of_file(real: &Path, names: &[&Path]) -> Option<Found> {
    let (path, text, last) = first(names)?;
    let path = path.display();
    if last == DAMAGED {
        return Some(Found::Damaged(format!(
            "the daemon that had it said: {text}. It is not opened while {path} is there"
        )));
    }
    let is_right = crate::store::db::sqlite::file_id::id(real)
        .is_ok_and(|(device, number)| last == format!("{RIGHT}{device} {number}"));
    if is_right {
        return None;
    }
    Some(Found::Other(format!(
        "it is not the file that the daemon had, which said: {text}. Until that is back at its place, this one is only read; only if this is the right one all the same, delete {path}. Nothing was changed"
    )))
}
