//! Where a database is. Never shows a password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::sqlite::note::LOST;
use crate::store::db::sqlite::beside::BESIDE;

/// Parameters of a `postgres://` URL that are passed on. Others are refused rather than ignored: a
/// mistyped `sslmode` would be no TLS.
const PARAMETERS: &[&str] = &["sslmode", "sslrootcert", "sslcert", "sslkey", "host"];

/// The value of `database.url`, checked. Displays without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file: never memory, because money must survive.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Url),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str =
            "must be sqlite:PATH, with PATH a file, or postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        if let Some(path) = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"))
        {
            // A server's URL with the wrong word before it would be shown as a path, its password too.
            if may_hold_a_password(path) {
                return Err(format!("does not name a file that is no URL: {ALLOWED}"));
            }
            let is_path = !path.is_empty() && !path.starts_with(':') && !path.contains('?');
            // What lies beside a database is never one itself.
            let mut beside = BESIDE.into_iter().chain([".lock", LOST]);
            if let Some(end) = beside.find(|end| path.ends_with(end)) {
                return Err(format!(
                    "names a file that ends in {end}, as those beside a database do: {ALLOWED}"
                ));
            }
            return if is_path { Ok(Self::Sqlite(path.into())) } else { Err(ALLOWED.into()) };
        }
        // Nothing of the text is repeated before it is clear where its password ends.
        let url = Url::parse(text).map_err(|_| ALLOWED)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || !url.has_authority() {
            return Err(ALLOWED.into());
        }
        if has_password_behind(&url) {
            return Err(format!(
                "has @, : or # behind its host, as when a password is not encoded (@ is %40, : is %3A, / is %2F, ? is %3F, # is %23): {ALLOWED}"
            ));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(format!("names no database: {ALLOWED}"));
        }
        for (name, _) in url.query_pairs() {
            if !PARAMETERS.contains(&name.as_ref()) {
                let allowed = PARAMETERS.join(", ");
                return Err(format!("parameter {name:?} is unknown; allowed: {allowed}"));
            }
        }
        Ok(Self::Postgres(url))
    }
}

/// True for a path that reads like a server's URL without its first word: something with a colon, and an @ after it.
fn may_hold_a_password(path: &str) -> bool {
    let path = path.replace("%3A", ":").replace("%3a", ":");
    path.contains("://") || path.split_once(':').is_some_and(|(_, rest)| rest.contains('@'))
}

/// True where a part of a password may stand behind what was taken for the host: it ends at the first `/`, `?` or
/// `#`, which a password may have, too.
fn has_password_behind(url: &Url) -> bool {
    let query = url.query().unwrap_or_default();
    let path = url.path().to_ascii_lowercase();
    url.cannot_be_a_base()
        || url.fragment().is_some()
        || ["@", ":", "%40", "%3a"].iter().any(|sign| path.contains(sign))
        || query.contains('@')
}

/// A user's name that can be nothing else.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

impl fmt::Display for DatabaseUrl {
    /// Without password, parameters, and a user that may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => match path.to_str().is_some_and(may_hold_a_password) {
                true => f.write_str("sqlite:…"),
                false => write!(f, "sqlite:{}", path.display()),
            },
            // It was not parsed here.
            Self::Postgres(url) if !url.has_authority() || has_password_behind(url) => {
                write!(f, "{}:…", url.scheme())
            }
            Self::Postgres(url) => {
                let user = if is_plain_name(url.username()) { url.username() } else { "…" };
                let at = if user.is_empty() { "" } else { "@" };
                let host = url.host_str().unwrap_or_default();
                let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
                write!(f, "postgres://{user}{at}{host}{port}{}", url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_file_or_a_server_and_never_shows_its_password() {
        let shown = |text: &str| text.parse::<DatabaseUrl>().map(|url| url.to_string());
        assert_eq!(shown("sqlite:a/b.db"), Ok("sqlite:a/b.db".into()));
        assert_eq!(shown("sqlite:///a/b.db"), Ok("sqlite:/a/b.db".into()));
        let url = "postgres://me:s3cret@db.example:5433/topupd?sslmode=verify-full";
        assert_eq!(shown(url), Ok("postgres://me@db.example:5433/topupd".into()));
        assert!(!format!("{:?}", url.parse::<DatabaseUrl>()).contains("s3cret"));
        for bad in [
            "",
            "a.db",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a.db?mode=memory",
            "sqlite:a.db.lock",
            "sqlite:a.db-wal",
            "mysql://me:s3cret@h/d",
            "postgres://me:s3cret@h",
            "postgres://me:s3cret@h/d?sslmod=require",
            "postgres://me:s3cret@h:notaport/d",
        ] {
            let error = shown(bad).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    /// Each way to write a URL wrongly, with passwords that end a host, a path or a parameter too early: neither
    /// what is shown nor the error has a part of the password that would be noticed.
    #[test]
    fn a_mistyped_url_shows_nothing_of_its_password() {
        let heads = ["", ":", ":/", "://", ":///", ":////", ":\\\\", ":\\", ": //", "//"];
        let schemes = ["postgres", "postgresql", "Postgres", "postgre", "sqlite", "mysql", "http"];
        let passwords = ["s3cret", "12/s3cret", "12?s3cret", "12#s3cret", "12@s3cret", "12:s3cret"];
        let more = ["1/a?s3cret=b", "12/s3cret?a", "12?sslmode=s3cret", "12/?host=/s3cret"];
        let ends = ["@h/d", "@h:5432/d", "@h", "@", "", "@h/d?sslmode=require", "@/d", "@[::1]/d"];
        let mut parsed = 0;
        for scheme in schemes {
            for head in heads {
                for password in passwords.iter().chain(&more) {
                    for end in ends {
                        // Without an @ there is no telling that a part of a path is a password.
                        if end.is_empty()
                            && (scheme == "sqlite" || password.contains(['/', '?', '#']))
                        {
                            continue;
                        }
                        for user in ["u:", ":", "u%3A"] {
                            // A file, whose name has an @.
                            if scheme == "sqlite" && head.is_empty() && user == ":" {
                                continue;
                            }
                            let text = format!("{scheme}{head}{user}{password}{end}");
                            let shown = match text.parse::<DatabaseUrl>() {
                                Ok(url) => format!("{url} {url:?}"),
                                Err(error) => error,
                            };
                            parsed += usize::from(text.parse::<DatabaseUrl>().is_ok());
                            assert!(!shown.contains("s3cret"), "{text}: {shown}");
                        }
                    }
                }
            }
        }
        assert!(parsed > 0);
    }

    #[test]
    fn what_is_meant_to_be_written_is_still_read() {
        let shown = |text: &str| text.parse::<DatabaseUrl>().map(|url| url.to_string());
        for (text, expected) in [
            ("postgres:///topupd?host=/run/postgresql", "postgres:///topupd"),
            ("postgres://me:p%40ss%2F@[::1]:5432/d", "postgres://me@[::1]:5432/d"),
            ("postgres://a%20b:x@h/d", "postgres://…@h/d"),
            ("sqlite:C:/a/b.db", "sqlite:C:/a/b.db"),
            ("sqlite:/srv/a@b/c.db", "sqlite:/srv/a@b/c.db"),
        ] {
            assert_eq!(shown(text), Ok(expected.to_owned()), "{text}");
        }
    }
}
