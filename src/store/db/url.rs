//! Where a database is. Never shows a password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::sqlite::note::LOST;
use super::sqlite::place::BESIDE;

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
        // The text is not repeated: it may hold a password.
        let url = Url::parse(text).map_err(|_| ALLOWED)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(ALLOWED.into());
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

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let user = if url.username().is_empty() { "" } else { url.username() };
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
}
