//! What in the URL of a provider may be a key, so that nobody is shown it.

use url::Url;

/// The user and the password of a URL, the values of its query, and the parts of its path that look like
/// keys.
#[must_use]
pub fn of_url(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().filter(|part| is_key(part));
    let mut secrets: Vec<String> = path.map(str::to_owned).collect();
    secrets.extend([url.username(), url.password().unwrap_or_default()].map(str::to_owned));
    for (_, value) in url.query_pairs().filter(|(_, value)| !is_short_number(value)) {
        secrets.push(value.into_owned());
    }
    let decoded: Vec<String> = secrets.iter().map(|secret| decoded(secret)).collect();
    secrets.extend(decoded);
    secrets
}

/// Names of chains and versions are no keys: they are small letters, or a number.
fn is_key(part: &str) -> bool {
    let is_version = part.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let is_name = part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
        && (part.len() < 20 || part.contains(['-', '_']));
    !is_version && !is_name && !is_short_number(part)
}

fn is_short_number(text: &str) -> bool {
    text.len() < 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Without percent signs.
#[must_use]
pub fn decoded(text: &str) -> String {
    let pairs = format!("k={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pairs.as_bytes()).map(|(_, v)| v.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_names() {
        let of = |url: &str| {
            let mut all = of_url(&url.parse().unwrap());
            all.retain(|secret| secret.len() > 3);
            all.sort();
            all.dedup();
            all
        };
        for (url, secrets) in [
            ("https://rpc.example/v3/a1b2C3", &["a1b2C3"][..]),
            (
                "https://rpc.example/base-mainnet/v2/abcdefghijklmnopqrstuvwx",
                &["abcdefghijklmnopqrstuvwx"],
            ),
            ("https://rpc.example/evm/8453", &[]),
            ("https://rpc.example/ethereum-mainnet-archive/rpc", &[]),
            ("https://rpc.example/?apikey=wholly&chain=8453", &["wholly"]),
            ("https://anna:pass%21word@rpc.example/", &["anna", "pass!word", "pass%21word"]),
        ] {
            assert_eq!(of(url), secrets, "{url}");
        }
    }
}
