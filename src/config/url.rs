//! URLs: which are taken, and how one is shown. None is repeated in an error, because it may hold a key.

use url::Url;

use super::error::{ConfigError, wrong};

/// Refuses what stands in braces and is none of these names: it would be sent as it stands.
pub(super) fn placeholders(text: &str, names: &[&str], key: &str) -> Result<(), ConfigError> {
    let known: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
    let rest = known.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
    if !rest.contains(['{', '}']) {
        return Ok(());
    }
    if known.is_empty() {
        return Err(wrong(key, "has a brace, { or }: nothing is put into this URL"));
    }
    // Something else in braces may be a key.
    let is_name = |name: &&str| {
        name.len() <= 20 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
    };
    let name = rest.split_once('{').and_then(|(_, after)| after.split_once('}'));
    let what = name.map(|(name, _)| name).filter(is_name);
    let what = what.map_or("what stands in braces".to_owned(), |name| format!("{{{name}}}"));
    Err(wrong(key, format!("{what} is not a placeholder; there are {}", known.join(", "))))
}

/// Never repeats the text: a URL may hold a key.
pub(super) fn url(
    text: &str,
    schemes: &[&str],
    names: &[&str],
    key: &str,
) -> Result<Url, ConfigError> {
    placeholders(text, names, key)?;
    let allowed = || format!("is not a URL that starts with {}://", schemes.join(":// or "));
    let url = Url::parse(text).map_err(|_| wrong(key, allowed()))?;
    if schemes.contains(&url.scheme()) && url.has_host() {
        Ok(url)
    } else {
        Err(wrong(key, allowed()))
    }
}

/// A URL as it may be shown: no user, password, path or query, where keys live; nothing but its scheme where a
/// password may have ended its host too early.
pub fn masked(url: &Url) -> String {
    let behind = [Some(url.path()), url.query(), url.fragment()];
    if !url.has_host() || behind.into_iter().flatten().any(|part| part.contains('@')) {
        return format!("{}://…", url.scheme());
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let plain = url.path().trim_matches('/').is_empty()
        && url.query().is_none()
        && url.username().is_empty();
    let rest = if plain { "" } else { "/…" };
    format!("{}://{host}{port}{rest}", url.scheme())
}
