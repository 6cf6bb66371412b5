//! Why the store could not do something, by what the caller can do about it.

use std::io::ErrorKind;

use super::db::{DatabaseUrl, is_sqlite, postgres, sqlite};
use crate::domain::compared::Compared;
use crate::domain::deposit::IllegalTransition;
use crate::domain::ids::Network;
use crate::domain::money::Rate;
use crate::domain::pricing::differences;
use crate::store::db::error_text::explain;
use crate::store::db::failure::DbError;

impl From<DbError> for StoreError {
    fn from(DbError { doing, source }: DbError) -> Self {
        Self::Database { doing, source }
    }
}

/// Never in practice: what is written serialises.
impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error, or not at all: wait and try again, or look at it.
    #[error("database failed to {doing}: {}", explain(source))]
    Database {
        /// What was being done.
        doing: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// The database cannot be opened at all.
    #[error("cannot open the database {path}: {why}")]
    Open {
        /// Which.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// There is no file, and whoever asked does not create one.
    #[error(
        "cannot open the database {path}: there is no such file; `topupd run` and `topupd migrate` create it"
    )]
    NoDatabase {
        /// Which.
        path: String,
    },
    /// A stored value is not one we write.
    #[error("column {column} of {table} holds a value that topupd does not write: {why}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is stored of the log contradicts itself, or is another history than was signed: somebody should look.
    #[error("{0}")]
    Damaged(String),
    /// The database belongs to the other network.
    #[error(
        "the database {path} was created for {stamped}, the configuration says {wanted}: a database never changes its network; point database.url to another one"
    )]
    OtherNetwork {
        /// Which database.
        path: String,
        /// What it is stamped with.
        stamped: Network,
        /// What was asked.
        wanted: Network,
    },
    /// The database was written by a newer topupd.
    #[error(
        "the database {path} has schema version {found}, this topupd knows up to {known}: use the newer topupd; nothing was changed"
    )]
    Newer {
        /// Which database.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database has another schema, of a build from before the first release. None is brought over.
    #[error(
        "the database {path} has schema {found}, this topupd has {known}: it was made by another build before the first release; make a new database, or use the build that made it; nothing was changed"
    )]
    OtherBuild {
        /// Which database.
        path: String,
        /// The newest version of its schema, and how the checksum of its text begins.
        found: String,
        /// Ours.
        known: String,
    },
    /// There are no tables, and whoever asked does not create them.
    #[error(
        "the database {path} has no tables yet: only `topupd run` and `topupd migrate` create them; nothing was changed"
    )]
    NoTables {
        /// Which database.
        path: String,
    },
    /// Another daemon runs on this file.
    #[error("another topupd daemon is running on {path} ({by}); for two daemons, use PostgreSQL")]
    Locked {
        /// Which database.
        path: String,
        /// How it is known.
        by: &'static str,
    },
    /// Another transaction holds a row that stands for what is to be written to, and did not end in time, or each
    /// of the two waited for the other. Nothing was changed; the same again may well succeed.
    #[error(
        "another transaction holds {what} and did not end in time: nothing was changed; try again. If it lasts, a process that writes to this database is frozen: look at pg_stat_activity"
    )]
    Busy {
        /// What is held.
        what: String,
    },
    /// Another daemon has taken the task over meanwhile: nothing was written.
    #[error("the lease on {task} is held by {holder} now; nothing was written")]
    Fenced {
        /// Name of the task.
        task: String,
        /// Who holds it.
        holder: String,
    },
    /// The database is not as this process saw it: it went back, or is on another server. Nothing was
    /// written, and nothing is until [`super::Store::look_at_server`] has looked.
    #[error(
        "the database is not as it was left: {0}. Nothing is written to it now; a daemon that starts (topupd run) notes what is missing, and so does topupd db restored"
    )]
    WentBack(String),
    /// Another daemon has registered an epoch that this one's configuration lacks: it must decide
    /// nothing.
    #[error(
        "the database has {stored} epochs and this daemon's configuration {configured}: nothing is decided by it; restart it with the newer configuration"
    )]
    Outdated {
        /// Epochs in the database.
        stored: u64,
        /// Epochs in the configuration.
        configured: usize,
    },
    /// A stored epoch differs from the configured one.
    #[error(
        "epoch {id:?} is stored otherwise than it is configured: {}; epochs are append-only: put it back, and add a new one instead",
        differences(stored, configured).join(", ")
    )]
    EpochChanged {
        /// Its id.
        id: String,
        /// Stored text.
        stored: String,
        /// Configured text.
        configured: String,
    },
    /// A price that people let pass is far from the market and was said once, or otherwise the second
    /// time: they must look at it and repeat the number.
    #[error("{} = {} passes only when the same number is said twice; nothing was written", compared.pair, compared.price)]
    NotSaidTwice {
        /// The price, beside what it was compared with.
        compared: Box<Compared>,
        /// The number as it was repeated.
        repeated: Option<Rate>,
    },
    /// What was asked cannot be done; the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// What a provider answered cannot be: it contradicts itself, what is recorded, or every chain.
    /// Nothing was written; another provider is asked.
    #[error("it cannot be: {0}")]
    Impossible(String),
    /// A row stands in a stage that the event does not fit: a bug of ours or a changed row.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
}

impl StoreError {
    /// A database that cannot be opened at all, whoever waits; but room on a disk is waited for.
    pub(super) fn cannot_open(url: &DatabaseUrl, error: Self) -> Self {
        let why = match &error {
            Self::Database { source: sqlx::Error::Database(e), .. }
                if is_sqlite(e.as_ref())
                    && e.code().is_some_and(|code| sqlite::codes::is_full(&code)) =>
            {
                return error;
            }
            Self::Database { source, .. } => explain(source),
            other => other.to_string(),
        };
        Self::Open { path: url.to_string(), why }
    }

    /// A file in which there is no database of ours.
    pub(super) fn without_tables(url: &DatabaseUrl, what: String, may_begin: bool) -> Self {
        let how = if may_begin {
            " To begin a new database in it all the same: topupd run --create, or topupd migrate --create"
        } else {
            " Let database.url name another file"
        };
        Self::Open { path: url.to_string(), why: format!("{what}. Nothing was changed.{how}") }
    }

    /// For `map_err` of what is no statement: names what was being done.
    pub(super) fn doing(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { doing: doing.into(), source }
    }

    /// For `map_err` where a row is taken that stands for something: says what somebody else holds.
    pub(super) fn taking(what: &str) -> impl Fn(DbError) -> Self {
        move |failed| {
            let error = Self::from(failed);
            if error.is_collision() { Self::Busy { what: what.to_owned() } } else { error }
        }
    }

    /// True when the database cannot be used now, for a reason that has nothing to do with what was
    /// asked: it is away, has no connection left, is read-only, or its disk is full. It is waited
    /// for.
    pub fn is_unavailable(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        match source {
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                if is_sqlite(error.as_ref()) {
                    sqlite::codes::is_unavailable(&code)
                } else {
                    postgres::is_unavailable(&code)
                }
            }),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        }
    }

    /// True when the database itself was not reached, or let nobody in, as opposed to one that cannot write.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                !is_sqlite(error.as_ref()) && error.code().is_some_and(|c| postgres::is_away(&c))
            }
            _ => self.is_unavailable(),
        }
    }

    /// True when a person must change something before it can work: the server refuses us, or
    /// cannot be trusted.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Tls(_), .. } => true,
            Self::Database { source: sqlx::Error::Io(error), .. } => {
                error.kind() == ErrorKind::ReadOnlyFilesystem
            }
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.code().is_some_and(|c| {
                    if is_sqlite(error.as_ref()) {
                        sqlite::codes::is_read_only(&c)
                    } else {
                        postgres::is_refused(&c)
                    }
                })
            }
            _ => false,
        }
    }

    /// True when the database can be read, and takes no writes from here.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Database { source, .. } if may_only_be_read(source))
    }

    /// For `map_err` where what is written is one provider's answer: what the tables or the stages do
    /// not take is that provider's nonsense, and no failure of the database.
    pub(super) fn of_an_answer(self) -> Self {
        match self {
            Self::Illegal(error) => Self::Impossible(error.to_string()),
            Self::Database { source: sqlx::Error::Database(error), .. }
                if is_bad_value(&*error) =>
            {
                Self::Impossible(error.message().to_owned())
            }
            other => other,
        }
    }

    /// True when it collided with another writer and nothing was done: the whole step again.
    pub fn is_collision(&self) -> bool {
        if let Self::Busy { .. } = self {
            return true;
        }
        let Self::Database { source: sqlx::Error::Database(error), .. } = self else {
            return false;
        };
        error.code().is_some_and(|code| {
            if is_sqlite(error.as_ref()) {
                sqlite::codes::is_collision(&code)
            } else {
                postgres::is_collision(&code)
            }
        })
    }
}

fn is_bad_value(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| {
        if is_sqlite(error) {
            sqlite::codes::is_bad_value(&code)
        } else {
            postgres::is_bad_value(&code)
        }
    })
}

/// True when the database takes no writes from here.
fn may_only_be_read(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Io(error) = error {
        return error.kind() == ErrorKind::ReadOnlyFilesystem;
    }
    let Some(error) = error.as_database_error() else { return false };
    error.code().is_some_and(|code| {
        if is_sqlite(error) {
            sqlite::codes::is_read_only(&code)
        } else {
            postgres::is_read_only(&code)
        }
    })
}
